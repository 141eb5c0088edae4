"""Background runs: a log that outlives its readers, of which no number leaves before it is durable."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from tests.runs.stage import Follower, Make, Stage, checked, failure_of, id_of, types_of, within
from tests.specification.conformance import check_response

from antiphon.engine.deltas import CallDelta, TextDelta
from antiphon.engine.ports.stores import Batch, Record, RunName, StoreError
from antiphon.engine.ports.upstreams import UpstreamError
from antiphon.protocol.errors import unavailable
from antiphon.protocol.events import Event
from antiphon.runs.flushing import Flusher
from antiphon.runs.following import EVENTS_MAX
from antiphon.runs.log import BATCH_BYTES_MAX, DurableLog
from antiphon.runs.run import Run
from antiphon.stores.sqlite import SqliteStore
from antiphon.upstreams.scripted import Script


class GatedStore(SqliteStore):
    """Holds appended events, and the end of a run, until their gates are opened; or fails."""

    def __init__(self) -> None:
        super().__init__(None)
        self.appending, self.append_gate = asyncio.Event(), asyncio.Event()
        self.finishing, self.finish_gate = asyncio.Event(), asyncio.Event()
        self.append_failure: Exception | None = None
        self.finish_failure: Exception | None = None
        self.append_gate.set()
        self.finish_gate.set()

    async def append(self, batches: Sequence[Batch]) -> list[bool]:
        self.appending.set()
        await self.append_gate.wait()
        if self.append_failure is not None:
            raise self.append_failure
        return await super().append(batches)

    async def finish(self, record: Record, fence: int, batches: Sequence[Batch]) -> bool:
        self.finishing.set()
        await self.finish_gate.wait()
        if self.finish_failure is not None:
            raise self.finish_failure
        return await super().finish(record, fence, batches)


async def start(here: Stage, **parameters: Any) -> Run:
    return await here.create(background=True, stream=True, **parameters)


# --- Life ---


async def test_from_queued_to_completed(stage: Make) -> None:
    gate = asyncio.Event()
    here = stage([[TextDelta("Hi")], gate])
    run = await start(here)
    seen = [await here.read(id_of(run))]
    follower = here.follow(id_of(run))
    await follower.until_type("output_text.delta")
    live = await here.runs.read("p", id_of(run))
    assert live is not None
    seen.append(json.loads(live.snapshot()))
    gate.set()
    events = checked(await follower.whole())
    seen.append(await here.read(id_of(run)))

    for one in seen:
        check_response(one)
    assert [one["status"] for one in seen] == ["queued", "in_progress", "completed"]
    assert types_of(events)[:3] == ["created", "queued", "in_progress"]
    assert events[-1]["response"] == seen[-1]


async def test_a_background_response_can_be_continued(stage: Make) -> None:
    here = stage([[TextDelta("one")]], [[TextDelta("two")]])
    first = await start(here)
    early = await failure_of(here.answer(previous_response_id=id_of(first)))
    await within(first.finished())
    await here.answer(previous_response_id=id_of(first))

    assert (early.status, early.param) == (400, "previous_response_id")
    assert len(here.upstream.requests[1].items) == 3


@pytest.mark.parametrize("failure", [UpstreamError("Busy.", status=503), UpstreamError("Gone.", code="upstream_cut")])
@pytest.mark.parametrize("said", [[], [[TextDelta("Hi")]]])
async def test_a_failure_is_told_in_the_log_whenever_it_comes(
    stage: Make, failure: UpstreamError, said: list[Any]
) -> None:
    here = stage([*said, failure])
    run = await start(here)

    events = checked(await here.follow(id_of(run)).whole())

    final = await here.read(id_of(run))
    assert final == events[-1]["response"]
    assert final is not None
    assert (final["status"], final["error"]["message"]) == ("failed", failure.message)


async def test_a_bug_is_told_in_the_log(stage: Make) -> None:
    here = stage(["no step"])  # type: ignore[list-item]
    run = await start(here)

    events = checked(await here.follow(id_of(run)).whole())

    assert types_of(events) == ["created", "queued", "in_progress", "failed"]


async def test_unstored_background_responses_stay_for_a_while_and_nothing_continues_them(stage: Make) -> None:
    here = stage([[TextDelta("Hi")]], unstored_seconds=600)
    run = await start(here, store=False)
    await within(run.finished())
    made = await here.read(id_of(run))
    assert made is not None

    refused = await failure_of(here.answer(previous_response_id=id_of(run)))
    early = await here.store.expire(made["created_at"] + 590)
    late = await here.store.expire(made["created_at"] + 700)

    assert (made["status"], made["store"]) == ("completed", False)
    assert refused.code == "previous_response_not_found"
    assert (early, late) == (0, 1)


async def test_unstored_background_responses_can_be_refused(stage: Make) -> None:
    here = stage(background_unstored="refuse")

    error = await failure_of(start(here, store=False))

    assert (error.status, error.code, error.param) == (400, "unsupported_parameter", "background")


async def test_a_run_in_flight_cannot_be_deleted(stage: Make) -> None:
    gate = asyncio.Event()
    here = stage([gate])
    run = await start(here)

    error = await failure_of(here.runs.delete("p", id_of(run)))
    gate.set()
    await within(run.finished())
    await here.runs.delete("p", id_of(run))

    assert (error.status, error.message) == (400, "Cannot delete an in-flight response.")
    assert (await failure_of(here.runs.delete("p", id_of(run)))).status == 404


# --- Cancel ---


async def test_cancel_ends_the_run_and_twice_is_the_same(stage: Make) -> None:
    here = stage([[TextDelta("Once"), CallDelta(0, "call_1", "look", '{"a')], asyncio.Event()])
    run = await start(here)
    follower = here.follow(id_of(run))
    await follower.until_type("output_text.delta")

    first = await within(here.runs.cancel("p", id_of(run)))
    again = await within(here.runs.cancel("p", id_of(run)))
    events = checked(await follower.whole())

    assert first == again
    assert json.loads(first)["status"] == "cancelled"
    assert events[-1]["type"] == "response.failed"
    assert [item["status"] for item in events[-1]["response"]["output"]] == ["completed", "incomplete"]
    assert here.upstream.cancelled == 1


async def test_two_cancels_at_once_are_one(stage: Make) -> None:
    here = stage([asyncio.Event()])
    run = await start(here)

    first, second = await within(asyncio.gather(here.runs.cancel("p", id_of(run)), here.runs.cancel("p", id_of(run))))

    assert first == second


async def test_cancel_before_the_run_began(stage: Make) -> None:
    here = stage([[TextDelta("Hi")]])
    run = await start(here)

    cancelled = json.loads(await within(here.runs.cancel("p", id_of(run))))
    events = checked(await here.follow(id_of(run)).whole())

    assert (cancelled["status"], cancelled["output"]) == ("cancelled", [])
    assert types_of(events) == ["created", "queued", "in_progress", "failed"]
    assert here.upstream.requests == []


async def test_cancel_while_the_end_is_written_comes_too_late(stage: Make) -> None:
    store = GatedStore()
    store.finish_gate.clear()
    here = stage([[TextDelta("Hi")]], store=store)
    run = await start(here)
    await within(store.finishing.wait())

    cancelling = asyncio.ensure_future(here.runs.cancel("p", id_of(run)))
    await asyncio.sleep(0)
    store.finish_gate.set()
    error = await failure_of(cancelling)

    assert (error.status, error.message) == (400, "Cannot cancel a completed response.")
    checked(await here.follow(id_of(run)).whole())


async def test_what_cannot_be_cancelled(stage: Make) -> None:
    here = stage([[TextDelta("Hi")]], [UpstreamError("No.")])
    foreground = (await here.answer())["id"]
    failed = id_of(await start(here))
    await here.follow(failed).whole()

    errors = [await failure_of(here.runs.cancel("p", name)) for name in (foreground, failed, "resp_unknown")]
    other = await failure_of(here.runs.cancel("q", foreground))

    assert [(error.status, error.message) for error in errors] == [
        (400, "Cannot cancel a synchronous response."),
        (400, "Cannot cancel a failed response."),
        (404, "Response with id 'resp_unknown' not found."),
    ]
    assert other.status == 404


# --- Readers ---


async def test_readers_live_late_and_from_a_number_see_the_same_bytes(stage: Make) -> None:
    gate = asyncio.Event()
    here = stage([[TextDelta("Once ")], [TextDelta("upon ")], gate, [TextDelta("a time")]])
    run = await start(here)
    live, second = here.follow(id_of(run)), here.follow(id_of(run))
    await live.until(lambda self: self.text() == "Once upon ")
    middle, from_four = here.follow(id_of(run)), here.follow(id_of(run), after=4)
    await middle.until(lambda self: self.text() == "Once upon ")
    gate.set()
    await live.whole()
    late, beyond = here.follow(id_of(run)), here.follow(id_of(run), after=10_000)

    checked(await live.whole())
    assert await within(beyond.ended) is True
    for other in (second, middle, late):
        await other.whole()
        assert other.events == live.events
    await from_four.whole()
    assert from_four.events == live.events[5:]
    assert beyond.events == []


async def test_a_reader_from_a_number_that_is_not_there_yet(stage: Make) -> None:
    gate = asyncio.Event()
    here = stage([gate, [TextDelta("Hi")]])
    run = await start(here)
    follower, beyond = here.follow(id_of(run), after=5), here.follow(id_of(run), after=99)
    gate.set()
    await follower.whole()

    assert [event.number for event in follower.events] == list(range(6, follower.events[-1].number + 1))
    assert await within(beyond.ended) is True


async def test_a_slow_reader_is_let_go_and_catches_up(stage: Make) -> None:
    gate = asyncio.Event()
    many = [[TextDelta(f"{number} ")] for number in range(2 * EVENTS_MAX)]
    here = stage([[TextDelta("first ")], gate, *many])
    run = await start(here)
    slow, quick = here.follow(id_of(run)), here.follow(id_of(run))
    await slow.until_type("output_text.delta")
    slow.stall()
    gate.set()
    await quick.whole()
    behind = len(slow.events)
    slow.go_on()

    checked(await slow.whole())
    assert behind < len(quick.events)
    assert slow.events == quick.events


async def test_no_number_leaves_before_it_is_durable(stage: Make) -> None:
    store = GatedStore()
    store.append_gate.clear()
    here = stage([[TextDelta("Hi")], asyncio.Event()], store=store)
    run = await start(here)
    follower = here.follow(id_of(run))
    await within(store.appending.wait())

    assert follower.events == []
    store.append_gate.set()
    await follower.until_type("output_text.delta")

    durable = await store.events("p", id_of(run), -1)
    assert follower.events == durable


async def test_events_that_come_while_others_are_written_are_not_lost(stage: Make) -> None:
    store = GatedStore()
    store.append_gate.clear()
    here = stage([[TextDelta("Hi")], store.appending, [TextDelta("!")]], store=store)
    run = await start(here)
    follower = here.follow(id_of(run))
    await within(store.appending.wait())
    store.append_gate.set()

    checked(await follower.whole())
    assert follower.text() == "Hi!"


async def test_a_reader_that_leaves_does_not_stop_the_run(stage: Make) -> None:
    gate = asyncio.Event()
    here = stage([[TextDelta("Hi")], gate])
    run = await start(here)
    follower = Follower()
    following = here.runs.follow("p", id_of(run), follower)
    await follower.until_type("output_text.delta")

    following.cancel()
    await asyncio.wait([following])
    gate.set()
    await within(run.finished())

    assert run.log._readers == {}  # type: ignore[union-attr]


# --- A store that fails ---


@pytest.mark.parametrize("failure", [OSError("disk full"), unavailable("away"), LookupError("a bug")])
async def test_events_that_cannot_be_written_wait_and_the_run_goes_on(stage: Make, failure: Exception) -> None:
    store = GatedStore()
    store.append_failure = failure
    gate = asyncio.Event()
    here = stage([[TextDelta("Hi")], gate, [TextDelta(" there")]], store=store)
    run = await start(here)
    follower = here.follow(id_of(run))
    await within(store.appending.wait())
    assert follower.events == []

    store.append_failure = None
    await follower.until_type("output_text.delta")
    gate.set()

    assert checked(await follower.whole())[-1]["type"] == "response.completed"


async def test_an_upstream_is_paused_while_too_much_waits_to_be_stored(stage: Make) -> None:
    store = GatedStore()
    store.append_failure = StoreError("away")
    here = stage([[TextDelta("x" * 1000)] for _ in range(100)], store=store, run_buffer_bytes=10_000)
    run = await start(here)
    async with asyncio.timeout(10):
        while here.upstream.pressure != ["pause"]:  # noqa: ASYNC110 - the upstream tells nobody
            await asyncio.sleep(0.001)
    assert isinstance(run.log, DurableLog)
    assert sum(len(event.data) for event in run.log.pending) < 15_000

    store.append_failure = None
    events = checked(await here.follow(id_of(run)).whole())

    assert len(events[-1]["response"]["output"][0]["content"][0]["text"]) == 100_000


async def test_an_end_that_cannot_be_written_is_no_end(stage: Make) -> None:
    store = GatedStore()
    here = stage([[TextDelta("Hi")], asyncio.Event()], store=store)
    run = await start(here)
    follower = here.follow(id_of(run))
    await follower.until_type("output_text.delta")
    store.finish_failure = LookupError("a bug")
    run.cancel()

    assert await within(follower.ended) is False
    left = await store.unfinished()
    assert [run.response for run in left] == [id_of(run)]


async def stuck(stage: Make, **options: Any) -> tuple[Stage, GatedStore, Run]:
    """A run that said something and whose end cannot be stored."""
    store = GatedStore()
    store.finish_failure = StoreError("disk full")
    here = stage([[TextDelta("Hi")]], store=store, **options)
    run = await start(here)
    await within(asyncio.shield(run.stuck))
    return here, store, run


async def test_an_end_is_stored_as_soon_as_the_store_works_again(stage: Make) -> None:
    here, store, run = await stuck(stage, store_retry_seconds=0.001, store_retry_longest_seconds=0.01)
    follower = here.follow(id_of(run))
    unended = await here.runs.read("p", id_of(run))
    cancelling = await failure_of(here.runs.cancel("p", id_of(run)))
    deleting = await failure_of(here.runs.delete("p", id_of(run)))

    store.finish_failure = None
    events = checked(await follower.whole())
    await within(run.finished())

    final = await here.read(id_of(run))
    assert final == events[-1]["response"]
    assert final is not None
    assert final["status"] == "completed"
    assert unended is not None
    assert unended.outcome.status == "in_progress"
    assert (cancelling.status, dict(cancelling.headers)["x-should-retry"]) == (503, "true")
    assert deleting.message == "Cannot delete an in-flight response."
    assert (await failure_of(here.runs.cancel("p", id_of(run)))).message == "Cannot cancel a completed response."
    await here.runs.delete("p", id_of(run))


async def test_an_end_whose_write_only_seemed_to_fail_is_written_once(stage: Make) -> None:
    class Doubtful(GatedStore):
        failures = 2

        async def append(self, batches: Sequence[Batch]) -> list[bool]:
            written = await super().append(batches)
            if any(b"Hi" in event.data for batch in batches for event in batch.events) and self.failures:
                self.failures -= 1
                raise StoreError("nobody heard of the commit")
            return written

        async def finish(self, record: Record, fence: int, batches: Sequence[Batch]) -> bool:
            ended = await super().finish(record, fence, batches)
            if self.failures < 2:
                self.failures = 2
                raise StoreError("nobody heard of the commit")
            return ended

    gate = asyncio.Event()
    store = Doubtful()
    here = stage([[TextDelta("Hi")], gate, [TextDelta("there")]], store=store)
    run = await start(here)
    follower = here.follow(id_of(run))
    await follower.until_type("output_text.delta")
    gate.set()

    events = checked(await follower.whole())

    assert events[-1]["type"] == "response.completed"
    assert [event.number for event in await here.store.events("p", id_of(run), -1)] == list(range(len(events)))


async def test_an_end_that_waits_does_not_keep_the_server_from_stopping() -> None:
    made: list[Stage] = []

    def make(*scripts: Script, **options: Any) -> Stage:
        made.append(Stage(*scripts, **options))
        return made[-1]

    here, store, run = await stuck(make, store_retry_seconds=3600)
    follower = here.follow(id_of(run))
    await within(here.runs.close())

    assert await within(follower.ended) is False
    assert [left.response for left in await store.unfinished()] == [id_of(run)]
    await store.close()


# --- Bounds ---


def deltas(count: int, size: int) -> list[Event]:
    kind = "response.output_text.delta"
    return [Event(n, kind, b'{"type":"%b","delta":"%b"}' % (kind.encode(), b"x" * size)) for n in range(count)]


def test_batches_are_bounded_and_lose_nothing() -> None:
    log = DurableLog(RunName("p", "r"), 1, lambda _: None)
    events = [*deltas(9, BATCH_BYTES_MAX // 4), Event(9, "response.x", bytes(2 * BATCH_BYTES_MAX)), Event(10, "y", b"")]
    log.publish(events)

    batches = log.take()

    assert [event for batch in batches for event in batch.events] == events
    sizes = [sum(len(event.data) for event in batch.events) for batch in batches]
    assert [size for size in sizes if size > BATCH_BYTES_MAX] == [2 * BATCH_BYTES_MAX]
    assert log.take() == []


async def test_a_long_log_is_read_page_by_page_and_lets_others_work(stage: Make) -> None:
    many = [[TextDelta("x" * 300_000)] for _ in range(20)]
    here = stage(many)
    run = await start(here)
    await within(run.finished())
    pages: list[int] = []
    turns = 0
    read = here.store.events

    async def events(project: str, response: str, after: int) -> list[Event]:
        page = await read(project, response, after)
        pages.append(sum(len(event.data) for event in page))
        return page

    here.store.events = events  # type: ignore[method-assign]
    follower = here.follow(id_of(run))
    while not follower.ended.done():
        turns += 1
        await asyncio.sleep(0)

    assert len(checked(await follower.whole())) > 20
    assert len(pages) == 9
    assert max(pages[:5]) < 2_000_000  # then come those that repeat the whole text
    assert turns >= len(pages)


async def test_one_run_that_is_over_does_not_disturb_the_others(stage: Make) -> None:
    """Ended and deleted within one tick of the flusher, while another run has events to write."""
    gate = asyncio.Event()
    here = stage([[TextDelta("Hi")]], [gate, [TextDelta("there")]], flush_seconds=0.05)
    first, second = await start(here), await start(here)
    await within(first.finished())
    await here.runs.delete("p", id_of(first))
    gate.set()

    checked(await here.follow(id_of(second)).whole())


async def test_a_flusher_that_is_closed_has_written_everything() -> None:
    written: list[Batch] = []

    class Store(SqliteStore):
        async def append(self, batches: Sequence[Batch]) -> list[bool]:
            written.extend(batches)
            return [True] * len(batches)

    store = Store(None)
    here = Stage([[TextDelta("Hi")], asyncio.Event()], store=store, flush_seconds=3600)
    run = await start(here)
    await within(run.opened())
    await here.close()

    assert [event.number for batch in written for event in batch.events][:3] == [0, 1, 2]
    assert isinstance(here.runs._flusher, Flusher)
    assert here.runs._flusher._timer is None
