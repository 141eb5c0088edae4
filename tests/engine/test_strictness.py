"""What may be told while a model speaks, and how a turn goes on when it has spoken (design decision 14)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from antiphon.engine import strictness
from antiphon.engine.contracts import Contract, Contracts, GrammarContract, SchemaContract
from antiphon.engine.deltas import CallDelta, Delta, ReasoningDelta, RefusalDelta, TextDelta
from antiphon.engine.ports.upstreams import ContextItem
from antiphon.engine.strictness import Accept, Fail, Native, Retry, Strictness, instructions
from antiphon.protocol import schemas
from antiphon.protocol.items import text_of_raw

NATIVE = Native(text=True, functions=True, inputs=True)


def schema(**properties: Any) -> Contract:
    source = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    return SchemaContract(source, schemas.of_format("made"))


ANSWER = schema(answer={"type": "integer"})
ALL = Contracts(
    ANSWER,
    {"look": schema(city={"type": "string"}), "now": schema()},
    {"digits": GrammarContract("regex", "[0-9]+", "digits", "tools[2].format.definition")},
)
GOOD = '{"answer":1}'
PLEA = """Your reply does not match the JSON schema:
- At $.answer: the value is not of type "integer".
- At $: Additional properties are not allowed ('more' was unexpected).
Reply again, with nothing but what matches the JSON schema."""


def said(*pieces: str) -> list[Delta]:
    return [TextDelta(piece) for piece in pieces]


def call(name: str, *pieces: str, key: int = 0) -> list[Delta]:
    first = CallDelta(key, f"call_{key}", name, pieces[0] if pieces else "")
    return [first, *(CallDelta(key, None, None, piece) for piece in pieces[1:])]


def shown(messages: Sequence[ContextItem]) -> list[tuple[str | None, str]]:
    found = []
    for item in messages:
        parts = text_of_raw(item.view.content)
        assert isinstance(parts, list)
        found.append((item.view.role, "".join(part.text or "" for part in parts)))
    return found


async def turn(keeper: Strictness, deltas: Sequence[Delta], reason: str = "stop") -> tuple[list[Delta], Any]:
    """One model call, delta by delta; what was told at once, and the verdict."""
    told: list[Delta] = []
    for delta in deltas:
        told += keeper.admit([delta])
    return told, await keeper.done(reason)


# --- The upstream enforces it ---


async def test_native_text_goes_through_as_it_comes() -> None:
    deltas = [ReasoningDelta("hm"), *said("{", '"answer"', ":1", "}", "\n")]

    assert await turn(Strictness(ALL, NATIVE), deltas) == (deltas, Accept([]))


async def test_the_first_native_piece_that_cannot_fit_is_not_told_and_nothing_behind_it() -> None:
    keeper = Strictness(ALL, NATIVE)

    told = keeper.admit(said('{"answer":', '"x"', "}"))
    assert told == said('{"answer":')
    assert keeper.failed is not None
    assert keeper.failed.code == "server_error"
    assert keeper.failed.message == (
        "The text does not match the JSON schema: At $.answer: expected a number, but got a string."
    )
    assert keeper.admit(said("1}")) == []
    assert await keeper.done("stop") == Fail(keeper.failed)


async def test_native_text_that_ends_too_early_fails() -> None:
    told, verdict = await turn(Strictness(ALL, NATIVE), said('{"answer":1'))

    assert told == said('{"answer":1')
    assert isinstance(verdict, Fail)
    assert verdict.error.message == "The text does not match the JSON schema: The text ends too early."


@pytest.mark.parametrize("reason", ["length", "content_filter"])
async def test_a_native_reply_that_was_cut_is_incomplete_and_not_broken(reason: str) -> None:
    deltas = said('{"answer":1')

    assert await turn(Strictness(ALL, NATIVE), deltas, reason) == (deltas, Accept([]))


async def test_native_calls_are_checked_each_by_its_own_contract() -> None:
    deltas = [*call("look", '{"city"', ':"Rome"}'), *call("other", "whatever", key=1), *call("digits", "12", key=2)]
    assert await turn(Strictness(ALL, NATIVE), deltas) == (deltas, Accept([]))

    keeper = Strictness(ALL, NATIVE)
    assert keeper.admit([*call("look", '{"city"', ':"Rome"}'), *call("digits", "1", "x", key=1)]) == [
        *call("look", '{"city"', ':"Rome"}'),
        *call("digits", "1", key=1),
    ]
    assert keeper.failed is not None
    assert keeper.failed.message.startswith("The call of 'digits' does not match the grammar (regex): ")


async def test_native_calls_that_come_interleaved() -> None:
    one, two = call("look", '{"city":', '"Rome"}'), call("look", '{"city":', '"Oslo"}', key=1)
    deltas = [one[0], two[0], one[1], two[1]]

    assert await turn(Strictness(ALL, NATIVE), deltas) == (deltas, Accept([]))


async def test_a_native_reply_without_anything_fails() -> None:
    _, verdict = await turn(Strictness(ALL, NATIVE), [ReasoningDelta("hm")])

    assert isinstance(verdict, Fail)
    assert verdict.error.message == "The text does not match the JSON schema: There is no text."


# --- It does not ---


async def test_text_is_held_back_until_it_is_known_to_be_right() -> None:
    deltas = said('{"ans', 'wer":1}')

    assert await turn(Strictness(ALL), deltas) == ([], Accept(deltas))


async def test_reasoning_is_told_at_once_and_what_comes_behind_held_text_keeps_its_place() -> None:
    early, late = ReasoningDelta("hm"), ReasoningDelta("so")
    told, verdict = await turn(Strictness(ALL), [early, *said(GOOD), late, *call("other", "{}")])

    assert told == [early]
    assert verdict == Accept([*said(GOOD), late, *call("other", "{}")])


async def test_what_no_contract_binds_is_never_held_back() -> None:
    only = Contracts(None, ALL.functions)
    deltas = [*said("Let me ", "look."), *call("other", "{", "}")]

    assert await turn(Strictness(only), deltas) == (deltas, Accept([]))
    assert await turn(Strictness(Contracts()), deltas) == (deltas, Accept([]))


async def test_a_strict_call_holds_back_from_there_on() -> None:
    only = Contracts(None, ALL.functions)
    calls = [*call("look", '{"city":', '"Rome"}'), *call("other", "{}", key=1)]

    assert await turn(Strictness(only), [*said("Let me look."), *calls]) == (said("Let me look."), Accept(calls))


async def test_a_broken_reply_is_asked_for_again_with_all_that_is_wrong() -> None:
    keeper = Strictness(ALL)
    told, verdict = await turn(keeper, said('{"answer":"one",', '"more":2}'))

    assert told == []
    assert isinstance(verdict, Retry)
    assert shown(verdict.messages) == [
        ("assistant", '{"answer":"one","more":2}'),
        ("user", PLEA),
    ]
    assert await turn(keeper, said(GOOD)) == ([], Accept(said(GOOD)))


async def test_after_two_retries_it_fails() -> None:
    keeper = Strictness(ALL)
    verdicts = [(await turn(keeper, said(f"No {number}")))[1] for number in range(3)]

    assert [type(verdict) for verdict in verdicts] == [Retry, Retry, Fail]
    assert shown(verdicts[1].messages)[0] == ("assistant", "No 1")
    assert verdicts[2].error.code == "server_error"
    assert verdicts[2].error.message == (
        "The text does not match the JSON schema after 3 attempts: At $: 'N' does not begin a value."
    )


async def test_no_retries() -> None:
    _, verdict = await turn(Strictness(ALL, retries_max=0), said("No"))

    assert isinstance(verdict, Fail)


async def test_a_broken_call_is_asked_for_again_as_text() -> None:
    """Arguments that are no JSON cannot stand in a history, which many upstreams parse."""
    keeper = Strictness(Contracts(None, ALL.functions, ALL.inputs))
    deltas = [*said("Well."), *call("look", '{"town":"Rome"}'), *call("digits", "x", key=1), *call("now", "{}", key=2)]
    told, verdict = await turn(keeper, deltas)

    assert told == said("Well.")
    assert isinstance(verdict, Retry)
    reply, plea = shown(verdict.messages)
    assert reply == ("assistant", 'look({"town":"Rome"})\n\ndigits(x)\n\nnow({})')
    assert plea[0] == "user"
    assert plea[1].startswith("Your call of 'look' was not made, since it does not match the JSON schema:\n- At $: ")
    assert "Your call of 'digits' was not made, since it does not match the grammar (regex):\n- The text" in plea[1]
    assert "now" not in plea[1]
    good = call("look", '{"city":"Rome"}')
    assert await turn(keeper, good) == ([], Accept(good))


async def test_a_call_without_arguments_has_none() -> None:
    for native in (Native(), NATIVE):
        now, look = call("now"), call("look")
        keeper = Strictness(Contracts(None, ALL.functions), native)
        told, verdict = await turn(keeper, now)
        assert isinstance(verdict, Accept)
        assert told + verdict.deltas == now
        _, verdict = await turn(Strictness(Contracts(None, ALL.functions), native, retries_max=0), look)
        assert isinstance(verdict, Fail)


async def test_nothing_said_is_asked_for_again() -> None:
    _, verdict = await turn(Strictness(ALL), [ReasoningDelta("hm")])

    assert isinstance(verdict, Retry)
    assert shown(verdict.messages)[0] == ("assistant", "-")
    assert "There is no text." in shown(verdict.messages)[1][1]


@pytest.mark.parametrize("fence", ["```json\n{}\n```", " ```\n{}```\n", "```JSON  \n  {}\n\n```"])
async def test_a_fence_around_what_is_right_is_taken_off(fence: str) -> None:
    text = fence.replace("{}", GOOD)
    half = len(text) // 2

    assert await turn(Strictness(ALL), said(text[:half], text[half:])) == ([], Accept(said(GOOD)))


async def test_text_and_its_logprobs_stay_as_they_were_said() -> None:
    deltas: list[Delta] = [TextDelta('{"answer":', b'[{"token":"a"}]'), TextDelta("1}", b"[]")]

    assert await turn(Strictness(ALL), deltas) == ([], Accept(deltas))


async def test_words_before_a_call_are_left_out_and_the_call_is_made() -> None:
    calls = call("other", "{}")

    assert await turn(Strictness(ALL), [*said("Let me look."), *calls]) == ([], Accept(calls))
    assert await turn(Strictness(ALL), [*said(GOOD), *calls]) == ([], Accept([*said(GOOD), *calls]))
    assert await turn(Strictness(ALL, NATIVE), [*said("\n\n"), *calls]) == ([*said("\n\n"), *calls], Accept([]))


async def test_a_call_takes_the_place_of_text() -> None:
    for native in (Native(), NATIVE):
        told, verdict = await turn(Strictness(ALL, native), call("other", "{}"))
        assert told + verdict.deltas == call("other", "{}")


async def test_a_cut_reply_is_told_as_far_as_it_goes() -> None:
    assert await turn(Strictness(ALL), said('{"answer":1'), "length") == ([], Accept(said('{"answer":1')))
    only = Contracts(None, ALL.functions)
    cut = [*call("look", '{"ci'), *call("look", '{"city', key=1)]
    assert await turn(Strictness(only), cut, "length") == ([], Accept(cut))
    assert isinstance((await turn(Strictness(ALL), said("Sure"), "length"))[1], Retry)
    assert await turn(Strictness(ALL), [], "length") == ([], Accept([]))


async def test_each_message_of_a_reply_must_be_right_by_itself() -> None:
    parted = [*said('{"answer":'), ReasoningDelta("hm"), *said("1}")]

    assert isinstance((await turn(Strictness(ALL), parted))[1], Retry)
    assert isinstance((await turn(Strictness(ALL, NATIVE), parted))[1], Fail)


# --- Refusals ---


@pytest.mark.parametrize("native", [Native(), NATIVE])
async def test_refusals_are_exempt(native: Native) -> None:
    deltas = [RefusalDelta("I can't"), RefusalDelta(" do that.")]

    assert await turn(Strictness(ALL, native), deltas) == (deltas, Accept([]))


@pytest.mark.parametrize("native", [Native(), NATIVE])
async def test_a_refusal_that_breaks_text_off(native: Native) -> None:
    deltas = [*said('{"answer"'), RefusalDelta("I can't.")]
    told, verdict = await turn(Strictness(ALL, native), deltas)

    assert told + verdict.deltas == deltas


async def test_a_refusal_does_not_excuse_a_call() -> None:
    _, verdict = await turn(Strictness(ALL), [RefusalDelta("No."), *call("look", "{}")])

    assert isinstance(verdict, Retry)


# --- Limits, and what a model is told first ---


async def test_what_is_held_back_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strictness, "HELD_CHARS_MAX", 20)
    keeper = Strictness(ALL)

    assert keeper.admit(said(GOOD, " " * 20)) == []
    assert keeper.failed is not None
    assert "longer than the 20 characters" in keeper.failed.message
    assert await keeper.done("stop") == Fail(keeper.failed)


async def test_a_long_attempt_is_shown_in_part() -> None:
    _, verdict = await turn(Strictness(ALL), said("x" * 100_000))

    assert len(shown(verdict.messages)[0][1]) == strictness.ATTEMPT_CHARS_MAX


async def test_a_fence_of_many_spaces_takes_no_time() -> None:
    _, verdict = await turn(Strictness(ALL), said("```json\n" + " \n" * 500_000 + "``` x"))

    assert isinstance(verdict, Retry)


def test_a_model_is_told_what_its_side_does_not_enforce() -> None:
    text = instructions(ALL, Native())
    assert text is not None
    head, _, source = text.partition("\n")
    assert head == "Your reply must be JSON that matches this JSON schema, and nothing else:"
    assert json.loads(source)["properties"] == {"answer": {"type": "integer"}}
    assert instructions(ALL, NATIVE) is None
    assert instructions(Contracts(), Native()) is None
