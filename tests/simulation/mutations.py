"""Deliberate breakages, each by one replaced object: what the simulation must find.

A breakage is a context in which the server breaks a promise; the table names it and the promise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

from tests.simulation.database import Database
from tests.simulation.hosted import SimulatedTool
from tests.simulation.link import Link

from antiphon.engine.draft import Draft
from antiphon.engine.holding import Holding
from antiphon.engine.ports.stores import Batch, Claim, Record, RunName
from antiphon.engine.ports.tools import Noted
from antiphon.engine.turns import Turns
from antiphon.engine.webhooks import Delivery, Fate, Verdict
from antiphon.protocol.events import Event
from antiphon.protocol.responses import Outcome
from antiphon.runs import flushing
from antiphon.runs.journal import StoreJournal
from antiphon.runs.log import DurableLog, Reader
from antiphon.runs.outbox import Deliverer
from antiphon.runs.running import Runs
from antiphon.stores.sqlite import store
from antiphon.stores.sqlite.background import _Group, _Run
from antiphon.stores.sqlite.operations import ClaimDeliveries, Settle
from antiphon.stores.sqlite.outbox import Outbox
from antiphon.stores.sqlite.store import SqliteStore

Breakage = Callable[[], AbstractContextManager[Any]]


def _no_fence() -> Any:
    return patch.object(_Run, "owned", lambda run, fence: not run.ended)


def _push_first() -> Any:
    publish = DurableLog.publish

    def pushing(log: DurableLog, events: list[Event]) -> None:
        publish(log, events)
        for reader in list(log._readers):
            reader.write(events)

    return patch.object(DurableLog, "publish", pushing)


def _two_transactions() -> Any:
    finish = Link.finish

    async def halves(link: Link, record: Record, fence: int, batches: Sequence[Batch]) -> bool:
        return all(await link.append(batches)) and await finish(link, record, fence, batches)

    return patch.object(Link, "finish", halves)


def _end_without_events() -> Any:
    finish = Link.finish

    async def bare(link: Link, record: Record, fence: int, batches: Sequence[Batch]) -> bool:
        ended = await finish(link, record, fence, [])
        await link.append(batches)
        return ended

    return patch.object(Link, "finish", bare)


def _journal_late() -> Any:
    async def begin(journal: StoreJournal, call: Any) -> None:
        """Noted with the result only."""

    complete = StoreJournal.complete
    noted = StoreJournal.begin

    async def both(journal: StoreJournal, call: Any, result: Any) -> None:
        await noted(journal, call)
        await complete(journal, call, result)

    return patch.multiple(StoreJournal, begin=begin, complete=both)


def _journal_forgets() -> Any:
    journal = SqliteStore.journal

    async def forgetful(database: Database, project: str, response: str) -> list[Noted]:
        return [Noted(one.call, None) for one in await journal(database, project, response)]

    return patch.object(SqliteStore, "journal", forgetful)


def _repeats_effects() -> Any:
    return patch.object(SimulatedTool, "read_only", property(lambda tool: True, lambda tool, value: None), create=True)


def _result_after_done() -> Any:
    complete = StoreJournal.complete

    async def later(journal: StoreJournal, call: Any, result: Any) -> None:
        asyncio.get_running_loop().call_later(
            0.05, lambda: asyncio.get_running_loop().create_task(complete(journal, call, result))
        )

    return patch.object(StoreJournal, "complete", later)


def _not_counted() -> Any:
    claim = _Group._claim

    def uncounted(group: _Group, name: RunName) -> Claim | None:
        claimed = claim(group, name)
        return None if claimed is None else claimed._replace(attempt=1)

    return patch.object(_Group, "_claim", uncounted)


def _no_reading_again() -> Any:
    async def live(log: DurableLog, reader: Reader, after: int) -> bool:
        if log.ended:
            return False
        waiting = log._readers[reader] = asyncio.get_running_loop().create_future()
        await waiting
        return True

    return patch.object(DurableLog, "live", live)


def _refusal_ignored() -> Any:
    tell = flushing._tell

    def deaf(taken: Any, written: Sequence[bool]) -> None:
        tell(taken, [True] * len(written))

    return patch.object(flushing, "_tell", deaf)


def _lost_events() -> Any:
    return patch.object(DurableLog, "put_back", lambda log, batches: None)


def _packed_short() -> Any:
    unpacked = store.unpacked

    def short(frames: bytes, packed: bool) -> bytes:
        whole = unpacked(frames, packed)
        return whole.rpartition(b"\x1e")[0] if packed else whole

    return patch.object(store, "unpacked", short)


def _cancelled_too_soon() -> Any:
    async def cancel(runs: Runs, project: str, response: str) -> bytes:
        stored = await runs._store.read(project, response)
        run = runs._background.get(RunName(project, response))
        if run is None or stored is None:
            return await whole(runs, project, response)
        run.cancel()
        return stored._replace(outcome=Outcome("cancelled")).snapshot()

    whole = Runs.cancel
    return patch.object(Runs, "cancel", cancel)


def _acknowledged_too_soon() -> Any:
    begin = Link.begin

    async def hasty(link: Link, record: Record) -> None:
        asyncio.get_running_loop().create_task(begin(link, record))

    return patch.object(Link, "begin", hasty)


def _begins_anew() -> Any:
    return patch.object(Draft, "cut", property(lambda draft: ""))


def _nothing_held() -> Any:
    return patch.object(Holding, "take", lambda holding, deltas: list(deltas))


def _forgets_calls() -> Any:
    resume = Turns.resume

    async def forgetful(turns: Turns, noted: Sequence[Noted]) -> None:
        await resume(turns, [one for one in noted if one.result is not None])

    return patch.object(Turns, "resume", forgetful)


def _told_once_at_most() -> Any:
    """What is claimed goes, before anybody has heard of it."""
    claim = Outbox._claim

    def forgetting(outbox: Outbox, operation: ClaimDeliveries) -> list[Delivery]:
        claimed = claim(outbox, operation)
        outbox.settle([Settle([Verdict(one.row, one.attempt, Fate.DELIVERED) for one in claimed])])
        return claimed

    return patch.object(Outbox, "_claim", forgetting)


def _not_told_again() -> Any:
    def failed(deliverer: Deliverer, delivery: Delivery, why: str) -> Verdict:
        return Verdict(delivery.row, delivery.attempt, Fate.DEAD, 1.0)

    return patch.object(Deliverer, "_failed", failed)


BREAKAGES: dict[str, Breakage] = {
    "I2 appends are not fenced": _no_fence,
    "I2 a refused append counts as written": _refusal_ignored,
    "I3 events of a failed append are lost": _lost_events,
    "I5 events are pushed before their commit": _push_first,
    "I5 a create is acknowledged before it is durable": _acknowledged_too_soon,
    "I6 the last events and the end are two transactions": _two_transactions,
    "I6 the end and the last events are two transactions": _end_without_events,
    "I6 a cancel is acknowledged before it is durable": _cancelled_too_soon,
    "I7 a follower that missed events does not read them": _no_reading_again,
    "I8 a call's intent is noted after the call": _journal_late,
    "I8 a call's result is noted after its item is done": _result_after_done,
    "I8 completed calls are made again": _journal_forgets,
    "I8 interrupted calls with effects are made again": _repeats_effects,
    "I8 interrupted calls are forgotten": _forgets_calls,
    "I9 calls and bound texts are streamed": _nothing_held,
    "I10 takeovers are not counted": _not_counted,
    "I11 packing drops an event": _packed_short,
    "a text that was cut is not gone on with": _begins_anew,
    "a webhook that was claimed is not told after a crash": _told_once_at_most,
    "a webhook that failed is not told again": _not_told_again,
}
