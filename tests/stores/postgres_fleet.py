"""Several stores on one database, as several processes would have them, and a connection that is slow to commit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.stores.postgres_server import DATABASE, PostgresServer
from tests.stores.world import PATIENCE_SECONDS, World, within


async def opened(url: str, **options: Any) -> Any:
    """A store with few connections."""
    from antiphon.stores.postgres import PostgresStore, Settings  # here, so that tests of other stores do without it

    store = PostgresStore(Settings(url, connections=3), **options)
    await store.open()
    return store


@pytest.fixture
async def worlds(database_url: str) -> AsyncIterator[list[World]]:
    """The same database through three stores."""
    stores = [await opened(database_url) for _ in range(3)]
    yield [World(store) for store in stores]
    for store in stores:
        await within(store.close())


@pytest.fixture
async def admin(postgres: PostgresServer, database_url: str) -> AsyncIterator[Any]:
    """A connection for the test itself."""
    connection = await postgres.connect(DATABASE)
    yield connection
    await connection.close()


@pytest.fixture
async def slow(postgres: PostgresServer, database_url: str) -> AsyncIterator[Any]:
    """The connection of a process that is slow to commit."""
    connection = await session(postgres)
    yield connection
    await connection.close()


async def session(postgres: PostgresServer, database: str = DATABASE) -> Any:
    """A connection that sees the store's tables and plans as the store does."""
    from antiphon.stores.postgres.connections import PLANS, SCHEMA

    connection = await postgres.connect(database)
    for name, value in {"search_path": SCHEMA, **PLANS}.items():
        await connection.execute(f"SET {name} = {value}")
    return connection


async def blocked(admin: Any, *waiting: asyncio.Future[Any]) -> None:
    """Returns when all of these wait for a lock; nothing may have come of them yet."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await admin.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        ) < len(waiting):  # fmt: skip
            assert not any(future.done() for future in waiting)
            await admin.execute("SELECT pg_sleep(0.01)")
