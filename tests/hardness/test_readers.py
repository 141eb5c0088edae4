"""Clients that read slowly, and a thousand that read the same."""

from __future__ import annotations

import asyncio
import json

from tests.hardness.clients import SMALL_BUFFER, Client, Head, Reply, create, head_of
from tests.hardness.conftest import Stand, Start
from tests.hardness.model_server import PIECE

#: More than the kernel keeps on the way from the model to the client.
PIECES = 2000
IN_BACKGROUND = 500
SLOW = 5
BUFFER = 256 << 10
READERS, SLOW_AMONG_THEM = 1000, 30
WORDS = 40


def text_of(reply: Reply) -> str:
    return "".join(event["delta"] for event in reply.events if event["type"] == "response.output_text.delta")


def numbers_of(reply: Reply) -> list[int]:
    return [event["sequence_number"] for event in reply.events]


async def test_who_reads_a_live_stream_slowly_holds_back_its_model_and_nobody_else(start: Start) -> None:
    stand = await start("--run-buffer-bytes", str(BUFFER))
    assert (await stand.visitors.ask(create(model="flood-1", stream=True))).status == 200
    before = stand.megabytes
    slow = [await stand.visitors.come(buffer=SMALL_BUFFER) for _ in range(SLOW)]
    heads = []
    for client in slow:
        await client.say(create(model=f"flood-{PIECES}", stream=True))
        heads.append(await client.head())
    for _ in range(5):
        quick = await stand.visitors.ask(create(model="flood-20", stream=True))
        assert text_of(quick) == PIECE * 20
    written = await _standing_still(stand)

    assert stand.models.open == SLOW
    assert written < SLOW * len(PIECE) * PIECES * 0.9, "the models were not held back"
    assert stand.megabytes - before < 150
    assert text_of(await slow[0].reply(heads[0])) == PIECE * PIECES
    for client in slow[1:]:
        client.leave()
    await stand.models.until_open(0)


async def test_who_reads_a_background_stream_slowly_holds_back_nobody(start: Start) -> None:
    """The run goes on to its end, and the reader gets all of it from the log."""
    stand = await start("--run-buffer-bytes", str(BUFFER))
    assert (await stand.visitors.ask(create(model="flood-1", stream=True))).status == 200
    before = stand.megabytes
    slow = [await stand.visitors.come(buffer=SMALL_BUFFER) for _ in range(SLOW)]
    heads = []
    for client in slow:
        await client.say(create(model=f"flood-{IN_BACKGROUND}", stream=True, background=True))
        heads.append(await client.head())
    await stand.models.until_open(0)

    assert stand.megabytes - before < 250
    replies = await asyncio.gather(*(client.reply(head) for client, head in zip(slow, heads, strict=True)))
    for reply in replies:
        assert text_of(reply) == PIECE * IN_BACKGROUND
        numbers = numbers_of(reply)
        assert numbers == list(range(len(numbers)))


async def test_a_thousand_readers_of_one_run_see_the_same(start: Start) -> None:
    """Some come while it speaks, and some do not read until it is over."""
    stand = await start("--keepalive-seconds", "600")
    first = await stand.visitors.come()
    await first.say(create(model=f"tick-{WORDS}", background=True, stream=True))
    head = await first.head()
    begun_with = await first.chunk()
    response = json.loads(begun_with.partition(b"data: ")[2].partition(b"\n")[0])["response"]["id"]
    before = stand.megabytes
    slow = [await _following(stand, response, buffer=SMALL_BUFFER) for _ in range(SLOW_AMONG_THEM)]
    rest = asyncio.ensure_future(first.reply(head))
    reading = []
    for _ in range(WORDS):
        for _ in range(READERS // WORDS):
            client, begun = await _following(stand, response)
            reading.append(asyncio.ensure_future(client.reply(begun)))
        await stand.models.tick()
    replies = await asyncio.gather(*reading, *(client.reply(begun) for client, begun in slow))

    assert len(replies) == READERS + SLOW_AMONG_THEM
    assert {reply.body for reply in replies} == {begun_with + (await rest).body}
    assert text_of(replies[0]) == "".join(f"{number} " for number in range(WORDS))
    assert stand.megabytes - before < 100


async def _following(stand: Stand, response: str, *, buffer: int | None = None) -> tuple[Client, Head]:
    client = await stand.visitors.come(buffer=buffer)
    await client.say(head_of(f"/v1/responses/{response}?stream=true", 0, "GET"))
    return client, await client.head()


async def _standing_still(stand: Stand) -> int:
    """What the models have said once they say no more; others are served meanwhile."""
    before, still = -1, 0
    while still < 20:
        await stand.is_well()
        still = still + 1 if stand.models.written == before else 0
        before = stand.models.written
    return before
