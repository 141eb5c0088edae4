"""Conversations that several processes work in at once, over PostgreSQL."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from tests.stores.talking import LOCKED, LONG, Talk
from tests.stores.world import World, item, items, within

from antiphon.engine.ports.stores import Hold
from antiphon.protocol.errors import ApiError


async def test_a_hold_is_seen_by_all(worlds: list[World]) -> None:
    one, two, three = (Talk(world.store) for world in worlds)
    await one.create("conv_1", "a")
    context = await one.enter("conv_1", "r1")

    assert await two.refused(two.enter("conv_1", "r2")) == LOCKED
    assert await three.refused(three.add("conv_1", "b")) == LOCKED
    await one.store.save(one.record("conv_1", "r1", context.parent))
    one.world.release(context)
    await two.say("conv_1", "r2")
    assert await three.listed("conv_1") == ["a", "r1?", "r1!", "r2?", "r2!"]


async def test_a_process_that_renews_nothing_loses_its_holds(worlds: list[World]) -> None:
    one, two, _ = (Talk(world.store) for world in worlds)
    await one.create("conv_1")
    await one.enter("conv_1", "gone", 0.3)
    hold = Hold("p", "conv_1", "next")
    async with asyncio.timeout(20):
        while True:
            try:
                context = await two.store.conversations.enter(hold, LONG)
                break
            except ApiError as error:
                if error.code != "conversation_locked":
                    raise
    await two.store.save(two.record("conv_1", "next", context.parent))
    assert await one.seen("conv_1") == ["next?", "next!"]


async def test_many_at_once_keep_every_conversation_in_order(worlds: list[World]) -> None:
    """Turns, background runs, chains, items and removals from three processes: nothing is lost, mixed or left over."""
    talks = [Talk(world.store) for world in worlds]
    names = ["conv_1", "conv_2"]
    for name in names:
        await talks[0].create(name)
    said: dict[str, list[str]] = {name: [] for name in names}
    responses: list[str] = []

    async def work(number: int) -> None:
        chance = random.Random(number)
        talk = talks[number % 3]
        for step in range(12):
            name, turn = chance.choice(names), f"{number}-{step}"
            try:
                await chance.choice([_turn, _turn, _run, _add])(talk, name, turn, said, responses)
            except ApiError as error:
                if error.code != "conversation_locked":
                    raise

    await within(asyncio.gather(*(work(number) for number in range(9))))
    for name in names:
        listed = await talks[0].listed(name)
        assert listed is not None
        assert sorted(listed) == sorted(said[name])
        assert await talks[1].seen(name) == listed
        for response in responses:
            inputs = await talks[2].world.inputs(response)
            if inputs and inputs[-1] in listed:
                assert inputs == listed[: len(inputs)], response

    async def clear(talk: Talk, doomed: list[str]) -> None:
        for response in doomed:
            assert await talk.store.delete("p", response)

    async def prune(name: str) -> None:
        for id in said[name][::2]:
            assert await talks[1].store.conversations.remove("p", name, id)

    await within(asyncio.gather(clear(talks[0], responses[::2]), clear(talks[2], responses[1::2]), *map(prune, names)))
    everything = {id for ids in said.values() for id in ids}
    left = {id for ids in said.values() for id in ids[1::2]}
    assert await talks[0].world.alive(everything) == left
    for name in names:
        assert await talks[2].store.conversations.delete("p", name)
    assert await talks[0].world.alive(everything) == set()


async def _turn(talk: Talk, name: str, turn: str, said: dict[str, list[str]], responses: list[str]) -> None:
    stored = turn[-1] not in "0369"
    await talk.say(name, turn, stored=stored)
    said[name] += [f"{turn}?", f"{turn}!"]
    responses += [turn] if stored else []


async def _run(talk: Talk, name: str, turn: str, said: dict[str, list[str]], responses: list[str]) -> None:
    begun = await talk.begin(name, turn)
    assert await talk.world.finish(begun)
    said[name] += [f"{turn}?", f"{turn}!"]
    responses.append(turn)


async def _add(talk: Talk, name: str, turn: str, said: dict[str, list[str]], responses: list[str]) -> None:
    assert await talk.add(name, turn)
    said[name].append(turn)


async def test_two_that_let_the_last_hold_of_an_item_go_erase_it(worlds: list[World]) -> None:
    """Each sees the other's hold unless they wait for each other."""
    one, two, _ = (Talk(world.store) for world in worlds)
    for number in range(10):
        name, old = f"conv_{number}", f"old {number}"
        await one.create(name, old)
        await one.say(name, f"first {number}")
        await one.world.say(f"first {number}", turn=f"left {number}", input=[item("x")], output=[])
        await one.world.say(f"first {number}", turn=f"right {number}", input=items("y"), output=[])
        await one.store.conversations.remove("p", name, old)
        await one.store.delete("p", f"first {number}")
        assert await one.world.alive([old]) == {old}
        gone: list[Any] = [one.store.delete("p", f"left {number}"), two.store.delete("p", f"right {number}")]
        assert all(await asyncio.gather(*gone))
        assert await one.world.alive([old]) == set()
