"""What background runs come to, in groups: their events, hosted calls and ends, and who owns them.

The calls' rules stand in migrations/0003_runs.sql.  Each is one transaction that asks for the owner first, and says the
same when it is repeated after a commit whose outcome nobody heard (docs/log.md, I2 and I3).
Must not know of loops, futures or HTTP.
"""

from collections.abc import Sequence
from itertools import islice, pairwise
from typing import Any

import msgspec

from antiphon.engine.ports.stores import Batch, Claim, Disowned
from antiphon.protocol.events import Event
from antiphon.stores.postgres import operations as ops
from antiphon.stores.postgres.operations import columns
from antiphon.stores.postgres.texts import sendable
from antiphon.stores.queries import Queries
from antiphon.stores.rows import frames_of

encode = msgspec.json.encode

#: What append_events_2 and finish_runs_5 say of a stretch of events.
DISOWNED, DURABLE, GAP = 0, 1, 2


class _Stretches:
    """Events of runs, each run once and without gap, as the arrays of ``append_events_2``."""

    def __init__(self) -> None:
        self._places: dict[tuple[str, str, int], int] = {}
        self._projects: list[str] = []
        self._responses: list[str] = []
        self._fences: list[int] = []
        self._firsts: list[int | None] = []
        self._lasts: list[int | None] = []
        #: Of each batch: the place of its run, its first and last number, its frames.
        self._batches: tuple[list[int], list[int], list[int], list[bytes]] = ([], [], [], [])

    def name(self, project: str, response: str, fence: int) -> int:
        """The place of a run with its writer's fence, from 1."""
        name = (project, response, fence)
        place = self._places.get(name)
        if place is None:
            place = self._places[name] = len(self._fences) + 1
            self._projects.append(sendable(project))
            self._responses.append(sendable(response))
            self._fences.append(fence)
            self._firsts.append(None)
            self._lasts.append(None)
        return place

    def take(self, place: int, events: Sequence[Event]) -> bool:
        """Adds events of the run at a place; False where they do not go on with what is there."""
        if not events:
            return True
        begun, upto, first, last = self._firsts[place - 1], self._lasts[place - 1], events[0].number, events[-1].number
        if begun is None or upto is None:
            self._firsts[place - 1] = first
        elif not begun <= first <= upto + 1:
            return False
        elif first <= upto:
            first = upto + 1
            if last < first:
                return True
            events = [event for event in events if event.number >= first]
        self._lasts[place - 1] = last
        places, firsts, lasts, frames = self._batches
        places.append(place)
        firsts.append(first)
        lasts.append(last)
        frames.append(frames_of(events))
        return True

    def names(self) -> list[list[Any]]:
        """The arrays that say how far which run is to go."""
        return [self._projects, self._responses, self._fences, self._firsts, self._lasts]

    def batches(self) -> tuple[list[Any], ...]:
        """The arrays of the events themselves."""
        return self._batches


class Background:
    """Writes groups; each method is a ``lanes.Write``."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries

    async def append(self, connection: Any, operations: Sequence[ops.Append], again: bool) -> list[Any]:  # noqa: ARG002
        """For each a list of which batches are durable.  What goes on with the batch before is written with it."""
        batches = [batch for operation in operations for batch in operation.batches]
        said = [DISOWNED] * len(batches)
        left: Sequence[int] = range(len(batches))
        while left:
            stretches = _Stretches()
            places = {place: stretches.name(*batches[place][:3]) for place in left}
            later = [place for place in left if not stretches.take(places[place], batches[place].events)]
            results = await connection.fetchval(self._queries["append"], *stretches.names(), *stretches.batches())
            for place in left:
                said[place] = results[places[place] - 1]
            left = later
        codes = iter(said)
        return [_answers(operation.batches, list(islice(codes, len(operation.batches)))) for operation in operations]

    async def finish(self, connection: Any, operations: Sequence[ops.Finish], again: bool) -> list[Any]:  # noqa: ARG002
        """True for the runs that their owner has ended; of two ends by one owner in a group the first is written."""
        stretches = _Stretches()
        places: list[int | None] = []
        runs: list[tuple[Any, ...]] = []
        items: list[tuple[Any, ...]] = []
        for record, fence, batches in operations:
            place = stretches.name(record.project, record.shell.id, fence) if _in_order(batches) else None
            places.append(place)
            if place is None or place <= len(runs):
                continue
            for batch in batches:
                stretches.take(place, batch.events)
            outcome = record.outcome
            runs.append((len(record.output), record.expires_at, outcome.status, encode(outcome), record.full_hash))
            items += [(place, offset, sendable(item.id), item.body) for offset, item in enumerate(record.output)]
        arguments = (*stretches.names(), *columns(runs, 5), *columns(items, 4), *stretches.batches())
        results = await connection.fetchval(self._queries["finish"], *arguments)
        said = [GAP if place is None else results[place - 1] for place in places]
        return [
            _gap(operation.record.shell.id) if code == GAP else code == DURABLE
            for operation, code in zip(operations, said, strict=True)
        ]

    async def claim(self, connection: Any, operations: Sequence[ops.Claim], again: bool) -> list[Any]:  # noqa: ARG002
        """The claims; None where there is no run, or it has ended.  Two of one run in a group are made in turn."""
        results: list[Any] = [None] * len(operations)
        left: Sequence[int] = range(len(operations))
        while left:
            now, left = _once(left, [operations[place][:2] for place in left])
            rows = [
                (sendable(project), sendable(response), token)
                for project, response, token, _ in (operations[place] for place in now)
            ]
            found = await connection.fetch(self._queries["claim"], *columns(rows, 3))
            for place, (fence, last, attempt) in zip(now, found, strict=True):
                results[place] = None if fence is None else Claim(fence, last, attempt)
        return results

    async def hand_back(self, connection: Any, operations: Sequence[ops.HandBack], again: bool) -> list[Any]:  # noqa: ARG002
        """Those that are not the caller's any more are passed over."""
        rows = [
            (sendable(run.project), sendable(run.response), fence)
            for operation in operations
            for run, fence in operation.runs
        ]
        await connection.execute(self._queries["hand_back"], *columns(rows, 3))
        return [None] * len(operations)

    async def begin_calls(self, connection: Any, operations: Sequence[ops.BeginCall], again: bool) -> list[Any]:  # noqa: ARG002
        """Notes intents; what is noted already stays."""
        rows = [
            (sendable(project), sendable(response), fence, sendable(call.item_id), encode(call))
            for project, response, fence, call in operations
        ]
        return _owned(operations, await connection.fetchval(self._queries["begin_calls"], *columns(rows, 5)))

    async def complete_calls(self, connection: Any, operations: Sequence[ops.CompleteCall], again: bool) -> list[Any]:  # noqa: ARG002
        """Notes results; saying the same twice changes nothing."""
        rows = [
            (sendable(project), sendable(response), fence, sendable(call.item_id), result)
            for project, response, fence, call, result in operations
        ]
        return _owned(operations, await connection.fetchval(self._queries["complete_calls"], *columns(rows, 5)))

    async def compact(self, connection: Any, operations: Sequence[ops.Compact], again: bool) -> list[Any]:  # noqa: ARG002
        """Puts packed rows in the place of others, unless the run is gone or was packed by another."""
        logs = [log for operation in operations for log in operation.logs]
        rows = [
            (place, pack.first, pack.last, pack.frames) for place, log in enumerate(logs, 1) for pack in log.packs
        ]  # fmt: skip
        await connection.execute(self._queries["compact"], [log.run for log in logs], *columns(rows, 4))
        return [None] * len(operations)


def _in_order(batches: Sequence[Batch]) -> bool:
    """Whether each batch goes on with the one before, at the latest behind its last event."""
    spans = [(batch.events[0].number, batch.events[-1].number) for batch in batches if batch.events]
    return all(first <= later <= last + 1 for (first, last), (later, _) in pairwise(spans))


def _answers(batches: Sequence[Batch], said: Sequence[int]) -> list[bool] | ValueError:
    """What a call with several batches is told; one without events leaves no gap."""
    if GAP in said:
        for batch, code in zip(batches, said, strict=True):
            if code == GAP and batch.events:
                return _gap(batch.response)
    return [code != DISOWNED for code in said]


def _gap(response: str) -> ValueError:
    return ValueError(f"events of {response} would leave a gap")


def _owned(operations: Sequence[ops.BeginCall | ops.CompleteCall], owned: Sequence[bool]) -> list[Disowned | None]:
    return [
        None if mine else Disowned(operation.response) for operation, mine in zip(operations, owned, strict=True)
    ]  # fmt: skip


def _once(places: Sequence[int], names: Sequence[tuple[Any, ...]]) -> tuple[list[int], list[int]]:
    """The places where each name stands first, and the others."""
    firsts = {name: place for place, name in reversed(list(zip(places, names, strict=True)))}
    return sorted(firsts.values()), sorted(set(places) - set(firsts.values()))
