"""Background runs in SQLite: what their groups cost, what becomes of a group's order, and how their logs are packed."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import pytest
from tests.stores.counted import Counted, saves
from tests.stores.world import World, batch, event, items, record, within

from antiphon.engine.ports.stores import FIRST_FENCE, Batch, Claim, RunName, StoreError
from antiphon.engine.ports.tools import ToolCall
from antiphon.stores.rows import Pack
from antiphon.stores.sqlite import SqliteStore
from antiphon.stores.sqlite.operations import (
    Append,
    Delete,
    Finish,
    HandBack,
    JournalBegin,
    JournalComplete,
    Replace,
    TakeOver,
)

# --- What a group costs ---


@pytest.fixture
def begun() -> Counted:
    """Sixty-five runs, ``r0`` to ``r64``, that have begun."""
    counted = Counted()
    make = saves(itertools.count(), chained=False, status="queued")
    counted.counted(make, 1)
    counted.counted(make, 64)
    return counted


def run(number: int) -> RunName:
    return RunName("p", f"r{number}")


def test_sixty_four_runs_begin_with_as_many_statements_as_one() -> None:
    counted, numbers = Counted(), itertools.count()
    make = saves(numbers, chained=False, status="queued")
    assert counted.counted(make, 1) <= 8
    assert counted.counted(make, 64) <= 9  # one of which counts what is shared


def test_a_tick_of_sixty_four_runs_costs_as_many_statements_as_that_of_one(begun: Counted) -> None:
    def tick(number: int) -> Append:
        return Append([batch(f"r{number}", 0, 1), batch(f"r{number}", 2)])

    one = Append([each for number in range(64) for each in (batch(f"r{number}", 3), batch(f"r{number}", 4))])
    assert begun.run(tick(64)) == begun.counted(tick, 64) == begun.run(one) == 3


def test_sixty_four_ends_cost_as_many_statements_as_one(begun: Counted) -> None:
    def end(number: int) -> Finish:
        done = record(f"r{number}", status="completed", output=items(f"{number}!"))
        return Finish(run(number), done, FIRST_FENCE, [batch(f"r{number}", 0), batch(f"r{number}", 1)])

    assert begun.run(end(64)) == begun.counted(end, 64) == 8  # one of which asks who is to hear of them


def test_sixty_four_takeovers_cost_as_many_statements_as_one(begun: Counted) -> None:
    assert begun.run(TakeOver(run(64))) == begun.counted(lambda number: TakeOver(run(number)), 64) == 2
    back = HandBack([(run(number), 2) for number in range(65)])
    assert begun.run(back) == begun.run(HandBack([(run(0), 2)])) == 2


def test_sixty_four_calls_cost_as_many_statements_as_one(begun: Counted) -> None:
    call = ToolCall("ws_1", "web_search", "{}")

    assert begun.run(JournalBegin(run(64), FIRST_FENCE, call)) == 2
    assert begun.counted(lambda number: JournalBegin(run(number), FIRST_FENCE, call), 64) == 2
    assert begun.counted(lambda number: JournalComplete(run(number), FIRST_FENCE, call, b"[]"), 64) == 2


def test_a_group_of_everything_costs_a_constant_number_of_statements(begun: Counted) -> None:
    call = ToolCall("ws_1", "web_search", "{}")
    ended = record("r9", status="completed", output=items("!"))
    other = begun.run(JournalBegin(run(64), 1, call))

    def everything(number: int) -> list[Any]:
        return [
            Append([batch(f"r{number}", 0)]),
            JournalComplete(run(number), 1, call, b"early"),
            JournalBegin(run(number), 1, call),
            JournalComplete(run(number), 1, call, b"late"),
            TakeOver(run(number)),
            Finish(run(number), ended, 2, [batch(f"r{number}", 1)]),
        ]

    assert other == 2
    assert begun.run(*everything(64)) == 11
    assert begun.run(*(step for number in range(10) for step in everything(number))) == 11


def test_sixty_four_logs_are_packed_with_as_many_statements_as_one(begun: Counted) -> None:
    for number in range(65):
        begun.run(Finish(run(number), record(f"r{number}"), 1, [batch(f"r{number}", 0), batch(f"r{number}", 1)]))

    def replaced(row: int) -> tuple[int, Pack]:
        return row, Pack(0, 1, b"packed", 6)

    assert begun.run(Replace([replaced(65)], [65])) == 4
    assert begun.run(Replace([replaced(row) for row in range(1, 65)], list(range(1, 65)))) == 4
    assert begun.connection.execute("SELECT count(*), min(packed) FROM events").fetchall() == [(65, 1)]
    assert begun.connection.execute("SELECT count(*) FROM runs").get == 0


# --- What a group makes of a run ---


def test_a_group_is_done_in_the_order_in_which_it_was_submitted(begun: Counted) -> None:
    """I2, I3: of an owner and whoever takes the run from it only what comes in time is written."""
    call, ended = ToolCall("ws_1", "web_search", "{}"), record("r1", output=items("!"))
    steps: list[tuple[Any, Any]] = [
        (Append([batch("r1", 0), batch("r1", 1)]), [True, True]),
        (JournalBegin(run(1), 1, call), True),
        (TakeOver(run(1)), Claim(2, 1, 1)),
        (Append([batch("r1", 2), batch("r1", 2, fence=2)]), [False, True]),
        (JournalComplete(run(1), 1, call, b"old"), False),
        (Finish(run(1), ended, 1, [batch("r1", 3)]), False),
        (HandBack([(run(1), 1)]), None),
        (TakeOver(run(1)), Claim(3, 2, 1)),
        (HandBack([(run(1), 3)]), None),
        (TakeOver(run(1)), Claim(4, 2, 0)),
        (JournalComplete(run(1), 4, call, b"new"), True),
        (Append([batch("r1", 1, 2, 3, fence=4)]), [True]),
        (Finish(run(1), ended, 4, [batch("r1", 3, 4, fence=4), batch("r1", 5, fence=4)]), True),
        (Finish(run(1), ended, 4, [batch("r1", 6, fence=4)]), True),
        (Append([batch("r1", 6, fence=4)]), [False]),
        (TakeOver(run(1)), None),
        (JournalBegin(run(1), 4, call._replace(item_id="ws_2")), False),
    ]

    assert begun.execute(*(step for step, _ in steps)) == [result for _, result in steps]

    rows = "SELECT first_seq, last_seq FROM events WHERE run = 2 ORDER BY 1"
    assert begun.connection.execute(rows).fetchall() == [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (5, 5)]
    assert begun.connection.execute("SELECT call, result FROM journal").fetchall() == [("ws_1", b"new")]
    state = "SELECT fence, last_seq, ended FROM runs WHERE run = 2"
    assert begun.connection.execute(state).fetchall() == [(4, 5, 1)]


def test_a_result_before_its_intent_is_nothing(begun: Counted) -> None:
    """As it is in two groups."""
    call = ToolCall("ws_1", "web_search", "{}")
    begun.execute(JournalComplete(run(1), 1, call, b"early"), JournalBegin(run(1), 1, call))
    assert begun.connection.execute("SELECT result FROM journal").fetchall() == [(None,)]

    begun.execute(JournalComplete(run(1), 1, call, b"a"), JournalComplete(run(1), 1, call, b"b"))
    assert begun.connection.execute("SELECT result FROM journal").fetchall() == [(b"b",)]


def test_a_log_that_is_gone_takes_no_packs(begun: Counted) -> None:
    for number in (1, 2):
        begun.execute(Finish(run(number), record(f"r{number}"), 1, [batch(f"r{number}", 0)]))
    begun.execute(Append([batch("r3", 0)]))
    begun.execute(Delete([run(1)]))

    rows = [2, 3, 4, 999]
    assert begun.execute(Replace([(row, Pack(0, 0, b"packed", 6)) for row in rows], rows)) == [1]

    events = "SELECT run, packed FROM events ORDER BY run"
    assert begun.connection.execute(events).fetchall() == [(3, 1), (4, 0)]


# --- Packing ---


async def test_a_long_log_is_packed_in_small_commits(folder: Path) -> None:
    """So that neither memory nor the wait of others for the writer grows with it; readers see the same at each step."""
    store = SqliteStore(folder / "state.db")
    world = World(store)
    run, large = await world.begin(turn="run"), b'"delta":"%b"' % (b"x" * 50_000)
    written = [event(number, rest=large) for number in range(120)]
    for one in written:
        await store.append([Batch("p", "run", FIRST_FENCE, [one])])
    assert await world.finish(run, first_number=120)
    written.append(event(120, "response.completed", b'"response":{}'))
    commits = 0

    def committing() -> bool:
        nonlocal commits
        commits += 1
        return False

    store._writing.set_commit_hook(committing)
    compacting = asyncio.ensure_future(store.compact(1))
    while not compacting.done():
        assert await world.log("run") == written
        await asyncio.sleep(0)
    store._writing.set_commit_hook(None)

    assert await compacting == 1
    assert commits == 7  # one for each pack, and one that says that it is done
    assert store._reading.execute("SELECT count(*), sum(length(frames)) < 100000 FROM events").fetchall() == [(6, 1)]
    await store.close()


@pytest.mark.parametrize("give_up", [False, True])
async def test_a_log_half_packed_is_whole_and_packed_later(folder: Path, give_up: bool) -> None:
    """Whether the store is closed meanwhile or nobody waits any more."""
    store = SqliteStore(folder / "state.db")
    world = World(store)
    run, large = await world.begin(turn="run"), b'"delta":"%b"' % (b"x" * 200_000)
    written = [event(number, rest=large) for number in range(40)]
    for one in written:
        await store.append([Batch("p", "run", FIRST_FENCE, [one])])
    assert await world.finish(run, first_number=40)
    written.append(event(40, "response.completed", b'"response":{}'))
    packed = asyncio.Event()
    loop = asyncio.get_running_loop()

    def committing() -> bool:
        loop.call_soon_threadsafe(packed.set)
        return False

    store._writing.set_commit_hook(committing)
    compacting = asyncio.ensure_future(store.compact(1))
    await within(packed.wait())
    if give_up:
        compacting.cancel()
        await asyncio.wait([compacting])
    await store.close()
    with pytest.raises((StoreError, RuntimeError, asyncio.CancelledError)):
        await compacting

    store = SqliteStore(folder / "state.db")
    counts = store._reading.execute("SELECT packed, count(*) FROM events GROUP BY packed ORDER BY packed").fetchall()
    assert [packed for packed, _ in counts] == [0, 1]
    assert await World(store).log("run") == written
    assert await store.compact(1) == 1
    assert await World(store).log("run") == written
    assert store._reading.execute("SELECT min(packed), count(*) < 12 FROM events").fetchall() == [(1, 1)]
    await store.close()
