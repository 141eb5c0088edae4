"""A full context window: what `truncation` does then."""

from __future__ import annotations

from collections.abc import Callable

from tests.runs.stage import Json, Make, checked, failure_of, texts

from antiphon.engine.deltas import TextDelta
from antiphon.engine.ports.upstreams import Capabilities, ModelRequest, UpstreamError
from antiphon.upstreams.scripted import Script, ScriptedUpstream

OVER = UpstreamError("Too long.", status=400, code="context_length_exceeded", param="input")


def window(most: int) -> Callable[[ModelRequest], Script]:
    """An upstream whose window takes so many items."""

    def script(asked: ModelRequest) -> Script:
        yield OVER if len(asked.items) > most else [TextDelta(f"saw {len(asked.items)}")]

    return script


def talk(turns: int) -> list[Json]:
    """Instructions, then turns of a question, a call, its output and an answer; the last one is only a question."""
    said: list[Json] = [{"role": "developer", "content": "Be brief."}]
    for turn in range(turns):
        said += [
            {"role": "user", "content": f"q{turn}"},
            {"type": "function_call", "call_id": f"call_{turn}", "name": "look", "arguments": "{}"},
            {"type": "function_call_output", "call_id": f"call_{turn}", "output": "42"},
            {"role": "assistant", "content": f"a{turn}"},
        ]
    return [*said, {"role": "user", "content": "last"}]


async def test_the_oldest_turns_are_dropped_until_the_rest_fits(stage: Make) -> None:
    here = stage(echo=window(10))
    response = await here.answer(input=talk(3), truncation="auto")

    seen = here.upstream.requests[-1]
    assert response["output"][0]["content"][0]["text"] == "saw 10"
    assert texts(seen) == ["Be brief.", "q1", "a1", "q2", "a2", "last"]
    kinds = [item.view.kind for item in seen.items]
    assert kinds.count("function_call") == kinds.count("function_call_output") == 2
    assert len(await here.inputs(response["id"])) == len(talk(3))


async def test_a_long_conversation_costs_few_calls(stage: Make) -> None:
    here = stage(echo=window(6))
    await here.answer(input=talk(200), truncation="auto")

    assert len(here.upstream.requests) <= 10


async def test_a_window_that_takes_not_even_the_newest_turn(stage: Make) -> None:
    here = stage(echo=window(0))

    error = await failure_of(here.answer(input=talk(2), truncation="auto"))

    assert (error.status, error.code, error.param) == (400, "context_length_exceeded", "input")


async def test_without_truncation_a_full_window_is_an_error(stage: Make) -> None:
    here = stage(echo=window(1))

    error = await failure_of(here.answer(input=talk(2)))

    assert error.code == "context_length_exceeded"
    assert len(here.upstream.requests) == 1


async def test_a_window_that_fills_up_while_the_model_speaks_is_not_tried_again(stage: Make) -> None:
    here = stage([[TextDelta("Hi")], OVER], [[TextDelta("again")]])
    _, follower = await here.stream(input=talk(2), truncation="auto")

    assert checked(await follower.whole())[-1]["type"] == "response.failed"
    assert len(here.upstream.requests) == 1


# --- A window whose size is known, and a tokenizer that can be asked ---


class Counting(ScriptedUpstream):
    """A model that counts a token for each byte of its items, and whose window is this large."""

    def __init__(self, context: int) -> None:
        takes = Capabilities(context=context)
        super().__init__(lambda asked: [[TextDelta(f"saw {len(asked.items)}")]], capabilities=takes)
        self.counts: list[int] = []

    async def count(self, request: ModelRequest) -> int | None:
        self.counts.append(sum(len(item.body) for item in request.items))
        return self.counts[-1]


async def test_turns_are_dropped_by_counting_before_the_call(stage: Make) -> None:
    here = stage(upstream=Counting(4000))
    await here.answer(input=talk(100), truncation="auto")

    [asked] = here.upstream.requests
    assert isinstance(here.upstream, Counting)
    taken = sum(len(item.body) for item in asked.items)
    room = 4000 - 4000 // 8
    assert room - 1000 < taken <= room
    assert len(here.upstream.counts) <= 9
    kinds = [item.view.kind for item in asked.items]
    assert kinds.count("function_call") == kinds.count("function_call_output") > 0
    assert texts(asked)[0] == "Be brief."
    assert texts(asked)[-1] == "last"


async def test_room_is_left_for_the_reply_that_was_asked_for(stage: Make) -> None:
    here = stage(upstream=Counting(4000))
    await here.answer(input=talk(100), truncation="auto", max_output_tokens=1900)

    assert sum(len(item.body) for item in here.upstream.requests[0].items) <= 2100


async def test_nothing_is_counted_that_cannot_be_too_long(stage: Make) -> None:
    here = stage(upstream=Counting(100_000))
    for truncation in ("auto", "disabled"):
        await here.answer(input=talk(20), truncation=truncation)

    assert isinstance(here.upstream, Counting)
    assert here.upstream.counts == []


async def test_without_truncation_what_is_too_long_is_known_before_the_call(stage: Make) -> None:
    here = stage(upstream=Counting(2000))

    error = await failure_of(here.answer(input=talk(20)))

    assert (error.status, error.type, error.code, error.param) == (
        400,
        "invalid_request_error",
        "context_length_exceeded",
        "input",
    )
    assert here.upstream.requests == []


async def test_a_stream_is_not_begun_for_what_is_too_long(stage: Make) -> None:
    here = stage(upstream=Counting(2000))
    run, follower = await here.stream(input=talk(20))

    assert (await failure_of(run.opened())).code == "context_length_exceeded"
    assert follower.events == []


async def test_the_newest_turn_is_asked_while_there_is_any_room(stage: Make) -> None:
    here = stage(upstream=Counting(3000))
    newest = {"role": "user", "content": "x" * 2700}
    assert (await here.answer(input=[*talk(3)[:-1], newest], truncation="auto"))["status"] == "completed"

    error = await failure_of(here.answer(input=[{"role": "user", "content": "x" * 3000}], truncation="auto"))
    assert error.code == "context_length_exceeded"


async def test_a_compaction_comes_before_turns_are_dropped(stage: Make) -> None:
    here = stage(upstream=Counting(8000))
    response = await here.answer(
        input=talk(40), truncation="auto", context_management=[{"type": "compaction", "compact_threshold": 4000}]
    )

    assert [item["type"] for item in response["output"]] == ["compaction", "message"]
