"""`POST /v1/responses/compact`: its reply, what it refuses, and that nothing of it stays."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.web.client import Json, asked
from tests.web.conftest import Serve

from antiphon.engine.deltas import TextDelta
from antiphon.engine.ports.upstreams import Stop, UpstreamError

PATH = "/v1/responses/compact"
TALK: list[Json] = [{"role": "user", "content": "I am Ann."}, {"role": "assistant", "content": "Hello, Ann."}]


async def test_the_reply_is_the_users_words_and_one_sealed_item(serve: Serve) -> None:
    here = await serve(lambda _: [[TextDelta("The user is Ann.")], Stop("stop")])
    reply = await here.client.post(PATH, asked(input=TALK))

    assert reply.status == 200
    assert list(reply.json) == ["id", "object", "created_at", "output", "usage"]
    words, item = reply.json["output"]
    assert (words["role"], words["content"][0]["text"], words["status"]) == ("user", "I am Ann.", "completed")
    assert set(item) == {"id", "type", "encrypted_content"}
    assert "Ann" not in item["encrypted_content"]
    assert reply.json["usage"]["estimated"] is True


async def test_nothing_is_stored(serve: Serve) -> None:
    here = await serve()
    made = (await here.client.post(PATH, asked(input=TALK))).json

    again = await here.client.post("/v1/responses", asked(previous_response_id=made["id"]))
    assert (again.status, again.error["code"]) == (400, "previous_response_not_found")
    assert (await here.client.get(f"/v1/responses/{made['id']}")).status == 404


async def test_what_is_refused(serve: Serve) -> None:
    here = await serve()
    refusals: list[tuple[Json, str, str]] = [
        ({"input": "a"}, "missing_required_parameter", "model"),
        ({"model": "demo"}, "missing_required_parameter", "input"),
        (asked(conversation="conv_1"), "unsupported_parameter", "conversation"),
        (asked(previous_response_id="resp_none"), "previous_response_not_found", "previous_response_id"),
    ]
    for body, code, param in refusals:
        reply = await here.client.post(PATH, body)
        assert (reply.status, reply.error["code"], reply.error["param"]) == (400, code, param)


async def test_other_members_of_a_create_are_named(serve: Serve) -> None:
    here = await serve()
    reply = await here.client.post(PATH, asked(input=TALK, parallel_tool_calls=True, tools=[]))

    assert reply.status == 200
    assert reply.headers["x-antiphon-warnings"] == "parallel_tool_calls, tools"


async def test_what_another_provider_has_compacted_is_named_as_it_is_left_out(serve: Serve) -> None:
    here = await serve()
    foreign = {"type": "compaction", "encrypted_content": "gAAAAABpM0Yj"}
    reply = await here.client.post(PATH, asked(input=[*TALK, foreign, {"role": "user", "content": "So?"}]))

    assert [item["type"] for item in reply.json["output"]] == ["message", "message", "compaction"]
    assert reply.json["output"][-1]["encrypted_content"] != foreign["encrypted_content"]
    assert reply.headers["x-antiphon-warnings"] == "input[2]"
    again = await here.client.post(PATH, asked(input=[*reply.json["output"], *TALK]))
    assert (again.status, "x-antiphon-warnings" in again.headers) == (200, False)


async def test_a_failure_of_the_model_is_an_error(serve: Serve) -> None:
    here = await serve(lambda _: [UpstreamError("Busy.", status=429, code="rate_limit_exceeded")])
    reply = await here.client.post(PATH, asked(input=TALK))

    assert (reply.status, reply.error["code"]) == (429, "rate_limit_exceeded")


async def test_a_client_that_leaves_ends_the_model_call(serve: Serve) -> None:
    begun = asyncio.Event()

    def script(_: Any) -> Any:
        begun.set()
        yield asyncio.Event()

    here = await serve(script)
    async with here.client.connected() as connection:
        await connection.send("POST", PATH, asked(input=TALK))
        async with asyncio.timeout(5):
            await begun.wait()
    async with asyncio.timeout(5):
        while not here.upstream.cancelled:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
