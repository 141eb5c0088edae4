"""`Idempotency-Key` over real sockets: sent twice, at once, by another body, by a client that has left."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.web.client import Client, Json, Reply, asked, text_of
from tests.web.conftest import Serve
from tests.web.test_streams import OPTIONS, small_window
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from antiphon.engine.deltas import CallDelta, ReasoningDelta, TextDelta
from antiphon.engine.ports.upstreams import ModelRequest, UpstreamError
from antiphon.upstreams.scripted import Accept, Script
from antiphon.web.transport import PushProtocol

HI: Script = [[ReasoningDelta("Hm.")], [TextDelta("Hi")], [TextDelta(" there")], [CallDelta(0, "c", "f", "{}")]]


def once(client: Client, key: str = "k", **parameters: Any) -> Any:
    return client.post("/v1/responses", asked(**parameters), idempotency_key=key)


def keyed(client: Client) -> Client:
    return Client(client.port, {"idempotency-key": "k"})


async def test_a_reply_is_given_again_byte_by_byte(serve: Serve) -> None:
    here = await serve([HI])

    first, second = [await once(here.client) for _ in range(2)]

    assert (first.status, second.body) == (200, first.body)
    assert len(here.upstream.requests) == 1
    assert (await here.client.get(f"/v1/responses/{first.json['id']}")).body == first.body


async def test_a_stream_is_told_again(serve: Serve) -> None:
    here = await serve([HI])
    client = keyed(here.client)

    first, second = [await client.stream() for _ in range(2)]

    assert second[-1]["response"] == first[-1]["response"]
    assert text_of(second) == text_of(first) == "Hi there"
    assert _types(second) == [kind for kind, before in zip(_types(first), [None, *_types(first)], strict=False)
                              if kind != before]  # fmt: skip
    assert len(here.upstream.requests) == 1


async def test_a_stream_with_a_compaction_is_told_again(serve: Serve) -> None:
    here = await serve([[[TextDelta("A summary.")]]])
    client = keyed(here.client)
    asks = [{"role": "user", "content": "Hello"}, {"type": "compaction_trigger"}]

    first, second = [await client.stream(input=asks) for _ in range(2)]

    assert second == first


async def test_a_stream_is_padded_when_it_is_told_again(serve: Serve) -> None:
    here = await serve([HI])
    client = keyed(here.client)

    for _ in range(2):
        events = await client.stream(stream_options={"include_obfuscation": True})
        assert all("obfuscation" in event for event in events if event["type"].endswith("text.delta"))


async def test_two_at_once_are_one_run(serve: Serve) -> None:
    gate, begun = asyncio.Event(), asyncio.Event()

    def script(_: ModelRequest) -> Script:
        begun.set()
        return [gate, *HI]

    here = await serve(script)
    both = [asyncio.ensure_future(once(here.client)) for _ in range(2)]
    await begun.wait()
    gate.set()

    replies: list[Reply] = await asyncio.gather(*both)
    assert replies[0].body == replies[1].body
    assert len(here.upstream.requests) == 1


@pytest.mark.parametrize("protocol", [PushProtocol, HttpToolsProtocol])
async def test_whoever_joins_a_stream_has_all_of_it_though_the_first_leaves(
    serve: Serve, protocol: type[asyncio.Protocol]
) -> None:
    gate = asyncio.Event()
    here = await serve([[[TextDelta("Once")], gate, [TextDelta(" upon")]]], protocol=protocol)
    client = keyed(here.client)
    async with client.streaming() as first:
        await first.until("output_text.delta")
        async with client.streaming() as second:
            await second.until("output_text.delta")
            first.connection.leave()
            await here.client.get("/health")
            gate.set()
            assert await second.text() == "Once upon"
            assert [event["sequence_number"] for event in second.events] == list(range(len(second.events)))
    assert here.upstream.cancelled == 0


async def test_when_the_last_has_left_the_next_runs_anew(serve: Serve) -> None:
    never = asyncio.Event()
    here = await serve([[[TextDelta("Once")], never], HI])
    client = keyed(here.client)
    async with client.streaming() as first:
        await first.until("output_text.delta")
        first.connection.leave()

    assert text_of(await client.stream()) == "Hi there"
    assert (here.upstream.cancelled, len(here.upstream.requests)) == (1, 2)


@pytest.mark.parametrize("leaves", [False, True])
async def test_a_reader_that_is_full_does_not_keep_the_other_waiting(serve: Serve, leaves: bool) -> None:
    gate = asyncio.Event()
    piece = [TextDelta("x" * 100_000)]
    here = await serve([[piece, gate, *[piece] * 20]], client_stall_seconds=60, **OPTIONS)
    client = keyed(here.client)
    made = small_window()
    await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", here.port))
    async with (
        client.streaming() as quick,
        client.followed("POST", "/v1/responses", asked(stream=True), sock=made) as slow,
    ):
        await quick.until("output_text.delta")
        gate.set()
        if leaves:
            await here.until(lambda: "pause" in here.upstream.pressure)  # by both: nobody reads
            slow.connection.leave()
        assert len(await quick.text()) == 2_100_000
        if not leaves:
            assert len(await slow.text()) == 2_100_000
    assert len(here.upstream.requests) == 1


@pytest.mark.parametrize("stream", [True, False])
async def test_a_background_response_is_begun_once(serve: Serve, stream: bool) -> None:
    here = await serve([HI])
    client = keyed(here.client)
    if stream:
        first, second = [await client.stream(background=True) for _ in range(2)]
        assert first == second
    else:
        ids = [(await client.create(background=True))["id"] for _ in range(3)]
        assert len(set(ids)) == 1
    assert len(here.upstream.requests) == 1


async def test_another_body_is_refused_for_good(serve: Serve) -> None:
    here = await serve([HI])
    assert (await once(here.client)).status == 200

    refused: Reply = await once(here.client, input="Other")

    assert (refused.status, refused.error["code"]) == (422, "idempotency_key_reused")
    assert refused.error["param"] == "Idempotency-Key"
    assert refused.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("key", ["", "x" * 256])
async def test_what_is_no_key_is_refused(serve: Serve, key: str) -> None:
    refused: Reply = await once((await serve([HI])).client, key)

    assert (refused.status, refused.error["param"]) == (400, "Idempotency-Key")


async def test_the_longest_key_is_taken(serve: Serve) -> None:
    assert (await once((await serve([HI])).client, "é" * 255)).status == 200


async def test_what_is_not_stored_cannot_have_a_key(serve: Serve) -> None:
    refused: Reply = await once((await serve([HI])).client, store=False)

    assert (refused.status, refused.error["param"]) == (400, "store")


async def test_a_refused_request_may_be_mended(serve: Serve) -> None:
    here = await serve([[UpstreamError("No.", status=400)], HI])
    assert (await once(here.client, previous_response_id="resp_0")).status == 400
    assert (await once(here.client, input="Other")).status == 400

    assert (await once(here.client)).status == 200


async def test_a_failure_is_tried_anew(serve: Serve) -> None:
    here = await serve([[Accept(), UpstreamError("Gone.")], HI])
    assert (await once(here.client)).status == 502

    assert (await once(here.client)).status == 200


async def test_projects_do_not_meet(serve: Serve) -> None:
    here = await serve([HI, HI], api_keys=["one=" + "a" * 40, "two=" + "b" * 40])

    replies = [
        await here.client.post("/v1/responses", asked(), idempotency_key="k", authorization=f"Bearer {key * 40}")
        for key in "ab"
    ]

    assert len({reply.json["id"] for reply in replies}) == 2


def _types(events: list[Json]) -> list[str]:
    return [event["type"] for event in events]
