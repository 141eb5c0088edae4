"""Fixtures that several modules share: the real PostgreSQL, and a folder that does not wait for the disk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.stores.postgres_fleet import admin, slow, worlds
from tests.stores.postgres_server import bare_url, database_url, made_database, postgres

__all__ = ["admin", "bare_url", "database_url", "folder", "made_database", "postgres", "slow", "worlds"]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder of the test's own, in memory where that can be had: some tests wait for the disk thousands of times."""
    memory = Path("/dev/shm")
    if not memory.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory, ignore_cleanup_errors=True) as name:
        yield Path(name)
