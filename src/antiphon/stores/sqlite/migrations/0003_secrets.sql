-- What the server keeps to itself: keys that it made.
CREATE TABLE secrets (
    name TEXT PRIMARY KEY,
    bytes BLOB NOT NULL
) WITHOUT ROWID;
