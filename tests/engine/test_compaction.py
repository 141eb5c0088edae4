"""Compaction in the engine: the whole event list, what stays seen, what the summary is made of, and resuming."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.engine.loop import SEALER, USER, Loop, call, says
from tests.engine.playbook import line_of
from tests.engine.test_resuming import copy

from antiphon.engine import compaction
from antiphon.engine.compaction import Compactor, Split, split
from antiphon.engine.context import view
from antiphon.engine.deltas import TextDelta
from antiphon.engine.ports.upstreams import ContextItem, ModelRequest, Stop, UpstreamError
from antiphon.protocol.errors import ApiError
from antiphon.protocol.responses import InputDetails, OutputDetails, Usage

Json = dict[str, Any]

MANAGED: Json = {"context_management": [{"type": "compaction", "compact_threshold": 1000}]}
LONG = "word " * 2000
COMPACTOR = Compactor(SEALER, "p")


def user(text: str) -> Json:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def says_(text: str) -> Json:
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}


RULES: Json = {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Be brief."}]}
TALK = [RULES, user("I am Ann."), says_(LONG)]
CALL: Json = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"}
ANSWER: Json = {"type": "function_call_output", "call_id": "c1", "output": "42"}


def items(*said: Json) -> list[ContextItem]:
    return view(json.dumps(item).encode() for item in said)


def usage(read: int, written: int) -> Usage:
    return Usage(read, InputDetails(), written, OutputDetails(), read + written)


def summary(text: str, *, spent: Usage | None = None) -> list[Any]:
    return [[TextDelta(text)], Stop("stop", spent)]


# --- A run that compacts its context ---


async def test_the_whole_list_of_events() -> None:
    loop = Loop(summary("Ann is here."), says("Hello, Ann."), earlier=TALK, **MANAGED)
    await loop.run()

    assert [line_of(event) for event in loop.events] == [
        "created in_progress",
        "in_progress in_progress",
        "output_item.added 0 compaction cmp_1 in_progress",
        "output_item.done 0 compaction cmp_1 completed",
        "output_item.added 1 message msg_2 in_progress",
        "content_part.added 1.0 output_text",
        "output_text.delta 1.0 'Hello, Ann.'",
        "output_text.done 1.0 'Hello, Ann.'",
        "content_part.done 1.0 output_text",
        "output_item.done 1 message msg_2 completed",
        "completed completed",
    ]
    assert loop.output == ["compaction", "message 'Hello, Ann.'"]


async def test_the_model_goes_on_from_summary_instructions_and_the_users_words() -> None:
    loop = Loop(summary("Ann is here."), says("Hello."), earlier=TALK, **MANAGED)
    await loop.run()

    assert loop.seen[1] == [
        "developer Be brief.",
        "user I am Ann.",
        "developer Summary of the conversation up to this point:\n\nAnn is here.",
        "user Hi",
    ]


async def test_the_summary_is_asked_for_without_tools_and_calls_are_told_as_text() -> None:
    earlier = [*TALK, user("Look"), CALL, ANSWER, says_(LONG)]
    loop = Loop(summary("s"), says("Hello."), earlier=earlier, instructions="Speak.", temperature=0.5, **MANAGED)
    await loop.run()

    asked = loop.requests[0]
    assert (asked.tools, asked.request.temperature, asked.request.instructions) == ([], 0.5, "Speak.")
    assert "assistant [I called the tool look with: {}]" in loop.seen[0]
    assert "user [The tool look answered: 42]" in loop.seen[0]
    assert loop.seen[0][-1].startswith("user Stop here and write a summary")
    assert loop.requests[1].tools


async def test_the_cost_of_the_summary_is_in_the_usage() -> None:
    loop = Loop(
        summary("s", spent=usage(900, 20)), [[TextDelta("a")], Stop("stop", usage(50, 3))], earlier=TALK, **MANAGED
    )
    await loop.run()

    assert loop.response["usage"]["input_tokens"] == 950
    assert loop.response["usage"]["output_tokens"] == 23
    assert "estimated" not in loop.response["usage"]


async def test_a_short_context_is_left_alone() -> None:
    loop = Loop(says("Hello."), earlier=[user("I am Ann.")], **MANAGED)
    await loop.run()

    assert loop.output == ["message 'Hello.'"]


async def test_what_always_stays_brings_about_no_compaction() -> None:
    rules = {**RULES, "content": [{"type": "input_text", "text": LONG}]}
    loop = Loop(says("Hello."), earlier=[rules, user("I am Ann."), says_("Hi")], **MANAGED)
    await loop.run()

    assert loop.output == ["message 'Hello.'"]


async def test_a_summary_above_the_threshold_is_not_compacted_again() -> None:
    loop = Loop(summary(LONG), says(call(0, call_id="a")), says("Done."), earlier=TALK, **MANAGED)
    await loop.run()

    assert [words.split()[0] for words in loop.output] == ["compaction", "antiphon:scripted_call", "message"]


async def test_a_context_that_grows_within_the_run_is_compacted_between_model_calls() -> None:
    tool = {"type": "antiphon:scripted", "name": "scripted", "behaviour": "answer", "output": LONG}
    scripts = [says(call(0, call_id="a")), summary("The tool said: word."), says("Done.")]
    loop = Loop(*scripts, tools=[tool], **MANAGED)
    await loop.run()

    assert [words.split()[0] for words in loop.output] == ["antiphon:scripted_call", "compaction", "message"]
    assert loop.seen[2] == [
        "developer Summary of the conversation up to this point:\n\nThe tool said: word.",
        "user Hi",
    ]


async def test_a_forced_choice_is_still_forced_behind_a_compaction() -> None:
    forced = {"tool_choice": "required"}
    loop = Loop(summary("s"), says(call(0, call_id="a")), says("Done."), earlier=TALK, **MANAGED, **forced)
    await loop.run()

    assert [request.force_choice for request in loop.requests[1:]] == [True, False]


async def test_a_model_that_gives_no_summary_fails_the_run() -> None:
    loop = Loop([Stop("stop")], earlier=TALK, **MANAGED)

    with pytest.raises(UpstreamError, match="said nothing"):
        await loop.run()


async def test_a_full_window_is_compacted_once_where_nobody_knows_its_size() -> None:
    full = UpstreamError("Full.", status=400, code="context_length_exceeded", param="input")
    loop = Loop([full], summary("s"), says("Hello."), earlier=TALK, context_management=[{"type": "compaction"}])
    await loop.run()

    assert loop.output == ["compaction", "message 'Hello.'"]


# --- The trigger ---


async def test_a_trigger_makes_one_item_and_nothing_else() -> None:
    loop = Loop(summary("Ann is here."), earlier=TALK, input=[USER, {"type": "compaction_trigger"}])
    outcome = await loop.run()

    assert (outcome.status, loop.output) == ("completed", ["compaction"])


# --- Taking over ---


async def test_a_log_that_ends_anywhere_is_taken_up_and_compacts_once() -> None:
    scripts = [summary("Ann is here."), says(call(0, call_id="a")), says("Done.")]
    loop = Loop(*scripts, earlier=TALK, background=True, **MANAGED)
    await loop.run()
    log = [batch for batch in loop.published if batch]
    first = next(index for index, batch in enumerate(log) if any("compaction" in str(event.data) for event in batch))

    for end in range(1, len(log)):
        left = scripts[1:] if end > first else scripts
        done = "antiphon:scripted" in str([event.data for batch in log[:end] for event in batch])
        notes = copy(loop.journal) if done else None
        after = Loop(
            *(scripts[2:] if done else left), earlier=TALK, background=True, after=log[:end], journal=notes, **MANAGED
        )
        await after.run()

        assert after.output.count("compaction") == 1, end
        if end > first:
            assert after.seen[0][2].endswith("Ann is here."), end
            assert not any(LONG in words for words in after.seen[0]), end


async def test_a_trigger_whose_item_is_in_the_log_is_over() -> None:
    parameters: Json = {"earlier": TALK, "background": True, "input": [USER, {"type": "compaction_trigger"}]}
    loop = Loop(summary("s"), **parameters)
    await loop.run()
    after = Loop(after=loop.published[:-1], **parameters)
    await after.run()

    assert after.output == ["compaction"]
    assert after.requests == []


# --- What is kept ---


def seen_after(context: list[ContextItem], room: int, *later: Json) -> list[ContextItem]:
    sealed = COMPACTOR.sealed("S", split(context, room))
    item = {"type": "compaction", "id": "cmp_1", "encrypted_content": sealed}
    return COMPACTOR.seen([*context, *items(item, *later)]).items


def shown(seen: list[ContextItem]) -> list[str]:
    return [f"{item.view.role} {json.loads(bytes(item.view.content))[0]['text'].split()[-1]}" for item in seen]


def test_the_newest_words_of_the_user_are_kept_as_far_as_there_is_room() -> None:
    talk = items(*[said for n in range(9) for said in (user(f"{n} " + "x" * 100 + f" q{n}"), says_(f"a{n}"))])

    assert shown(seen_after(talk, 500, user("next"))) == ["user q7", "user q8", "developer S", "user next"]


def test_a_turn_that_the_model_is_in_stays_whole_while_it_is_small() -> None:
    talk = items(*TALK, user("Look"), CALL, ANSWER)

    assert [item.view.kind for item in seen_after(talk, 1000)][2:] == [
        "message",
        "message",
        "function_call",
        "function_call_output",
    ]
    assert shown(seen_after(talk, 200)) == ["developer brief.", "user Ann.", "developer S", "user Look"]


def test_clients_may_send_back_what_they_like() -> None:
    sealed = COMPACTOR.sealed("S", split(items(*TALK, user("Go on")), 1000))
    item = {"type": "compaction", "encrypted_content": sealed}
    again = items({**user("I am Ann."), "id": "msg_other"}, user("Go on"), item, user("next"))

    assert shown(COMPACTOR.seen(again).items) == ["user Ann.", "developer S", "user on", "user next"]
    assert shown(COMPACTOR.seen(items(item, user("next"))).items) == ["developer S", "user next"]


def test_places_are_those_in_the_whole_context() -> None:
    sealed = COMPACTOR.sealed("S", split(items(*TALK), 1000))
    seen = COMPACTOR.seen(items(*TALK, {"type": "compaction", "encrypted_content": sealed}, user("next")))

    assert list(seen.places) == [0, 1, 3, 4]


def test_the_last_compaction_holds() -> None:
    def compacted(text: str, *before: Any) -> Any:
        seen = COMPACTOR.seen(items(*before, says_("Yes."))).items
        return {"type": "compaction", "encrypted_content": COMPACTOR.sealed(text, split(seen, 0))}

    first = compacted("one", user("a"))
    second = compacted("two", user("a"), first, user("b"))

    assert shown(COMPACTOR.seen(items(user("a"), first, user("b"), second)).items) == ["developer two"]


def test_what_it_never_knew_stays_seen() -> None:
    sealed = COMPACTOR.sealed("S", split(items(user("old"), says_("Yes.")), 0))
    put = items(user("old"), user("new"), says_("No."), {"type": "compaction", "encrypted_content": sealed})

    assert shown(COMPACTOR.seen(put).items) == ["user new", "developer S"]


def test_another_providers_item_is_tolerated() -> None:
    foreign = {"type": "compaction", "encrypted_content": "gAAAAforeign"}
    talk = items(user("a"), foreign, user("b"))

    assert COMPACTOR.seen(talk).items == talk


@pytest.mark.parametrize("project", ["p", "q"])
def test_one_that_was_tampered_with_or_is_anothers_is_refused(project: str) -> None:
    sealed = COMPACTOR.sealed("S", Split([], [], 0))
    changed = sealed if project == "q" else sealed[:-2] + ("AA" if sealed[-2:] != "AA" else "BB")
    talk = items(user("a"), {"type": "compaction", "encrypted_content": changed})

    with pytest.raises(ApiError) as refused:
        Compactor(SEALER, project).seen(talk)

    assert (refused.value.status, refused.value.code, refused.value.param) == (400, "invalid_encrypted_content", None)
    assert Compactor(SEALER, project).seen(talk, earlier=2).items == talk


async def test_a_context_beyond_the_window_is_summarized_without_its_oldest_parts() -> None:
    full = UpstreamError("Full.", status=400, code="context_length_exceeded", param="input")

    def narrow(request: ModelRequest) -> Any:
        return [full] if len(request.items) > 4 else [[TextDelta("short")]]

    loop = Loop(earlier=[*TALK, user("b"), says_("c"), user("d")])
    loop.upstream._script_of = narrow
    made = await compaction.summarize(
        items(*TALK, user("b"), CALL, ANSWER), loop._turns._plan.route, loop._turns._plan.request
    )

    assert made.text == "short"
    assert loop.seen[-1][0] == "developer Be brief."
    assert loop.seen[-1][-2] == "user [The tool look answered: 42]"
    assert made.usage.estimated is True
