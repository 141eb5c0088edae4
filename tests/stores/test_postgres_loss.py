"""Connections that break before, in and after a commit, a database that is away, stalled or restarted.

Whatever happens, what was acknowledged is there once, and nobody waits without end.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from tests.cuttable import Cuttable, Verdict, cuttable, once
from tests.stores.postgres_server import DATABASE, PostgresServer
from tests.stores.world import CALL, World, batch, item, items, record, within

from antiphon.engine.ports.stores import FIRST_FENCE, RunName, StoreError
from antiphon.engine.ports.tools import Noted, ToolResult
from antiphon.protocol.errors import ApiError
from antiphon.stores.postgres import PostgresStore, Settings

RESULT = ToolResult({"results": []}, "Nothing.")
IMPATIENT = {"connect_seconds": 1.0, "statement_seconds": 0.6, "read_seconds": 0.6, "write_seconds": 1.0}
PATIENT = {"connect_seconds": 2.0, "statement_seconds": 1.0, "read_seconds": 10.0, "write_seconds": 15.0}


@pytest.fixture
async def proxy(postgres: PostgresServer, database_url: str) -> AsyncIterator[Cuttable]:
    async with cuttable(postgres.port) as opened:
        yield opened


@contextlib.asynccontextmanager
async def opened(postgres: PostgresServer, proxy: Cuttable, **limits: Any) -> AsyncIterator[World]:
    """A store behind the proxy, with all its connections made."""
    store = PostgresStore(Settings(postgres.url(DATABASE, port=proxy.port), connections=3, **limits))
    await within(store.open())
    world = World(store)
    await world.say(turn="first")
    await world.seen("first")
    try:
        yield world
    finally:
        proxy.rule = lambda data: Verdict.PASS
        proxy.accepting = True
        proxy.flow()
        await within(store.close())


async def _save(world: World) -> None:
    await world.say("first", turn="target")


async def _begin(world: World) -> None:
    await world.begin("first", turn="target")


async def _append(world: World) -> None:
    assert await world.append("target", 0, 1)


async def _begin_call(world: World) -> None:
    await world.store.journal_begin("p", "target", FIRST_FENCE, CALL)


async def _complete_call(world: World) -> None:
    await world.store.journal_complete("p", "target", FIRST_FENCE, CALL, RESULT)


async def _hand_back(world: World) -> None:
    await world.store.hand_back([(RunName("p", "target"), FIRST_FENCE)])


async def _claim(world: World) -> None:
    """Handed back before, and claimed twice: a claim that is repeated counts once."""
    for number in range(2):
        claim = await world.store.claim("p", "target")
        assert claim is not None
        assert (claim.last, claim.attempt) == (1, number)


async def _append_more(world: World) -> None:
    """Some of it is durable already."""
    assert await world.store.append([batch("target", 1, 2, fence=3), batch("target", 3, fence=3)]) == [True, True]


async def _finish(world: World) -> None:
    begun = record("target", status="queued", background=True)
    assert await world.finish(begun, first_number=4, fence=3)


async def _compact(world: World) -> None:
    assert await world.store.compact(5) == 1


async def _delete(world: World) -> None:
    assert await world.store.delete("p", "target")


Step = Callable[[World], Awaitable[None]]
#: Everything that is written of a run, and by which words the proxy knows the write.
RUN: list[tuple[Step, bytes]] = [
    (_begin, b"target"),
    (_append, b"target"),
    (_begin_call, b"target"),
    (_complete_call, b"target"),
    (_hand_back, b"target"),
    (_claim, b"target"),
    (_append_more, b"target"),
    (_finish, b"target"),
    (_compact, zlib.compress(b"")[:2]),
    (_delete, b"target"),
]


@pytest.mark.parametrize("verdict", [Verdict.CUT, Verdict.CUT_ANSWER])
async def test_each_write_survives_a_broken_connection(
    postgres: PostgresServer, proxy: Cuttable, verdict: Verdict
) -> None:
    """Before the commit and after it."""
    async with opened(postgres, proxy, **PATIENT) as world:
        await _save(world)
        assert await world.store.delete("p", "target")
        for step, word in RUN:
            before = proxy.accepted
            proxy.rule = once(word, verdict)
            await within(step(world))
            assert proxy.accepted > before, "a new connection was needed"
            if step in (_finish, _compact):
                assert await world.numbers("target") == [0, 1, 2, 3, 4]
                assert await world.seen("target") == ["first?", "first!", "target?", "target!"]
                assert await world.store.journal("p", "target") == [Noted(CALL, RESULT)]

        assert await world.store.read("p", "target") is None
        await world.say("first", turn="after")
        assert await world.seen("after") == ["first?", "first!", "after?", "after!"]


async def test_an_answer_that_never_comes(postgres: PostgresServer, proxy: Cuttable) -> None:
    async with opened(postgres, proxy, **{**PATIENT, "statement_seconds": 0.3}) as world:
        proxy.rule = once(b"target", Verdict.LOSE_ANSWER)
        await within(_save(world))

        assert await world.seen("target") == ["first?", "first!", "target?", "target!"]
        await world.say("target", turn="after")
        assert await world.seen("after") == ["first?", "first!", "target?", "target!", "after?", "after!"]


@pytest.mark.parametrize("verdict", [Verdict.CUT, Verdict.CUT_ANSWER])
async def test_a_group_is_written_once(postgres: PostgresServer, proxy: Cuttable, verdict: Verdict) -> None:
    async with opened(postgres, proxy, **PATIENT) as world:
        proxy.rule = once(b"turn7?", verdict)
        await within(asyncio.gather(*(world.say("first", turn=f"turn{number}") for number in range(40))))

        assert proxy.cuts == 1
        for number in range(40):
            assert await world.seen(f"turn{number}") == ["first?", "first!", f"turn{number}?", f"turn{number}!"]
        admin = await postgres.connect(DATABASE)
        assert await admin.fetchval("SELECT count(*) FROM antiphon.items") == 82
        assert await admin.fetchval("SELECT count(*) FROM antiphon.threads") == 40
        await admin.close()


@pytest.mark.parametrize("verdict", [Verdict.PASS, Verdict.CUT, Verdict.CUT_ANSWER])
async def test_a_name_that_is_taken_is_told(postgres: PostgresServer, proxy: Cuttable, verdict: Verdict) -> None:
    """After a loss only what has the same content counts as written before."""
    async with opened(postgres, proxy, **PATIENT) as world:
        proxy.rule = once(b"other", verdict)
        saves = [
            world.store.save(record("first", input=items("other"), request=b'{"include":[]}')),
            world.store.save(record("second", input=items("second?"))),
        ]
        taken, written = await within(asyncio.gather(*saves, return_exceptions=True))

        assert "duplicate key" in str(taken)
        assert written is None
        assert await world.store.item("p", "other") is None
        assert await world.outputs("second") == []


async def test_reads_are_repeated(postgres: PostgresServer, proxy: Cuttable) -> None:
    async with opened(postgres, proxy, **{**PATIENT, "statement_seconds": 0.3}) as world:
        for verdict in (Verdict.CUT, Verdict.CUT_ANSWER, Verdict.LOSE_ANSWER):
            proxy.rule = once(b"first", verdict)
            assert await within(world.seen("first")) == ["first?", "first!"]
        await world.store.append([])
        admin = await postgres.connect(DATABASE)
        assert await admin.fetchval("SELECT count(*) FROM antiphon.pins") == 0
        await admin.close()


def bad_network(seed: int) -> Callable[[bytes], Verdict]:
    """Connections break at random, before and after commits."""
    chance = random.Random(seed)
    verdicts, weights = [Verdict.PASS, Verdict.CUT, Verdict.CUT_ANSWER], [0.94, 0.03, 0.03]
    return lambda data: chance.choices(verdicts, weights)[0]


async def test_chains_through_a_bad_network(postgres: PostgresServer, proxy: Cuttable) -> None:
    """Eight conversations go on and are deleted from."""
    async with opened(postgres, proxy, **PATIENT) as world:

        async def converse(name: str) -> None:
            previous = "first"
            for number in range(8):
                previous = await world.say(previous, turn=f"{name}{number}")
                if number == 5:
                    assert await world.store.delete("p", f"{name}2")

        proxy.rule = bad_network(7)
        await within(asyncio.gather(*(converse(name) for name in "abcdefgh")))
        proxy.rule = lambda data: Verdict.PASS

        assert proxy.cuts > 5
        for name in "abcdefgh":
            turns = ["first", *(f"{name}{number}" for number in range(8))]
            assert await world.seen(f"{name}7") == [f"{turn}{mark}" for turn in turns for mark in "?!"]
            assert await world.store.read("p", f"{name}2") is None


@pytest.mark.parametrize("seed", range(3))
async def test_runs_through_a_bad_network(postgres: PostgresServer, proxy: Cuttable, seed: int) -> None:
    """I1 to I3: eight runs, each taken over twice; every event is there once, and every takeover counts once."""
    async with opened(postgres, proxy, **PATIENT) as world:

        async def run(name: str) -> None:
            begun = await world.begin("first", turn=name)
            fence, last = FIRST_FENCE, -1
            for owner in range(3):
                for _ in range(4):
                    assert await world.append(name, last + 1, last + 2, fence=fence)
                    last += 2
                call = CALL._replace(item_id=f"ws_{owner}")
                await world.store.journal_begin("p", name, fence, call)
                await world.store.journal_complete("p", name, fence, call, RESULT)
                for attempt in (1, 2):
                    claim = await world.store.claim("p", name)
                    assert claim is not None
                    assert (claim.last, claim.attempt) == (last, attempt)
                    assert not await world.append(name, last + 1, fence=fence)
                    fence = claim.fence
            assert await world.finish(begun, first_number=last + 1, fence=fence)

        proxy.rule = bad_network(seed)
        await within(asyncio.gather(*(run(name) for name in "abcdefgh")))
        while await within(world.store.compact(3)):
            pass
        proxy.rule = lambda data: Verdict.PASS

        assert proxy.cuts > 5
        for name in "abcdefgh":
            assert await world.numbers(name) == list(range(25))
            assert await world.seen(name) == ["first?", "first!", f"{name}?", f"{name}!"]
            assert [noted.result for noted in await world.store.journal("p", name)] == [RESULT] * 3


async def _refusal(waiting: Awaitable[Any]) -> ApiError:
    with pytest.raises(ApiError) as raised:
        await within(waiting)
    return raised.value


async def test_while_it_is_away_everybody_is_told(postgres: PostgresServer, proxy: Cuttable) -> None:
    async with opened(postgres, proxy, **IMPATIENT) as world:
        store = world.store
        proxy.refuse()
        started = time.monotonic()
        refusals = await asyncio.gather(
            _refusal(store.read("p", "first")),
            _refusal(store.context("p", "first")),
            _refusal(store.save(record("second"))),
            _refusal(store.delete("p", "first")),
            _refusal(store.expire(1)),
        )
        with pytest.raises(StoreError, match=f"127.0.0.1:{proxy.port}/{DATABASE}: "):
            await within(store.ping())

        assert time.monotonic() - started < 6
        for refusal in refusals:
            assert (refusal.status, refusal.code) == (503, "server_is_overloaded")
            assert dict(refusal.headers) == {"x-should-retry": "true", "retry-after": "2"}
            assert "reached" in refusal.message

        proxy.accepting = True
        await within(store.ping())
        assert await world.seen("first") == ["first?", "first!"]
        assert await store.read("p", "second") is None
        await world.say("first", turn="second")
        assert await world.seen("second") == ["first?", "first!", "second?", "second!"]


async def test_what_waits_is_written_when_it_is_back(postgres: PostgresServer, proxy: Cuttable) -> None:
    async with opened(postgres, proxy, **PATIENT) as world:
        proxy.refuse()
        waiting = [asyncio.ensure_future(world.say(turn=f"turn{number}")) for number in range(300)]
        reading = asyncio.ensure_future(world.outputs("first"))
        await within(proxy.refused.wait())
        proxy.accepting = True

        await within(asyncio.gather(*waiting))
        assert await within(reading) == ["first!"]
        assert await world.alive([f"turn{number}?" for number in range(300)]) == {f"turn{n}?" for n in range(300)}


async def test_a_stalled_network_holds_nobody_for_ever(postgres: PostgresServer, proxy: Cuttable) -> None:
    async with opened(postgres, proxy, **IMPATIENT) as world:
        proxy.stall()
        started = time.monotonic()
        refusals = await asyncio.gather(
            _refusal(world.store.read("p", "first")),
            _refusal(world.store.save(record("second", input=items("second?")))),
        )
        assert [refusal.status for refusal in refusals] == [503, 503]
        assert time.monotonic() - started < 8

        proxy.flow()
        proxy.cut()
        assert await within(world.seen("first")) == ["first?", "first!"]
        await within(world.say("first", turn="third"))


async def test_too_few_connections_and_a_lock_that_stays(postgres: PostgresServer, proxy: Cuttable) -> None:
    """Readers queue for three connections that are stuck: all are told in time, and then all goes on."""
    async with opened(postgres, proxy, **IMPATIENT) as world:
        admin = await postgres.connect(DATABASE)
        async with admin.transaction():
            await admin.execute("LOCK TABLE antiphon.responses IN ACCESS EXCLUSIVE MODE")
            started = time.monotonic()
            refusals = await asyncio.gather(*(_refusal(world.store.read("p", "first")) for _ in range(30)))
            assert time.monotonic() - started < 6
        await admin.close()

        assert {refusal.status for refusal in refusals} == {503}
        found = await within(asyncio.gather(*(world.outputs("first") for _ in range(30))))
        assert found == [["first!"]] * 30


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT, signal.SIGKILL])
async def test_the_server_restarts_in_the_middle(
    postgres: PostgresServer, database_url: str, how: signal.Signals
) -> None:
    """In order, at once, and as after a power cut; every conversation goes on."""
    store = PostgresStore(Settings(database_url, connections=4, **PATIENT))
    await store.open()
    world = World(store)
    enough, restarted = asyncio.Event(), asyncio.Event()
    told: list[str] = []

    async def converse(name: str) -> int:
        previous, number, after = None, 0, 0
        while after < 3:
            after += restarted.is_set()
            previous = await world.say(previous, turn=f"{name}{number}")
            told.append(previous)
            number += 1
            if len(told) == 20:
                enough.set()
        return number

    talks = [asyncio.ensure_future(converse(name)) for name in "abcd"]
    await within(enough.wait())
    await within(asyncio.to_thread(postgres.restart, how))
    restarted.set()
    lengths = await within(asyncio.gather(*talks))

    for name, length in zip("abcd", lengths, strict=True):
        expected = [f"{name}{number}{mark}" for number in range(length) for mark in "?!"]
        assert await world.seen(f"{name}{length - 1}") == expected
    await within(store.close())


async def test_a_large_write_is_bounded_by_bytes(postgres: PostgresServer, proxy: Cuttable) -> None:
    """More than one group's bytes at once: several groups, each written."""
    async with opened(postgres, proxy, **PATIENT) as world:
        big = "x" * (3 << 20)
        saves = [
            world.store.save(record(f"big{number}", input=[item(f"i{number}", big)])) for number in range(14)
        ]  # fmt: skip
        await within(asyncio.gather(*saves))
        for number in (0, 13):
            assert await world.store.item("p", f"i{number}") == item(f"i{number}", big).body
