"""Every route: who may come in, what is answered to the wrong method, and to what is no request for it."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from tests.web.client import Client, asked
from tests.web.conftest import Serve

from antiphon import assemble
from antiphon.config import Config
from antiphon.engine.deltas import TextDelta
from antiphon.engine.ports.upstreams import Capabilities, ModelInfo
from antiphon.stores.sqlite import SqliteStore
from antiphon.web import messages, transport
from antiphon.web.api.agent_models import described
from antiphon.web.app import Route

OPEN = {"/health", "/ready", "/openapi.json"}
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE")


def routes() -> list[Route]:
    return list(assemble.Server(Config(database=":memory:", demo_model=False)).app.routes)


ROUTES = routes()
PATHS = sorted({route.path for route in ROUTES})


def target(path: str) -> str:
    return re.sub(r"\{(\w+)(:path)?\}", "resp_unknown", path)


@pytest.mark.parametrize("route", ROUTES, ids=[f"{route.method} {route.path}" for route in ROUTES])
async def test_every_route_but_two_asks_for_a_key(serve: Serve, route: Route) -> None:
    here = await serve(api_keys=["sk-good-0123456789"])
    replies = [
        await client.request(route.method, target(route.path))
        for client in (here.client, here.client_of("sk-wrong-0123456789"), here.client_of("sk-good-0123456789"))
    ]

    if route.path in OPEN:
        assert [reply.status for reply in replies] == [200, 200, 200]
        return
    for reply in replies[:2]:
        assert (reply.status, reply.error["type"], reply.error["code"]) == (
            401,
            "invalid_request_error",
            "invalid_api_key",
        )
        assert reply.headers["www-authenticate"] == "Bearer"
        assert "sk-wrong-0123456789" not in reply.body.decode()
    assert replies[2].status != 401


@pytest.mark.parametrize(
    "header", ["sk-good-0123456789", "Basic c2s6", "Bearer", "Bearer ", "bearer  sk-good-012345678"]
)
async def test_a_key_that_is_none(serve: Serve, header: str) -> None:
    here = await serve(api_keys=["sk-good-0123456789"])

    assert (await here.client_of(authorization=header).get("/v1/models")).status == 401


async def test_any_key_or_none_is_good_where_none_is_set(serve: Serve) -> None:
    here = await serve()

    assert (await here.client.get("/v1/models")).status == 200
    assert (await here.client_of("anything").get("/v1/models")).status == 200


@pytest.mark.parametrize("path", PATHS)
async def test_a_wrong_method_is_405_with_those_that_are_right(serve: Serve, path: str) -> None:
    here = await serve()
    right = {route.method for route in ROUTES if route.path == path}
    for method in METHODS:
        if method in right:
            continue
        reply = await here.client.request(method, target(path))
        assert reply.status == 405, method
        assert set(reply.headers["allow"].split(", ")) == right
        if method != "HEAD":
            assert reply.error["code"] == "method_not_supported"


UNKNOWN_PATHS = [
    "/",
    "/v1",
    "/v1/",
    "//v1/models",
    "/v1/x",
    "/v1/chat/completions",
    "/v1/responses/",
    "/v1/responses/a/b",
    "/v1/responses/a/input_items/b",
    "/v1/responses%2Fa%2Fcancel%2Fx",
    "/v1/responses/a%00b/c",
    "/v2/responses",
    "/%0A",
    "/%ff",
]


@pytest.mark.parametrize("path", UNKNOWN_PATHS)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_unknown_route_is_404(serve: Serve, method: str, path: str) -> None:
    here = await serve()
    reply = await here.client.request(method, path)

    assert (reply.status, reply.error["code"]) == (404, "unknown_url")
    assert reply.error["message"].startswith(f"Invalid URL ({method} /")


async def test_unknown_responses_are_404_everywhere(serve: Serve) -> None:
    here = await serve()
    calls = [
        ("GET", "/v1/responses/resp_x"),
        ("GET", "/v1/responses/resp_x?stream=true"),
        ("DELETE", "/v1/responses/resp_x"),
        ("POST", "/v1/responses/resp_x/cancel"),
        ("GET", "/v1/responses/resp_x/input_items"),
        ("GET", "/v1/responses/re%22sp%5C%0A"),
    ]
    for method, path in calls:
        reply = await here.client.request(method, path)
        assert (reply.status, reply.error["code"], reply.error["param"]) == (404, None, None)
        assert reply.error["message"].startswith("Response with id '")


async def test_models(serve: Serve) -> None:
    here = await serve()
    listed = (await here.client.get("/v1/models")).json

    assert [model["id"] for model in listed["data"]] == ["demo", "other/model"]
    assert (await here.client.get("/v1/models/demo")).json["id"] == "demo"
    assert (await here.client.get("/v1/models/other/model")).json["id"] == "other/model"
    assert (await here.client.get("/v1/models/other%2Fmodel")).json["id"] == "other/model"
    unknown = await here.client.get("/v1/models/nobody")
    assert (unknown.status, unknown.error["code"], unknown.error["param"]) == (404, "model_not_found", "model")


async def test_models_are_described_to_who_asks_for_it(serve: Serve) -> None:
    here = await serve(aliases={"gpt-5.5": "demo"})

    plain = (await here.client.get("/v1/models")).json
    told = (await here.client.get("/v1/models?client_version=0.169.0")).json

    assert [model["id"] for model in plain["data"]] == ["demo", "gpt-5.5", "other/model"]
    assert plain.keys() == {"object", "data"}
    assert (told["object"], told["data"]) == ("list", plain["data"])
    described = [(model["slug"], model["priority"], model["input_modalities"]) for model in told["models"]]
    assert described == [("demo", 1, ["text", "image"]), ("other/model", 2, ["text", "image"])]
    assert "context_window" not in told["models"][0]


def test_a_described_model_says_what_it_takes_and_how_much() -> None:
    blind = described(ModelInfo("m", 0, "them", context=8192), Capabilities(images=False, verbosity=True), 3)

    assert blind["input_modalities"] == ["text"]
    assert (blind["context_window"], blind["support_verbosity"], blind["priority"]) == (8192, True, 3)
    assert described(ModelInfo("m", 0, "them", context=8192), Capabilities(context=4096), 1)["context_window"] == 4096


async def test_health_and_readiness(serve: Serve) -> None:
    here = await serve()
    alone = await serve()
    alone.server.catalog._entries.clear()

    assert (await here.client.get("/health")).json == {"status": "ok"}
    assert (await here.client.get("/ready")).json == {"status": "ready", "store": "ok", "models": 2}
    unready = await alone.client.get("/ready")
    assert (unready.status, unready.json["status"]) == (503, "unavailable")


async def test_a_store_that_takes_no_writes_is_told_and_passes(serve: Serve) -> None:
    here = await serve([[[TextDelta("lost")]], [[TextDelta("Hi")]]])
    store = here.server.store
    assert isinstance(store, SqliteStore)
    store._writing.pragma("query_only", True)
    refusals = [await here.client.refused(), await here.client.refused(background=True)]
    unready = await here.client.get("/ready")
    store._writing.pragma("query_only", False)

    for refusal in refusals:
        assert (refusal.status, refusal.headers["x-should-retry"]) == (503, "true")
        assert "ReadOnly" not in refusal.error["message"]
    assert (unready.status, unready.json["status"]) == (503, "unavailable")
    assert "ReadOnlyError" in unready.json["store"]
    assert (await here.client.get("/ready")).status == 200
    assert (await here.client.create())["status"] == "completed"


# --- What is no request ---

MEDIA = [
    None,
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/jsonp",
    "",
]


@pytest.mark.parametrize("kind", MEDIA)
async def test_another_media_type_is_415(serve: Serve, kind: str | None) -> None:
    reply = await (await serve()).client.post("/v1/responses", asked(), content_type=kind)

    assert (reply.status, reply.error["code"]) == (415, "unsupported_content_type")


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON", "application/json ;x=y"])
async def test_json_under_other_spellings_is_taken(serve: Serve, kind: str) -> None:
    assert (await (await serve()).client.post("/v1/responses", asked(), content_type=kind)).status == 200


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate, gzip"])
async def test_an_encoded_body_is_415(serve: Serve, coding: str) -> None:
    reply = await (await serve()).client.post("/v1/responses", asked(), content_encoding=coding)

    assert (reply.status, reply.error["code"]) == (415, "unsupported_content_encoding")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"model":"demo","input":"\xff"}', b"\xef\xbb\xbf{}"])
async def test_a_body_that_is_no_json_object_is_400(serve: Serve, body: bytes) -> None:
    reply = await (await serve()).client.post("/v1/responses", body)

    assert (reply.status, reply.error["type"], reply.error["param"]) == (400, "invalid_request_error", None)


async def test_a_body_over_the_limit_is_413_however_it_is_sent(serve: Serve) -> None:
    here = await serve(body_max_bytes=2000)
    large = asked(input="x" * 3000)

    told = await here.client.post("/v1/responses", large)
    async with here.client.connected() as connection:
        head = {"content-type": "application/json", "content-length": None, "transfer-encoding": "chunked"}
        await connection.send("POST", "/v1/responses", b"%x\r\n%b\r\n" % (3000, b"x" * 3000), head)
        untold = await connection.reply("POST", "/v1/responses")

    for reply in (told, untold):
        assert (reply.status, reply.error["code"]) == (413, "request_too_large")
        assert "2000 bytes" in reply.error["message"]


async def test_a_large_body_is_refused_before_it_is_sent(serve: Serve) -> None:
    here = await serve(body_max_bytes=2000)
    async with here.client.connected() as connection:
        waiting = {"content-type": "application/json", "content-length": str(10**12), "expect": "100-continue"}
        await connection.send("POST", "/v1/responses", None, waiting)

        assert (await connection.reply("POST", "/v1/responses")).status == 413


async def test_a_chunked_body_is_taken(serve: Serve) -> None:
    here = await serve()
    async with here.client.connected() as connection:
        head = {"content-type": "application/json", "transfer-encoding": "chunked"}
        pieces = [b'{"model":"demo",', b'"input":"Hi"}']
        body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
        await connection.send("POST", "/v1/responses", body, {**head, "content-length": None})

        assert (await connection.reply("POST", "/v1/responses")).json["status"] == "completed"


async def test_a_default_limit_of_64_megabytes(serve: Serve) -> None:
    here = await serve()
    async with here.client.connected() as connection:
        head = {"content-type": "application/json", "content-length": str((64 << 20) + 1)}
        await connection.send("POST", "/v1/responses", None, head)

        assert (await connection.reply("POST", "/v1/responses")).status == 413


async def test_a_body_that_does_not_come_is_not_waited_for(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "BODY_IDLE_SECONDS", 0.05)
    here = await serve()
    async with here.client.connected() as connection:
        head = {"content-type": "application/json", "content-length": "100"}
        await connection.send("POST", "/v1/responses", None, head)
        await connection.send_raw(b'{"model":')
        reply = await connection.reply("POST", "/v1/responses")
        assert (reply.status, reply.error["code"]) == (408, "request_timeout")
        assert await connection.at_end()


async def test_a_client_that_leaves_within_its_body_is_forgotten(serve: Serve) -> None:
    here = await serve()
    async with here.client.connected() as connection:
        head = {"content-type": "application/json", "content-length": "100"}
        await connection.send("POST", "/v1/responses", None, head)
        await connection.send_raw(b'{"model":')
        await here.until(lambda: bool(here.web.server_state.tasks))
        connection.leave()
    await here.idle()

    assert here.upstream.requests == []


# --- What is no HTTP ---

NO_HTTP = {
    "noise": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "an unknown method": b"FOO /v1/responses HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "two lengths": b"POST /v1/responses HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n"
    b"content-length: 6\r\n\r\nhello",
    "a length and chunks": b"POST /v1/responses HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n"
    b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "a broken chunk": b"POST /v1/responses HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    b"transfer-encoding: chunked\r\n\r\nzz\r\n",
    "a header without a name": b"GET /v1/models HTTP/1.1\r\n: x\r\n\r\n",
    "a path that is none": b"GET http://[::1 HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "an endless head": b"GET /v1/models HTTP/1.1\r\nx: " + b"a" * 300_000,
}


@pytest.mark.parametrize("data", NO_HTTP.values(), ids=NO_HTTP)
async def test_what_is_no_http_is_told_so_and_closed(serve: Serve, data: bytes) -> None:
    here = await serve()
    async with here.client.connected() as connection:
        await connection.send_raw(data)
        reply = await connection.reply("GET", "/")
        assert reply.status == 400
        assert await connection.at_end()
    await here.idle()


async def test_noise_behind_a_request_does_not_tear_its_reply(serve: Serve) -> None:
    gate = asyncio.Event()
    here = await serve([[[TextDelta("Hi")], gate]])
    async with here.client.connected() as connection:
        await connection.send("POST", "/v1/responses", asked(stream=True))
        await connection.head()
        await connection.send_raw(b"\x00\x01\x02\r\n\r\n")
        data = await connection.reader.read()
    await here.idle()

    assert b"HTTP/1.1" not in data


async def test_a_head_that_does_not_come_is_not_waited_for(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "HEAD_SECONDS", 0.05)
    here = await serve()
    async with here.client.connected() as silent, here.client.connected() as slow:
        await slow.send("GET", "/v1/models")
        await slow.reply("GET", "/v1/models")
        await slow.send_raw(b"GET /v1/models HTTP/1.1\r\nhost: loc")
        assert await silent.at_end()
        assert await slow.at_end()


# --- Bodies where none is needed ---


@pytest.mark.parametrize("headers", [{}, {"content_type": "application/json"}, {"accept": "*/*"}])
@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/responses/{}/cancel"), ("DELETE", "/v1/responses/{}")])
async def test_cancel_and_delete_do_not_look_at_a_body(
    serve: Serve, method: str, path: str, headers: dict[str, str]
) -> None:
    here = await serve()
    made = await here.client.create(background=True)
    await here.idle()
    reply = await here.client.request(method, path.format(made["id"]), **headers)

    expected = {"POST": (400, "Cannot cancel a completed response."), "DELETE": (200, None)}[method]
    assert (reply.status, reply.json.get("error", {}).get("message")) == expected


@pytest.mark.parametrize(
    "headers",
    [{}, {"connection": "Upgrade", "upgrade": "websocket", "sec_websocket_key": "x", "sec_websocket_version": "13"}],
)
async def test_what_asks_for_no_websocket_is_told_to(serve: Serve, headers: dict[str, Any]) -> None:
    here = await serve()
    async with here.client.connected() as connection:
        reply = await connection.request("GET", "/v1/responses", **headers)
        assert (reply.status, reply.error["code"]) == (426, "upgrade_required")
        assert reply.headers["upgrade"] == "websocket"
        assert await connection.at_end()


async def test_an_upgrade_elsewhere_is_passed_over(serve: Serve) -> None:
    reply = await (await serve()).client.get("/v1/models", connection="Upgrade", upgrade="h2c")

    assert reply.status == 200


async def test_too_many_query_parameters_are_refused(serve: Serve) -> None:
    query = "&".join(f"a{number}=1" for number in range(200))

    assert (await (await serve()).client.get(f"/v1/responses/resp_x?{query}")).status == 400


@pytest.mark.parametrize(
    "query", ["limit=--5", "limit=" + "9" * 5000, "order=x", "include=x", "after=%ff", "limit=%00"]
)
async def test_odd_queries_are_no_bugs(serve: Serve, query: str) -> None:
    here = await serve()
    made = await here.client.create()

    assert (await here.client.get(f"/v1/responses/{made['id']}/input_items?{query}")).status == 400


async def test_unknown_fields_are_named_without_breaking_the_header(serve: Serve) -> None:
    here = await serve()
    odd = {"zzz": 1, "a\r\nset-cookie: x": 1, "é,": 1, "x" * 500: 1} | {f"f{n}": 1 for n in range(200)}
    reply = await here.client.post("/v1/responses", asked(**odd))
    async with here.client.streaming(**odd) as stream:
        await stream.whole()

    for headers in (reply.headers, stream.head.headers):
        warnings = headers["x-antiphon-warnings"]
        assert warnings.startswith("zzz, a??set-cookie: x, ??, xxx")
        assert warnings.endswith(", ...")
        assert len(warnings) < 5000


async def test_what_breaks_inside_is_told_without_its_inside(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    here = await serve()

    async def broken(*_: Any) -> None:
        raise RuntimeError("secret detail")

    here.server.store.read = broken  # type: ignore[assignment]
    reply = await here.client.get("/v1/responses/resp_x")

    assert (reply.status, reply.error["type"], reply.error["code"]) == (500, "server_error", "server_error")
    assert "secret" not in reply.body.decode()
    assert "secret detail" in caplog.text


async def test_two_clients_may_share_nothing_but_the_server(serve: Serve) -> None:
    here = await serve()
    first, second = Client(here.port), Client(here.port)

    one, two = await first.create(input="a"), await second.create(input="b")

    assert one["id"] != two["id"]
