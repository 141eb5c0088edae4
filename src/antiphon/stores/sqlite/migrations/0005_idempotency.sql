-- What an Idempotency-Key stands for: the request, by its digest, and the id that its response has or will have.
-- `holder` is the attempt that runs it, until `until` unless the response is there by then.
CREATE TABLE idempotency_keys (
    project TEXT NOT NULL,
    key TEXT NOT NULL,
    digest BLOB NOT NULL,
    response TEXT NOT NULL,
    holder TEXT NOT NULL,
    until REAL NOT NULL,
    expires INTEGER NOT NULL
);
CREATE UNIQUE INDEX idempotency_keys_by_key ON idempotency_keys (project, key);
CREATE INDEX idempotency_keys_by_response ON idempotency_keys (project, response);
CREATE INDEX idempotency_keys_by_expiry ON idempotency_keys (expires);
