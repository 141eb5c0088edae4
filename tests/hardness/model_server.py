"""A chat-completions server in the test's own loop: as fast as it is read, or silent, and it counts who is there.

The model's name says what it does: `flood-N` says N pieces of `PIECE` and waits only for its reader; `tick-N` says N
words, each when the test lets it; `quiet` says one word and then nothing.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

PIECE = "All work and no play makes a dull test. " * 200
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
NAMES = ("quiet", "flood-1", "flood-20", "flood-500", "flood-2000", "tick-40")
MODELS = [{"id": name, "object": "model", "created": 1, "owned_by": "test"} for name in NAMES]
LISTED = json.dumps({"object": "list", "data": MODELS}).encode()
LIST_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(LISTED)
#: Where the model is named: first, in every request.
NAMED = re.compile(rb'^\{"model":"(\w+)(?:-(\d+))?"')


class ModelServer:
    """``open``: the replies that are under way.  ``written``: bytes of all replies that the sockets took."""

    def __init__(self) -> None:
        self.url = ""
        self.open = 0
        self.written = 0
        self.changed = asyncio.Condition()
        self._ticks = 0
        self._talks: set[asyncio.Task[None]] = set()

    async def tick(self) -> None:
        """Every `tick` model says one word more."""
        async with self.changed:
            self._ticks += 1
            self.changed.notify_all()

    async def until_open(self, count: int) -> None:
        """Returns when so many replies are under way."""
        async with asyncio.timeout(60), self.changed:
            await self.changed.wait_for(lambda: self.open == count)

    async def _changed(self, by: int) -> None:
        async with self.changed:
            self.open += by
            self.changed.notify_all()

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, request after request."""
        task = asyncio.current_task()
        assert task is not None
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 << 10)
        self._talks.add(task)
        task.add_done_callback(self._talks.discard)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = re.search(rb"content-length: (\d+)", head)
                body = await reader.readexactly(int(length[1]) if length else 0)
                if head.startswith(b"GET"):
                    writer.write(LIST_HEAD + LISTED)
                else:
                    await self._answer(body, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # who left is what most of these tests are about
        finally:
            writer.close()

    async def _answer(self, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        named = NAMED.match(body)
        assert named is not None, body[:100]
        await self._changed(+1)
        left = asyncio.ensure_future(reader.read(1))
        said = asyncio.ensure_future(self._say(named[1].decode(), int(named[2] or 0), writer))
        try:
            await asyncio.wait([left, said], return_when=asyncio.FIRST_COMPLETED)
            if left.done():
                raise ConnectionResetError
            await said
        finally:
            for one in (left, said):
                one.cancel()
            await asyncio.gather(left, said, return_exceptions=True)
            await self._changed(-1)

    async def _say(self, model: str, count: int, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD)
        if model == "flood":
            for _ in range(count):
                await self._write(writer, _chunk(PIECE))
        elif model == "tick":
            for number in range(count):
                async with self.changed:
                    await self.changed.wait_for(lambda: self._ticks > number)  # noqa: B023 - awaited at once
                await self._write(writer, _chunk(f"{number} "))
        else:
            await self._write(writer, _chunk("word"))
            await asyncio.Event().wait()
        await self._write(writer, _chunk("", "stop") + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")

    async def _write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(data)
        await writer.drain()
        self.written += len(data)

    async def stop(self) -> None:
        talks = list(self._talks)
        for talk in talks:
            talk.cancel()
        await asyncio.gather(*talks, return_exceptions=True)


def _chunk(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}
    event = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    data = b"data: " + json.dumps(event).encode() + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(data), data)


@asynccontextmanager
async def model_server() -> AsyncIterator[ModelServer]:
    """One that listens."""
    models = ModelServer()
    server = await asyncio.start_server(models.talk, "127.0.0.1", 0, limit=64 << 20, backlog=2048)
    models.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield models
    finally:
        server.close()
        await models.stop()
