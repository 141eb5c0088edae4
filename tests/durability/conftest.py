"""Databases for the tests of durability, and a place for their figures."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from tests.durability.following import find_node
from tests.durability.world import World, opened
from tests.stores.postgres_server import PostgresServer, missing, postgres

__all__ = ["postgres"]


@pytest.fixture(scope="session")
def node() -> Path:
    """Node 22 and the official JavaScript SDK."""
    found = find_node()
    if found is None:
        missing("Node 22 and the JavaScript SDKs are not installed: run scripts/setup-js")
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where that can be had: a killed process loses nothing that it wrote, a disk is only slower."""
    memory = Path("/dev/shm")
    if not memory.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory, ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.fixture
def fresh_postgres(postgres: PostgresServer) -> str:
    """A new database of PostgreSQL, by its name."""
    name = f"durability_{secrets.token_hex(4)}"
    postgres.create_database(name)
    return name


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, folder: Path) -> str:
    """Either database, as the setting names it."""
    if request.param == "sqlite":
        return str(folder / "state.db")
    postgres: PostgresServer = request.getfixturevalue("postgres")
    return postgres.url(request.getfixturevalue("fresh_postgres"))


@pytest.fixture
async def world(database: str, folder: Path, node: Path) -> AsyncIterator[World]:
    async with opened(database, folder, node) as world:
        yield world


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Prints figures past everything that captures output: they are for whoever reads the log of a test run."""

    capture = request.config.pluginmanager.getplugin("capturemanager")

    def told(line: str) -> None:
        with capture.global_and_fixture_disabled():
            os.write(2, f"\n{request.node.name}: {line}\n".encode())

    return told
