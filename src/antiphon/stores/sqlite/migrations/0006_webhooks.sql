-- A receiver of events.  `event_types` is a JSON list, `secrets` is sealed; `disabled` is when it said that it is gone.
-- `static`: it is in the operator's configuration.
CREATE TABLE webhook_endpoints (
    row INTEGER PRIMARY KEY,
    project TEXT NOT NULL,
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    url TEXT NOT NULL,
    event_types TEXT NOT NULL,
    secrets TEXT NOT NULL,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    disabled INTEGER,
    static INTEGER NOT NULL
);
CREATE UNIQUE INDEX webhook_endpoints_by_id ON webhook_endpoints (project, id);

-- The end of a background run that an endpoint is to hear of, written in the transaction of that end.  It is tried when
-- it is `due`; while somebody tries it, it is `leased` and due when the lease ends.  `expires`: it is dead, never
-- due, and goes then.
-- A number is never given twice: whoever had a row that went must not mean another one by it.
CREATE TABLE outbox (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    project TEXT NOT NULL,
    endpoint INTEGER NOT NULL,
    response TEXT NOT NULL,
    type TEXT NOT NULL,
    created INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    due REAL NOT NULL,
    leased INTEGER NOT NULL DEFAULT 0,
    expires INTEGER
);
CREATE INDEX outbox_by_endpoint ON outbox (endpoint, due);
CREATE INDEX outbox_by_response ON outbox (project, response);
CREATE INDEX outbox_by_expiry ON outbox (expires) WHERE expires IS NOT NULL;
CREATE INDEX outbox_leased ON outbox (row) WHERE leased;
