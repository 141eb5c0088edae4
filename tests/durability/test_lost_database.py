"""PostgreSQL goes away while background runs stream: they wait, and go on in the same process (docs/log.md, I3)."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.cuttable import Cuttable, cuttable
from tests.durability.following import Followed
from tests.durability.plans import LOOKUP, PAY, Call, Say, Think
from tests.durability.world import World, opened
from tests.stores.postgres_server import PostgresServer

#: Connections that are cut.
CUTS = 25
CUTTING_SECONDS = 30


@pytest.fixture
async def proxy(postgres: PostgresServer) -> AsyncIterator[Cuttable]:
    async with cuttable(postgres.port) as proxy:
        yield proxy


@pytest.fixture
async def behind(
    proxy: Cuttable, postgres: PostgresServer, fresh_postgres: str, folder: Path, node: Path
) -> AsyncIterator[World]:
    """A world whose server reaches its database through the proxy."""
    async with opened(postgres.url(fresh_postgres, port=proxy.port), folder, node) as world:
        yield world


def _busy(world: World) -> list[Followed]:
    """Runs of every kind, long enough to be under way throughout."""
    steps = ([Say(250)], [Think(60), Say(200)], [Say(80), Call(LOOKUP), Say(80), Call(PAY), Say(80)])
    return [world.run(*steps[number % 3]) for number in range(12)]


async def test_runs_go_on_when_connections_are_cut(behind: World, proxy: Cuttable) -> None:
    """Cut at random moments: some writes were heard and not answered, and are repeated."""
    rng = random.Random()
    await behind.server()
    runs = _busy(behind)
    await behind.grown(runs)
    async with asyncio.timeout(CUTTING_SECONDS):
        while proxy.cuts < CUTS:
            proxy.cut()
            await asyncio.sleep(rng.uniform(0, 0.1))  # the moment of the next cut
    await behind.grown([run for run in runs if run.open])

    verdict = await behind.verdict()

    assert verdict.clean(), str(verdict)
    assert all(behind.claims(run) == [] for run in runs)


async def test_runs_wait_for_a_database_that_is_away(behind: World, proxy: Cuttable) -> None:
    await behind.server()
    runs = _busy(behind)
    await behind.grown(runs)
    proxy.refuse()
    await asyncio.wait_for(proxy.refused.wait(), 20)
    proxy.accepting = True
    await behind.grown([run for run in runs if run.open])

    verdict = await behind.verdict()

    assert verdict.clean(), str(verdict)
    assert all(behind.claims(run) == [] for run in runs)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT, signal.SIGKILL])
async def test_runs_go_on_over_a_restart_of_postgres(
    postgres: PostgresServer, fresh_postgres: str, folder: Path, node: Path, how: signal.Signals
) -> None:
    async with opened(postgres.url(fresh_postgres), folder, node) as world:
        await world.server()
        runs = _busy(world)
        await world.grown(runs)
        await asyncio.to_thread(postgres.restart, how)
        await world.grown([run for run in runs if run.open])

        verdict = await world.verdict()

        assert verdict.clean(), str(verdict)
        assert all(world.claims(run) == [] for run in runs)
