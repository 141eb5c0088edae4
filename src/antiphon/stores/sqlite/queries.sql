-- Named queries.  {rows} stands for as many rows of placeholders as there are rows to write.

-- name: context
-- Everything that a continuation of a response sees, with the place where it ends: one query per context.
WITH head AS (
    SELECT thread, upto, status FROM responses WHERE project = :project AND id = :id AND stored
), segments AS (
    SELECT thread, upto FROM head
    UNION ALL
    SELECT a.value ->> 0, a.value ->> 1 FROM head JOIN threads t ON t.id = head.thread, json_each(t.ancestry) a
)
SELECT head.thread, head.upto, head.status, i.body
FROM head LEFT JOIN segments s LEFT JOIN items i ON i.thread = s.thread AND i.position < s.upto
ORDER BY i.position;

-- name: response
SELECT row, thread, middle, upto, created, background, streamed, outcome, small, large, request
FROM responses WHERE project = :project AND id = :id;

-- name: output
SELECT body FROM items WHERE thread = :thread AND position >= :middle AND position < :upto ORDER BY position;

-- name: blob
SELECT bytes FROM blob_bytes WHERE id = :id;

-- name: input_position
-- The position of an item among a response's input items.
WITH head AS (
    SELECT thread, middle FROM responses WHERE project = :project AND id = :id
), segments AS (
    SELECT thread, middle AS upto FROM head
    UNION ALL
    SELECT a.value ->> 0, a.value ->> 1 FROM head JOIN threads t ON t.id = head.thread, json_each(t.ancestry) a
)
SELECT max(i.position) FROM segments s JOIN items i ON i.thread = s.thread AND i.position < s.upto
WHERE i.project = :project AND i.id = :item;

-- name: input_page
-- {order} is ASC or DESC; the bounds exclude the cursor itself.
WITH head AS (
    SELECT thread, middle FROM responses WHERE project = :project AND id = :id
), segments AS (
    SELECT thread, middle AS upto FROM head
    UNION ALL
    SELECT a.value ->> 0, a.value ->> 1 FROM head JOIN threads t ON t.id = head.thread, json_each(t.ancestry) a
)
SELECT i.id, i.body FROM segments s JOIN items i ON i.thread = s.thread AND i.position < s.upto
WHERE i.position > :above AND i.position < :below
ORDER BY i.position {order} LIMIT :limit;

-- name: item
SELECT i.body FROM items i WHERE i.project = :project AND i.id = :item ORDER BY i.rowid DESC LIMIT 1;

-- name: threads
SELECT id, base, tip, ancestry FROM threads WHERE id IN (SELECT value FROM json_each(:ids));

-- name: insert_threads
INSERT INTO threads (id, project, parent, base, tip, ancestry) VALUES {rows};

-- name: move_tips
UPDATE threads SET tip = m.value ->> 1 FROM json_each(:moves) m WHERE threads.id = m.value ->> 0;

-- name: insert_items
INSERT INTO items (project, thread, position, id, body) VALUES {rows};

-- name: copy_context
-- A fork that is too deep gets its own copy of what it continues.
WITH segments AS (
    SELECT value ->> 0 AS thread, value ->> 1 AS upto FROM json_each(:ancestry)
)
INSERT INTO items (project, thread, position, id, body)
SELECT i.project, :thread, i.position, i.id, i.body
FROM segments s JOIN items i ON i.thread = s.thread AND i.position < s.upto ORDER BY i.position;

-- name: insert_responses
INSERT INTO responses (row, project, id, thread, first, middle, upto, created, expires, background, streamed, stored,
    status, outcome, small, large, request) VALUES {rows};

-- name: finish_response
UPDATE responses SET upto = :upto, expires = :expires, status = :status, outcome = :outcome WHERE row = :row;

-- name: run
SELECT row, thread, middle, status FROM responses WHERE project = :project AND id = :id;

-- name: find_blobs
SELECT id FROM blobs WHERE project = :project AND sha256 = :sha256;

-- name: insert_blobs
INSERT INTO blobs (id, project, sha256, uses) VALUES {rows};

-- name: insert_blob_bytes
INSERT INTO blob_bytes (id, bytes) VALUES {rows};

-- name: count_blobs
UPDATE blobs SET uses = uses + (c.value ->> 1) FROM json_each(:counts) c WHERE blobs.id = c.value ->> 0;

-- name: insert_events
INSERT INTO events (run, first_seq, last_seq, frames) VALUES {rows};

-- name: events
SELECT first_seq, frames FROM events
WHERE run = (SELECT row FROM responses WHERE project = :project AND id = :id) AND last_seq > :after ORDER BY first_seq;

-- name: unfinished
SELECT project, id FROM responses WHERE status IN ('queued', 'in_progress') ORDER BY row;

-- name: expired
SELECT project, id FROM responses WHERE expires IS NOT NULL AND expires <= :now LIMIT :limit;

-- name: delete_response
DELETE FROM responses WHERE row = :row;

-- name: delete_events
DELETE FROM events WHERE run = :row;

-- name: delete_journal
DELETE FROM journal WHERE run = :row;

-- name: needed
-- How much of a thread is still needed: by its responses, and by the threads that continue it.
SELECT max(
    coalesce((SELECT max(upto) FROM responses WHERE thread = :thread), -1),
    coalesce((SELECT max(base) FROM threads WHERE parent = :thread), -1)
);

-- name: thread
SELECT parent, base FROM threads WHERE id = :thread;

-- name: trim_items
DELETE FROM items WHERE thread = :thread AND position >= :needed;

-- name: trim_thread
UPDATE threads SET tip = :needed WHERE id = :thread;

-- name: delete_thread
DELETE FROM threads WHERE id = :thread;

-- name: delete_unused_blobs
DELETE FROM blobs WHERE uses <= 0 RETURNING id, project, sha256;

-- name: delete_blob_bytes
DELETE FROM blob_bytes WHERE id IN (SELECT value FROM json_each(:ids));

-- name: journal_begin
INSERT INTO journal (run, call, intent) VALUES (:run, :call, :intent) ON CONFLICT DO NOTHING;

-- name: journal_result
SELECT result FROM journal WHERE run = :run AND call = :call;

-- name: journal_complete
UPDATE journal SET result = :result WHERE run = :run AND call = :call;
