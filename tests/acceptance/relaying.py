"""A WebSocket handed on untouched between a client and the server, and what the server said on it judged.

Responses come one after another on a connection; each is checked as a stream is.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
from aiohttp import web
from tests.specification import conformance

#: Headers that belong to one connection and not to what is asked on it.
OF_THE_CONNECTION = ("connection", "host", "upgrade", "sec-websocket-")
ENDS = ("response.completed", "response.failed", "response.incomplete")
CLOSE_SECONDS = 10.0


class Relay:
    """One connection; `violations` and `refusals` are filled while it lasts."""

    def __init__(self, violations: list[str], refusals: list[str]) -> None:
        self._violations = violations
        self._refusals = refusals
        self._events: list[Any] = []

    async def serve(self, request: web.Request, session: aiohttp.ClientSession, url: str) -> web.StreamResponse:
        """Until either side closes; a refused handshake is handed on by its status alone."""
        kept = {
            name: value for name, value in request.headers.items() if not name.lower().startswith(OF_THE_CONNECTION)
        }
        try:
            server = await session.ws_connect(url, headers=kept, max_msg_size=0)
        except aiohttp.WSServerHandshakeError as refusal:
            self._refusals.append(f"GET {request.path_qs} {refusal.status}: {refusal.message}")
            return web.Response(status=refusal.status)
        client = web.WebSocketResponse(max_msg_size=0, timeout=CLOSE_SECONDS)
        await client.prepare(request)
        passing = [
            asyncio.ensure_future(self._asked(client, server)),
            asyncio.ensure_future(self._told(server, client)),
        ]
        try:
            await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in passing:
                task.cancel()
            await asyncio.gather(*passing, server.close(), client.close(), return_exceptions=True)
        return client

    async def _asked(self, client: web.WebSocketResponse, server: aiohttp.ClientWebSocketResponse) -> None:
        async for message in client:
            await server.send_str(message.data)

    async def _told(self, server: aiohttp.ClientWebSocketResponse, client: web.WebSocketResponse) -> None:
        async for message in server:
            self._judge(json.loads(message.data))
            await client.send_str(message.data)

    def _judge(self, event: Any) -> None:
        """An error is a refusal; the events of a response are judged when it has ended."""
        if event["type"] == "error":
            self._refusals.append(f"WebSocket {event['status']}: {event['error']}")
            return
        self._events.append(event)
        if event["type"] in ENDS:
            events, self._events = self._events, []
            try:
                conformance.check_stream(events)
            except AssertionError as error:
                self._violations.append(f"WebSocket: {error}")
