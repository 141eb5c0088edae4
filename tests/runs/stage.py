"""Runs over the real store and the scripted upstream, without HTTP: what a test of their life needs.

Every stream that a reader took to its end is checked against both specifications and the laws of a stream.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from typing import Any

from tests.specification.conformance import check_response, check_stream

from antiphon.clock import SystemClock
from antiphon.coordinators.local import LocalCoordinator
from antiphon.engine.ports.stores import StoredItem
from antiphon.engine.ports.tools import Tool
from antiphon.engine.ports.upstreams import Capabilities, ModelInfo, ModelRequest, Route
from antiphon.protocol.errors import ApiError
from antiphon.protocol.events import Event
from antiphon.protocol.items import text_of_raw
from antiphon.protocol.requests import Page, read_create
from antiphon.protocol.responses import Usage
from antiphon.runs import recovery
from antiphon.runs.log import LiveLog
from antiphon.runs.run import Run
from antiphon.runs.running import Runs
from antiphon.runs.settings import Settings
from antiphon.sealing import Sealer
from antiphon.stores.sqlite import SqliteStore
from antiphon.upstreams.scripted import Script, ScriptedUpstream

Json = dict[str, Any]

#: No test waits longer for anything.
PATIENCE_SECONDS = 10
#: All processes of a database have the same keys.
SEALER = Sealer([b"a key of tests, of 32 bytes or more"])


class OneModel:
    """Every name leads to the one upstream."""

    def __init__(self, upstream: ScriptedUpstream) -> None:
        self._upstream = upstream

    async def route(self, name: str) -> Route:
        return Route(self._upstream, name)

    async def all(self) -> list[ModelInfo]:
        return await self._upstream.models()


class NoAttachments:
    """No request here points at anything."""

    async def image(self, url: str, param: str) -> str:
        raise AssertionError(url)

    async def text(self, url: str | None, data: str | None, filename: str | None, param: str) -> str:
        raise AssertionError(url)


class Follower:
    """A reader of a log that keeps what it gets; it can be made to fall behind."""

    def __init__(self, after: int = -1) -> None:
        self.last = after
        self.events: list[Event] = []
        self.ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.behind = False
        self._room = asyncio.Event()
        self._room.set()
        self._waiting: list[tuple[Callable[[Follower], bool], asyncio.Event]] = []

    def write(self, events: list[Event]) -> None:
        new = [event for event in events if event.number > self.last]
        self.events += new
        self.last = new[-1].number if new else self.last
        for reached, told in self._waiting:
            if reached(self):
                told.set()

    def end(self, *, whole: bool) -> None:
        self.ended.set_result(whole)

    async def ready(self) -> None:
        await self._room.wait()

    def stall(self) -> None:
        """From here on it takes no more."""
        self.behind = True
        self._room.clear()

    def go_on(self) -> None:
        self.behind = False
        self._room.set()

    async def until(self, reached: Callable[[Follower], bool]) -> None:
        """Waits until what it has is enough."""
        told = asyncio.Event()
        self._waiting.append((reached, told))
        if reached(self):
            told.set()
        await within(told.wait())

    async def until_type(self, kind: str) -> None:
        await self.until(lambda self: any(event.type == f"response.{kind}" for event in self.events))

    async def whole(self) -> list[Json]:
        """All events, after the end, which must be whole."""
        assert await within(asyncio.shield(self.ended)), "the stream has no terminal event"
        return self.decoded()

    def decoded(self) -> list[Json]:
        return [json.loads(event.data) for event in self.events]

    def text(self) -> str:
        return "".join(event.get("delta", "") for event in self.decoded())


async def within(waiting: Any) -> Any:
    """What is waited for, or a failure."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await waiting


class Stage:
    """A store, an upstream with scripts, and runs."""

    def __init__(
        self,
        *scripts: Script,
        echo: Callable[[ModelRequest], Script] | None = None,
        prefill: bool = False,
        store: SqliteStore | None = None,
        upstream: ScriptedUpstream | None = None,
        tools: dict[str, Tool] | None = None,
        **settings: Any,
    ) -> None:
        self.store = store or SqliteStore(None)
        self.upstream = upstream or ScriptedUpstream(echo or scripts, capabilities=Capabilities(prefill=prefill))
        self.clock = SystemClock()
        self.coordinator = LocalCoordinator(self.clock, news_seconds=0.001)
        given = {"flush_seconds": 0.001, "first_event_seconds": 60.0, "store_retry_seconds": 0.001, **settings}
        self.runs = Runs(
            self.store,
            OneModel(self.upstream),
            tools or {},
            NoAttachments(),
            self.clock,
            self.coordinator,
            SEALER,
            Settings(**given),
        )

    async def recover(self) -> int:
        """Takes up what an earlier stage left."""
        await self.runs.start()
        return await recovery.recover(self.store, self.coordinator)

    async def create(self, project: str = "p", **parameters: Any) -> Run:
        body = json.dumps({"model": "demo", "input": "Hello", **parameters}).encode()
        return await self.runs.create(project, read_create(body))

    async def answer(self, project: str = "p", **parameters: Any) -> Json:
        """The Response of a foreground run, checked."""
        run = await self.create(project, **parameters)
        response: Json = json.loads(await within(run.finished()))
        check_response(response)
        return response

    async def stream(self, project: str = "p", **parameters: Any) -> tuple[Run, Follower]:
        """A foreground run and the reader that is attached to it."""
        run = await self.create(project, stream=True, **parameters)
        follower = Follower()
        assert isinstance(run.log, LiveLog)
        run.log.attach(follower)
        return run, follower

    def follow(self, response: str, after: int = -1, project: str = "p") -> Follower:
        """A reader of a background run."""
        follower = Follower(after)
        self.runs.follow(project, response, follower)
        return follower

    async def read(self, response: str, project: str = "p") -> Json | None:
        stored = await self.store.read(project, response)
        return None if stored is None else json.loads(stored.snapshot())

    async def inputs(self, response: str, project: str = "p") -> list[StoredItem]:
        listing = await self.store.input_items(project, response, Page(100, "asc"))
        assert listing is not None
        return listing.items

    async def close(self) -> None:
        await within(self.runs.close())
        await self.store.close()


def id_of(run: Run) -> str:
    return run.draft.shell.id


def types_of(events: Iterable[Json]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


def checked(events: list[Json]) -> list[Json]:
    check_stream(events)
    return events


async def failure_of(waiting: Any) -> ApiError:
    """The error that is raised."""
    try:
        await within(waiting)
    except ApiError as error:
        return error
    raise AssertionError("nothing was raised")


def told(input_tokens: int, output_tokens: int) -> Usage:
    return Usage(input_tokens, output_tokens=output_tokens, total_tokens=input_tokens + output_tokens)


def texts(asked: ModelRequest) -> list[str]:
    """What the messages say that the model sees."""
    contents = [text_of_raw(item.view.content) for item in asked.items if item.view.kind == "message"]
    return [part.text or "" for content in contents if not isinstance(content, str) for part in content]


Make = Callable[..., Stage]
