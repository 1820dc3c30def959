-- The record of a screening folder. One writer; committed at most once a second.

-- What models the results are of, whole, so that the record stands by itself.
CREATE TABLE bundle (
    sha256 TEXT PRIMARY KEY,
    manifest TEXT NOT NULL
);

CREATE TABLE run (
    id INTEGER PRIMARY KEY,
    started TEXT NOT NULL,
    -- When everything was written; NULL for a run that is under way or was broken off.
    finished TEXT,
    -- Why a run ended early, such as SIGTERM; empty for one that did not.
    interrupted TEXT NOT NULL DEFAULT '',
    xrt_version TEXT NOT NULL,
    bundle TEXT NOT NULL,
    bundle_sha256 TEXT NOT NULL,
    variant TEXT NOT NULL,
    backend TEXT NOT NULL,
    backend_version TEXT NOT NULL,
    execution_precision TEXT NOT NULL,
    settings TEXT NOT NULL,
    -- The folders that were looked at: a JSON list.
    roots TEXT NOT NULL DEFAULT '[]',
    -- What a report says of the proof of what was run: a JSON object.
    proof TEXT NOT NULL DEFAULT '{}',
    -- Files that were found, and those left out: a JSON object of reasons and counts.
    listed INTEGER NOT NULL DEFAULT 0,
    left_out TEXT NOT NULL DEFAULT '{}'
);

CREATE TABLE study (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    label TEXT NOT NULL,
    study_uid TEXT NOT NULL DEFAULT ''
);

-- One current row for every path seen. A file that changes gets a new row, and its old one stays with current = 0.
-- A path that a later run no longer finds keeps its row, marked as gone: removed, or moved where its content is now.
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
    gone TEXT NOT NULL DEFAULT '' CHECK (gone IN ('', 'removed', 'moved')),
    recorded TEXT NOT NULL,
    UNIQUE (root, path, sha256)
);
CREATE UNIQUE INDEX one_current_row ON image (root, path) WHERE current;
CREATE INDEX image_of_study ON image (study_id);
CREATE INDEX image_of_content ON image (sha256);

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

-- The raw CAMs of every image that was scored; `xrt.runtime.screening.maps` says how they are stored.
CREATE TABLE map (
    image_id INTEGER PRIMARY KEY REFERENCES image (id) ON DELETE CASCADE,
    classes TEXT NOT NULL,
    height INTEGER NOT NULL,
    width INTEGER NOT NULL,
    scales BLOB NOT NULL,
    cells BLOB NOT NULL
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

-- Studies in order of urgency: the highest urgency of any class in any image that is there now.
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
