-- What the server keeps to itself: keys that it made.
CREATE TABLE secrets (
    name text COLLATE "C" PRIMARY KEY,
    bytes bytea NOT NULL
);
