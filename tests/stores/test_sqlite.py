"""The SQLite store keeps the contract, in a file and in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.stores.contract import StoreContract
from tests.stores.contract_removal import RemovalContract
from tests.stores.contract_replays import ReplayContract
from tests.stores.world import World

from antiphon.engine.ports.stores import Store
from antiphon.stores.sqlite import SqliteStore


class SqliteStores:
    """Opens one database, again and again."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.durable = path is not None

    def open(self, **options: Any) -> SqliteStore:
        return SqliteStore(self.path, **options)


@pytest.fixture(params=["file", "memory"])
def stores(request: pytest.FixtureRequest, folder: Path) -> SqliteStores:
    return SqliteStores(folder / "state.db" if request.param == "file" else None)


@pytest.fixture
async def store(stores: SqliteStores) -> AsyncIterator[Store]:
    opened = stores.open()
    yield opened
    await opened.close()


@pytest.fixture
def world(store: Store) -> World:
    return World(store)


class TestSqlite(StoreContract, RemovalContract, ReplayContract):
    """Every test of the contract."""
