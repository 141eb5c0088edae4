"""A chat server that can be killed, hang, refuse and come back at its old address, as a test wants it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from aiohttp import web

WORDS = ("Hello", " from", " the", " server")


class MortalServer:
    """``mode``: ``well``, ``hang``, or the status that a chat is answered with.  Each word takes ``word_seconds``.

    ``gate``: no word before it is set.  ``asked``: the bodies of all chats.
    """

    def __init__(self, name: str, models: Sequence[str] = ("m",), *, word_seconds: float = 0.0) -> None:
        self.name = name
        self.models = list(models)
        self.mode: str | int = "well"
        self.headers: dict[str, str] = {}
        self.word_seconds = word_seconds
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked: list[dict[str, Any]] = []
        self.active = 0
        self.most = 0
        self.port = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def start(self) -> None:
        """At the address that it had, if it had one."""
        app = web.Application()
        app.add_routes([web.get("/v1/models", self._list), web.post("/v1/chat/completions", self._chat)])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()
        self.port = self._runner.addresses[0][1]

    async def kill(self) -> None:
        """Every connection is cut where it stands, and none is taken any more."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        for site in list(runner.sites):
            await site.stop()
        assert runner.server is not None
        for connection in list(runner.server.connections):
            if connection.transport is not None:
                connection.transport.abort()
        await runner.cleanup()

    async def _list(self, request: web.Request) -> web.Response:
        if self.mode == "hang":
            await asyncio.sleep(60)
        data = [{"id": name, "object": "model", "owned_by": "tests"} for name in self.models]
        return web.json_response({"object": "list", "data": data})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append(body)
        self.active += 1
        self.most = max(self.most, self.active)
        try:
            if isinstance(self.mode, int):
                error = {"error": {"message": f"{self.name} says {self.mode}", "type": "server_error"}}
                return web.json_response(error, status=self.mode, headers=self.headers)
            if self.mode == "hang":
                await asyncio.sleep(60)
            await self.gate.wait()
            return await (self._stream(request) if body.get("stream") else self._whole())
        finally:
            self.active -= 1

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        reply = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await reply.prepare(request)
        for word in self._words():
            await self._say(reply, {"content": word}, None)
            await asyncio.sleep(self.word_seconds)
        await self._say(reply, {}, "stop")
        with contextlib.suppress(ConnectionError):
            await reply.write(b"data: [DONE]\n\n")
        return reply

    async def _whole(self) -> web.Response:
        message = {"role": "assistant", "content": "".join(self._words())}
        await asyncio.sleep(self.word_seconds * len(WORDS))
        return web.json_response({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})

    def _words(self) -> list[str]:
        return [*WORDS, f" {self.name}"]

    async def _say(self, reply: web.StreamResponse, delta: dict[str, str], reason: str | None) -> None:
        chunk = {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
        await reply.write(f"data: {json.dumps(chunk)}\n\n".encode())


@asynccontextmanager
async def mortal(*names: str, **options: Any) -> AsyncIterator[list[MortalServer]]:
    """Servers that are running, and end with the test."""
    servers = [MortalServer(name, **options) for name in names]
    async with AsyncExitStack() as stack:
        for server in servers:
            await server.start()
            stack.push_async_callback(server.kill)
        yield servers
