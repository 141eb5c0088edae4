"""Clients as bad as they come, on bare sockets: those that read late or never, drip bytes, or leave."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

SECONDS = 60.0
#: What a client that reads late lets the kernel hold for it.
SMALL_BUFFER = 16 << 10


def head_of(path: str, length: int | None, method: str = "POST") -> bytes:
    sized = b"transfer-encoding: chunked" if length is None else b"content-length: %d" % length
    return b"%b %b HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n%b\r\n\r\n" % (
        method.encode(),
        path.encode(),
        sized,
    )


def create(**members: Any) -> bytes:
    """A request to create a response; the model stands first."""
    body = json.dumps({"model": "quiet", "input": "Speak.", **members}).encode()
    return head_of("/v1/responses", len(body)) + body


@dataclass
class Head:
    """``length``: of the body; None: it is a stream."""

    status: int
    length: int | None


@dataclass
class Reply:
    status: int
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """Of a whole event stream.  Raises AssertionError for one that was cut."""
        assert self.body.endswith(b"data: [DONE]\n\n"), self.body[-200:]
        return [json.loads(line[6:]) for line in self.body.split(b"\n") if line.startswith(b"data: {")]


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def say(self, data: bytes) -> None:
        self._writer.write(data)
        async with asyncio.timeout(SECONDS):
            await self._writer.drain()

    async def head(self) -> Head:
        """What stands before the body of the next reply."""
        async with asyncio.timeout(SECONDS):
            head = await self._reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        return Head(int(head.split()[1]), int(length[1]) if length else None)

    async def reply(self, head: Head | None = None) -> Reply:
        """The next whole reply, or the rest of the one with this head."""
        head = head or await self.head()
        async with asyncio.timeout(SECONDS):
            if head.length is not None:
                return Reply(head.status, await self._reader.readexactly(head.length))
            return Reply(head.status, b"".join([chunk async for chunk in self._chunks()]))

    async def chunk(self) -> bytes:
        """The next piece of a stream, as it was written."""
        async with asyncio.timeout(SECONDS):
            return await anext(self._chunks())

    async def closed(self) -> None:
        """Returns when the server has closed the connection."""
        async with asyncio.timeout(SECONDS):
            while await self._reader.read(1 << 16):
                pass

    async def _chunks(self) -> AsyncIterator[bytes]:
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            yield (await self._reader.readexactly(size + 2))[:-2]
        await self._reader.readexactly(2)

    def leave(self) -> None:
        """Resets the connection, as one whose process was killed."""
        self._writer.transport.abort()


class Visitors:
    """Opens connections to one server, and closes all of them in the end."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._clients: list[Client] = []

    async def come(self, *, buffer: int | None = None) -> Client:
        """``buffer``: of the bytes that the kernel takes for it unread; it and the client take hardly more then."""
        one = socket.socket()
        one.setblocking(False)
        if buffer is not None:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        async with asyncio.timeout(SECONDS):
            await asyncio.get_running_loop().sock_connect(one, ("127.0.0.1", self._port))
            client = Client(*await asyncio.open_connection(sock=one, limit=buffer or 1 << 20))
        self._clients.append(client)
        return client

    async def ask(self, request: bytes) -> Reply:
        """One request on a connection of its own."""
        client = await self.come()
        await client.say(request)
        reply = await client.reply()
        client.leave()
        return reply

    def leave(self) -> None:
        for client in self._clients:
            client.leave()


@asynccontextmanager
async def visitors(port: int) -> AsyncIterator[Visitors]:
    all_of_them = Visitors(port)
    try:
        yield all_of_them
    finally:
        all_of_them.leave()
