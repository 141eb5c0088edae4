"""What a conversation does not hold any more, and nobody else needs, is in none of SQLite's files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.stores.talking import Talk
from tests.stores.test_sqlite_erasing import MARK, content, marked, path, store, written
from tests.stores.world import item

from antiphon.engine.ports.stores import Conversation
from antiphon.stores.sqlite import SqliteStore

__all__ = ["path", "store"]

SIZES = (10, 3000, 20_000)
ITEMS = [item(f"i{size}", marked(size)) for size in SIZES]


@pytest.fixture
async def talk(store: SqliteStore) -> Talk:
    """With a conversation that holds the marker wherever content can be."""
    metadata = json.dumps({"k": marked(400)}).encode()
    await store.conversations.create("p", Conversation("conv_1", 1, metadata), ITEMS)
    return Talk(store)


async def test_what_was_taken_out_is_in_no_file(talk: Talk, store: SqliteStore, path: Path) -> None:
    await store.conversations.update("p", "conv_1", b"{}")
    await talk.say("conv_1", "one", output=[])
    assert MARK.encode() in content(path)

    for one in ITEMS:
        assert await store.conversations.remove("p", "conv_1", one.id)
    await written(store)
    assert MARK.encode() in content(path), "the response has seen it"
    await store.delete("p", "one")
    await written(store)

    assert MARK.encode() not in content(path)
    assert await talk.seen("conv_1") == ["one?"]


async def test_a_deleted_conversation_is_in_no_file(talk: Talk, store: SqliteStore, path: Path) -> None:
    await talk.add("conv_1", "more")
    assert MARK.encode() in content(path)

    assert await store.conversations.delete("p", "conv_1")
    await written(store)

    assert MARK.encode() not in content(path)
