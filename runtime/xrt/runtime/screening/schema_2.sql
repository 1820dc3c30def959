-- What schema 2 adds to schema 1.
ALTER TABLE run ADD COLUMN interrupted TEXT NOT NULL DEFAULT '';
ALTER TABLE run ADD COLUMN listed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE run ADD COLUMN left_out TEXT NOT NULL DEFAULT '{}';
ALTER TABLE image ADD COLUMN gone TEXT NOT NULL DEFAULT '' CHECK (gone IN ('', 'removed', 'moved'));
CREATE INDEX image_of_study ON image (study_id);
CREATE INDEX image_of_content ON image (sha256);
DROP VIEW worklist;
CREATE VIEW worklist AS
SELECT
    study.id AS study_id,
    study.label AS study,
    study.study_uid AS study_uid,
    MAX(finding.urgency) AS urgency,
    COUNT(DISTINCT image.id) AS images
FROM study
JOIN image ON image.study_id = study.id AND image.current AND image.gone = '' AND image.status = 'ok'
JOIN finding ON finding.image_id = image.id
GROUP BY study.id
ORDER BY urgency DESC, study.key;
