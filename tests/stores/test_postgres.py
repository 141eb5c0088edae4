"""The PostgreSQL store keeps the contract."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.stores.contract import StoreContract
from tests.stores.contract_removal import RemovalContract
from tests.stores.world import World

from antiphon.engine.ports import Store
from antiphon.stores.postgres import PostgresStore, Settings

pytest_plugins = ["tests.stores.postgres_server"]


class PostgresStores:
    """Opens one database, again and again."""

    durable = True

    def __init__(self, url: str) -> None:
        self.settings = Settings(url, connections=4)

    def open(self, **options: Any) -> PostgresStore:
        return PostgresStore(self.settings, **options)


@pytest.fixture
async def stores(database_url: str) -> PostgresStores:
    made = PostgresStores(database_url)
    store = made.open()
    await store.open()
    await store.close()
    return made


@pytest.fixture
async def store(stores: PostgresStores) -> AsyncIterator[Store]:
    opened = stores.open()
    yield opened
    await opened.close()


@pytest.fixture
def world(store: Store) -> World:
    return World(store)


class TestPostgres(StoreContract, RemovalContract):
    """Every test of the contract."""

    async def test_deletes_and_saves_at_once(self, store: Store, world: World) -> None:
        """Reads and deletions do not queue behind each other here, so what is to be continued is pinned first."""
        for number in range(10):
            await world.say(turn=f"old{number}")
            await world.say(f"old{number}", turn=f"mid{number}")
        pinned = [await world.pin(f"mid{number}") for number in range(10)]

        await asyncio.gather(
            *(store.delete("p", f"old{number}") for number in range(10)),
            *(world.say(f"mid{number}", turn=f"new{number}") for number in range(1, 10, 2)),
            *(world.go_on(pinned[number], f"new{number}") for number in range(0, 10, 2)),
            *(store.delete("p", f"mid{number}") for number in range(0, 10, 2)),
        )

        for n in range(10):
            assert await world.seen(f"new{n}") == [
                f"{turn}{n}{mark}" for turn in ("old", "mid", "new") for mark in "?!"
            ]
