"""Raw HTTP: what no SDK shows. Replies go through the checking proxy, which validates each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from tests.acceptance.chat_server import ChatControl
from tests.acceptance.conftest import KEY, TIMEOUT_SECONDS
from tests.acceptance.serving import Served
from tests.specification.conformance import parse_sse

JSON = {"content-type": "application/json"}
HELLO = {"model": "echo", "input": "hello there"}


@pytest.fixture
async def http(server: Served) -> AsyncIterator[aiohttp.ClientSession]:
    """A plain client of the open server."""
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    async with aiohttp.ClientSession(server.base_url + "/", timeout=timeout) as session:
        yield session


async def error_of(reply: aiohttp.ClientResponse) -> dict[str, Any]:
    body: dict[str, Any] = (await reply.json())["error"]
    return body


async def test_a_stream_is_events_of_one_line_each_and_ends_in_done(http: aiohttp.ClientSession) -> None:
    async with http.post("responses", json={**HELLO, "stream": True}) as reply:
        body = await reply.read()

    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert reply.headers["cache-control"] == "no-cache"
    assert body.endswith(b"data: [DONE]\n\n")
    assert parse_sse(body)[-1]["response"]["output"][0]["content"][0]["text"] == "hello there"


async def test_a_replay_is_the_same_bytes(http: aiohttp.ClientSession) -> None:
    async with http.post("responses", json={**HELLO, "stream": True, "background": True}) as reply:
        first = await reply.read()
    response_id = parse_sse(first)[0]["response"]["id"]

    async with http.get(f"responses/{response_id}", params={"stream": "true"}) as reply:
        again = await reply.read()
    async with http.get(f"responses/{response_id}", params={"stream": "true", "starting_after": "3"}) as reply:
        rest = await reply.read()

    assert parse_sse(again) == parse_sse(first)
    assert parse_sse(rest) == parse_sse(first)[4:]


@pytest.mark.parametrize("query", ["include[]=a", "include=a", "include=a,b", "include[]=a&include[]=b"])
async def test_include_is_read_in_every_spelling(http: aiohttp.ClientSession, query: str) -> None:
    async with http.post("responses", json=HELLO) as reply:
        response_id = (await reply.json())["id"]

    async with http.get(f"responses/{response_id}?{query}") as reply:
        assert reply.status == 400
        assert (await error_of(reply))["param"] == "include[0]"
    known = query.replace("=a,b", "=reasoning.encrypted_content").replace("=a", "=reasoning.encrypted_content")
    async with http.get(f"responses/{response_id}?{known.replace('=b', '=message.output_text.logprobs')}") as reply:
        assert reply.status == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "nothing", 404, "unknown_url"),
        ("GET", "responses/resp_1/nothing", 404, "unknown_url"),
        ("PUT", "responses", 405, "method_not_supported"),
        ("POST", "models", 405, "method_not_supported"),
        ("GET", "responses", 426, "upgrade_required"),
        ("GET", "responses/resp_nobody", 404, None),
        ("DELETE", "responses/resp_nobody", 404, None),
        ("POST", "responses/resp_nobody/cancel", 404, None),
        ("GET", "responses/resp_nobody/input_items", 404, None),
        ("GET", "models/nobody", 404, "model_not_found"),
        ("GET", "responses/%00", 404, None),
        ("GET", "responses/resp_%F0%9F%A6%84", 404, None),
    ],
)
async def test_what_is_not_there_is_told_in_the_official_shape(
    http: aiohttp.ClientSession, method: str, path: str, status: int, code: str | None
) -> None:
    async with http.request(method, path) as reply:
        assert reply.status == status
        assert (await error_of(reply))["code"] == code


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        (JSON, b"", 400),
        (JSON, b"{", 400),
        (JSON, b"[]", 400),
        (JSON, b'{"model": "echo", "input": "\xff"}', 400),
        (JSON, b'{"model": "echo", "model": 1, "input": "a"}', 400),
        (JSON, b'{"model": "echo", "input": 1e999}', 400),
        (JSON, b'{"model": "echo", "input": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400),
        ({"content-type": "text/plain"}, b"{}", 415),
        ({"content-type": "application/x-www-form-urlencoded"}, b"model=echo", 415),
    ],
)
async def test_a_body_that_is_no_request_is_refused(
    http: aiohttp.ClientSession, headers: dict[str, str], body: bytes, status: int
) -> None:
    async with http.post("responses", data=body, headers=headers) as reply:
        assert reply.status == status, await reply.text()
        assert (await error_of(reply))["type"] == "invalid_request_error"


async def test_a_packed_body_is_refused(server: Served) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{server.direct_url}/responses", json=HELLO, compress="gzip") as reply,
    ):
        assert reply.status == 415
        assert (await error_of(reply))["code"] == "unsupported_content_encoding"


async def test_a_body_beyond_the_limit_is_refused(server: Served) -> None:
    parts = urlsplit(server.direct_url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    head = f"POST /v1/responses HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-type: application/json\r\n"
    writer.write(f"{head}content-length: {1 << 40}\r\n\r\n".encode() + b"{")
    async with asyncio.timeout(TIMEOUT_SECONDS):
        status = await reader.readline()
    writer.close()
    await writer.wait_closed()

    assert status.startswith(b"HTTP/1.1 413 ")


async def test_bodies_that_say_json_and_hold_nothing_are_no_error(http: aiohttp.ClientSession) -> None:
    async with http.post("responses", json={**HELLO, "background": True}) as reply:
        response_id = (await reply.json())["id"]
    async with http.post(f"responses/{response_id}/cancel", headers=JSON) as reply:
        assert reply.status in (200, 400)
    for _ in range(400):
        async with http.delete(f"responses/{response_id}", headers=JSON) as reply:
            if reply.status == 200:
                return
    raise AssertionError("the response cannot be deleted")


async def test_unknown_members_are_carried_and_named(http: aiohttp.ClientSession) -> None:
    body = {**HELLO, "client_metadata": {"a": 1}, "include": [], "instructions": None, "text": {}, "tools": []}

    async with http.post("responses", json=body) as reply:
        assert reply.status == 200
        assert reply.headers["x-antiphon-warnings"] == "client_metadata"


async def test_the_server_tells_that_it_lives_and_is_ready(server: Served) -> None:
    async with aiohttp.ClientSession(server.process.url) as session:
        async with session.get("/health") as reply:
            assert (reply.status, await reply.json()) == (200, {"status": "ok"})
        async with session.get("/ready") as reply:
            assert reply.status == 200
            assert (await reply.json())["status"] == "ready"


async def test_a_name_that_is_not_served_is_refused(http: aiohttp.ClientSession, server: Served) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{server.direct_url}/models", headers={"host": "evil.example"}) as reply,
    ):
        assert reply.status == 403
        assert (await error_of(reply))["code"] == "host_not_allowed"


async def test_a_preflight_of_an_allowed_origin_needs_no_key(guarded: Served, page_origin: str) -> None:
    asks = {"origin": page_origin, "access-control-request-method": "POST"}
    asks["access-control-request-headers"] = "authorization,content-type,x-stainless-os"
    async with aiohttp.ClientSession() as session:
        async with session.options(f"{guarded.direct_url}/responses", headers=asks) as reply:
            assert reply.status == 204
            assert reply.headers["access-control-allow-origin"] == page_origin
            assert "x-stainless-os" in reply.headers["access-control-allow-headers"]
        async with session.options(
            f"{guarded.direct_url}/responses", headers={**asks, "origin": "http://evil.example"}
        ) as reply:
            assert reply.status == 403
            assert "access-control-allow-origin" not in reply.headers


async def test_errors_can_be_read_by_a_page_of_an_allowed_origin(guarded: Served, page_origin: str) -> None:
    headers = {"origin": page_origin, "authorization": f"Bearer {KEY}"}
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{guarded.base_url}/responses/resp_nobody", headers=headers) as reply,
    ):
        assert reply.status == 404
        assert reply.headers["access-control-allow-origin"] == page_origin


async def test_one_connection_serves_one_request_after_the_other(
    http: aiohttp.ClientSession, server: Served, chat: ChatControl
) -> None:
    parts = urlsplit(server.direct_url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    for number in range(3):
        body = json.dumps({"model": "echo", "input": f"again {number}", "stream": number == 1}).encode()
        head = f"POST /v1/responses HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-type: application/json\r\n"
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            head_bytes = await reader.readuntil(b"\r\n\r\n")
            assert head_bytes.startswith(b"HTTP/1.1 200 ")
            if number == 1:
                streamed = await reader.readuntil(b"\r\n0\r\n\r\n")
                assert b"data: [DONE]" in streamed
            else:
                [length] = [line for line in head_bytes.lower().split(b"\r\n") if line.startswith(b"content-length")]
                whole = json.loads(await reader.readexactly(int(length.split(b":")[1])))
                assert whole["output"][0]["content"][0]["text"] == f"again {number}"
    writer.close()
    await writer.wait_closed()
