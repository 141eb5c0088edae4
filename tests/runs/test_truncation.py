"""A full context window: what `truncation` does then."""

from __future__ import annotations

from collections.abc import Callable

from tests.runs.stage import Json, Make, checked, failure_of, texts

from antiphon.engine.deltas import TextDelta
from antiphon.engine.ports import ModelRequest, UpstreamError
from antiphon.upstreams.scripted import Script

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
