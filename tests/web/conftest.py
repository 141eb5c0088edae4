"""Servers in this process, on real sockets, before a scripted upstream."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import uvicorn
import uvloop
from tests.web.client import PATIENCE_SECONDS, Client

from antiphon import assemble
from antiphon.config import Config
from antiphon.engine.ports.tools import Tool
from antiphon.upstreams.catalog import Entry
from antiphon.upstreams.scripted import ScriptedUpstream
from antiphon.web import frames
from antiphon.web.transport import PushProtocol


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """What touches the transport is tested on both loops, everything else on the one that servers use."""
    both = item.path.stem in ("test_streams", "test_transport", "test_websocket_limits")
    return {"uvloop": uvloop.new_event_loop} | ({"asyncio": asyncio.new_event_loop} if both else {})


class Serving:
    """A running server, its upstream, and a client of it."""

    def __init__(self, server: assemble.Server, upstream: ScriptedUpstream, web: uvicorn.Server, port: int) -> None:
        self.server = server
        self.upstream = upstream
        self.web = web
        self.port = port
        self.client = Client(port)

    def client_of(self, key: str | None = None, **headers: str) -> Client:
        """A client with a key or other headers."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return Client(self.port, given | ({"authorization": f"Bearer {key}"} if key else {}))

    async def idle(self) -> None:
        """Waits until nobody is being served and no run is alive."""
        await self.until(lambda: not self.web.server_state.tasks and not self.server.runs._alive)

    async def unconnected(self) -> None:
        """Waits until the server has noticed that every client left."""
        await self.until(lambda: not self.web.server_state.connections)

    async def until(self, so: Callable[[], bool]) -> None:
        """Waits for what tells nobody of itself."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not so():  # noqa: ASYNC110 - there is nothing to be woken by
                await asyncio.sleep(0.001)


Serve = Callable[..., Awaitable[Serving]]


@asynccontextmanager
async def serving(
    scripts: Any = None,
    *,
    protocol: type[asyncio.Protocol] = PushProtocol,
    frames_protocol: type[asyncio.Protocol] | None = None,
    tools: dict[str, Tool] | None = None,
    send_buffer_bytes: int | None = None,
    **config: Any,
) -> AsyncIterator[Serving]:
    """A server with these settings; `scripts` are what its upstream says, None is the echo."""
    server = assemble.Server(Config(**{"database": ":memory:", "demo_model": False, **config}), tools=tools)
    upstream = ScriptedUpstream(scripts, models=["demo", "other/model"])
    server.catalog._entries.append(Entry("stage", upstream))
    listener = socket.create_server(("127.0.0.1", 0))
    if send_buffer_bytes is not None:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
    sockets = frames.options(
        message_max=server.config.body_max_bytes,
        ping_seconds=server.config.keepalive_seconds,
        compression=server.config.websocket_compression,
    )
    settings = uvicorn.Config(
        server.app,
        http=protocol,
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        **sockets | ({} if frames_protocol is None else {"ws": frames_protocol}),
    )
    settings.load()
    web = uvicorn.Server(settings)
    web.lifespan = settings.lifespan_class(settings)
    await web.startup(sockets=[listener])
    try:
        yield Serving(server, upstream, web, listener.getsockname()[1])
    finally:
        await stop(web)


async def stop(web: uvicorn.Server) -> None:
    """Ends the server.  Nothing of it may stay behind, whatever its clients did."""
    for one in web.servers:
        one.close()
    for connection in list(web.server_state.connections):
        connection.transport.abort()
    if web.server_state.tasks:
        _, stuck = await asyncio.wait(list(web.server_state.tasks), timeout=PATIENCE_SECONDS)
        assert not stuck, f"these requests never end: {stuck}"
    await web.lifespan.shutdown()
    left = [task for task in asyncio.all_tasks() if "antiphon" in str(task.get_coro())]
    assert not left, f"these tasks stay behind: {left}"


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts servers and ends them."""
    async with AsyncExitStack() as stack:

        async def start(scripts: Any = None, **options: Any) -> Serving:
            return await stack.enter_async_context(serving(scripts, **options))

        yield start
