"""``engine.ports.stores.Store`` over SQLite: reads in the loop by key, writes through the writer's thread.

Must not know of HTTP or of how responses come about.
"""

import asyncio
import contextlib
import logging
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar

import apsw
import msgspec

from antiphon.engine.ports.stores import (
    Batch,
    Beginning,
    Begun,
    Claim,
    Context,
    Disowned,
    Listing,
    Parent,
    Record,
    RunName,
    Seen,
    Stored,
    StoredItem,
    StoreError,
)
from antiphon.engine.ports.tools import Noted, ToolCall, ToolResult
from antiphon.protocol.errors import conversation_not_found, previous_not_found
from antiphon.protocol.events import Event
from antiphon.protocol.requests import Page
from antiphon.protocol.responses import Shell
from antiphon.stores.queries import Queries
from antiphon.stores.rows import (
    ALIKE_MAX,
    EVENT_BATCHES_MAX,
    EVENT_BYTES_MAX,
    EXPIRE_BATCH,
    PACK_BYTES,
    SECRET_BYTES,
    Pack,
    check_continuable,
    decode_large,
    decode_outcome,
    events_of,
    noted_of,
    packs_of,
    unknown_cursor,
    unpacked,
)
from antiphon.stores.sqlite import database, operations
from antiphon.stores.sqlite.checkpoints import Checkpoints
from antiphon.stores.sqlite.conversations import SqliteConversations
from antiphon.stores.sqlite.groups import Groups
from antiphon.stores.sqlite.idempotency import SqliteKeys
from antiphon.stores.sqlite.lines import SEGMENTS_MAX
from antiphon.stores.sqlite.pins import Pins
from antiphon.stores.sqlite.statements import ROWS_MAX, Statements
from antiphon.stores.sqlite.webhooks import SqliteWebhooks
from antiphon.stores.sqlite.writer import ERASE_SECONDS, Operation, Writer

logger = logging.getLogger("antiphon.stores")

_FOREVER = 2**62
#: A commit that replaces ended logs takes one pack more than this much holds, uncompressed.
_COMMIT_BYTES = PACK_BYTES // 2

_position = itemgetter(0)
_end = msgspec.json.Decoder(tuple[int, int, str, str])
_place = msgspec.json.Decoder(tuple[int, int])

#: Where a beginning is looked for: the column of its hash, and that of its end.
_ENDS = ({"{hash}": "full_hash", "{end}": "upto"}, {"{hash}": "input_hash", "{end}": "middle"})
#: What is read and pinned.
Held = TypeVar("Held", Context, Seen | None)


class SqliteStore:
    """One file of state, or none at all (``path`` None: in memory, gone with the process).

    ``erase_seconds``: how long deleted content may stand in the files.  ``segments_max``: how often a line of
    conversation may fork before it is copied.  Raises ``ValueError`` when the file cannot be used.
    """

    def __init__(
        self, path: Path | None, *, erase_seconds: float = ERASE_SECONDS, segments_max: int = SEGMENTS_MAX
    ) -> None:
        self._queries = Queries(database.PACKAGE, "queries.sql")
        self._gate = threading.RLock()
        self._pins = Pins()
        self._compacting = asyncio.Lock()
        self._open = contextlib.ExitStack()
        with contextlib.ExitStack() as opening:
            self._connect(path, opening)
            groups = Groups(Statements(self._queries, self._writing), self._pins, segments_max)
            with self._writing:
                groups.resume()
            self._open = opening.pop_all()
        self._writer = Writer(
            self._writing,
            groups.execute,
            self._gate,
            checkpoints=self._checkpoints,
            erase_seconds=erase_seconds,
            exclusive=path is None,
            on_rollback=groups.forget,
        )

    @property
    def conversations(self) -> SqliteConversations:
        """The conversations of this database."""
        return SqliteConversations(self)

    @property
    def keys(self) -> SqliteKeys:
        """The idempotency keys of this database."""
        return SqliteKeys(self)

    @property
    def webhooks(self) -> SqliteWebhooks:
        """The webhook endpoints of this database, and its outbox."""
        return SqliteWebhooks(self)

    def _connect(self, path: Path | None, opening: contextlib.ExitStack) -> None:
        """Everything that ``close`` closes, in the opposite order."""
        self._checkpoints: Checkpoints | None = None
        if path is not None:
            database.create_private(path)
            opening.callback(database.Claim(path).close)
        self._writing = database.connect(":memory:" if path is None else str(path))
        database.migrate(self._writing)
        if path is not None:
            self._checkpoints = Checkpoints(path, self._writing)
            opening.callback(self._checkpoints.close)
        opening.callback(self._writing.close)
        # In memory there is one connection, which the writer's thread and the loop take in turns.
        self._reading, self._read_gate = self._writing, self._gate
        if path is not None:
            self._reading, self._read_gate = database.connect(str(path)), threading.RLock()
            opening.callback(self._reading.close)

    # --- Reading ---

    def _rows(self, name: str, **bindings: Any) -> list[Any]:
        return self._all(self._queries[name], bindings)

    def _all(self, text: str, bindings: dict[str, Any]) -> list[Any]:
        try:
            with self._read_gate:
                return self._reading.execute(text, bindings).fetchall()
        except apsw.Error as error:
            raise _failure(error) from error

    @contextlib.contextmanager
    def _snapshot(self) -> Iterator[None]:
        """Several queries see the same state, whatever is deleted meanwhile."""
        with self._read_gate:
            if self._reading is self._writing:
                yield
                return
            try:
                with self._reading:
                    yield
            except apsw.Error as error:
                raise _failure(error) from error

    async def context(self, project: str, response: str) -> Context:
        """One query; the end of the context stays pinned until ``release``."""
        return await self._held(lambda: self._context(project, response))

    async def _held(self, read: Callable[[], Held]) -> Held:
        """What ``read`` finds and pins, while nothing is being removed."""
        if not self._gate.acquire(blocking=False):  # a removal is being written: only this request waits for it
            return await self._held_later(read)
        try:
            return read()
        finally:
            self._gate.release()

    async def _held_later(self, read: Callable[[], Held]) -> Held:
        waiting = asyncio.get_running_loop().run_in_executor(None, read)
        try:
            return await asyncio.shield(waiting)
        except asyncio.CancelledError:
            waiting.add_done_callback(self._give_up)
            raise

    def _give_up(self, waiting: "asyncio.Future[Held]") -> None:
        if not waiting.cancelled() and waiting.exception() is None:
            held = waiting.result()
            if held is not None and held.parent is not None:
                self.release(held.parent)

    def _context(self, project: str, response: str) -> Context:
        with self._gate:  # between the read and the pin nothing may be deleted
            rows = self._rows("context", project=project, id=response)
            if not rows:
                raise previous_not_found(response)
            rows.sort(key=_position)  # in order already, but the query does not promise it
            thread, upto, status, hash = _end.decode(rows[0][1])
            check_continuable(response, status)
            parent = Parent(thread, upto)
            self._pins.add(parent)
        return Context(parent, [body for _, body in rows[1:]], hash=bytes.fromhex(hash) or None)

    async def beginning(self, project: str, beginnings: Sequence[Beginning]) -> Seen | None:
        return await self._held(lambda: self._beginning(project, beginnings))

    def _beginning(self, project: str, beginnings: Sequence[Beginning]) -> Seen | None:
        asked = [(one.hash.hex(), one.id, one.back) for one in beginnings]
        parent = None
        with self._gate, self._snapshot():  # as for a context
            for ends in _ENDS:
                text = msgspec.json.encode(asked).decode()
                bindings = {"project": project, "beginnings": text, "most": ALIKE_MAX}
                for which, *place in self._all(_filled(self._queries["beginning"], ends), bindings):
                    parent = Parent(*place)
                    del asked[which:]  # only a longer one is better
            if parent is None:
                return None
            rows = self._rows("ids", project=project, **parent._asdict())
            self._pins.add(parent)
        return Seen(len(asked), parent, [id for _, id in sorted(rows)])

    def _conversation_context(self, project: str, conversation: str, holder: str | None) -> Context:
        """Pinned for a holder."""
        with self._gate:
            rows = self._rows("conversation_context", project=project, id=conversation)
            if not rows:
                raise conversation_not_found(conversation, "conversation")
            rows.sort(key=_position)
            thread, upto = _place.decode(rows[0][1])
            parent = None if holder is None else Parent(thread, upto)
            if parent is not None:
                self._pins.add(parent)
        return Context(parent, [body for _, body in rows[1:]])

    def release(self, parent: Parent) -> None:
        """Lets go of a pin; what a deletion left because of it goes now."""
        if self._pins.drop(parent) and not self._writer.closed:  # else the next start trims the thread
            self._writer.submit(operations.Release(parent.thread)).add_done_callback(_report)

    async def read(self, project: str, response: str) -> Stored | None:
        with self._snapshot():
            return self._stored(project, response)

    def _stored(self, project: str, response: str) -> Stored | None:
        rows = self._rows("response", project=project, id=response)
        if not rows:
            return None
        thread, middle, upto, created, background, streamed, outcome, small, large, request = rows[0]
        members = {name: self._member(value) for name, value in decode_large(large).items()}
        output = self._rows("output", project=project, thread=thread, middle=middle, upto=upto)
        shell = Shell(response, created, bool(background), small, members)
        return Stored(shell, decode_outcome(outcome), [body for (body,) in output], request, bool(streamed))

    def _member(self, value: int | str) -> bytes:
        if isinstance(value, str):
            return value.encode()
        rows = self._rows("blob", id=value)
        if not rows:
            raise StoreError(f"the part {value} of a response is not there")
        return bytes(rows[0][0])

    async def begun(self, project: str, response: str) -> Begun | None:
        with self._snapshot():
            stored = self._stored(project, response)
            if stored is None or not stored.shell.background:
                return None
            rows = self._rows("begun", project=project, id=response)
        earlier, given = ([body for before, body in rows if before == side] for side in (1, 0))
        return Begun(stored, earlier, given)

    async def status(self, project: str, response: str) -> str | None:
        rows = self._rows("status", project=project, id=response)
        return str(rows[0][0]) if rows else None

    async def events(self, project: str, response: str, after: int) -> list[Event]:
        rows = self._event_rows("events", project=project, id=response, after=after)
        return [event for first, _, frames in rows for event in events_of(first, frames, after)]

    def _event_rows(self, name: str, **bindings: str | int) -> list[tuple[int, int, bytes]]:
        """The first rows, read one by one until there are enough: first number, last number, frames."""
        found: list[tuple[int, int, bytes]] = []
        size = 0
        try:
            with self._read_gate:
                cursor = self._reading.cursor()
                for first, last, packed, frames in cursor.execute(
                    self._queries[name], {**bindings, "limit": EVENT_BATCHES_MAX}
                ):
                    found.append((first, last, unpacked(frames, packed)))
                    size += len(found[-1][-1])
                    if size >= EVENT_BYTES_MAX:
                        break
                cursor.close()  # ends the reading transaction
        except apsw.Error as error:
            raise _failure(error) from error
        return found

    async def input_items(self, project: str, response: str, page: Page) -> Listing | None:
        from_start = page.after is None and page.before is None
        with self._snapshot():
            if not from_start and not self._has(project, response):
                return None
            listing = self._page({"{owner}": "responses", "{end}": "middle"}, project, response, page)
            return listing if listing.items or not from_start or self._has(project, response) else None

    def _has(self, project: str, response: str) -> bool:
        return bool(self._rows("status", project=project, id=response))

    def _page(self, line: dict[str, str], project: str, id: str, page: Page) -> Listing:
        """A page of a response's input items, or of a conversation's; ``line`` fills the queries in."""
        ascending = page.order == "asc"
        line = {**line, "{order}": "ASC" if ascending else "DESC", "{which}": "max" if ascending else "min"}
        bounds = [-1, _FOREVER]
        for param, item in (("after", page.after), ("before", page.before)):
            if item is not None:
                side = 0 if (param == "after") is ascending else 1
                bounds[side] = self._position(line, project, id, item, param)
        bindings = {"project": project, "id": id, "above": bounds[0], "below": bounds[1], "limit": page.limit + 1}
        rows = self._all(_filled(self._queries["line_page"], line), bindings)
        rows.sort(reverse=not ascending)
        items = [StoredItem(id, body) for _, id, body in rows]
        return Listing(items[: page.limit], len(items) > page.limit)

    def _position(self, line: dict[str, str], project: str, id: str, item: str, param: str) -> int:
        """Where a cursor stands.  Of an id that recurs the last in the asked order counts, so that pages go on."""
        text = _filled(self._queries["line_position"], line)
        [(position,)] = self._all(text, {"project": project, "id": id, "item": item})
        if position is None:
            raise unknown_cursor(item, id, param)
        return int(position)

    async def item(self, project: str, item: str) -> bytes | None:
        rows = self._rows("item", project=project, item=item)
        return bytes(rows[0][0]) if rows else None

    async def journal(self, project: str, response: str) -> list[Noted]:
        return [noted_of(*row) for row in self._rows("journal", project=project, id=response)]

    async def unfinished(self) -> list[RunName]:
        return [RunName(*row) for row in self._rows("unfinished")]

    async def working(self, project: str) -> int:
        return int(self._rows("working", project=project)[0][0])

    async def secret(self, name: str, *, make: bool = True) -> bytes | None:
        rows = self._rows("secret", key=name)
        if rows or not make:
            return bytes(rows[0][0]) if rows else None
        kept: bytes = await self._write(operations.Keep(name, secrets.token_bytes(SECRET_BYTES)))
        return kept

    async def ping(self) -> None:
        """After a write that failed it tries another: without one nobody would learn that there is room again."""
        self._rows("ping")
        if self._writer.failure is not None:
            await self._write(operations.Probe())

    # --- Writing ---

    async def _write(self, operation: Operation) -> Any:
        try:
            return await self._writer.submit(operation)
        except apsw.Error as error:
            raise _failure(error) from error

    async def save(self, record: Record) -> None:
        await self._write(operations.Save(record))

    async def begin(self, record: Record) -> None:
        await self._write(operations.Save(record, begins=True))

    async def append(self, batches: Sequence[Batch]) -> list[bool]:
        written: list[bool] = await self._write(operations.Append(batches))
        return written

    async def finish(self, record: Record, fence: int, batches: Sequence[Batch]) -> bool:
        name = RunName(record.project, record.shell.id)
        return bool(await self._write(operations.Finish(name, record, fence, batches)))

    async def claim(self, project: str, response: str) -> Claim | None:
        claim: Claim | None = await self._write(operations.TakeOver(RunName(project, response)))
        return claim

    async def hand_back(self, runs: Sequence[tuple[RunName, int]]) -> None:
        await self._write(operations.HandBack(runs))

    async def delete(self, project: str, response: str) -> bool:
        return bool(await self._write(operations.Delete([(project, response)])))

    async def expire(self, now: int) -> int:
        total = 0
        while self._rows("expired_keys", now=now):
            await self._write(operations.ExpireKeys(now))
        while self._rows("expired_outbox", now=now):
            await self._write(operations.ExpireOutbox(now))
        while expired := self._rows("expired", now=now, limit=EXPIRE_BATCH):
            total += await self._write(operations.Delete(expired))
        return total

    async def journal_begin(self, project: str, response: str, fence: int, call: ToolCall) -> None:
        if not await self._write(operations.JournalBegin(RunName(project, response), fence, call)):
            raise Disowned(response)

    async def journal_complete(
        self, project: str, response: str, fence: int, call: ToolCall, result: ToolResult
    ) -> None:
        data = msgspec.json.encode(result)
        if not await self._write(operations.JournalComplete(RunName(project, response), fence, call, data)):
            raise Disowned(response)

    # --- Compaction ---

    async def compact(self, most: int) -> int:
        """A log of many packs becomes them one after another, so that neither memory nor a commit grows with it."""
        async with self._compacting:
            packing = self._packing([run for (run,) in self._rows("ended", limit=most)])
            total = 0
            while replace := await asyncio.get_running_loop().run_in_executor(None, _some, packing):
                total += await self._write(replace)
        return total

    def _packing(self, runs: list[int]) -> Iterator[tuple[int, Pack | None]]:
        """The packs of each run, and None behind its last.  In a thread."""
        for run in runs:
            for pack in packs_of(self._log(run)):
                yield run, pack
            yield run, None

    def _log(self, run: int) -> Iterator[tuple[int, int, bytes]]:
        after = -1
        while page := self._event_rows("to_pack", run=run, after=after):
            yield from page
            after = page[-1][0]

    async def close(self) -> None:
        self._writer.close()
        with self._read_gate:  # a thread may be reading what is to be packed
            self._open.close()


def _some(packing: Iterator[tuple[int, Pack | None]]) -> operations.Replace | None:
    """As many packs as one commit is to replace; None at their end."""
    packs: list[tuple[int, Pack]] = []
    done: list[int] = []
    size = 0
    for run, pack in packing:
        if pack is None:
            done.append(run)
        else:
            packs.append((run, pack))
            size += pack.size
        if size >= _COMMIT_BYTES or len(done) == ROWS_MAX:
            break
    return operations.Replace(packs, done) if packs or done else None


def _filled(text: str, names: dict[str, str]) -> str:
    return _with_names(text, *names.items())


@cache
def _with_names(text: str, *names: tuple[str, str]) -> str:
    """There are as many as the code has combinations, never what a client sent."""
    for mark, name in names:
        text = text.replace(mark, name)
    return text


def _failure(error: apsw.Error) -> StoreError:
    return StoreError(f"{type(error).__name__}: {error}")


def _report(released: "asyncio.Future[None]") -> None:
    """Nobody waits for a release; what it could not remove, the next start does."""
    if not released.cancelled() and released.exception() is not None:
        logger.error("a thread could not be trimmed", exc_info=released.exception())
