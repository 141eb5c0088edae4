"""A server before several others of which some die, hang, refuse or come back; and models that stand by for others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.mortal import MortalServer, mortal
from tests.web.client import Reply
from tests.web.conftest import Serve, Serving

from antiphon.config import UpstreamConfig

TEXT = "Hello from the server "
Json = dict[str, Any]


@pytest.fixture
async def three() -> AsyncIterator[list[MortalServer]]:
    async with mortal("1", "2", "3") as servers:
        yield servers


def pool(servers: list[MortalServer], **settings: Any) -> UpstreamConfig:
    return UpstreamConfig(urls=[server.url for server in servers], name="pool", **settings)


async def create(here: Serving, text: str = "Hi", **parameters: Any) -> Reply:
    return await here.client.request("POST", "/v1/responses", {"model": "m", "input": text, **parameters})


def said(reply: Reply) -> str:
    assert reply.status == 200, reply.body
    text: str = reply.json["output"][0]["content"][0]["text"]
    return text


async def preferred(here: Serving, servers: list[MortalServer]) -> MortalServer:
    """The one that is asked when somebody says Hi."""
    number = said(await create(here)).removeprefix(TEXT)
    return next(server for server in servers if server.name == number)


async def condition(here: Serving) -> Json:
    told: Json = (await here.client.request("GET", "/ready")).json["upstreams"]["pool"]
    return told


# --- Failover ---


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("mode", [500, 502, 503, 429, 401, 404, "killed"])
async def test_what_one_server_cannot_answer_another_does(
    serve: Serve, three: list[MortalServer], mode: str | int, stream: bool
) -> None:
    here = await serve(upstreams=[pool(three)])
    sick = await preferred(here, three)
    if mode == "killed":
        await sick.kill()
    else:
        sick.mode = mode

    if stream:
        events = await here.client.stream(model="m", input="Hi")
        assert events[-1]["type"] == "response.completed"
        text = events[-1]["response"]["output"][0]["content"][0]["text"]
    else:
        text = said(await create(here))

    assert text.startswith(TEXT)
    assert text != TEXT + sick.name
    assert (await condition(here))["failovers"] == 1


async def test_a_server_that_hangs_is_given_up_before_its_first_word(serve: Serve, three: list[MortalServer]) -> None:
    here = await serve(upstreams=[pool(three)], first_byte_seconds=0.3)
    sick = await preferred(here, three)
    sick.mode = "hang"

    assert said(await create(here)) != TEXT + sick.name


async def test_a_server_that_dies_and_comes_back(serve: Serve, three: list[MortalServer]) -> None:
    here = await serve(upstreams=[pool(three, breaker_failures=2, health_seconds=0.05)])
    sick = await preferred(here, three)
    place = 1 + three.index(sick)
    await sick.kill()
    for _ in range(5):
        assert said(await create(here)) != TEXT + sick.name
    assert (await condition(here))["left_out"] == [place]
    await sick.start()

    await here.until(lambda: not here.server.catalog.conditions()["pool"].left_out)

    assert said(await create(here)) == TEXT + sick.name
    assert await condition(here) == {"servers": 3, "left_out": [], "active": 0, "waiting": 0, "failovers": 2}


async def test_a_stream_that_has_said_something_is_not_begun_again(serve: Serve, three: list[MortalServer]) -> None:
    here = await serve(upstreams=[pool(three)])
    sick = await preferred(here, three)
    sick.word_seconds = 30

    async with here.client.streaming(model="m", input="Hi") as stream:
        await stream.until("output_text.delta")
        await sick.kill()
        last = await stream.until("failed")

    assert (last["type"], last["response"]["error"]["code"]) == ("response.failed", "upstream_cut")
    assert sum(len(server.asked) for server in three) == 2


async def test_when_none_is_left_it_is_an_error_that_may_be_tried_again(
    serve: Serve, three: list[MortalServer]
) -> None:
    here = await serve(upstreams=[pool(three, breaker_failures=1)], retries=0)
    await preferred(here, three)
    for server in three:
        await server.kill()
    first, second = await create(here), await create(here)

    assert (first.status, first.error["code"]) == (502, "upstream_unreachable")
    assert (second.status, second.error["code"]) == (503, "upstream_unreachable")
    assert (second.headers["retry-after"], second.headers["x-should-retry"]) == ("2", "true")


async def test_turns_of_a_conversation_go_to_the_server_that_has_seen_it(
    serve: Serve, three: list[MortalServer]
) -> None:
    here = await serve(upstreams=[pool(three)])
    for number in range(8):
        first = await create(here, f"Story {number}")
        second = await create(here, "And then?", previous_response_id=first.json["id"])
        third = await create(here, "And then?", previous_response_id=second.json["id"])
        assert said(first) == said(second) == said(third)
    for number in range(60):  # ports differ from run to run, and with them which conversation is whose
        await create(here, f"Another story {number}")
    assert all(server.asked for server in three)


# --- Places ---


async def test_no_server_is_asked_more_at_once_than_it_may(serve: Serve, three: list[MortalServer]) -> None:
    here = await serve(upstreams=[pool(three, max_concurrent=2)])
    for server in three:
        server.word_seconds = 0.01

    replies = await asyncio.gather(*(create(here, f"Story {number}") for number in range(40)))

    assert all(said(reply).startswith(TEXT) for reply in replies)
    assert [server.most for server in three] == [2, 2, 2]


async def test_a_full_line_is_429_and_says_when_to_come_again(serve: Serve, three: list[MortalServer]) -> None:
    here = await serve(upstreams=[pool(three[:1], max_concurrent=1, queue_max=1)])
    three[0].gate.clear()
    first = [asyncio.ensure_future(create(here)) for _ in range(2)]
    await here.until(lambda: _waiting(here) == 1)

    refused = await create(here)
    streamed = await create(here, stream=True)
    three[0].gate.set()

    for reply in (refused, streamed):
        assert (reply.status, reply.error["type"], reply.error["code"]) == (
            429,
            "rate_limit_error",
            "rate_limit_exceeded",
        )
        assert (reply.headers["retry-after"], reply.headers["x-should-retry"]) == ("1", "true")
    assert [reply.status for reply in await asyncio.gather(*first)] == [200, 200]


async def test_background_runs_wait_where_others_are_refused(serve: Serve, three: list[MortalServer]) -> None:
    here = await serve(upstreams=[pool(three[:1], max_concurrent=1, queue_max=0)])
    three[0].gate.clear()
    runs = [(await create(here, background=True)).json["id"] for _ in range(4)]
    await here.until(lambda: _waiting(here) == 3)
    assert (await create(here)).status == 429
    cancelled = await here.client.request("POST", f"/v1/responses/{runs[3]}/cancel")
    assert cancelled.json["status"] == "cancelled"
    assert _waiting(here) == 2
    three[0].gate.set()
    await here.idle()

    ended = [(await here.client.request("GET", f"/v1/responses/{run}")).json["status"] for run in runs]
    assert ended == ["completed"] * 3 + ["cancelled"]
    assert three[0].most == 1


async def test_a_stream_that_waits_is_kept_alive_and_gives_its_place_back_when_its_client_leaves(
    serve: Serve, three: list[MortalServer]
) -> None:
    here = await serve(upstreams=[pool(three[:1], max_concurrent=1)], first_event_seconds=0.05, keepalive_seconds=0.05)
    three[0].gate.clear()
    first = asyncio.ensure_future(create(here))
    await here.until(lambda: bool(three[0].asked))

    async with here.client.streaming(model="m", input="Hi") as stream:
        while sum(event["type"] == "response.in_progress" for event in stream.events) < 3:
            await stream.more()
        assert _waiting(here) == 1
    await here.until(lambda: _waiting(here) == 0)
    three[0].gate.set()

    assert (await first).status == 200
    assert len(three[0].asked) == 1


def _waiting(here: Serving) -> int:
    return here.server.catalog.conditions()["pool"].waiting


# --- Models that stand by ---


def standing_by(servers: list[MortalServer], **settings: Any) -> Json:
    """An alias of three models, each on a server of its own."""
    upstreams = [
        UpstreamConfig(url=server.url, name=f"u{server.name}", models=[f"m{server.name}"]) for server in servers
    ]
    return {"upstreams": upstreams, "aliases": {"best": ["m1", "m2", "m3"]}, "retries": 0, **settings}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("mode", [503, 429, 401, "killed"])
async def test_the_next_model_answers_what_the_first_cannot_and_is_named(
    serve: Serve, three: list[MortalServer], mode: str | int, stream: bool
) -> None:
    here = await serve(**standing_by(three))
    assert said(await create(here, model="best")) == f"{TEXT}1"
    if mode == "killed":
        await three[0].kill()
    else:
        three[0].mode = three[1].mode = mode

    reply = await create(here, model="best", stream=stream)

    answers = "2" if mode == "killed" else "3"
    if stream:
        events = [json.loads(line[6:]) for line in reply.body.decode().splitlines() if line.startswith("data: {")]
        assert {event["response"]["model"] for event in events if "response" in event} == {f"m{answers}"}
        response = events[-1]["response"]
    else:
        response = reply.json
    assert response["model"] == f"m{answers}"
    assert response["output"][0]["content"][0]["text"] == TEXT + answers
    stored = (await here.client.request("GET", f"/v1/responses/{response['id']}")).json
    assert stored["model"] == f"m{answers}"
    assert three[int(answers) - 1].asked[-1]["model"] == f"m{answers}"


async def test_a_stream_that_has_begun_names_the_first_and_ends_with_the_one_that_answered(
    serve: Serve, three: list[MortalServer]
) -> None:
    here = await serve(**standing_by(three, first_event_seconds=0.0, first_byte_seconds=0.3))
    three[0].mode = "hang"
    events = await here.client.stream(model="best", input="Hi")

    assert events[0]["response"]["model"] == "m1"
    assert events[-1]["response"]["model"] == "m2"
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == f"{TEXT}2"
    stored = await here.client.request("GET", f"/v1/responses/{events[-1]['response']['id']}")
    assert stored.json["model"] == "m2"


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_clients_error_is_the_same_everywhere(serve: Serve, three: list[MortalServer], status: int) -> None:
    here = await serve(**standing_by(three))
    three[0].mode = status

    assert (await create(here, model="best")).status == status
    assert not three[1].asked


async def test_a_background_run_keeps_the_model_that_it_was_accepted_with(
    serve: Serve, three: list[MortalServer]
) -> None:
    here = await serve(**standing_by(three))
    three[0].mode = 503
    run = (await create(here, model="best", background=True)).json["id"]
    await here.idle()
    ended = (await here.client.request("GET", f"/v1/responses/{run}")).json

    assert (ended["status"], ended["model"]) == ("failed", "m1")
    assert not three[1].asked


async def test_a_model_whose_servers_are_all_left_out_is_passed_over(serve: Serve, three: list[MortalServer]) -> None:
    """Before anything is told, so that background runs profit too."""
    config = standing_by(three)
    config["upstreams"][0] = UpstreamConfig(urls=[three[0].url], name="u1", models=["m1"], breaker_failures=1)
    here = await serve(**config)
    await three[0].kill()
    assert said(await create(here, model="best")) == f"{TEXT}2"
    run = (await create(here, model="best", background=True)).json
    await here.idle()

    assert run["model"] == "m2"
    assert (await here.client.request("GET", f"/v1/responses/{run['id']}")).json["status"] == "completed"


async def test_when_every_model_fails_it_is_the_last_ones_error(serve: Serve, three: list[MortalServer]) -> None:
    here = await serve(**standing_by(three))
    for server in three:
        server.mode = 503
    reply = await create(here, model="best")

    assert (reply.status, reply.error["message"]) == (503, "3 says 503")
