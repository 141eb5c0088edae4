"""What the store's tests write and expect: conversations of short texts, and a plain model of what must remain.

Knows nothing of any database: everything goes through ``engine.ports.stores.Store``.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from antiphon.engine.ports.stores import FIRST_FENCE, Batch, Context, Parent, Record, Store, StoredItem
from antiphon.engine.ports.tools import ToolCall
from antiphon.protocol.errors import ApiError
from antiphon.protocol.events import Event
from antiphon.protocol.requests import Page
from antiphon.protocol.responses import Outcome, Shell, Usage

#: No test waits longer for anything.
PATIENCE_SECONDS = 20
SMALL = b'"model":"demo","store":true'
LARGE = {"instructions": b'"' + b"i" * 5000 + b'"', "tools": b"[" + b"1," * 2000 + b"1]", "text": b'{"format":{}}'}
CALL = ToolCall("ws_1", "web_search", '{"query":"a"}')


class Stores(Protocol):
    """Where a test's stores come from; ``open`` again after ``close`` where ``durable`` finds what was there."""

    durable: bool

    def open(self, **options: Any) -> Store: ...


async def within(waiting: Any) -> Any:
    """What is waited for, or a failure."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await waiting


def item(id: str, text: str | None = None) -> StoredItem:
    """A message whose text is its id, unless another is given."""
    body = f'{{"id":"{id}","type":"message","content":[{{"type":"input_text","text":"{text or id}"}}]}}'
    return StoredItem(id, body.encode())


def items(*ids: str) -> list[StoredItem]:
    return [item(id) for id in ids]


def event(number: int, type: str = "response.output_text.delta", rest: bytes = b'"delta":"x"') -> Event:
    return Event(number, type, b'{"type":"%b","sequence_number":%d,%b}' % (type.encode(), number, rest))


def batch(response: str, *numbers: int, fence: int = FIRST_FENCE, project: str = "p") -> Batch:
    """Small events of a run, with these numbers."""
    return Batch(project, response, fence, [event(number) for number in numbers])


def record(
    response: str,
    *,
    project: str = "p",
    parent: Parent | None = None,
    input: Sequence[StoredItem] = (),
    output: Sequence[StoredItem] = (),
    status: str = "completed",
    background: bool = False,
    stored: bool = True,
    expires_at: int | None = None,
    large: dict[str, bytes] | None = None,
    request: bytes = b"{}",
    input_hash: bytes | None = None,
    full_hash: bytes | None = None,
) -> Record:
    """A response as ``runs`` writes it."""
    ended = status not in ("queued", "in_progress")
    outcome = Outcome(status, 1_700_000_001 if ended else None, usage=Usage(1, output_tokens=2, total_tokens=3))
    shell = Shell(response, 1_700_000_000, background, SMALL, dict(large or {}))
    written = Record(project, shell, outcome, parent, list(input), list(output), request, False, expires_at)
    written.stored, written.input_hash, written.full_hash = stored, input_hash, full_hash
    return written


class World:
    """A store and the shortest ways of saying things to it."""

    def __init__(self, store: Store, project: str = "p") -> None:
        self.store = store
        self.project = project
        self._serial = itertools.count(1)

    def name(self) -> str:
        return f"resp_{next(self._serial):028d}"

    async def pin(self, previous: str | None) -> Context:
        return Context(None, []) if previous is None else await self.store.context(self.project, previous)

    def release(self, context: Context) -> None:
        if context.parent is not None:
            self.store.release(context.parent)

    async def say(self, previous: str | None = None, *, turn: str | None = None, **members: Any) -> str:
        """A turn with one item in and one out, named after it: ``<turn>?`` and ``<turn>!``; its response's id."""
        response = turn or self.name()
        given = {"input": items(f"{response}?"), "output": items(f"{response}!"), **members}
        context = await self.pin(previous)
        try:
            await self.store.save(record(response, project=self.project, parent=context.parent, **given))
        finally:
            self.release(context)
        return response

    async def seen(self, response: str) -> list[str]:
        """The ids of what a continuation would see."""
        context = await self.store.context(self.project, response)
        self.release(context)
        return [name_of(body) for body in context.bodies]

    async def page(self, response: str, **page: Any) -> tuple[list[str], bool]:
        """Ids and ``has_more`` of a page of input items; each body is that of its id."""
        listing = await self.store.input_items(self.project, response, Page(**page))
        assert listing is not None
        return [id for id, _ in listing.items], listing.has_more

    async def inputs(self, response: str) -> list[str] | None:
        """The ids of all input items, oldest first; None without the response."""
        listing = await self.store.input_items(self.project, response, Page(10_000, "asc"))
        return None if listing is None else [name_of(body) for _, body in listing.items]

    async def outputs(self, response: str) -> list[str] | None:
        stored = await self.store.read(self.project, response)
        return None if stored is None else [name_of(body) for body in stored.output]

    async def alive(self, names: Iterable[str]) -> set[str]:
        """Which of these items are still there."""
        return {name for name in names if await self.store.item(self.project, name) is not None}

    async def refusal(self, waiting: Any) -> ApiError:
        """The error that is raised."""
        try:
            await within(waiting)
        except ApiError as error:
            return error
        raise AssertionError("nothing was raised")

    # --- Background runs ---

    async def begin(self, previous: str | None = None, **members: Any) -> Record:
        """A queued background run."""
        response = members.pop("turn", None) or self.name()
        given = {"input": items(f"{response}?"), **members}
        context = await self.pin(previous)
        begun = record(response, project=self.project, parent=context.parent, status="queued", background=True, **given)
        await self.store.begin(begun)
        self.release(context)
        return begun

    async def append(self, response: str, *numbers: int, fence: int = FIRST_FENCE) -> bool:
        """Whether the owner with this fence could append these events."""
        [written] = await self.store.append([batch(response, *numbers, fence=fence, project=self.project)])
        return written

    async def finish(
        self,
        begun: Record,
        status: str = "completed",
        first_number: int = 0,
        *,
        fence: int = FIRST_FENCE,
        **members: Any,
    ) -> bool:
        """Its end, with one event and one item of output."""
        response = begun.shell.id
        given = {"output": items(f"{response}!"), "stored": begun.stored, **members}
        ended = record(response, project=begun.project, status=status, background=True, **given)
        last = event(first_number, "response.completed", b'"response":{}')
        return await self.store.finish(ended, fence, [Batch(begun.project, response, fence, [last])])

    async def log(self, response: str, after: int = -1) -> list[Event]:
        """All pages of a log."""
        log: list[Event] = []
        while page := await self.store.events(self.project, response, after):
            log += page
            after = page[-1].number
        return log

    async def numbers(self, response: str, after: int = -1) -> list[int]:
        return [event.number for event in await self.store.events(self.project, response, after)]


def name_of(body: bytes) -> str:
    """The id of an item as ``item`` makes it, whose text must be the same."""
    id, text = body.split(b'"')[3], body.split(b'"')[-2]
    assert id == text, body
    return id.decode()


class Model:
    """What a store must hold, in plain Python: a tree of turns, some of them deleted."""

    def __init__(self) -> None:
        self.parents: dict[str, str | None] = {}
        self.inputs: dict[str, list[str]] = {}
        self.outputs: dict[str, list[str]] = {}
        self.statuses: dict[str, str] = {}
        self.alive: set[str] = set()
        self.pinned: list[str] = []

    def add(self, response: str, parent: str | None, inputs: list[str], outputs: list[str], status: str) -> None:
        self.parents[response] = parent
        self.inputs[response], self.outputs[response], self.statuses[response] = inputs, outputs, status
        self.alive.add(response)

    def line(self, response: str) -> list[str]:
        """The response and those that it continues, oldest first."""
        line: list[str] = []
        at: str | None = response
        while at is not None:
            line.insert(0, at)
            at = self.parents[at]
        return line

    def before(self, response: str) -> list[str]:
        """The items that were its input."""
        parent = self.parents[response]
        return ([] if parent is None else self.context(parent)) + self.inputs[response]

    def context(self, response: str) -> list[str]:
        return [name for one in self.line(response) for name in self.inputs[one] + self.outputs[one]]

    def continuable(self) -> list[str]:
        return sorted(one for one in self.alive if self.statuses[one] in ("completed", "incomplete"))

    def needed(self) -> set[str]:
        """The items that a living or pinned response needs."""
        return {name for one in [*self.alive, *self.pinned] for name in self.context(one)}

    def everything(self) -> set[str]:
        return {name for one in self.parents for name in self.inputs[one] + self.outputs[one]}
