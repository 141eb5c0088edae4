-- A receiver of events.  `secrets` is sealed; `disabled` is when it said that it is gone.  `static`: it is in the
-- operator's configuration.
--
-- Lock order: endpoints by row, then the outbox by row, both behind everything else (0001_start.sql, 0003_runs.sql).
CREATE TABLE webhook_endpoints (
    row bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    name text NOT NULL,
    url text NOT NULL,
    event_types text[] NOT NULL,
    secrets text NOT NULL,
    created bigint NOT NULL,
    updated bigint NOT NULL,
    disabled bigint,
    static boolean NOT NULL
);
CREATE UNIQUE INDEX webhook_endpoints_by_id ON webhook_endpoints (project, id);

-- The end of a background run that an endpoint is to hear of, written in the transaction of that end.  It is tried when
-- it is `due`; whoever tries it moves that to the end of a lease.  `expires`: it is dead, never due, and goes then.
CREATE TABLE outbox (
    row bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project text COLLATE "C" NOT NULL,
    endpoint bigint NOT NULL,
    response text COLLATE "C" NOT NULL,
    type text COLLATE "C" NOT NULL,
    created bigint NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    due timestamptz NOT NULL,
    expires bigint
);
CREATE INDEX outbox_by_endpoint ON outbox (endpoint, due);
CREATE INDEX outbox_by_response ON outbox (project, response);
CREATE INDEX outbox_by_expiry ON outbox (expires) WHERE expires IS NOT NULL;

-- As finish_runs_3, with the outbox: of ends that are written now, and not of those that are written already.
CREATE FUNCTION finish_runs_4(
    projects text[], ids text[], fences bigint[], firsts bigint[], lasts bigint[],
    lengths integer[], expiries bigint[], statuses text[], outcomes bytea[],
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
    results := finish_runs_2(projects, ids, fences, firsts, lasts, lengths, expiries, statuses, outcomes,
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

-- Removes endpoints with what was to be delivered to them; how many there were.
CREATE FUNCTION remove_endpoints_1(given bigint[]) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    removed bigint;
BEGIN
    PERFORM FROM webhook_endpoints WHERE row = ANY (given) ORDER BY row FOR UPDATE;
    PERFORM FROM outbox WHERE endpoint = ANY (given) ORDER BY row FOR UPDATE;
    DELETE FROM outbox WHERE endpoint = ANY (given);
    DELETE FROM webhook_endpoints WHERE row = ANY (given);
    GET DIAGNOSTICS removed = ROW_COUNT;
    RETURN removed;
END $$;

-- Endpoints of which these rows of the outbox say that they are gone: nothing is tried there any more.
CREATE FUNCTION disable_endpoints_1(given bigint[], keep double precision[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    gone bigint[];
    now_is bigint := floor(extract(epoch FROM clock_timestamp()));
BEGIN
    gone := ARRAY(
        SELECT e.row FROM webhook_endpoints e WHERE e.row IN (SELECT endpoint FROM outbox WHERE row = ANY (given))
        ORDER BY e.row FOR NO KEY UPDATE OF e
    );
    UPDATE webhook_endpoints SET disabled = now_is WHERE row = ANY (gone);
    PERFORM FROM outbox WHERE endpoint = ANY (gone) AND expires IS NULL ORDER BY row FOR UPDATE;
    UPDATE outbox SET expires = now_is + (SELECT max(k) FROM unnest(keep) k)::bigint, due = 'infinity'
    WHERE endpoint = ANY (gone) AND expires IS NULL;
END $$;

-- As remove_responses_2, with what was to be told of them.
CREATE FUNCTION remove_responses_3(projects text[], ids text[]) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    results bigint[] := remove_responses_2(projects, ids);
BEGIN
    PERFORM FROM outbox o JOIN unnest(projects, ids) g (project, id) ON o.project = g.project AND o.response = g.id
    ORDER BY o.row FOR UPDATE OF o;
    DELETE FROM outbox o USING unnest(projects, ids) g (project, id) WHERE o.project = g.project AND o.response = g.id;
    RETURN results;
END $$;

-- As expire_responses_2, likewise.
CREATE FUNCTION expire_responses_3(deadline bigint, most integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    projects text[];
    ids text[];
BEGIN
    SELECT array_agg(r.project), array_agg(r.id) INTO projects, ids
    FROM (SELECT project, id FROM responses WHERE expires <= deadline ORDER BY expires LIMIT most) r;
    RETURN CASE WHEN ids IS NULL THEN 0 ELSE cardinality(remove_responses_3(projects, ids)) END;
END $$;
