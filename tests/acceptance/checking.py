"""A proxy that hands everything on untouched and checks every reply against the specifications.

Official SDKs talk through it, so whatever a test calls, no reply goes unchecked.  What is wrong is kept in
`violations`, for a fixture to raise; what was refused in `refusals`, and what the server warned of in `warnings`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import aiohttp
from aiohttp import web
from tests.acceptance.relaying import Relay
from tests.specification import conformance
from tests.specification.frames import DONE
from tests.web.sockets import check_told

HOP_BY_HOP = {"connection", "host", "keep-alive", "transfer-encoding", "content-length", "date", "server"}
#: What belongs to one connection and not to what is asked for on it.
HANDSHAKE = {"upgrade", "sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions"}
ALWAYS = {"x-request-id", "openai-version", "openai-processing-ms"}


class CheckingProxy:
    """Forwards to `server` (its URL without a path)."""

    def __init__(self, server: str) -> None:
        self.violations: list[str] = []
        self.refusals: list[str] = []
        self.warnings: list[str] = []
        #: WebSockets that were opened.
        self.sockets = 0
        self._server = server
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.app = web.Application(client_max_size=128 << 20)
        self.app.add_routes([web.route("*", "/{path:.*}", self.forward)])
        self.app.cleanup_ctx.append(self._session_context)

    async def _session_context(self, app: web.Application) -> Any:
        async with aiohttp.ClientSession(auto_decompress=False) as self._session:
            yield

    def forget(self) -> None:
        """Another test begins."""
        for kept in (self.violations, self.refusals, self.warnings):
            kept.clear()
        self.sockets = 0

    async def settled(self) -> None:
        """Returns when every reply that was begun has been checked."""
        await self._idle.wait()

    async def forward(self, request: web.Request) -> web.StreamResponse:
        self._in_flight += 1
        self._idle.clear()
        try:
            return await self._forward(request)
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("upgrade", "").lower() == "websocket":
            self.sockets += 1
            relay = Relay(self.violations, self.refusals)
            return await relay.serve(request, self._session, self._server + request.path_qs)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
        if request.headers.get("upgrade", "").lower() == "websocket":
            return await self._talk(request, headers)
        body = await request.read()
        received = bytearray()
        call = self._session.request(
            request.method, self._server + request.path_qs, headers=headers, data=body or None, allow_redirects=False
        )
        async with call as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
            reply = web.StreamResponse(status=answer.status, headers=kept)
            await reply.prepare(request)
            try:
                async for chunk in answer.content.iter_any():
                    received += chunk
                    await reply.write(chunk)
            finally:
                self._check(request, answer, bytes(received))
        return reply

    async def _talk(self, request: web.Request, headers: dict[str, str]) -> web.StreamResponse:
        """Hands on what both sides of a WebSocket say, and how the server ends it."""
        kept = {name: value for name, value in headers.items() if name.lower() not in HANDSHAKE}
        try:
            server = await self._session.ws_connect(self._server + request.path_qs, headers=kept, max_msg_size=0)
        except aiohttp.WSServerHandshakeError as refused:
            self.refusals.append(f"{request.path_qs}: the handshake is {refused.status}")
            return web.Response(status=refused.status)
        client = web.WebSocketResponse(max_msg_size=0)
        await client.prepare(request)
        asking = asyncio.get_running_loop().create_task(_hand_on(client, server))
        try:
            async for message in server:
                self._check_message(message)
                await client.send_str(message.data)
        finally:
            asking.cancel()
            await asyncio.wait([asking])
            await client.close(code=server.close_code or 1006)
        return client

    def _check_message(self, message: aiohttp.WSMessage) -> None:
        told = json.loads(message.data)
        if told["type"] == "error":
            self.refusals.append(f"WebSocket {told['status']}: {told['error']['message']}")
        self.warnings += filter(None, [told.get("headers", {}).get("x-antiphon-warnings")])
        try:
            check_told(told)
        except AssertionError as error:
            self.violations.append(f"WebSocket {told['type']}: {error}")

    def _check(self, request: web.Request, answer: aiohttp.ClientResponse, body: bytes) -> None:
        told = f"{request.method} {request.path_qs} {answer.status}"
        if answer.status >= 400:
            self.refusals.append(f"{told}: {body.decode(errors='replace')}")
        self.warnings += filter(None, [answer.headers.get("x-antiphon-warnings")])
        try:
            check_reply(request, answer, body)
        except AssertionError as error:
            self.violations.append(f"{told}: {error}")


async def _hand_on(client: web.WebSocketResponse, server: aiohttp.ClientWebSocketResponse) -> None:
    async for message in client:
        if message.type is aiohttp.WSMsgType.TEXT:
            await server.send_str(message.data)
        else:
            await server.send_bytes(message.data)
    await server.close()


def check_reply(request: web.Request, answer: aiohttp.ClientResponse, body: bytes) -> None:
    """Raises AssertionError for a reply that no client of the official API would expect."""
    missing = ALWAYS - {name.lower() for name in answer.headers}
    assert not missing, f"headers are missing: {sorted(missing)}"
    kind = answer.headers.get("content-type", "")
    if kind.startswith("text/event-stream"):
        assert kind == "text/event-stream; charset=utf-8"
        check_frames(body, whole="starting_after" not in request.query)
        return
    assert kind == "application/json", f"content type {kind!r}"
    decoded = json.loads(body)
    if answer.status >= 400:
        conformance.check_error(decoded)
        retried = answer.status == 429 or answer.status >= 500
        assert not retried or "x-should-retry" in answer.headers, "x-should-retry is missing"
        return
    _check_of(request.method, request.path)(decoded)


def _check_of(method: str, path: str) -> Callable[[Any], None]:
    if path.startswith("/v1/conversations"):
        return _check_of_conversations(method, path)
    if method == "DELETE":
        return conformance.check_deleted
    if path.endswith("/input_items"):
        return conformance.check_item_list
    if path == "/v1/responses/input_tokens":
        return partial(conformance.check_openai, "TokenCountsResource")
    if path == "/v1/responses/compact":
        return conformance.check_compaction
    if path == "/v1/models":
        return conformance.check_model_list
    if path.startswith("/v1/models/"):
        return conformance.check_model
    assert path.startswith("/v1/responses"), f"no check for {method} {path}"
    return conformance.check_response


def _check_of_conversations(method: str, path: str) -> Callable[[Any], None]:
    below = path.removeprefix("/v1/conversations").split("/")[2:]
    if below == ["items"]:
        return partial(conformance.check_item_list, conversation=True)
    if below and method == "GET":
        return conformance.check_item
    return conformance.check_deleted if method == "DELETE" and not below else conformance.check_conversation


def check_frames(body: bytes, *, whole: bool) -> None:
    """A stream: all laws when it was read from its first event to its end, else each event and their numbers."""
    ended = body.endswith(f"{DONE}\n\n".encode())
    if not ended:
        body = body[: body.rfind(b"\n\n") + 2] + f"{DONE}\n\n".encode()
    events = conformance.without_keepalives(conformance.parse_sse(body))
    if ended and whole:
        conformance.check_stream(events)
        return
    for event in events:
        conformance.check_event(event)
    numbers = [event["sequence_number"] for event in events]
    expected = list(range(numbers[0], numbers[0] + len(numbers))) if numbers else []
    assert numbers == expected, f"numbers with a gap: {numbers}"
