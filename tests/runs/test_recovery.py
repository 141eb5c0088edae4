"""What a restart cut, and what is past its time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.runs.stage import Stage, checked, failure_of, id_of, types_of, within
from tests.specification.conformance import check_response

from antiphon.clock import SystemClock
from antiphon.engine.ports import CallDelta, Delta, ReasoningDelta, StoreError, TextDelta
from antiphon.protocol.errors import unavailable
from antiphon.runs import recovery
from antiphon.stores.sqlite import SqliteStore

CUT: dict[str, list[list[Delta]]] = {
    "nothing": [],
    "a text": [[TextDelta("Once upon")]],
    "reasoning": [[ReasoningDelta("Hm")]],
    "a call": [[CallDelta(0, "call_1", "look", '{"a')]],
    "a whole text and half a call": [[TextDelta("Let me")], [CallDelta(0, "call_1", "look", '{"a')]],
}


async def cut(path: Path, reads: list[list[Delta]], **parameters: Any) -> str:
    """A background run that stands in the middle when its process ends."""
    here = Stage([*reads, asyncio.Event()], store=SqliteStore(path))
    run = await here.create(background=True, stream=True, **parameters)
    follower = here.follow(id_of(run))
    await follower.until(lambda self: len(self.events) >= 3 + len(reads))
    await here.close()
    return id_of(run)


async def recovered(path: Path) -> Stage:
    here = Stage([[TextDelta("more")]], store=SqliteStore(path))
    await recovery.recover(here.store, here.clock, 1000, 10)
    return here


@pytest.mark.parametrize("state", CUT)
async def test_a_run_that_a_restart_cut_is_failed_and_its_stream_lawful(tmp_path: Path, state: str) -> None:
    response = await cut(tmp_path / "state.db", CUT[state])
    here = await recovered(tmp_path / "state.db")

    events = checked(await here.follow(response).whole())

    final = await here.read(response)
    assert final is not None
    check_response(final)
    assert events[-1]["type"] == "response.failed"
    assert events[-1]["response"] == final
    assert (final["status"], final["error"]["code"]) == ("failed", "server_error")
    assert "restarted" in final["error"]["message"]
    await here.close()


async def test_the_log_goes_on_where_it_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    response = await cut(path, CUT["a text"])
    before = SqliteStore(path)
    seen = await before.events("p", response, -1)
    await before.close()
    here = await recovered(path)

    events = await here.store.events("p", response, -1)
    assert events[: len(seen)] == seen
    assert types_of([{"type": event.type} for event in events[-2:]]) == ["output_item.done", "failed"]
    await here.close()


async def test_recovery_is_done_once(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    await cut(path, CUT["a text"])
    await cut(path, CUT["nothing"])
    store = SqliteStore(path)

    assert await recovery.recover(store, SystemClock(), 1000) == 2
    assert await recovery.recover(store, SystemClock(), 1000) == 0
    await store.close()


BROKEN = {
    "its large parts are gone": "DELETE FROM blob_bytes",
    "its log is not what it was": "UPDATE events SET frames = x'7b'",
}


@pytest.mark.parametrize("how", BROKEN)
async def test_a_run_that_cannot_be_read_keeps_nobody_from_starting(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "state.db"
    broken = await cut(path, CUT["a text"], instructions="Be brief. " * 1000)
    store = SqliteStore(path)
    store._writing.execute(BROKEN[how])
    await store.close()
    whole = await cut(path, CUT["a text"])

    here = await recovered(path)

    assert await here.store.unfinished() == []
    assert f"{broken} was cut by a restart and cannot be read" in caplog.text
    events = checked(await here.follow(whole).whole())
    assert events[-1]["type"] == "response.failed"
    if how.startswith("its log"):
        final = await here.read(broken)
        assert final is not None
        assert (final["status"], final["output"]) == ("failed", [])
    await here.runs.delete("p", broken)
    await here.close()


async def test_runs_are_left_for_the_next_start_when_nothing_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    response = await cut(path, CUT["a text"])
    store = SqliteStore(path)
    store._writing.pragma("query_only", True)

    assert await recovery.recover(store, SystemClock(), 1000) == 1
    assert [run.response for run in await store.unfinished()] == [response]
    store._writing.pragma("query_only", False)
    assert await recovery.recover(store, SystemClock(), 1000) == 1
    assert await store.unfinished() == []
    await store.close()


async def test_a_log_longer_than_a_page_is_recovered_whole(tmp_path: Path) -> None:
    response = await cut(tmp_path / "state.db", [[TextDelta("x" * 300_000)] for _ in range(10)])
    here = await recovered(tmp_path / "state.db")

    events = checked(await here.follow(response).whole())

    assert len(events[-1]["response"]["output"][0]["content"][0]["text"]) == 3_000_000
    await here.close()


async def test_what_is_recovered_can_be_neither_continued_nor_cancelled(tmp_path: Path) -> None:
    response = await cut(tmp_path / "state.db", CUT["a text"])
    here = await recovered(tmp_path / "state.db")

    continued = await failure_of(here.answer(previous_response_id=response))
    cancelled = await failure_of(here.runs.cancel("p", response))

    assert (continued.status, cancelled.message) == (400, "Cannot cancel a failed response.")
    await here.runs.delete("p", response)
    await here.close()


@pytest.mark.parametrize(("stored", "seconds"), [(True, 1000), (False, 10)])
async def test_what_is_recovered_is_kept_as_long_as_it_would_have_been(
    tmp_path: Path, stored: bool, seconds: int
) -> None:
    await cut(tmp_path / "state.db", CUT["a text"], store=stored)
    here = await recovered(tmp_path / "state.db")
    now = int(here.clock.now())

    assert await here.store.expire(now + seconds - 5) == 0
    assert await here.store.expire(now + seconds + 5) == 1
    await here.close()


async def test_a_sweep_that_fails_is_tried_again() -> None:
    here = Stage()
    tried = asyncio.Event()
    failures: list[Exception] = [StoreError("disk"), unavailable("away")]

    class Failing:
        async def expire(self, now: int) -> int:
            if failures:
                raise failures.pop()
            tried.set()
            return 0

    sweeping = asyncio.ensure_future(recovery.sweep(Failing(), here.clock, 0.001))  # type: ignore[arg-type]
    await within(tried.wait())
    sweeping.cancel()
    await here.close()


async def test_the_sweep_removes_what_is_past_its_time() -> None:
    here = Stage([[TextDelta("Hi")]], [[TextDelta("Hi")]], unstored_seconds=0)
    kept = await here.answer()
    run = await here.create(background=True, store=False)
    await within(run.finished())

    sweeping = asyncio.ensure_future(recovery.sweep(here.store, here.clock, 0.001))
    async with asyncio.timeout(10):
        while await here.read(id_of(run)) is not None:  # noqa: ASYNC110 - the sweep tells nobody
            await asyncio.sleep(0.001)
    sweeping.cancel()

    assert await here.read(kept["id"]) is not None
    await here.close()
