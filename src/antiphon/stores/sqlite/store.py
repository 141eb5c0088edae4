"""``engine.ports.Store`` over SQLite: reads in the loop by key, writes through the writer's thread.

Must not know of HTTP or of how responses come about.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import apsw
import msgspec

from antiphon.engine.ports import (
    EVENT_BATCHES_MAX,
    EVENT_BYTES_MAX,
    Batch,
    Context,
    Listing,
    Parent,
    Record,
    Stored,
    StoredItem,
    StoreError,
    ToolCall,
    ToolResult,
    Unfinished,
)
from antiphon.protocol.errors import invalid, previous_not_found
from antiphon.protocol.events import Event
from antiphon.protocol.requests import Page
from antiphon.protocol.responses import Shell
from antiphon.stores.queries import Queries
from antiphon.stores.rows import (
    EXPIRE_BATCH,
    check_continuable,
    decode_large,
    decode_outcome,
    events_of,
    result_of,
)
from antiphon.stores.sqlite import database, operations
from antiphon.stores.sqlite.checkpoints import Checkpoints
from antiphon.stores.sqlite.groups import Groups
from antiphon.stores.sqlite.pins import Pins
from antiphon.stores.sqlite.saving import SEGMENTS_MAX
from antiphon.stores.sqlite.statements import Statements
from antiphon.stores.sqlite.writer import ERASE_SECONDS, Operation, Writer

logger = logging.getLogger("antiphon.stores")

_FOREVER = 2**62

_position = itemgetter(0)
_end = msgspec.json.Decoder(tuple[int, int, str])


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
        if not self._gate.acquire(blocking=False):  # a removal is being written: only this request waits for it
            return await self._context_later(project, response)
        try:
            return self._context(project, response)
        finally:
            self._gate.release()

    async def _context_later(self, project: str, response: str) -> Context:
        waiting = asyncio.get_running_loop().run_in_executor(None, self._context, project, response)
        try:
            return await asyncio.shield(waiting)
        except asyncio.CancelledError:
            waiting.add_done_callback(self._give_up)
            raise

    def _give_up(self, waiting: "asyncio.Future[Context]") -> None:
        if not waiting.cancelled() and waiting.exception() is None:
            parent = waiting.result().parent
            assert parent is not None
            self.release(parent)

    def _context(self, project: str, response: str) -> Context:
        with self._gate:  # between the read and the pin nothing may be deleted
            rows = self._rows("context", project=project, id=response)
            if not rows:
                raise previous_not_found(response)
            rows.sort(key=_position)  # in order already, but the query does not promise it
            thread, upto, status = _end.decode(rows[0][1])
            check_continuable(response, status)
            parent = Parent(thread, upto)
            self._pins.add(parent)
        return Context(parent, [body for _, body in rows[1:]])

    def release(self, parent: Parent) -> None:
        """Lets go of a pin; what a deletion left because of it goes now."""
        if self._pins.drop(parent) and not self._writer.closed:  # else the next start trims the thread
            self._writer.submit(operations.Release(parent.thread)).add_done_callback(_report)

    async def read(self, project: str, response: str) -> Stored | None:
        with self._snapshot():
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

    async def events(self, project: str, response: str, after: int) -> list[Event]:
        rows = self._event_rows(project, response, after)
        return [event for first, frames in rows for event in events_of(first, frames, after)]

    def _event_rows(self, project: str, response: str, after: int) -> list[tuple[int, bytes]]:
        """The first rows, read one by one until there are enough."""
        bindings = {"project": project, "id": response, "after": after, "limit": EVENT_BATCHES_MAX}
        found: list[tuple[int, bytes]] = []
        size = 0
        try:
            with self._read_gate:
                cursor = self._reading.cursor()
                for first, frames in cursor.execute(self._queries["events"], bindings):
                    found.append((first, frames))
                    size += len(frames)
                    if size >= EVENT_BYTES_MAX:
                        break
                cursor.close()  # ends the reading transaction
        except apsw.Error as error:
            raise _failure(error) from error
        return found

    async def input_items(self, project: str, response: str, page: Page) -> Listing | None:
        ascending = page.order == "asc"
        order, newest = ("ASC", "max") if ascending else ("DESC", "min")
        with self._snapshot():
            if not self._rows("response", project=project, id=response):
                return None
            bounds = [-1, _FOREVER]
            for param, item in (("after", page.after), ("before", page.before)):
                if item is not None:
                    side = 0 if (param == "after") is ascending else 1
                    bounds[side] = self._position(project, response, item, param, newest)
            text = self._queries["input_page"].replace("{order}", order)
            bindings = {"project": project, "id": response, "above": bounds[0], "below": bounds[1]}
            rows = self._all(text, {**bindings, "limit": page.limit + 1})
        items = [StoredItem(id, body) for id, body in rows]
        return Listing(items[: page.limit], len(items) > page.limit)

    def _position(self, project: str, response: str, item: str, param: str, which: str) -> int:
        """Where a cursor stands.  Of an id that recurs the last in the asked order counts, so that pages go on."""
        text = self._queries["input_position"].replace("{which}", which)
        [(position,)] = self._all(text, {"project": project, "id": response, "item": item})
        if position is None:
            raise invalid(f"Item with id '{item}' not found among the input items of '{response}'.", param)
        return int(position)

    async def item(self, project: str, item: str) -> bytes | None:
        rows = self._rows("item", project=project, item=item)
        return bytes(rows[0][0]) if rows else None

    async def unfinished(self) -> list[Unfinished]:
        return [Unfinished(*row) for row in self._rows("unfinished")]

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
        await self._write(operations.Save(record))

    async def append(self, batches: Sequence[Batch]) -> None:
        """Events of runs that are gone are passed over: nobody can read them any more."""
        await self._write(operations.Append(batches))

    async def finish(self, record: Record, last: Batch) -> bool:
        return bool(await self._write(operations.Finish(record, last)))

    async def delete(self, project: str, response: str) -> bool:
        return bool(await self._write(operations.Delete([(project, response)])))

    async def expire(self, now: int) -> int:
        total = 0
        while expired := self._rows("expired", now=now, limit=EXPIRE_BATCH):
            total += await self._write(operations.Delete(expired))
        return total

    async def journal_begin(self, project: str, response: str, call: ToolCall) -> ToolResult | None:
        return result_of(await self._write(operations.JournalBegin(project, response, call)))

    async def journal_complete(self, project: str, response: str, call: ToolCall, result: ToolResult) -> None:
        data = msgspec.json.encode(result)
        await self._write(operations.JournalComplete(project, response, call, data))

    async def close(self) -> None:
        self._writer.close()
        self._open.close()


def _failure(error: apsw.Error) -> StoreError:
    return StoreError(f"{type(error).__name__}: {error}")


def _report(released: "asyncio.Future[None]") -> None:
    """Nobody waits for a release; what it could not remove, the next start does."""
    if not released.cancelled() and released.exception() is not None:
        logger.error("a thread could not be trimmed", exc_info=released.exception())
