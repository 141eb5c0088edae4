"""``engine.ports.Store`` over SQLite: reads in the loop by key, writes through the writer's thread.

Must not know of HTTP or of how responses come about.
"""

import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw
import msgspec

from antiphon.engine.ports import (
    Batch,
    Context,
    Listing,
    Parent,
    Record,
    Stored,
    StoredItem,
    ToolCall,
    ToolResult,
    Unfinished,
)
from antiphon.protocol.errors import invalid, previous_not_found
from antiphon.protocol.events import Event
from antiphon.protocol.requests import Page
from antiphon.protocol.responses import Outcome, Shell
from antiphon.stores.queries import Queries, migrations
from antiphon.stores.sqlite import groups
from antiphon.stores.sqlite.writer import Writer

PACKAGE = "antiphon.stores.sqlite"
#: Responses removed by one transaction of the expiry.
EXPIRE_BATCH = 200
_CONTINUABLE = ("completed", "incomplete")
_FOREVER = 2**62

_outcome = msgspec.json.Decoder(Outcome)
_large = msgspec.json.Decoder(dict[str, int | str])
_result = msgspec.json.Decoder(tuple[dict[str, Any], str, bool])


class SqliteStore:
    """One file of state, or none at all (``path`` None: in memory, gone with the process)."""

    def __init__(self, path: Path | None) -> None:
        self._queries = Queries(PACKAGE, "queries.sql")
        self._gate = threading.RLock()
        self._pins: Counter[Parent] = Counter()
        if path is not None:
            _create_private(path)
        try:
            self._writing = _connect(":memory:" if path is None else str(path))
            _migrate(self._writing)
        except apsw.Error as error:
            raise ValueError(str(error)) from None
        self._reading = self._writing if path is None else _connect(str(path))
        # In memory there is one connection, which the writer's thread and the loop then take in turns.
        self._read_gate = self._gate if path is None else threading.RLock()
        self._groups = groups.Groups(self._queries, self._writing, self._pins)
        self._writer = Writer(self._writing, self._groups.execute, self._gate)

    # --- Reading ---

    def _rows(self, name: str, **bindings: Any) -> list[Any]:
        return self._all(self._queries[name], bindings)

    def _all(self, text: str, bindings: dict[str, Any]) -> list[Any]:
        with self._read_gate:
            return self._reading.execute(text, bindings).fetchall()

    async def context(self, project: str, response: str) -> Context:
        """One query; the end of the context stays pinned until ``release``."""
        with self._gate:  # between the read and the pin nothing may be deleted
            rows = self._rows("context", project=project, id=response)
            if not rows:
                raise previous_not_found(response)
            thread, upto, status, _ = rows[0]
            parent = Parent(thread, upto)
            if status not in _CONTINUABLE:
                raise _cannot_continue(response, status)
            self._pins[parent] += 1
        return Context(parent, [body for _, _, _, body in rows if body is not None])

    def release(self, parent: Parent) -> None:
        """Lets go of a pin; what a deletion left because of it goes now."""
        self._pins[parent] -= 1
        if self._pins[parent] <= 0:
            del self._pins[parent]
        if parent.thread in self._groups.held:
            self._groups.held.discard(parent.thread)
            self._writer.submit(groups.Release(parent.thread))
            self._writer.erase_soon()

    async def read(self, project: str, response: str) -> Stored | None:
        rows = self._rows("response", project=project, id=response)
        if not rows:
            return None
        _, thread, middle, upto, created, background, streamed, outcome, small, large, request = rows[0]
        members = {name: self._member(value) for name, value in _large.decode(large).items()}
        shell = Shell(response, created, bool(background), small, members)
        output = [body for (body,) in self._rows("output", thread=thread, middle=middle, upto=upto)]
        return Stored(shell, _outcome.decode(outcome), output, request, bool(streamed))

    def _member(self, value: int | str) -> bytes:
        if isinstance(value, str):
            return value.encode()
        return bytes(self._rows("blob", id=value)[0][0])

    async def events(self, project: str, response: str, after: int) -> list[Event]:
        found: list[Event] = []
        for first, frames in self._rows("events", project=project, id=response, after=after):
            for number, data in enumerate(frames.split(b"\n"), first):
                if number > after:
                    found.append(Event(number, _type_of(data), data))
        return found

    async def input_items(self, project: str, response: str, page: Page) -> Listing | None:
        if not self._rows("response", project=project, id=response):
            return None
        above, below = -1, _FOREVER
        ascending = page.order == "asc"
        if page.after is not None:
            cursor = self._position(project, response, page.after, "after")
            above, below = (cursor, below) if ascending else (above, cursor)
        if page.before is not None:
            cursor = self._position(project, response, page.before, "before")
            above, below = (above, min(below, cursor)) if ascending else (max(above, cursor), below)
        text = self._queries["input_page"].replace("{order}", "ASC" if ascending else "DESC")
        bindings = {"project": project, "id": response, "above": above, "below": below, "limit": page.limit + 1}
        rows = [StoredItem(id, body) for id, body in self._all(text, bindings)]
        return Listing(rows[: page.limit], len(rows) > page.limit)

    def _position(self, project: str, response: str, item: str, param: str) -> int:
        rows = self._rows("input_position", project=project, id=response, item=item)
        if rows[0][0] is None:
            raise invalid(f"Item with id '{item}' not found among the input items of '{response}'.", param)
        return int(rows[0][0])

    async def item(self, project: str, item: str) -> bytes | None:
        rows = self._rows("item", project=project, item=item)
        return bytes(rows[0][0]) if rows else None

    async def unfinished(self) -> list[Unfinished]:
        return [Unfinished(*row) for row in self._rows("unfinished")]

    async def ping(self) -> None:
        self._all("SELECT 1", {})

    # --- Writing ---

    async def save(self, record: Record) -> None:
        await self._writer.submit(groups.Save(record))

    async def begin(self, record: Record) -> None:
        await self._writer.submit(groups.Save(record))

    async def append(self, batches: Sequence[Batch]) -> None:
        await self._writer.submit(groups.Append(batches))

    async def finish(self, record: Record, last: Batch) -> bool:
        return bool(await self._writer.submit(groups.Finish(record, last)))

    async def delete(self, project: str, response: str) -> bool:
        gone: int = await self._writer.submit(groups.Delete([(project, response)]))
        self._writer.erase_soon()
        return gone > 0

    async def expire(self, now: int) -> int:
        total = 0
        while expired := self._rows("expired", now=now, limit=EXPIRE_BATCH):
            total += await self._writer.submit(groups.Delete(expired))
            self._writer.erase_soon()
        return total

    async def journal_begin(self, project: str, response: str, call: ToolCall) -> ToolResult | None:
        """Notes the intent of a hosted call; its result if it was completed before."""
        data = await self._writer.submit(groups.JournalBegin(project, response, call))
        return None if data is None else ToolResult(*_result.decode(data))

    async def journal_complete(self, project: str, response: str, call: ToolCall, result: ToolResult) -> None:
        """Notes the result of a hosted call."""
        data = msgspec.json.encode(result)
        await self._writer.submit(groups.JournalComplete(project, response, call, data))

    async def close(self) -> None:
        self._writer.close()
        if self._reading is not self._writing:
            self._reading.close()
        self._writing.close()


def _cannot_continue(response: str, status: str) -> Exception:
    if status in ("queued", "in_progress"):
        text = f"Previous response with id '{response}' is still {status}; wait until it is completed."
    else:
        text = (
            f"Previous response with id '{response}' cannot be continued because its status is '{status}'. "
            "Continue from the response before it."
        )
    return invalid(text, "previous_response_id", "invalid_value")


def _type_of(data: bytes) -> str:
    """Every event begins with its type (``protocol.events``)."""
    return data[9 : data.index(b'"', 9)].decode()


def _create_private(path: Path) -> None:
    """The file holds what people said: its owner alone may read it (issue: mode 0600)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600, exist_ok=True)


def _connect(path: str) -> apsw.Connection:
    connection = apsw.Connection(path, statementcachesize=256)
    connection.set_busy_timeout(5000)
    for pragma in ("journal_mode=WAL", "secure_delete=ON", "foreign_keys=OFF", "cache_size=-16000"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    return connection


def _migrate(connection: apsw.Connection) -> None:
    row = connection.execute("PRAGMA user_version").fetchone()
    assert row is not None
    known = migrations(PACKAGE)
    if row[0] > known[-1][0]:
        raise ValueError(
            f"the database was written by a newer release (schema {row[0]}, this one knows {known[-1][0]})"
        )
    for number, text in known:
        if number > row[0]:
            connection.execute(f"BEGIN; {text}; PRAGMA user_version={number}; COMMIT").fetchall()
