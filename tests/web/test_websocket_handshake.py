"""Who may open a WebSocket, where, and what it is told otherwise: an HTTP reply in the official shape."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.specification.conformance import check_error
from tests.web.client import PATIENCE_SECONDS, Reply, asked, check_headers
from tests.web.conftest import Serve, Serving
from tests.web.sockets import talking
from websockets.exceptions import InvalidStatus

from antiphon.engine.deltas import TextDelta

KEYS = ["first=sk-first-0123456789", "second=sk-second-0123456789"]
ALLOWED = "https://pages.example"


async def refused(here: Serving, path: str = "/v1/responses", **options: Any) -> Reply:
    """The reply to a handshake, checked."""
    with pytest.raises(InvalidStatus) as raised:
        async with talking(here.port, path, **options):
            pass
    told = raised.value.response
    headers = {name.lower(): value for name, value in told.headers.raw_items()}
    reply = Reply(told.status_code, headers, bytes(told.body or b""))
    check_headers(reply)
    check_error(reply.json)
    assert int(headers["content-length"]) == len(reply.body)
    return reply


def bearing(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def test_the_reply_to_a_handshake_has_the_headers_of_every_reply(serve: Serve) -> None:
    here = await serve()
    async with talking(here.port, additional_headers={"OpenAI-Beta": "responses_websockets=2026-02-06"}) as talk:
        assert talk.socket.response is not None
        headers = {name.lower(): value for name, value in talk.socket.response.headers.raw_items()}

    check_headers(Reply(204, headers, b""))


@pytest.mark.parametrize("headers", [{}, bearing("sk-wrong"), {"Authorization": "Basic x"}])
async def test_a_key_is_asked_for(serve: Serve, headers: dict[str, str]) -> None:
    here = await serve(api_keys=KEYS)
    reply = await refused(here, additional_headers=headers)

    assert (reply.status, reply.error["code"]) == (401, "invalid_api_key")
    assert reply.headers["www-authenticate"] == "Bearer"
    await here.idle()


async def test_a_key_opens_its_project_alone(serve: Serve) -> None:
    here = await serve(api_keys=KEYS)
    first, second = bearing("sk-first-0123456789"), bearing("sk-second-0123456789")
    async with (
        talking(here.port, additional_headers=first) as one,
        talking(here.port, additional_headers=second) as other,
    ):
        made = await one.create()
        told = await other.refused(previous_response_id=made["id"])
        unstored = await one.create(store=False, previous_response_id=made["id"])
        hidden = await other.refused(previous_response_id=unstored["id"])
        again = await one.create(previous_response_id=unstored["id"])

    assert told["error"]["code"] == hidden["error"]["code"] == "previous_response_not_found"
    assert (await here.client_of("sk-second-0123456789").get(f"/v1/responses/{again['id']}")).status == 404
    assert (await here.client_of("sk-first-0123456789").get(f"/v1/responses/{again['id']}")).status == 200


async def test_a_page_of_a_foreign_origin_is_not_let_in(serve: Serve) -> None:
    here = await serve(cors_origins=[ALLOWED])
    reply = await refused(here, origin="https://evil.example")
    assert (reply.status, reply.error["code"]) == (403, "origin_not_allowed")

    async with talking(here.port, origin=ALLOWED) as talk:
        assert (await talk.create())["status"] == "completed"
    async with talking(here.port, origin=f"http://127.0.0.1:{here.port}") as talk:
        assert (await talk.create())["status"] == "completed"


async def test_a_foreign_host_is_not_served(serve: Serve) -> None:
    here = await serve()
    reply = await refused(here, additional_headers={"Host": "evil.example"})

    assert (reply.status, reply.error["code"]) == (403, "host_not_allowed")


@pytest.mark.parametrize("path", ["/v1/models", "/v1/responses/resp_x", "/v1/realtime", "/"])
async def test_other_paths_are_none_of_a_websocket(serve: Serve, path: str) -> None:
    here = await serve()
    reply = await refused(here, path)

    assert (reply.status, reply.error["code"]) == (404, "unknown_url")


async def test_a_query_and_unknown_headers_are_passed_over(serve: Serve) -> None:
    here = await serve()
    async with talking(here.port, "/v1/responses?a=b", additional_headers={"X-Odd": "ä"}) as talk:
        assert (await talk.create())["status"] == "completed"


async def test_only_so_many_are_open_at_once(serve: Serve) -> None:
    here = await serve(websockets_max=1)
    async with talking(here.port) as talk:
        reply = await refused(here)
        assert (reply.status, reply.error["code"]) == (503, "server_is_overloaded")
        assert reply.headers["retry-after"] == "10"
        assert (await talk.create())["status"] == "completed"
    await here.idle()
    async with talking(here.port) as talk:
        assert (await talk.create())["status"] == "completed"


UPGRADE = {"connection": "Upgrade", "upgrade": "websocket"}
WHOLE = {**UPGRADE, "sec_websocket_key": "dGhlIHNhbXBsZSBub25jZQ==", "sec_websocket_version": "13"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        UPGRADE,
        {**WHOLE, "sec_websocket_version": "8"},
        {**WHOLE, "sec_websocket_key": "short"},
        {**WHOLE, "upgrade": "h2c"},
        {**WHOLE, "connection": "close"},
    ],
)
async def test_anything_but_a_whole_handshake_is_426(serve: Serve, headers: dict[str, str]) -> None:
    here = await serve()
    reply = await here.client.get("/v1/responses", **headers)

    assert (reply.status, reply.error["code"]) == (426, "upgrade_required")
    assert (reply.headers["upgrade"], reply.headers["sec-websocket-version"]) == ("websocket", "13")


def handshake(here: Serving) -> bytes:
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in WHOLE.items()]
    return "\r\n".join(["GET /v1/responses HTTP/1.1", f"host: 127.0.0.1:{here.port}", *lines, "", ""]).encode()


async def test_a_handshake_does_not_overtake_the_reply_before_it(serve: Serve) -> None:
    """What is pipelined behind a request that is on its way is answered behind it, by HTTP."""
    held = asyncio.Event()
    here = await serve([[held, [TextDelta("Hi")]]])
    body = json.dumps(asked()).encode()
    head = f"POST /v1/responses HTTP/1.1\r\nhost: 127.0.0.1:{here.port}\r\ncontent-length: {len(body)}\r\n"
    async with here.client.connected() as connection:
        connection.writer.write(head.encode() + b"content-type: application/json\r\n\r\n" + body + handshake(here))
        await here.until(lambda: bool(here.upstream.requests))
        held.set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            told = await connection.reader.read()

    replies = told.split(b"HTTP/1.1 ")
    assert [reply[:3] for reply in replies] == [b"", b"200", b"426"]


async def test_a_handshake_that_is_refused_is_no_error_of_the_server(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    here = await serve(api_keys=["secret"])
    assert (await refused(here)).status == 401
    await here.idle()
    assert not caplog.records


async def test_a_frame_right_behind_the_handshake_harms_nobody_else(serve: Serve) -> None:
    """A client must wait for the reply; one that does not is not served, and nobody else is harmed."""
    here = await serve()
    async with here.client.connected() as connection:
        connection.writer.write(handshake(here) + b"\x81\x82\x00\x00\x00\x00{}")
        assert (await connection.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    async with talking(here.port) as talk:
        assert (await talk.create())["status"] == "completed"
