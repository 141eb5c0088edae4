"""What holds of a pool whatever happens: drawn histories of calls, failures, departures and recoveries."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from tests.upstreams.pools import Behaviour, World, failed, fails, says, unreachable

from antiphon.engine.ports.upstreams import UpstreamError
from antiphon.upstreams.pool.line import Line, Waiter

STEPS = 150


def drawn(random: Random) -> Behaviour:
    seconds = random.choice([0.0, 0.3, 2.0])
    return random.choice(
        [
            says(lasts_seconds=seconds),
            says(after_seconds=seconds),
            fails(unreachable, seconds=seconds),
            fails(unreachable, after_words=True, seconds=seconds),
            fails(failed(500), seconds=seconds),
            fails(failed(429, retry_after_seconds=seconds), seconds=seconds),
            fails(failed(400), seconds=seconds),
        ]
    )


@pytest.mark.parametrize("seed", range(60))
async def test_never_too_many_at_once_and_no_place_is_lost(seed: int) -> None:
    random = Random(seed)
    limit = random.choice([1, 2, 5])
    world = World(random.choice([1, 2, 3]), max_concurrent=limit, queue_max=20, queue_seconds=5.0, breaker_failures=2)
    calls: list[asyncio.Task[str]] = []
    for _ in range(STEPS):
        step = random.random()
        if step < 0.6:
            patient, project = random.random() < 0.2, random.choice("abc")
            tier = random.choice(["auto", "flex", "priority"])
            call = world.call(str(random.random()), project=project, patient=patient, service_tier=tier)
            calls.append(asyncio.ensure_future(call))
        elif step < 0.75 and calls:
            random.choice(calls).cancel()
        elif step < 0.9:
            server = random.choice(world.servers)
            server.behaviour, server.well = drawn(random), random.random() < 0.5
        await asyncio.sleep(random.choice([0.0, 0.0, 0.1, 1.0]))
        await _check_rest(world, limit)
    for server in world.servers:
        server.behaviour, server.well = says(lasts_seconds=0.1), True
    async with asyncio.timeout(1000):
        results = await asyncio.gather(*calls, return_exceptions=True)

    assert all(isinstance(one, str | UpstreamError | asyncio.CancelledError) for one in results)
    assert max(server.most for server in world.servers) <= limit
    condition = world.pool.condition()
    assert (condition.active, condition.waiting) == (0, 0)
    await asyncio.sleep(100)
    async with asyncio.timeout(1):  # every place is there: as many as there are can be taken at once
        await asyncio.gather(*(world.call(str(number), patient=True) for number in range(limit * len(world.servers))))
    await world.pool.close()


async def _check_rest(world: World, limit: int) -> None:
    """Nobody waits while there is a place."""
    await asyncio.sleep(1e-6)  # time passes only once everybody waits
    pool = world.pool
    assert pool.condition().active == sum(server.active for server in world.servers)
    ready = [one for one in pool._members if one.circuit.is_closed and one.spared is None]
    idle = [one for one in ready if one.active < limit]
    waiting = [one for one in pool._line if any(member not in one.call.tried for member in idle)]
    assert not waiting, "a call waits although a server has room for it"


@pytest.mark.parametrize("seed", range(30))
async def test_a_project_that_waits_is_served_within_one_turn_of_the_others(seed: int) -> None:
    """Between two services of one project that has somebody waiting no other project has more than one."""
    random = Random(seed)
    line: Line[Waiter[str]] = Line()
    waiting: dict[str, int] = dict.fromkeys("abcd", 0)
    since: dict[str, list[str]] = {project: [] for project in "abcd"}
    for _ in range(400):
        if random.random() < 0.55:
            project = random.choice("aaaaabbcd")
            line.join(Waiter(project, random.choice([None, "flex", "priority"]), lambda: "place"))
            if not waiting[project]:
                since[project] = []
            waiting[project] += 1
        elif len(line):
            before = {id(one): one for one in line}
            assert line.serve()
            served = next(one for one in before.values() if one.place.done()).project
            waiting[served] -= 1
            for project, seen in since.items():
                seen.append(served)
                assert not waiting[project] or project == served or seen.count(served) <= 1
            since[served] = []
    assert len(line) == sum(waiting.values()) == line.counted


@pytest.mark.parametrize("seed", range(10))
async def test_within_project_and_tier_it_is_first_come_first_served(seed: int) -> None:
    random = Random(seed)
    line: Line[Waiter[str]] = Line()
    come: list[Waiter[str]] = []
    for _ in range(100):
        come.append(Waiter(random.choice("ab"), random.choice(["flex", "priority"]), lambda: "place"))
        line.join(come[-1])
    gone = random.sample(come, 20)
    for one in gone:
        line.leave(one)
        line.leave(one)
    last: dict[tuple[str, int], int] = {}
    while len(line):
        waiting = list(line)
        assert line.serve()
        served = next(one for one in waiting if one.place.done())
        lane = (served.project, served.weight)
        assert last.get(lane, -1) < come.index(served)
        last[lane] = come.index(served)

    assert sum(one.place.done() for one in come) == 80
    assert not any(one.place.done() for one in gone)
