-- What schema 3 adds to schema 2.
CREATE TABLE bundle (
    sha256 TEXT PRIMARY KEY,
    manifest TEXT NOT NULL
);
ALTER TABLE run ADD COLUMN roots TEXT NOT NULL DEFAULT '[]';
ALTER TABLE run ADD COLUMN proof TEXT NOT NULL DEFAULT '{}';
CREATE TABLE map (
    image_id INTEGER PRIMARY KEY REFERENCES image (id) ON DELETE CASCADE,
    classes TEXT NOT NULL,
    height INTEGER NOT NULL,
    width INTEGER NOT NULL,
    scales BLOB NOT NULL,
    cells BLOB NOT NULL
);
DROP VIEW worklist;
CREATE VIEW worklist AS
SELECT
    study.id AS study_id,
    study.label AS study,
    study.study_uid AS study_uid,
    MAX(most.urgency) AS urgency,
    COUNT(*) AS images
FROM study
JOIN image ON image.study_id = study.id AND image.current AND image.gone = '' AND image.status = 'ok'
JOIN (SELECT image_id, MAX(urgency) AS urgency FROM finding GROUP BY image_id) most ON most.image_id = image.id
GROUP BY study.id
ORDER BY urgency DESC, study.key;
