"""A process that is stopped and thawed while it owns runs: whoever comes back late writes nothing (docs/log.md, I2)."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.durability.plans import LOOKUP, PAY, Call, Gate, Say
from tests.durability.world import World, opened
from tests.stores.postgres_server import PostgresServer

#: Shorter than the followers' patience with a silent stream, which then ask the other server.
IDLE_MS = 1500
LOOK_SECONDS = 0.01


@pytest.fixture
async def pair(postgres: PostgresServer, fresh_postgres: str, folder: Path, node: Path) -> AsyncIterator[World]:
    """Two places for servers on one database of PostgreSQL."""
    async with opened(postgres.url(fresh_postgres), folder, node, 2, idle_ms=IDLE_MS) as world:
        yield world


async def test_a_thawed_owner_writes_nothing(pair: World) -> None:
    """Another process takes everything over while the first is stopped; then both live, and each answers for all."""
    first = await pair.server(place=0, ready=True)
    texts = [pair.run(Say(20), Gate("taken"), Say(40), Gate("thawed"), Say(20)) for _ in range(8)]
    payers = [pair.run(Say(3), Call(PAY), Say(20), tool_seconds=2.5) for _ in range(2)]
    readers = [pair.run(Say(3), Call(LOOKUP), Say(20), tool_seconds=2.5) for _ in range(2)]
    await _called(pair, 4)
    first.signal(signal.SIGSTOP)
    second = await pair.server(place=1)
    await pair.taken_up(second, *texts, *payers, *readers)
    await pair.model.open("taken")  # what the model says to the first waits in its sockets
    await pair.grown(texts)
    first.signal(signal.SIGCONT)
    await pair.model.open("thawed")
    later = [pair.run(Say(20), server=place) for place in (0, 1)]

    verdict = await pair.verdict()
    await pair.check(1)

    assert verdict.clean(), str(verdict)
    assert all(pair.claims(run) == [1] for run in [*texts, *payers, *readers])
    assert all(pair.claims(run) == [] for run in later)
    assert _problems(pair) == []


async def test_a_run_is_cancelled_from_another_process(pair: World) -> None:
    """The process that is asked takes the run to end it; its owner, stopped meanwhile, finds it gone."""
    first = await pair.server(place=0, ready=True)
    run = pair.run(Say(10), Gate("never"), Say(10))
    await pair.acknowledged(run)
    await pair.grown([run])
    first.signal(signal.SIGSTOP)
    await pair.server(place=1, ready=True)
    await pair.followers.servers(pair.urls[1], idle_ms=IDLE_MS)
    pair.followers.cancel(run)
    await pair.followers.until(lambda: run.cancel_told, 20, "the answer to the cancel")
    first.signal(signal.SIGCONT)
    await pair.followers.servers(*pair.urls, idle_ms=IDLE_MS)

    verdict = await pair.verdict()
    await pair.check(1)

    assert verdict.clean(), str(verdict)
    assert run.cancelled == "cancelled"
    assert _problems(pair) == []


async def test_sqlite_belongs_to_one_process(folder: Path, node: Path) -> None:
    """While the first is stopped, which no other can tell from slow, a second one refuses to start."""
    async with opened(str(folder / "state.db"), folder, node, 2) as world:
        first = await world.server(place=0)
        runs = [world.run(Say(80)) for _ in range(6)]
        await world.grown(runs)
        first.signal(signal.SIGSTOP)
        second = await world.server(place=1)
        code = await second.ended()
        assert code not in (0, -signal.SIGKILL), second.lines
        assert any("another process" in line or "in use" in line for line in second.lines), second.lines
        first.signal(signal.SIGCONT)

        verdict = await world.verdict()

        assert verdict.clean(), str(verdict)
        assert all(run.connections == 1 and world.claims(run) == [] for run in runs)


async def _called(world: World, times: int) -> None:
    """Returns once so many hosted calls are being made."""

    def called() -> int:
        return sum(line["is"] == "called" for line in world.ledger.lines)

    async with asyncio.timeout(20):
        while called() < times:  # noqa: ASYNC110 - nobody tells of a line in a file
            await asyncio.sleep(LOOK_SECONDS)  # the ledger is a file: it can only be looked at


def _problems(world: World) -> list[str]:
    return [problem["text"] for run in world.runs for problem in run.problems]
