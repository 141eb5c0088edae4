-- Named queries.  {order} is ASC or DESC, {which} max or min.  Every query that starts from what a client or a caller
-- named says the project; what is reached from such a row by number belongs to the same project.

-- name: context
-- Everything that a continuation of a response sees, with the place where it ends, pinned in the same statement.
-- A deletion that was faster has taken the thread, or cut it below the place: then there is no row.
WITH head AS (
    SELECT r.thread, r.upto, r.status, t.ancestors, t.limits
    FROM responses r JOIN threads t ON t.id = r.thread
    WHERE r.project = $1 AND r.id = $2 AND r.stored AND t.tip >= r.upto
    FOR KEY SHARE OF t
), pinned AS (
    INSERT INTO pins (owner, number, thread, upto, until)
    SELECT $3, $4, thread, upto, now() + $5::interval FROM head WHERE status IN ('completed', 'incomplete')
    ON CONFLICT DO NOTHING
)
SELECT h.thread, h.upto, h.status, i.position, i.body
FROM head h
LEFT JOIN LATERAL (
    SELECT h.thread, h.upto UNION ALL SELECT * FROM unnest(h.ancestors, h.limits)
) s (thread, upto) ON true
LEFT JOIN LATERAL (
    SELECT position, body FROM items WHERE items.thread = s.thread AND items.position < s.upto OFFSET 0
) i ON true
ORDER BY i.position;

-- name: response
SELECT r.created, r.background, r.streamed, r.outcome, r.small, r.large, r.request,
    ARRAY(
        SELECT i.body FROM items i
        WHERE i.thread = r.thread AND i.position >= r.middle AND i.position < r.upto ORDER BY i.position
    ) AS output,
    ARRAY(
        SELECT b.bytes FROM unnest(r.blobs) WITH ORDINALITY AS u (id, n) JOIN blob_bytes b ON b.id = u.id ORDER BY u.n
    ) AS blobs
FROM responses r WHERE r.project = $1 AND r.id = $2;

-- name: input_page
-- A page of the items that were the model's input, between two cursors that are left out themselves; a first row
-- without an item tells where the cursors stand.  The page is chosen from the index, so that the bodies of the other
-- items are not touched.  Of an id that recurs the last in the asked order counts.
WITH head AS (
    SELECT r.thread, r.middle, t.ancestors, t.limits FROM responses r JOIN threads t ON t.id = r.thread
    WHERE r.project = $1 AND r.id = $2
), segments AS (
    SELECT thread, middle AS upto FROM head
    UNION ALL
    SELECT a.thread, a.upto FROM head, unnest(head.ancestors, head.limits) a (thread, upto)
), cursors AS (
    SELECT
        {which}(i.position) FILTER (WHERE i.id = $3) AS after,
        {which}(i.position) FILTER (WHERE i.id = $4) AS before
    FROM segments s JOIN items i ON i.project = $1 AND i.id IN ($3, $4) AND i.thread = s.thread AND i.position < s.upto
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
    JOIN items p ON p.thread = s.thread AND p.position < least(s.upto, b.below) AND p.position > coalesce(b.above, -1)
    ORDER BY p.position {order} LIMIT $6
) page JOIN items i ON i.thread = page.thread AND i.position = page.position ORDER BY i.position {order});

-- name: item
-- What was not to be stored has a thread of its own, so the last response on a thread tells.
SELECT i.body FROM items i
WHERE i.project = $1 AND i.id = $2
    AND coalesce((SELECT r.stored FROM responses r WHERE r.thread = i.thread ORDER BY r.upto DESC LIMIT 1), true)
ORDER BY i.row DESC LIMIT 1;

-- name: events
-- A page begins at the row that holds the number after $3, so that it costs the same wherever it begins, and takes no
-- further row once there are $4 bytes or $5 rows.
SELECT first_seq, frames FROM (
    SELECT e.first_seq, e.frames,
        sum(octet_length(e.frames)) OVER (ORDER BY e.first_seq) - octet_length(e.frames) AS before
    FROM (
        SELECT e.first_seq, e.frames FROM responses r JOIN events e ON e.run = r.row
        WHERE r.project = $1 AND r.id = $2 AND e.last_seq > $3 AND e.first_seq >= coalesce(
            (SELECT max(f.first_seq) FROM events f WHERE f.run = r.row AND f.first_seq <= $3 + 1), 0)
        ORDER BY e.first_seq LIMIT $5
    ) e
) page WHERE before < $4 ORDER BY first_seq;

-- name: unfinished
SELECT project, id FROM responses WHERE status IN ('queued', 'in_progress') ORDER BY row;

-- name: ping
SELECT 1;

-- name: save
SELECT write_responses_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,
    $21, $22, $23, $24, $25, $26);

-- name: saved
-- Which of these are written, after a commit whose outcome nobody heard.
SELECT g.n FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bytea[])
    WITH ORDINALITY AS g (project, id, outcome, request, n)
JOIN responses r ON r.project = g.project AND r.id = g.id AND r.outcome = g.outcome AND r.request = g.request;

-- name: append
SELECT append_events_1($1, $2, $3, $4, $5);

-- name: appended
SELECT g.n FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bytea[])
    WITH ORDINALITY AS g (project, id, first_seq, last_seq, frames, n)
JOIN responses r ON r.project = g.project AND r.id = g.id
JOIN events e ON e.run = r.row AND e.first_seq = g.first_seq AND e.last_seq = g.last_seq AND e.frames = g.frames;

-- name: finish
SELECT finish_runs_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13);

-- name: finished
-- Which of these ends are the ones that stand.
SELECT g.n FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::bigint[], $6::bytea[])
    WITH ORDINALITY AS g (project, id, status, outcome, first_seq, frames, n)
JOIN responses r ON r.project = g.project AND r.id = g.id AND r.status = g.status AND r.outcome = g.outcome
WHERE g.first_seq IS NULL
    OR EXISTS (SELECT FROM events e WHERE e.run = r.row AND e.first_seq = g.first_seq AND e.frames = g.frames);

-- name: begin_calls
SELECT present, result FROM begin_calls_1($1, $2, $3, $4);

-- name: complete_calls
WITH given AS (
    SELECT g.*, r.row FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[])
        WITH ORDINALITY AS g (project, id, call, result, n)
    LEFT JOIN responses r ON r.project = g.project AND r.id = g.id
), noted AS (
    UPDATE journal j SET result = g.result FROM given g WHERE j.run = g.row AND j.call = g.call
)
SELECT n FROM given WHERE row IS NULL;

-- name: remove
SELECT remove_responses_1($1, $2);

-- name: expire
SELECT expire_responses_1($1, $2);

-- name: sweep
SELECT sweep_pins_1($1);

-- name: release
SELECT release_pins_1($1, $2);

-- name: renew
-- Those that are let go meanwhile are not renewed, so that one whose release is lost lapses.
UPDATE pins SET until = now() + $3::interval
WHERE owner = $1 AND number = ANY ($2::bigint[]) AND until < now() + $3::interval / 2;
