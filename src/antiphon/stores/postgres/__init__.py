"""The PostgreSQL store: many connections, group commit, and nothing that only one process may know."""

from antiphon.stores.postgres.connections import Settings
from antiphon.stores.postgres.store import PostgresStore

__all__ = ["PostgresStore", "Settings"]
