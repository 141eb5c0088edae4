"""Background runs that several processes would have: one owner at a time, whoever comes when (docs/log.md, I2).

What two connections do at once is either decided by a lock that the test sees somebody wait for, or left to chance and
checked for having happened in one order.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from tests.stores.postgres_fleet import blocked, session
from tests.stores.postgres_server import PostgresServer
from tests.stores.world import CALL, World, batch, event, item, items, record, within

from antiphon.engine.ports.stores import FIRST_FENCE, Batch, Claim, Disowned, RunName
from antiphon.engine.ports.tools import Noted, ToolCall, ToolResult
from antiphon.stores.postgres import groups, operations, schema
from antiphon.stores.postgres.background import Background
from antiphon.stores.queries import Queries
from antiphon.stores.rows import packs_of

QUERIES = Queries(schema.PACKAGE, "queries.sql")
RESULT = ToolResult({}, "It is so.")
LAST = event(0, "response.completed", b'"response":{}')


def runs() -> Background:
    return Background(QUERIES)


def ending(response: str, *numbers: int, fence: int = FIRST_FENCE, status: str = "completed") -> operations.Finish:
    ended = record(response, status=status, background=True, output=items(f"{response}!"))
    return operations.Finish(ended, fence, [batch(response, *numbers, fence=fence)])


async def disowned(writing: Awaitable[Any]) -> bool:
    """What a refusal looks like, whatever was written."""
    try:
        return await writing is False
    except Disowned:
        return True


# --- One in the middle of its transaction, the other comes ---

Write = Callable[[World], Awaitable[Any]]
#: What an owner writes, without the fence of anybody after it.
WRITES: dict[str, Write] = {
    "append": lambda world: world.append("run", 1),
    "append nothing": lambda world: world.append("run"),
    "finish": lambda world: world.store.finish(*ending("run", 1)),
    "begin call": lambda world: world.store.journal_begin("p", "run", FIRST_FENCE, CALL._replace(item_id="ws_2")),
    "complete call": lambda world: world.store.journal_complete("p", "run", FIRST_FENCE, CALL, RESULT),
}


async def begun(world: World) -> None:
    """A run with one event and one call."""
    await world.begin(turn="run")
    assert await world.append("run", 0)
    await world.store.journal_begin("p", "run", FIRST_FENCE, CALL)


@pytest.mark.parametrize("write", WRITES)
async def test_who_writes_while_the_run_is_claimed_waits_and_is_refused(
    worlds: list[World], admin: Any, slow: Any, write: str
) -> None:
    world = worlds[0]
    await begun(world)
    async with slow.transaction():
        [claim] = await runs().claim(slow, [operations.Claim("p", "run", 1)], False)
        assert claim == Claim(FIRST_FENCE + 1, 0, 1)
        writing = asyncio.ensure_future(disowned(WRITES[write](world)))
        await blocked(admin, writing)

    assert await within(writing)
    assert await world.numbers("run") == [0]
    assert await world.store.journal("p", "run") == [Noted(CALL, None)]
    assert await world.store.unfinished() == [RunName("p", "run")]
    assert await worlds[1].append("run", 1, fence=claim.fence)


@pytest.mark.parametrize("write", WRITES)
async def test_who_writes_while_a_claim_fails_waits_and_goes_on(
    worlds: list[World], admin: Any, slow: Any, write: str
) -> None:
    world = worlds[0]
    await begun(world)
    claiming = slow.transaction()
    await claiming.start()
    await runs().claim(slow, [operations.Claim("p", "run", 1)], False)
    writing = asyncio.ensure_future(disowned(WRITES[write](world)))
    await blocked(admin, writing)
    await claiming.rollback()

    assert not await within(writing)


async def test_who_claims_while_events_are_written_waits_and_counts_them(
    worlds: list[World], admin: Any, slow: Any
) -> None:
    world = worlds[0]
    await begun(world)
    async with slow.transaction():
        assert await runs().append(slow, [operations.Append([batch("run", 1, 2)])], False) == [[True]]
        claiming = asyncio.ensure_future(world.store.claim("p", "run"))
        await blocked(admin, claiming)

    assert await within(claiming) == Claim(FIRST_FENCE + 1, 2, 1)
    assert not await world.append("run", 3)
    assert await world.numbers("run") == [0, 1, 2]


async def test_who_claims_while_the_run_ends_waits_and_gets_nothing(worlds: list[World], admin: Any, slow: Any) -> None:
    world = worlds[0]
    await begun(world)
    async with slow.transaction():
        assert await runs().finish(slow, [ending("run", 1)], False) == [True]
        claiming = asyncio.ensure_future(world.store.claim("p", "run"))
        await blocked(admin, claiming)

    assert await within(claiming) is None
    assert await world.numbers("run") == [0, 1]


async def test_who_claims_while_another_does_waits_and_is_the_next(worlds: list[World], admin: Any, slow: Any) -> None:
    world = worlds[0]
    await begun(world)
    async with slow.transaction():
        assert await runs().claim(slow, [operations.Claim("p", "run", 1)], False) == [Claim(FIRST_FENCE + 1, 0, 1)]
        claiming = asyncio.ensure_future(world.store.claim("p", "run"))
        await blocked(admin, claiming)

    assert await within(claiming) == Claim(FIRST_FENCE + 2, 0, 2)


@pytest.mark.parametrize("mine", [True, False])
async def test_an_end_that_is_being_written_is_waited_for(
    worlds: list[World], admin: Any, slow: Any, mine: bool
) -> None:
    """I6: what another owner writes at the same time stands; the same owner has ended it all the same."""
    world = worlds[0]
    await begun(world)
    claim = None if mine else await world.store.claim("p", "run")
    fence = FIRST_FENCE if claim is None else claim.fence
    async with slow.transaction():
        assert await runs().finish(slow, [ending("run", 1, fence=fence, status="cancelled")], False) == [True]
        finishing = asyncio.ensure_future(world.store.finish(*ending("run", 1)))
        await blocked(admin, finishing)

    assert await within(finishing) is mine
    assert await world.numbers("run") == [0, 1]
    stored = await world.store.read("p", "run")
    assert stored is not None
    assert stored.outcome.status == "cancelled"


@pytest.mark.parametrize("write", WRITES)
async def test_who_writes_while_the_run_is_deleted_waits_and_leaves_nothing(
    worlds: list[World], admin: Any, slow: Any, write: str
) -> None:
    world = worlds[0]
    await begun(world)
    async with slow.transaction():
        deletes = groups.Groups(QUERIES, 1, groups.SEGMENTS_MAX)
        assert await deletes.delete(slow, [operations.Delete("p", "run")], False) == [True]
        writing = asyncio.ensure_future(disowned(WRITES[write](world)))
        await blocked(admin, writing)

    assert await within(writing)
    await nothing_is_left(admin)


async def test_who_deletes_while_the_run_is_written_waits_and_takes_it_all(
    worlds: list[World], admin: Any, slow: Any
) -> None:
    world = worlds[0]
    await begun(world)
    async with slow.transaction():
        assert await runs().append(slow, [operations.Append([batch("run", 1, 2)])], False) == [[True]]
        call = operations.BeginCall("p", "run", FIRST_FENCE, CALL._replace(item_id="ws_2"))
        assert await runs().begin_calls(slow, [call], False) == [None]
        deleting = asyncio.ensure_future(world.store.delete("p", "run"))
        await blocked(admin, deleting)

    assert await within(deleting)
    await nothing_is_left(admin)


async def nothing_is_left(admin: Any) -> None:
    for table in ("responses", "runs", "events", "journal", "items", "threads"):
        assert await admin.fetchval(f"SELECT count(*) FROM antiphon.{table}") == 0, table


# --- Groups over the same runs never wait for each other in a circle ---


@pytest.fixture
async def writers(postgres: PostgresServer, worlds: list[World]) -> AsyncIterator[list[Any]]:
    """Three connections: one that holds a lock, and two that write."""
    connections = [await session(postgres) for _ in range(3)]
    yield connections
    for connection in connections:
        await connection.close()


Group = Callable[[Any, list[str]], Awaitable[list[Any]]]
GROUPS: dict[str, Group] = {
    "append": lambda at, names: runs().append(at, [operations.Append([batch(name, 0) for name in names])], False),
    "finish": lambda at, names: runs().finish(at, [ending(name, 0) for name in names], False),
    "claim": lambda at, names: runs().claim(at, [operations.Claim("p", name, id(at)) for name in names], False),
    "begin calls": lambda at, names: runs().begin_calls(
        at, [operations.BeginCall("p", name, FIRST_FENCE, CALL) for name in names], False
    ),
    "complete calls": lambda at, names: runs().complete_calls(
        at, [operations.CompleteCall("p", name, FIRST_FENCE, CALL, b'[{},"",true]') for name in names], False
    ),
    "hand back": lambda at, names: runs().hand_back(
        at, [operations.HandBack([(RunName("p", name), FIRST_FENCE) for name in names])], False
    ),
    "delete": lambda at, names: groups.Groups(QUERIES, 1, groups.SEGMENTS_MAX).delete(
        at, [operations.Delete("p", name) for name in names], False
    ),
}  # fmt: skip


PAIRS = [
    *(("runs", *pair) for pair in itertools.combinations_with_replacement(GROUPS, 2)),
    *(("responses", *pair) for pair in itertools.product(("finish", "claim", "delete"), repeat=2)),
]


@pytest.mark.parametrize(("table", "one", "other"), PAIRS)
async def test_groups_lock_in_one_order(
    worlds: list[World], writers: list[Any], admin: Any, table: str, one: str, other: str
) -> None:
    """Both come to a row in the middle that somebody holds, from opposite ends; neither has what the other wants."""
    names = ["a", "b", "c"]
    for name in names:
        await worlds[0].begin(turn=name, input=[])
    holder, first, second = writers
    row = await admin.fetchval("SELECT row FROM antiphon.responses WHERE id = 'b'")
    holding = holder.transaction()
    await holding.start()
    key = "run" if table == "runs" else "row"
    await holder.execute(f"SELECT FROM {table} WHERE {key} = $1 FOR UPDATE", row)

    waiting = [
        asyncio.ensure_future(GROUPS[one](first, names)),
        asyncio.ensure_future(GROUPS[other](second, names[::-1])),
    ]
    await blocked(admin, *waiting)
    await holding.rollback()

    await within(asyncio.gather(*waiting))  # a circle would be broken by the server, with an error for one of them


# --- At once, many times ---


@pytest.mark.parametrize("seed", range(3))
async def test_claims_and_appends_at_once_happen_in_one_order(worlds: list[World], seed: int) -> None:
    """I2: whatever the old owner was told is durable is what the new one finds, and nothing comes after it."""
    chance = random.Random(seed)
    names = [f"r{number}" for number in range(40)]
    for name in names:
        await worlds[0].begin(turn=name)

    async def own(name: str) -> list[int]:
        """Writes until it is refused; the numbers that are durable."""
        written: list[int] = []
        for _ in range(200):
            numbers = range(len(written), len(written) + chance.choice([1, 3]))
            if not await worlds[0].append(name, *numbers):
                return written
            written += numbers
        return written

    async def take(name: str) -> Claim:
        world = worlds[chance.choice([1, 2])]
        for _ in range(chance.randrange(8)):
            await world.numbers(name)
        claim = await world.store.claim("p", name)
        assert claim is not None
        assert await world.append(name, claim.last + 1, fence=claim.fence)
        return claim

    owned = [own(name) for name in names]
    results = await within(asyncio.gather(*owned, *(take(name) for name in names)))

    for name, written, claim in zip(names, results[:40], results[40:], strict=True):
        assert claim == Claim(FIRST_FENCE + 1, len(written) - 1, 1)
        log = await worlds[1].log(name)
        assert [event.number for event in log] == list(range(len(written) + 1))


async def test_processes_that_take_a_run_from_each_other_write_one_log(worlds: list[World]) -> None:
    """I1, I2, I6: each claims, writes until it is robbed, and one of them ends the run."""
    names = [f"r{number}" for number in range(6)]
    for name in names:
        await worlds[0].begin(turn=name)
    ended: list[str] = []

    async def work(world: World, name: str, process: int) -> dict[int, bytes]:
        """Everything that this process was told is durable."""
        durable: dict[int, bytes] = {}
        while (claim := await world.store.claim("p", name)) is not None:
            upto = claim.last
            mine = b'"delta":"%d of %d"' % (claim.fence, process)
            for _ in range(1 + claim.fence % 3):
                events = [event(upto + 1, rest=mine), event(upto + 2, rest=mine)]
                if not (await world.store.append([Batch("p", name, claim.fence, events)]))[0]:
                    break
                durable |= {event.number: event.data for event in events}
                upto += 2
            if upto > 40:
                last = LAST._replace(number=upto + 1)
                end = ending(name, fence=claim.fence)
                if await world.store.finish(end.record, claim.fence, [Batch("p", name, claim.fence, [last])]):
                    ended.append(name)
                    durable[last.number] = last.data
        return durable

    tasks = [work(world, name, process) for name in names for process, world in enumerate(worlds)]
    told = await within(asyncio.gather(*tasks))

    assert sorted(ended) == names
    for place, name in enumerate(names):
        log = {event.number: event.data for event in await worlds[0].log(name)}
        assert list(log) == list(range(len(log)))
        mine = told[3 * place : 3 * place + 3]
        assert sum(map(len, mine)) == len(log)
        assert {number: data for durable in mine for number, data in durable.items()} == log
        assert await worlds[1].outputs(name) == [f"{name}!"]


async def test_a_run_ends_once_whoever_ends_it(worlds: list[World]) -> None:
    """I6: three processes that took it from each other, each with an end of its own."""
    begun = [await worlds[0].begin(turn=f"run{number}") for number in range(10)]
    statuses = ("completed", "failed", "cancelled")

    async def take_and_end(world: World, name: str, status: str) -> bool:
        claim = await world.store.claim("p", name)
        return claim is not None and await world.store.finish(*ending(name, 0, fence=claim.fence, status=status))

    names = [run.shell.id for run in begun]
    ends = await within(
        asyncio.gather(*(
            take_and_end(world, name, status)
            for name in names
            for world, status in zip(worlds, statuses, strict=True)
        ))
    )  # fmt: skip

    for number, name in enumerate(names):
        mine = ends[3 * number : 3 * number + 3]
        assert sorted(mine) == [False, False, True]
        stored = await worlds[0].store.read("p", name)
        assert stored is not None
        assert stored.outcome.status == statuses[mine.index(True)]
        assert await worlds[1].numbers(name) == [0]


# --- Repeated ---


async def test_a_claim_that_is_asked_for_again_is_the_same(worlds: list[World], slow: Any) -> None:
    """By its token: its outcome was not heard.  Another's claim in between is robbed, which costs it its turn only."""
    await worlds[0].begin(turn="run")
    mine = operations.Claim("p", "run", 5)
    for again in (False, True, True):
        assert await runs().claim(slow, [mine], again) == [Claim(FIRST_FENCE + 1, -1, 1)]
    assert await worlds[0].append("run", 0, fence=FIRST_FENCE + 1)
    assert await runs().claim(slow, [mine], True) == [Claim(FIRST_FENCE + 1, 0, 1)]

    assert await worlds[1].store.claim("p", "run") == Claim(FIRST_FENCE + 2, 0, 1)
    assert await runs().claim(slow, [mine], True) == [Claim(FIRST_FENCE + 3, 0, 2)]


async def test_a_run_that_came_further_was_begun_all_the_same(worlds: list[World], slow: Any) -> None:
    """Its begin was not heard of, and meanwhile another has taken and ended it."""
    writes = groups.Groups(QUERIES, 1, groups.SEGMENTS_MAX)
    new = record("run", status="queued", background=True, input=items("run?"))
    assert await writes.begin(slow, [operations.Begin(new)], False) == [None]
    claim = await worlds[0].store.claim("p", "run")
    assert claim is not None
    assert await worlds[0].store.finish(*ending("run", 0, fence=claim.fence))

    assert await writes.begin(slow, [operations.Begin(new)], True) == [None]

    assert await worlds[0].outputs("run") == ["run!"]
    assert await worlds[0].inputs("run") == ["run?"]


@pytest.mark.parametrize("text", ["x", "née \U0001f600", "\\u001e \\\\ \\n"])
async def test_what_overlaps_is_cut_between_events(worlds: list[World], text: str) -> None:
    """I3, whatever bytes the events have."""
    world = worlds[0]
    await world.begin(turn="run")
    written = [event(number, rest=f'"delta":"{number}{text * number}"'.encode()) for number in range(40)]
    for first, upto in ((0, 1), (0, 3), (2, 9), (0, 20), (19, 20), (5, 40), (0, 40)):
        assert await world.store.append([Batch("p", "run", FIRST_FENCE, written[first:upto])]) == [True]
        assert await world.log("run") == written[: max(upto, len(await world.log("run")))]
    assert await world.log("run") == written


# --- Logs that are packed ---


async def packable(world: World, response: str = "run") -> list[Any]:
    """An ended run of several rows."""
    begun = await world.begin(turn=response)
    for number in range(0, 30, 3):
        assert await world.append(response, number, number + 1, number + 2)
    assert await world.finish(begun, first_number=30)
    return await world.log(response)


async def packed(admin: Any) -> list[tuple[int, int]]:
    rows = await admin.fetch("SELECT first_seq, last_seq FROM antiphon.events WHERE packed ORDER BY run, first_seq")
    return [tuple(row) for row in rows]


async def test_a_log_becomes_one_row(worlds: list[World], admin: Any) -> None:
    """I11, and its row among the runs goes."""
    log = await packable(worlds[0])
    assert await admin.fetchval("SELECT count(*) FROM antiphon.events") == 11

    assert await worlds[1].store.compact(10) == 1

    assert await packed(admin) == [(0, 30)]
    assert await admin.fetchval("SELECT count(*) FROM antiphon.events") == 1
    assert await admin.fetchval("SELECT count(*) FROM antiphon.runs") == 0
    for after in range(-1, 31):
        assert await worlds[2].store.events("p", "run", after) == log[after + 1 :]


async def test_processes_that_pack_at_once_pack_once(worlds: list[World], admin: Any) -> None:
    logs = {f"r{number}": await packable(worlds[0], f"r{number}") for number in range(20)}

    async def pack(world: World) -> None:
        while await world.store.compact(4):
            pass

    await within(asyncio.gather(*map(pack, worlds)))

    assert await packed(admin) == [(0, 30)] * 20
    assert await admin.fetchval("SELECT count(*) FROM antiphon.events") == 20
    for name, log in logs.items():
        assert await worlds[0].log(name) == log


async def test_who_packs_what_is_being_packed_waits_and_leaves_it(worlds: list[World], admin: Any, slow: Any) -> None:
    log = await packable(worlds[0])
    run = await admin.fetchval("SELECT run FROM antiphon.runs")
    async with slow.transaction():
        await slow.fetch("SELECT FROM runs WHERE run = $1 FOR UPDATE", run)
        packing = asyncio.ensure_future(worlds[0].store.compact(1))
        await blocked(admin, packing)
        rows = await slow.fetch(QUERIES["log"], run, -1, 1 << 20)
        group = operations.Compact([operations.PackedLog(run, list(packs_of(rows)))])
        assert await runs().compact(slow, [group], False) == [None]

    assert await within(packing) == 1
    assert await packed(admin) == [(0, 30)]
    assert await worlds[0].log("run") == log


async def test_who_packs_what_is_being_deleted_waits_and_leaves_nothing(
    worlds: list[World], admin: Any, slow: Any
) -> None:
    await packable(worlds[0])
    async with slow.transaction():
        deletes = groups.Groups(QUERIES, 1, groups.SEGMENTS_MAX)
        assert await deletes.delete(slow, [operations.Delete("p", "run")], False) == [True]
        packing = asyncio.ensure_future(worlds[0].store.compact(1))
        await blocked(admin, packing)

    assert await within(packing) == 1
    await nothing_is_left(admin)


async def test_a_page_of_a_huge_log_is_small(worlds: list[World], admin: Any) -> None:
    """A packed row holds about a megabyte of frames; reading one costs no more, wherever it begins."""
    world = worlds[0]
    begun = await world.begin(turn="run")
    text = b'"delta":"%b"' % (b"abc " * 5000)
    batches = [Batch("p", "run", FIRST_FENCE, [event(2 * n, rest=text), event(2 * n + 1)]) for n in range(200)]
    assert all(await world.store.append(batches))
    assert await world.finish(begun, first_number=400)
    log = await world.log("run")

    assert await world.store.compact(1) == 1

    spans = await packed(admin)
    assert len(spans) == 4
    sizes = [sum(len(event.data) + 1 for event in log[first : last + 1]) for first, last in spans]
    assert max(sizes) <= 1 << 20
    assert sum(sizes) == sum(len(event.data) + 1 for event in log)
    first, last = spans[2]
    assert await world.store.events("p", "run", first + 5) == log[first + 6 : last + 1]
    assert await world.log("run") == log


# --- What is told of a run ---


async def test_a_run_is_read_whole_over_forks_with_large_parts(worlds: list[World]) -> None:
    await worlds[0].say(turn="one")
    await worlds[0].say("one", turn="taken")
    large = {"tools": b"[" + b"1," * 4000 + b"1]"}
    new = await worlds[0].begin("one", turn="run", input=[item("a", "née"), item("b")], large=large)

    found = await worlds[1].store.begun("p", "run")

    assert found is not None
    assert (found.stored.shell, found.stored.output) == (new.shell, [])
    assert found.earlier == [item("one?").body, item("one!").body]
    assert found.input == [item("a", "née").body, item("b").body]


async def test_calls_of_several_owners_come_in_the_order_of_their_begin(worlds: list[World]) -> None:
    await worlds[0].begin(turn="run")
    calls = [ToolCall(f"ws_{number}", "web_search", "{}") for number in (5, 1, 3)]
    fence = FIRST_FENCE
    for world, call in zip(worlds, calls, strict=True):
        await world.store.journal_begin("p", "run", fence, call)
        claim = await world.store.claim("p", "run")
        assert claim is not None
        fence = claim.fence
    await worlds[0].store.journal_complete("p", "run", fence, calls[2], RESULT)

    assert await worlds[1].store.journal("p", "run") == [
        Noted(calls[0], None), Noted(calls[1], None), Noted(calls[2], RESULT)
    ]  # fmt: skip
