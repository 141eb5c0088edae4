-- A conversation is everything of `thread` and its ancestry below position `upto`; it moves on as it grows.  `holder` is
-- the response that runs in it, until its end is written, or until `until` where it is no unfinished background run.
CREATE TABLE conversations (
    row INTEGER PRIMARY KEY,
    project TEXT NOT NULL,
    id TEXT NOT NULL,
    created INTEGER NOT NULL,
    metadata BLOB NOT NULL,
    thread INTEGER NOT NULL,
    upto INTEGER NOT NULL,
    holder TEXT,
    until REAL
);
CREATE UNIQUE INDEX conversations_by_id ON conversations (project, id);
CREATE INDEX conversations_by_thread ON conversations (thread);
CREATE INDEX conversations_by_holder ON conversations (project, holder) WHERE holder IS NOT NULL;

-- Items that a conversation took out and that something else may still need.  The conversation goes on with a thread
-- whose ancestry leaves them out: its entries are [thread, upto] or [thread, upto, first].
CREATE TABLE left_out (
    thread INTEGER NOT NULL,
    position INTEGER NOT NULL
);
CREATE UNIQUE INDEX left_out_by_place ON left_out (thread, position);
