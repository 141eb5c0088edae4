"""Clients that send slowly, too much, nothing at all, or a very long history, and those that leave."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.hardness.clients import Reply, create, head_of
from tests.hardness.conftest import Stand, Start

DRIPPING, ROUNDS = 100, 8
SILENT = 1000
LIMIT = 32 << 20
#: Items of a history, and how many of them one request may bring.
HISTORY, AT_ONCE = 100_000, 20_000
LEAVING, TIMES = 300, 4

SHORT = {"model": "flood-1", "store": False}


async def test_who_sends_byte_by_byte_keeps_nobody_waiting(start: Start) -> None:
    stand = await start()
    whole = create(**SHORT)
    begun = whole.index(b"\r\n\r\n") + 10
    of_heads = [await stand.visitors.come() for _ in range(DRIPPING)]
    of_bodies = [await stand.visitors.come() for _ in range(DRIPPING)]
    for client in of_bodies:
        await client.say(whole[:begun])
    before = stand.megabytes
    for number in range(ROUNDS):
        for client in of_heads:
            await client.say(whole[number : number + 1])
        for client in of_bodies:
            await client.say(whole[begun + number : begun + number + 1])
        assert (await stand.visitors.ask(whole)).status == 200
    assert stand.megabytes - before < 30

    for client in of_heads:
        await client.say(whole[ROUNDS:])
    for client in of_bodies:
        await client.say(whole[begun + ROUNDS :])
    assert {(await client.reply()).status for client in (*of_heads, *of_bodies)} == {200}


async def test_a_thousand_connections_that_say_nothing(start: Start) -> None:
    stand = await start()
    assert (await stand.visitors.ask(create(**SHORT))).status == 200
    before = stand.megabytes
    for _ in range(SILENT):
        await stand.visitors.come()
    for _ in range(5):
        assert (await stand.visitors.ask(create(**SHORT))).status == 200
    assert stand.megabytes - before < 40


async def test_bodies_at_the_limit_and_above(start: Start) -> None:
    stand = await start("--body-max-bytes", str(LIMIT))
    fitting = _large(LIMIT)
    reply = await _answered_beside_others(stand, head_of("/v1/responses", LIMIT) + fitting)
    assert reply.status == 200
    before = stand.megabytes
    replies = await asyncio.gather(
        *(stand.visitors.ask(head_of("/v1/responses", LIMIT) + fitting) for _ in range(2)),
        _refused(stand, head_of("/v1/responses", LIMIT + 1)),
        _refused(stand, head_of("/v1/responses", None) + b"%x\r\n" % (LIMIT + 1) + fitting + b" "),
    )
    assert [reply.status for reply in replies] == [200, 200, 413, 413]
    assert stand.megabytes - before < 300
    await stand.models.until_open(0)


def _large(size: int) -> bytes:
    """A request of exactly so many bytes."""
    filler = b'{"role":"user","content":"%b"}' % (b"x" * 1_000_000)
    head, tail = b'{"model":"flood-1","store":false,"input":[', b"]}"
    items = b",".join([filler] * ((size - len(head) - len(tail)) // (len(filler) + 1)))
    return (head + items + tail).ljust(size)


async def _refused(stand: Stand, data: bytes) -> Reply:
    """What is said to a body that is too large, of which the server need not take all."""
    client = await stand.visitors.come()
    saying = asyncio.ensure_future(client.say(data))
    reply = await client.reply()
    client.leave()
    await asyncio.gather(saying, return_exceptions=True)
    return reply


async def test_a_very_long_history_keeps_nobody_waiting(start: Start) -> None:
    stand = await start()
    everything = await stand.visitors.ask(create(input=_history(HISTORY), **SHORT))
    assert (everything.status, everything.json["error"]["param"]) == (400, "input")
    previous: dict[str, Any] = {}
    for _ in range(HISTORY // AT_ONCE):
        turn = await _answered_beside_others(stand, create(model="flood-1", input=_history(AT_ONCE), **previous))
        assert turn.status == 200, turn.body[:200]
        previous = {"previous_response_id": turn.json["id"]}
    before = stand.megabytes
    for _ in range(3):
        assert (await _answered_beside_others(stand, create(**SHORT, **previous))).status == 200
    assert stand.megabytes - before < 150


def _history(count: int) -> list[Any]:
    roles = ("user", "assistant")
    return [{"role": roles[number % 2], "content": f"Thing number {number}."} for number in range(count)]


async def _answered_beside_others(stand: Stand, request: bytes) -> Reply:
    """The reply to a large request, while which others are answered: many times before it is."""
    answering = asyncio.ensure_future(stand.visitors.ask(request))
    others = 0
    while not answering.done():
        await stand.is_well()
        others += 1
    assert others > 5
    return await answering


async def test_clients_that_leave_by_the_hundreds_leave_nothing_behind(start: Start) -> None:
    stand = await start()
    after: list[float] = []
    for number in range(TIMES):
        clients = [await stand.visitors.come() for _ in range(LEAVING)]
        for client in clients:
            await client.say(create(stream=number % 2 == 0))
        await stand.models.until_open(LEAVING)
        for client in clients:
            client.leave()
        await stand.models.until_open(0)
        assert (await stand.visitors.ask(create(**SHORT))).status == 200
        after.append(stand.megabytes)
    assert after[-1] - after[1] < 15, after
