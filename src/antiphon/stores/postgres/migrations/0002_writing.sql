-- What is written is written by functions: one call, one transaction and no lock held over a round trip, for a group of
-- any size in a constant number of statements.  A function is never changed in place, since the last release may still
-- run beside this one: a new version gets a new number, and the old one goes a release later.
--
-- SQLSTATE AP001: a blob is new, its bytes are wanted.  AP002: what a response continues is gone.

-- Every join here is a look-up by key, so that its cost does not grow with the tables (connections.py turns the other
-- ways of joining off, since a plan may be made while a table is still empty).

-- Responses, finished or about to begin.  The n-th of each array belongs to the n-th response; each item names its
-- response, and the uses from `use_firsts` to `use_lasts` name the blobs of one.  `flags`: 1 may move its parent's tip,
-- 2 background, 4 streamed, 8 stored.
CREATE FUNCTION write_responses_1(
    projects text[], ids text[], parents bigint[], firsts bigint[], middles bigint[], uptos bigint[], flags smallint[],
    created bigint[], expiries bigint[], statuses text[], outcomes bytea[], smalls bytea[], larges bytea[],
    requests bytea[], use_firsts integer[], use_lasts integer[],
    item_ops integer[], item_positions bigint[], item_ids text[], item_bodies bytea[],
    blob_projects text[], blob_hashes bytea[], blob_uses bigint[], blob_datas bytea[],
    uses integer[],
    segments_max integer
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    placed bigint[];
    place bigint;
    numbers bigint[];
    deep record;
BEGIN
    SELECT array_agg(nextval('threads_id_seq')) INTO placed FROM unnest(ids);
    IF EXISTS (SELECT FROM unnest(parents) p WHERE p IS NOT NULL) THEN
        PERFORM FROM threads WHERE id = ANY (parents) ORDER BY id DESC FOR NO KEY UPDATE;
        IF EXISTS (
            SELECT FROM unnest(projects, parents, firsts) g (project, parent, first)
            LEFT JOIN threads t ON t.id = g.parent AND t.project = g.project AND t.tip >= g.first
            WHERE g.parent IS NOT NULL AND t.id IS NULL
        ) THEN
            RAISE EXCEPTION USING ERRCODE = 'AP002', MESSAGE = 'what the response continues is gone';
        END IF;
        -- Compare-and-set of the tips: who comes too late forks.
        FOR place IN
            UPDATE threads t SET tip = g.upto
            FROM unnest(parents, firsts, uptos, flags) WITH ORDINALITY AS g (parent, first, upto, flags, n)
            WHERE g.flags & 1 = 1 AND t.id = g.parent AND t.tip = g.first
            RETURNING g.n
        LOOP
            placed[place] := parents[place];
        END LOOP;
    END IF;

    IF placed IS DISTINCT FROM parents THEN
        INSERT INTO threads (id, project, parent, base, tip, ancestors, limits)
        SELECT g.thread, g.project, p.id, CASE WHEN p.id IS NULL THEN 0 ELSE g.first END, g.upto,
            CASE WHEN p.id IS NULL THEN '{}' ELSE p.ancestors || p.id END,
            CASE WHEN p.id IS NULL THEN '{}' ELSE p.limits || g.first END
        FROM unnest(placed, projects, parents, firsts, uptos) g (thread, project, parent, first, upto)
        LEFT JOIN threads p ON p.id = g.parent AND cardinality(p.ancestors) < segments_max
        WHERE g.thread IS DISTINCT FROM g.parent;

        -- A fork that is too deep gets its own copy of what it continues.
        FOR deep IN
            SELECT g.thread, g.first, p.id, p.ancestors, p.limits
            FROM unnest(placed, parents, firsts) g (thread, parent, first)
            JOIN threads p ON p.id = g.parent AND cardinality(p.ancestors) >= segments_max
            WHERE g.thread IS DISTINCT FROM g.parent
        LOOP
            INSERT INTO items (project, thread, position, id, body)
            SELECT i.project, deep.thread, i.position, i.id, i.body
            FROM unnest(deep.ancestors || deep.id, deep.limits || deep.first) s (thread, upto)
            JOIN items i ON i.thread = s.thread AND i.position < s.upto ORDER BY i.position;
        END LOOP;
    END IF;

    INSERT INTO items (project, thread, position, id, body)
    SELECT projects[i.op], placed[i.op], i.position, i.id, i.body
    FROM unnest(item_ops, item_positions, item_ids, item_bodies) i (op, position, id, body);

    IF cardinality(blob_hashes) > 0 THEN
        INSERT INTO blobs AS b (project, sha256, uses)
        SELECT g.project, g.sha256, g.uses FROM unnest(blob_projects, blob_hashes, blob_uses) g (project, sha256, uses)
        ORDER BY g.project, g.sha256
        ON CONFLICT (project, sha256) DO UPDATE SET uses = b.uses + EXCLUDED.uses;
        SELECT array_agg(b.id ORDER BY g.n) INTO numbers
        FROM unnest(blob_projects, blob_hashes) WITH ORDINALITY AS g (project, sha256, n)
        JOIN blobs b ON b.project = g.project AND b.sha256 = g.sha256;
        INSERT INTO blob_bytes (id, bytes)
        SELECT g.id, g.data FROM unnest(numbers, blob_datas) g (id, data) WHERE g.data IS NOT NULL
        ON CONFLICT DO NOTHING;
        IF EXISTS (
            SELECT FROM unnest(numbers, blob_datas) g (id, data)
            WHERE g.data IS NULL AND NOT EXISTS (SELECT FROM blob_bytes b WHERE b.id = g.id)
        ) THEN
            RAISE EXCEPTION USING ERRCODE = 'AP001', MESSAGE = 'the bytes of a new blob are wanted';
        END IF;
    END IF;

    INSERT INTO responses (project, id, thread, first, middle, upto, created, expires, background, streamed, stored,
        status, outcome, small, large, blobs, request)
    SELECT r.project, r.id, r.thread, r.first, r.middle, r.upto, r.created, r.expires,
        r.flags & 2 <> 0, r.flags & 4 <> 0, r.flags & 8 <> 0, r.status, r.outcome, r.small, r.large,
        ARRAY(SELECT numbers[u.blob] FROM unnest(uses[r.use_first : r.use_last]) WITH ORDINALITY AS u (blob, n)
            ORDER BY u.n),
        r.request
    FROM unnest(projects, ids, placed, firsts, middles, uptos, created, expiries, flags, statuses, outcomes, smalls,
        larges, requests, use_firsts, use_lasts) r (project, id, thread, first, middle, upto, created, expires, flags,
        status, outcome, small, large, request, use_first, use_last);
END $$;

-- Events of background runs; those of a run that is gone or has ended are passed over.
CREATE FUNCTION append_events_1(
    projects text[], ids text[], firsts bigint[], lasts bigint[], frames bytea[]
) RETURNS void LANGUAGE sql AS $$
    INSERT INTO events (run, first_seq, last_seq, frames)
    SELECT r.row, g.first_seq, g.last_seq, g.frames
    FROM unnest(projects, ids, firsts, lasts, frames) g (project, id, first_seq, last_seq, frames)
    JOIN responses r ON r.project = g.project AND r.id = g.id AND r.status IN ('queued', 'in_progress');
$$;

-- The ends of background runs, fenced by their status.  Returns the places of those that ended now.
CREATE FUNCTION finish_runs_1(
    projects text[], ids text[], lengths integer[], expiries bigint[], statuses text[], outcomes bytea[],
    item_ops integer[], item_offsets integer[], item_ids text[], item_bodies bytea[],
    event_firsts bigint[], event_lasts bigint[], event_frames bytea[]
) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    runs bigint[] := array_fill(NULL::bigint, ARRAY[cardinality(ids)]);
    spans bigint[] := runs;
    middles bigint[] := runs;
    run record;
BEGIN
    PERFORM FROM responses r JOIN unnest(projects, ids) g (project, id) ON r.project = g.project AND r.id = g.id
    ORDER BY r.row FOR NO KEY UPDATE OF r;
    FOR run IN
        UPDATE responses r SET upto = r.middle + g.length, expires = g.expires, status = g.status, outcome = g.outcome
        FROM unnest(projects, ids, lengths, expiries, statuses, outcomes)
            WITH ORDINALITY AS g (project, id, length, expires, status, outcome, n)
        WHERE r.project = g.project AND r.id = g.id AND r.status IN ('queued', 'in_progress')
        RETURNING g.n, r.row, r.thread, r.middle
    LOOP
        runs[run.n] := run.row;
        spans[run.n] := run.thread;
        middles[run.n] := run.middle;
    END LOOP;

    PERFORM FROM threads WHERE id = ANY (spans) ORDER BY id DESC FOR NO KEY UPDATE;
    UPDATE threads t SET tip = g.middle + g.length
    FROM unnest(spans, middles, lengths) g (thread, middle, length) WHERE t.id = g.thread;
    INSERT INTO items (project, thread, position, id, body)
    SELECT projects[i.op], spans[i.op], middles[i.op] + i.distance, i.id, i.body
    FROM unnest(item_ops, item_offsets, item_ids, item_bodies) i (op, distance, id, body)
    WHERE runs[i.op] IS NOT NULL;
    INSERT INTO events (run, first_seq, last_seq, frames)
    SELECT e.run, e.first_seq, e.last_seq, e.frames
    FROM unnest(runs, event_firsts, event_lasts, event_frames) e (run, first_seq, last_seq, frames)
    WHERE e.run IS NOT NULL AND e.first_seq IS NOT NULL;
    RETURN ARRAY(SELECT r.n FROM unnest(runs) WITH ORDINALITY AS r (run, n) WHERE r.run IS NOT NULL);
END $$;

-- Drops the ends of threads that nobody needs, and goes on with the parent of one of which nothing is left.
CREATE FUNCTION trim_threads_1(todo bigint[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    current bigint;
    thread threads%ROWTYPE;
    needed bigint;
    pinned bigint;
BEGIN
    WHILE cardinality(todo) > 0 LOOP
        SELECT max(t) INTO current FROM unnest(todo) t;
        todo := array_remove(todo, current);
        -- Locked against whoever would continue or pin it; what they wrote before is seen by the statements below.
        SELECT * INTO thread FROM threads WHERE id = current FOR UPDATE;
        CONTINUE WHEN NOT FOUND;
        needed := greatest(
            (SELECT max(upto) FROM responses r WHERE r.thread = current),
            (SELECT max(base) FROM threads t WHERE t.parent = current),
            -1
        );
        SELECT coalesce(max(upto), -1) INTO pinned FROM pins p WHERE p.thread = current AND p.until > now();
        DELETE FROM items i WHERE i.thread = current AND i.position >= greatest(needed, pinned);
        IF greatest(needed, pinned) >= thread.base THEN
            UPDATE threads SET tip = greatest(needed, pinned), held = pinned > needed WHERE id = current;
        ELSE
            DELETE FROM threads WHERE id = current;
            todo := todo || thread.parent;
        END IF;
    END LOOP;
END $$;

-- Responses with everything that only they needed.  Returns the places of those that there were.
CREATE FUNCTION remove_responses_1(projects text[], ids text[]) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    gone bigint[];
    ended bigint[];
    unused bigint[];
BEGIN
    PERFORM FROM responses r JOIN unnest(projects, ids) g (project, id) ON r.project = g.project AND r.id = g.id
    ORDER BY r.row FOR UPDATE OF r;
    WITH gone_rows AS (
        DELETE FROM responses r USING unnest(projects, ids) WITH ORDINALITY AS g (project, id, n)
        WHERE r.project = g.project AND r.id = g.id RETURNING g.n, r.row, r.thread, r.blobs
    ), gone_events AS (
        DELETE FROM events e USING gone_rows g WHERE e.run = g.row
    ), gone_journal AS (
        DELETE FROM journal j USING gone_rows g WHERE j.run = g.row
    )
    SELECT array_agg(n), array_agg(DISTINCT thread), (SELECT array_agg(b) FROM gone_rows, unnest(blobs) b)
    INTO gone, ended, unused FROM gone_rows;

    PERFORM trim_threads_1(coalesce(ended, '{}'));

    IF unused IS NOT NULL THEN
        PERFORM FROM blobs WHERE id = ANY (unused) ORDER BY project, sha256 FOR UPDATE;
        UPDATE blobs b SET uses = b.uses - c.uses
        FROM (SELECT u AS id, count(*) AS uses FROM unnest(unused) u GROUP BY u) c WHERE b.id = c.id;
        WITH gone_blobs AS (
            DELETE FROM blobs WHERE id = ANY (unused) AND uses <= 0 RETURNING id
        )
        DELETE FROM blob_bytes b USING gone_blobs g WHERE b.id = g.id;
    END IF;
    RETURN coalesce(gone, '{}');
END $$;

-- Responses that are past their time.  Returns how many there were.
CREATE FUNCTION expire_responses_1(deadline bigint, most integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    projects text[];
    ids text[];
BEGIN
    SELECT array_agg(r.project), array_agg(r.id) INTO projects, ids
    FROM (SELECT project, id FROM responses WHERE expires <= deadline ORDER BY expires LIMIT most) r;
    RETURN CASE WHEN ids IS NULL THEN 0 ELSE cardinality(remove_responses_1(projects, ids)) END;
END $$;

-- What lapsed pins held; apart from the expiry, which locks responses before threads.
CREATE FUNCTION sweep_pins_1(most integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM pins WHERE until <= now();
    PERFORM trim_threads_1(ARRAY(SELECT id FROM threads WHERE held LIMIT most));
END $$;

-- Pins that are let go, and what they alone held.
CREATE FUNCTION release_pins_1(mine bigint, given bigint[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    freed bigint[];
BEGIN
    WITH gone AS (
        DELETE FROM pins WHERE owner = mine AND number = ANY (given) RETURNING thread
    )
    SELECT array_agg(DISTINCT thread) INTO freed FROM gone;
    PERFORM trim_threads_1(ARRAY(SELECT id FROM threads WHERE id = ANY (freed) AND held));
END $$;

-- The intents of hosted calls.  Returns for each the result, if the call was completed before; `present`: the run is there.
CREATE FUNCTION begin_calls_1(projects text[], ids text[], calls text[], intents bytea[])
RETURNS TABLE (present boolean, result bytea) LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO journal (run, call, intent)
    SELECT r.row, g.call, g.intent FROM unnest(projects, ids, calls, intents) g (project, id, call, intent)
    JOIN responses r ON r.project = g.project AND r.id = g.id
    ON CONFLICT DO NOTHING;
    RETURN QUERY
    SELECT r.row IS NOT NULL, j.result
    FROM unnest(projects, ids, calls) WITH ORDINALITY AS g (project, id, call, n)
    LEFT JOIN responses r ON r.project = g.project AND r.id = g.id
    LEFT JOIN journal j ON j.run = r.row AND j.call = g.call
    ORDER BY g.n;
END $$;
