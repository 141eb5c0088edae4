"""A node's way to the database: slow, broken, too late, or the death of the node, as the weather says.

Every call runs in the database's own process, so that a write goes on whatever becomes of its caller, and is noted
in the ledger when it is done.  Must not know what the calls are for.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

from tests.simulation.database import Database
from tests.simulation.ledger import Ledger
from tests.simulation.loop import Process, SimulatedLoop
from tests.simulation.weather import Weather

from antiphon.engine.ports.stores import (
    Batch,
    Begun,
    Claim,
    Context,
    Listing,
    Parent,
    Record,
    RunName,
    Stored,
    StoreError,
)
from antiphon.engine.ports.tools import Noted, ToolCall, ToolResult
from antiphon.engine.webhooks import Delivery, Verdict
from antiphon.protocol.errors import unavailable
from antiphon.protocol.events import Event
from antiphon.protocol.requests import Page

#: How late a write may come to the database that was sent long ago.
STRAGGLE_SECONDS = 20.0

#: What a run is rebuilt from, and how often one task is told that it cannot be read.
READINGS = frozenset({"begun", "journal", "events"})
FAILURES_MAX = 2

#: What is asked again and again, and told only where there is an answer.
POLLED = frozenset({"events", "webhooks.projects", "webhooks.claim"})

Told = Callable[[str, str], None] | None
Note = Callable[[Any, int], None]


class Link:
    """``engine.ports.stores.Store`` for one node.  ``crash`` kills it, ``tell`` writes the trace."""

    def __init__(
        self,
        loop: SimulatedLoop,
        database: Callable[[], Database],
        ledger: Ledger,
        weather: Weather,
        process: Process,
        crash: Callable[[str], None],
        tell: Told,
    ) -> None:
        self._loop = loop
        self._database = database
        self._ledger = ledger
        self._weather = weather
        self._process = process
        self._crash = crash
        self._tell = tell
        self._failed: Counter[tuple[str, asyncio.Task[Any] | None]] = Counter()

    # --- Faults ---

    async def _call(self, name: str, arguments: tuple[Any, ...] = (), note: Note | None = None) -> Any:
        weather, random = self._weather, self._loop.random
        if random.random() < weather.delay:
            await asyncio.sleep(random.random() * weather.delay_seconds)
        fault = self._fault(name)
        if fault:
            self._ledger.saw[f"{name}: {fault}"] += 1
        if fault and self._tell is not None:
            self._tell(self._process.name, f"{name}: {fault}")
        if fault == "refused":
            raise StoreError("the simulated store was not to be reached")
        if fault == "busy":
            raise unavailable("The simulated store is busy.")
        if fault == "crash before":
            await self._die(f"before {name}")
        answer = self._loop.create_future()
        self._loop.spawn(self._loop.world, self._execute(name, arguments, note, fault, answer))
        return await answer

    def _fault(self, name: str) -> str:
        """A run that cannot be read three times in a row although the store works is given up, rightly; not here."""
        fault = self._weather.fault(self._loop.random, name)
        if name in READINGS and fault in ("refused", "busy", "unheard"):
            reading = (name, asyncio.current_task())
            self._failed[reading] += 1
            return fault if self._failed[reading] <= FAILURES_MAX else ""
        return fault

    async def _die(self, why: str) -> None:
        self._crash(why)
        await self._loop.create_future()  # for ever: no callback of a dead process is run

    async def _execute(
        self, name: str, arguments: tuple[Any, ...], note: Note | None, fault: str, answer: asyncio.Future[Any]
    ) -> None:
        """On the database's side."""
        weather, random = self._weather, self._loop.random
        if random.random() < weather.straggle:
            await asyncio.sleep(random.random() * STRAGGLE_SECONDS)
        started = self._ledger.now()
        result: Any = None
        failure: Exception | None = None
        try:
            result = await attrgetter(name)(self._database())(*arguments)
        except Exception as error:  # noqa: BLE001 - handed to the caller
            failure = error
            self._ledger.saw[f"{type(error).__name__} of {name}"] += 1
        if failure is None and note is not None:
            note(result, started)
        if self._tell is not None and (name not in POLLED or result):
            came = _short(result) if failure is None else repr(failure)
            self._tell(self._process.name, f"{name} {' '.join(map(_short, arguments))}: {came}")
        if fault == "crash after":
            self._crash(f"after {name}")
        if random.random() < weather.delay:
            await asyncio.sleep(random.random() * weather.delay_seconds)
        if answer.done():
            return
        if fault == "unheard":
            answer.set_exception(StoreError("the simulated store did not answer"))
        elif failure is not None:
            answer.set_exception(failure)
        else:
            answer.set_result(result)

    # --- The port ---

    async def context(self, project: str, response: str) -> Context:
        return await self._call("context", (project, response))

    def release(self, parent: Parent) -> None:
        self._database().release(parent)

    async def save(self, record: Record) -> None:
        await self._call("save", (record,))

    async def begin(self, record: Record) -> None:
        await self._call(
            "begin",
            (record,),
            lambda _result, _started: self._ledger.begun(record, self._process),
        )

    async def append(self, batches: Sequence[Batch]) -> list[bool]:
        return await self._call(
            "append",
            (batches,),
            lambda granted, started: self._ledger.appended(batches, granted, started),
        )

    async def finish(self, record: Record, fence: int, batches: Sequence[Batch]) -> bool:
        return await self._call(
            "finish",
            (record, fence, batches),
            lambda yes, started: self._ledger.finished(record, fence, batches, yes=yes, started=started),
        )

    async def claim(self, project: str, response: str) -> Claim | None:
        return await self._call(
            "claim",
            (project, response),
            lambda claim, started: self._ledger.claimed(RunName(project, response), claim, self._process, started),
        )

    async def hand_back(self, runs: Sequence[tuple[RunName, int]]) -> None:
        await self._call(
            "hand_back",
            (runs,),
            lambda _result, _started: self._ledger.returned(runs),
        )

    async def begun(self, project: str, response: str) -> Begun | None:
        return await self._call("begun", (project, response))

    async def journal_begin(self, project: str, response: str, fence: int, call: ToolCall) -> None:
        name = RunName(project, response)
        await self._call(
            "journal_begin",
            (project, response, fence, call),
            lambda _, started: self._ledger.intended(name, fence, call, self._process, started),
        )

    async def journal_complete(
        self, project: str, response: str, fence: int, call: ToolCall, result: ToolResult
    ) -> None:
        name = RunName(project, response)
        await self._call(
            "journal_complete",
            (project, response, fence, call, result),
            lambda _, started: self._ledger.completed(name, fence, call, result, started),
        )

    async def journal(self, project: str, response: str) -> list[Noted]:
        return await self._call("journal", (project, response))

    async def unfinished(self) -> list[RunName]:
        return await self._call("unfinished")

    async def working(self, project: str) -> int:
        return await self._call("working", (project,))

    async def compact(self, most: int) -> int:
        return await self._call("compact", (most,))

    async def read(self, project: str, response: str) -> Stored | None:
        return await self._call("read", (project, response))

    async def status(self, project: str, response: str) -> str | None:
        return await self._call("status", (project, response))

    async def events(self, project: str, response: str, after: int) -> list[Event]:
        return await self._call(
            "events",
            (project, response, after),
            lambda events, _: self._ledger.read(RunName(project, response), events),
        )

    async def input_items(self, project: str, response: str, page: Page) -> Listing | None:
        return await self._call("input_items", (project, response, page))

    async def item(self, project: str, item: str) -> bytes | None:
        return await self._call("item", (project, item))

    async def delete(self, project: str, response: str) -> bool:
        return await self._call(
            "delete",
            (project, response),
            lambda yes, _: self._ledger.deleted(RunName(project, response), yes=yes),
        )

    async def expire(self, now: int) -> int:
        return await self._call("expire", (now,))

    @property
    def webhooks(self) -> LinkedWebhooks:
        return LinkedWebhooks(self)

    async def ping(self) -> None:
        await self._call("ping")

    async def close(self) -> None:
        """The database goes on."""


class LinkedWebhooks:
    """What a deliverer asks of the database, over the same way."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def projects(self) -> frozenset[str]:
        return await self._link._call("webhooks.projects")

    async def claim(self, most: int, each: int, seconds: float, busy: Sequence[str]) -> list[Delivery]:
        return await self._link._call("webhooks.claim", (most, each, seconds, busy))

    async def settle(self, verdicts: Sequence[Verdict]) -> None:
        await self._link._call("webhooks.settle", (verdicts,))


def _short(thing: Any) -> str:
    """What the trace says of an argument or a result."""
    if isinstance(thing, Batch):
        numbers = f"{thing.events[0].number}..{thing.events[-1].number}" if thing.events else "nothing"
        return f"{thing.response[-4:]}/{thing.fence} {numbers}"
    if isinstance(thing, list) and thing and isinstance(thing[0], Event):
        return f"events {thing[0].number}..{thing[-1].number}"
    if isinstance(thing, list) and len(thing) < 9:
        return "[" + ", ".join(map(_short, thing)) + "]"
    if isinstance(thing, Stored):
        return thing.outcome.status
    if isinstance(thing, Record):
        return f"{thing.shell.id[-4:]} {thing.outcome.status}"
    text = str(thing)
    return text if len(text) < 100 else text[:100] + "..."
