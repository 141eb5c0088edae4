"""The contract with uvicorn: what is written past `await send` is, byte for byte, what `await send` would write.

When a release of uvicorn changes what this relies on, these tests fail, and the plain protocol serves on.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from tests.web.client import PATIENCE_SECONDS
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from antiphon.web.transport import EXTENSION, Connection, PushProtocol

App = Callable[[Any, Any, Any], Awaitable[None]]
HEADERS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-odd", b"a b;c")]
PIECES = [b"x", b"event: a\ndata: {}\n\n", bytes(range(256)), b"y" * 70_000, "日本".encode()]


@asynccontextmanager
async def running(app: App, protocol: type[asyncio.Protocol]) -> AsyncIterator[int]:
    """An application under uvicorn; gives its port."""
    settings = uvicorn.Config(app, http=protocol, ws="none", lifespan="off", log_level="critical", server_header=False)
    settings.load()
    web = uvicorn.Server(settings)
    web.lifespan = settings.lifespan_class(settings)
    listener = socket.create_server(("127.0.0.1", 0))
    await web.startup(sockets=[listener])
    try:
        yield listener.getsockname()[1]
    finally:
        for one in web.servers:
            one.close()
        for connection in list(web.server_state.connections):
            connection.transport.abort()
        if web.server_state.tasks:
            await asyncio.wait(list(web.server_state.tasks), timeout=PATIENCE_SECONDS)


async def answer(port: int, request: bytes) -> bytes:
    """Everything that the server says until it closes."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        data = await reader.read()
        writer.close()
        return data


async def pushed(scope: Any, receive: Any, send: Any) -> None:
    """Writes by `Connection`."""
    connection = Connection(scope, receive, send)
    while (await receive()).get("more_body"):
        pass
    connection.watch()
    await connection.start(200, HEADERS, 1 << 20)
    for piece in PIECES:
        connection.write(piece)
    await connection.finish()
    connection.release()


async def sent(scope: Any, receive: Any, send: Any) -> None:
    """Writes by `await send`, as any application does."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    for piece in PIECES:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello",
        b"GET / HTTP/1.0\r\n\r\n",
    ],
)
async def test_what_is_pushed_is_what_would_be_sent(request_bytes: bytes) -> None:
    async with running(pushed, PushProtocol) as ours, running(sent, HttpToolsProtocol) as theirs:
        assert await answer(ours, request_bytes) == await answer(theirs, request_bytes)


async def test_the_fallback_says_the_same_in_fewer_chunks() -> None:
    request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    async with running(pushed, HttpToolsProtocol) as plain, running(sent, HttpToolsProtocol) as theirs:
        ours, other = await answer(plain, request), await answer(theirs, request)

    assert unchunked(ours) == unchunked(other)


def unchunked(data: bytes) -> tuple[bytes, bytes]:
    head, _, rest = data.partition(b"\r\n\r\n")
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        body += rest[: int(size, 16)]
        rest = rest[int(size, 16) + 2 :]
    return head, body


async def test_the_extension_is_offered_and_only_by_us() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope.get("extensions", {}).get(EXTENSION))
        await sent(scope, receive, send)

    request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    for protocol in (PushProtocol, HttpToolsProtocol):
        async with running(app, protocol) as port:
            await answer(port, request)

    assert isinstance(seen[0], PushProtocol)
    assert seen[1] is None


def test_what_is_relied_on_is_there() -> None:
    """Names of uvicorn that are no public interface."""
    for name in (
        "connection_made",
        "on_headers_complete",
        "send_400_response",
        "on_message_begin",
        "on_message_complete",
        "data_received",
        "pause_writing",
        "resume_writing",
        "connection_lost",
    ):
        assert name in vars(HttpToolsProtocol)
    assert "_unsupported_upgrade_warning" in vars(HttpToolsProtocol)


async def test_a_body_that_speaks_of_http_2_is_left_alone() -> None:
    """Only a head may offer it, also where the body comes in a read of its own."""
    body = b"\r\nUpgrade: h2c\r\n\r\nUpgrade: h2c\r\n"
    begun = asyncio.Event()

    async def echo(scope: Any, receive: Any, send: Any) -> None:
        begun.set()
        message = await receive()
        got = message["body"]
        while message["more_body"]:
            message = await receive()
            got += message["body"]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(got))]})
        await send({"type": "http.response.body", "body": got, "more_body": False})

    head = b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
    async with running(echo, PushProtocol) as port, asyncio.timeout(PATIENCE_SECONDS):
        assert (await answer(port, head + body)).endswith(b"\r\n\r\n" + body)
        begun.clear()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head)
        await begun.wait()
        writer.write(body)
        assert (await reader.read()).endswith(b"\r\n\r\n" + body)
        writer.close()


class Watched:
    """An application that writes until it is told to stop, and notes what it is told of the connection."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.full, self.room, self.gone = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        connection = Connection(scope, receive, send)
        connection.on_full = lambda: (self.told.append("full"), self.full.set())
        connection.on_room = lambda: (self.told.append("room"), self.room.set())
        connection.on_gone = lambda: (self.told.append("gone"), self.gone.set())
        connection.watch()
        await connection.start(200, HEADERS, 100_000)
        while not connection.full:
            connection.write(b"x" * 50_000)
            await asyncio.sleep(0)
        assert connection.unsent > 0
        await connection.room()
        await self.gone.wait()
        await connection.finish()
        connection.release()


@pytest.mark.parametrize("protocol", [PushProtocol, HttpToolsProtocol])
async def test_pressure_and_departure_are_told(protocol: type[asyncio.Protocol]) -> None:
    app = Watched()
    async with running(app, protocol) as port, asyncio.timeout(PATIENCE_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1000)
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await app.full.wait()
        while not app.room.is_set():
            await reader.read(100_000)
        writer.transport.abort()
        await app.gone.wait()

    assert app.told == ["full", "room", "gone"]


@pytest.mark.parametrize("protocol", [PushProtocol, HttpToolsProtocol])
async def test_a_dropped_connection_is_over(protocol: type[asyncio.Protocol]) -> None:
    done = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        connection = Connection(scope, receive, send)
        connection.watch()
        await connection.start(200, HEADERS, 100_000)
        connection.write(b"x")
        connection.drop()
        connection.write(b"y")
        await connection.finish()
        connection.release()
        done.set()

    async with running(app, protocol) as port, asyncio.timeout(PATIENCE_SECONDS):
        data = await answer_or_reset(port)
        await done.wait()

    assert not data.endswith(b"0\r\n\r\n"), "it must not look whole"


async def answer_or_reset(port: int) -> bytes:
    try:
        return await answer(port, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    except ConnectionResetError:
        return b""
