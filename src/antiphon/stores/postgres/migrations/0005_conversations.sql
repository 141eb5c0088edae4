-- A conversation is everything of `thread` and its ancestry below position `upto`; it moves on as it grows.  `holder` is
-- the response that runs in it, until its end is written, or until `until` where it is no unfinished background run.
-- `written`: the token of the last write, so that one whose outcome nobody heard can be repeated.
--
-- Lock order: conversations by row, before everything else (0001_start.sql, 0003_runs.sql).
CREATE TABLE conversations (
    row bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    created bigint NOT NULL,
    metadata bytea NOT NULL,
    thread bigint NOT NULL,
    upto bigint NOT NULL,
    holder text COLLATE "C",
    until timestamptz,
    written text COLLATE "C"
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX conversations_by_id ON conversations (project, id);
CREATE INDEX conversations_by_thread ON conversations (thread);
CREATE INDEX conversations_by_holder ON conversations (project, holder) WHERE holder IS NOT NULL;

-- Items that a conversation took out and that something else may still need.  The conversation goes on with a thread
-- whose ancestry leaves them out: the n-th of `ancestors` is seen from the n-th of `starts` on, NULL for all of it.
CREATE TABLE left_out (
    thread bigint NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (thread, position)
);
ALTER TABLE threads ADD COLUMN starts bigint[];

-- Four functions are replaced in place.  Their arguments and what they return stay, and the last release, which may
-- still run beside this one, must not take away what conversations need.

CREATE OR REPLACE FUNCTION write_responses_1(
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

-- Of the items that conversations left out of a thread, which the caller has locked, those that nothing needs go.  A
-- thread whose ancestry leaves an item out passes it on to none of those that continue it.
CREATE FUNCTION erase_left_out_1(given bigint) RETURNS void LANGUAGE sql AS $$
    WITH RECURSIVE lines (position, at, below) AS (
        SELECT position, thread, position FROM left_out WHERE thread = given
        UNION
        SELECT l.position, t.id, -1 FROM lines l JOIN threads t ON t.parent = l.at
        WHERE EXISTS (
            SELECT FROM unnest(t.ancestors, t.limits, t.starts) s (thread, upto, start)
            WHERE s.thread = given AND l.position < s.upto AND l.position >= coalesce(s.start, 0)
        )
    ), needed AS (
        SELECT l.position FROM lines l
        WHERE EXISTS (SELECT FROM responses r WHERE r.thread = l.at AND r.upto > l.below)
            OR EXISTS (SELECT FROM conversations c WHERE c.thread = l.at AND c.upto > l.below)
            OR EXISTS (SELECT FROM pins p WHERE p.thread = l.at AND p.upto > l.below AND p.until > now())
    ), gone AS (
        DELETE FROM left_out o WHERE o.thread = given AND o.position NOT IN (SELECT position FROM needed)
        RETURNING o.position
    )
    DELETE FROM items i USING gone g WHERE i.thread = given AND i.position = g.position;
$$;

-- Drops the ends of threads that nobody needs, and goes on with the parent of one of which nothing is left; and what
-- conversations left out of these threads and of those before them.
CREATE OR REPLACE FUNCTION trim_threads_1(todo bigint[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    current bigint;
    thread threads%ROWTYPE;
    needed bigint;
    pinned bigint;
    leaving bigint[];
BEGIN
    IF EXISTS (SELECT FROM left_out) THEN
        SELECT array_agg(DISTINCT l.thread) INTO leaving
        FROM threads t CROSS JOIN LATERAL unnest(t.ancestors || t.id) a (thread) JOIN left_out l ON l.thread = a.thread
        WHERE t.id = ANY (todo);
        todo := todo || coalesce(leaving, '{}');
    END IF;
    WHILE cardinality(todo) > 0 LOOP
        SELECT max(t) INTO current FROM unnest(todo) t;
        todo := array_remove(todo, current);
        -- Locked against whoever would continue or pin it; what they wrote before is seen by the statements below.
        SELECT * INTO thread FROM threads WHERE id = current FOR UPDATE;
        CONTINUE WHEN NOT FOUND;
        needed := greatest(
            (SELECT max(upto) FROM responses r WHERE r.thread = current),
            (SELECT max(upto) FROM conversations c WHERE c.thread = current),
            (SELECT max(base) FROM threads t WHERE t.parent = current),
            -1
        );
        SELECT coalesce(max(upto), -1) INTO pinned FROM pins p WHERE p.thread = current AND p.until > now();
        DELETE FROM items i WHERE i.thread = current AND i.position >= greatest(needed, pinned);
        IF current = ANY (leaving) THEN
            DELETE FROM left_out l WHERE l.thread = current AND l.position >= greatest(needed, pinned);
            PERFORM erase_left_out_1(current);
        END IF;
        IF greatest(needed, pinned) >= thread.base THEN
            UPDATE threads SET tip = greatest(needed, pinned), held = pinned > needed WHERE id = current;
        ELSE
            DELETE FROM threads WHERE id = current;
            todo := todo || thread.parent;
        END IF;
    END LOOP;
END $$;

-- Of threads whose pins are gone, those where that may let something go.
CREATE FUNCTION freed_threads_1(given bigint[]) RETURNS bigint[] LANGUAGE sql AS $$
    SELECT array_agg(t.id) FROM threads t
    WHERE t.id = ANY (given) AND (t.held OR EXISTS (
        SELECT FROM left_out l WHERE l.thread = ANY (t.ancestors || t.id)
    ));
$$;

CREATE OR REPLACE FUNCTION sweep_pins_1(most integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    freed bigint[];
BEGIN
    WITH gone AS (
        DELETE FROM pins WHERE until <= now() RETURNING thread
    )
    SELECT array_agg(DISTINCT thread) INTO freed FROM gone;
    PERFORM trim_threads_1(coalesce(freed_threads_1(freed), '{}') || ARRAY(SELECT id FROM threads WHERE held LIMIT most));
END $$;

CREATE OR REPLACE FUNCTION release_pins_1(mine bigint, given bigint[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    freed bigint[];
BEGIN
    WITH gone AS (
        DELETE FROM pins WHERE owner = mine AND number = ANY (given) RETURNING thread
    )
    SELECT array_agg(DISTINCT thread) INTO freed FROM gone;
    PERFORM trim_threads_1(coalesce(freed_threads_1(freed), '{}'));
END $$;

-- Whether a response runs in a conversation: a hold lapses, but not that of an unfinished background run.
CREATE FUNCTION busy_1(project text, holder text, until timestamptz) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT $2 IS NOT NULL AND ($3 > clock_timestamp() OR EXISTS (
        SELECT FROM responses r WHERE r.project = $1 AND r.id = $2
            AND r.status NOT IN ('completed', 'incomplete', 'failed', 'cancelled')
    ));
$$;

-- A new conversation with its first items; said again it changes nothing.
CREATE FUNCTION create_conversation_1(
    given_project text, given_id text, given_created bigint, given_metadata bytea, item_ids text[], item_bodies bytea[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    made bigint;
BEGIN
    IF EXISTS (SELECT FROM conversations c WHERE c.project = given_project AND c.id = given_id) THEN
        RETURN;
    END IF;
    INSERT INTO threads (project, parent, base, tip, ancestors, limits)
    VALUES (given_project, NULL, 0, cardinality(item_ids), '{}', '{}') RETURNING id INTO made;
    INSERT INTO items (project, thread, position, id, body)
    SELECT given_project, made, i.n - 1, i.id, i.body FROM unnest(item_ids, item_bodies) WITH ORDINALITY AS i (id, body, n);
    INSERT INTO conversations (project, id, created, metadata, thread, upto)
    VALUES (given_project, given_id, given_created, given_metadata, made, cardinality(item_ids));
END $$;

-- Items behind position `first` of a thread, or of a fork where others stand there by now.  Returns the thread.
CREATE FUNCTION append_items_1(
    given_project text, given_thread bigint, first bigint, item_ids text[], item_bodies bytea[], segments_max integer
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    parent threads%ROWTYPE;
    place bigint := given_thread;
BEGIN
    SELECT * INTO parent FROM threads WHERE id = given_thread AND project = given_project FOR NO KEY UPDATE;
    IF parent.tip = first THEN
        UPDATE threads SET tip = first + cardinality(item_ids) WHERE id = given_thread;
    ELSE
        place := branch_1(given_project, parent.ancestors || given_thread, parent.limits || first, parent.starts, first,
            cardinality(item_ids), segments_max);
    END IF;
    INSERT INTO items (project, thread, position, id, body)
    SELECT given_project, place, first + i.n - 1, i.id, i.body
    FROM unnest(item_ids, item_bodies) WITH ORDINALITY AS i (id, body, n);
    RETURN place;
END $$;

-- A thread of its own behind an ancestry, or behind a copy of it where it is too deep.  Returns the thread.
CREATE FUNCTION branch_1(
    given_project text, given_ancestors bigint[], given_limits bigint[], given_starts bigint[], first bigint,
    length integer, segments_max integer
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    made bigint;
    deep boolean := cardinality(given_ancestors) > segments_max;
BEGIN
    INSERT INTO threads (project, parent, base, tip, ancestors, limits, starts)
    VALUES (
        given_project, CASE WHEN NOT deep THEN given_ancestors[cardinality(given_ancestors)] END,
        CASE WHEN deep THEN 0 ELSE first END, first + length,
        CASE WHEN deep THEN '{}' ELSE given_ancestors END, CASE WHEN deep THEN '{}' ELSE given_limits END,
        CASE WHEN NOT deep THEN given_starts END
    ) RETURNING id INTO made;
    IF deep THEN
        INSERT INTO items (project, thread, position, id, body)
        SELECT i.project, made, i.position, i.id, i.body
        FROM unnest(given_ancestors, given_limits, given_starts) s (thread, upto, start)
        JOIN items i ON i.thread = s.thread AND i.position < s.upto AND i.position >= coalesce(s.start, 0)
        ORDER BY i.position;
    END IF;
    RETURN made;
END $$;

-- Appends to a conversation.  Returns 1 done, 0 a response runs in it, NULL there is none.
CREATE FUNCTION add_items_1(
    given_project text, given_id text, token text, item_ids text[], item_bodies bytea[], segments_max integer
) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    c conversations%ROWTYPE;
    place bigint;
BEGIN
    SELECT * INTO c FROM conversations v WHERE v.project = given_project AND v.id = given_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    ELSIF c.written = token THEN
        RETURN 1;
    ELSIF busy_1(c.project, c.holder, c.until) THEN
        RETURN 0;
    END IF;
    place := append_items_1(c.project, c.thread, c.upto, item_ids, item_bodies, segments_max);
    UPDATE conversations SET thread = place, upto = c.upto + cardinality(item_ids), written = token WHERE row = c.row;
    RETURN 1;
END $$;

-- Takes an item out of a conversation, wherever its id stands in it.  Returns 1 done, 0 a response runs in it, NULL the
-- item or the conversation is not there.
CREATE FUNCTION take_out_1(
    given_project text, given_id text, token text, item text, segments_max integer
) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    c conversations%ROWTYPE;
    t threads%ROWTYPE;
    place bigint;
    bare boolean;
    on_threads bigint[];
    positions bigint[];
    left_ancestors bigint[];
    left_limits bigint[];
    left_starts bigint[];
BEGIN
    SELECT * INTO c FROM conversations v WHERE v.project = given_project AND v.id = given_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    ELSIF c.written = token THEN
        RETURN 1;
    ELSIF busy_1(c.project, c.holder, c.until) THEN
        RETURN 0;
    END IF;
    SELECT * INTO t FROM threads WHERE id = c.thread FOR UPDATE;
    place := c.thread;
    -- Nothing of its own, and nobody but the conversation knows it: then it need not stay as it is.
    bare := t.tip = t.base AND NOT EXISTS (SELECT FROM responses r WHERE r.thread = t.id)
        AND NOT EXISTS (SELECT FROM threads n WHERE n.parent = t.id);
    IF NOT bare THEN
        t.starts := t.starts || array_fill(NULL::bigint, ARRAY[cardinality(t.ancestors) - coalesce(cardinality(t.starts), 0)]);
        t.ancestors := t.ancestors || c.thread;
        t.limits := t.limits || c.upto;
    END IF;
    SELECT array_agg(i.thread), array_agg(i.position) INTO on_threads, positions
    FROM unnest(t.ancestors, t.limits, t.starts) s (thread, upto, start)
    JOIN items i ON i.project = c.project AND i.id = item AND i.thread = s.thread
        AND i.position < s.upto AND i.position >= coalesce(s.start, 0);
    IF positions IS NULL THEN
        RETURN NULL;
    END IF;

    -- Each segment falls into those between the places.
    SELECT coalesce(array_agg(x.thread ORDER BY x.n, x.start), '{}'), coalesce(array_agg(x.upto ORDER BY x.n, x.start), '{}'),
        coalesce(array_agg(x.start ORDER BY x.n, x.start), '{}')
    INTO left_ancestors, left_limits, left_starts
    FROM (
        SELECT s.n, s.thread, b.start, coalesce(lead(b.start) OVER (PARTITION BY s.n ORDER BY b.start) - 1, s.upto) AS upto
        FROM unnest(t.ancestors, t.limits, t.starts) WITH ORDINALITY AS s (thread, upto, start, n)
        CROSS JOIN LATERAL (
            -- Nothing stands on a thread below its base: what is empty goes, so that a line is never longer than it has items.
            SELECT greatest(s.start, (SELECT base FROM threads o WHERE o.id = s.thread)) AS start
            UNION ALL
            SELECT p.position + 1 FROM unnest(on_threads, positions) p (thread, position)
            WHERE p.thread = s.thread AND p.position < s.upto AND p.position >= coalesce(s.start, 0)
        ) b
    ) x WHERE x.start < x.upto;

    IF bare AND cardinality(left_ancestors) <= segments_max THEN
        UPDATE threads SET parent = left_ancestors[cardinality(left_ancestors)], ancestors = left_ancestors,
            limits = left_limits, starts = left_starts
        WHERE id = c.thread;
    ELSE
        place := branch_1(c.project, left_ancestors, left_limits, left_starts, c.upto, 0, segments_max);
    END IF;
    UPDATE conversations SET thread = place, written = token WHERE row = c.row;
    INSERT INTO left_out (thread, position)
    SELECT p.thread, p.position FROM unnest(on_threads, positions) p (thread, position) ON CONFLICT DO NOTHING;
    PERFORM trim_threads_1(on_threads || c.thread || t.ancestors[cardinality(t.ancestors)]);
    RETURN 1;
END $$;

-- Removes a conversation and what only it needed.  Returns whether it was there.
CREATE FUNCTION remove_conversation_1(given_project text, given_id text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    gone bigint;
BEGIN
    DELETE FROM conversations c WHERE c.project = given_project AND c.id = given_id RETURNING c.thread INTO gone;
    IF gone IS NULL THEN
        RETURN false;
    END IF;
    PERFORM trim_threads_1(ARRAY[gone]);
    RETURN true;
END $$;

-- Responses that want to run in conversations, and hold them for so long.  Returns for each 1 done, 0 another runs in
-- it, NULL there is none.
CREATE FUNCTION enter_conversations_1(projects text[], ids text[], holders text[], spans interval[]) RETURNS integer[]
LANGUAGE plpgsql AS $$
DECLARE
    results integer[] := array_fill(NULL::integer, ARRAY[cardinality(ids)]);
    c conversations%ROWTYPE;
BEGIN
    PERFORM FROM conversations v JOIN unnest(projects, ids) g (project, id) ON v.project = g.project AND v.id = g.id
    ORDER BY v.row FOR NO KEY UPDATE OF v;
    FOR n IN 1 .. cardinality(ids) LOOP
        SELECT * INTO c FROM conversations v WHERE v.project = projects[n] AND v.id = ids[n];
        CONTINUE WHEN NOT FOUND;
        results[n] := 0;
        CONTINUE WHEN c.holder IS DISTINCT FROM holders[n] AND busy_1(c.project, c.holder, c.until);
        UPDATE conversations SET holder = holders[n], until = clock_timestamp() + spans[n] WHERE row = c.row;
        results[n] := 1;
    END LOOP;
    RETURN results;
END $$;

-- Raises AP003 where a response does not hold the conversation any more that it runs in; one that is gone is no harm.
CREATE FUNCTION check_holds_1(projects text[], ids text[], inside text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM conversations c JOIN unnest(projects, inside) g (project, id) ON c.project = g.project AND c.id = g.id
    ORDER BY c.row FOR NO KEY UPDATE OF c;
    IF EXISTS (
        SELECT FROM unnest(projects, ids, inside) g (project, holder, id)
        JOIN conversations c ON c.project = g.project AND c.id = g.id
        WHERE c.holder IS DISTINCT FROM g.holder
    ) THEN
        RAISE EXCEPTION USING ERRCODE = 'AP003', MESSAGE = 'another response came into the conversation';
    END IF;
END $$;

-- Conversations that these responses hold go on behind those that ended well; the holds of all that ended end.  One
-- that leaves a thread leaves it to what stands there behind its end, with which the thread is trimmed.
CREATE FUNCTION move_conversations_1(projects text[], ids text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    moved record;
BEGIN
    FOR moved IN
        SELECT c.row, r.thread, r.upto, r.status NOT IN ('failed', 'cancelled') AS well
        FROM unnest(projects, ids) g (project, id)
        JOIN conversations c ON c.project = g.project AND c.holder = g.id
        JOIN responses r ON r.project = g.project AND r.id = g.id
            AND NOT r.status NOT IN ('completed', 'incomplete', 'failed', 'cancelled')
    LOOP
        UPDATE conversations SET holder = NULL, until = NULL,
            thread = CASE WHEN moved.well THEN moved.thread ELSE thread END,
            upto = CASE WHEN moved.well THEN moved.upto ELSE upto END
        WHERE row = moved.row;
    END LOOP;
END $$;

-- What conversations get of responses that are not to be stored; nothing of those that went wrong.  The n-th of each
-- array belongs to the n-th response.  Returns for each 1 done, 0 it does not hold the conversation any more.
CREATE FUNCTION append_held_1(
    projects text[], ids text[], inside text[], parents bigint[], firsts bigint[], well boolean[],
    item_ops integer[], item_ids text[], item_bodies bytea[], segments_max integer
) RETURNS integer[] LANGUAGE plpgsql AS $$
DECLARE
    results integer[] := array_fill(1, ARRAY[cardinality(ids)]);
    c conversations%ROWTYPE;
    place bigint;
    given_ids text[];
    given_bodies bytea[];
BEGIN
    PERFORM FROM conversations v JOIN unnest(projects, inside) g (project, id) ON v.project = g.project AND v.id = g.id
    ORDER BY v.row FOR NO KEY UPDATE OF v;
    FOR n IN 1 .. cardinality(ids) LOOP
        SELECT * INTO c FROM conversations v WHERE v.project = projects[n] AND v.id = inside[n];
        CONTINUE WHEN NOT FOUND OR c.written = ids[n];
        IF c.holder IS DISTINCT FROM ids[n] THEN
            results[n] := 0;
            CONTINUE;
        END IF;
        place := c.thread;
        given_ids := '{}';
        IF well[n] THEN
            SELECT array_agg(i.id ORDER BY i.place), array_agg(i.body ORDER BY i.place) INTO given_ids, given_bodies
            FROM unnest(item_ops, item_ids, item_bodies) WITH ORDINALITY AS i (op, id, body, place) WHERE i.op = n;
            given_ids := coalesce(given_ids, '{}');
            place := append_items_1(c.project, parents[n], firsts[n], given_ids, coalesce(given_bodies, '{}'), segments_max);
        END IF;
        UPDATE conversations SET holder = NULL, until = NULL, thread = place, written = ids[n],
            upto = c.upto + cardinality(given_ids)
        WHERE row = c.row;
    END LOOP;
    RETURN results;
END $$;

-- As write_responses_1 for responses of which some run in conversations, NULL for none.
CREATE FUNCTION save_held_1(
    projects text[], ids text[], parents bigint[], firsts bigint[], middles bigint[], uptos bigint[], flags smallint[],
    created bigint[], expiries bigint[], statuses text[], outcomes bytea[], smalls bytea[], larges bytea[],
    requests bytea[], use_firsts integer[], use_lasts integer[],
    item_ops integer[], item_positions bigint[], item_ids text[], item_bodies bytea[],
    blob_projects text[], blob_hashes bytea[], blob_uses bigint[], blob_datas bytea[],
    uses integer[],
    segments_max integer, inside text[]
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM check_holds_1(projects, ids, inside);
    PERFORM write_responses_1(projects, ids, parents, firsts, middles, uptos, flags, created, expiries, statuses,
        outcomes, smalls, larges, requests, use_firsts, use_lasts, item_ops, item_positions, item_ids, item_bodies,
        blob_projects, blob_hashes, blob_uses, blob_datas, uses, segments_max);
    PERFORM move_conversations_1(projects, ids);
END $$;

-- As begin_runs_1, likewise.
CREATE FUNCTION begin_held_1(
    projects text[], ids text[], parents bigint[], firsts bigint[], middles bigint[], uptos bigint[], flags smallint[],
    created bigint[], expiries bigint[], statuses text[], outcomes bytea[], smalls bytea[], larges bytea[],
    requests bytea[], use_firsts integer[], use_lasts integer[],
    item_ops integer[], item_positions bigint[], item_ids text[], item_bodies bytea[],
    blob_projects text[], blob_hashes bytea[], blob_uses bigint[], blob_datas bytea[],
    uses integer[],
    segments_max integer, inside text[]
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM check_holds_1(projects, ids, inside);
    PERFORM begin_runs_1(projects, ids, parents, firsts, middles, uptos, flags, created, expiries, statuses,
        outcomes, smalls, larges, requests, use_firsts, use_lasts, item_ops, item_positions, item_ids, item_bodies,
        blob_projects, blob_hashes, blob_uses, blob_datas, uses, segments_max);
END $$;

-- As finish_runs_2; conversations that the runs held go on.
CREATE FUNCTION finish_runs_3(
    projects text[], ids text[], fences bigint[], firsts bigint[], lasts bigint[],
    lengths integer[], expiries bigint[], statuses text[], outcomes bytea[],
    item_ops integer[], item_offsets integer[], item_ids text[], item_bodies bytea[],
    batch_ops integer[], batch_firsts bigint[], batch_lasts bigint[], batch_frames bytea[]
) RETURNS integer[] LANGUAGE plpgsql AS $$
DECLARE
    results integer[];
BEGIN
    PERFORM FROM conversations c JOIN unnest(projects, ids) g (project, id)
        ON c.project = g.project AND c.holder = g.id
    ORDER BY c.row FOR NO KEY UPDATE OF c;
    results := finish_runs_2(projects, ids, fences, firsts, lasts, lengths, expiries, statuses, outcomes, item_ops, item_offsets, item_ids, item_bodies, batch_ops, batch_firsts, batch_lasts, batch_frames);
    PERFORM move_conversations_1(projects, ids);
    RETURN results;
END $$;
