-- A thread is a line of items that grows at its tip.  A fork is a new thread whose ancestry names what it continues:
-- a JSON list of [thread, upto].  Positions go on over forks, so a context is ordered by position alone.
CREATE TABLE threads (
    id INTEGER PRIMARY KEY,
    project TEXT NOT NULL,
    parent INTEGER,
    base INTEGER NOT NULL,
    tip INTEGER NOT NULL,
    ancestry TEXT NOT NULL
);
CREATE INDEX threads_by_parent ON threads (parent, base) WHERE parent IS NOT NULL;

-- Threads of which a removal left more than is needed, because somebody was about to continue them.  Who that was is
-- known in memory only; a new process trims them at its start.
CREATE TABLE held (
    thread INTEGER PRIMARY KEY
);

-- An item is stored once, keyed by thread and position; ids come from clients too and recur.
CREATE TABLE items (
    project TEXT NOT NULL,
    thread INTEGER NOT NULL,
    position INTEGER NOT NULL,
    id TEXT NOT NULL,
    body BLOB NOT NULL
);
CREATE UNIQUE INDEX items_by_place ON items (thread, position);
CREATE INDEX items_by_id ON items (project, id);

-- Large parts of requests (tools, instructions, formats), once per project.  The count stands apart from the bytes,
-- so that counting does not rewrite them.
CREATE TABLE blobs (
    id INTEGER PRIMARY KEY,
    project TEXT NOT NULL,
    sha256 BLOB NOT NULL,
    uses INTEGER NOT NULL
);
CREATE UNIQUE INDEX blobs_by_content ON blobs (project, sha256);
CREATE TABLE blob_bytes (
    id INTEGER PRIMARY KEY,
    bytes BLOB NOT NULL
);

-- A response: its span of the thread, and what its request decided.  `large` maps a member's name to its JSON text
-- or to the number of a blob.
CREATE TABLE responses (
    row INTEGER PRIMARY KEY,
    project TEXT NOT NULL,
    id TEXT NOT NULL,
    thread INTEGER NOT NULL,
    first INTEGER NOT NULL,
    middle INTEGER NOT NULL,
    upto INTEGER NOT NULL,
    created INTEGER NOT NULL,
    expires INTEGER,
    background INTEGER NOT NULL,
    streamed INTEGER NOT NULL,
    stored INTEGER NOT NULL,
    status TEXT NOT NULL,
    outcome BLOB NOT NULL,
    small BLOB NOT NULL,
    large TEXT NOT NULL,
    request BLOB NOT NULL
);
CREATE UNIQUE INDEX responses_by_id ON responses (project, id);
CREATE INDEX responses_by_thread ON responses (thread, upto);
CREATE INDEX responses_by_expiry ON responses (expires) WHERE expires IS NOT NULL;
CREATE INDEX responses_unfinished ON responses (row) WHERE status IN ('queued', 'in_progress');

-- The log of a background run.  `frames` holds the JSON of events first_seq to last_seq, parted by the byte 0x1e.
CREATE TABLE events (
    run INTEGER NOT NULL,
    first_seq INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    frames BLOB NOT NULL
);
CREATE UNIQUE INDEX events_by_place ON events (run, first_seq);

-- Hosted calls: intent before, result after.
CREATE TABLE journal (
    run INTEGER NOT NULL,
    call TEXT NOT NULL,
    intent BLOB NOT NULL,
    result BLOB
);
CREATE UNIQUE INDEX journal_by_call ON journal (run, call);
