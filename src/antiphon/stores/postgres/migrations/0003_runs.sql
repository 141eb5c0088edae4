-- Background runs have owners (docs/log.md).  The last release may still run beside this one: its functions stay, what
-- it begins is given a row here by the first claim, and what it wrote to a log by then counts.
--
-- Lock order: responses by row, then runs by run (which is that row), then threads and blobs as in 0001_start.sql.
-- Whoever writes to a log or a journal locks the run's row first, so that a claim comes before it or after it (I2).
--
-- Statuses are asked for as NOT IN: IN would match the index of unfinished responses, and a plan that was made while
-- the tables were empty would read all of that for every call.

-- A background run, from its begin until its log is packed or its response is deleted.  `fence`: raised by each claim;
-- only who knows it may write.  `last_seq`: the number of the last durable event.  `attempt`: takeovers since the log
-- stood at `progress`; -1 when the owner handed the run back.  `claimed`: the token of the last claim, so that one
-- whose outcome nobody heard can be repeated.  Nothing indexed changes but at the end, and pages are filled to half,
-- so that an update stays in its page (heap-only tuples).
CREATE TABLE runs (
    run bigint PRIMARY KEY,
    fence bigint NOT NULL,
    last_seq bigint NOT NULL,
    attempt integer NOT NULL,
    progress bigint NOT NULL,
    ended boolean NOT NULL,
    claimed bigint
) WITH (fillfactor = 50);
CREATE INDEX runs_ended ON runs (run) WHERE ended;

-- What earlier releases left: unfinished runs, and ended ones whose logs are still to be packed.
INSERT INTO runs (run, fence, last_seq, attempt, progress, ended)
SELECT r.row, 1, coalesce(e.last_seq, -1), 0, -1, r.status NOT IN ('queued', 'in_progress')
FROM responses r
LEFT JOIN LATERAL (
    SELECT last_seq FROM events WHERE run = r.row ORDER BY first_seq DESC LIMIT 1
) e ON true
WHERE r.background AND (e.last_seq IS NOT NULL OR r.status IN ('queued', 'in_progress'));

-- `packed`: the frames are compressed, and the run has ended (stores/rows.py).
ALTER TABLE events ADD COLUMN packed boolean NOT NULL DEFAULT false;
-- Hosted calls in the order in which they were begun.
ALTER TABLE journal ADD COLUMN number bigint GENERATED ALWAYS AS IDENTITY;

-- Background runs that are about to start: responses with a row in `runs`, owned with the first fence.
CREATE FUNCTION begin_runs_1(
    projects text[], ids text[], parents bigint[], firsts bigint[], middles bigint[], uptos bigint[], flags smallint[],
    created bigint[], expiries bigint[], statuses text[], outcomes bytea[], smalls bytea[], larges bytea[],
    requests bytea[], use_firsts integer[], use_lasts integer[],
    item_ops integer[], item_positions bigint[], item_ids text[], item_bodies bytea[],
    blob_projects text[], blob_hashes bytea[], blob_uses bigint[], blob_datas bytea[],
    uses integer[],
    segments_max integer
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM write_responses_1(projects, ids, parents, firsts, middles, uptos, flags, created, expiries, statuses,
        outcomes, smalls, larges, requests, use_firsts, use_lasts, item_ops, item_positions, item_ids, item_bodies,
        blob_projects, blob_hashes, blob_uses, blob_datas, uses, segments_max);
    INSERT INTO runs (run, fence, last_seq, attempt, progress, ended)
    SELECT r.row, 1, -1, 0, -1, false FROM unnest(projects, ids) g (project, id)
    JOIN responses r ON r.project = g.project AND r.id = g.id;
END $$;

-- Frames without the first so many.  They are bytes, and stay the same in an encoding where each byte is a letter.
CREATE FUNCTION rest_of_frames_1(frames bytea, skipped bigint) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT convert_to(
        array_to_string((string_to_array(convert_from(frames, 'LATIN1'), chr(30)))[skipped + 1 :], chr(30)), 'LATIN1');
$$;

-- Events of background runs.  The n-th of the first arrays is a stretch of one run without gap, numbers `firsts` to
-- `lasts` (NULL: nothing to write), and each batch names its stretch; what is durable of it already is left out (I3).
-- Returns for each stretch: 0 the run is not the writer's, or has ended; 1 durable; 2 it would leave a gap.
CREATE FUNCTION append_events_2(
    projects text[], ids text[], fences bigint[], firsts bigint[], lasts bigint[],
    batch_ops integer[], batch_firsts bigint[], batch_lasts bigint[], batch_frames bytea[]
) RETURNS integer[] LANGUAGE plpgsql AS $$
DECLARE
    results integer[] := array_fill(0, ARRAY[cardinality(ids)]);
    numbers bigint[] := array_fill(NULL::bigint, ARRAY[cardinality(ids)]);
    known bigint[] := numbers;
    stretch record;
BEGIN
    FOR stretch IN
        UPDATE runs u SET last_seq = greatest(l.known, CASE WHEN l.fits THEN l.last_seq END)
        FROM (
            SELECT g.n, g.last_seq, o.run, o.last_seq AS known, coalesce(g.first_seq <= o.last_seq + 1, true) AS fits
            FROM unnest(projects, ids, fences, firsts, lasts)
                WITH ORDINALITY AS g (project, id, fence, first_seq, last_seq, n)
            JOIN responses r ON r.project = g.project AND r.id = g.id
                AND r.status NOT IN ('completed', 'incomplete', 'failed', 'cancelled')
            JOIN runs o ON o.run = r.row AND o.fence = g.fence AND NOT o.ended
            ORDER BY o.run FOR NO KEY UPDATE OF o
        ) l
        WHERE u.run = l.run
        RETURNING l.n, l.run, l.known, l.fits
    LOOP
        results[stretch.n] := CASE WHEN stretch.fits THEN 1 ELSE 2 END;
        numbers[stretch.n] := stretch.run;
        known[stretch.n] := stretch.known;
    END LOOP;

    INSERT INTO events (run, first_seq, last_seq, frames)
    SELECT numbers[b.op], greatest(b.first_seq, known[b.op] + 1), b.last_seq,
        CASE WHEN b.first_seq > known[b.op] THEN b.frames
            ELSE rest_of_frames_1(b.frames, known[b.op] + 1 - b.first_seq) END
    FROM unnest(batch_ops, batch_firsts, batch_lasts, batch_frames) b (op, first_seq, last_seq, frames)
    WHERE results[b.op] = 1 AND b.last_seq > known[b.op];
    RETURN results;
END $$;

-- The ends of background runs.  The events are given as to append_events_2, and what it returns means the same; an end
-- that the same owner has written before is written (I6).
CREATE FUNCTION finish_runs_2(
    projects text[], ids text[], fences bigint[], firsts bigint[], lasts bigint[],
    lengths integer[], expiries bigint[], statuses text[], outcomes bytea[],
    item_ops integer[], item_offsets integer[], item_ids text[], item_bodies bytea[],
    batch_ops integer[], batch_firsts bigint[], batch_lasts bigint[], batch_frames bytea[]
) RETURNS integer[] LANGUAGE plpgsql AS $$
DECLARE
    results integer[];
    numbers bigint[] := array_fill(NULL::bigint, ARRAY[cardinality(ids)]);
    spans bigint[] := numbers;
    middles bigint[] := numbers;
    ended record;
BEGIN
    PERFORM FROM responses r JOIN unnest(projects, ids) g (project, id) ON r.project = g.project AND r.id = g.id
    ORDER BY r.row FOR NO KEY UPDATE OF r;
    results := append_events_2(
        projects, ids, fences, firsts, lasts, batch_ops, batch_firsts, batch_lasts, batch_frames);
    FOR ended IN
        UPDATE responses r SET upto = r.middle + g.length, expires = g.expires, status = g.status, outcome = g.outcome
        FROM unnest(results, projects, ids, lengths, expiries, statuses, outcomes)
            WITH ORDINALITY AS g (result, project, id, length, expires, status, outcome, n)
        WHERE g.result = 1 AND r.project = g.project AND r.id = g.id
        RETURNING g.n, r.row, r.thread, r.middle
    LOOP
        numbers[ended.n] := ended.row;
        spans[ended.n] := ended.thread;
        middles[ended.n] := ended.middle;
    END LOOP;
    UPDATE runs u SET ended = true FROM unnest(numbers) g (run) WHERE u.run = g.run;

    PERFORM FROM threads WHERE id = ANY (spans) ORDER BY id DESC FOR NO KEY UPDATE;
    UPDATE threads t SET tip = g.middle + g.length
    FROM unnest(spans, middles, lengths) g (thread, middle, length) WHERE t.id = g.thread;
    INSERT INTO items (project, thread, position, id, body)
    SELECT projects[i.op], spans[i.op], middles[i.op] + i.distance, i.id, i.body
    FROM unnest(item_ops, item_offsets, item_ids, item_bodies) i (op, distance, id, body)
    WHERE numbers[i.op] IS NOT NULL;

    RETURN ARRAY(
        SELECT CASE WHEN u.run IS NULL THEN g.result ELSE 1 END
        FROM unnest(results, projects, ids, fences) WITH ORDINALITY AS g (result, project, id, fence, n)
        LEFT JOIN responses r ON r.project = g.project AND r.id = g.id
        LEFT JOIN runs u ON u.run = r.row AND u.fence = g.fence AND u.ended
        ORDER BY g.n
    );
END $$;

-- Takes runs over: each is the caller's from the commit on, whoever had it before is refused (I2).  Returns one row for
-- each, empty where there is no run or it has ended.
CREATE FUNCTION claim_runs_1(projects text[], ids text[], tokens bigint[])
RETURNS TABLE (fence bigint, last_seq bigint, attempt integer) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    INSERT INTO runs (run, fence, last_seq, attempt, progress, ended)
    SELECT b.row, 1, -1, 0, -1, false FROM (
        SELECT r.row FROM unnest(projects, ids) g (project, id)
        JOIN responses r ON r.project = g.project AND r.id = g.id
        WHERE r.background AND r.status NOT IN ('completed', 'incomplete', 'failed', 'cancelled')
        ORDER BY r.row FOR KEY SHARE OF r
    ) b
    ON CONFLICT DO NOTHING;

    UPDATE runs u SET fence = u.fence + 1, last_seq = l.last_seq, progress = l.last_seq, claimed = l.token,
        attempt = CASE WHEN u.attempt < 0 THEN 0 WHEN l.last_seq > u.progress THEN 1 ELSE u.attempt + 1 END
    FROM (
        SELECT o.run, g.token, greatest(o.last_seq, (
            SELECT e.last_seq FROM events e WHERE e.run = o.run ORDER BY e.first_seq DESC LIMIT 1
        )) AS last_seq
        FROM unnest(projects, ids, tokens) g (project, id, token)
        JOIN responses r ON r.project = g.project AND r.id = g.id
            AND r.status NOT IN ('completed', 'incomplete', 'failed', 'cancelled')
        JOIN runs o ON o.run = r.row AND NOT o.ended AND o.claimed IS DISTINCT FROM g.token
        ORDER BY o.run FOR NO KEY UPDATE OF o
    ) l
    WHERE u.run = l.run;

    RETURN QUERY
    SELECT u.fence, u.last_seq, u.attempt FROM unnest(projects, ids, tokens)
        WITH ORDINALITY AS g (project, id, token, n)
    LEFT JOIN responses r ON r.project = g.project AND r.id = g.id
    LEFT JOIN runs u ON u.run = r.row AND u.claimed = g.token AND NOT u.ended
    ORDER BY g.n;
END $$;

-- Runs that their owner gives up in good order: the next claim of each is no takeover, and earlier ones are forgotten.
CREATE FUNCTION hand_back_runs_1(projects text[], ids text[], fences bigint[]) RETURNS void LANGUAGE sql AS $$
    UPDATE runs u SET attempt = -1
    FROM (
        SELECT o.run FROM unnest(projects, ids, fences) g (project, id, fence)
        JOIN responses r ON r.project = g.project AND r.id = g.id
        JOIN runs o ON o.run = r.row AND o.fence = g.fence AND NOT o.ended
        ORDER BY o.run FOR NO KEY UPDATE OF o
    ) l
    WHERE u.run = l.run;
$$;

-- The rows in `runs` that these calls belong to, locked; NULL where the run is not the caller's, or has ended.
CREATE FUNCTION lock_runs_1(projects text[], ids text[], fences bigint[]) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    numbers bigint[] := array_fill(NULL::bigint, ARRAY[cardinality(ids)]);
    owned record;
BEGIN
    FOR owned IN
        SELECT g.n, u.run FROM unnest(projects, ids, fences) WITH ORDINALITY AS g (project, id, fence, n)
        JOIN responses r ON r.project = g.project AND r.id = g.id
            AND r.status NOT IN ('completed', 'incomplete', 'failed', 'cancelled')
        JOIN runs u ON u.run = r.row AND u.fence = g.fence AND NOT u.ended
        ORDER BY u.run FOR NO KEY UPDATE OF u
    LOOP
        numbers[owned.n] := owned.run;
    END LOOP;
    RETURN numbers;
END $$;

-- The intents of hosted calls; one that is there already stays as it is (I8).  Returns which runs are the caller's.
CREATE FUNCTION begin_calls_2(projects text[], ids text[], fences bigint[], calls text[], intents bytea[])
RETURNS boolean[] LANGUAGE plpgsql AS $$
DECLARE
    numbers bigint[] := lock_runs_1(projects, ids, fences);
BEGIN
    INSERT INTO journal (run, call, intent)
    SELECT g.run, g.call, g.intent FROM unnest(numbers, calls, intents) WITH ORDINALITY AS g (run, call, intent, n)
    WHERE g.run IS NOT NULL ORDER BY g.n
    ON CONFLICT DO NOTHING;
    RETURN ARRAY(SELECT g.run IS NOT NULL FROM unnest(numbers) WITH ORDINALITY AS g (run, n) ORDER BY g.n);
END $$;

-- The results of hosted calls, likewise.
CREATE FUNCTION complete_calls_1(projects text[], ids text[], fences bigint[], calls text[], results bytea[])
RETURNS boolean[] LANGUAGE plpgsql AS $$
DECLARE
    numbers bigint[] := lock_runs_1(projects, ids, fences);
BEGIN
    UPDATE journal j SET result = g.result FROM unnest(numbers, calls, results) g (run, call, result)
    WHERE j.run = g.run AND j.call = g.call;
    RETURN ARRAY(SELECT g.run IS NOT NULL FROM unnest(numbers) WITH ORDINALITY AS g (run, n) ORDER BY g.n);
END $$;

-- Logs of ended runs, packed: rows take the place of those that hold the same events (I11).  What was deleted or packed
-- by another meanwhile is passed over.
CREATE FUNCTION compact_runs_1(
    numbers bigint[], row_ops integer[], row_firsts bigint[], row_lasts bigint[], row_frames bytea[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    mine bigint[];
BEGIN
    SELECT array_agg(u.run) INTO mine FROM (
        SELECT run FROM runs WHERE run = ANY (numbers) AND ended ORDER BY run FOR UPDATE
    ) u;
    DELETE FROM events e USING unnest(row_ops, row_firsts, row_lasts) p (op, first_seq, last_seq)
    WHERE numbers[p.op] = ANY (mine)
        AND e.run = numbers[p.op] AND e.first_seq BETWEEN p.first_seq AND p.last_seq;
    INSERT INTO events (run, first_seq, last_seq, frames, packed)
    SELECT numbers[p.op], p.first_seq, p.last_seq, p.frames, true
    FROM unnest(row_ops, row_firsts, row_lasts, row_frames) p (op, first_seq, last_seq, frames)
    WHERE numbers[p.op] = ANY (mine);
    DELETE FROM runs WHERE run = ANY (mine);
END $$;

-- As remove_responses_1, with the rows of `runs`.
CREATE FUNCTION remove_responses_2(projects text[], ids text[]) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    doomed bigint[];
BEGIN
    SELECT array_agg(d.row) INTO doomed FROM (
        SELECT r.row FROM responses r JOIN unnest(projects, ids) g (project, id)
            ON r.project = g.project AND r.id = g.id
        ORDER BY r.row FOR UPDATE OF r
    ) d;
    PERFORM FROM runs WHERE run = ANY (doomed) ORDER BY run FOR UPDATE;
    DELETE FROM runs WHERE run = ANY (doomed);
    RETURN remove_responses_1(projects, ids);
END $$;

-- As expire_responses_1, with the rows of `runs`.
CREATE FUNCTION expire_responses_2(deadline bigint, most integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    projects text[];
    ids text[];
BEGIN
    SELECT array_agg(r.project), array_agg(r.id) INTO projects, ids
    FROM (SELECT project, id FROM responses WHERE expires <= deadline ORDER BY expires LIMIT most) r;
    RETURN CASE WHEN ids IS NULL THEN 0 ELSE cardinality(remove_responses_2(projects, ids)) END;
END $$;
