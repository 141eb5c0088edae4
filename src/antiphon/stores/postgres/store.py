"""``engine.ports.Store`` over PostgreSQL: reads through a pool, writes in groups.

Any number of these may work on one database.  Must not know of HTTP or of how responses come about.
"""

import asyncio
import datetime
import logging
import secrets
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

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
from antiphon.protocol.errors import ApiError, invalid, previous_not_found
from antiphon.protocol.events import Event
from antiphon.protocol.requests import Page
from antiphon.protocol.responses import Shell
from antiphon.stores.postgres import groups, schema
from antiphon.stores.postgres.connections import DRIVER_ERRORS, Connections, Settings, persist
from antiphon.stores.postgres.lanes import Lane, Operation
from antiphon.stores.postgres.texts import received, sendable
from antiphon.stores.queries import Queries
from antiphon.stores.rows import (
    EXPIRE_BATCH,
    check_continuable,
    decode_large,
    decode_outcome,
    events_of,
    result_of,
)

logger = logging.getLogger("antiphon.stores")

#: How long a context stays pinned that nobody renews, because its process is gone.
PIN_SECONDS = 300.0


class PostgresStore:
    """Responses in a PostgreSQL database, whose schema ``open`` brings up to date.

    ``segments_max``: how often a line of conversation may fork before it is copied.  ``pin_seconds``: how long pins
    outlive their process.  Raises ``ValueError`` for a URL that makes no sense.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        segments_max: int = groups.SEGMENTS_MAX,
        pin_seconds: float = PIN_SECONDS,
    ) -> None:
        self._queries = Queries(schema.PACKAGE, "queries.sql")
        self._connections = Connections(settings)
        self._owner = secrets.randbits(62)
        self._pins: defaultdict[Parent, list[int]] = defaultdict(list)
        self._last_pin = 0
        self._pin_lease = datetime.timedelta(seconds=pin_seconds)
        self._releasing: set[asyncio.Future[None]] = set()
        self._renewing: asyncio.Task[None] | None = None
        writes = groups.Groups(self._queries, self._owner, segments_max)
        self._writer = Lane(
            self._connections,
            {
                groups.Save: writes.save,
                groups.Release: writes.release,
                groups.BeginCall: writes.begin_calls,
                groups.CompleteCall: writes.complete_calls,
                groups.Append: writes.append,
                groups.Finish: writes.finish,
            },
        )
        # What is removed may take long and is waited for by nobody else.
        self._remover = Lane(self._connections, {groups.Delete: writes.delete, groups.Expire: writes.expire})

    async def open(self) -> None:
        """Connects and brings the schema up to date.  Raises ``ValueError`` in one sentence when that cannot be."""
        where = self._connections.shown
        try:
            await persist(lambda: schema.migrate(self._connections), self._connections.settings.write_seconds)
        except ApiError as away:
            raise ValueError(f"PostgreSQL at {where} cannot be reached: {away.__cause__}") from None
        except ValueError as error:
            raise ValueError(f"PostgreSQL at {where}: {error}") from None

    # --- Reading ---

    async def _rows(self, name: str, *arguments: Any) -> list[Any]:
        return await self._fetch(self._queries[name], *arguments)

    async def _fetch(self, text: str, *arguments: Any) -> list[Any]:
        try:
            return await self._connections.rows(text, *arguments)
        except DRIVER_ERRORS as error:
            raise _failure(error) from error

    async def context(self, project: str, response: str) -> Context:
        """One query; the end of the context stays pinned until ``release``."""
        self._last_pin += 1
        pin = self._last_pin
        try:
            names = (sendable(project), sendable(response))
            rows = await self._rows("context", *names, self._owner, pin, self._pin_lease)
        except BaseException:
            self._let_go(pin)  # it may have been written all the same
            raise
        if not rows:
            raise previous_not_found(response)
        thread, upto, status, _, _ = rows[0]
        check_continuable(response, status)
        parent = Parent(thread, upto)
        self._pins[parent].append(pin)
        if self._renewing is None:
            self._renewing = asyncio.get_running_loop().create_task(self._renew())
        return Context(parent, [row[4] for row in rows if row[4] is not None])

    def release(self, parent: Parent) -> None:
        """Lets go of a pin; what a deletion left because of it goes now."""
        pins = self._pins[parent]
        pin = pins.pop()
        if not pins:
            del self._pins[parent]
        self._let_go(pin)

    def _let_go(self, pin: int) -> None:
        """One that cannot be let go now is not renewed either, and lapses."""
        releasing = self._writer.submit(groups.Release(pin))
        self._releasing.add(releasing)
        releasing.add_done_callback(self._released)

    def _released(self, releasing: "asyncio.Future[None]") -> None:
        self._releasing.discard(releasing)
        if not releasing.cancelled() and releasing.exception() is not None:
            logger.warning("a pin could not be let go, it will lapse: %s", releasing.exception())

    async def _renew(self) -> None:
        """Keeps the pins of long runs, all in one statement."""
        while True:
            await asyncio.sleep(self._pin_lease.total_seconds() / 4)
            held = [pin for pins in self._pins.values() for pin in pins]
            try:
                if held:
                    await self._rows("renew", self._owner, held, self._pin_lease)
            except (ApiError, StoreError) as error:  # the next round comes in time
                logger.warning("pins could not be renewed: %s", error.__cause__ or error)

    async def read(self, project: str, response: str) -> Stored | None:
        rows = await self._rows("response", sendable(project), sendable(response))
        if not rows:
            return None
        created, background, streamed, outcome, small, large, request, output, blobs = rows[0]
        members = {
            name: value.encode() if isinstance(value, str) else blobs[value]
            for name, value in decode_large(large).items()
        }
        shell = Shell(response, created, background, small, members)
        return Stored(shell, decode_outcome(outcome), output, request, streamed)

    async def events(self, project: str, response: str, after: int) -> list[Event]:
        names = (sendable(project), sendable(response))
        rows = await self._rows("events", *names, after, EVENT_BYTES_MAX, EVENT_BATCHES_MAX)
        return [event for first, frames in rows for event in events_of(first, frames, after)]

    async def input_items(self, project: str, response: str, page: Page) -> Listing | None:
        ascending = page.order == "asc"
        order, which = ("ASC", "max") if ascending else ("DESC", "min")
        text = self._queries["input_page"].replace("{order}", order).replace("{which}", which)
        names = (sendable(project), sendable(response))
        cursors = [None if item is None else sendable(item) for item in (page.after, page.before)]
        rows = await self._fetch(text, *names, *cursors, ascending, page.limit + 1)
        if not rows:
            return None
        for param, item, position in zip(("after", "before"), (page.after, page.before), rows[0], strict=False):
            if item is not None and position is None:
                raise invalid(f"Item with id '{item}' not found among the input items of '{response}'.", param)
        items = [StoredItem(received(id), body) for _, _, id, body in rows[1:]]
        return Listing(items[: page.limit], len(items) > page.limit)

    async def item(self, project: str, item: str) -> bytes | None:
        rows = await self._rows("item", sendable(project), sendable(item))
        return rows[0][0] if rows else None

    async def unfinished(self) -> list[Unfinished]:
        return [Unfinished(received(project), received(id)) for project, id in await self._rows("unfinished")]

    async def ping(self) -> None:
        """After a write that failed it tries another: without one nobody would learn that writing works again."""
        try:
            await self._rows("ping")
            if self._writer.failure is not None:
                nothing = self._write(self._writer, groups.Release(0))  # no pin has this number
                await asyncio.wait_for(nothing, self._connections.settings.read_seconds)
        except ApiError as away:
            raise StoreError(f"{self._connections.shown}: {away.__cause__}") from None
        except TimeoutError:
            raise StoreError(f"{self._connections.shown}: {self._writer.failure}") from None

    # --- Writing ---

    async def _write(self, lane: Lane, operation: Operation) -> Any:
        try:
            return await lane.submit(operation)
        except DRIVER_ERRORS as error:
            raise _failure(error) from error

    async def save(self, record: Record) -> None:
        await self._write(self._writer, groups.Save(record))

    async def begin(self, record: Record) -> None:
        await self._write(self._writer, groups.Save(record))

    async def append(self, batches: Sequence[Batch]) -> None:
        """Events of runs that are gone or have ended are passed over: they belong to nobody any more."""
        await self._write(self._writer, groups.Append(batches))

    async def finish(self, record: Record, last: Batch) -> bool:
        return bool(await self._write(self._writer, groups.Finish(record, last)))

    async def journal_begin(self, project: str, response: str, call: ToolCall) -> ToolResult | None:
        return result_of(await self._write(self._writer, groups.BeginCall(project, response, call)))

    async def journal_complete(self, project: str, response: str, call: ToolCall, result: ToolResult) -> None:
        data = msgspec.json.encode(result)
        await self._write(self._writer, groups.CompleteCall(project, response, call, data))

    async def delete(self, project: str, response: str) -> bool:
        if self._releasing:  # what was let go before is not to hold anything back
            await asyncio.wait(self._releasing)
        return bool(await self._write(self._remover, groups.Delete(project, response)))

    async def expire(self, now: int) -> int:
        total = 0
        while gone := await self._write(self._remover, groups.Expire(now, EXPIRE_BATCH)):
            total += gone
        return total

    async def close(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])
        for pins in self._pins.values():
            for pin in pins:
                self._let_go(pin)
        await self._writer.close()
        await self._remover.close()
        await self._connections.close()


def _failure(error: Exception) -> StoreError:
    return StoreError(f"{type(error).__name__}: {error}")
