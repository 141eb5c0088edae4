"""`/v1/responses` over HTTP: create, retrieve, list, cancel, delete, and that projects never meet."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.web.client import Client, Json, asked
from tests.web.conftest import Serve

from antiphon.engine.deltas import CallDelta, ReasoningDelta, TextDelta


async def test_create_retrieve_delete(serve: Serve) -> None:
    here = await serve()
    made = await here.client.create(metadata={"a": "b"}, user="me", instructions="Be brief.")
    path = f"/v1/responses/{made['id']}"

    assert (await here.client.get(path)).json == made
    assert (await here.client.get(f"{path}?include[]=message.output_text.logprobs&beta=true")).json == made
    assert (await here.client.request("DELETE", path)).json == {"id": made["id"], "object": "response", "deleted": True}
    for method, target in [("GET", path), ("DELETE", path), ("POST", f"{path}/cancel"), ("GET", f"{path}/input_items")]:
        assert (await here.client.request(method, target)).status == 404
    refused = await here.client.refused(previous_response_id=made["id"])
    assert (refused.status, refused.error["code"]) == (400, "previous_response_not_found")


async def test_a_request_that_is_to_be_moderated_is_refused_since_nothing_here_moderates(serve: Serve) -> None:
    here = await serve()

    refused = await here.client.refused(moderation={"model": "omni-moderation-latest"})

    assert (refused.status, refused.error["code"]) == (400, "unsupported_parameter")
    assert refused.error["param"] == "moderation"
    assert "'moderation'" in refused.error["message"]
    assert here.upstream.requests == []
    assert (await here.client.create(moderation=None))["status"] == "completed"


async def test_a_deleted_link_of_a_chain_does_not_tear_it(serve: Serve) -> None:
    here = await serve()
    first = await here.client.create(input="one")
    second = await here.client.create(input="two", previous_response_id=first["id"])
    await here.client.request("DELETE", f"/v1/responses/{first['id']}")

    await here.client.create(input="three", previous_response_id=second["id"])

    assert len(here.upstream.requests[-1].items) == 5


async def test_a_stored_stream_is_the_response_that_is_retrieved(serve: Serve) -> None:
    here = await serve([[[ReasoningDelta("Hm")], [TextDelta("Hi")], [CallDelta(0, "call_1", "look", "{}")]]])
    events = await here.client.stream()

    assert (await here.client.get(f"/v1/responses/{events[0]['response']['id']}")).json == events[-1]["response"]


async def test_unstored_responses_are_not_found(serve: Serve) -> None:
    here = await serve()
    made = await here.client.create(store=False)

    assert (await here.client.get(f"/v1/responses/{made['id']}")).status == 404
    assert (await here.client.refused(previous_response_id=made["id"])).status == 400


async def test_a_background_response_is_polled(serve: Serve) -> None:
    gate = asyncio.Event()
    here = await serve([[[TextDelta("Hi")], gate]])
    made = await here.client.create(background=True)
    path = f"/v1/responses/{made['id']}"
    async with here.client.connected() as connection:
        seen = (await connection.request("GET", path)).json["status"]
        gate.set()
        await here.idle()
        done = (await connection.request("GET", path)).json

    assert made["status"] == "queued"
    assert seen in ("queued", "in_progress")
    assert done["status"] == "completed"


async def test_what_cannot_be_streamed_again(serve: Serve) -> None:
    here = await serve()
    foreground = await here.client.create()
    silent = await here.client.create(background=True)
    await here.idle()
    told = []
    for made in (foreground, silent):
        reply = await here.client.get(f"/v1/responses/{made['id']}?stream=true")
        told.append((reply.status, reply.error["param"], reply.error["message"]))

    assert told == [
        (400, "stream", "This response cannot be streamed because it was not created with background=true."),
        (400, "stream", "This response cannot be streamed because it was not created with stream=true."),
    ]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("stream=maybe", "stream"),
        ("starting_after=1", "starting_after"),
        ("stream=true&starting_after=x", "starting_after"),
        ("stream=true&starting_after=--5", "starting_after"),
        ("stream=true&starting_after=99999999999999999999999", "starting_after"),
        ("include[]=x", "include[0]"),
    ],
)
async def test_odd_questions_about_a_response(serve: Serve, query: str, param: str) -> None:
    here = await serve()
    made = await here.client.create(background=True, stream=False)
    reply = await here.client.get(f"/v1/responses/{made['id']}?{query}")

    assert (reply.status, reply.error["param"]) == (400, param)


# --- Input items ---


async def items(client: Client, response: str, query: str = "") -> Json:
    reply = await client.get(f"/v1/responses/{response}/input_items{query}")
    assert reply.status == 200, reply.body
    return reply.json


async def test_input_items_hold_the_whole_chain_newest_first(serve: Serve) -> None:
    here = await serve()
    first = await here.client.create(input="one")
    second = await here.client.create(input="two", previous_response_id=first["id"])
    listed = await items(here.client, second["id"])

    texts = [item["content"][0]["text"] for item in listed["data"]]
    assert texts == ["two", "You said: one", "one"]
    assert (listed["first_id"], listed["last_id"]) == (listed["data"][0]["id"], listed["data"][-1]["id"])
    assert listed["has_more"] is False


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_paging_visits_every_item_once(serve: Serve, order: str) -> None:
    here = await serve()
    asked_items = [{"role": "user", "content": str(number)} for number in range(7)]
    made = await here.client.create(input=asked_items)
    texts: list[str] = []
    query = f"?limit=3&order={order}"
    while True:
        page = await items(here.client, made["id"], query)
        texts += [item["content"][0]["text"] for item in page["data"]]
        if not page["has_more"]:
            break
        query = f"?limit=3&order={order}&after={page['last_id']}"
    before = await items(here.client, made["id"], f"?order={order}&before={page['first_id']}")

    wanted = [str(number) for number in range(7)]
    assert texts == (wanted if order == "asc" else wanted[::-1])
    assert len(before["data"]) == 6


@pytest.mark.parametrize(
    "query", ["?limit=0", "?limit=101", "?order=up", "?after=item_x", "?before=item_x", "?include=x"]
)
async def test_pages_that_cannot_be(serve: Serve, query: str) -> None:
    here = await serve()
    made = await here.client.create()
    reply = await here.client.get(f"/v1/responses/{made['id']}/input_items{query}")

    assert reply.status == 400
    assert (reply.error["param"] or "").partition("[")[0] == query[1:].partition("=")[0]


async def test_every_form_of_input_is_listed_in_the_official_shape(serve: Serve) -> None:
    here = await serve()
    image = "data:image/png;base64,iVBORw0KGgo="
    made = await here.client.create(
        input=[
            {"role": "system", "content": "a"},
            {"role": "developer", "content": [{"type": "input_text", "text": "b"}]},
            {"role": "user", "content": [{"type": "input_image", "image_url": image}]},
            {"role": "assistant", "content": "c", "phase": "commentary"},
            {"type": "reasoning", "encrypted_content": "gAAA"},
            {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "call_1", "output": [{"type": "input_text", "text": "d"}]},
            {"role": "user", "content": "e"},
        ]
    )

    assert len((await items(here.client, made["id"]))["data"]) == 8


async def test_what_nobody_knows_in_an_item_comes_back_to_the_byte_and_reaches_the_model(serve: Serve) -> None:
    here = await serve()
    odd = rb'"odd":{"a":[1.0,1e5,"\u00e9\/",12345678901234567890123],"b":null}'
    body = b'{"model":"demo","input":[{"role":"user","content":"Hi",%b}]}' % odd
    made = (await here.client.post("/v1/responses", body)).json
    listed = await here.client.get(f"/v1/responses/{made['id']}/input_items")
    await here.client.create(previous_response_id=made["id"])

    assert odd in listed.body
    assert odd in here.upstream.requests[0].items[0].body
    assert odd in here.upstream.requests[1].items[0].body


async def test_a_listed_item_can_be_referred_to(serve: Serve) -> None:
    here = await serve()
    made = await here.client.create(input="one")
    said = made["output"][0]["id"]
    await here.client.create(input=[{"type": "item_reference", "id": said}, {"role": "user", "content": "two"}])

    assert here.upstream.requests[-1].items[0].view.id == said


# --- Projects ---


async def test_projects_never_meet(serve: Serve) -> None:
    here = await serve(api_keys=["one=sk-one-0123456789", "two=sk-two-0123456789"])
    mine, other = here.client_of("sk-one-0123456789"), here.client_of("sk-two-0123456789")
    made = await mine.create(input="secret of one")
    streamed = await mine.stream(background=True, input="secret of one")
    names = [made["id"], streamed[0]["response"]["id"]]

    for name in names:
        path = f"/v1/responses/{name}"
        calls = [
            ("GET", path),
            ("GET", f"{path}?stream=true"),
            ("GET", f"{path}/input_items"),
            ("POST", f"{path}/cancel"),
            ("DELETE", path),
        ]
        for method, target in calls:
            reply = await other.request(method, target)
            assert (reply.status, reply.error["message"]) == (404, f"Response with id '{name}' not found.")
        refused = await other.refused(previous_response_id=name)
        assert (refused.status, refused.error["code"]) == (400, "previous_response_not_found")
    for item in (made["output"][0]["id"], (await items(mine, made["id"]))["data"][0]["id"]):
        refused = await other.refused(input=[{"id": item}])
        assert (refused.status, refused.error["param"]) == (404, "input")
    for name in names:
        assert (await mine.get(f"/v1/responses/{name}")).status == 200


async def test_a_run_of_another_project_cannot_be_cancelled(serve: Serve) -> None:
    here = await serve([[asyncio.Event()]], api_keys=["one=sk-one-0123456789", "two=sk-two-0123456789"])
    mine, other = here.client_of("sk-one-0123456789"), here.client_of("sk-two-0123456789")
    made = await mine.create(background=True)
    path = f"/v1/responses/{made['id']}"

    assert (await other.post(f"{path}/cancel")).status == 404
    assert (await other.request("DELETE", path)).status == 404
    assert (await mine.request("DELETE", path)).error["message"] == "Cannot delete an in-flight response."
    assert (await mine.post(f"{path}/cancel")).json["status"] == "cancelled"


# --- What is refused ---


@pytest.mark.parametrize(
    ("added", "status", "code", "param"),
    [
        ({"model": "nobody"}, 404, "model_not_found", "model"),
        ({"model": None}, 400, "missing_required_parameter", "model"),
        ({"temperature": 3}, 400, "decimal_above_max_value", "temperature"),
        ({"previous_response_id": "resp_x"}, 400, "previous_response_not_found", "previous_response_id"),
        ({"input": [{"id": "msg_x"}]}, 404, None, "input"),
        ({"tools": [{"type": "web_search"}]}, 400, "unsupported_value", "tools[0].type"),
        ({"seed": 1}, 400, "unsupported_parameter", "seed"),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]}, 400, None, "input"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_wrong_is_an_http_error_streamed_or_not(
    serve: Serve, added: Json, status: int, code: str | None, param: str, stream: bool
) -> None:
    reply = await (await serve()).client.refused(stream=stream, **added)

    assert (reply.status, reply.error["code"], reply.error["param"]) == (status, code, param)


async def test_a_default_model_serves_those_who_name_none(serve: Serve) -> None:
    here = await serve(default_model="demo")

    assert (await here.client.create(model=None))["model"] == "demo"


async def test_nobody_else_waits_for_a_long_request(serve: Serve) -> None:
    gate = asyncio.Event()
    here = await serve(lambda asked: [gate] if "slow" in asked.items[0].body.decode() else [[TextDelta("Hi")]])
    slow = asyncio.ensure_future(here.client.create(input="slow"))
    quick: list[Any] = [await here.client.create() for _ in range(3)]
    gate.set()

    assert all(made["status"] == "completed" for made in [*quick, await slow])


async def test_many_at_once(serve: Serve) -> None:
    here = await serve()
    made = await asyncio.gather(*(here.client.create(input=str(number)) for number in range(50)))
    streamed = await asyncio.gather(*(here.client.stream(input=str(number)) for number in range(50)))

    assert [one["output"][0]["content"][0]["text"] for one in made] == [f"You said: {number}" for number in range(50)]
    assert len({events[0]["response"]["id"] for events in streamed}) == 50


async def test_the_body_of_a_request_is_not_needed_twice(serve: Serve) -> None:
    """A request that asks whether it may send its body is told so."""
    here = await serve()
    async with here.client.connected() as connection:
        await connection.send("POST", "/v1/responses", asked(), {"expect": "100-continue"})

        assert (await connection.reply("POST", "/v1/responses")).status == 200


async def test_what_is_to_prewarm_asks_no_model_and_can_be_continued(serve: Serve) -> None:
    here = await serve()
    reply = await here.client.post("/v1/responses", asked(input="one", prompt_cache_options={"prewarm": True}))
    warm = reply.json

    assert (warm["status"], warm["output"], warm["usage"]["total_tokens"]) == ("completed", [], 0)
    assert "x-antiphon-warnings" not in reply.headers
    assert here.upstream.requests == []
    await here.client.create(previous_response_id=warm["id"], input="two")
    assert len(here.upstream.requests[0].items) == 2


async def test_what_else_is_said_of_a_cache_is_named(serve: Serve) -> None:
    here = await serve()
    for options, length in [({"prewarm": True, "ttl": "30m"}, 0), ({"prewarm": False}, 1), ({"mode": "implicit"}, 1)]:
        reply = await here.client.post("/v1/responses", asked(prompt_cache_options=options))
        assert (reply.headers["x-antiphon-warnings"], len(reply.json["output"])) == ("prompt_cache_options", length)
    for wrong, param in [({"prewarm": 1}, "prompt_cache_options.prewarm"), ("x", "prompt_cache_options")]:
        refused = await here.client.refused(prompt_cache_options=wrong)
        assert (refused.status, refused.error["param"]) == (400, param)
