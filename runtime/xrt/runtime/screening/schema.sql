-- The record of a screening folder. One writer; committed batch by batch.

CREATE TABLE run (
    id INTEGER PRIMARY KEY,
    started TEXT NOT NULL,
    finished TEXT,
    xrt_version TEXT NOT NULL,
    bundle TEXT NOT NULL,
    bundle_sha256 TEXT NOT NULL,
    variant TEXT NOT NULL,
    backend TEXT NOT NULL,
    backend_version TEXT NOT NULL,
    execution_precision TEXT NOT NULL,
    settings TEXT NOT NULL
);

CREATE TABLE study (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    label TEXT NOT NULL,
    study_uid TEXT NOT NULL DEFAULT ''
);

-- One current row for every path seen. A file that changes gets a new row, and its old one stays with current = 0.
CREATE TABLE image (
    id INTEGER PRIMARY KEY,
    root TEXT NOT NULL,
    path TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('ok', 'rejected', 'failed')),
    reason TEXT NOT NULL DEFAULT '',
    notes TEXT NOT NULL DEFAULT '',
    width INTEGER,
    height INTEGER,
    view TEXT NOT NULL DEFAULT '',
    sop_instance_uid TEXT NOT NULL DEFAULT '',
    study_id INTEGER REFERENCES study (id),
    run_id INTEGER NOT NULL REFERENCES run (id),
    current INTEGER NOT NULL DEFAULT 1,
    recorded TEXT NOT NULL,
    UNIQUE (root, path, sha256)
);
CREATE UNIQUE INDEX one_current_row ON image (root, path) WHERE current;

-- One row for every class of every image that was scored. The box is in stored-image pixels.
CREATE TABLE finding (
    id INTEGER PRIMARY KEY,
    image_id INTEGER NOT NULL REFERENCES image (id) ON DELETE CASCADE,
    class TEXT NOT NULL,
    logit REAL NOT NULL,
    probability REAL NOT NULL,
    threshold REAL,
    positive INTEGER NOT NULL,
    urgency REAL,
    box_x REAL,
    box_y REAL,
    box_width REAL,
    box_height REAL,
    heatmap TEXT NOT NULL DEFAULT '',
    UNIQUE (image_id, class)
);

-- Hooks and sends, delivered at least once; the key makes a repeated delivery recognisable.
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    payload TEXT NOT NULL,
    created TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    last_error TEXT NOT NULL DEFAULT '',
    delivered TEXT
);

-- Studies in order of urgency: the highest urgency of any class in any current image.
CREATE VIEW worklist AS
SELECT
    study.id AS study_id,
    study.label AS study,
    study.study_uid AS study_uid,
    MAX(finding.urgency) AS urgency,
    COUNT(DISTINCT image.id) AS images
FROM study
JOIN image ON image.study_id = study.id AND image.current AND image.status = 'ok'
JOIN finding ON finding.image_id = image.id
GROUP BY study.id
ORDER BY urgency DESC, study.key;
