"""Loopback servers that say exactly the bytes that a test tells them to, and whoever listens to what comes of it."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest

from antiphon.engine.deltas import Delta
from antiphon.engine.ports.upstreams import UpstreamError
from antiphon.upstreams.http import Body, HttpClient, Whole

#: No wait of a test may be longer.
BOUND_SECONDS = 5.0

Talk = Callable[["Conversation"], Awaitable[None]]


class Asked(NamedTuple):
    """A request as it came over the wire."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Conversation:
    """One connection, seen from the server."""

    def __init__(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, log: list[Asked]
    ) -> None:
        #: Connections are counted from 0.
        self.number = number
        self._reader = reader
        self._writer = writer
        self._log = log

    async def request(self) -> Asked | None:
        """The next request, or None when the client has closed."""
        try:
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        first, *lines = head.rstrip().split("\r\n")
        method, path, _ = first.split(" ")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = await self._reader.readexactly(int(headers.get("content-length", 0)))
        self._log.append(Asked(method, path, headers, body))
        return self._log[-1]

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def blocked(self, data: bytes, seconds: float = 0.2) -> int:
        """Sends `data` again and again until the client has taken none for a while; how many bytes went."""
        self._writer.transport.set_write_buffer_limits(0)
        sent = 0
        while True:
            self._writer.write(data)
            sent += len(data)
            try:
                await asyncio.wait_for(self._writer.drain(), seconds)
            except TimeoutError:
                return sent

    async def closed(self) -> None:
        """Returns when the client has closed, reading away what it says until then."""
        try:
            while await self._reader.read(65536):
                pass
        except ConnectionError:
            pass

    def close(self) -> None:
        self._writer.close()

    def reset(self) -> None:
        """Closes so that the client's system says that the connection was reset."""
        handle = self._writer.get_extra_info("socket")
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


class Server:
    """A server that has been started: where it is, and what came."""

    def __init__(self, port: int, scheme: str) -> None:
        self.port = port
        self.url = f"{scheme}://127.0.0.1:{port}/v1"
        self.asked: list[Asked] = []
        self.connections = 0


@asynccontextmanager
async def serving(talk: Talk, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """Serves every connection by `talk`.  What goes wrong in it fails the test."""
    tasks: list[asyncio.Task[None]] = []

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = Conversation(server.connections, reader, writer, server.asked)
        server.connections += 1
        tasks.append(asyncio.get_running_loop().create_task(_converse(talk, conversation)))

    listening = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    server = Server(listening.sockets[0].getsockname()[1], "https" if tls else "http")
    try:
        yield server
    finally:
        listening.close()
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result
        await asyncio.sleep(0)  # transports that were closed are let go


async def _converse(talk: Talk, conversation: Conversation) -> None:
    try:
        await talk(conversation)
    except ConnectionError:
        pass  # the client has left, which is no fault of the server
    finally:
        conversation.close()


def replies(*data: bytes) -> Talk:
    """One reply after the other, whichever connection asks; then the last one again."""
    left = list(data)

    async def talk(conversation: Conversation) -> None:
        while await conversation.request() is not None:
            await conversation.send(left.pop(0) if len(left) > 1 else left[0])

    return talk


def reply(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    """A reply with its length."""
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunked(*pieces: bytes, status: str = "200 OK", kind: str = "text/event-stream", end: bool = True) -> bytes:
    """A reply in chunks."""
    head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + (b"0\r\n\r\n" if end else b"")


class Kept(Whole):
    """A reply as it was handed on: how often, and when it began."""

    def __init__(self) -> None:
        super().__init__()
        self.chunks: list[bytes] = []
        self.began = asyncio.Event()

    def data(self, chunk: bytes) -> None:
        super().data(chunk)
        self.chunks.append(chunk)
        self.began.set()


class Heard:
    """A feed that keeps what it is told."""

    def __init__(self) -> None:
        self.deltas: list[Delta] = []
        self.accepted = 0
        self.taken = asyncio.Event()
        self.spoken = asyncio.Event()
        self.pause: Callable[[], None] | None = None
        self.resume: Callable[[], None] | None = None

    def __call__(self, deltas: Sequence[Delta]) -> None:
        self.deltas += deltas
        if deltas:
            self.spoken.set()
        else:
            self.accepted += 1
            self.taken.set()

    def on_pressure(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self.pause, self.resume = pause, resume


class WaitlessClock:
    """Time stands still unless somebody sleeps; who sleeps is noted and goes on at once."""

    def __init__(self) -> None:
        self.time = 1_000_000.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    def new_id(self, prefix: str) -> str:
        return f"{prefix}{self.time}"

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds
        await asyncio.sleep(0)


async def within(awaitable: Awaitable[object], seconds: float = BOUND_SECONDS) -> None:
    """Waits, but not for ever."""
    async with asyncio.timeout(seconds):
        await awaitable


async def get(client: HttpClient, receiver: Kept | None = None) -> Kept:
    """Asks for the models."""
    kept = receiver or Kept()
    await within(client.send("GET", "/models", {}, Body(), kept))
    return kept


async def failing(client: HttpClient, receiver: Kept | None = None) -> UpstreamError:
    """Asks for the models, in vain."""
    with pytest.raises(UpstreamError) as caught:
        await get(client, receiver)
    return caught.value
