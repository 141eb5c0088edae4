"""Fixtures that several modules share: the real PostgreSQL."""

from tests.stores.postgres_server import bare_url, database_url, made_database, postgres

__all__ = ["bare_url", "database_url", "made_database", "postgres"]
