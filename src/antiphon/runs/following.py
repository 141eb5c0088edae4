"""Feeds a reader with a background run's events: from the store, and then live.

Must not know what an event says or how it is sent.  Rule: docs/log.md, I7.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from antiphon.engine.coordination import Coordinator, News
from antiphon.engine.ports.stores import RunName, Store
from antiphon.protocol.events import TERMINAL_TYPES, Event
from antiphon.protocol.responses import TERMINAL
from antiphon.runs.log import DurableLog, Reader

#: Events handed to a reader that catches up, before it is asked whether it has room for more.
EVENTS_MAX = 256


class Follower(Reader, Protocol):
    """A reader that tells where it stands and when it can take more."""

    last: int

    async def ready(self) -> None:
        """Returns when there is room again."""


async def follow(
    store: Store,
    coordinator: Coordinator,
    find_log: Callable[[RunName], DurableLog | None],
    run: RunName,
    reader: Follower,
) -> None:
    """Feeds a reader with everything after ``reader.last``, whoever works on the run and however often that changes."""
    elsewhere = _Elsewhere(coordinator, run)
    try:
        await _feed(store, elsewhere, find_log, run, reader)
    finally:
        await elsewhere.close()


class _Elsewhere:
    """What is heard of a run that another process works on; nobody listens before that is so."""

    def __init__(self, coordinator: Coordinator, run: RunName) -> None:
        self._coordinator = coordinator
        self._run = run
        self._news: News | None = None

    async def feed(self, reader: Follower) -> bool:
        """Hands over what is told, until the store is to be asked; whether that was all there will be."""
        if self._news is None:
            self._news = await self._coordinator.news(self._run)
            return False
        while events := await self._news.next(reader.last):
            await _hand_over(events, reader)
            if events[-1].type in TERMINAL_TYPES:
                return True
        return False

    async def close(self) -> None:
        if self._news is not None:
            await self._news.close()


async def _feed(
    store: Store,
    elsewhere: _Elsewhere,
    find_log: Callable[[RunName], DurableLog | None],
    run: RunName,
    reader: Follower,
) -> None:
    log: DurableLog | None = None
    while True:
        await reader.ready()
        log = find_log(run) or log  # one that has ended here tells whether it had come to its end
        durable_before = -1 if log is None else log.durable
        events = await store.events(*run, reader.last)
        await asyncio.sleep(0)  # a long log must not keep others waiting; a store may answer without a pause
        await _hand_over(events, reader)
        if events and events[-1].type in TERMINAL_TYPES:
            return reader.end(whole=True)
        if log is not None and not log.disowned:
            if log.ended and not events and durable_before == log.durable:
                return reader.end(whole=log.whole)
            await log.live(reader, reader.last)
        elif not events:
            status = await store.status(*run)
            if status is None:
                return reader.end(whole=False)
            # The terminal event may have come between the two readings, or the reader be behind it.
            if status in TERMINAL and not await store.events(*run, reader.last):
                return reader.end(whole=True)
            if status not in TERMINAL and await elsewhere.feed(reader):
                return reader.end(whole=True)


async def _hand_over(events: list[Event], reader: Follower) -> None:
    for start in range(0, len(events), EVENTS_MAX):
        await reader.ready()
        reader.write(events[start : start + EVENTS_MAX])
