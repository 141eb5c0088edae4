"""A group of responses to write or to remove as one call of a function in the database.

The calls' rules stand in migrations/0002_writing.sql.  Every write can be repeated after a commit whose outcome nobody
heard: what is found written with the same content counts as written.  Must not know of loops, futures or HTTP.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

import asyncpg
import msgspec

from antiphon.engine.ports.stores import Parent, Record
from antiphon.engine.shell import LARGE_BYTES
from antiphon.protocol.errors import conversation_locked
from antiphon.protocol.responses import TERMINAL
from antiphon.stores.postgres.conversing import held_arguments
from antiphon.stores.postgres.operations import Begin, Delete, Expire, Release, Save, columns
from antiphon.stores.postgres.texts import sendable
from antiphon.stores.queries import Queries

encode = msgspec.json.encode

#: Deeper ancestries are copied into the fork, so that a context stays one short join (design section 3).
SEGMENTS_MAX = 1000
#: Blobs whose bytes need not be sent again, as far as we know; the database asks for those that are gone.
KNOWN_BLOBS_MAX = 4096
#: SQLSTATEs of migrations/0002_writing.sql and 0005_conversations.sql.
BYTES_WANTED, PARENT_GONE, HOLD_LOST = "AP001", "AP002", "AP003"

_MAY_CONTINUE, _BACKGROUND, _STREAMED, _STORED = 1, 2, 4, 8


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
        kept = [record for record in records if record.stored]
        if len(kept) == len(records):
            return await self._write(connection, "save", records, again)
        return await self._save_apart(connection, records, again)

    async def _save_apart(self, connection: Any, records: Sequence[Record], again: bool) -> list[Any]:
        """Some leave only what their conversations get of them, which is written first: it may be said twice."""
        results: list[Any] = [None] * len(records)
        quiet = [place for place, record in enumerate(records) if not record.stored]
        arguments = held_arguments([records[place] for place in quiet])
        said = await connection.fetchval(self._queries["append_held"], *arguments, self._segments_max)
        for place, code in zip(quiet, said, strict=True):
            results[place] = None if code else conversation_locked()
        kept = [record for record in records if record.stored]
        if kept:
            await self._write(connection, "save", kept, again)
        return results

    async def begin(self, connection: Any, operations: Sequence[Begin], again: bool) -> list[Any]:
        """Places them likewise; each is a run, owned with the first fence."""
        return await self._write(connection, "begin", [operation.record for operation in operations], again)

    async def _write(self, connection: Any, name: str, records: Sequence[Record], again: bool) -> list[Any]:
        left = await self._missing(connection, name, records) if again else records
        try:
            if left:
                await self._call(connection, name, left)
        except asyncpg.UniqueViolationError:
            # The first try may have been on its way still when we looked; then it is committed now.
            if not again or await self._missing(connection, name, left):
                raise
        except asyncpg.PostgresError as error:
            if error.sqlstate == HOLD_LOST:
                if not again or await self._missing(connection, name, left):
                    raise conversation_locked() from None
            elif error.sqlstate == PARENT_GONE:
                raise LookupError("what the response continues is not there any more") from None
            else:
                raise
        return [None] * len(records)

    async def _missing(self, connection: Any, name: str, records: Sequence[Record]) -> list[Record]:
        """Those that are not written; a run that was begun may have come further since, so its outcome is not asked."""
        keys = columns(
            [
                (sendable(record.project), sendable(record.shell.id), record.request, encode(record.outcome))
                for record in records
            ],
            4,
        )
        query, given = ("saved", keys) if name == "save" else ("began", keys[:3])
        found = {row[0] for row in await connection.fetch(self._queries[query], *given)}
        return [record for place, record in enumerate(records, 1) if place not in found]

    async def _call(self, connection: Any, name: str, records: Sequence[Record]) -> None:
        rows = _Rows(self._known)
        for record in records:
            rows.add(record)
        query, arguments = self._queries[name], [*rows.arguments(), self._segments_max]
        if any(record.conversation is not None for record in records):
            inside = [record.conversation and sendable(record.conversation) for record in records]
            query, arguments = self._queries[f"{name}_held"], [*arguments, inside]
        try:
            await connection.execute(query, *arguments)
        except asyncpg.PostgresError as error:
            if error.sqlstate != BYTES_WANTED or not rows.left_out:
                raise
            self._known.clear()  # another process deleted what we believed to be there
            await self._call(connection, name, records)
            return
        for key in rows.blobs:
            self._known[key] = None
            self._known.move_to_end(key)
        while len(self._known) > KNOWN_BLOBS_MAX:
            self._known.popitem(last=False)

    async def delete(self, connection: Any, operations: Sequence[Delete], again: bool) -> list[Any]:
        """True for those that were there.  ``again``: one that is not there any more may have been ours."""
        results = [again] * len(operations)
        places = _firsts((project, response) for project, response, _ in operations)
        rows = [(sendable(operations[place].project), sendable(operations[place].response)) for place in places]
        await connection.execute(self._queries["forget_keys_of"], *columns(rows, 2))  # first: no key without them
        for place in await connection.fetchval(self._queries["remove"], *columns(rows, 2)):
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


class _Rows:
    """Responses as the arrays of ``write_responses_2``."""

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
            record.input_hash, record.full_hash,
        ))  # fmt: skip

    def _may_continue(self, record: Record) -> bool:
        """Whether it may move its parent's tip.

        Failed and cancelled ones are never part of a later context, nor unstored ones outside a conversation; a run
        that begins without input would leave the tip for another to take, and of a group only the first comes in time.
        """
        parent, status = record.parent, record.outcome.status
        if parent is None or parent in self._tips or status in ("failed", "cancelled"):
            return False
        if not record.stored and record.conversation is None:
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
            *columns(self.responses, 18), *columns(self.items, 4), *columns(blobs, 4), self.uses
        ]  # fmt: skip
