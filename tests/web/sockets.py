"""A WebSocket client that checks everything that it is told: an event of a response, an error, or steering refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.specification.conformance import check_event, check_openai, check_openresponses, check_stream
from tests.web.client import PATIENCE_SECONDS, Json, asked
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

TERMINAL = ("response.completed", "response.incomplete", "response.failed")


class Talk:
    """One connection."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def say(self, message: Any) -> None:
        """Sends a message; what is not text or bytes is sent as JSON."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.socket.send(message if isinstance(message, str | bytes | list) else json.dumps(message))

    async def hear(self) -> Json:
        """The next message, checked."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            text = await self.socket.recv()
        assert isinstance(text, str), "a binary frame"
        told: Json = json.loads(text)
        check_told(told)
        return told

    async def ask(self, **parameters: Any) -> None:
        await self.say({"type": "response.create", **asked(**parameters)})

    async def events(self) -> list[Json]:
        """All events of the next response, checked."""
        told = [await self.hear()]
        while told[-1]["type"] not in TERMINAL:
            told.append(await self.hear())
        check_stream(told)
        return told

    async def create(self, **parameters: Any) -> Json:
        """A response that was made."""
        await self.ask(**parameters)
        made: Json = (await self.events())[-1]["response"]
        return made

    async def refused(self, **parameters: Any) -> Json:
        """The error that a request was answered with."""
        await self.ask(**parameters)
        return await self.error()

    async def error(self) -> Json:
        told = await self.hear()
        assert told["type"] == "error", told
        return told

    async def closed(self) -> tuple[int, str]:
        """Why the server closed the connection; nothing came before."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            with pytest.raises(ConnectionClosed) as end:
                await self.socket.recv()
        close = end.value.rcvd
        return (1006, "") if close is None else (close.code, close.reason)


def check_told(told: Json) -> None:
    """Raises AssertionError unless it is what WebSocket mode may say."""
    if told["type"] == "error":
        check_openai("ResponseWsError", told)
        check_openresponses("WebSocketErrorEvent", told)
        assert told["error"]["headers"]["x-request-id"].startswith("req_")
        assert told["status"] != 409, "the SDKs send it again"
    elif told["type"] != "response.steer.failed":
        check_event({name: value for name, value in told.items() if name != "headers"})


@asynccontextmanager
async def talking(port: int, path: str = "/v1/responses", **options: Any) -> AsyncIterator[Talk]:
    """A connection that is closed at the end."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        socket = await connect(f"ws://127.0.0.1:{port}{path}", **{"compression": None, "max_size": None, **options})
    try:
        yield Talk(socket)
    finally:
        await socket.close()
