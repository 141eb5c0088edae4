"""What holds of every coordinator, seen from one process (engine/coordination.py)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from tests.coordinators.conftest import Listener, soon

from antiphon.engine.coordination import Coordinator, Offer
from antiphon.engine.ports.stores import RunName
from antiphon.protocol.events import Event

Pair = tuple[Coordinator, Listener]
Names = Callable[[], RunName]


async def test_what_is_submitted_can_be_claimed(coordinator: Pair, names: Names) -> None:
    end, _ = coordinator
    runs = [names() for _ in range(5)]
    for run in runs:
        await end.submit(Offer(run, "a model", "flex"))

    claimed = [(await soon(end.claim())) for _ in runs]

    assert [offer.run for offer in claimed] == runs
    assert {(offer.model, offer.tier) for offer in claimed} == {("a model", "flex")}


async def test_a_claim_waits_and_may_be_given_up(coordinator: Pair, names: Names) -> None:
    """A claim that is cancelled loses nothing."""
    end, _ = coordinator
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(end.claim(), 0.05)
    claiming = asyncio.ensure_future(end.claim())
    run = names()
    await end.submit(Offer(run))

    assert (await soon(claiming)).run == run


async def test_what_is_done_does_not_come_again(coordinator: Pair, names: Names) -> None:
    end, _ = coordinator
    first, second = names(), names()
    await end.submit(Offer(first))
    await soon(end.claim())
    await end.done(first)
    await end.done(first)
    await end.submit(Offer(second))

    assert (await soon(end.claim())).run == second


async def test_declined_runs_come_again(coordinator: Pair, names: Names) -> None:
    end, _ = coordinator
    run = names()
    await end.submit(Offer(run, "a model"))
    for _ in range(3):
        assert (await soon(end.claim())).run == run
        await end.decline(run)

    assert (await soon(end.claim())).run == run


async def test_whoever_works_on_a_run_is_told_to_cancel_it(coordinator: Pair, names: Names) -> None:
    end, listener = coordinator
    run = names()
    await end.cancel(run)

    assert await soon(listener.told.get()) == ("cancelled", run)


async def test_news_comes_back_without_news(coordinator: Pair, names: Names) -> None:
    """A reader that nobody tells anything looks into the store again and again."""
    end, _ = coordinator
    news = await soon(end.news(names()))

    assert await soon(news.next(-1)) == []
    assert await soon(news.next(-1)) == []
    await news.close()


async def test_telling_of_events_never_waits(coordinator: Pair, names: Names) -> None:
    end, _ = coordinator
    for number in range(1000):
        end.grown(names(), [Event(number, "response.output_text.delta", b"{}")])
