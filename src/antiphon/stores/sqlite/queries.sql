-- Named queries.  {rows} stands for as many rows of placeholders as there are rows to write or to look for.
-- Every one that starts from what a client or a caller named says `project`; what is reached from such a row by number
-- belongs to the same project.  CROSS JOIN fixes the order of loops, and a plus sign keeps a condition from choosing
-- the index.

-- name: ping
SELECT 1;

-- name: context
-- Everything that a continuation of a response sees: one query per context.  The row at position -1 says where it ends.
SELECT -1, json_array(thread, upto, status) FROM responses WHERE project = :project AND id = :id AND stored
UNION ALL
SELECT i.position, i.body FROM responses r CROSS JOIN threads t ON t.id = r.thread
CROSS JOIN json_each(json_insert(t.ancestry, '$[#]', json_array(r.thread, r.upto))) s
CROSS JOIN items i ON i.thread = s.value ->> 0 AND i.position < s.value ->> 1 AND +i.project = :project
WHERE r.project = :project AND r.id = :id AND r.stored;

-- name: response
SELECT thread, middle, upto, created, background, streamed, outcome, small, large, request
FROM responses WHERE project = :project AND id = :id;

-- name: output
SELECT body FROM items
WHERE thread = :thread AND position >= :middle AND position < :upto AND +project = :project ORDER BY position;

-- name: blob
SELECT bytes FROM blob_bytes WHERE id = :id;

-- name: input_position
-- The position of an item among a response's input items; {which} is max or min.
SELECT {which}(i.position) FROM items i WHERE i.project = :project AND i.id = :item AND EXISTS (
    SELECT 1 FROM responses r CROSS JOIN threads t ON t.id = r.thread
    CROSS JOIN json_each(json_insert(t.ancestry, '$[#]', json_array(r.thread, r.middle))) s
    WHERE r.project = :project AND r.id = :id AND i.thread = s.value ->> 0 AND i.position < s.value ->> 1
);

-- name: input_page
-- {order} is ASC or DESC; the bounds exclude the cursor itself.  The page is chosen from the index alone, so that the
-- bodies of the other items are not touched.
SELECT i.id, i.body FROM items i WHERE +i.project = :project AND i.rowid IN (
    SELECT p.rowid FROM responses r CROSS JOIN threads t ON t.id = r.thread
    CROSS JOIN json_each(json_insert(t.ancestry, '$[#]', json_array(r.thread, r.middle))) s
    CROSS JOIN items p ON p.thread = s.value ->> 0
        AND p.position > :above AND p.position < min(s.value ->> 1, :below)
    WHERE r.project = :project AND r.id = :id
    ORDER BY p.position {order} LIMIT :limit
) ORDER BY i.position {order};

-- name: item
-- What was not to be stored has a thread of its own, so the last response on a thread tells.
SELECT i.body FROM items i WHERE i.project = :project AND i.id = :item
    AND coalesce((SELECT stored FROM responses r WHERE r.thread = i.thread ORDER BY r.upto DESC LIMIT 1), 1)
ORDER BY i.rowid DESC LIMIT 1;

-- name: threads
SELECT t.project, t.id, t.tip, t.ancestry FROM (VALUES {rows}) w
CROSS JOIN threads t ON t.id = w.column2 AND t.project = w.column1;

-- name: insert_threads
INSERT INTO threads (id, project, parent, base, tip, ancestry) VALUES {rows};

-- name: move_tips
UPDATE threads SET tip = m.value ->> 1 FROM json_each(:moves) m WHERE threads.id = m.value ->> 0;

-- name: insert_items
INSERT INTO items (project, thread, position, id, body) VALUES {rows};

-- name: copy_context
-- A fork that is too deep gets its own copy of what it continues.
INSERT INTO items (project, thread, position, id, body)
SELECT i.project, :thread, i.position, i.id, i.body
FROM json_each(:ancestry) s CROSS JOIN items i ON i.thread = s.value ->> 0 AND i.position < s.value ->> 1
ORDER BY i.position;

-- name: insert_responses
INSERT INTO responses (row, project, id, thread, first, middle, upto, created, expires, background, streamed, stored,
    status, outcome, small, large, request) VALUES {rows};

-- name: find_blobs
SELECT b.id, b.project, b.sha256 FROM (VALUES {rows}) w
CROSS JOIN blobs b ON b.project = w.column1 AND b.sha256 = w.column2;

-- name: insert_blobs
INSERT INTO blobs (id, project, sha256, uses) VALUES {rows};

-- name: insert_blob_bytes
INSERT INTO blob_bytes (id, bytes) VALUES {rows};

-- name: count_blobs
UPDATE blobs SET uses = uses + (c.value ->> 1) FROM json_each(:counts) c WHERE blobs.id = c.value ->> 0;

-- name: runs
SELECT r.project, r.id, r.row, r.thread, r.middle, r.status FROM (VALUES {rows}) w
CROSS JOIN responses r ON r.project = w.column1 AND r.id = w.column2;

-- name: insert_events
INSERT INTO events (run, first_seq, last_seq, frames) VALUES {rows};

-- name: finish_responses
UPDATE responses SET upto = v.column2, expires = v.column3, status = v.column4, outcome = v.column5
FROM (VALUES {rows}) v WHERE responses.row = v.column1;

-- name: events
-- Begins at the row that holds the number after :after, so that a page costs the same wherever it begins.
SELECT e.first_seq, e.frames FROM responses r CROSS JOIN events e ON e.run = r.row
WHERE r.project = :project AND r.id = :id AND e.last_seq > :after AND e.first_seq >= coalesce(
    (SELECT max(first_seq) FROM events WHERE run = r.row AND first_seq <= :after + 1), 0)
ORDER BY e.first_seq LIMIT :limit;

-- name: unfinished
SELECT project, id FROM responses WHERE status IN ('queued', 'in_progress') ORDER BY row;

-- name: expired
SELECT project, id FROM responses WHERE expires IS NOT NULL AND expires <= :now LIMIT :limit;

-- name: doomed
SELECT r.project, r.id, r.row, r.thread, r.large FROM (VALUES {rows}) w
CROSS JOIN responses r ON r.project = w.column1 AND r.id = w.column2;

-- name: delete_responses
DELETE FROM responses WHERE row IN (SELECT value FROM json_each(:rows));

-- name: delete_events
DELETE FROM events WHERE run IN (SELECT value FROM json_each(:rows));

-- name: delete_journal
DELETE FROM journal WHERE run IN (SELECT value FROM json_each(:rows));

-- name: needed
-- How much of each thread is still needed, by its responses and by the threads that continue it; -1 for nothing.
SELECT t.id, t.parent, t.base, max(
    coalesce((SELECT max(upto) FROM responses WHERE thread = t.id), -1),
    coalesce((SELECT max(base) FROM threads WHERE parent = t.id), -1)
) FROM json_each(:threads) w CROSS JOIN threads t ON t.id = w.value;

-- name: cut_items
DELETE FROM items WHERE rowid IN (
    SELECT i.rowid FROM json_each(:cuts) c CROSS JOIN items i
        ON i.thread = c.value ->> 0 AND i.position >= c.value ->> 1
);

-- name: cut_threads
UPDATE threads SET tip = c.value ->> 1 FROM json_each(:cuts) c
WHERE threads.id = c.value ->> 0 AND threads.tip > c.value ->> 1;

-- name: delete_threads
DELETE FROM threads WHERE id IN (SELECT value FROM json_each(:threads));

-- name: held
SELECT thread FROM held;

-- name: note_held
INSERT INTO held (thread) SELECT value FROM json_each(:threads);

-- name: forget_held
DELETE FROM held WHERE thread IN (SELECT value FROM json_each(:threads));

-- name: delete_unused_blobs
DELETE FROM blobs WHERE id IN (SELECT value FROM json_each(:ids)) AND uses <= 0 RETURNING id, project, sha256;

-- name: delete_blob_bytes
DELETE FROM blob_bytes WHERE id IN (SELECT value FROM json_each(:ids));

-- name: journal_begin
INSERT INTO journal (run, call, intent) VALUES {rows} ON CONFLICT DO NOTHING;

-- name: journal_complete
UPDATE journal SET result = v.column3 FROM (VALUES {rows}) v
WHERE journal.run = v.column1 AND journal.call = v.column2;

-- name: journal_results
SELECT j.run, j.call, j.result FROM (VALUES {rows}) w
CROSS JOIN journal j ON j.run = w.column1 AND j.call = w.column2 WHERE j.result IS NOT NULL;
