"""WebSocket mode: responses one after another, what one continues, errors that end nothing else.

Everything here holds with frames that are pushed and with those that an ordinary server sends.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.specification.conformance import without_keepalives
from tests.web.client import PATIENCE_SECONDS, Json, asked, text_of
from tests.web.conftest import Serve, Serving
from tests.web.sockets import talking
from tests.web.test_streams import Held
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from antiphon.engine.deltas import CallDelta, ReasoningDelta, TextDelta
from antiphon.engine.ports.upstreams import ModelRequest, UpstreamError
from antiphon.upstreams.scripted import Script
from antiphon.web.frames import FramesProtocol

Start = Callable[..., Any]

TOOL = {"type": "function", "name": "look", "parameters": {"type": "object"}}


@pytest.fixture(params=[FramesProtocol, WebSocketsSansIOProtocol], ids=["push", "plain"])
def start(request: pytest.FixtureRequest, serve: Serve) -> Start:
    """Starts a server with one of the two ways to the client."""

    def started(*scripts: Script, **options: Any) -> Any:
        return serve(scripts or None, frames_protocol=request.param, **options)

    return started


async def within(waiting: Any) -> Any:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await waiting


def seen(request: ModelRequest) -> list[str]:
    """The texts that the model saw; of the echo's, what it echoed."""
    contents = [json.loads(bytes(item.view.content)) for item in request.items]
    texts = [content if isinstance(content, str) else content[0]["text"] for content in contents]
    return [text.removeprefix("You said: ") for text in texts]


def made_alike(events: list[Json]) -> str:
    """The events as JSON, with names for their ids in the order in which they come, and one time."""
    text = json.dumps([{name: value for name, value in event.items() if name != "headers"} for event in events])
    ids = dict.fromkeys(part for part in text.split('"') if part.partition("_")[0] in ("resp", "msg", "rs", "fc"))
    for index, known in enumerate(one for one in ids if len(one) > 20):
        text = text.replace(known, f"id{index}")
    stamps = ("created_at", "completed_at")
    return json.dumps(json.loads(text, object_hook=lambda found: {**found, **{s: 0 for s in stamps if found.get(s)}}))


# --- Events ---


async def test_the_events_are_those_of_an_event_stream(start: Start) -> None:
    script: Script = [
        [ReasoningDelta("Hm")],
        [TextDelta("Let me look. \u2028\u2029\x85\r\n"), TextDelta("日本")],
        [CallDelta(0, "call_1", "look", '{"a"'), CallDelta(0, None, None, ":1}")],
    ]
    here: Serving = await start(script, script)
    streamed = await here.client.stream(tools=[TOOL])
    async with talking(here.port) as talk:
        await talk.ask(tools=[TOOL])
        told = await talk.events()

    assert made_alike(told) == made_alike(without_keepalives(streamed))


async def test_a_response_is_stored_as_any_other(start: Start) -> None:
    here: Serving = await start()
    async with talking(here.port) as talk:
        made = await talk.create(input="Hello")

    assert (await here.client.get(f"/v1/responses/{made['id']}")).json == made


async def test_text_comes_as_it_is_said(start: Start) -> None:
    gate = asyncio.Event()
    here: Serving = await start([[TextDelta("Hi")], gate, [TextDelta("!")]])
    async with talking(here.port) as talk:
        await talk.ask()
        told = [await talk.hear() for _ in range(5)]
        assert told[-1]["delta"] == "Hi"
        gate.set()
        assert text_of([*told, *[await talk.hear() for _ in range(5)]]) == "Hi!"


async def test_a_quiet_response_is_kept_alive(start: Start) -> None:
    gate = asyncio.Event()
    here: Serving = await start([[TextDelta("Hi")], gate, [TextDelta("!")]], keepalive_seconds=0.01)
    async with talking(here.port) as talk:
        await talk.ask()
        told = [await talk.hear() for _ in range(5)]
        repeated = [await talk.hear() for _ in range(3)]
        gate.set()
        while told[-1]["type"] != "response.completed":
            told.append(await talk.hear())

    assert {(event["type"], event["sequence_number"]) for event in repeated} == {("response.in_progress", 4)}


async def test_what_is_left_out_is_named_with_the_first_event(start: Start) -> None:
    here: Serving = await start()
    async with talking(here.port) as talk:
        await talk.ask(unheard_of=1, stream_options={"include_obfuscation": True})
        first, *others = await talk.events()

    named = "unheard_of, stream_options.include_obfuscation"
    assert first["headers"] == {"x-antiphon-warnings": named}
    assert not any("headers" in event or "obfuscation" in event for event in others)


async def test_responses_come_one_after_another_in_the_order_asked_for(start: Start) -> None:
    gate = asyncio.Event()
    here: Serving = await start([[TextDelta("a")], gate], [[TextDelta("b")]], [[TextDelta("c")]], [[TextDelta("d")]])
    async with talking(here.port) as talk:
        for _ in range(4):
            await talk.ask()
        told = [await talk.hear() for _ in range(5)]
        assert len(here.upstream.requests) == 1
        gate.set()
        while sum(event["type"] == "response.completed" for event in told) < 4:
            told.append(await talk.hear())

    starts = [index for index, event in enumerate(told) if event["type"] == "response.created"]
    parts = [told[first:last] for first, last in itertools.pairwise([*starts, len(told)])]
    assert [text_of(part) for part in parts] == ["a", "b", "c", "d"]
    assert [[event["sequence_number"] for event in part] for part in parts] == [[*range(len(part))] for part in parts]


async def test_a_background_response_goes_on_without_its_client(start: Start) -> None:
    gate = asyncio.Event()
    here: Serving = await start([[TextDelta("Hi")], gate, [TextDelta("!")]])
    async with talking(here.port) as talk:
        await talk.ask(background=True)
        told = [await talk.hear() for _ in range(4)]
    response = told[0]["response"]["id"]
    gate.set()
    async with here.client.followed("GET", f"/v1/responses/{response}?stream=true") as again:
        events = await again.whole()

    assert text_of(events) == "Hi!"
    assert without_keepalives(events)[:4] == told


async def test_a_background_response_to_its_end_and_another(start: Start) -> None:
    here: Serving = await start()
    async with talking(here.port) as talk:
        made = await talk.create(background=True, input="one")
        again = await talk.create(previous_response_id=made["id"], input="two")

    assert (await here.client.get(f"/v1/responses/{again['id']}")).json["previous_response_id"] == made["id"]
    assert seen(here.upstream.requests[1]) == ["one", "one", "two"]


# --- The client leaves ---


async def test_a_client_that_leaves_ends_run_and_upstream(start: Start) -> None:
    held = Held([TextDelta("Hi")])
    here: Serving = await start(held)
    async with talking(here.port) as talk:
        await talk.ask()
        await within(held.standing.wait())
    await within(held.left.wait())
    await here.idle()


async def test_a_client_that_breaks_off_with_requests_waiting(start: Start) -> None:
    held = Held([TextDelta("Hi")])
    here: Serving = await start(held)
    async with talking(here.port) as talk:
        await talk.ask()
        await within(held.standing.wait())
        await talk.ask()
        talk.socket.transport.abort()
        await within(held.left.wait())
    await here.idle()
    assert len(here.upstream.requests) == 1


# --- Continuing ---


async def test_a_response_that_is_not_stored_goes_on_on_its_connection(start: Start) -> None:
    here: Serving = await start()
    async with talking(here.port) as talk:
        first = await talk.create(input="one", store=False)
        second = await talk.create(input="two", store=False, previous_response_id=first["id"])
        third = await talk.create(input="three", store=False, previous_response_id=second["id"])

    assert seen(here.upstream.requests[2]) == ["one", "one", "two", "two", "three"]
    assert third["previous_response_id"] == second["id"]
    assert (await here.client.get(f"/v1/responses/{first['id']}")).status == 404


async def test_nobody_else_can_continue_it(start: Start) -> None:
    here: Serving = await start()
    async with talking(here.port) as talk, talking(here.port) as other:
        made = await talk.create(store=False)
        over_http = await here.client.refused(previous_response_id=made["id"])
        elsewhere = await other.refused(previous_response_id=made["id"])
        again = await talk.create(store=False, previous_response_id=made["id"])

    assert over_http.error["code"] == elsewhere["error"]["code"] == "previous_response_not_found"
    assert (elsewhere["status"], elsewhere["error"]["param"]) == (400, "previous_response_id")
    assert again["status"] == "completed"


async def test_a_new_connection_remembers_nothing(start: Start) -> None:
    here: Serving = await start()
    async with talking(here.port) as talk:
        made = await talk.create(store=False)
    async with talking(here.port) as talk:
        told = await talk.refused(previous_response_id=made["id"])

    assert told["error"]["message"] == f"Previous response with id '{made['id']}' not found."


async def test_a_stored_response_goes_on_anywhere(start: Start) -> None:
    here: Serving = await start()
    begun = await here.client.create(input="one")
    async with talking(here.port) as talk:
        second = await talk.create(input="two", previous_response_id=begun["id"], store=False)
        third = await talk.create(input="three", previous_response_id=second["id"])
    await here.client.create(input="four", previous_response_id=third["id"])

    assert seen(here.upstream.requests[3]) == ["one", "one", "two", "two", "three", "three", "four"]
    items = (await here.client.get(f"/v1/responses/{third['id']}/input_items?order=asc")).json["data"]
    texts = [item["content"][0]["text"].removeprefix("You said: ") for item in items]
    assert texts == ["one", "one", "two", "two", "three"]


async def test_only_the_newest_is_remembered(start: Start) -> None:
    here: Serving = await start()
    async with talking(here.port) as talk:
        first = await talk.create(store=False)
        await talk.create(store=False)
        told = await talk.refused(previous_response_id=first["id"])

    assert told["error"]["code"] == "previous_response_not_found"


def failing(request: ModelRequest) -> Script:
    said = seen(request)[-1]
    if said == "refuse":
        return [UpstreamError("No.", status=400, code="bad")]
    if said == "break":
        return [[TextDelta("Hi")], UpstreamError("Gone.", status=502)]
    return [[TextDelta(said)]]


@pytest.mark.parametrize(
    "wrong",
    [{"input": "refuse"}, {"input": "break"}, {"temperature": 9}, {"model": "none"}, {"input": [{"type": "odd"}]}],
    ids=["refused", "broken", "value", "model", "item"],
)
async def test_a_continuation_that_fails_makes_its_parent_forgotten(serve: Serve, wrong: Json) -> None:
    here = await serve(failing)
    async with talking(here.port) as talk:
        made = await talk.create(store=False)
        await talk.ask(**{"previous_response_id": made["id"], "store": False, **wrong})
        while (await talk.hear())["type"] not in ("error", "response.failed"):
            pass
        told = await talk.refused(previous_response_id=made["id"])

    assert told["error"]["code"] == "previous_response_not_found"


async def test_a_failure_of_something_else_leaves_the_memory(serve: Serve) -> None:
    here = await serve(failing)
    stored = await here.client.create()
    async with talking(here.port) as talk:
        made = await talk.create(store=False)
        await talk.refused(input="refuse")
        await talk.refused(input="refuse", previous_response_id=stored["id"])
        await talk.say("{")
        await talk.error()
        again = await talk.create(previous_response_id=made["id"])

    assert again["status"] == "completed"
    assert (await here.client.create(previous_response_id=stored["id"]))["status"] == "completed"


async def test_a_context_that_is_too_large_to_be_kept_is_not_found(serve: Serve) -> None:
    here = await serve(websocket_memory_bytes=2000)
    async with talking(here.port) as talk:
        small = await talk.create(store=False)
        large = await talk.create(store=False, previous_response_id=small["id"], input="x" * 2000)
        told = await talk.refused(previous_response_id=large["id"])
        gone = await talk.refused(previous_response_id=small["id"])

    assert told["error"]["code"] == gone["error"]["code"] == "previous_response_not_found"


# --- Warming up ---


@pytest.mark.parametrize("store", [True, False])
async def test_a_warm_up_asks_no_model_and_can_be_continued(start: Start, store: bool) -> None:
    here: Serving = await start()
    async with talking(here.port) as talk:
        await talk.ask(generate=False, store=store, input="one", instructions="Be brief.", tools=[TOOL])
        told = await talk.events()
        assert here.upstream.requests == []
        warm = told[-1]["response"]
        made = await talk.create(previous_response_id=warm["id"], store=store, input="two")

    assert [event["type"].partition(".")[2] for event in told] == ["created", "in_progress", "completed"]
    assert (warm["output"], warm["usage"]["total_tokens"], warm["instructions"]) == ([], 0, "Be brief.")
    assert seen(here.upstream.requests[0]) == ["one", "two"]
    assert made["status"] == "completed"


@pytest.mark.parametrize("nothing", [{"input": []}, {"input": None}])
async def test_a_warm_up_may_have_no_input(start: Start, nothing: Json) -> None:
    here: Serving = await start()
    async with talking(here.port) as talk:
        warm = await talk.create(generate=False, store=False, **nothing)
        await talk.create(previous_response_id=warm["id"], store=False, input="one")

    assert seen(here.upstream.requests[0]) == ["one"]


async def test_a_warm_up_knows_its_model(start: Start) -> None:
    here: Serving = await start()
    async with talking(here.port) as talk:
        assert (await talk.refused(generate=False, model="none"))["status"] == 404
        assert (await talk.refused(generate=False, background=True))["error"]["param"] == "background"


async def test_over_http_generate_is_an_unknown_parameter(serve: Serve) -> None:
    here = await serve()
    reply = await here.client.post("/v1/responses", asked(generate=False))

    assert (reply.headers["x-antiphon-warnings"], len(reply.json["output"])) == ("generate", 1)


# --- Errors ---


@pytest.mark.parametrize(
    ("message", "status", "code", "param"),
    [
        ("{", 400, "invalid_request_error", None),
        ("[]", 400, "invalid_type", None),
        ("", 400, "invalid_request_error", None),
        ("{}", 400, "missing_required_parameter", "type"),
        ('{"type":1}', 400, "invalid_type", "type"),
        ('{"type":"response.cancel"}', 400, "invalid_value", "type"),
        ('{"type":"response.create"}', 400, "missing_required_parameter", "input"),
        ('{"type":"response.create","input":"x","generate":1}', 400, "invalid_type", "generate"),
        ('{"type":"response.create","input":"x","model":"none"}', 404, "model_not_found", "model"),
        (b'{"type":"response.create","input":"x"}', 400, "invalid_value", None),
        ("[" * 100_000, 400, "invalid_request_error", None),
    ],
)
async def test_an_error_keeps_the_connection_open(
    serve: Serve, message: Any, status: int, code: str, param: str | None
) -> None:
    here = await serve()
    async with talking(here.port) as talk:
        await talk.say(message)
        told = await talk.error()
        made = await talk.create()

    assert (told["status"], told["error"]["code"], told["error"]["param"]) == (status, code, param)
    assert made["status"] == "completed"


async def test_an_upstream_that_is_overloaded_says_when_to_come_again(serve: Serve) -> None:
    busy = UpstreamError("Busy.", status=429, code="rate_limit_exceeded", retry_after_seconds=7)
    here = await serve([[busy], [[TextDelta("Hi")]]])
    async with talking(here.port) as talk:
        told = await talk.refused()
        await talk.create()

    assert told["status"] == 429
    assert told["error"]["headers"] | {"x-request-id": ""} == {
        "x-request-id": "",
        "x-should-retry": "true",
        "retry-after": "7",
    }


async def test_a_bug_is_told_as_an_error_of_the_server(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    here = await serve()

    async def broken(name: str) -> Any:
        raise RuntimeError("secret")

    route, here.server.catalog.route = here.server.catalog.route, broken  # type: ignore[method-assign]
    async with talking(here.port) as talk:
        told = await talk.refused()
        here.server.catalog.route = route  # type: ignore[method-assign]
        await talk.create()

    assert (told["status"], told["error"]["code"]) == (500, "server_error")
    assert "secret" not in json.dumps(told)
    assert told["error"]["headers"]["x-request-id"] in caplog.text


@pytest.mark.parametrize("lane", ["main", "", "ä", 1])
async def test_a_lane_is_refused_by_name(serve: Serve, lane: Any) -> None:
    here = await serve()
    async with talking(here.port) as talk:
        told = await talk.refused(stream_id=lane)
        assert (await talk.create(stream_id=None))["status"] == "completed"

    assert (told["error"]["code"], told["error"]["param"]) == ("unsupported_parameter", "stream_id")
    assert told.get("stream_id") == (lane if isinstance(lane, str) else None)


async def test_steering_is_refused_at_once_and_given_back(start: Start) -> None:
    gate = asyncio.Event()
    here: Serving = await start([[TextDelta("Hi")], gate])
    async with talking(here.port) as talk:
        await talk.ask()
        told = [await talk.hear() for _ in range(5)]
        response = told[0]["response"]["id"]
        await talk.say({"type": "response.steer", "previous_response_id": response, "input": "Stop."})
        refused = await talk.hear()
        gate.set()
        while (await talk.hear())["type"] != "response.completed":
            pass

    assert (refused["type"], refused["error"]["code"]) == ("response.steer.failed", "steering_not_supported")
    assert refused["steer"] == {"previous_response_id": response, "input": "Stop."}


# --- Many ---


async def test_connections_do_not_cross(serve: Serve) -> None:
    def echo(request: ModelRequest) -> Script:
        said = "+".join(seen(request))
        return [[TextDelta(said[:3])], [TextDelta(said[3:])]]

    here = await serve(echo)

    async def talks(name: str) -> list[str]:
        async with talking(here.port) as talk:
            first = await talk.create(store=False, input=name)
            ready.release()
            await everybody.wait()
            second = await talk.create(store=False, input="b", previous_response_id=first["id"])
            return [made["output"][0]["content"][0]["text"] for made in (first, second)]

    count = 50
    ready, everybody = asyncio.Semaphore(0), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        talked = [group.create_task(talks(f"n{index}")) for index in range(count)]
        for _ in range(count):
            await within(ready.acquire())
        everybody.set()

    assert [task.result() for task in talked] == [[f"n{i}", f"n{i}+n{i}+b"] for i in range(count)]
