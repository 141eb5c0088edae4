"""When a run goes on, when it is given up, and what a client was told and may rely on, over kills and stops."""

from __future__ import annotations

import pytest
from tests.durability.following import Followed
from tests.durability.judging import TAKEOVERS_MAX
from tests.durability.plans import LOOKUP, PAY, Call, Gate, Say, Think
from tests.durability.world import World

#: The number of the first event with text, where a run begins with it.
FIRST_TEXT = 4


async def test_three_takeovers_without_progress_fail_a_run(world: World) -> None:
    """I10: the model never says anything, so the fourth server gives up and does not ask it again."""
    run = world.run(Say(5), silent=99)
    for asked in range(TAKEOVERS_MAX + 1):
        server = await world.server()
        await world.model.asked(run, asked + 1)
        await world.acknowledged(run)
        assert run.open
        await world.kill(server)
    await world.server()
    await world.ended(run)

    await world.check()
    assert run.response is not None
    assert run.response["status"] == "failed"
    assert run.response["error"]["code"] == "server_error"
    assert world.claims(run) == [1, 2, 3, 4]
    assert run.problems == []


async def test_a_run_that_grows_is_never_given_up(world: World) -> None:
    """I10: takeovers count from the last new event on."""
    run = world.run(Say(250))
    for _ in range(TAKEOVERS_MAX + 2):
        server = await world.server()
        await world.grown([run], 3)
        await world.kill(server)
    await world.server()

    verdict = await world.verdict()

    assert verdict.clean(), str(verdict)
    assert world.claims(run) == [1] * (TAKEOVERS_MAX + 2)


async def test_graceful_stops_are_no_takeovers(world: World) -> None:
    """I10: more of them than a run may have takeovers, before the model says its first word."""
    stops = TAKEOVERS_MAX + 2
    run = world.run(Say(20), silent=stops)
    for asked in range(stops):
        server = await world.server(shutdown_seconds=0)
        await world.model.asked(run, asked + 1)
        await world.acknowledged(run)
        await world.terminate(server)
    await world.server()

    verdict = await world.verdict()

    assert verdict.clean(), str(verdict)
    assert world.claims(run) == [0] * stops


async def test_runs_go_on_over_graceful_stops(world: World) -> None:
    runs = [world.run(*steps) for steps in ([Say(120)], [Think(20), Say(80)], [Say(50), Call(LOOKUP), Say(50)]) * 3]
    for _ in range(3):
        server = await world.server(shutdown_seconds=0)
        await world.grown([run for run in runs if run.open])
        await world.terminate(server)
    await world.server()

    verdict = await world.verdict()

    assert verdict.clean(), str(verdict)
    assert all(set(world.claims(run)) <= {0} for run in runs)
    assert any(world.claims(run) for run in runs)


async def test_a_cancelled_run_stays_cancelled(world: World) -> None:
    """What was acknowledged holds after a kill right behind the answer, and so does the log."""
    server = await world.server()
    runs = [world.run(Say(20), Gate("never"), Say(20)) for _ in range(6)]
    await world.acknowledged(*runs)
    await world.grown(runs)
    for run in runs:
        world.followers.cancel(run)
    await world.followers.until(lambda: all(run.cancel_told for run in runs), 20, "the answers to the cancels")
    await world.kill(server)
    await world.server()

    verdict = await world.verdict()

    assert verdict.clean(), str(verdict)
    assert [run.cancelled for run in runs] == ["cancelled"] * 6
    assert all(run.response is not None and run.response["status"] == "cancelled" for run in runs)
    assert all(world.claims(run) == [] for run in runs)


@pytest.mark.parametrize("point", ["after journal_begin", "before journal_complete", "after journal_complete"])
@pytest.mark.parametrize("tool", [LOOKUP, PAY])
async def test_a_hosted_call_that_a_kill_cuts(world: World, point: str, tool: str) -> None:
    """I8: a result that is noted is used; without one a call that only reads is made again, one with effects is not."""
    run = world.run(Say(5), Call(tool), Say(5))
    await world.killed(await world.server(point))
    await world.server()

    verdict = await world.verdict()

    assert verdict.clean(), str(verdict)
    made = sum(line["is"] == "called" for line in world.ledger.lines)
    before = 0 if point == "after journal_begin" else 1
    again = 1 if tool == LOOKUP and point != "after journal_complete" else 0
    assert made == before + again
    assert _status_of_call(run) == ("completed" if point == "after journal_complete" or tool == LOOKUP else "failed")


@pytest.mark.parametrize("tool", [LOOKUP, PAY])
async def test_what_was_said_before_a_call_is_as_durable_as_the_call(world: World, tool: str) -> None:
    """I4, I8: text and call come in one piece; whoever finds the call's intent finds the text before it."""
    run = world.run(Say(3), Gate("burst"), Say(20), Call(tool), Say(5), pace_ms=0)
    server = await world.server("after journal_begin")
    await world.told(run, FIRST_TEXT)
    await world.model.open("burst")
    await world.killed(server)
    await world.server()

    verdict = await world.verdict()

    assert verdict.clean(), str(verdict)


async def test_a_cut_text_is_shown_to_the_model_in_later_turns(world: World) -> None:
    """The text that a takeover continued comes before the calls of the same turn, in the log and in the context."""
    run = world.run(Say(10), Gate("call"), Call(LOOKUP), Say(5), Call(LOOKUP), Say(5))
    server = await world.server()
    await world.told(run, FIRST_TEXT)
    await world.kill(server)
    await world.server()
    await world.model.asked(run, 2)
    await world.model.open("call")

    verdict = await world.verdict()

    assert verdict.clean(), str(verdict)
    assert world.claims(run) == [1]


def _status_of_call(run: Followed) -> str:
    assert run.response is not None
    (status,) = [item["status"] for item in run.response["output"] if "output" in item or "error" in item]
    return str(status)
