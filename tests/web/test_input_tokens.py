"""`POST /v1/responses/input_tokens`: what is counted, what is estimated, and that nothing is run or kept."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.specification.conformance import check_error, check_openai
from tests.web.client import Client, Json, Reply, asked, check_headers
from tests.web.conftest import Serve, Serving

from antiphon.engine.estimates import BYTES_PER_TOKEN, IMAGE_TOKENS, ITEM_TOKENS
from antiphon.engine.ports.stores import Context, Parent
from antiphon.engine.ports.upstreams import ContextItem, ModelRequest, UpstreamError
from antiphon.upstreams.scripted import ScriptedUpstream
from antiphon.web.api.input_tokens import ESTIMATED

PATH = "/v1/responses/input_tokens"
PNG = "data:image/png;base64,iVBORw0KGgo="
LOOK: Json = {"type": "function", "name": "look", "description": "Look.", "parameters": {"type": "object"}}


async def counted(client: Client, **parameters: Any) -> Reply:
    """A count or a refusal, in the official shape."""
    async with client.connected() as connection:
        await connection.send("POST", PATH, asked(**parameters))
        head = await connection.head()
        body = await connection.reader.readexactly(int(head.headers["content-length"]))
    reply = Reply(head.status, head.headers, body)
    check_headers(reply)
    if reply.status == 200:
        check_openai("TokenCountsResource", reply.json)
        assert list(reply.json) == ["object", "input_tokens"]
    else:
        check_error(reply.json)
    return reply


async def tokens(client: Client, **parameters: Any) -> int:
    reply = await counted(client, **parameters)
    assert reply.status == 200, reply.body
    number: int = reply.json["input_tokens"]
    return number


class Counter(ScriptedUpstream):
    """Counts as it is told to, and keeps what it was asked."""

    def __init__(self, said: int | UpstreamError | asyncio.Event | None) -> None:
        super().__init__([], models=["demo"])
        self.said = said
        self.asked: list[ModelRequest] = []
        self.here = asyncio.Event()
        self.left = asyncio.Event()

    async def count(self, request: ModelRequest) -> int | None:
        self.asked.append(request)
        self.here.set()
        if isinstance(self.said, UpstreamError):
            raise self.said
        if isinstance(self.said, asyncio.Event):
            try:
                await self.said.wait()
            except asyncio.CancelledError:
                self.left.set()
                raise
            return None
        return self.said


def install(here: Serving, counter: Counter) -> Counter:
    """Puts an upstream in the place of the server's."""
    here.server.catalog._entries[0].upstream = counter
    return counter


# --- What is counted ---


@pytest.mark.parametrize("model", ["antiphon-demo", "gpt-4.1"])
async def test_the_count_of_the_bundled_model_is_its_usage(serve: Serve, model: str) -> None:
    here = await serve(demo_model=True, aliases={"gpt-4.1": "antiphon-demo"})
    look = {"tools": [LOOK], "instructions": "Be brief."}
    first = await here.client.create(model=model, input="I am Ann.", max_output_tokens=16)
    for parameters in (
        {"input": "Hello!"},
        {"input": "Hello!", **look},
        {"input": "Who am I?", "previous_response_id": first["id"], **look},
        {"input": [{"role": "user", "content": "é 🦄"}, {"role": "assistant", "content": "b"}], **look},
    ):
        parameters |= {"model": model, "max_output_tokens": 16}
        reply = await counted(here.client, **parameters)
        made = await here.client.create(**parameters)

        assert reply.json["input_tokens"] == made["usage"]["input_tokens"]
        assert "x-antiphon-warnings" not in reply.headers


async def test_the_upstream_counts_what_it_would_be_asked(serve: Serve) -> None:
    here = await serve()
    counter = install(here, Counter(4711))
    parameters: Json = {"tools": [LOOK], "tool_choice": "required", "instructions": "Be brief.", "temperature": 0.5}

    assert await tokens(here.client, input="Hello", **parameters) == 4711
    here.server.catalog._entries[0].upstream = here.upstream
    await here.client.create(input="Hello", **parameters)

    [asked_to_count], [asked_to_run] = counter.asked, here.upstream.requests
    assert _without_ids(asked_to_count) == _without_ids(asked_to_run)
    assert asked_to_count.prefix is None


def _without_ids(request: ModelRequest) -> tuple[Any, ...]:
    views = [(item.view.kind, item.view.role, bytes(item.view.content)) for item in request.items]
    return request.model, views, request.tools, request.choice, request.force_choice, request.request


async def test_what_is_continued_is_counted_and_let_go(serve: Serve) -> None:
    here = await serve()
    first = await here.client.create(input="one")
    released: list[Parent] = []
    store, release = here.server.store, here.server.store.release

    def note(parent: Parent) -> None:
        released.append(parent)
        release(parent)

    store.release = note  # type: ignore[method-assign]
    counter = install(here, Counter(1))
    await tokens(here.client, input="two", previous_response_id=first["id"])

    assert len(counter.asked[0].items) == 3
    assert len(released) == 1


async def test_nothing_is_run_and_nothing_is_kept(serve: Serve) -> None:
    here = await serve()
    first = await here.client.create(input="one")
    before = await _context(here, first["id"])
    await tokens(here.client, input="two", previous_response_id=first["id"], stream=True, background=True)

    assert len(here.upstream.requests) == 1
    assert await _context(here, first["id"]) == before
    assert not here.server.runs._alive


async def _context(here: Serving, name: str) -> list[bytes]:
    context: Context = await here.server.store.context("default", name)
    if context.parent is not None:
        here.server.store.release(context.parent)
    return context.bodies


# --- What is estimated ---


async def test_an_estimate_is_named_so(serve: Serve) -> None:
    here = await serve()
    install(here, Counter(None))

    reply = await counted(here.client, input="x" * 100)

    assert reply.json["input_tokens"] == 100 // BYTES_PER_TOKEN + ITEM_TOKENS
    assert reply.headers["x-antiphon-warnings"] == ESTIMATED


GRAMMAR = {"type": "grammar", "syntax": "regex", "definition": "[0-9]{1,9}" + "|a" * 15}
FORMAT: Json = {"type": "json_schema", "name": "form", "schema": {"type": "object", "title": "x" * 80}}
PART = {"type": "input_text", "text": "x" * 40}


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"input": ""}, 4),
        ({"input": "x"}, 5),
        ({"input": "日本語"}, 4 + 3),
        ({"input": "x" * 40, "instructions": "y" * 40}, 4 + 20),
        ({"input": [{"role": "user", "content": [PART, PART]}]}, 4 + 20),
        ({"input": [{"role": "user", "content": [PART, {"type": "input_image", "image_url": PNG}]}]}, 4 + 10 + 1000),
        (
            {
                "input": [
                    {"type": "function_call", "call_id": "c", "name": "look", "arguments": "x" * 36},
                    {"type": "function_call_output", "call_id": "c", "output": "x" * 40},
                    {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "x" * 400}]},
                ]
            },
            8 + 20,
        ),
        (
            {"input": "", "tools": [{**LOOK, "description": "x" * 79}]},
            4 + (4 + 79 + len('{"type": "object"}')) // 4 + 1,
        ),
        (
            {"input": "", "tools": [{"type": "custom", "name": "calc", "format": GRAMMAR}]},
            4 + (4 + len(GRAMMAR["definition"]) + len("null")) // 4,
        ),
        ({"input": "", "text": {"format": FORMAT}}, 4 + -(-(4 + len(json.dumps(FORMAT["schema"]))) // 4)),
    ],
    ids=[
        "nothing",
        "a letter",
        "bytes",
        "instructions",
        "parts",
        "an image",
        "calls",
        "tools",
        "a grammar",
        "a format",
    ],
)
async def test_what_an_estimate_is_made_of(serve: Serve, parameters: Json, expected: int) -> None:
    here = await serve()
    install(here, Counter(None))

    assert (BYTES_PER_TOKEN, ITEM_TOKENS, IMAGE_TOKENS) == (4, 4, 1000)
    assert await tokens(here.client, **parameters) == expected


async def test_what_is_left_out_is_named_beside_it(serve: Serve) -> None:
    here = await serve()
    install(here, Counter(None))

    reply = await counted(here.client, tools=[LOOK, {"type": "web_search"}], personality="friendly")

    assert reply.headers["x-antiphon-warnings"] == f"{ESTIMATED}, personality, tools[1]"


# --- What is refused ---


@pytest.mark.parametrize(
    ("added", "status", "code", "param"),
    [
        ({"model": "nobody"}, 404, "model_not_found", "model"),
        ({"model": None}, 400, "missing_required_parameter", "model"),
        ({"input": None}, 400, "missing_required_parameter", "input"),
        ({"temperature": 3}, 400, "decimal_above_max_value", "temperature"),
        ({"previous_response_id": "resp_x"}, 400, "previous_response_not_found", "previous_response_id"),
        (
            {"previous_response_id": "resp_x", "conversation": "conv_x"},
            400,
            "mutually_exclusive_parameters",
            "previous_response_id",
        ),
        ({"input": [{"id": "msg_x"}]}, 404, None, "input"),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]}, 400, None, "input"),
        ({"tools": [{"type": "web_search"}]}, 400, "unsupported_value", "tools[0].type"),
        ({"messages": []}, 400, "unsupported_parameter", "messages"),
    ],
)
async def test_it_takes_the_checks_of_create(
    serve: Serve, added: Json, status: int, code: str | None, param: str
) -> None:
    here = await serve()
    reply = await counted(here.client, **added)
    created = await here.client.refused(**added)

    assert (reply.status, reply.error["code"], reply.error["param"]) == (status, code, param)
    assert (reply.status, reply.error) == (created.status, created.error)


async def test_a_model_that_takes_no_images_counts_none(serve: Serve) -> None:
    here = await serve(demo_model=True)
    look = [{"role": "user", "content": [{"type": "input_image", "image_url": PNG}]}]

    reply = await counted(here.client, model="antiphon-demo", input=look)

    assert (reply.status, reply.error["param"]) == (400, "input[0].content[0]")


@pytest.mark.parametrize(
    ("error", "status"), [(UpstreamError("no", status=400), 400), (UpstreamError("busy", status=503), 503)]
)
async def test_a_failure_of_the_upstreams_is_told(serve: Serve, error: UpstreamError, status: int) -> None:
    here = await serve()
    install(here, Counter(error))
    reply = await counted(here.client)

    assert (reply.status, reply.error["message"]) == (status, error.message)


async def test_another_projects_response_is_none(serve: Serve) -> None:
    here = await serve(api_keys=["one=sk-one-0123456789", "two=sk-two-0123456789"])
    made = await here.client_of("sk-one-0123456789").create()
    reply = await counted(here.client_of("sk-two-0123456789"), previous_response_id=made["id"])

    assert (reply.status, reply.error["code"]) == (400, "previous_response_not_found")


async def test_a_client_that_leaves_ends_its_count(serve: Serve) -> None:
    here = await serve()
    counter = install(here, Counter(asyncio.Event()))
    async with here.client.connected() as connection:
        await connection.send("POST", PATH, asked())
        async with asyncio.timeout(5):
            await counter.here.wait()
        connection.leave()
        async with asyncio.timeout(5):
            await counter.left.wait()
    await here.idle()


async def test_a_body_that_is_too_large(serve: Serve) -> None:
    here = await serve(body_max_bytes=1024)
    reply = await counted(here.client, input="x" * 2000)

    assert reply.status == 413


async def test_a_count_may_follow_a_count_on_one_connection(serve: Serve) -> None:
    here = await serve()
    async with here.client.connected() as connection:
        for number in range(3):
            await connection.send("POST", PATH, asked(input="x" * number))
            head = await connection.head()
            body = json.loads(await connection.reader.readexactly(int(head.headers["content-length"])))
            assert (head.status, body["object"]) == (200, "response.input_tokens")


def test_the_estimate_reads_items_of_earlier_turns() -> None:
    """Items reach it as they are stored, of whatever kind."""
    from antiphon.engine.context import view
    from antiphon.engine.estimates import prompt_tokens
    from antiphon.protocol.requests import read_create

    odd = view([b'{"type":"web_search_call","id":"ws_1","content":{"a":1}}', b'{"type":"message","role":"user"}'])
    items: list[ContextItem] = list(odd)

    assert prompt_tokens(ModelRequest("m", items, [], read_create(b'{"model":"m","input":"x"}'))) == ITEM_TOKENS
