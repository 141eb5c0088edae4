"""A reader of a run on a connection that is made of memory: numbers, keep-alives, stalls."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.engine.playbook import shell_of
from tests.specification.conformance import parse_sse

from antiphon.protocol.events import Event
from antiphon.web import sse
from antiphon.web.reading import EventReader

PATIENCE_SECONDS = 10


class Memory:
    """Takes what is written; a test decides how much of it was read."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.unsent = 0
        self.full = False
        self.gone = False
        self.dropped = asyncio.Event()
        self.on_full: Any = None
        self.on_room: Any = None

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def drop(self) -> None:
        self.dropped.set()

    def fill(self, size: int) -> None:
        self.full, self.unsent = True, size
        self.on_full()

    def empty(self) -> None:
        self.full, self.unsent = False, 0
        self.on_room()


def reader_of(connection: Memory, padding: sse.Padding | None = None, **options: Any) -> EventReader:
    given: dict[str, Any] = {"keepalive_seconds": 3600.0, "stall_seconds": 3600.0, **options}
    return EventReader(sse.SseOutlet(connection, padding), shell_of(), **given)  # type: ignore[arg-type]


def event(number: int, kind: str = "response.in_progress") -> Event:
    return Event(number, kind, json.dumps({"type": kind, "sequence_number": number}).encode())


async def test_events_are_framed_each_in_its_block() -> None:
    data = sse.encode([event(0), event(1)]) + sse.encode([event(2)]) + sse.DONE

    assert [told["sequence_number"] for told in parse_sse(data)] == [0, 1, 2]


async def test_what_the_reader_has_had_is_passed_over() -> None:
    connection = Memory()
    reader = reader_of(connection, after=3)
    reader.write([event(2), event(3)])
    reader.write([event(3), event(4), event(5)])
    reader.write([event(5)])
    reader.write([event(6)])
    reader.stop()

    assert connection.written == [sse.encode([event(4), event(5)]), sse.encode([event(6)])]


@pytest.mark.parametrize("whole", [True, False])
async def test_the_end_is_told_or_seen_to_be_missing(whole: bool) -> None:
    connection = Memory()
    reader = reader_of(connection)
    reader.end(whole=whole)
    await reader.finished()

    assert (connection.written == [sse.DONE]) == whole
    assert connection.dropped.is_set() != whole


async def test_a_client_that_reads_slowly_is_kept() -> None:
    connection = Memory()
    reader = reader_of(connection, stall_seconds=0.01)
    connection.fill(10_000)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while connection.unsent:
            timer = reader._stall
            assert timer is not None
            connection.unsent -= 1000
            while reader._stall is timer:  # noqa: ASYNC110 - a timer tells nobody
                await asyncio.sleep(0.001)
    assert not connection.dropped.is_set()
    connection.empty()
    reader.stop()


async def test_a_client_that_does_not_read_at_all_is_dropped() -> None:
    connection = Memory()
    reader = reader_of(connection, stall_seconds=0.01)
    connection.fill(10_000)

    async with asyncio.timeout(PATIENCE_SECONDS):
        await connection.dropped.wait()
    reader.stop()


async def test_a_client_that_reads_again_is_not_dropped() -> None:
    connection = Memory()
    reader = reader_of(connection, stall_seconds=0.01)
    connection.fill(10_000)
    timer = reader._stall
    connection.empty()
    reader.stop()

    assert timer is not None
    assert timer.cancelled()


async def test_a_stopped_reader_leaves_no_timer() -> None:
    connection = Memory()
    reader = reader_of(connection)
    connection.fill(1)
    reader.stop()

    assert reader._stall is not None
    assert reader._stall.cancelled()
    assert reader._quiet.cancelled()


async def test_a_keep_alive_repeats_no_number_that_was_not_sent() -> None:
    connection = Memory()
    reader = reader_of(connection, after=10_000, keepalive_seconds=0.01)
    await until(lambda: len(connection.written) >= 2)
    reader.stop()

    assert set(connection.written) == {b": keep-alive\n\n"}


async def test_a_keep_alive_repeats_the_last_number_that_was_sent() -> None:
    connection = Memory()
    reader = reader_of(connection, after=3, keepalive_seconds=0.01)
    reader.write([event(4), event(5)])
    await until(lambda: len(connection.written) >= 2)
    reader.stop()

    [repeated] = parse_sse(connection.written[1] + sse.DONE)
    assert (repeated["type"], repeated["sequence_number"]) == ("response.in_progress", 5)


async def until(so: Callable[[], bool]) -> None:
    """Waits for a timer, which tells nobody."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not so():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_a_client_that_is_behind_is_not_kept_alive() -> None:
    connection = Memory()
    reader = reader_of(connection, keepalive_seconds=0.01)
    reader.write([event(0), event(1)])
    connection.full = True
    async with asyncio.timeout(PATIENCE_SECONDS):
        for _ in range(3):
            timer = reader._quiet
            while reader._quiet is timer:  # noqa: ASYNC110 - a timer tells nobody
                await asyncio.sleep(0.001)
    reader.stop()

    assert len(connection.written) == 1
