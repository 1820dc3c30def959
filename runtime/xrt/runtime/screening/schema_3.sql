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
