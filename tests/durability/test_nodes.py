"""Three nodes on one PostgreSQL and one bus: any may die, freeze or be replaced, and any answers for any response."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest
from tests.durability.fleet import Fleet
from tests.durability.plans import LOOKUP, PAY, Call, Gate, Say
from tests.durability.world import READY, World, opened
from tests.nats_server import NatsServer, nats_server, own_nats_server
from tests.stores.postgres_server import PostgresServer

__all__ = ["nats_server", "own_nats_server"]

IDLE_MS = 6000
#: The number of the first event with text.
FIRST_TEXT = 4
#: Every run of these is over long before; what matters is that there is an end.
STORM_RUNS, STORM_LIVE = 30, 8


@pytest.fixture
async def trio(postgres: PostgresServer, fresh_postgres: str, folder: Path, node: Path) -> AsyncIterator[World]:
    async with opened(postgres.url(fresh_postgres), folder, node, 3, idle_ms=IDLE_MS) as world:
        yield world


@pytest.fixture
async def fleet(trio: World, nats_server: NatsServer, fresh_postgres: str) -> Fleet:
    """Three nodes that serve."""
    fleet = Fleet(trio, random.Random(7), bus=nats_server.url, bus_name=fresh_postgres)
    await fleet.start()
    return fleet


async def test_a_storm_over_three_nodes(fleet: Fleet, tell: Callable[[str], None]) -> None:
    """Kills, freezes and replacements: nothing is lost, nothing doubled (docs/log.md, I1 to I9)."""
    await fleet.storm(STORM_RUNS, STORM_LIVE)

    verdict = await fleet.settle()
    tell(fleet.figures(verdict))

    assert verdict.clean(), str(verdict)


async def test_any_node_answers_for_any_response(fleet: Fleet) -> None:
    """While it is in progress and after it; a run is cancelled by a node that does not work on it.

    Then an owner is frozen: others go on, and what the model says to it meanwhile it does not write (I2).
    """
    world = fleet.world
    cancelled = [world.run(Say(8), Gate("never"), Say(8)) for _ in range(3)]
    runs = [world.run(Say(10), Gate("frozen"), Say(30), server=place) for place in (0, 1, 2) * 3]
    await world.acknowledged(*cancelled, *runs)
    for run in cancelled + runs:
        await world.told(run, FIRST_TEXT)
    async with aiohttp.ClientSession() as session:
        for place, run in enumerate(cancelled):
            for url in world.urls:
                async with session.get(f"{url}/v1/responses/{run.id}") as reply:
                    assert (await reply.json())["status"] == "in_progress"
            async with session.post(f"{world.urls[place]}/v1/responses/{run.id}/cancel") as reply:
                assert (await reply.json())["status"] == "cancelled"
            run.cancel_asked, run.cancelled = True, "cancelled"
    frozen = fleet.nodes[0]
    mine = {claim["run"] for claim in world.ledger.claims() if claim["process"] == frozen.pid}
    frozen.signal(signal.SIGSTOP)
    await world.model.open("frozen")
    await world.ended(*runs)
    frozen.signal(signal.SIGCONT)

    await fleet.settle()
    for place in (0, 1, 2):
        verdict = await world.verdict(place)
        assert verdict.clean(), str(verdict)

    assert mine & {run.id for run in runs}
    for run in runs:
        assert world.claims(run)[0] == 0
        assert (len(world.claims(run)) > 1) >= (run.id in mine)


async def test_nodes_are_replaced_one_after_another(fleet: Fleet, postgres: PostgresServer) -> None:
    """As a rolling restart does, and under it the database: no run is taken over, none is lost, and no event of any."""
    world = fleet.world
    steps = ([Say(150)], [Say(60), Call(LOOKUP), Say(60)], [Say(60), Call(PAY), Say(60)])
    runs = [world.run(*steps[place], server=place) for place in (0, 1, 2) * 4]
    await world.acknowledged(*runs)
    for place in (0, 1, 2):
        await fleet.replace(place)
        if place == 1:
            await asyncio.to_thread(postgres.restart, signal.SIGQUIT)

    verdict = await fleet.settle()

    assert verdict.clean(), str(verdict)
    assert all(set(world.claims(run)) <= {0} for run in runs)
    assert any(len(world.claims(run)) > 1 for run in runs)


async def test_a_node_claims_what_it_serves(trio: World, nats_server: NatsServer, fresh_postgres: str) -> None:
    """One node serves one model, another both; and of one project no more is worked on at once than the cap says."""
    cap = 3
    fleet = Fleet(trio, random.Random(7), bus=nats_server.url, bus_name=fresh_postgres, project_runs_max=cap)
    fewer = [{"url": f"{trio.model.url}/v1", "name": "model", "models": ["words"]}]
    nodes = [await fleet.add(0, upstreams=fewer), await fleet.add(2)]
    for node in nodes:
        await node.line(READY)
    runs = [trio.run(Say(8), Gate("cap"), Say(8), model="prefilled", how="poll", server=2) for _ in range(6)]
    await trio.acknowledged(*runs)
    asked = [asyncio.create_task(trio.model.asked(run, 1)) for run in runs]
    while sum(task.done() for task in asked) < cap:
        await asyncio.wait([task for task in asked if not task.done()], return_when=asyncio.FIRST_COMPLETED, timeout=20)
    await asyncio.sleep(2)  # in which more would begin, were there no cap
    assert sum(task.done() for task in asked) == cap
    await trio.model.open("cap")
    await asyncio.wait_for(asyncio.gather(*asked), 60)
    await trio.ended()

    verdict = await trio.verdict(2)

    assert verdict.clean(), str(verdict)
    assert {claim["process"] for claim in trio.ledger.claims()} == {nodes[1].pid}
    assert all(set(trio.claims(run)) <= {0} for run in runs)


async def test_the_bus_is_killed_and_forgets_everything(
    trio: World, own_nats_server: NatsServer, fresh_postgres: str
) -> None:
    """Runs go on where they are, new ones where they are asked for; a node that dies then is missed once it is back."""
    fleet = Fleet(trio, random.Random(7), bus=own_nats_server.url, bus_watch_seconds=1)
    await fleet.start()
    before = [trio.run(Say(10), Gate("later"), Say(20), server=place) for place in (0, 1, 2) * 2]
    await trio.acknowledged(*before)
    for run in before:
        await trio.told(run, FIRST_TEXT)
    await asyncio.to_thread(own_nats_server.stop, signal.SIGKILL)
    own_nats_server.wipe()
    meanwhile = [trio.run(Say(20), server=place) for place in (0, 1, 2)]
    await trio.ended(*meanwhile)
    alive = {claim["run"]: claim["process"] for claim in trio.ledger.claims()}
    await trio.kill(fleet.nodes[0])
    dead = fleet.nodes[0].pid
    await asyncio.to_thread(own_nats_server.start)
    orphans = [run for run in before if alive[run.id] == dead]
    await trio.model.open("later")
    await (await fleet.add(0)).line(READY)

    verdict = await fleet.settle()

    assert verdict.clean(), str(verdict)
    for run in before:
        assert trio.claims(run) == ([0, 1] if run in orphans else [0])
