"""Brings the database to the schema that this release knows, one process at a time."""

from typing import Any

import asyncpg

from antiphon.stores.postgres.connections import OLDEST_VERSION, SCHEMA, Connections, Lost, Settings, end
from antiphon.stores.queries import migrations

PACKAGE = "antiphon.stores.postgres"
#: Whoever changes the schema holds this advisory lock ("antiphon" as bytes).
LOCK = int.from_bytes(b"antiphon")
#: A migration may rewrite large tables.
MIGRATION_SECONDS = 3600.0
#: Errors of a connection that no second try mends: wrong password or user, no such database, refused by pg_hba.
_HOPELESS = ("28", "3D")

VERSIONS = f"""
CREATE SCHEMA IF NOT EXISTS {SCHEMA};
CREATE TABLE IF NOT EXISTS {SCHEMA}.migrations (
    number integer PRIMARY KEY,
    applied timestamptz NOT NULL DEFAULT now()
);
"""


async def migrate(connections: Connections) -> None:
    """Applies what is missing.  Raises ``Lost`` while there is no connection, ``ValueError`` in one sentence else."""
    milliseconds = str(int(MIGRATION_SECONDS * 1000))
    try:
        connection = await connections.connect(statement_timeout=milliseconds, lock_timeout=milliseconds)
    except Lost as lost:
        if getattr(lost.__cause__, "sqlstate", "").startswith(_HOPELESS):
            raise ValueError(str(lost)) from None
        raise
    try:
        _check(connection)
        await _apply(connection)
    except asyncpg.PostgresError as error:
        raise ValueError(f"the schema '{SCHEMA}' cannot be made: {error}") from None
    finally:
        await end(connection)


async def inspect(settings: Settings) -> tuple[int, int]:
    """The schema's version, 0 where there is none yet, and the newest; changes nothing.

    Raises ``ValueError`` in one sentence for a database that cannot be used.
    """
    try:
        connection = await Connections(settings).connect()
    except Lost as lost:
        raise ValueError(str(lost)) from None
    newest = migrations(PACKAGE)[-1][0]
    try:
        _check(connection)
        return await _version(connection, newest), newest
    except asyncpg.PostgresError as error:
        raise ValueError(f"the schema '{SCHEMA}' cannot be read: {error}") from None
    finally:
        await end(connection)


def _check(connection: Any) -> None:
    version = connection.get_server_version()
    if version.major < OLDEST_VERSION:
        raise ValueError(f"PostgreSQL {version.major} is too old, {OLDEST_VERSION} or newer is needed")
    encoding = connection.get_settings().server_encoding
    if encoding != "UTF8":
        raise ValueError(f"the database's encoding is {encoding}, UTF8 is needed")


async def _apply(connection: Any) -> None:
    known = migrations(PACKAGE)
    if await _version(connection, known[-1][0]) == known[-1][0]:
        return
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK, timeout=MIGRATION_SECONDS)
        await connection.execute(VERSIONS)
        applied = await _version(connection, known[-1][0])  # another process may have been faster
        for number, text in known:
            if number > applied:
                await connection.execute(text, timeout=MIGRATION_SECONDS)
                await connection.execute(f"INSERT INTO {SCHEMA}.migrations (number) VALUES ($1)", number)  # noqa: S608


async def _version(connection: Any, newest: int) -> int:
    """The number of the last migration; 0 before the first."""
    if await connection.fetchval("SELECT to_regclass($1)", f"{SCHEMA}.migrations") is None:
        return 0
    found: int | None = await connection.fetchval(f"SELECT max(number) FROM {SCHEMA}.migrations")  # noqa: S608
    if (found or 0) > newest:
        raise ValueError(f"the database was written by a newer release (schema {found}, this one knows {newest})")
    return found or 0
