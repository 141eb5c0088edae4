-- Named queries.  {order} is ASC or DESC, {which} max or min; {owner} is a table, {end} its column that says where a
-- line of items ends.  Every query that starts from what a client or a caller
-- named says the project; what is reached from such a row by number belongs to the same project.

-- name: context
-- Everything that a continuation of a response sees, with the place where it ends, pinned in the same statement.
-- A deletion that was faster has taken the thread, or cut it below the place: then there is no row.
WITH head AS (
    SELECT r.thread, r.upto, r.status, r.full_hash, t.ancestors, t.limits, t.starts
    FROM responses r JOIN threads t ON t.id = r.thread
    WHERE r.project = $1 AND r.id = $2 AND r.stored AND t.tip >= r.upto
    FOR KEY SHARE OF t
), pinned AS (
    INSERT INTO pins (owner, number, thread, upto, until)
    SELECT $3, $4, thread, upto, now() + $5::interval FROM head WHERE status IN ('completed', 'incomplete')
    ON CONFLICT DO NOTHING
)
SELECT h.thread, h.upto, h.status, i.position, i.body, h.full_hash
FROM head h
LEFT JOIN LATERAL (
    SELECT h.thread, h.upto, 0::bigint UNION ALL SELECT * FROM unnest(h.ancestors, h.limits, h.starts)
) s (thread, upto, start) ON true
LEFT JOIN LATERAL (
    SELECT position, body FROM items WHERE items.thread = s.thread
        AND items.position < s.upto AND items.position >= coalesce(s.start, 0) OFFSET 0
) i ON true
ORDER BY i.position;

-- name: beginning
-- The first of these beginnings of a request that a response has seen, as its input or with its output: its place in
-- the arrays, where it ends, and the ids of its items; pinned as a context is.  Of those with the same hash the newest
-- few count, the newest that has the item with the id in its place.  Nothing sorts the beginnings, so that those behind
-- the first that is found are not looked for.
WITH found AS (
    SELECT g.n, f.thread, f.place
    FROM unnest($6::bytea[], $7::text[], $8::bigint[]) WITH ORDINALITY AS g (hash, id, back, n)
    CROSS JOIN LATERAL (
        SELECT c.thread, c.place FROM (
            (
                SELECT r.thread, r.upto AS place FROM responses r WHERE r.project = $1 AND r.full_hash = g.hash
                    AND r.stored AND r.status IN ('completed', 'incomplete') ORDER BY r.row DESC LIMIT $2
            ) UNION ALL (
                SELECT r.thread, r.middle FROM responses r WHERE r.project = $1 AND r.input_hash = g.hash
                    AND r.stored AND r.status IN ('completed', 'incomplete') ORDER BY r.row DESC LIMIT $2
            )
        ) c
        WHERE g.id IS NULL OR EXISTS (
            SELECT FROM items i WHERE i.project = $1 AND i.id = g.id AND i.position = c.place - g.back
                AND (i.thread = c.thread OR i.thread IN (
                    SELECT unnest(t.ancestors) FROM threads t WHERE t.id = c.thread
                ))
        )
        LIMIT 1
    ) f LIMIT 1
), head AS (
    SELECT f.n, f.thread, f.place, t.ancestors, t.limits, t.starts FROM found f JOIN threads t ON t.id = f.thread
    WHERE t.tip >= f.place FOR KEY SHARE OF t
), pinned AS (
    INSERT INTO pins (owner, number, thread, upto, until)
    SELECT $3, $4, thread, place, now() + $5::interval FROM head ON CONFLICT DO NOTHING
)
SELECT h.n, h.thread, h.place, i.position, i.id
FROM head h
CROSS JOIN LATERAL (
    SELECT h.thread, h.place, 0::bigint UNION ALL SELECT * FROM unnest(h.ancestors, h.limits, h.starts)
) s (thread, upto, start)
CROSS JOIN LATERAL (
    SELECT position, id FROM items WHERE items.thread = s.thread
        AND items.position < s.upto AND items.position >= coalesce(s.start, 0) OFFSET 0
) i
ORDER BY i.position;

-- name: conversation_context
-- Everything that a response in a conversation sees, likewise; pinned where $5 is given.
WITH head AS (
    SELECT r.thread, r.upto, t.ancestors, t.limits, t.starts
    FROM conversations r JOIN threads t ON t.id = r.thread
    WHERE r.project = $1 AND r.id = $2 AND t.tip >= r.upto
    FOR KEY SHARE OF t
), pinned AS (
    INSERT INTO pins (owner, number, thread, upto, until)
    SELECT $3, $4, thread, upto, now() + $5::interval FROM head WHERE $5 IS NOT NULL
    ON CONFLICT DO NOTHING
)
SELECT h.thread, h.upto, NULL, i.position, i.body
FROM head h
LEFT JOIN LATERAL (
    SELECT h.thread, h.upto, 0::bigint UNION ALL SELECT * FROM unnest(h.ancestors, h.limits, h.starts)
) s (thread, upto, start) ON true
LEFT JOIN LATERAL (
    SELECT position, body FROM items WHERE items.thread = s.thread
        AND items.position < s.upto AND items.position >= coalesce(s.start, 0) OFFSET 0
) i ON true
ORDER BY i.position;

-- name: response
-- What is queued is in progress once its log has begun, whichever node works on it.
SELECT r.created, r.background, r.streamed, r.outcome, r.small, r.large, r.request,
    r.status = 'queued' AND EXISTS (SELECT FROM runs u WHERE u.run = r.row AND u.last_seq >= 0) AS begun,
    ARRAY(
        SELECT i.body FROM items i
        WHERE i.thread = r.thread AND i.position >= r.middle AND i.position < r.upto ORDER BY i.position
    ) AS output,
    ARRAY(
        SELECT b.bytes FROM unnest(r.blobs) WITH ORDINALITY AS u (id, n) JOIN blob_bytes b ON b.id = u.id ORDER BY u.n
    ) AS blobs
FROM responses r WHERE r.project = $1 AND r.id = $2;

-- name: begun
-- A background run as it was begun: its row, the items before it and its input.
SELECT r.created, r.background, r.streamed, r.outcome, r.small, r.large, r.request,
    r.status = 'queued' AND EXISTS (SELECT FROM runs u WHERE u.run = r.row AND u.last_seq >= 0) AS begun,
    ARRAY(
        SELECT i.body FROM items i
        WHERE i.thread = r.thread AND i.position >= r.middle AND i.position < r.upto ORDER BY i.position
    ) AS output,
    ARRAY(
        SELECT b.bytes FROM unnest(r.blobs) WITH ORDINALITY AS u (id, n) JOIN blob_bytes b ON b.id = u.id ORDER BY u.n
    ) AS blobs,
    ARRAY(
        SELECT i.body FROM (
            SELECT r.thread, r.first, 0::bigint UNION ALL
            SELECT a.thread, a.upto, a.start
            FROM threads t, unnest(t.ancestors, t.limits, t.starts) a (thread, upto, start) WHERE t.id = r.thread
        ) s (thread, upto, start)
        JOIN items i ON i.thread = s.thread AND i.position < s.upto AND i.position >= coalesce(s.start, 0)
        ORDER BY i.position
    ) AS earlier,
    ARRAY(
        SELECT i.body FROM items i
        WHERE i.thread = r.thread AND i.position >= r.first AND i.position < r.middle ORDER BY i.position
    ) AS input
FROM responses r WHERE r.project = $1 AND r.id = $2 AND r.background;

-- name: line_page
-- A page of the items that were the model's input, or are in a conversation, between two cursors that are left out themselves; a first row
-- without an item tells where the cursors stand.  The page is chosen from the index, so that the bodies of the other
-- items are not touched.  Of an id that recurs the last in the asked order counts.
WITH head AS (
    SELECT r.thread, r.{end} AS upto, t.ancestors, t.limits, t.starts FROM {owner} r JOIN threads t ON t.id = r.thread
    WHERE r.project = $1 AND r.id = $2
), segments AS (
    SELECT thread, upto, 0::bigint AS start FROM head
    UNION ALL
    SELECT a.thread, a.upto, coalesce(a.start, 0)
    FROM head, unnest(head.ancestors, head.limits, head.starts) a (thread, upto, start)
), cursors AS (
    SELECT
        {which}(i.position) FILTER (WHERE i.id = $3) AS after,
        {which}(i.position) FILTER (WHERE i.id = $4) AS before
    FROM segments s JOIN items i ON i.project = $1 AND i.id IN ($3, $4) AND i.thread = s.thread
        AND i.position < s.upto AND i.position >= s.start
), bounds AS (
    SELECT
        CASE WHEN $5 THEN c.after ELSE c.before END AS above,
        CASE WHEN $5 THEN c.before ELSE c.after END AS below
    FROM cursors c
)
(SELECT c.after, c.before, NULL AS id, NULL AS body FROM head, cursors c)
UNION ALL
(SELECT NULL, NULL, i.id, i.body FROM (
    SELECT p.thread, p.position FROM bounds b CROSS JOIN segments s
    JOIN items p ON p.thread = s.thread AND p.position < least(s.upto, b.below) 
        AND p.position >= greatest(s.start, coalesce(b.above, -1) + 1)
    ORDER BY p.position {order} LIMIT $6
) page JOIN items i ON i.thread = page.thread AND i.position = page.position ORDER BY i.position {order});

-- name: item
-- What was not to be stored is told by the first response that goes beyond it, unless a conversation has got it.
SELECT i.body FROM items i
WHERE i.project = $1 AND i.id = $2 AND (
    coalesce((
        SELECT r.stored FROM responses r WHERE r.thread = i.thread AND r.upto > i.position ORDER BY r.upto LIMIT 1
    ), true)
    OR EXISTS (SELECT FROM conversations c WHERE c.thread = i.thread AND c.upto > i.position)
)
ORDER BY i.row DESC LIMIT 1;

-- name: secret
SELECT bytes FROM secrets WHERE name = $1;

-- name: keep_secret
-- Nothing when another process has kept one in this moment: it is read the next time.
INSERT INTO secrets (name, bytes) VALUES ($1, $2) ON CONFLICT DO NOTHING;

-- name: status
SELECT status FROM responses WHERE project = $1 AND id = $2;

-- name: events
-- A page begins at the row that holds the number after $3, so that it costs the same wherever it begins, and takes no
-- further row once there are $4 bytes or $5 rows.  A packed row is a page by itself.
SELECT first_seq, frames, packed FROM (
    SELECT e.first_seq, e.frames, e.packed, sum(e.bytes) OVER (ORDER BY e.first_seq) - e.bytes AS before
    FROM (
        SELECT e.first_seq, e.frames, e.packed, CASE WHEN e.packed THEN $4 ELSE octet_length(e.frames) END AS bytes
        FROM responses r JOIN events e ON e.run = r.row
        WHERE r.project = $1 AND r.id = $2 AND e.last_seq > $3 AND e.first_seq >= coalesce(
            (SELECT max(f.first_seq) FROM events f WHERE f.run = r.row AND f.first_seq <= $3 + 1), 0)
        ORDER BY e.first_seq LIMIT $5
    ) e
) page WHERE before < $4 ORDER BY first_seq;

-- name: journal
SELECT j.intent, j.result FROM responses r JOIN journal j ON j.run = r.row
WHERE r.project = $1 AND r.id = $2 ORDER BY j.number;

-- name: unfinished
SELECT project, id FROM responses WHERE status IN ('queued', 'in_progress') ORDER BY row;

-- name: working
SELECT count(*) FROM responses r JOIN runs u ON u.run = r.row
WHERE r.project = $1 AND r.status IN ('queued', 'in_progress') AND u.attempt >= 0;

-- name: ended
-- Runs whose logs are to be packed, with the numbers of their last events.
SELECT run, last_seq FROM runs WHERE ended ORDER BY run LIMIT $1;

-- name: log
-- Rows of a log behind number $2: the first, and as many more as make $3 bytes together with what parts them.
WITH sizes AS (
    SELECT first_seq, sum(octet_length(frames) + 1) OVER (ORDER BY first_seq) AS bytes
    FROM events WHERE run = $1 AND first_seq > $2 ORDER BY first_seq LIMIT 20000
)
SELECT first_seq, last_seq, frames FROM events
WHERE run = $1 AND first_seq > $2
    AND first_seq <= (SELECT coalesce(max(first_seq) FILTER (WHERE bytes <= $3), min(first_seq)) FROM sizes)
ORDER BY first_seq;

-- name: ping
SELECT 1;

-- name: save
SELECT write_responses_2($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,
    $21, $22, $23, $24, $25, $26, $27, $28);

-- name: saved
-- Which of these are written, after a commit whose outcome nobody heard.
SELECT g.n FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bytea[])
    WITH ORDINALITY AS g (project, id, request, outcome, n)
JOIN responses r ON r.project = g.project AND r.id = g.id AND r.request = g.request AND r.outcome = g.outcome;

-- name: begin
SELECT begin_runs_2($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,
    $21, $22, $23, $24, $25, $26, $27, $28);

-- name: began
-- Which of these are begun, after a commit whose outcome nobody heard; what became of them since does not matter.
SELECT g.n FROM unnest($1::text[], $2::text[], $3::bytea[]) WITH ORDINALITY AS g (project, id, request, n)
JOIN responses r ON r.project = g.project AND r.id = g.id AND r.background AND r.request = g.request;

-- name: append
SELECT append_events_2($1, $2, $3, $4, $5, $6, $7, $8, $9);

-- name: finish
SELECT finish_runs_5($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18);

-- name: claim
SELECT fence, last_seq, attempt FROM claim_runs_1($1, $2, $3);

-- name: hand_back
SELECT hand_back_runs_1($1, $2, $3);

-- name: begin_calls
SELECT begin_calls_2($1, $2, $3, $4, $5);

-- name: complete_calls
SELECT complete_calls_1($1, $2, $3, $4, $5);

-- name: compact
SELECT compact_runs_1($1, $2, $3, $4, $5);

-- name: remove
SELECT remove_responses_3($1, $2);

-- name: expire
SELECT expire_responses_3($1, $2);

-- name: sweep
SELECT sweep_pins_1($1);

-- name: release
SELECT release_pins_1($1, $2);

-- name: renew
-- Those that are let go meanwhile are not renewed, so that one whose release is lost lapses.
UPDATE pins SET until = now() + $3::interval
WHERE owner = $1 AND number = ANY ($2::bigint[]) AND until < now() + $3::interval / 2;

-- name: conversation
SELECT created, metadata FROM conversations WHERE project = $1 AND id = $2;

-- name: conversation_item
WITH head AS (
    SELECT r.thread, r.upto, t.ancestors, t.limits, t.starts FROM conversations r JOIN threads t ON t.id = r.thread
    WHERE r.project = $1 AND r.id = $2
)
SELECT i.body FROM head h CROSS JOIN LATERAL (
    SELECT h.thread, h.upto, 0::bigint UNION ALL SELECT * FROM unnest(h.ancestors, h.limits, h.starts)
) s (thread, upto, start)
JOIN items i ON i.project = $1 AND i.id = $3 AND i.thread = s.thread
    AND i.position < s.upto AND i.position >= coalesce(s.start, 0)
ORDER BY i.position DESC LIMIT 1;

-- name: create_conversation
SELECT create_conversation_1($1, $2, $3, $4, $5, $6);

-- name: describe_conversation
UPDATE conversations SET metadata = $3 WHERE project = $1 AND id = $2 RETURNING created;

-- name: add_items
SELECT add_items_1($1, $2, $3, $4, $5, $6);

-- name: take_out
SELECT take_out_1($1, $2, $3, $4, $5);

-- name: remove_conversation
SELECT remove_conversation_1($1, $2);

-- name: enter
SELECT enter_conversations_1($1, $2, $3, $4);

-- name: renew_holds
UPDATE conversations c SET until = clock_timestamp() + $4::interval
FROM (
    SELECT v.row FROM unnest($1::text[], $2::text[], $3::text[]) g (project, id, holder)
    JOIN conversations v ON v.project = g.project AND v.id = g.id AND v.holder = g.holder
    ORDER BY v.row FOR NO KEY UPDATE OF v
) l WHERE c.row = l.row;

-- name: leave
UPDATE conversations c SET holder = NULL, until = NULL
FROM (
    SELECT v.row FROM unnest($1::text[], $2::text[], $3::text[]) g (project, id, holder)
    JOIN conversations v ON v.project = g.project AND v.id = g.id AND v.holder = g.holder
    ORDER BY v.row FOR NO KEY UPDATE OF v
) l WHERE c.row = l.row;

-- name: append_held
SELECT append_held_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10);

-- name: save_held
SELECT save_held_2($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,
    $21, $22, $23, $24, $25, $26, $27, $28, $29);

-- name: begin_held
SELECT begin_held_2($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,
    $21, $22, $23, $24, $25, $26, $27, $28, $29);

-- name: bind_keys
SELECT digest, response, holder, stored FROM bind_keys_1($1, $2, $3, $4, $5, $6);

-- name: hold_keys
UPDATE idempotency_keys k SET until = clock_timestamp() + l.span
FROM (
    SELECT v.project, v.key, g.span FROM unnest($1::text[], $2::text[], $3::text[], $4::interval[])
        g (project, key, holder, span)
    JOIN idempotency_keys v ON v.project = g.project AND v.key = g.key AND v.holder = g.holder
    ORDER BY v.project, v.key FOR NO KEY UPDATE OF v
) l WHERE k.project = l.project AND k.key = l.key;

-- name: free_keys
DELETE FROM idempotency_keys k USING (
    SELECT v.project, v.key FROM unnest($1::text[], $2::text[], $3::text[]) g (project, key, holder)
    JOIN idempotency_keys v ON v.project = g.project AND v.key = g.key AND v.holder = g.holder
    ORDER BY v.project, v.key FOR UPDATE OF v
) l WHERE k.project = l.project AND k.key = l.key;

-- name: forget_keys_of
-- The keys of responses that go.
DELETE FROM idempotency_keys k USING (
    SELECT v.project, v.key FROM unnest($1::text[], $2::text[]) g (project, id)
    JOIN idempotency_keys v ON v.project = g.project AND v.response = g.id
    ORDER BY v.project, v.key FOR UPDATE OF v
) l WHERE k.project = l.project AND k.key = l.key;

-- name: expire_keys
DELETE FROM idempotency_keys k USING (
    SELECT v.project, v.key FROM idempotency_keys v WHERE v.expires <= $1 LIMIT $2 FOR UPDATE OF v SKIP LOCKED
) l WHERE k.project = l.project AND k.key = l.key;

-- name: endpoints
-- Those of a project that the operator has not configured; one of them where $2 is given.
SELECT id, name, url, event_types, secrets, created, updated, disabled FROM webhook_endpoints
WHERE project = $1 AND ($2::text IS NULL OR id = $2) AND NOT static ORDER BY row DESC;

-- name: projects_with_endpoints
SELECT DISTINCT project FROM webhook_endpoints WHERE disabled IS NULL;

-- name: create_endpoint
-- It may be said twice.
INSERT INTO webhook_endpoints (project, id, name, url, event_types, secrets, created, updated, static)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, false
WHERE (SELECT count(*) FROM webhook_endpoints WHERE project = $1 AND NOT static AND id <> $2) < $9
ON CONFLICT (project, id) DO UPDATE SET id = EXCLUDED.id
RETURNING row;

-- name: change_endpoint
-- It may be said twice: what has the new secrets already is found again.
UPDATE webhook_endpoints SET name = coalesce($3, name), url = coalesce($4, url),
    event_types = coalesce($5, event_types), secrets = coalesce($7, secrets), updated = $8, disabled = NULL
WHERE project = $1 AND id = $2 AND NOT static AND ($6::text IS NULL OR secrets IN ($6, $7))
RETURNING id, name, url, event_types, secrets, created, updated, disabled;

-- name: delete_endpoint
SELECT remove_endpoints_1(ARRAY(SELECT row FROM webhook_endpoints WHERE project = $1 AND id = $2 AND NOT static));

-- name: configure_endpoints
INSERT INTO webhook_endpoints (project, id, name, url, event_types, secrets, created, updated, static)
SELECT g.project, g.id, g.name, g.url, string_to_array(g.event_types, ' '), g.secrets, g.created, g.updated, true
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::bigint[])
    g (project, id, name, url, event_types, secrets, created, updated)
ORDER BY g.project, g.id
ON CONFLICT (project, id) DO UPDATE SET name = EXCLUDED.name, url = EXCLUDED.url, event_types = EXCLUDED.event_types,
    secrets = EXCLUDED.secrets, updated = EXCLUDED.updated, disabled = NULL;

-- name: remove_other_static_endpoints
SELECT remove_endpoints_1(ARRAY(SELECT row FROM webhook_endpoints WHERE static AND id <> ALL ($1::text[])));

-- name: claim_outbox
-- Who claims at the same time passes over what is being claimed.
WITH chosen AS MATERIALIZED (
    SELECT o.row, e.id, e.static, e.url, e.secrets FROM webhook_endpoints e
    CROSS JOIN LATERAL (
        SELECT row, attempts, due FROM outbox WHERE endpoint = e.row AND due <= clock_timestamp()
        ORDER BY due, row LIMIT $2 FOR UPDATE SKIP LOCKED
    ) o
    WHERE e.disabled IS NULL AND e.id <> ALL ($4::text[])
    ORDER BY o.attempts > 0, o.due, o.row LIMIT $1
)
UPDATE outbox o SET attempts = o.attempts + 1, due = clock_timestamp() + $3::interval
FROM chosen c WHERE o.row = c.row
RETURNING o.row, o.attempts, extract(epoch FROM clock_timestamp())::float8 - o.created AS age, o.project, c.id,
    c.static, c.url, c.secrets, o.response, o.type, o.created;

-- name: delivered
DELETE FROM outbox o USING (
    SELECT row FROM outbox WHERE row = ANY ($1::bigint[]) ORDER BY row FOR UPDATE
) l WHERE o.row = l.row;

-- name: try_outbox_again
UPDATE outbox o SET due = clock_timestamp() + l.span
FROM (
    SELECT v.row, g.span FROM unnest($1::bigint[], $2::integer[], $3::interval[]) g (row, attempts, span)
    JOIN outbox v ON v.row = g.row AND v.attempts = g.attempts ORDER BY v.row FOR UPDATE OF v
) l WHERE o.row = l.row;

-- name: bury_outbox
UPDATE outbox o SET expires = extract(epoch FROM clock_timestamp() + l.span), due = 'infinity'
FROM (
    SELECT v.row, g.span FROM unnest($1::bigint[], $2::integer[], $3::interval[]) g (row, attempts, span)
    JOIN outbox v ON v.row = g.row AND v.attempts = g.attempts ORDER BY v.row FOR UPDATE OF v
) l WHERE o.row = l.row;

-- name: disable_endpoints
SELECT disable_endpoints_1($1, $2);

-- name: expire_outbox
DELETE FROM outbox o USING (
    SELECT row FROM outbox WHERE expires <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED
) l WHERE o.row = l.row;
