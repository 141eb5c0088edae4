"""Places and the line of those who wait for one: whose turn it is, who is turned away, who leaves.  In virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
from tests.upstreams.pools import World, failed, fails, says, unreachable

from antiphon.engine.ports.upstreams import UpstreamError


class Office(World):
    """A pool of one server that does one thing after another, each for a second."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(1, **{"max_concurrent": 1, **settings})
        self.servers[0].behaviour = says(lasts_seconds=1)
        self.order: list[str] = []

    async def come(self, *who: str, **call: Any) -> list[asyncio.Task[None]]:
        """`project` or `project/tier`, one behind the other."""
        tasks = []
        for one in who:
            tasks.append(asyncio.get_running_loop().create_task(self._be_served(one, **call)))
            await asyncio.sleep(0)
        return tasks

    async def _be_served(self, who: str, **call: Any) -> None:
        project, _, tier = who.partition("/")
        if tier:
            call["service_tier"] = tier
        await self.call(project=project, **call)
        self.order.append(who)


async def done(tasks: Iterable[asyncio.Task[None]]) -> None:
    await asyncio.gather(*tasks)


async def test_projects_take_turns_however_many_requests_they_have() -> None:
    office = Office()

    await done([*await office.come("a", *"aaaaaa"), *await office.come("b", "c", "b", "b")])

    assert "".join(office.order) == "aabcababaaa"


async def test_a_tier_is_served_oftener_but_none_never() -> None:
    office = Office()
    first = await office.come("a")
    await done([*first, *await office.come(*["a/flex"] * 3, *["a"] * 12, *["a/priority"] * 30)])
    served = [who.partition("/")[2] or "default" for who in office.order[1:]]

    assert served[:4] == ["priority"] * 4
    assert served[:20].count("priority") >= 15
    assert served[:22].count("flex") == 1
    assert served.index("default") < served.index("flex")


async def test_the_tier_that_a_project_claims_takes_nothing_from_others() -> None:
    office = Office()
    first = await office.come("x")
    await done([*first, *await office.come(*["loud/priority"] * 5, *["quiet/flex"] * 5)])

    assert [who[0] for who in office.order] == list("xlqlqlqlqlq")


async def test_a_full_line_is_429_with_the_time_that_it_takes() -> None:
    office = Office(queue_max=5, max_concurrent=2)
    await done(await office.come("a", "a"))
    waiting = await office.come(*"aaaaaaa")
    began = asyncio.get_running_loop().time()

    error = await office.failure(project="b")

    assert (error.status, error.code) == (429, "rate_limit_exceeded")
    assert error.retry_after_seconds == 3  # five of a second each, two at once
    assert asyncio.get_running_loop().time() == began
    await done(waiting)
    assert await office.call() == "1"


async def test_a_line_without_places_turns_everybody_away() -> None:
    office = Office(queue_max=0)
    waiting = await office.come("a")

    assert (await office.failure()).status == 429
    await done(waiting)


async def test_who_waits_too_long_hears_it_and_gives_the_place_in_the_line_back() -> None:
    office = Office(queue_max=1, queue_seconds=5)
    office.servers[0].behaviour = says(lasts_seconds=20)
    first = await office.come("a")
    began = asyncio.get_running_loop().time()

    error = await office.failure()

    assert (error.status, error.code) == (429, "rate_limit_exceeded")
    assert asyncio.get_running_loop().time() == began + 5
    assert office.pool.condition().waiting == 0
    await done(first)


async def test_who_cannot_come_again_waits_however_long_and_many_there_are() -> None:
    office = Office(queue_max=1, queue_seconds=2)
    waiting = await office.come(*"aaaaaaaaaa", patient=True)
    assert office.pool.condition().waiting == 9
    counted = await office.come("a")
    assert office.pool.condition().waiting == 10
    assert (await office.failure()).status == 429
    with pytest.raises(UpstreamError):
        await counted[0]

    await done(waiting)

    assert office.servers[0].most == 1


async def test_who_leaves_gives_its_place_back() -> None:
    office = Office()
    first = await office.come("a")
    b, c, d = await office.come("b", "c", "d")
    c.cancel()
    await asyncio.sleep(0)
    assert office.pool.condition().waiting == 2
    first[0].cancel()
    await done([b, d])

    assert office.order == ["b", "d"]
    assert office.servers[0].active == 0


async def test_who_leaves_in_the_moment_of_its_turn_loses_no_place() -> None:
    office = Office()
    first = await office.come("a")
    b, c = await office.come("b", "c")

    def leave(_: object) -> None:
        b.cancel()  # its place is given to it in this very turn of the loop

    first[0].add_done_callback(leave)
    await done([*first, c])

    assert b.cancelled()
    assert office.order == ["a", "c"]
    assert office.pool.condition().active == 0


async def test_a_call_that_another_server_failed_goes_before_those_who_were_not_asked_yet() -> None:
    world = World(2, max_concurrent=1, queue_max=1)
    sick = world.preferred()
    other = next(server for server in world.servers if server is not sick)
    other.behaviour, sick.behaviour = says(lasts_seconds=10), fails(failed(500), seconds=1)
    order: list[str] = []

    async def call(name: str) -> None:
        await world.call()
        order.append(name)

    tasks = []
    for name in ("fails over", "fills", "waits"):
        tasks.append(asyncio.get_running_loop().create_task(call(name)))
        await asyncio.sleep(0)
    assert (await world.failure()).status == 429
    await asyncio.sleep(1.5)
    sick.behaviour = says(lasts_seconds=1000)
    await asyncio.gather(*tasks)

    assert order[:2] == ["fills", "fails over"]
    assert max(server.most for server in world.servers) == 1


async def test_who_waits_for_servers_that_are_all_lost_hears_it_at_once() -> None:
    world = World(1, max_concurrent=1, breaker_failures=1, retries=0)
    world.servers[0].behaviour, world.servers[0].well = fails(unreachable, seconds=1), False
    began = asyncio.get_running_loop().time()

    failures = await asyncio.gather(*(world.failure() for _ in range(5)))

    assert sorted(error.status for error in failures) == [502, 503, 503, 503, 503]
    assert asyncio.get_running_loop().time() == began + 1
    assert world.servers[0].calls == 1
    await world.pool.close()


async def test_who_waits_is_served_when_a_server_comes_back() -> None:
    world = World(2, max_concurrent=1, breaker_failures=1)
    sick = world.preferred()
    other = next(server for server in world.servers if server is not sick)
    sick.behaviour, other.behaviour = fails(unreachable), says(lasts_seconds=100)
    began = asyncio.get_running_loop().time()
    first = asyncio.ensure_future(world.call())
    await asyncio.sleep(0.1)
    sick.behaviour = says()

    await world.call("another")

    assert asyncio.get_running_loop().time() - began < 3
    await first
    await world.pool.close()


async def test_who_waits_for_a_model_holds_up_nobody_who_wants_another() -> None:
    world = World(2, max_concurrent=1)
    world.servers[0].serves, world.servers[1].serves = ["m"], ["other"]
    await world.pool.models()
    world.servers[0].behaviour = says(lasts_seconds=10)
    waiting = [asyncio.ensure_future(world.call(model="m")) for _ in range(3)]
    await asyncio.sleep(0)
    began = asyncio.get_running_loop().time()

    assert await world.call(model="other") == "2"
    assert asyncio.get_running_loop().time() == began
    await asyncio.gather(*waiting)
