"""Writes what background runs come to: their events, their hosted calls and their ends.

Runs on the writer's thread, inside its transaction.  Rules: design section 2, "Two kinds of run".
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

import msgspec

from antiphon.engine.ports import Batch
from antiphon.protocol.responses import TERMINAL
from antiphon.stores.rows import frames_of
from antiphon.stores.sqlite.operations import Append, Finish, JournalBegin, JournalComplete
from antiphon.stores.sqlite.statements import Row, Statements

encode = msgspec.json.encode


class _Run(NamedTuple):
    row: int
    thread: int
    middle: int
    status: str

    @property
    def ended(self) -> bool:
        return self.status in TERMINAL


_Runs: TypeAlias = dict[tuple[str, str], _Run]


class Background:
    """Writes the logs, journals and ends of the background runs of a group."""

    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    def _find(self, names: Iterable[tuple[str, str]]) -> _Runs:
        found = self._statements.rows("runs", list(dict.fromkeys(names)))
        return {(project, id): _Run(*rest) for project, id, *rest in found}

    def log(self, operations: Sequence[Append | Finish]) -> list[bool]:
        """Appends events and ends runs.  A run that is gone takes no events; one that has ended does not end again."""
        batches = [batch for operation in operations if isinstance(operation, Append) for batch in operation.batches]
        finishes: dict[tuple[str, str], Finish] = {}
        for operation in operations:
            if isinstance(operation, Finish):
                finishes.setdefault(_name(operation.last), operation)
        runs = self._find([*map(_name, batches), *finishes])
        ended = {name: finish for name, finish in finishes.items() if name in runs and not runs[name].ended}
        batches += [finish.last for finish in ended.values()]
        events = [_row(runs[_name(batch)], batch) for batch in batches if batch.events and _name(batch) in runs]
        self._statements.rows("insert_events", events)
        self._end([(runs[name], finish) for name, finish in ended.items()])
        return [
            isinstance(operation, Finish) and ended.get(_name(operation.last)) is operation for operation in operations
        ]

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

    def journal(self, operations: Sequence[JournalBegin | JournalComplete]) -> list[bytes | None]:
        """Notes intents and results of hosted calls; for an intent, the result that is known already."""
        runs = self._find((operation.project, operation.response) for operation in operations)
        keys = [(runs[operation.project, operation.response].row, operation.call.item_id) for operation in operations]
        pairs = list(zip(keys, operations, strict=True))
        intents = [(*key, encode(operation.call)) for key, operation in pairs if isinstance(operation, JournalBegin)]
        results = [(*key, operation.result) for key, operation in pairs if isinstance(operation, JournalComplete)]
        self._statements.rows("journal_begin", intents)
        self._statements.rows("journal_complete", results)
        asked = [key for key, operation in pairs if isinstance(operation, JournalBegin)]
        known = {(run, call): result for run, call, result in self._statements.rows("journal_results", asked)}
        return [known.get(key) if isinstance(operation, JournalBegin) else None for key, operation in pairs]


def _name(batch: Batch) -> tuple[str, str]:
    return batch.project, batch.response


def _row(run: _Run, batch: Batch) -> Row:
    events = batch.events
    return run.row, events[0].number, events[-1].number, frames_of(events)


def _end(run: _Run, operation: Finish) -> Row:
    record = operation.record
    upto = run.middle + len(record.output)
    return run.row, upto, record.expires_at, record.outcome.status, encode(record.outcome)
