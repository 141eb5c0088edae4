-- The rolling hashes behind a response's input and behind its output, by which a request finds it that sends the same
-- items again; NULL where it cannot, and where the last release wrote it.  They go with their response.
ALTER TABLE responses ADD COLUMN input_hash bytea, ADD COLUMN full_hash bytea;
CREATE INDEX responses_by_input ON responses (project, input_hash, row) WHERE input_hash IS NOT NULL;
CREATE INDEX responses_by_context ON responses (project, full_hash, row) WHERE full_hash IS NOT NULL;

-- As write_responses_1, with the hashes.
CREATE FUNCTION write_responses_2(
    projects text[], ids text[], parents bigint[], firsts bigint[], middles bigint[], uptos bigint[], flags smallint[],
    created bigint[], expiries bigint[], statuses text[], outcomes bytea[], smalls bytea[], larges bytea[],
    requests bytea[], use_firsts integer[], use_lasts integer[], input_hashes bytea[], full_hashes bytea[],
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
        INSERT INTO threads (id, project, parent, base, tip, ancestors, limits, starts)
        SELECT g.thread, g.project, p.id, CASE WHEN p.id IS NULL THEN 0 ELSE g.first END, g.upto,
            CASE WHEN p.id IS NULL THEN '{}' ELSE p.ancestors || p.id END,
            CASE WHEN p.id IS NULL THEN '{}' ELSE p.limits || g.first END, p.starts
        FROM unnest(placed, projects, parents, firsts, uptos) g (thread, project, parent, first, upto)
        LEFT JOIN threads p ON p.id = g.parent AND cardinality(p.ancestors) < segments_max
        WHERE g.thread IS DISTINCT FROM g.parent;

        -- A fork that is too deep gets its own copy of what it continues.
        FOR deep IN
            SELECT g.thread, g.first, p.id, p.ancestors, p.limits, p.starts
            FROM unnest(placed, parents, firsts) g (thread, parent, first)
            JOIN threads p ON p.id = g.parent AND cardinality(p.ancestors) >= segments_max
            WHERE g.thread IS DISTINCT FROM g.parent
        LOOP
            INSERT INTO items (project, thread, position, id, body)
            SELECT i.project, deep.thread, i.position, i.id, i.body
            FROM unnest(deep.ancestors || deep.id, deep.limits || deep.first, deep.starts) s (thread, upto, start)
            JOIN items i ON i.thread = s.thread AND i.position < s.upto AND i.position >= coalesce(s.start, 0)
            ORDER BY i.position;
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
        status, outcome, small, large, blobs, request, input_hash, full_hash)
    SELECT r.project, r.id, r.thread, r.first, r.middle, r.upto, r.created, r.expires,
        r.flags & 2 <> 0, r.flags & 4 <> 0, r.flags & 8 <> 0, r.status, r.outcome, r.small, r.large,
        ARRAY(SELECT numbers[u.blob] FROM unnest(uses[r.use_first : r.use_last]) WITH ORDINALITY AS u (blob, n)
            ORDER BY u.n),
        r.request, r.input_hash, r.full_hash
    FROM unnest(projects, ids, placed, firsts, middles, uptos, created, expiries, flags, statuses, outcomes, smalls,
        larges, requests, use_firsts, use_lasts, input_hashes, full_hashes) r (project, id, thread, first, middle, upto,
        created, expires, flags, status, outcome, small, large, request, use_first, use_last, input_hash, full_hash);
END $$;

-- As begin_runs_1, likewise.
CREATE FUNCTION begin_runs_2(
    projects text[], ids text[], parents bigint[], firsts bigint[], middles bigint[], uptos bigint[], flags smallint[],
    created bigint[], expiries bigint[], statuses text[], outcomes bytea[], smalls bytea[], larges bytea[],
    requests bytea[], use_firsts integer[], use_lasts integer[], input_hashes bytea[], full_hashes bytea[],
    item_ops integer[], item_positions bigint[], item_ids text[], item_bodies bytea[],
    blob_projects text[], blob_hashes bytea[], blob_uses bigint[], blob_datas bytea[],
    uses integer[],
    segments_max integer
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM write_responses_2(projects, ids, parents, firsts, middles, uptos, flags, created, expiries, statuses,
        outcomes, smalls, larges, requests, use_firsts, use_lasts, input_hashes, full_hashes, item_ops, item_positions,
        item_ids, item_bodies, blob_projects, blob_hashes, blob_uses, blob_datas, uses, segments_max);
    INSERT INTO runs (run, fence, last_seq, attempt, progress, ended)
    SELECT r.row, 1, -1, 0, -1, false FROM unnest(projects, ids) g (project, id)
    JOIN responses r ON r.project = g.project AND r.id = g.id;
END $$;

-- As save_held_1, likewise.
CREATE FUNCTION save_held_2(
    projects text[], ids text[], parents bigint[], firsts bigint[], middles bigint[], uptos bigint[], flags smallint[],
    created bigint[], expiries bigint[], statuses text[], outcomes bytea[], smalls bytea[], larges bytea[],
    requests bytea[], use_firsts integer[], use_lasts integer[], input_hashes bytea[], full_hashes bytea[],
    item_ops integer[], item_positions bigint[], item_ids text[], item_bodies bytea[],
    blob_projects text[], blob_hashes bytea[], blob_uses bigint[], blob_datas bytea[],
    uses integer[],
    segments_max integer, inside text[]
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM check_holds_1(projects, ids, inside);
    PERFORM write_responses_2(projects, ids, parents, firsts, middles, uptos, flags, created, expiries, statuses,
        outcomes, smalls, larges, requests, use_firsts, use_lasts, input_hashes, full_hashes, item_ops, item_positions,
        item_ids, item_bodies, blob_projects, blob_hashes, blob_uses, blob_datas, uses, segments_max);
    PERFORM move_conversations_1(projects, ids);
END $$;

-- As begin_held_1, likewise.
CREATE FUNCTION begin_held_2(
    projects text[], ids text[], parents bigint[], firsts bigint[], middles bigint[], uptos bigint[], flags smallint[],
    created bigint[], expiries bigint[], statuses text[], outcomes bytea[], smalls bytea[], larges bytea[],
    requests bytea[], use_firsts integer[], use_lasts integer[], input_hashes bytea[], full_hashes bytea[],
    item_ops integer[], item_positions bigint[], item_ids text[], item_bodies bytea[],
    blob_projects text[], blob_hashes bytea[], blob_uses bigint[], blob_datas bytea[],
    uses integer[],
    segments_max integer, inside text[]
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM check_holds_1(projects, ids, inside);
    PERFORM begin_runs_2(projects, ids, parents, firsts, middles, uptos, flags, created, expiries, statuses,
        outcomes, smalls, larges, requests, use_firsts, use_lasts, input_hashes, full_hashes, item_ops, item_positions,
        item_ids, item_bodies, blob_projects, blob_hashes, blob_uses, blob_datas, uses, segments_max);
END $$;

-- As finish_runs_2, with the hashes behind the outputs.
CREATE FUNCTION end_runs_1(
    projects text[], ids text[], fences bigint[], firsts bigint[], lasts bigint[],
    lengths integer[], expiries bigint[], statuses text[], outcomes bytea[], full_hashes bytea[],
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
        UPDATE responses r SET upto = r.middle + g.length, expires = g.expires, status = g.status, outcome = g.outcome,
            full_hash = g.full_hash
        FROM unnest(results, projects, ids, lengths, expiries, statuses, outcomes, full_hashes)
            WITH ORDINALITY AS g (result, project, id, length, expires, status, outcome, full_hash, n)
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

-- As finish_runs_4, likewise.
CREATE FUNCTION finish_runs_5(
    projects text[], ids text[], fences bigint[], firsts bigint[], lasts bigint[],
    lengths integer[], expiries bigint[], statuses text[], outcomes bytea[], full_hashes bytea[],
    item_ops integer[], item_offsets integer[], item_ids text[], item_bodies bytea[],
    batch_ops integer[], batch_firsts bigint[], batch_lasts bigint[], batch_frames bytea[]
) RETURNS integer[] LANGUAGE plpgsql AS $$
DECLARE
    results integer[];
    fresh boolean[];
BEGIN
    PERFORM FROM conversations c JOIN unnest(projects, ids) g (project, id)
        ON c.project = g.project AND c.holder = g.id
    ORDER BY c.row FOR NO KEY UPDATE OF c;
    PERFORM FROM responses r JOIN unnest(projects, ids) g (project, id) ON r.project = g.project AND r.id = g.id
    ORDER BY r.row FOR NO KEY UPDATE OF r;
    fresh := ARRAY(
        SELECT r.status IS NOT NULL FROM unnest(projects, ids) WITH ORDINALITY AS g (project, id, n)
        LEFT JOIN responses r ON r.project = g.project AND r.id = g.id
            AND r.status NOT IN ('completed', 'incomplete', 'failed', 'cancelled')
        ORDER BY g.n
    );
    results := end_runs_1(projects, ids, fences, firsts, lasts, lengths, expiries, statuses, outcomes, full_hashes,
        item_ops, item_offsets, item_ids, item_bodies, batch_ops, batch_firsts, batch_lasts, batch_frames);
    PERFORM move_conversations_1(projects, ids);
    INSERT INTO outbox (project, endpoint, response, type, created, due)
    SELECT l.project, l.row, l.id, l.type, floor(extract(epoch FROM clock_timestamp())), clock_timestamp()
    FROM (
        SELECT g.project, e.row, g.id, 'response.' || g.status AS type
        FROM unnest(results, fresh, projects, ids, statuses) g (result, fresh, project, id, status)
        JOIN webhook_endpoints e ON e.project = g.project AND e.disabled IS NULL
            AND 'response.' || g.status = ANY (e.event_types)
        WHERE g.result = 1 AND g.fresh
        ORDER BY e.row FOR KEY SHARE OF e
    ) l;
    RETURN results;
END $$;
