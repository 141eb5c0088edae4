"""Hosts, origins and keys: who is let in, and what browsers are told."""

from __future__ import annotations

import pytest
from tests.web.client import asked
from tests.web.conftest import Serve

from antiphon.protocol.errors import ApiError
from antiphon.web.access import Access, Key, is_loopback

PAGE = "https://app.example.com"


async def test_an_allowed_origin_may_read_every_reply(serve: Serve) -> None:
    here = await serve(cors_origins=[PAGE])
    replies = [
        await here.client.get("/v1/models", origin=PAGE),
        await here.client.get("/v1/nowhere", origin=PAGE),
        await here.client.post("/v1/responses", {}, origin=PAGE),
        await here.client.post("/v1/responses", asked(stream=True), origin=PAGE),
    ]

    for reply in replies:
        assert reply.headers["access-control-allow-origin"] == PAGE
        assert reply.headers["vary"] == "Origin"
        exposed = reply.headers["access-control-expose-headers"].split(", ")
        assert {"x-request-id", "x-antiphon-warnings"} <= set(exposed)


async def test_a_preflight_of_an_allowed_origin(serve: Serve) -> None:
    here = await serve(cors_origins=[PAGE], api_keys=["sk-x"])
    asking = {
        "access_control_request_method": "POST",
        "access_control_request_headers": "authorization, x-stainless-os",
    }
    reply = await here.client.request("OPTIONS", "/v1/responses", origin=PAGE, **asking)

    assert reply.status == 204
    assert reply.headers["access-control-allow-origin"] == PAGE
    assert set(reply.headers["access-control-allow-methods"].split(", ")) >= {"GET", "POST", "DELETE"}
    assert reply.headers["access-control-allow-headers"] == "authorization, x-stainless-os"
    assert int(reply.headers["access-control-max-age"]) > 0
    assert "content-length" not in reply.headers


@pytest.mark.parametrize("origin", ["https://evil.example.com", "null", "http://[", "https://app.example.com.evil.org"])
@pytest.mark.parametrize("method", ["OPTIONS", "GET"])
async def test_another_origin_is_403(serve: Serve, origin: str, method: str) -> None:
    here = await serve(cors_origins=[PAGE])
    reply = await here.client.request(method, "/v1/models", origin=origin)

    assert (reply.status, reply.error["code"]) == (403, "origin_not_allowed")
    assert "access-control-allow-origin" not in reply.headers


async def test_every_origin_can_be_allowed(serve: Serve) -> None:
    here = await serve(cors_origins=["*"])

    assert (await here.client.get("/v1/models", origin="https://any.org")).headers[
        "access-control-allow-origin"
    ] == "https://any.org"


async def test_the_server_s_own_pages_need_no_leave(serve: Serve) -> None:
    here = await serve()
    reply = await here.client.get("/v1/models", origin=f"http://127.0.0.1:{here.port}")

    assert reply.status == 200
    assert "access-control-allow-origin" not in reply.headers


@pytest.mark.parametrize(
    "host", ["evil.example.com", "127.0.0.1.evil.example.com", "", "8.8.8.8", "[::2]:80", "localhost.x"]
)
async def test_a_host_that_is_not_served_is_403(serve: Serve, host: str) -> None:
    reply = await (await serve()).client.get("/v1/models", host=host)

    assert (reply.status, reply.error["code"]) == (403, "host_not_allowed")


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost:8600", "LOCALHOST", "[::1]:8600", "127.9.9.9:1", "my.name:80"]
)
async def test_hosts_that_are_served(serve: Serve, host: str) -> None:
    here = await serve(allowed_hosts=["my.name"])

    assert (await here.client.get("/v1/models", host=host)).status == 200


def test_keys_open_projects() -> None:
    access = Access(keys=[Key.of("sk-one"), Key.of("team=sk-two"), Key.of("=sk-three")])

    assert access.project("Bearer sk-one") == "default"
    assert access.project("bearer  sk-two ") == "team"
    assert access.project("Bearer sk-three") == "default"


@pytest.mark.parametrize("given", [None, "", "Bearer", "sk-one", "Basic sk-one", "Bearer sk-on", "Bearer team=sk-two"])
def test_other_keys_open_nothing(given: str | None) -> None:
    with pytest.raises(ApiError) as refused:
        Access(keys=[Key.of("sk-one"), Key.of("team=sk-two")]).project(given)

    assert (refused.value.status, refused.value.code) == (401, "invalid_api_key")


def test_a_wrong_key_is_redacted() -> None:
    with pytest.raises(ApiError) as refused:
        Access(keys=[Key.of("sk-one")]).project("Bearer sk-secret-secret-secret")

    assert refused.value.message == "Incorrect API key provided: sk-...cret."


def test_a_key_is_not_kept_as_it_is() -> None:
    assert b"sk-one" not in Key.of("sk-one").sha256


LOOPBACKS = ["localhost", "a.localhost", "127.1.2.3", "::1"]
OTHERS = ["0.0.0.0", "10.0.0.1", "localhost.evil.org", "", "2130706433", "::"]


@pytest.mark.parametrize("name", [*LOOPBACKS, *OTHERS])
def test_loopback(name: str) -> None:
    assert is_loopback(name) is (name in LOOPBACKS)
