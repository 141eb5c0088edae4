"""A group of operations of one kind as one call of a function in the database.

The calls' rules stand in migrations/0002_writing.sql.  Every write can be repeated after a commit whose outcome nobody
heard: what is found written with the same content counts as written.  Must not know of loops, futures or HTTP.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import asyncpg
import msgspec

from antiphon.engine.ports import Batch, Parent, Record, ToolCall
from antiphon.engine.shell import LARGE_BYTES
from antiphon.protocol.responses import TERMINAL
from antiphon.stores.postgres.texts import sendable
from antiphon.stores.queries import Queries
from antiphon.stores.rows import frames_of

encode = msgspec.json.encode

#: Deeper ancestries are copied into the fork, so that a context stays one short join (design section 3).
SEGMENTS_MAX = 1000
#: Blobs whose bytes need not be sent again, as far as we know; the database asks for those that are gone.
KNOWN_BLOBS_MAX = 4096
#: SQLSTATEs of migrations/0002_writing.sql.
BYTES_WANTED, PARENT_GONE = "AP001", "AP002"

_MAY_CONTINUE, _BACKGROUND, _STREAMED, _STORED = 1, 2, 4, 8


class Save(NamedTuple):
    """A response to write: finished, or a background run that begins."""

    record: Record

    @property
    def size(self) -> int:
        record = self.record
        items = sum(len(item.body) for item in record.input) + sum(len(item.body) for item in record.output)
        return items + len(record.shell.tail) + len(record.request)


class Append(NamedTuple):
    """Events of background runs."""

    batches: Sequence[Batch]

    @property
    def size(self) -> int:
        return sum(len(event.data) for batch in self.batches for event in batch.events)


class Finish(NamedTuple):
    """The end of a background run."""

    record: Record
    last: Batch

    @property
    def size(self) -> int:
        return sum(len(item.body) for item in self.record.output) + Append([self.last]).size


class BeginCall(NamedTuple):
    """The intent of a hosted call."""

    project: str
    response: str
    call: ToolCall

    @property
    def size(self) -> int:
        return len(self.call.arguments)


class CompleteCall(NamedTuple):
    """The result of a hosted call."""

    project: str
    response: str
    call: ToolCall
    result: bytes

    @property
    def size(self) -> int:
        return len(self.result)


class Delete(NamedTuple):
    """A response to remove, with what only it needed."""

    project: str
    response: str
    size: int = 100


class Expire(NamedTuple):
    """Responses past their time to remove, so many at once; how many there were."""

    now: int
    most: int
    size: int = 16


class Release(NamedTuple):
    """A pin to let go."""

    number: int
    size: int = 8


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    """Rows as one array for each column, as ``unnest`` wants them."""
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]


def _frames(batch: Batch) -> tuple[int | None, int | None, bytes]:
    if not batch.events:
        return None, None, b""
    return batch.events[0].number, batch.events[-1].number, frames_of(batch.events)


class Groups:
    """Writes groups; each method is a ``lanes.Write``."""

    def __init__(self, queries: Queries, owner: int, segments_max: int) -> None:
        self._queries = queries
        self._owner = owner
        self._segments_max = segments_max
        self._known: OrderedDict[tuple[str, bytes], None] = OrderedDict()

    async def save(self, connection: Any, operations: Sequence[Save], again: bool) -> list[Any]:
        """Places the responses; what each continues is moved by compare-and-set, the loser of a race forks."""
        records = [operation.record for operation in operations]
        if again:
            records = await self._missing(connection, records)
        try:
            if records:
                await self._save(connection, records)
        except asyncpg.UniqueViolationError:
            # The first try may have been on its way still when we looked; then it is committed now.
            if not again or await self._missing(connection, records):
                raise
        except asyncpg.PostgresError as error:
            if error.sqlstate != PARENT_GONE:
                raise
            raise LookupError("what the response continues is not there any more") from None
        return [None] * len(operations)

    async def _missing(self, connection: Any, records: Sequence[Record]) -> list[Record]:
        """Those that are not written."""
        keys = [
            (sendable(record.project), sendable(record.shell.id), encode(record.outcome), record.request)
            for record in records
        ]
        found = {row[0] for row in await connection.fetch(self._queries["saved"], *_columns(keys, 4))}
        return [record for place, record in enumerate(records, 1) if place not in found]

    async def _save(self, connection: Any, records: Sequence[Record]) -> None:
        rows = _Rows(self._known)
        for record in records:
            rows.add(record)
        try:
            await connection.execute(self._queries["save"], *rows.arguments(), self._segments_max)
        except asyncpg.PostgresError as error:
            if error.sqlstate != BYTES_WANTED or not rows.left_out:
                raise
            self._known.clear()  # another process deleted what we believed to be there
            await self._save(connection, records)
            return
        for key in rows.blobs:
            self._known[key] = None
            self._known.move_to_end(key)
        while len(self._known) > KNOWN_BLOBS_MAX:
            self._known.popitem(last=False)

    async def append(self, connection: Any, operations: Sequence[Append], again: bool) -> list[Any]:
        """Appends to the logs of runs that are there and have not ended."""
        rows = [
            (sendable(batch.project), sendable(batch.response), *_frames(batch))
            for operation in operations
            for batch in operation.batches
            if batch.events
        ]
        if again and rows:
            written = await connection.fetch(self._queries["appended"], *_columns(rows, 5))
            places = {row[0] for row in written}
            rows = [row for place, row in enumerate(rows, 1) if place not in places]
        if rows:
            await connection.execute(self._queries["append"], *_columns(rows, 5))
        return [None] * len(operations)

    async def finish(self, connection: Any, operations: Sequence[Finish], again: bool) -> list[Any]:
        """True for the runs that ended now; of two ends of one run in a group the first counts."""
        places = _firsts((record.project, record.shell.id) for record, _ in operations)
        runs, items = _finish_rows([operations[place] for place in places])
        columns, item_columns = _columns(runs, 9), _columns(items, 4)
        ended = await connection.fetchval(self._queries["finish"], *columns[:6], *item_columns, *columns[6:])
        if again:
            projects, ids, _, _, statuses, outcomes, first, _, frames = columns
            arguments = (projects, ids, statuses, outcomes, first, frames)
            ended = [row[0] for row in await connection.fetch(self._queries["finished"], *arguments)]
        results: list[Any] = [False] * len(operations)
        for place in ended:
            results[places[place - 1]] = True
        return results

    async def begin_calls(self, connection: Any, operations: Sequence[BeginCall], again: bool) -> list[Any]:  # noqa: ARG002
        """The results of those that were completed before."""
        rows = [
            (sendable(project), sendable(response), sendable(call.item_id), encode(call))
            for project, response, call in operations
        ]
        found = await connection.fetch(self._queries["begin_calls"], *_columns(rows, 4))
        return [
            row[1] if row[0] else _no_run(operation.response)
            for row, operation in zip(found, operations, strict=True)
        ]  # fmt: skip

    async def complete_calls(self, connection: Any, operations: Sequence[CompleteCall], again: bool) -> list[Any]:  # noqa: ARG002
        """Notes results; saying the same twice changes nothing."""
        rows = [
            (sendable(project), sendable(response), sendable(call.item_id), result)
            for project, response, call, result in operations
        ]
        missing = {row[0] for row in await connection.fetch(self._queries["complete_calls"], *_columns(rows, 4))}
        return [
            _no_run(operation.response) if place in missing else None for place, operation in enumerate(operations, 1)
        ]

    async def delete(self, connection: Any, operations: Sequence[Delete], again: bool) -> list[Any]:
        """True for those that were there.  ``again``: one that is not there any more may have been ours."""
        results = [again] * len(operations)
        places = _firsts((project, response) for project, response, _ in operations)
        rows = [(sendable(operations[place].project), sendable(operations[place].response)) for place in places]
        for place in await connection.fetchval(self._queries["remove"], *_columns(rows, 2)):
            results[places[place - 1]] = True
        return results

    async def expire(self, connection: Any, operations: Sequence[Expire], again: bool) -> list[Any]:  # noqa: ARG002
        """How many responses each removed; what lapsed pins held goes as well."""
        await connection.execute(self._queries["sweep"], max(operation.most for operation in operations))
        return [
            await connection.fetchval(self._queries["expire"], operation.now, operation.most)
            for operation in operations
        ]  # fmt: skip

    async def release(self, connection: Any, operations: Sequence[Release], again: bool) -> list[Any]:  # noqa: ARG002
        """Lets go of pins, and of what they alone held."""
        numbers = [operation.number for operation in operations]
        await connection.execute(self._queries["release"], self._owner, numbers)
        return [None] * len(operations)


def _firsts(names: Iterable[tuple[str, str]]) -> list[int]:
    """Where each name stands first: one that comes twice in a group counts once."""
    firsts: dict[tuple[str, str], int] = {}
    for place, name in enumerate(names):
        firsts.setdefault(name, place)
    return list(firsts.values())


def _no_run(response: str) -> LookupError:
    return LookupError(f"no run {response}")


class _Rows:
    """Responses as the arrays of ``write_responses_1``."""

    def __init__(self, known: OrderedDict[tuple[str, bytes], None]) -> None:
        self._known = known
        self._tips: set[Parent] = set()
        self.left_out = False
        self.responses: list[tuple[Any, ...]] = []
        self.items: list[tuple[Any, ...]] = []
        self.uses: list[int] = []
        #: Place, number of uses and bytes of each blob.
        self.blobs: dict[tuple[str, bytes], list[Any]] = {}

    def add(self, record: Record) -> None:
        place = len(self.responses) + 1
        shell, parent, project = record.shell, record.parent, sendable(record.project)
        first = 0 if parent is None else parent.upto
        for position, item in enumerate([*record.input, *record.output], first):
            self.items.append((place, position, sendable(item.id), item.body))
        middle = first + len(record.input)
        flags = (
            (_MAY_CONTINUE if self._may_continue(record) else 0)
            | (_BACKGROUND if shell.background else 0)
            | (_STREAMED if record.streamed else 0)
            | (_STORED if record.stored else 0)
        )
        first_use = len(self.uses) + 1
        large = self._large(record, project)
        self.responses.append((
            project, sendable(shell.id), None if parent is None else parent.thread, first, middle,
            middle + len(record.output), flags, shell.created_at, record.expires_at, record.outcome.status,
            encode(record.outcome), shell.small, large, record.request, first_use, len(self.uses),
        ))  # fmt: skip

    def _may_continue(self, record: Record) -> bool:
        """Whether it may move its parent's tip.

        Failed, cancelled and unstored ones are never part of a later context, a run that begins without input would
        leave the tip for another to take, and of a group only the first comes in time.
        """
        parent, status = record.parent, record.outcome.status
        if parent is None or parent in self._tips or not record.stored or status in ("failed", "cancelled"):
            return False
        if status not in TERMINAL and not record.input:
            return False
        self._tips.add(parent)
        return True

    def _large(self, record: Record, project: str) -> bytes:
        members: dict[str, int | str] = {}
        used = 0
        for name, value in record.shell.large.items():
            if len(value) < LARGE_BYTES:
                members[name] = value.decode()
            else:
                members[name] = used
                used += 1
                self.uses.append(self._blob(project, value))
        return encode(members)

    def _blob(self, project: str, data: bytes) -> int:
        key = (project, hashlib.sha256(data).digest())
        blob = self.blobs.get(key)
        if blob is None:
            known = key in self._known
            self.left_out = self.left_out or known
            blob = self.blobs[key] = [len(self.blobs) + 1, 0, None if known else data]
        blob[1] += 1
        return int(blob[0])

    def arguments(self) -> list[list[Any]]:
        """All arrays, in the function's order."""
        blobs = [(project, digest, uses, data) for (project, digest), (_, uses, data) in self.blobs.items()]
        return [
            *_columns(self.responses, 16), *_columns(self.items, 4), *_columns(blobs, 4), self.uses
        ]  # fmt: skip


def _finish_rows(operations: Sequence[Finish]) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """The runs, and their output items, as rows of ``finish_runs_1``."""
    runs: list[tuple[Any, ...]] = []
    items: list[tuple[Any, ...]] = []
    for place, (record, last) in enumerate(operations, 1):
        items += [(place, offset, sendable(item.id), item.body) for offset, item in enumerate(record.output)]
        runs.append((
            sendable(record.project), sendable(record.shell.id), len(record.output), record.expires_at,
            record.outcome.status, encode(record.outcome), *_frames(last),
        ))  # fmt: skip
    return runs, items
