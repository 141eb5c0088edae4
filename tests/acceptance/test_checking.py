"""The checking proxy itself: it hands replies on as they are, and finds what is wrong with them."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from tests.acceptance.checking import ALWAYS, CheckingProxy
from tests.acceptance.threads import LoopThread
from tests.specification.examples import response

HEADERS = dict.fromkeys(ALWAYS, "1")
STREAM = {**HEADERS, "content-type": "text/event-stream; charset=utf-8"}
ERROR = {"error": {"message": "m", "type": "server_error", "param": None, "code": None}}


def body_of(value: Any) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    ("status", "headers", "body", "found"),
    [
        (200, HEADERS, body_of(response()), None),
        (200, {}, body_of(response()), "headers are missing"),
        (200, HEADERS, body_of(response(status="finished")), "status"),
        (200, HEADERS, body_of({}), "is missing"),
        (400, HEADERS, body_of(ERROR), None),
        (400, HEADERS, body_of({"detail": "m"}), "error"),
        (500, HEADERS, body_of(ERROR), "x-should-retry is missing"),
        (200, STREAM, b'event: response.made\ndata: {"type":"response.made"}\n\n', "response.made"),
        (200, STREAM, b"data: [DONE]\n\n", "empty stream"),
    ],
)
async def test_a_reply_is_handed_on_and_judged(
    servers: LoopThread, status: int, headers: dict[str, str], body: bytes, found: str | None
) -> None:
    async def answer(request: web.Request) -> web.Response:
        kind = {"content-type": "application/json"}
        return web.Response(status=status, body=body, headers={**kind, **headers})

    app = web.Application()
    app.add_routes([web.post("/v1/responses", answer)])
    proxy = CheckingProxy(servers.serve(app))
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{servers.serve(proxy.app)}/v1/responses", json={}) as reply,
    ):
        assert (reply.status, await reply.read()) == (status, body)
    servers.run(proxy.settled())

    if found is None:
        assert proxy.violations == []
    else:
        [violation] = proxy.violations
        assert found in violation


CREATED = {"type": "response.created", "sequence_number": 0, "response": response(status="in_progress")}
WRONG = {"type": "response.completed", "sequence_number": 5, "response": response()}


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ([CREATED, WRONG], "sequence_number is 5"),
        ([{"type": "error", "status": 400, "error": {"message": "No."}}], "No."),
        ([], None),
    ],
)
async def test_a_websocket_is_handed_on_and_judged(servers: LoopThread, told: list[Any], found: str | None) -> None:
    async def answer(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        assert json.loads((await socket.receive()).data) == {"type": "response.create"}
        for event in told:
            await socket.send_json(event)
        await socket.close()
        return socket

    app = web.Application()
    app.add_routes([web.get("/v1/responses", answer)])
    proxy = CheckingProxy(servers.serve(app))
    url = f"{servers.serve(proxy.app)}/v1/responses"
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
        await socket.send_json({"type": "response.create"})
        heard = [json.loads(message.data) async for message in socket]
    servers.run(proxy.settled())

    assert heard == told
    assert proxy.sockets == 1
    assert [found in one for one in [*proxy.violations, *proxy.refusals]] == ([True] if found else [])


async def test_a_refused_websocket_is_refused(servers: LoopThread) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=401)

    app = web.Application()
    app.add_routes([web.get("/v1/responses", answer)])
    proxy = CheckingProxy(servers.serve(app))
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as raised:
            await session.ws_connect(f"{servers.serve(proxy.app)}/v1/responses")

    assert raised.value.status == 401
    assert len(proxy.refusals) == 1
