"""Several nodes on a real NATS server: one claims, leases lapse, words arrive; and what a bus that is away does."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

import nats as client
import pytest
from tests.coordinators.conftest import LEASE_SECONDS, Nodes, soon
from tests.cuttable import cuttable
from tests.nats_server import NatsServer

from antiphon.coordinators.nats import NatsCoordinator
from antiphon.engine.coordination import News, Offer
from antiphon.engine.ports.stores import RunName
from antiphon.protocol.events import Event

Names = Callable[[], RunName]


async def _claims(end: NatsCoordinator, seconds: float) -> list[RunName]:
    """Everything that a node is given within a time."""
    found: list[RunName] = []
    try:
        async with asyncio.timeout(seconds):
            while True:
                found.append((await end.claim()).run)
    except TimeoutError:
        return found


async def _until(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.02)


async def _told(news: News, after: int) -> list[Event]:
    """The next events; how long they take does not matter."""
    async with asyncio.timeout(20):
        while not (events := await news.next(after)):
            pass
    return events


def event(number: int) -> Event:
    return Event(number, "response.output_text.delta", b'{"sequence_number":%d}' % number)


# --- Who works on what ---


async def test_each_run_goes_to_one_node(nodes: Nodes, names: Names) -> None:
    """However often each is submitted, and by whom."""
    first, second = [(await nodes.add())[0] for _ in range(2)]
    runs = [names() for _ in range(30)]
    for run in runs:
        await asyncio.gather(first.submit(Offer(run)), second.submit(Offer(run)))
        await first.submit(Offer(run))

    claimed = await asyncio.gather(_claims(first, 2.5 * LEASE_SECONDS), _claims(second, 2.5 * LEASE_SECONDS))

    assert Counter(claimed[0] + claimed[1]) == Counter(runs)
    assert claimed[0]
    assert claimed[1]


async def test_a_node_that_is_silent_loses_its_runs(nodes: Nodes, names: Names) -> None:
    """It is cut off here; what it says about the run later changes nothing for the next owner."""
    second, _ = await nodes.add()
    run = names()
    async with cuttable(_port(nodes)) as proxy:
        first, _ = await nodes.add(url=f"nats://127.0.0.1:{proxy.port}")
        await first.submit(Offer(run))
        assert (await soon(first.claim())).run == run
        proxy.stall()

        assert (await soon(second.claim())).run == run
        proxy.flow()
        await first.lost(run)
        assert await _claims(first, 2 * LEASE_SECONDS) == []


async def test_a_lease_lasts_while_its_node_lives(nodes: Nodes, names: Names) -> None:
    first, _ = await nodes.add()
    second, _ = await nodes.add()
    await first.submit(Offer(names()))
    await soon(first.claim())

    assert await _claims(second, 3 * LEASE_SECONDS) == []


async def test_what_is_given_back_goes_on_elsewhere_at_once(nodes: Nodes, names: Names) -> None:
    first, _ = await nodes.add(bus_lease_seconds=60.0)
    runs = [names() for _ in range(6)]
    for run in runs:
        await first.submit(Offer(run))
    for _ in range(3):
        await soon(first.claim())
    second, _ = await nodes.add(bus_lease_seconds=60.0)
    await first.retire()
    for run in runs:
        await first.give_back(run)

    assert sorted([(await soon(second.claim())).run for _ in runs]) == sorted(runs)


async def test_a_node_takes_no_more_than_it_may(nodes: Nodes, names: Names) -> None:
    small, _ = await nodes.add(runs_max=3)
    runs = [names() for _ in range(5)]
    for run in runs:
        await small.submit(Offer(run))
    claimed = await _claims(small, 1.5)
    assert 3 <= len(claimed) <= 5  # what waits in another tier's inbox may come on top
    for run in claimed:
        await small.done(run)

    assert len(claimed) + len(await _claims(small, 1.5)) == 5


async def test_what_a_node_cannot_serve_goes_to_one_that_can(nodes: Nodes, names: Names) -> None:
    first, _ = await nodes.add()
    second, _ = await nodes.add()
    runs = [names() for _ in range(10)]

    async def decline() -> None:
        while True:
            await first.decline((await first.claim()).run)

    declining = asyncio.create_task(decline())
    for run in runs:
        await first.submit(Offer(run, "rare"))
    taken = {(await soon(second.claim())).run for _ in runs}
    declining.cancel()

    assert taken == set(runs)


async def test_urgent_tiers_come_first_as_often_as_they_weigh(nodes: Nodes, names: Names) -> None:
    """While all wait; the least urgent comes as well."""
    end, _ = await nodes.add(tier_weights={"priority": 6, "default": 3, "flex": 1}, runs_max=1)
    for _ in range(60):
        for tier in ("priority", None, "flex"):
            await end.submit(Offer(names(), "a model", tier))
    came: Counter[str | None] = Counter()
    for _ in range(60):
        offer = await soon(end.claim())
        came[offer.tier] += 1
        await end.done(offer.run)

    assert came["priority"] > came[None] > came["flex"] > 0


# --- Word ---


async def test_readers_elsewhere_hear_events(nodes: Nodes, names: Names) -> None:
    """In order; what they have had, and what has a gap before it, they are not told."""
    owner, _ = await nodes.add()
    other, _ = await nodes.add()
    run = names()
    news = await other.news(run)
    owner.grown(run, [event(0), event(1)])
    assert await _told(news, -1) == [event(0), event(1)]
    owner.grown(run, [event(1), event(2)])
    assert await _told(news, 1) == [event(2)]
    owner.grown(run, [event(5)])
    assert await soon(news.next(2)) == []
    await news.close()


async def test_old_owners_hear_of_new_ones(nodes: Nodes, names: Names) -> None:
    first, _ = await nodes.add()
    _, heard = await nodes.add()
    run = names()
    await first.taken(run, 7)

    assert await soon(heard.told.get()) == ("taken", run, 7)


# --- What is lost ---


async def test_runs_that_nobody_knows_of_are_missing(nodes: Nodes, names: Names) -> None:
    """Neither offered, nor held by a node that answers, even where the queue has forgotten it."""
    first, _ = await nodes.add()
    second, _ = await nodes.add()
    offered, held, forgotten, unknown = names(), names(), names(), names()
    for run in (held, forgotten):
        await first.submit(Offer(run))
    for _ in range(2):
        await soon(first.claim())
    connection = await client.connect(nodes.url)
    await connection.jetstream().purge_stream(f"{nodes.name}-runs")
    await connection.close()
    await first.lost(forgotten)
    await first.retire()
    await second.retire()
    await first.submit(Offer(offered))

    assert await second.missing([offered, held, forgotten, unknown]) == [forgotten, unknown]


@pytest.mark.parametrize("wiped", [False, True])
async def test_the_bus_goes_and_comes_back(
    own_nats_server: NatsServer, own_nodes: Nodes, names: Names, wiped: bool
) -> None:
    """Meanwhile whoever is asked works on it; what is kept is still there, what is lost is missing, and all goes on."""
    first, _ = await own_nodes.add()
    second, _ = await own_nodes.add()
    kept, local, later = names(), names(), names()
    await first.retire()
    await first.submit(Offer(kept))
    await soon(second.claim())
    own_nats_server.stop(signal.SIGKILL)
    await _until(lambda: not second._connection.connected)
    if wiped:
        own_nats_server.wipe()
    await second.submit(Offer(local))
    assert (await soon(second.claim())).run == local
    assert await second.missing([kept]) == []

    own_nats_server.start()
    await _until(lambda: second._connection.connected and second._queue.ready and first._connection.connected)
    assert await first.missing([kept, local, later]) == [later]
    await second.submit(Offer(later))
    assert (await soon(second.claim())).run == later
    for run in (kept, local, later):
        await second.done(run)


async def test_a_process_starts_without_its_bus(own_nats_server: NatsServer, own_nodes: Nodes, names: Names) -> None:
    own_nats_server.stop()
    end, _ = await own_nodes.add()
    run = names()
    await end.submit(Offer(run))
    assert (await soon(end.claim())).run == run
    own_nats_server.start()
    await _until(lambda: end._queue.ready)
    later = names()
    await end.submit(Offer(later))

    assert (await soon(end.claim())).run == later


async def test_messages_that_offer_nothing_are_removed(nodes: Nodes, names: Names) -> None:
    end, _ = await nodes.add()
    connection = await client.connect(nodes.url)
    await connection.jetstream().publish(f"{nodes.name}.runs.default.x.y", b"nonsense")
    await connection.close()
    run = names()
    await end.submit(Offer(run))

    assert (await soon(end.claim())).run == run


def _port(nodes: Nodes) -> int:
    return int(nodes.url.rpartition(":")[2])
