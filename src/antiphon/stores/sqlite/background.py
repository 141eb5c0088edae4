"""Writes what background runs come to: their events, hosted calls, owners and ends, and their packed logs.

Runs on the writer's thread, inside its transaction.  What a group asks of a run is done in the order in which it was
submitted: first against the run's row as it was found, then with a constant number of statements.  That is why a claim
and an append of the owner before it cannot both succeed (docs/log.md, I2 and I3).
"""

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import msgspec

from antiphon.engine.ports.stores import Batch, Claim, RunName
from antiphon.protocol.events import Event
from antiphon.stores.rows import frames_of
from antiphon.stores.sqlite.moving import Moving
from antiphon.stores.sqlite.operations import (
    Append,
    Finish,
    HandBack,
    JournalBegin,
    JournalComplete,
    Replace,
    RunOperation,
    TakeOver,
)
from antiphon.stores.sqlite.statements import Row, Statements

encode = msgspec.json.encode

#: ``attempt`` and ``progress`` of a run that was handed back: its next claim counts 0, whatever its log has come to.
_HANDED_BACK = (-1, 2**62)


class _Run:
    """A run's row as the group sees it."""

    __slots__ = ("attempt", "changed", "ended", "fence", "last", "middle", "progress", "row", "thread")

    def __init__(self, row: int, thread: int, middle: int, fence: int, last: int, *rest: int) -> None:
        self.row, self.thread, self.middle, self.fence, self.last = row, thread, middle, fence, last
        self.attempt, self.progress, self.ended = rest
        self.changed = False

    def owned(self, fence: int) -> bool:
        """Whether whoever says this fence may write (I2, I6)."""
        return self.fence == fence and not self.ended

    def news(self, response: str, events: list[Event]) -> list[Event]:
        """Those that are not durable yet (I3)."""
        if not events:
            return events
        first = events[0].number
        if first > self.last + 1:
            raise ValueError(f"event {first} of run {response} leaves a gap behind event {self.last}")
        return events[self.last + 1 - first :] if first <= self.last else events

    def state(self) -> Row:
        return self.row, self.fence, self.last, self.attempt, self.progress, self.ended


_Runs: TypeAlias = dict[tuple[str, str], _Run]
_Call: TypeAlias = tuple[int, str]


class _Group:
    """What a group asks of runs, done to their rows in memory; and what is to be written of it."""

    def __init__(self, runs: _Runs) -> None:
        self._runs = runs
        self.events: list[Row] = []
        self.ends: list[tuple[_Run, Finish]] = []
        self.intents: dict[_Call, bytes] = {}
        #: Results of calls that were begun before this group, and in it.
        self.results: dict[_Call, bytes] = {}
        self.late_results: dict[_Call, bytes] = {}

    def do(self, operation: RunOperation) -> Any:
        match operation:
            case Append(batches):
                return [self._append(batch) for batch in batches]
            case Finish():
                return self._finish(operation)
            case TakeOver(name):
                return self._claim(name)
            case HandBack(runs):
                return self._hand_back(runs)
            case JournalBegin() | JournalComplete():
                return self._note(operation)

    def _append(self, batch: Batch) -> bool:
        run = self._runs.get(batch[:2])
        if run is None or not run.owned(batch.fence):
            return False
        events = run.news(batch.response, batch.events)
        if events:
            first, last = events[0].number, events[-1].number
            self.events.append((run.row, first, last, frames_of(events)))
            run.last, run.changed = last, True
        return True

    def _finish(self, operation: Finish) -> bool:
        run = self._runs.get(operation.name)
        if run is None or run.fence != operation.fence:
            return False
        if not run.ended:
            for batch in operation.batches:
                self._append(batch)
            run.ended = run.changed = True
            self.ends.append((run, operation))
        return True

    def _claim(self, name: RunName) -> Claim | None:
        run = self._runs.get(name)
        if run is None or run.ended:
            return None
        run.fence += 1
        run.attempt = 1 if run.last > run.progress else run.attempt + 1
        run.progress = run.last
        run.changed = True
        return Claim(run.fence, run.last, run.attempt)

    def _hand_back(self, runs: Iterable[tuple[RunName, int]]) -> None:
        for name, fence in runs:
            run = self._runs.get(name)
            if run is not None and run.owned(fence):
                run.attempt, run.progress = _HANDED_BACK
                run.changed = True

    def _note(self, operation: JournalBegin | JournalComplete) -> bool:
        run = self._runs.get(operation.name)
        if run is None or not run.owned(operation.fence):
            return False
        key = (run.row, operation.call.item_id)
        if isinstance(operation, JournalBegin):
            self.intents.setdefault(key, encode(operation.call))
        else:
            (self.late_results if key in self.intents else self.results)[key] = operation.result
        return True

    def changes(self) -> list[Row]:
        return [run.state() for run in self._runs.values() if run.changed]


class Background:
    """Writes the logs, journals, owners and ends of the background runs of a group."""

    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    def work(self, operations: Sequence[RunOperation]) -> list[Any]:
        """The results of all, as of one after another.  Raises ``ValueError`` for events that leave a gap."""
        group = _Group(self._find({name for operation in operations for name in operation.names}))
        results = [group.do(operation) for operation in operations]
        self._statements.rows("insert_events", group.events)
        self._end(group.ends)
        self._statements.rows("change_runs", group.changes())
        self._complete(group.results)
        self._statements.rows("journal_begin", [(*key, intent) for key, intent in group.intents.items()])
        self._complete(group.late_results)
        return results

    def _find(self, names: Iterable[tuple[str, str]]) -> _Runs:
        found = self._statements.rows("runs", list(names))
        return {(project, id): _Run(*rest) for project, id, *rest in found}

    def _end(self, ended: Sequence[tuple[_Run, Finish]]) -> None:
        items = [
            (operation.record.project, run.thread, position, item.id, item.body)
            for run, operation in ended
            for position, item in enumerate(operation.record.output, run.middle)
        ]
        self._statements.rows("insert_items", items)
        if ended:
            tips = [(run.thread, run.middle + len(operation.record.output)) for run, operation in ended]
            self._statements.run("move_tips", moves=tips)
        self._statements.rows("finish_responses", [_end(run, operation) for run, operation in ended])
        told = [(*operation.name, operation.record.outcome.status) for _, operation in ended]
        self._statements.rows("insert_outbox", told)
        moving = Moving(self._statements, [operation.name for _, operation in ended])
        for run, operation in ended:
            moving.move(operation.record, run.thread, run.middle + len(operation.record.output))
        moving.free([operation.name for _, operation in ended])
        moving.write()

    def _complete(self, results: dict[_Call, bytes]) -> None:
        self._statements.rows("journal_complete", [(*key, result) for key, result in results.items()])

    def replace(self, operations: Sequence[Replace]) -> list[int]:
        """Puts packs where the rows were that they hold; how many logs are done.

        A run that is gone has no log any more, and nothing is put back.
        """
        asked = {run for operation in operations for run in (*(run for run, _ in operation.packs), *operation.done)}
        known = {run for (run,) in self._statements.run("packable", rows=sorted(asked))}
        packs = [(run, pack) for operation in operations for run, pack in operation.packs if run in known]
        self._statements.rows("delete_packed", [(run, pack.first, pack.last) for run, pack in packs])
        self._statements.rows("insert_packs", [(run, pack.first, pack.last, pack.frames) for run, pack in packs])
        done = [[run for run in operation.done if run in known] for operation in operations]
        self._statements.run("delete_runs", rows=[run for runs in done for run in runs])
        return [len(runs) for runs in done]


def _end(run: _Run, operation: Finish) -> Row:
    record = operation.record
    upto = run.middle + len(record.output)
    return run.row, upto, record.expires_at, record.outcome.status, encode(record.outcome), record.full_hash
