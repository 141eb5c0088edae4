"""The PostgreSQL store keeps the contract."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from tests.stores.contract import StoreContract
from tests.stores.contract_removal import Life, RemovalContract, agrees
from tests.stores.contract_replays import ReplayContract
from tests.stores.postgres_server import DATABASE, EMPTY, PostgresServer
from tests.stores.world import World, items

from antiphon.engine.ports.stores import Store
from antiphon.stores.postgres import PostgresStore, Settings


class PostgresStores:
    """Opens one database, again and again."""

    durable = True

    def __init__(self, url: str) -> None:
        self.settings = Settings(url, connections=4)

    def open(self, **options: Any) -> PostgresStore:
        return PostgresStore(self.settings, **options)


@pytest_asyncio.fixture(scope="class", loop_scope="class")
async def opened(postgres: PostgresServer, made_database: None) -> AsyncIterator[PostgresStore]:
    """One store for all tests, since a new connection costs more than most of them."""
    store = PostgresStores(postgres.url(DATABASE)).open()
    await store.open()
    yield store
    await store.close()


@pytest_asyncio.fixture(scope="class", loop_scope="class")
async def admin(postgres: PostgresServer, opened: PostgresStore) -> AsyncIterator[Any]:
    connection = await postgres.connect(DATABASE)
    yield connection
    await connection.close()


@pytest_asyncio.fixture(loop_scope="class")
async def stores(postgres: PostgresServer, admin: Any) -> AsyncIterator[PostgresStores]:
    yield PostgresStores(postgres.url(DATABASE))
    await admin.execute(EMPTY)


@pytest.fixture
def store(opened: PostgresStore, stores: PostgresStores) -> Store:
    return opened


@pytest.fixture
def world(store: Store) -> World:
    return World(store)


@pytest.mark.asyncio(loop_scope="class")
class TestPostgres(StoreContract, RemovalContract, ReplayContract):
    """Every test of the contract."""

    @pytest_asyncio.fixture(loop_scope="class")
    async def turns(self, world: World) -> World:
        """As in the contract, but in the loop of this class."""
        await world.say(turn="a", input=items("0", "1"), output=items("2", "3"))
        await world.say("a", turn="taken")
        await world.say("a", turn="b", input=items("4", "5"), output=items("6"))
        await world.say("b", turn="last", input=items("7", "8", "9"), output=items("out"))
        return world

    @pytest.mark.parametrize("seed", range(3, 6))
    async def test_a_random_life_agrees_with_the_model(self, stores: PostgresStores, seed: int) -> None:
        """Compared less often than a store without round trips, over more lives."""
        store = stores.open(segments_max=4)
        life = Life(World(store), random.Random(seed))
        for step in range(1, 101):
            await life.step()
            if step % 25 == 0:
                await agrees(life.world, life.model)
        await life.end()
        assert await life.world.alive(life.model.everything()) == set()
        await store.close()
