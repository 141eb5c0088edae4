-- What an Idempotency-Key stands for: the request, by its digest, and the id that its response has or will have.
-- `holder` is the attempt that runs it, until `until` unless the response is there by then.
--
-- Lock order: keys by project and key, apart from everything else.
CREATE TABLE idempotency_keys (
    project text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    digest bytea NOT NULL,
    response text COLLATE "C" NOT NULL,
    holder text COLLATE "C" NOT NULL,
    until timestamptz NOT NULL,
    expires bigint NOT NULL,
    PRIMARY KEY (project, key)
);
CREATE INDEX idempotency_keys_by_response ON idempotency_keys (project, response);
CREATE INDEX idempotency_keys_by_expiry ON idempotency_keys (expires);

-- Binds keys, no two of them the same, that are not bound, and gives those whose hold has lapsed without a response to
-- another holder.  Returns for each, in their order, what it is bound to, and whether the response is there.
CREATE FUNCTION bind_keys_1(
    projects text[], keys text[], digests bytea[], holders text[], spans interval[], expiries bigint[]
) RETURNS TABLE (digest bytea, response text, holder text, stored boolean) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    -- This locks each row, also where nothing is changed.
    INSERT INTO idempotency_keys AS k (project, key, digest, response, holder, until, expires)
    SELECT g.project, g.key, g.digest, g.holder, g.holder, clock_timestamp() + g.span, g.expires
    FROM unnest(projects, keys, digests, holders, spans, expiries) g (project, key, digest, holder, span, expires)
    ORDER BY g.project, g.key
    ON CONFLICT (project, key) DO UPDATE SET holder = EXCLUDED.holder, until = EXCLUDED.until
    WHERE k.digest = EXCLUDED.digest AND k.until <= clock_timestamp()
        AND NOT EXISTS (SELECT FROM responses r WHERE r.project = k.project AND r.id = k.response);
    RETURN QUERY
    SELECT k.digest, k.response, k.holder,
        EXISTS (SELECT FROM responses r WHERE r.project = k.project AND r.id = k.response)
    FROM unnest(projects, keys) WITH ORDINALITY AS g (project, key, n)
    JOIN idempotency_keys k ON k.project = g.project AND k.key = g.key ORDER BY g.n;
END $$;
