"""Coordinators of tests, and who listens to them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import pytest
from tests.nats_server import NatsServer, nats_server, own_nats_server

from antiphon.clock import SystemClock
from antiphon.coordinators.local import LocalCoordinator
from antiphon.coordinators.nats import NatsCoordinator, Settings
from antiphon.engine.coordination import Coordinator
from antiphon.engine.ports.stores import RunName

__all__ = ["nats_server", "own_nats_server"]

T = TypeVar("T")

#: Long enough for a machine that is busy.
PATIENCE_SECONDS = 20.0
LEASE_SECONDS = 2.0


async def soon(waiting: Awaitable[T]) -> T:
    return await asyncio.wait_for(waiting, PATIENCE_SECONDS)


class Listener:
    """``engine.coordination.Words``; what was told can be waited for."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[Any] = asyncio.Queue()

    def cancelled(self, run: RunName) -> None:
        self.told.put_nowait(("cancelled", run))

    def taken(self, run: RunName, fence: int) -> None:
        self.told.put_nowait(("taken", run, fence))


class Nodes:
    """The coordinators of one bus, whose name is new."""

    def __init__(self, url: str) -> None:
        self.name = f"test-{secrets.token_hex(4)}"
        self.url = url
        self._made: list[NatsCoordinator] = []

    async def add(self, *, url: str | None = None, **settings: Any) -> tuple[NatsCoordinator, Listener]:
        given = {"bus_lease_seconds": LEASE_SECONDS, **settings}
        node = NatsCoordinator(Settings(url or self.url, bus_name=self.name, **given))
        listener = Listener()
        node.heed(listener)
        await node.start()
        self._made.append(node)
        return node, listener

    async def close(self) -> None:
        for node in self._made:
            await node.close()


@pytest.fixture
async def nodes(nats_server: NatsServer) -> AsyncIterator[Nodes]:
    made = Nodes(nats_server.url)
    yield made
    await made.close()


@pytest.fixture
async def own_nodes(own_nats_server: NatsServer) -> AsyncIterator[Nodes]:
    """Nodes of a server that the test may stop."""
    made = Nodes(own_nats_server.url)
    yield made
    await made.close()


@pytest.fixture(params=["local", "nats"])
async def coordinator(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Coordinator, Listener]]:
    """Either coordinator, as one process has it."""
    listener = Listener()
    if request.param == "nats":
        server: NatsServer = request.getfixturevalue("nats_server")
        nodes = Nodes(server.url)
        yield await nodes.add()
        await nodes.close()
        return
    local = LocalCoordinator(SystemClock(), news_seconds=0.01)
    local.heed(listener)
    await local.start()
    yield local, listener
    await local.close()


@pytest.fixture
def names() -> Callable[[], RunName]:
    """New runs."""

    def new() -> RunName:
        return RunName("a project, *.> and all", SystemClock().new_id("resp_"))

    return new
