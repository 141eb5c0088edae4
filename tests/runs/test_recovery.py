"""Runs that a stop, a crash or another process cut, taken up where their logs end (docs/log.md); and the sweep."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from tests.runs.stage import Stage, checked, failure_of, id_of, within
from tests.specification.conformance import check_response

from antiphon.clock import SystemClock
from antiphon.engine.deltas import CallDelta, Delta, ReasoningDelta, TextDelta
from antiphon.engine.ports.stores import RunName, StoreError
from antiphon.engine.ports.tools import Tool
from antiphon.protocol.errors import unavailable
from antiphon.runs import recovery
from antiphon.stores.sqlite import SqliteStore
from antiphon.tools.scripted import ScriptedTool

Json = dict[str, Any]

CLOSED: Json = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
CUT: dict[str, list[list[Delta]]] = {
    "nothing": [],
    "a text": [[TextDelta("Once upon")]],
    "reasoning": [[ReasoningDelta("Hm")]],
    "a whole text and half a call": [[TextDelta("Once upon")], [CallDelta(0, "call_1", "look", '{"a')]],
}


async def cut(
    path: Path, reads: list[list[Delta]], tools_here: dict[str, Tool] | None = None, **parameters: Any
) -> str:
    """A background run that stands in the middle when its server stops."""
    here = Stage([*reads, asyncio.Event()], store=SqliteStore(path), tools=tools_here)
    run = await here.create(background=True, stream=True, **parameters)
    follower = here.follow(id_of(run))
    await follower.until(lambda self: len(self.events) >= 3 + bool(reads))
    await here.close()
    return id_of(run)


async def taken_up(path: Path, **options: Any) -> Stage:
    here = Stage([[TextDelta(" a time.")]], store=SqliteStore(path), prefill=True, **options)
    await here.recover()
    return here


async def whole(here: Stage, response: str) -> list[Json]:
    """The events of a run that has come to its end, which the response repeats."""
    events = checked(await here.follow(response).whole())
    final = await here.read(response)
    assert final is not None
    check_response(final)
    assert events[-1]["response"] == final
    return events


@pytest.mark.parametrize("state", CUT)
async def test_a_run_that_a_restart_cut_goes_on(tmp_path: Path, state: str) -> None:
    response = await cut(tmp_path / "state.db", CUT[state])
    before = SqliteStore(tmp_path / "state.db")
    seen = await before.events("p", response, -1)
    await before.close()
    here = await taken_up(tmp_path / "state.db")

    events = await whole(here, response)

    final = events[-1]["response"]
    assert final["status"] == "completed"
    assert (await here.store.events("p", response, -1))[: len(seen)] == seen
    text = next(item for item in final["output"] if item["type"] == "message")["content"][0]["text"]
    assert text == ("Once upon a time." if "text" in state else " a time.")
    assert here.upstream.requests[0].prefix == ("Once upon" if "text" in state else None)
    await here.close()


async def test_it_is_asked_for_what_was_asked_for(tmp_path: Path) -> None:
    """Nothing that was not given becomes a parameter, and nothing that was given is forgotten."""
    given: Json = {
        "instructions": "Be brief. " * 100,
        "tools": [{"type": "function", "name": "f", "parameters": CLOSED, "strict": True}],
        "tool_choice": {"type": "allowed_tools", "tools": [{"type": "function", "name": "f"}], "mode": "auto"},
        "text": {"format": {"type": "text"}, "verbosity": "low"},
        "reasoning": {"effort": "low"},
        "temperature": 0.5,
        "metadata": {"a": "b"},
        "x_vendor": [1],
        "input": [{"role": "user", "content": "Hello"}],
    }
    response = await cut(tmp_path / "state.db", [], **given)
    here = await taken_up(tmp_path / "state.db")
    await whole(here, response)

    [asked] = here.upstream.requests
    request = asked.request
    assert (request.instructions, request.temperature, request.top_p) == ("Be brief. " * 100, 0.5, None)
    assert (request.metadata, request.reasoning.effort) == ({"a": "b"}, "low")  # type: ignore[union-attr]
    assert [bytes(value) for value in request.unknown.values()] == [b"[1]"]
    assert (asked.choice.type, asked.choice.names) == ("allowed_tools", ("f",))
    assert [(tool.name, tool.strict) for tool in asked.tools] == [("f", True)]
    assert request.text is not None
    assert request.text.verbosity == "low"
    assert [item.view.role for item in asked.items] == ["user"]
    final = await here.read(response)
    assert final is not None
    assert (final["store"], final["temperature"], final["top_p"]) == (True, 0.5, 1.0)
    await here.close()


async def test_a_run_that_the_last_release_began_goes_on(tmp_path: Path) -> None:
    """It kept beside the Response only what that does not repeat, and no more."""
    response = await cut(tmp_path / "state.db", CUT["a text"], temperature=0.5, instructions="Be brief.")
    store = SqliteStore(tmp_path / "state.db")
    store._writing.execute("UPDATE responses SET request = CAST('{}' AS BLOB)")
    await store.close()
    here = await taken_up(tmp_path / "state.db")

    assert (await whole(here, response))[-1]["type"] == "response.completed"
    request = here.upstream.requests[0].request
    assert (request.model, request.temperature, request.instructions) == ("demo", 0.5, "Be brief.")
    await here.close()


async def test_what_it_continues_is_seen_again(tmp_path: Path) -> None:
    first = Stage([[TextDelta("I am Ada.")]], store=SqliteStore(tmp_path / "state.db"))
    before = await first.answer(input="Who are you?")
    await first.close()
    response = await cut(tmp_path / "state.db", [], previous_response_id=before["id"])
    here = await taken_up(tmp_path / "state.db")
    await whole(here, response)

    assert [item.view.role for item in here.upstream.requests[0].items] == ["user", "assistant", "user"]
    await here.close()


async def test_a_stop_hands_back_and_is_no_takeover(tmp_path: Path) -> None:
    """docs/log.md, I10: any number of stops is survived."""
    response = await cut(tmp_path / "state.db", CUT["nothing"])
    for _ in range(5):
        here = Stage([asyncio.Event()], store=SqliteStore(tmp_path / "state.db"))
        await here.recover()
        async with asyncio.timeout(10):
            while not here.upstream.requests:  # noqa: ASYNC110 - the upstream tells nobody
                await asyncio.sleep(0.001)
        await here.close()

    here = await taken_up(tmp_path / "state.db")
    assert (await whole(here, response))[-1]["type"] == "response.completed"
    await here.close()


async def test_three_takeovers_without_progress_fail_the_run(tmp_path: Path) -> None:
    """docs/log.md, I10: claimed and dropped again and again, as by processes that crash at once."""
    response = await cut(tmp_path / "state.db", CUT["a text"])
    store = SqliteStore(tmp_path / "state.db")
    claims = [await store.claim("p", response) for _ in range(4)]
    assert [claim.attempt for claim in claims if claim is not None] == [0, 1, 2, 3]
    await store.close()
    here = await taken_up(tmp_path / "state.db")

    final = (await whole(here, response))[-1]["response"]

    assert (final["status"], final["error"]["code"]) == ("failed", "server_error")
    assert "taken over 3 times" in final["error"]["message"]
    assert final["output"][0]["content"][0]["text"] == "Once upon"
    assert not here.upstream.requests
    await here.close()


async def test_an_owner_whose_run_was_taken_stops_and_its_readers_go_on() -> None:
    """docs/log.md, I2: two processes on one database."""
    store = SqliteStore(None)
    gate = asyncio.Event()
    first = Stage([[TextDelta("Once upon")], gate, [TextDelta(" never said")]], store=store)
    run = await first.create(background=True, stream=True)
    follower = first.follow(id_of(run))
    await follower.until_type("output_text.delta")
    second = Stage([[TextDelta(" a time.")]], store=store, prefill=True)
    await second.recover()
    events = await whole(second, id_of(run))

    gate.set()
    await within(run.finished())

    assert run.disowned
    assert checked(await follower.whole()) == events
    assert "never" not in json.dumps(events)
    await first.runs.close()
    await second.close()


async def test_a_run_that_nobody_works_on_can_be_cancelled(tmp_path: Path) -> None:
    response = await cut(tmp_path / "state.db", CUT["a text"])
    here = Stage(store=SqliteStore(tmp_path / "state.db"))

    cancelled = [json.loads(await within(here.runs.cancel("p", response))) for _ in range(2)]

    assert [one["status"] for one in cancelled] == ["cancelled"] * 2
    assert (await whole(here, response))[-1]["response"] == cancelled[0]
    assert cancelled[0]["output"][0]["content"][0]["text"] == "Once upon"
    await here.close()


async def test_a_run_that_is_not_taken_up_yet_cannot_be_deleted(tmp_path: Path) -> None:
    response = await cut(tmp_path / "state.db", CUT["a text"])
    here = Stage(store=SqliteStore(tmp_path / "state.db"))

    assert (await failure_of(here.runs.delete("p", response))).message == "Cannot delete an in-flight response."
    await here.close()


async def test_a_reader_that_is_there_before_the_run_is_taken_up(tmp_path: Path) -> None:
    response = await cut(tmp_path / "state.db", CUT["a text"])
    here = Stage([[TextDelta(" a time.")]], store=SqliteStore(tmp_path / "state.db"), prefill=True)
    early = here.follow(response)
    await early.until_type("output_text.delta")
    await here.recover()

    assert checked(await early.whole()) == await whole(here, response)
    await here.close()


async def test_a_tool_that_is_not_there_any_more_fails_the_run(tmp_path: Path) -> None:
    hosted: dict[str, Tool] = {"antiphon:scripted": ScriptedTool(SystemClock())}
    response = await cut(tmp_path / "state.db", CUT["a text"], hosted, tools=[{"type": "antiphon:scripted"}])
    here = await taken_up(tmp_path / "state.db")

    final = (await whole(here, response))[-1]["response"]

    assert final["status"] == "failed"
    assert "scripted" in final["error"]["message"]
    await here.close()


async def test_recovery_finds_what_is_left(tmp_path: Path) -> None:
    await cut(tmp_path / "state.db", CUT["a text"])
    await cut(tmp_path / "state.db", CUT["nothing"])
    here = Stage(echo=lambda _: [[TextDelta("x")]], store=SqliteStore(tmp_path / "state.db"))

    left = await here.store.unfinished()
    assert await here.recover() == 2
    for run in left:
        await whole(here, run.response)
    assert await here.store.unfinished() == []
    await here.close()


BROKEN = {
    "its large parts are gone": "DELETE FROM blob_bytes",
    "its log is not what it was": "UPDATE events SET frames = x'7b'",
}


@pytest.mark.parametrize("how", BROKEN)
async def test_a_run_that_cannot_be_read_is_ended_and_keeps_no_other_waiting(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "state.db"
    broken = await cut(path, CUT["a text"], instructions="Be brief. " * 1000)
    store = SqliteStore(path)
    store._writing.execute(BROKEN[how])
    await store.close()
    good = await cut(path, CUT["a text"])

    here = await taken_up(path)

    await whole(here, good)
    async with asyncio.timeout(10):
        while await here.store.unfinished():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.001)
    assert f"{broken} was cut and cannot be read" in caplog.text
    if how.startswith("its log"):
        final = await here.read(broken)
        assert final is not None
        assert (final["status"], final["output"]) == ("failed", [])
    await here.runs.delete("p", broken)
    await here.close()


async def test_runs_wait_while_nothing_can_be_written(tmp_path: Path) -> None:
    response = await cut(tmp_path / "state.db", CUT["a text"])
    store = SqliteStore(tmp_path / "state.db")
    store._writing.pragma("query_only", True)
    here = Stage([[TextDelta(" a time.")]], store=store, prefill=True)
    await here.recover()
    early = here.follow(response)
    await early.until_type("output_text.delta")

    assert await store.unfinished() == [RunName("p", response)]
    store._writing.pragma("query_only", False)
    assert checked(await early.whole()) == await whole(here, response)
    await here.close()


async def test_a_log_longer_than_a_page_is_taken_up_whole(tmp_path: Path) -> None:
    here = Stage(
        [*[[TextDelta("x" * 300_000)] for _ in range(10)], asyncio.Event()], store=SqliteStore(tmp_path / "a.db")
    )
    run = await here.create(background=True, stream=True)
    await here.follow(id_of(run)).until(lambda self: len(self.events) >= 15)
    await here.close()
    here = await taken_up(tmp_path / "a.db")

    events = await whole(here, id_of(run))

    assert len(events[-1]["response"]["output"][0]["content"][0]["text"]) == 3_000_000 + len(" a time.")
    await here.close()


@pytest.mark.parametrize(("stored", "seconds"), [(True, 86400), (False, 10)])
async def test_what_was_taken_up_is_kept_as_long_as_it_would_have_been(
    tmp_path: Path, stored: bool, seconds: int
) -> None:
    response = await cut(tmp_path / "state.db", CUT["a text"], store=stored)
    here = await taken_up(tmp_path / "state.db", response_days=1, unstored_seconds=10)
    await whole(here, response)
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
            return 0

        async def compact(self, most: int) -> int:
            tried.set()
            return 0

    sweeping = asyncio.ensure_future(recovery.sweep(Failing(), here.clock, 0.001))  # type: ignore[arg-type]
    await within(tried.wait())
    sweeping.cancel()
    await here.close()


async def test_the_sweep_removes_what_is_past_its_time_and_packs_the_rest() -> None:
    here = Stage([[TextDelta("Hi")]], [[TextDelta("Hi")]], [[TextDelta("Hi")]], unstored_seconds=0)
    kept = await here.answer()
    gone, packed = await here.create(background=True, store=False), await here.create(background=True, stream=True)
    await within(asyncio.gather(gone.finished(), packed.finished()))
    before = await whole(here, id_of(packed))

    sweeping = asyncio.ensure_future(recovery.sweep(here.store, here.clock, 0.001))
    async with asyncio.timeout(10):
        while await here.read(id_of(gone)) is not None or await here.store.compact(1):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.001)
    sweeping.cancel()

    assert await here.read(kept["id"]) is not None
    assert await whole(here, id_of(packed)) == before
    await here.close()
