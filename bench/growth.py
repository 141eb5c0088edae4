"""What a conversation's turn adds to the database as the conversation grows: a curve, as Markdown.

``python -m bench.growth``.  Turns of 1 kB, chained by ``previous_response_id``, once plain and once with tools and
instructions repeated in each request.  No HTTP and no model: a turn goes from the request's bytes to the store by the
engine's own parts, so that the rows are those of the server, and 1,000 turns take seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import tempfile
from pathlib import Path
from typing import NamedTuple

import apsw
import msgspec

from antiphon.clock import SystemClock
from antiphon.engine import intake, replays, shell
from antiphon.engine.deltas import TextDelta
from antiphon.engine.draft import Draft
from antiphon.engine.ports.stores import Context, Record
from antiphon.protocol.requests import read_create
from antiphon.protocol.responses import Outcome, Usage
from antiphon.stores.sqlite import SqliteStore

INPUT_BYTES = 1000
REPLY = "The harbour was quiet, and the lamp on the pier went on burning until the morning. "
MARK_TURNS = 100
TABLES = ("threads", "items", "responses", "blobs", "blob_bytes", "events", "journal", "held")


class Mark(NamedTuple):
    """The database after so many turns: the size of its file with an empty log, and its rows."""

    turn: int
    bytes: int
    rows: int


class Growth(NamedTuple):
    """What each turn since the mark before added."""

    turn: int
    bytes_per_turn: float
    rows_per_turn: float


class Conversation:
    """One chain of turns in one store."""

    def __init__(self, store: SqliteStore, repeated_bytes: int) -> None:
        self._store = store
        self._clock = SystemClock()
        self._repeated = _repeated(repeated_bytes)
        self._previous: str | None = None
        self._turn = 0

    async def turn(self) -> None:
        """One request and its reply, written as ``runs`` writes it."""
        self._turn += 1
        text = f"Turn {self._turn:06d}. ".ljust(INPUT_BYTES, "x")
        said = {"model": "demo", "input": text, "previous_response_id": self._previous, **self._repeated}
        request = read_create(json.dumps(said).encode())
        before = Context(None, [], hash=replays.START)
        if self._previous is not None:
            before = await self._store.context("default", self._previous)
        assert before.hash is not None
        taken = await intake.take(request.input, "default", self._store, self._clock)
        now = int(self._clock.now())
        echo = shell.build(request, response_id=self._clock.new_id("resp_"), created_at=now, model="demo")
        draft = Draft(echo, self._clock)
        draft.open()
        draft.apply([TextDelta(REPLY)])
        draft.end_turn(cut=False)
        outcome = Outcome("completed", now + 1, usage=Usage(1000, output_tokens=20, total_tokens=1020))
        draft.end(outcome)
        stored = [item.stored() for item in taken]
        beside = msgspec.json.encode(request.unknown)
        expires_at = now + 30 * 86400
        output = draft.output()
        given = replays.behind(before.hash, [item.body for item in stored])
        record = Record("default", echo, outcome, before.parent, stored, output, beside, False, expires_at)
        record.input_hash, record.full_hash = given, replays.behind(given, [item.body for item in output])
        await self._store.save(record)
        if before.parent is not None:
            self._store.release(before.parent)
        self._previous = echo.id


def _repeated(size: int) -> dict[str, object]:
    """Half of it instructions, half of it tools."""
    if not size:
        return {}
    parameters = {"type": "object", "properties": {"text": {"type": "string", "description": "d" * 900}}}
    tools = [
        {"type": "function", "name": f"tool_{number}", "parameters": parameters, "strict": False}
        for number in range(size // 2000)
    ]
    return {"instructions": "i" * (size // 2), "tools": tools}


async def grow(path: Path, turns: int, repeated_bytes: int) -> list[Mark]:
    """Marks from the start on, one each ``MARK_TURNS``."""
    store = SqliteStore(path)
    conversation = Conversation(store, repeated_bytes)
    marks = [mark(path, 0)]
    for turn in range(1, turns + 1):
        await conversation.turn()
        if turn % MARK_TURNS == 0:
            marks.append(mark(path, turn))
    await store.close()
    return marks


def mark(path: Path, turn: int) -> Mark:
    """Measures the file as it is once the log has been moved into it: its pages."""
    connection = apsw.Connection(str(path))
    rows = sum(connection.execute(f"SELECT count(*) FROM {table}").get for table in TABLES)
    size = connection.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size").get
    connection.close()
    return Mark(turn, size, rows)


def growth(marks: list[Mark]) -> list[Growth]:
    """The differences of marks."""
    pairs = itertools.pairwise(marks)
    return [
        Growth(
            now.turn,
            (now.bytes - before.bytes) / (now.turn - before.turn),
            (now.rows - before.rows) / (now.turn - before.turn),
        )
        for before, now in pairs
    ]  # fmt: skip


def table(plain: list[Growth], repeated: list[Growth], repeated_bytes: int) -> str:
    """The two curves side by side."""
    lines = [
        f"| up to turn | plain: bytes a turn | rows | {repeated_bytes // 1000} kB repeated: bytes a turn | rows |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {one.turn} | {one.bytes_per_turn:,.0f} | {one.rows_per_turn:.2f} "
        f"| {two.bytes_per_turn:,.0f} | {two.rows_per_turn:.2f} |"
        for one, two in zip(plain, repeated, strict=True)
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=1000)
    parser.add_argument("--repeated-bytes", type=int, default=20_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        curves = [
            growth(asyncio.run(grow(Path(folder) / f"{size}.db", options.turns, size)))
            for size in (0, options.repeated_bytes)
        ]
    print(table(curves[0], curves[1], options.repeated_bytes))


if __name__ == "__main__":
    main()
