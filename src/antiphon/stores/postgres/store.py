"""``engine.ports.stores.Store`` over PostgreSQL: reads through a pool, writes in groups.

Any number of these may work on one database.  Must not know of HTTP or of how responses come about.
"""

import asyncio
import datetime
import functools
import logging
import secrets
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec

from antiphon.engine.ports.stores import (
    Batch,
    Beginning,
    Begun,
    Claim,
    Context,
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
from antiphon.protocol.errors import ApiError, conversation_not_found, previous_not_found
from antiphon.protocol.events import Event
from antiphon.protocol.requests import Page
from antiphon.protocol.responses import Outcome, Shell
from antiphon.stores.postgres import groups, operations, schema
from antiphon.stores.postgres.background import Background
from antiphon.stores.postgres.compaction import Compaction
from antiphon.stores.postgres.connections import DRIVER_ERRORS, Connections, Lost, Settings, persist
from antiphon.stores.postgres.conversations import PostgresConversations
from antiphon.stores.postgres.conversing import Conversing
from antiphon.stores.postgres.idempotency import PostgresKeys
from antiphon.stores.postgres.keying import Keying
from antiphon.stores.postgres.lanes import Lane, Operation
from antiphon.stores.postgres.texts import received, sendable
from antiphon.stores.postgres.webhooks import PostgresWebhooks, expire_outbox
from antiphon.stores.queries import Queries
from antiphon.stores.rows import (
    ALIKE_MAX,
    EVENT_BATCHES_MAX,
    EVENT_BYTES_MAX,
    EXPIRE_BATCH,
    SECRET_BYTES,
    check_continuable,
    decode_large,
    decode_outcome,
    events_of,
    noted_of,
    unknown_cursor,
    unpacked,
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
        self._waiting = False
        self._owner = secrets.randbits(62)
        self._pins: defaultdict[Parent, list[int]] = defaultdict(list)
        self._last_pin = 0
        self._pin_lease = datetime.timedelta(seconds=pin_seconds)
        self._releasing: set[asyncio.Future[None]] = set()
        self._renewing: asyncio.Task[None] | None = None
        responses = groups.Groups(self._queries, self._owner, segments_max)
        runs = Background(self._queries)
        conversing = Conversing(self._queries, segments_max)
        keying = Keying(self._queries)
        self._writer = Lane(
            self._connections,
            {
                operations.Save: responses.save,
                operations.Begin: responses.begin,
                operations.Converse: conversing.create,
                operations.Describe: conversing.describe,
                operations.Add: conversing.add,
                operations.Leave: conversing.leave,
                operations.Enter: conversing.enter,
                operations.Renew: conversing.renew,
                operations.Release: responses.release,
                operations.BindKey: keying.bind,
                operations.HoldKeys: keying.hold,
                operations.FreeKeys: keying.free,
                operations.Claim: runs.claim,
                operations.BeginCall: runs.begin_calls,
                operations.CompleteCall: runs.complete_calls,
                operations.Append: runs.append,
                operations.Finish: runs.finish,
                operations.HandBack: runs.hand_back,
            },
        )
        # What is removed or packed may take long and is waited for by nobody else.
        self._remover = Lane(
            self._connections,
            {
                operations.TakeOut: conversing.take_out,
                operations.Forget: conversing.forget,
                operations.Delete: responses.delete,
                operations.Expire: responses.expire,
                operations.ExpireKeys: keying.expire,
                operations.ExpireOutbox: functools.partial(expire_outbox, self._queries["expire_outbox"]),
                operations.Compact: runs.compact,
            },
        )
        self._compaction = Compaction(self._rows, functools.partial(self._write, self._remover))

    @property
    def conversations(self) -> PostgresConversations:
        """The conversations of this database."""
        return PostgresConversations(self)

    @property
    def keys(self) -> PostgresKeys:
        """The idempotency keys of this database."""
        return PostgresKeys(self)

    @property
    def webhooks(self) -> PostgresWebhooks:
        """The webhook endpoints of this database, and its outbox."""
        return PostgresWebhooks(self)

    async def open(self) -> None:
        """Connects and brings the schema up to date.  Raises ``ValueError`` in one sentence when that cannot be."""
        where = self._connections.shown
        try:
            await persist(self._migrate, self._connections.settings.write_seconds)
        except ApiError as away:
            raise ValueError(f"PostgreSQL at {where} cannot be reached: {away.__cause__}") from None
        except ValueError as error:
            raise ValueError(f"PostgreSQL at {where}: {error}") from None

    async def _migrate(self) -> None:
        """Says once that the start waits, since it may wait for long."""
        try:
            await schema.migrate(self._connections)
        except Lost as lost:
            if not self._waiting:
                self._waiting = True
                where, seconds = self._connections.shown, self._connections.settings.write_seconds
                logger.warning("PostgreSQL at %s cannot be reached, trying for %g s: %s", where, seconds, lost)
            raise

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
        rows, pin = await self._pinned("context", project, sendable(response))
        if not rows:
            raise previous_not_found(response)
        check_continuable(response, rows[0][2])
        return self._context(rows, pin, rows[0][5])

    async def beginning(self, project: str, beginnings: Sequence[Beginning]) -> Seen | None:
        asked = [(one.hash, None if one.id is None else sendable(one.id), one.back) for one in beginnings]
        rows, pin = await self._pinned("beginning", project, ALIKE_MAX, *operations.columns(asked, 3))
        if not rows:
            return None
        number, *place = rows[0][:3]
        return Seen(number - 1, self._pin(Parent(*place), pin), [received(row[4]) for row in rows])

    async def _pinned(self, name: str, project: str, what: Any, *more: Any) -> tuple[list[Any], int]:
        """The rows of a query that pins, and the number of the pin."""
        self._last_pin += 1
        pin = self._last_pin
        try:
            return await self._rows(name, sendable(project), what, self._owner, pin, self._pin_lease, *more), pin
        except BaseException:
            self._let_go(pin)  # it may have been written all the same
            raise

    def _context(self, rows: list[Any], pin: int | None, hash: bytes | None = None) -> Context:
        parent = None if pin is None else self._pin(Parent(*rows[0][:2]), pin)
        return Context(parent, [row[4] for row in rows if row[4] is not None], hash=hash)

    def _pin(self, parent: Parent, pin: int) -> Parent:
        """It is renewed from now on."""
        self._pins[parent].append(pin)
        if self._renewing is None:
            self._renewing = asyncio.get_running_loop().create_task(self._renew())
        return parent

    async def _conversation_context(self, project: str, conversation: str, *, pinned: bool) -> Context:
        rows: list[Any]
        pin: int | None = None
        if pinned:
            rows, pin = await self._pinned("conversation_context", project, sendable(conversation))
        else:
            names = (sendable(project), sendable(conversation))
            rows = await self._rows("conversation_context", *names, self._owner, 0, None)
        if not rows:
            raise conversation_not_found(conversation, "conversation")
        return self._context(rows, pin)

    def release(self, parent: Parent) -> None:
        """Lets go of a pin; what a deletion left because of it goes now."""
        pins = self._pins[parent]
        pin = pins.pop()
        if not pins:
            del self._pins[parent]
        self._let_go(pin)

    def _let_go(self, pin: int) -> None:
        """One that cannot be let go now is not renewed either, and lapses."""
        releasing = self._writer.submit(operations.Release(pin))
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
        return _stored(response, rows[0]) if rows else None

    async def begun(self, project: str, response: str) -> Begun | None:
        rows = await self._rows("begun", sendable(project), sendable(response))
        return Begun(_stored(response, rows[0]), rows[0]["earlier"], rows[0]["input"]) if rows else None

    async def status(self, project: str, response: str) -> str | None:
        rows = await self._rows("status", sendable(project), sendable(response))
        return rows[0][0] if rows else None

    async def events(self, project: str, response: str, after: int) -> list[Event]:
        names = (sendable(project), sendable(response))
        rows = await self._rows("events", *names, after, EVENT_BYTES_MAX, EVENT_BATCHES_MAX)
        return [event for first, frames, packed in rows for event in events_of(first, unpacked(frames, packed), after)]

    async def journal(self, project: str, response: str) -> list[Noted]:
        return [noted_of(*row) for row in await self._rows("journal", sendable(project), sendable(response))]

    async def input_items(self, project: str, response: str, page: Page) -> Listing | None:
        return await self._page({"{owner}": "responses", "{end}": "middle"}, project, response, page)

    async def _page(self, line: dict[str, str], project: str, id: str, page: Page) -> Listing | None:
        """A page of a response's input items, or of a conversation's; ``line`` fills the query in."""
        ascending = page.order == "asc"
        text = self._queries["line_page"]
        line = {**line, "{order}": "ASC" if ascending else "DESC", "{which}": "max" if ascending else "min"}
        for mark, name in line.items():
            text = text.replace(mark, name)
        names = (sendable(project), sendable(id))
        cursors = [None if item is None else sendable(item) for item in (page.after, page.before)]
        rows = await self._fetch(text, *names, *cursors, ascending, page.limit + 1)
        if not rows:
            return None
        for param, item, position in zip(("after", "before"), (page.after, page.before), rows[0], strict=False):
            if item is not None and position is None:
                raise unknown_cursor(item, id, param)
        items = [StoredItem(received(id), body) for _, _, id, body in rows[1:]]
        return Listing(items[: page.limit], len(items) > page.limit)

    async def item(self, project: str, item: str) -> bytes | None:
        rows = await self._rows("item", sendable(project), sendable(item))
        return rows[0][0] if rows else None

    async def unfinished(self) -> list[RunName]:
        return [RunName(received(project), received(id)) for project, id in await self._rows("unfinished")]

    async def working(self, project: str) -> int:
        return int((await self._rows("working", sendable(project)))[0][0])

    async def secret(self, name: str, *, make: bool = True) -> bytes | None:
        rows = await self._rows("secret", name)
        if not rows and make:
            await self._rows("keep_secret", name, secrets.token_bytes(SECRET_BYTES))
            rows = await self._rows("secret", name)
        return rows[0][0] if rows else None

    async def ping(self) -> None:
        """After a write that failed it tries another: without one nobody would learn that writing works again."""
        try:
            await self._rows("ping")
            if self._writer.failure is not None:
                nothing = self._write(self._writer, operations.Release(0))  # no pin has this number
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

    async def _do(self, operation: Operation) -> Any:
        return await self._write(self._writer, operation)

    async def _take(self, operation: Operation) -> Any:
        """What is removed."""
        if self._releasing:  # what was let go before is not to hold anything back
            await asyncio.wait(self._releasing)
        return await self._write(self._remover, operation)

    async def save(self, record: Record) -> None:
        await self._write(self._writer, operations.Save(record))

    async def begin(self, record: Record) -> None:
        await self._write(self._writer, operations.Begin(record))

    async def append(self, batches: Sequence[Batch]) -> list[bool]:
        written: list[bool] = await self._write(self._writer, operations.Append(batches))
        return written

    async def finish(self, record: Record, fence: int, batches: Sequence[Batch]) -> bool:
        return bool(await self._write(self._writer, operations.Finish(record, fence, batches)))

    async def claim(self, project: str, response: str) -> Claim | None:
        token = secrets.randbits(62)
        claim: Claim | None = await self._write(self._writer, operations.Claim(project, response, token))
        return claim

    async def hand_back(self, runs: Sequence[tuple[RunName, int]]) -> None:
        await self._write(self._writer, operations.HandBack(runs))

    async def journal_begin(self, project: str, response: str, fence: int, call: ToolCall) -> None:
        await self._write(self._writer, operations.BeginCall(project, response, fence, call))

    async def journal_complete(
        self, project: str, response: str, fence: int, call: ToolCall, result: ToolResult
    ) -> None:
        data = msgspec.json.encode(result)
        await self._write(self._writer, operations.CompleteCall(project, response, fence, call, data))

    async def compact(self, most: int) -> int:
        return await self._compaction.run(most)

    async def delete(self, project: str, response: str) -> bool:
        return bool(await self._take(operations.Delete(project, response)))

    async def expire(self, now: int) -> int:
        total = 0
        for kind in (operations.ExpireKeys, operations.ExpireOutbox):
            while await self._write(self._remover, kind(now)):
                pass
        while gone := await self._write(self._remover, operations.Expire(now, EXPIRE_BATCH)):
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


def _stored(response: str, row: Any) -> Stored:
    """A row of the queries `response` and `begun`."""
    large, blobs = decode_large(row["large"]), row["blobs"]
    members = {name: value.encode() if isinstance(value, str) else blobs[value] for name, value in large.items()}
    shell = Shell(response, row["created"], row["background"], row["small"], members)
    outcome = Outcome("in_progress") if row["begun"] else decode_outcome(row["outcome"])
    return Stored(shell, outcome, row["output"], row["request"], row["streamed"])


def _failure(error: Exception) -> StoreError:
    return StoreError(f"{type(error).__name__}: {error}")
