-- A background run until its log is packed.  Whoever works on it says `fence`; each takeover raises it, so that whoever
-- had the run before is refused.  `last_seq` is the number of the last event, -1 for none.  `attempt` counts the
-- takeovers since the log last grew, `progress` is where it ended at the last of them.
CREATE TABLE runs (
    run INTEGER PRIMARY KEY,
    fence INTEGER NOT NULL,
    last_seq INTEGER NOT NULL DEFAULT -1,
    attempt INTEGER NOT NULL DEFAULT 0,
    progress INTEGER NOT NULL DEFAULT -1,
    ended INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX runs_ended ON runs (run) WHERE ended;

INSERT INTO runs (run, fence, last_seq, ended)
SELECT r.row, 1, coalesce(
    (SELECT e.last_seq FROM events e WHERE e.run = r.row ORDER BY e.first_seq DESC LIMIT 1), -1
), r.status NOT IN ('queued', 'in_progress')
FROM responses r
WHERE r.background
    AND (r.status IN ('queued', 'in_progress') OR EXISTS (SELECT 1 FROM events e WHERE e.run = r.row));

-- It told which runs are unfinished.
DROP INDEX responses_unfinished;

-- Of an ended run the rows become few: what they held, joined and compressed (zlib), where `packed` says so.
ALTER TABLE events ADD COLUMN packed INTEGER NOT NULL DEFAULT 0;
