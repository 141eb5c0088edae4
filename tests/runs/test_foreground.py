"""Foreground runs: pushed at once, stored before they are told to be over, gone with their client."""

from __future__ import annotations

import asyncio
import json

import pytest
from tests.runs.stage import Follower, Make, checked, failure_of, id_of, texts, told, types_of, within
from tests.specification.conformance import check_error

from antiphon.clock import SystemClock
from antiphon.engine.deltas import CallDelta, ReasoningDelta, RefusalDelta, TextDelta
from antiphon.engine.ports.stores import Context, Parent, Record
from antiphon.engine.ports.upstreams import Stop, UpstreamError
from antiphon.protocol.errors import unavailable
from antiphon.runs.log import LiveLog
from antiphon.runs.run import Run
from antiphon.stores.sqlite import SqliteStore
from antiphon.tools.scripted import ScriptedTool
from antiphon.upstreams.scripted import Accept, Script

OVER = UpstreamError("Too long.", status=400, code="context_length_exceeded", param="input")


class GatedStore(SqliteStore):
    """Holds what it is to save until the gate is opened, or fails."""

    def __init__(self) -> None:
        super().__init__(None)
        self.asked = asyncio.Event()
        self.gate = asyncio.Event()
        self.failure: Exception | None = None

    async def save(self, record: Record) -> None:
        self.asked.set()
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        await super().save(record)


class PinCountingStore(SqliteStore):
    """Counts the contexts that are held."""

    def __init__(self) -> None:
        super().__init__(None)
        self.pins = 0

    async def context(self, project: str, response: str) -> Context:
        context = await super().context(project, response)
        self.pins += 1
        return context

    def release(self, parent: Parent) -> None:
        super().release(parent)
        self.pins -= 1


# --- A good end ---


async def test_the_json_reply_is_the_stored_response(stage: Make) -> None:
    here = stage([[TextDelta("Hi")], Stop("stop", told(3, 1))])

    response = await here.answer(metadata={"a": "b"}, instructions="Be brief.")

    assert response == await here.read(response["id"])
    assert response["status"] == "completed"
    assert response["metadata"] == {"a": "b"}
    assert response["instructions"] == "Be brief."
    assert response["usage"]["total_tokens"] == 4
    assert "estimated" not in response["usage"]


async def test_a_stream_is_pushed_as_it_comes_and_ends_whole(stage: Make) -> None:
    gate = asyncio.Event()
    here = stage([[TextDelta("Hi")], gate, [TextDelta("!")]])
    _, follower = await here.stream()

    await follower.until_type("output_text.delta")
    assert follower.text() == "Hi"
    gate.set()
    events = checked(await follower.whole())

    assert events[-1]["response"] == await here.read(events[0]["response"]["id"])


async def test_the_response_is_stored_before_the_terminal_event(stage: Make) -> None:
    store = GatedStore()
    here = stage([[TextDelta("Hi")]], store=store)
    run, follower = await here.stream()

    await within(store.asked.wait())
    assert types_of(follower.decoded())[-1] == "output_item.done"
    assert await here.read(id_of(run)) is None
    assert not run.done.done()
    store.gate.set()
    checked(await follower.whole())

    assert await here.read(id_of(run)) is not None


async def test_the_response_does_not_exist_while_it_is_made(stage: Make) -> None:
    gate = asyncio.Event()
    here = stage([[TextDelta("Hi")], gate])
    run, follower = await here.stream()
    await follower.until_type("output_text.delta")

    assert await here.read(id_of(run)) is None
    assert (await failure_of(here.runs.cancel("p", id_of(run)))).status == 404
    gate.set()
    await follower.whole()

    assert await here.read(id_of(run)) is not None


async def test_what_comes_before_the_reader_is_kept_for_it(stage: Make) -> None:
    here = stage([[TextDelta("Hi")]])
    run = await here.create(stream=True)
    await within(run.finished())

    follower = Follower()
    assert isinstance(run.log, LiveLog)
    run.log.attach(follower)

    checked(await follower.whole())


async def test_unstored_responses_leave_nothing(stage: Make) -> None:
    here = stage([[TextDelta("Hi")]])

    response = await here.answer(store=False)

    assert response["store"] is False
    assert await here.read(response["id"]) is None


async def test_usage_that_nobody_told_is_estimated_and_says_so(stage: Make) -> None:
    here = stage([[TextDelta("Hello there, how are you?")]])

    usage = (await here.answer())["usage"]

    assert usage["estimated"] is True
    assert usage["input_tokens"] > 0
    assert usage["output_tokens"] > 0


async def test_reasoning_of_which_nobody_tells_the_tokens_has_its_part_of_them(stage: Make) -> None:
    here = stage([[ReasoningDelta("x" * 30)], [TextDelta("y" * 10)], Stop("stop", told(5, 40))])

    usage = (await here.answer())["usage"]

    assert "estimated" not in usage
    assert usage["output_tokens"] == 40
    assert usage["output_tokens_details"]["reasoning_tokens"] == 30


@pytest.mark.parametrize(("days", "kept"), [(30, 30 * 86400), (0, None)])
async def test_a_response_expires(stage: Make, days: int, kept: int | None) -> None:
    here = stage([[TextDelta("Hi")]], response_days=days)
    response = await here.answer()

    assert await here.store.expire(response["created_at"] + 30 * 86400 - 60) == 0
    gone = await here.store.expire(response["created_at"] + 30 * 86400 + 60)

    assert gone == (1 if kept else 0)
    assert (await here.read(response["id"]) is None) == bool(kept)


async def test_unknown_fields_and_tools_and_items_that_do_nothing_are_named(stage: Make) -> None:
    here = stage([[TextDelta("Hi")]])
    run = await here.create(
        zzz=1,
        tools=[{"type": "web_search"}, {"type": "function", "name": "look"}],
        input=[{"role": "user", "content": "x"}, {"type": "web_search_call", "id": "ws_1"}],
    )
    await within(run.finished())

    assert run.warnings == ["zzz", "tools[0]", "input[1]"]


# --- Continuing ---


async def test_a_continued_response_sees_everything_before_it(stage: Make) -> None:
    here = stage([[TextDelta("one")]], [[TextDelta("two")]])
    first = await here.answer(input="1")
    second = await here.answer(input="2", previous_response_id=first["id"])

    assert texts(here.upstream.requests[1]) == ["1", "one", "2"]
    assert [json.loads(item.body)["role"] for item in await here.inputs(second["id"])] == ["user", "assistant", "user"]


async def test_a_tool_is_called_and_its_output_given(stage: Make) -> None:
    here = stage([[CallDelta(0, "call_1", "look", '{"id":1}')]], [[TextDelta("done")]])
    tools = [{"type": "function", "name": "look"}]
    first = await here.answer(tools=tools)
    answered = [{"type": "function_call_output", "call_id": "call_1", "output": "42"}]

    refused = await failure_of(here.answer(previous_response_id=first["id"], input="And now?"))
    await here.answer(previous_response_id=first["id"], input=answered, tools=tools)

    assert refused.message == "No tool output found for function call call_1."
    assert [item.view.kind for item in here.upstream.requests[1].items] == [
        "message",
        "function_call",
        "function_call_output",
    ]


async def test_a_response_with_a_cut_call_can_be_continued(stage: Make) -> None:
    here = stage([[CallDelta(0, "call_1", "look", '{"id')], Stop("length")], *[[[TextDelta("done")]]] * 2)
    first = await here.answer()
    assert first["output"][0]["status"] == "incomplete"

    await here.answer(previous_response_id=first["id"], input="Go on")
    await here.answer(input=[*first["output"], {"role": "user", "content": "Go on"}])

    assert [item.view.kind for item in here.upstream.requests[1].items] == ["message", "message"]
    assert [item.view.kind for item in here.upstream.requests[2].items] == ["message"]


async def test_calls_beyond_what_is_allowed_are_suppressed(stage: Make) -> None:
    both = [CallDelta(0, "call_1", "a", "{}"), CallDelta(1, "call_2", "b", "{}")]
    here = stage([both], [both], [both])
    tools = [{"type": "function", "name": name} for name in "ab"]
    only_b = {"type": "allowed_tools", "tools": [{"type": "function", "name": "b"}]}

    one = await here.answer(tools=tools, parallel_tool_calls=False)
    named = await here.answer(tools=tools, tool_choice=only_b)
    none = await here.answer(tools=tools, tool_choice="none")

    assert [[item["name"] for item in response["output"]] for response in (one, named, none)] == [["a"], ["b"], []]


# --- The client leaves ---


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_client_that_leaves_ends_the_run_and_leaves_nothing(stage: Make, streamed: bool) -> None:
    said = asyncio.Event()
    here = stage(_telling(said, [TextDelta("Hi")]))
    run = await here.create(stream=streamed)
    await within(said.wait())

    run.cancel()
    assert await within(run.finished()) == b""

    assert here.upstream.cancelled == 1
    assert await here.read(id_of(run)) is None


def _telling(said: asyncio.Event, deltas: list[TextDelta]) -> Script:
    yield deltas
    said.set()
    yield asyncio.Event()


async def test_a_client_that_left_before_the_run_began_ends_it_too(stage: Make) -> None:
    here = stage([[TextDelta("Hi")]])
    run = await here.create(stream=True)

    run.cancel()
    assert await within(run.finished()) == b""

    assert here.upstream.requests == []


async def test_a_client_that_leaves_while_the_end_is_written_does_not_tear_it(stage: Make) -> None:
    store = GatedStore()
    here = stage([[TextDelta("Hi")]], store=store)
    run, follower = await here.stream()
    await within(store.asked.wait())

    run.cancel()
    store.gate.set()
    checked(await follower.whole())

    assert await here.read(id_of(run)) is not None


async def test_nothing_stays_pinned_whatever_becomes_of_a_run(stage: Make) -> None:
    over = UpstreamError("No.", status=500)
    store = PinCountingStore()
    scripts = [[TextDelta("one")]], [asyncio.Event()], [over], [[TextDelta("two")]], [[TextDelta("three")]]
    here = stage(*scripts, store=store)
    first = (await here.answer())["id"]

    cancelled = await here.create(previous_response_id=first)
    unborn = await here.create(previous_response_id=first)
    unborn.cancel()
    await within(unborn.finished())
    cancelled.cancel()
    await within(cancelled.finished())
    await failure_of(here.answer(previous_response_id=first))
    await failure_of(here.answer(previous_response_id=first, input=[{"id": "nowhere"}]))
    await here.answer(previous_response_id=first)
    background = await here.create(previous_response_id=first, background=True)
    assert store.pins == 0, "its place is written"
    await within(background.finished())

    assert store.pins == 0


# --- Failures ---


async def test_a_failure_before_anything_is_an_http_error_and_leaves_nothing(stage: Make) -> None:
    here = stage([UpstreamError("Busy.", status=503, retry_after_seconds=7)])
    run = await here.create(stream=True)

    error = await failure_of(run.opened())

    check_error(json.loads(error.body()))
    assert (error.status, error.type, dict(error.headers)) == (
        503,
        "server_error",
        {"x-should-retry": "true", "retry-after": "7"},
    )
    assert await here.read(id_of(run)) is None


@pytest.mark.parametrize(
    ("upstream", "status", "kind", "retry"),
    [
        (UpstreamError("x", status=400, code="bad", param="input"), 400, "invalid_request_error", None),
        (UpstreamError("x", status=404), 404, "invalid_request_error", None),
        (UpstreamError("x", status=422), 422, "invalid_request_error", None),
        (UpstreamError("x", status=409), 400, "invalid_request_error", None),
        (UpstreamError("x", status=401), 502, "server_error", "false"),
        (UpstreamError("x", status=403), 502, "server_error", "false"),
        (UpstreamError("x", status=429), 429, "rate_limit_error", "true"),
        (UpstreamError("x", status=429, code="insufficient_quota"), 429, "insufficient_quota", "false"),
        (UpstreamError("x", status=500), 500, "server_error", "true"),
        (UpstreamError("x", status=504), 504, "server_error", "true"),
    ],
)
async def test_failures_keep_their_class(
    stage: Make, upstream: UpstreamError, status: int, kind: str, retry: str | None
) -> None:
    error = await failure_of(stage([upstream]).answer())

    assert (error.status, error.type, dict(error.headers).get("x-should-retry")) == (status, kind, retry)


@pytest.mark.parametrize(("read_only", "retry"), [(True, "true"), (False, "false")])
async def test_what_had_effects_is_not_to_be_tried_again(stage: Make, read_only: bool, retry: str) -> None:
    tool = ScriptedTool(SystemClock(), read_only=read_only)
    failure = UpstreamError("Busy.", status=503)
    here = stage([[CallDelta(0, "call_1", "lookup", "{}")]], [failure], tools={tool.declared_type: tool})

    error = await failure_of(here.answer(tools=[{"type": tool.declared_type, "name": "lookup"}]))

    assert (error.status, dict(error.headers)["x-should-retry"]) == (503, retry)


async def test_a_failure_after_the_first_event_ends_the_stream_and_is_kept(stage: Make) -> None:
    here = stage([Accept(), [TextDelta("Hi")], UpstreamError("Gone.", code="upstream_cut")])
    _, follower = await here.stream()

    events = checked(await follower.whole())

    final = events[-1]["response"]
    assert (events[-1]["type"], final["status"]) == ("response.failed", "failed")
    assert final["error"] == {"code": "upstream_cut", "message": "Gone."}
    assert [item["status"] for item in final["output"]] == ["incomplete"]
    assert await here.read(final["id"]) == final


async def test_a_failed_response_cannot_be_continued(stage: Make) -> None:
    here = stage([Accept(), UpstreamError("Gone.")])
    _, follower = await here.stream()
    failed = (await follower.whole())[-1]["response"]["id"]

    error = await failure_of(here.answer(previous_response_id=failed))

    assert (error.status, error.param) == (400, "previous_response_id")


async def test_a_bug_in_the_feed_fails_the_run(stage: Make) -> None:
    """The feed may be called from the run's own task or from a socket's callback: the end is the same."""
    here = stage([[TextDelta("Hi")], ["no delta"], asyncio.Event()])  # type: ignore[list-item]
    _, follower = await here.stream()

    events = checked(await follower.whole())

    assert events[-1]["response"]["error"]["code"] == "server_error"
    assert "KeyError" not in json.dumps(events)
    assert here.upstream.cancelled == 1


async def test_a_bug_in_the_last_read_fails_the_run(stage: Make) -> None:
    here = stage([[TextDelta("Hi")], ["no delta"]])  # type: ignore[list-item]
    _, follower = await here.stream()

    assert checked(await follower.whole())[-1]["type"] == "response.failed"


async def test_a_bug_before_the_first_event_is_an_http_error_and_leaves_nothing(stage: Make) -> None:
    here = stage(["no step"])  # type: ignore[list-item]
    run = await here.create(stream=True)

    error = await failure_of(run.opened())

    assert (error.status, error.type, error.code) == (500, "server_error", "server_error")
    assert await here.read(id_of(run)) is None


async def test_a_store_that_fails_ends_the_stream_in_a_failure(stage: Make) -> None:
    store = GatedStore()
    store.failure = OSError("disk full")
    store.gate.set()
    here = stage([[TextDelta("Hi")]], [[TextDelta("Hi")]], store=store)
    _, follower = await here.stream()

    events = checked(await follower.whole())
    error = await failure_of(here.answer())

    assert events[-1]["type"] == "response.failed"
    assert (error.status, error.code) == (500, "server_error")
    assert "disk" not in error.message


async def test_a_store_that_is_away_says_so(stage: Make) -> None:
    store = GatedStore()
    store.failure = unavailable("The store is away.", retry_after_seconds=3)
    store.gate.set()

    error = await failure_of(stage([[TextDelta("Hi")]], store=store).answer())

    assert (error.status, dict(error.headers)["retry-after"]) == (503, "3")


async def test_what_an_upstream_says_after_its_call_is_not_heard(stage: Make) -> None:
    store = GatedStore()
    here = stage([[TextDelta("Hi")]], store=store)
    run, follower = await here.stream()
    await within(store.asked.wait())

    run([TextDelta("late")])
    store.gate.set()
    checked(await follower.whole())

    assert follower.text() == "Hi"


async def test_a_refusal_is_a_completed_response(stage: Make) -> None:
    response = await stage([[RefusalDelta("I won't.")]]).answer()

    assert response["status"] == "completed"
    assert response["output"][0]["content"] == [{"type": "refusal", "refusal": "I won't."}]


@pytest.mark.parametrize(("reason", "told"), [("length", "max_output_tokens"), ("content_filter", "content_filter")])
async def test_a_cut_response_is_incomplete_and_can_be_continued(stage: Make, reason: str, told: str) -> None:
    here = stage([[TextDelta("Once")], Stop(reason)], [[TextDelta("more")]])
    cut = await here.answer()
    await here.answer(previous_response_id=cut["id"])

    assert cut["incomplete_details"] == {"reason": told}
    assert texts(here.upstream.requests[1]) == ["Hello", "Once", "Hello"]


# --- Pressure ---


async def test_a_reader_that_is_full_pauses_the_source_and_lets_it_go_on(stage: Make) -> None:
    gate = asyncio.Event()
    here = stage([[TextDelta("Hi")], gate, [TextDelta("!")]])
    run, follower = await here.stream()
    await follower.until_type("output_text.delta")

    run.hold()
    gate.set()
    assert here.upstream.pressure == ["pause"]
    run.go_on()
    await follower.whole()

    assert here.upstream.pressure == ["pause", "resume"]


async def test_a_source_is_not_left_paused_nor_paused_again_when_its_call_is_over(stage: Make) -> None:
    """Its connection serves other runs from there on."""
    store = GatedStore()
    here = stage(echo=lambda asked: _holding(run), store=store)
    run, follower = await here.stream()
    await within(store.asked.wait())
    assert here.upstream.pressure == ["pause", "resume"]

    run.go_on()
    run.hold()
    store.gate.set()
    await follower.whole()

    assert here.upstream.pressure == ["pause", "resume"]


def _holding(run: Run) -> Script:
    yield [TextDelta("Hi")]
    run.hold()


# --- The server stops ---


async def test_a_stop_ends_runs_and_tells_those_who_wait(stage: Make) -> None:
    here = stage([asyncio.Event()], [[TextDelta("Hi")], asyncio.Event()])
    waiting = await here.create()
    _, follower = await here.stream()
    await follower.until_type("output_text.delta")
    unborn = await here.create()

    await here.close()

    for run in (waiting, unborn):
        error = await failure_of(run.finished())
        assert (error.status, dict(error.headers)["x-should-retry"]) == (503, "true")
    assert await within(follower.ended) is False
    assert types_of(follower.decoded())[-1] == "output_text.delta"
