"""Servers that do what a test tells them, and pools over them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tests.upstreams.asking import asked, user
from tests.upstreams.servers import Heard
from tests.upstreams.virtual_time import LoopClock

from antiphon.engine.deltas import TextDelta
from antiphon.engine.ports.upstreams import Capabilities, Feed, ModelInfo, ModelRequest, Standing, Stop, UpstreamError
from antiphon.protocol.requests import CreateResponse
from antiphon.upstreams.pool import Pool, Settings

Behaviour = Callable[["FakeServer", Feed], Awaitable[None]]


class FakeServer:
    """A server whose ``behaviour`` says what becomes of a call; it counts them and knows how many there are at once."""

    def __init__(self, number: int, models: tuple[str, ...] = ("m",)) -> None:
        self.base_url = f"http://server{number}/v1"
        self.serves = list(models)
        self.behaviour: Behaviour = says()
        self.well = True
        self.calls = 0
        self.active = 0
        self.most = 0
        self.looks: list[str] = []
        self.can = Capabilities(context=1000 * number)
        self.closed = False

    async def run(self, request: ModelRequest, feed: Feed) -> Stop:
        assert not self.serves or request.model in self.serves or request.model == "unlisted", (
            "it was asked for another"
        )
        self.calls += 1
        self.active += 1
        self.most = max(self.most, self.active)
        try:
            await self.behaviour(self, feed)
        finally:
            self.active -= 1
        return Stop(self.base_url)

    async def models(self) -> list[ModelInfo]:
        self.looks.append("models")
        if not self.well:
            raise unreachable()
        return [ModelInfo(name, 0, "them", self.can.context) for name in self.serves]

    async def reached(self, path: str) -> None:
        self.looks.append(path)
        if not self.well:
            raise unreachable()

    async def count(self, request: ModelRequest) -> int | None:
        return len(request.items)

    def capabilities(self, model: str) -> Capabilities:
        return self.can

    def unheeded(self, request: CreateResponse, model: str) -> list[str]:
        return []

    async def close(self) -> None:
        self.closed = True


def says(after_seconds: float = 0.0, lasts_seconds: float = 0.0) -> Behaviour:
    async def behave(server: FakeServer, feed: Feed) -> None:
        await asyncio.sleep(after_seconds)
        feed([])
        feed([TextDelta("Hello")])
        await asyncio.sleep(lasts_seconds)

    return behave


def fails(make: Callable[[], UpstreamError], *, after_words: bool = False, seconds: float = 0.0) -> Behaviour:
    async def behave(server: FakeServer, feed: Feed) -> None:
        await asyncio.sleep(seconds)
        error = make()
        if after_words:
            feed([TextDelta("Hel")])
            error.spoke, error.retryable = True, False
        raise error

    return behave


def unreachable() -> UpstreamError:
    return UpstreamError("Cannot connect.", status=502, code="upstream_unreachable", retryable=True)


def failed(status: int, **members: Any) -> Callable[[], UpstreamError]:
    return lambda: UpstreamError(f"It answered {status}.", status=status, **members)


class World:
    """A pool, and calls of it."""

    def __init__(self, count: int = 2, **settings: Any) -> None:
        self.servers = [FakeServer(number) for number in range(1, count + 1)]
        self.pool = Pool("p", self.servers, LoopClock(), Settings(**settings), seed=1)

    async def call(
        self, text: str = "Hi", *, project: str = "", patient: bool = False, model: str = "m", **parameters: Any
    ) -> str:
        """The number of the server that answered."""
        request = asked(user(text), model=model, **parameters)
        request.standing = Standing(project, patient)
        stop = await self.pool.run(request, Heard())
        return stop.reason.removeprefix("http://server").removesuffix("/v1")

    async def failure(self, **call: Any) -> UpstreamError:
        try:
            await self.call(**call)
        except UpstreamError as error:
            return error
        raise AssertionError("nothing was raised")

    def preferred(self, text: str = "Hi") -> FakeServer:
        """The server that a call with this text goes to while all are idle."""
        from antiphon.upstreams.pool.affinity import key_of, score

        key = key_of(asked(user(text)))
        assert key is not None
        return max(self.servers, key=lambda one: score(key, one.base_url.encode()))
