"""Engines on this machine: each is recognised by what it alone says, and nothing else is taken for one."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiohttp import web
from tests.engines import LLAMACPP, LM_STUDIO, OLLAMA, VLLM, engine
from tests.loopback import LOOPBACK, served

from antiphon.assemble import DEMO_MODEL, look_around, using
from antiphon.config import Config, UpstreamConfig
from antiphon.upstreams.discovery import Found, discover

#: Long enough for any machine that runs tests; nothing here waits for it but what is told to be silent.
SECONDS = 5.0


async def found(pages: Mapping[str, Any], *, server: str = "", missing: int = 404) -> list[Found]:
    async with served(engine(pages, server=server, missing=missing)) as port:
        return [one for one in await discover([port], SECONDS) if one.port == port]


@pytest.mark.parametrize(
    ("pages", "title", "version", "models"),
    [
        (OLLAMA, "Ollama", "0.14.2", ("qwen3:4b", "llama3.2:3b")),
        (LLAMACPP, "llama.cpp", "b7100-abc", ("gemma.gguf",)),
        (VLLM, "vLLM", "0.33.0", ("Qwen/Qwen3-4B",)),
        (LM_STUDIO, "LM Studio", "", ("qwen-vl", "phi-4")),
    ],
)
async def test_each_engine_is_known_by_what_it_says(
    pages: Mapping[str, Any], title: str, version: str, models: tuple[str, ...]
) -> None:
    """With the models that can answer, the preferred one first."""
    (one,) = await found(pages)

    assert (one.title, one.version, one.models, one.wants_key) == (title, version, models, False)
    assert one.base_url == f"http://127.0.0.1:{one.port}/v1"


@pytest.mark.parametrize(
    "pages",
    [
        {},
        {"/version": {"version": "1.0"}},
        {"/version": {"version": "1.0"}, "/v1/models": {"data": [{"id": "m", "owned_by": "somebody"}]}},
        {"/version": {"version": "1.0"}, "/v1/models": 401},
        {"/api/version": {"version": "7"}},
        {"/api/version": {"version": 7}, "/api/tags": {"models": []}},
        {"/api/version": ["0.1"], "/api/tags": {"models": []}},
        {"/props": {"title": "a page"}},
        {"/api/v0/models": {"data": [{"id": "m"}]}},
        {"/api/v0/models": {"data": "none"}},
        {"/v1/models": {"data": [{"id": "m"}]}, "/health": {"status": "ok"}},
    ],
)
async def test_another_server_is_no_engine(pages: Mapping[str, Any]) -> None:
    assert await found(pages) == []
    assert await found(pages, missing=200) == []


@pytest.mark.parametrize("body", [b"", b"<html></html>", b"\xff{", b"[" * 100_000, b"x" * (5 << 20)])
async def test_what_is_no_json_is_no_engine(body: bytes) -> None:
    async def page(request: web.Request) -> web.Response:
        return web.Response(body=body)

    async with served(page) as port:
        assert await discover([port], SECONDS) == []


async def test_an_engine_behind_a_key_says_so() -> None:
    guarded = {"/version": {"version": "0.33.0"}}

    async def vllm(request: web.Request) -> web.StreamResponse:
        if request.path.startswith("/v1"):
            return web.json_response({"error": "Unauthorized"}, status=401)
        return await engine(guarded)(request)

    async with served(vllm) as port:
        (behind,) = await discover([port], SECONDS)
    (llamacpp,) = await found({"/props": 401, "/v1/models": LLAMACPP["/v1/models"]}, server="llama.cpp")

    assert (behind.title, behind.wants_key) == ("vLLM", True)
    assert (llamacpp.title, llamacpp.wants_key) == ("llama.cpp", True)


async def test_an_engine_that_still_loads_is_found() -> None:
    (one,) = await found({"/props": 503, "/v1/models": 503, "/health": 503}, server="llama.cpp")

    assert (one.title, one.models, one.wants_key) == ("llama.cpp", (), False)


async def test_ports_keep_their_order_and_names_are_told_apart() -> None:
    async with AsyncExitStack() as stack:
        ports = [await stack.enter_async_context(served(engine(pages))) for pages in (VLLM, OLLAMA, VLLM)]

        names = [one.name for one in await discover([*ports, ports[0]], SECONDS)]

    assert names == ["vllm", "ollama", f"vllm-{ports[2]}"]


async def test_silence_and_closed_ports_cost_no_more_than_was_allowed() -> None:
    begun = asyncio.get_running_loop().time()
    with socket.socket() as silent, socket.socket() as closed:
        silent.bind((LOOPBACK, 0))
        silent.listen()
        closed.bind((LOOPBACK, 0))
        async with served(engine(OLLAMA)) as port:
            seen = await discover([silent.getsockname()[1], closed.getsockname()[1], port], 0.5)

    assert [one.title for one in seen] == ["Ollama"]
    assert asyncio.get_running_loop().time() - begun < SECONDS


async def test_no_other_port_is_asked_and_never_the_own_one() -> None:
    async with served(engine(OLLAMA)) as port:
        config = Config(discover_ports=[port], discover_seconds=SECONDS)

        assert [one.port for one in await look_around(config)] == [port]
        for quiet in (
            Config(discover_ports=[port], port=port),
            Config(discover_ports=[port], discover=False),
            Config(discover_ports=[port], upstreams=[UpstreamConfig(url="http://a/v1")]),
            Config(discover_ports=[port], models=["a.gguf"]),
            Config(discover_ports=[]),
        ):
            assert await look_around(quiet) == []


OLLAMA_HERE = Found("ollama", "Ollama", 11434, "0.1", ("qwen3:4b", "llama3.2:3b"))
VLLM_HERE = Found("vllm", "vLLM", 8000, "0.33.0", ("Qwen/Qwen3-4B",))


def test_what_was_found_becomes_upstreams_and_its_first_model_catches_every_other_name() -> None:
    config = using(Config(upstream_key="secret"), [OLLAMA_HERE, VLLM_HERE])

    assert [(one.name, one.url) for one in config.upstreams] == [
        ("ollama", "http://127.0.0.1:11434/v1"),
        ("vllm", "http://127.0.0.1:8000/v1"),
    ]
    assert [one.key for one in config.upstreams] == [None, None], "a key goes only where the operator sent it"
    assert config.aliases == {"*": "qwen3:4b"}


def test_the_operators_choice_stands() -> None:
    assert using(Config(aliases={"*": "llama3.2:3b", "a": "b"}), [OLLAMA_HERE]).aliases == {
        "*": "llama3.2:3b",
        "a": "b",
    }


@pytest.mark.parametrize("useless", [[], [Found("vllm", "vLLM", 8000, wants_key=True)]])
def test_what_cannot_be_used_changes_nothing(useless: list[Found]) -> None:
    assert using(Config(), useless) == Config()


def test_an_engine_without_models_leaves_names_to_the_bundled_model() -> None:
    assert using(Config(), [Found("ollama", "Ollama", 11434, "0.1")]).aliases == {"*": DEMO_MODEL}
