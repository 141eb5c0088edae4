-- Named queries.  {rows} stands for as many rows of placeholders as there are rows to write or to look for.
-- Every one that starts from what a client or a caller named says `project`; what is reached from such a row by number
-- belongs to the same project.  CROSS JOIN fixes the order of loops, and a plus sign keeps a condition from choosing
-- the index.

-- name: ping
SELECT 1;

-- name: context
-- Everything that a continuation of a response sees: one query per context.  The row at position -1 says where it ends.
SELECT -1, json_array(thread, upto, status, hex(full_hash)) FROM responses WHERE project = :project AND id = :id AND stored
UNION ALL
SELECT i.position, i.body FROM responses r CROSS JOIN threads t ON t.id = r.thread
CROSS JOIN json_each(json_insert(t.ancestry, '$[#]', json_array(r.thread, r.upto))) s
CROSS JOIN items i ON i.thread = s.value ->> 0 AND i.position < s.value ->> 1
    AND i.position >= coalesce(s.value ->> 2, 0) AND +i.project = :project
WHERE r.project = :project AND r.id = :id AND r.stored;

-- name: beginning
-- The first of these beginnings of a request that a response has seen: {hash} and {end} say whether as its input or with
-- its output.  Of those with the same hash the newest few count, the newest that has the item with the id in its place.
SELECT p.key, r.thread, r.{end} FROM json_each(:beginnings) p CROSS JOIN responses r ON r.row = (
    SELECT n.row FROM (
        SELECT row, thread, {end} AS place FROM responses WHERE project = :project AND {hash} = unhex(p.value ->> 0)
            AND stored AND status IN ('completed', 'incomplete') ORDER BY row DESC LIMIT :most
    ) n
    WHERE p.value ->> 1 IS NULL OR EXISTS (
        SELECT 1 FROM items i
        WHERE i.project = :project AND i.id = p.value ->> 1 AND i.position = n.place - (p.value ->> 2)
            AND (i.thread = n.thread OR i.thread IN (
                SELECT s.value ->> 0 FROM threads t CROSS JOIN json_each(t.ancestry) s WHERE t.id = n.thread
            ))
    )
    LIMIT 1
) LIMIT 1;

-- name: ids
-- Of the items of a thread and its ancestry below a position.
SELECT i.position, i.id FROM threads t
CROSS JOIN json_each(json_insert(t.ancestry, '$[#]', json_array(t.id, :upto))) s
CROSS JOIN items i ON i.thread = s.value ->> 0 AND i.position < s.value ->> 1
    AND i.position >= coalesce(s.value ->> 2, 0) AND +i.project = :project
WHERE t.id = :thread;

-- name: conversation_context
SELECT -1, json_array(thread, upto) FROM conversations WHERE project = :project AND id = :id
UNION ALL
SELECT i.position, i.body FROM conversations r CROSS JOIN threads t ON t.id = r.thread
CROSS JOIN json_each(json_insert(t.ancestry, '$[#]', json_array(r.thread, r.upto))) s
CROSS JOIN items i ON i.thread = s.value ->> 0 AND i.position < s.value ->> 1
    AND i.position >= coalesce(s.value ->> 2, 0) AND +i.project = :project
WHERE r.project = :project AND r.id = :id;

-- name: begun
-- The items before a background run (1) and those of its input (0).
SELECT i.position < r.first, i.body FROM responses r CROSS JOIN threads t ON t.id = r.thread
CROSS JOIN json_each(json_insert(t.ancestry, '$[#]', json_array(r.thread, r.middle))) s
CROSS JOIN items i ON i.thread = s.value ->> 0 AND i.position < s.value ->> 1
    AND i.position >= coalesce(s.value ->> 2, 0) AND +i.project = :project
WHERE r.project = :project AND r.id = :id ORDER BY i.position;

-- name: response
SELECT thread, middle, upto, created, background, streamed, outcome, small, large, request
FROM responses WHERE project = :project AND id = :id;

-- name: secret
SELECT bytes FROM secrets WHERE name = :key;

-- name: keep_secret
INSERT INTO secrets (name, bytes) VALUES (:key, :bytes) ON CONFLICT DO NOTHING;

-- name: status
SELECT status FROM responses WHERE project = :project AND id = :id;

-- name: output
SELECT body FROM items
WHERE thread = :thread AND position >= :middle AND position < :upto AND +project = :project ORDER BY position;

-- name: blob
SELECT bytes FROM blob_bytes WHERE id = :id;

-- name: line_position
-- The position of an item among a response's input items, or a conversation's: {owner} is the table, {end} the column
-- that says where they end, {which} is max or min.
SELECT {which}(i.position) FROM items i WHERE i.project = :project AND i.id = :item AND EXISTS (
    SELECT 1 FROM {owner} r CROSS JOIN threads t ON t.id = r.thread
    CROSS JOIN json_each(json_insert(t.ancestry, '$[#]', json_array(r.thread, r.{end}))) s
    WHERE r.project = :project AND r.id = :id AND i.thread = s.value ->> 0
        AND i.position < s.value ->> 1 AND i.position >= coalesce(s.value ->> 2, 0)
);

-- name: line_page
-- {owner} and {end} as for line_position; {order} is ASC or DESC; the bounds exclude the cursor itself.  The page is
-- chosen from the index alone, so that the bodies of the other items are not touched; it comes in no order.
SELECT p.position, i.id, i.body FROM (
    SELECT p.rowid AS place, p.position FROM {owner} r CROSS JOIN threads t ON t.id = r.thread
    CROSS JOIN json_each(json_insert(t.ancestry, '$[#]', json_array(r.thread, r.{end}))) s
    CROSS JOIN items p ON p.thread = s.value ->> 0
        AND p.position >= max(coalesce(s.value ->> 2, 0), :above + 1) AND p.position < min(s.value ->> 1, :below)
    WHERE r.project = :project AND r.id = :id
    ORDER BY p.position {order} LIMIT :limit
) p CROSS JOIN items i ON i.rowid = p.place AND +i.project = :project;

-- name: item
-- What was not to be stored is told by the first response that goes beyond it, unless a conversation has got it.
SELECT i.body FROM items i WHERE i.project = :project AND i.id = :item AND (
    coalesce((
        SELECT stored FROM responses r WHERE r.thread = i.thread AND r.upto > i.position ORDER BY r.upto LIMIT 1
    ), 1)
    OR EXISTS (SELECT 1 FROM conversations c WHERE c.thread = i.thread AND c.upto > i.position)
)
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
    AND i.position >= coalesce(s.value ->> 2, 0)
ORDER BY i.position;

-- name: insert_responses
INSERT INTO responses (row, project, id, thread, first, middle, upto, created, expires, background, streamed, stored,
    status, outcome, small, large, request, input_hash, full_hash) VALUES {rows};

-- name: find_blobs
SELECT b.id, b.project, b.sha256 FROM (VALUES {rows}) w
CROSS JOIN blobs b ON b.project = w.column1 AND b.sha256 = w.column2;

-- name: insert_blobs
INSERT INTO blobs (id, project, sha256, uses) VALUES {rows};

-- name: insert_blob_bytes
INSERT INTO blob_bytes (id, bytes) VALUES {rows};

-- name: count_blobs
UPDATE blobs SET uses = uses + (c.value ->> 1) FROM json_each(:counts) c WHERE blobs.id = c.value ->> 0;

-- name: insert_runs
INSERT INTO runs (run, fence) VALUES {rows};

-- name: runs
SELECT r.project, r.id, r.row, r.thread, r.middle, u.fence, u.last_seq, u.attempt, u.progress, u.ended
FROM (VALUES {rows}) w CROSS JOIN responses r ON r.project = w.column1 AND r.id = w.column2
CROSS JOIN runs u ON u.run = r.row;

-- name: change_runs
-- Each of them is there: this is an update by key, which as an UPDATE would cost twice as much.
INSERT INTO runs (run, fence, last_seq, attempt, progress, ended) VALUES {rows} ON CONFLICT (run) DO UPDATE SET
    fence = excluded.fence, last_seq = excluded.last_seq, attempt = excluded.attempt, progress = excluded.progress,
    ended = excluded.ended;

-- name: insert_events
INSERT INTO events (run, first_seq, last_seq, frames) VALUES {rows};

-- name: finish_responses
UPDATE responses SET upto = v.column2, expires = v.column3, status = v.column4, outcome = v.column5,
    full_hash = v.column6
FROM (VALUES {rows}) v WHERE responses.row = v.column1;

-- name: events
-- Begins at the row that holds the number after :after, so that a page costs the same wherever it begins.
SELECT e.first_seq, e.last_seq, e.packed, e.frames FROM responses r CROSS JOIN events e ON e.run = r.row
WHERE r.project = :project AND r.id = :id AND e.last_seq > :after AND e.first_seq >= coalesce(
    (SELECT max(first_seq) FROM events WHERE run = r.row AND first_seq <= :after + 1), 0)
ORDER BY e.first_seq LIMIT :limit;

-- name: unfinished
SELECT r.project, r.id FROM runs u CROSS JOIN responses r ON r.row = u.run WHERE NOT u.ended ORDER BY u.run;

-- name: working
SELECT count(*) FROM runs u CROSS JOIN responses r ON r.row = u.run
WHERE NOT u.ended AND u.attempt >= 0 AND r.project = :project;

-- name: ended
SELECT run FROM runs WHERE ended ORDER BY run LIMIT :limit;

-- name: to_pack
-- A page of what is not packed yet of a log.
SELECT first_seq, last_seq, packed, frames FROM events
WHERE run = :run AND first_seq > :after AND NOT packed ORDER BY first_seq LIMIT :limit;

-- name: packable
SELECT run FROM runs WHERE run IN (SELECT value FROM json_each(:rows)) AND ended;

-- name: delete_packed
DELETE FROM events WHERE rowid IN (
    SELECT e.rowid FROM (VALUES {rows}) w
    CROSS JOIN events e ON e.run = w.column1 AND e.first_seq BETWEEN w.column2 AND w.column3
);

-- name: insert_packs
INSERT INTO events (run, first_seq, last_seq, packed, frames)
SELECT v.column1, v.column2, v.column3, 1, v.column4 FROM (VALUES {rows}) v;

-- name: delete_runs
DELETE FROM runs WHERE run IN (SELECT value FROM json_each(:rows));

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
-- How much of each thread is still needed, by its responses, its conversations and the threads
-- that continue it; -1 for nothing.
SELECT t.id, t.parent, t.base, max(
    coalesce((SELECT max(upto) FROM responses WHERE thread = t.id), -1),
    coalesce((SELECT max(upto) FROM conversations WHERE thread = t.id), -1),
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

-- name: journal
-- Their order is that of their rows: none of them is ever moved.
SELECT j.intent, j.result FROM responses r CROSS JOIN journal j ON j.run = r.row
WHERE r.project = :project AND r.id = :id ORDER BY j.rowid;

-- name: conversation
SELECT created, metadata FROM conversations WHERE project = :project AND id = :id;

-- name: conversation_item
SELECT i.body FROM items i WHERE i.project = :project AND i.id = :item AND EXISTS (
    SELECT 1 FROM conversations r CROSS JOIN threads t ON t.id = r.thread
    CROSS JOIN json_each(json_insert(t.ancestry, '$[#]', json_array(r.thread, r.upto))) s
    WHERE r.project = :project AND r.id = :id AND i.thread = s.value ->> 0
        AND i.position < s.value ->> 1 AND i.position >= coalesce(s.value ->> 2, 0)
) ORDER BY i.position DESC LIMIT 1;

-- name: conversations
-- A hold lapses, but not that of an unfinished background run.
SELECT c.project, c.id, c.row, c.created, c.metadata, c.thread, c.upto, c.holder,
    c.holder IS NOT NULL AND (c.until > unixepoch('subsec') OR EXISTS (
        SELECT 1 FROM responses r
        WHERE r.project = c.project AND r.id = c.holder AND r.status IN ('queued', 'in_progress')
    ))
FROM (VALUES {rows}) w CROSS JOIN conversations c ON c.project = w.column1 AND c.id = w.column2;

-- name: held_conversations
-- The conversations that responses hold.
SELECT c.project, c.holder, c.row, c.thread, c.upto FROM (VALUES {rows}) w
CROSS JOIN conversations c ON c.project = w.column1 AND c.holder = w.column2;

-- name: insert_conversations
INSERT INTO conversations (row, project, id, created, metadata, thread, upto) VALUES {rows};

-- name: change_conversations
-- A hold that is new or goes on ends so many seconds from now.
UPDATE conversations SET metadata = v.column2, thread = v.column3, upto = v.column4, holder = v.column5,
    until = CASE WHEN v.column6 IS NULL THEN until ELSE unixepoch('subsec') + v.column6 END
FROM (VALUES {rows}) v WHERE conversations.row = v.column1;

-- name: move_conversations
-- Where they go on once the response that held them has ended.
UPDATE conversations SET thread = v.column2, upto = v.column3, holder = NULL, until = NULL
FROM (VALUES {rows}) v WHERE conversations.row = v.column1;

-- name: free_conversations
-- Nobody runs in them any more, but for unfinished background runs.
UPDATE conversations SET holder = NULL, until = NULL WHERE holder IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM responses r WHERE r.project = conversations.project AND r.id = conversations.holder
        AND r.status IN ('queued', 'in_progress')
);

-- name: delete_conversations
DELETE FROM conversations WHERE row IN (SELECT value FROM json_each(:rows));

-- name: places
-- Where items with an id stand in a conversation, and where the thread begins that holds them.
SELECT i.thread, i.position, (SELECT base FROM threads b WHERE b.id = i.thread) FROM items i WHERE i.project = :project AND i.id = :item AND EXISTS (
    SELECT 1 FROM threads t CROSS JOIN json_each(json_insert(t.ancestry, '$[#]', json_array(t.id, :upto))) s
    WHERE t.id = :thread AND i.thread = s.value ->> 0
        AND i.position < s.value ->> 1 AND i.position >= coalesce(s.value ->> 2, 0)
);

-- name: bare
-- The ancestry of a thread; and whether it holds nothing of its own yet and nobody but a conversation knows it.
SELECT ancestry, tip = base
    AND NOT EXISTS (SELECT 1 FROM responses r WHERE r.thread = t.id)
    AND NOT EXISTS (SELECT 1 FROM threads c WHERE c.parent = t.id)
FROM threads t WHERE id = :thread;

-- name: change_ancestry
UPDATE threads SET parent = :parent, ancestry = :ancestry WHERE id = :thread;

-- name: leave_out
INSERT INTO left_out (thread, position) VALUES {rows} ON CONFLICT DO NOTHING;

-- name: left_out_of
-- The threads before these, and these, of which conversations left items out.
SELECT DISTINCT l.thread FROM json_each(:threads) w CROSS JOIN threads t ON t.id = w.value
CROSS JOIN json_each(json_insert(t.ancestry, '$[#]', json_array(t.id))) s
CROSS JOIN left_out l ON l.thread = s.value ->> 0
WHERE EXISTS (SELECT 1 FROM left_out);

-- name: holders
-- Items that were left out, each with every thread that still has it in its line, and whether something alive there
-- needs it.  A thread whose ancestry leaves an item out passes it on to none of those that continue it.
WITH RECURSIVE lines (thread, position, at) AS (
    SELECT l.thread, l.position, l.thread FROM json_each(:threads) w CROSS JOIN left_out l ON l.thread = w.value
    UNION
    SELECT l.thread, l.position, t.id FROM lines l CROSS JOIN threads t ON t.parent = l.at
    WHERE EXISTS (
        SELECT 1 FROM json_each(t.ancestry) s WHERE s.value ->> 0 = l.thread
            AND l.position < s.value ->> 1 AND l.position >= coalesce(s.value ->> 2, 0)
    )
)
SELECT l.thread, l.position, l.at,
    EXISTS (SELECT 1 FROM responses r WHERE r.thread = l.at AND r.upto > CASE l.at WHEN l.thread THEN l.position ELSE -1 END)
    OR EXISTS (
        SELECT 1 FROM conversations c WHERE c.thread = l.at
            AND c.upto > CASE l.at WHEN l.thread THEN l.position ELSE -1 END
    )
FROM lines l;

-- name: erase_items
DELETE FROM items WHERE rowid IN (
    SELECT i.rowid FROM json_each(:places) p
    CROSS JOIN items i ON i.thread = p.value ->> 0 AND i.position = p.value ->> 1
);

-- name: erase_left_out
DELETE FROM left_out WHERE rowid IN (
    SELECT l.rowid FROM json_each(:places) p
    CROSS JOIN left_out l ON l.thread = p.value ->> 0 AND l.position = p.value ->> 1
);

-- name: cut_left_out
DELETE FROM left_out WHERE rowid IN (
    SELECT l.rowid FROM json_each(:cuts) c CROSS JOIN left_out l
        ON l.thread = c.value ->> 0 AND l.position >= c.value ->> 1
);

-- name: keys
SELECT k.project, k.key, k.digest, k.response, k.holder, k.until > unixepoch('subsec'),
    EXISTS (SELECT 1 FROM responses r WHERE r.project = k.project AND r.id = k.response)
FROM (VALUES {rows}) w CROSS JOIN idempotency_keys k ON k.project = w.column1 AND k.key = w.column2;

-- name: bind_keys
-- A key that is there is only given to another holder.
INSERT INTO idempotency_keys (project, key, digest, response, holder, until, expires)
SELECT v.column1, v.column2, v.column3, v.column4, v.column5, unixepoch('subsec') + v.column6, v.column7
FROM (VALUES {rows}) v WHERE true
ON CONFLICT (project, key) DO UPDATE SET holder = excluded.holder, until = excluded.until;

-- name: hold_keys
UPDATE idempotency_keys SET until = unixepoch('subsec') + v.column4 FROM (VALUES {rows}) v
WHERE project = v.column1 AND key = v.column2 AND holder = v.column3;

-- name: free_keys
DELETE FROM idempotency_keys WHERE rowid IN (
    SELECT k.rowid FROM (VALUES {rows}) w
    CROSS JOIN idempotency_keys k ON k.project = w.column1 AND k.key = w.column2 AND k.holder = w.column3
);

-- name: forget_keys_of
-- The keys of responses that go.
DELETE FROM idempotency_keys WHERE rowid IN (
    SELECT k.rowid FROM (VALUES {rows}) w
    CROSS JOIN idempotency_keys k ON k.project = w.column1 AND k.response = w.column2
);

-- name: expired_keys
SELECT 1 FROM idempotency_keys WHERE expires <= :now LIMIT 1;

-- name: expire_keys
DELETE FROM idempotency_keys WHERE rowid IN (
    SELECT rowid FROM idempotency_keys WHERE expires <= :now LIMIT :limit
);

-- name: let_go_of_keys
UPDATE idempotency_keys SET until = 0 WHERE until > 0;

-- name: endpoints
-- Those of a project that the operator has not configured; one of them with :id.
SELECT id, name, url, event_types, secrets, created, updated, disabled FROM webhook_endpoints
WHERE project = :project AND id = coalesce(:id, id) AND NOT static ORDER BY row DESC;

-- name: projects_with_endpoints
SELECT DISTINCT project FROM webhook_endpoints WHERE disabled IS NULL;

-- name: create_endpoint
INSERT INTO webhook_endpoints (project, id, name, url, event_types, secrets, created, updated, static)
SELECT :project, :id, :name, :url, :event_types, :secrets, :created, :updated, 0
WHERE (SELECT count(*) FROM webhook_endpoints WHERE project = :project AND NOT static) < :most
RETURNING row;

-- name: change_endpoint
UPDATE webhook_endpoints SET name = coalesce(:name, name), url = coalesce(:url, url),
    event_types = coalesce(:event_types, event_types), secrets = coalesce(:after, secrets),
    updated = :updated, disabled = NULL
WHERE project = :project AND id = :id AND NOT static AND secrets = coalesce(:before, secrets)
RETURNING id, name, url, event_types, secrets, created, updated, disabled;

-- name: delete_endpoint
DELETE FROM webhook_endpoints WHERE project = :project AND id = :id AND NOT static RETURNING row;

-- name: configure_endpoint
INSERT INTO webhook_endpoints (project, id, name, url, event_types, secrets, created, updated, static)
VALUES (:project, :id, :name, :url, :event_types, :secrets, :created, :updated, 1)
ON CONFLICT (project, id) DO UPDATE SET name = excluded.name, url = excluded.url, event_types = excluded.event_types,
    secrets = excluded.secrets, updated = excluded.updated, disabled = NULL;

-- name: delete_other_static_endpoints
DELETE FROM webhook_endpoints WHERE static AND id NOT IN (SELECT value FROM json_each(:ids)) RETURNING row;

-- name: delete_outbox_of_endpoints
DELETE FROM outbox WHERE row IN (
    SELECT o.row FROM json_each(:endpoints) w CROSS JOIN outbox o WHERE o.endpoint = w.value
);

-- name: insert_outbox
-- What endpoints are to hear of runs that end.
INSERT INTO outbox (project, endpoint, response, type, created, due)
SELECT v.column1, e.row, v.column2, 'response.' || v.column3, unixepoch(), unixepoch('subsec')
FROM (VALUES {rows}) v CROSS JOIN webhook_endpoints e ON e.project = v.column1 AND e.disabled IS NULL
WHERE EXISTS (SELECT 1 FROM json_each(e.event_types) t WHERE t.value = 'response.' || v.column3);

-- name: outbox_due
SELECT 1 FROM webhook_endpoints e WHERE EXISTS (
    SELECT 1 FROM outbox WHERE endpoint = e.row AND due <= unixepoch('subsec')
) LIMIT 1;

-- name: claim_outbox
UPDATE outbox SET attempts = attempts + 1, due = unixepoch('subsec') + :seconds, leased = 1 WHERE row IN (
    SELECT o.row FROM webhook_endpoints e CROSS JOIN outbox o ON o.row IN (
        SELECT row FROM outbox WHERE endpoint = e.row AND due <= unixepoch('subsec')
        ORDER BY due, row LIMIT :each
    )
    WHERE e.disabled IS NULL AND e.id NOT IN (SELECT value FROM json_each(:busy))
    ORDER BY o.attempts > 0, o.due, o.row LIMIT :most
) RETURNING row;

-- name: deliveries
SELECT o.row, o.attempts, unixepoch('subsec') - o.created, o.project, e.id, e.static, e.url, e.secrets, o.response,
    o.type, o.created
FROM json_each(:rows) w CROSS JOIN outbox o ON o.row = w.value CROSS JOIN webhook_endpoints e ON e.row = o.endpoint
ORDER BY o.row;

-- name: delivered
DELETE FROM outbox WHERE row IN (SELECT value FROM json_each(:rows));

-- name: try_outbox_again
UPDATE outbox SET due = unixepoch('subsec') + v.column3, leased = 0 FROM (VALUES {rows}) v
WHERE outbox.row = v.column1 AND outbox.attempts = v.column2;

-- name: bury_outbox
UPDATE outbox SET expires = unixepoch() + v.column3, due = 9e99, leased = 0 FROM (VALUES {rows}) v
WHERE outbox.row = v.column1 AND outbox.attempts = v.column2;

-- name: disable_endpoints
UPDATE webhook_endpoints SET disabled = unixepoch()
WHERE row IN (SELECT o.endpoint FROM json_each(:rows) w CROSS JOIN outbox o ON o.row = w.value);

-- name: bury_outbox_of_disabled
UPDATE outbox SET expires = unixepoch() + v.column2, due = 9e99, leased = 0
FROM (VALUES {rows}) v CROSS JOIN outbox g ON g.row = v.column1
WHERE outbox.endpoint = g.endpoint AND outbox.expires IS NULL;

-- name: let_go_of_outbox
UPDATE outbox SET due = 0, leased = 0 WHERE leased;

-- name: forget_outbox_of
-- What was to be told of responses that go.
DELETE FROM outbox WHERE row IN (
    SELECT o.row FROM (VALUES {rows}) w CROSS JOIN outbox o ON o.project = w.column1 AND o.response = w.column2
);

-- name: expired_outbox
SELECT 1 FROM outbox WHERE expires <= :now LIMIT 1;

-- name: expire_outbox
DELETE FROM outbox WHERE row IN (SELECT row FROM outbox WHERE expires <= :now LIMIT :limit);
