"""What an upstream says, and the whole list of events that comes of it.  `play` checks every law on the way."""

from __future__ import annotations

import json
import random

import pytest
from tests.engine.playbook import OUTCOMES, CountingClock, Play, Read, call, play, reasoning, refusal, shell_of, text

from antiphon.engine.calls import MayCall
from antiphon.engine.deltas import Delta, TextDelta
from antiphon.engine.draft import Draft

START = ["created in_progress", "in_progress in_progress"]
LOGPROBS = b'[{"token":"Hi","bytes":[72,105],"logprob":-0.5,"top_logprobs":[]}]'


def after_start(played: Play) -> list[str]:
    """The column without its first two lines, which are the same in every foreground play."""
    assert played.column[:2] == START
    return played.column[2:]


def test_text() -> None:
    played = play(text("Hel"), [text("lo"), text("!")])

    assert after_start(played) == [
        "output_item.added 0 message msg_1 in_progress",
        "content_part.added 0.0 output_text",
        "output_text.delta 0.0 'Hel'",
        "output_text.delta 0.0 'lo'",
        "output_text.delta 0.0 '!'",
        "output_text.done 0.0 'Hello!'",
        "content_part.done 0.0 output_text",
        "output_item.done 0 message msg_1 completed",
        "completed completed",
    ]
    assert played.response["output"] == [
        {
            "id": "msg_1",
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Hello!", "annotations": [], "logprobs": []}],
        }
    ]


def test_text_of_any_characters() -> None:
    said = '"\\ \n\r\t\x00\x1f\u2028\u2029\u0085 é 日本 \U0001f984'
    played = play(*[text(character) for character in said])

    assert played.response["output"][0]["content"][0]["text"] == said


def test_logprobs_are_on_their_deltas_and_in_the_whole() -> None:
    played = play(text("Hi", LOGPROBS), text("Hi", LOGPROBS))

    deltas = [event["logprobs"] for event in played.events if event["type"] == "response.output_text.delta"]
    told = json.loads(LOGPROBS)
    done = next(event for event in played.events if event["type"] == "response.output_text.done")
    assert deltas == [told, told]
    assert done["logprobs"] == told + told
    assert played.response["output"][0]["content"][0]["logprobs"] == told + told


def test_refusal() -> None:
    assert after_start(play(refusal("I "), refusal("won't"))) == [
        "output_item.added 0 message msg_1 in_progress",
        "content_part.added 0.0 refusal",
        "refusal.delta 0.0 'I '",
        'refusal.delta 0.0 "won\'t"',
        'refusal.done 0.0 "I won\'t"',
        "content_part.done 0.0 refusal",
        "output_item.done 0 message msg_1 completed",
        "completed completed",
    ]


def test_text_then_refusal_are_two_parts_of_one_message() -> None:
    assert after_start(play(text("Well"), refusal("no"))) == [
        "output_item.added 0 message msg_1 in_progress",
        "content_part.added 0.0 output_text",
        "output_text.delta 0.0 'Well'",
        "output_text.done 0.0 'Well'",
        "content_part.done 0.0 output_text",
        "content_part.added 0.1 refusal",
        "refusal.delta 0.1 'no'",
        "refusal.done 0.1 'no'",
        "content_part.done 0.1 refusal",
        "output_item.done 0 message msg_1 completed",
        "completed completed",
    ]


def test_reasoning_then_text() -> None:
    assert after_start(play(reasoning("Hm"), text("Yes"))) == [
        "output_item.added 0 reasoning rs_1 in_progress",
        "content_part.added 0.0 reasoning_text",
        "reasoning_text.delta 0.0 'Hm'",
        "reasoning_text.done 0.0 'Hm'",
        "content_part.done 0.0 reasoning_text",
        "output_item.done 0 reasoning rs_1 completed",
        "output_item.added 1 message msg_2 in_progress",
        "content_part.added 1.0 output_text",
        "output_text.delta 1.0 'Yes'",
        "output_text.done 1.0 'Yes'",
        "content_part.done 1.0 output_text",
        "output_item.done 1 message msg_2 completed",
        "completed completed",
    ]


def test_reasoning_and_text_in_turns_are_items_one_after_another() -> None:
    played = play(reasoning("a"), text("b"), reasoning("c"), [text("d"), reasoning("e")])

    assert [(item["type"], item["status"]) for item in played.response["output"]] == [
        ("reasoning", "completed"),
        ("message", "completed"),
        ("reasoning", "completed"),
        ("message", "completed"),
        ("reasoning", "completed"),
    ]


def test_one_call() -> None:
    assert after_start(play(call(0, "", "look", "call_a"), call(0, '{"id":'), call(0, "1}"))) == [
        "output_item.added 0 function_call fc_1 in_progress call_a:look()",
        "function_call_arguments.delta 0 '{\"id\":'",
        "function_call_arguments.delta 0 '1}'",
        "function_call_arguments.done 0 '{\"id\":1}'",
        'output_item.done 0 function_call fc_1 completed call_a:look({"id":1})',
        "completed completed",
    ]


def test_parallel_calls_in_order_are_items_one_after_another() -> None:
    played = play(call(0, "{}", "a", "call_a"), call(1, "{}", "b", "call_b"))

    assert after_start(played) == [
        "output_item.added 0 function_call fc_1 in_progress call_a:a()",
        "function_call_arguments.delta 0 '{}'",
        "function_call_arguments.done 0 '{}'",
        "output_item.done 0 function_call fc_1 completed call_a:a({})",
        "output_item.added 1 function_call fc_2 in_progress call_b:b()",
        "function_call_arguments.delta 1 '{}'",
        "function_call_arguments.done 1 '{}'",
        "output_item.done 1 function_call fc_2 completed call_b:b({})",
        "completed completed",
    ]


def test_interleaved_pieces_of_parallel_calls_find_their_calls() -> None:
    played = play(
        [call(0, '{"x"', "a", "call_a"), call(1, '{"y"', "b", "call_b")],
        [call(0, ":1}"), call(1, ":2}")],
    )

    assert [item["arguments"] for item in played.response["output"]] == ['{"x":1}', '{"y":2}']


def test_a_bare_number_is_no_whole_argument() -> None:
    played = play(call(0, "1", "a", "call_a"), call(1, "{}", "b", "call_b"), call(0, "2"))

    assert [item["arguments"] for item in played.response["output"]] == ["12", "{}"]


@pytest.mark.parametrize("late", ["", " ", "\n", '{"again":1}'])
def test_late_pieces_of_a_whole_call_open_no_other(late: str) -> None:
    played = play(call(0, "{}", "a", "call_a"), call(1, "{}", "b", "call_b"), call(0, late))

    assert [item["arguments"] for item in played.response["output"]] == ["{}", "{}"]


def test_a_call_without_id_is_given_one() -> None:
    played = play(call(0, "{}", "look"))

    assert [item["call_id"] for item in played.response["output"]] == ["call_1"]


def test_a_call_without_arguments_has_an_empty_object() -> None:
    assert after_start(play(call(0, "", "now", "call_a"))) == [
        "output_item.added 0 function_call fc_1 in_progress call_a:now()",
        "function_call_arguments.delta 0 '{}'",
        "function_call_arguments.done 0 '{}'",
        "output_item.done 0 function_call fc_1 completed call_a:now({})",
        "completed completed",
    ]


def test_text_after_a_call() -> None:
    played = play(call(0, "{}", "look", "call_a"), text("Wait"))

    assert [(item["type"], item["status"]) for item in played.response["output"]] == [
        ("function_call", "completed"),
        ("message", "completed"),
    ]
    assert played.column.index("output_item.done 0 function_call fc_1 completed call_a:look({})") < played.column.index(
        "output_item.added 1 message msg_2 in_progress"
    )


@pytest.mark.parametrize("arguments", ["", '{"half'])
def test_text_after_a_call_that_is_not_whole(arguments: str) -> None:
    played = play(call(0, arguments, "look", "call_a"), text("Wait"), call(0, ""))

    assert [item["type"] for item in played.response["output"]] == ["function_call", "message"]


def test_text_before_and_between_calls() -> None:
    played = play(text("one"), call(0, "{}", "a"), text("two"), call(1, "{}", "b"))

    assert [item["type"] for item in played.response["output"]] == [
        "message",
        "function_call",
        "message",
        "function_call",
    ]


def test_nothing_said_at_all() -> None:
    played = play()

    assert played.column == [*START, "completed completed"]
    assert played.response["output"] == []


def test_empty_pieces_say_nothing() -> None:
    played = play(text(""), refusal(""), reasoning(""), [])

    assert played.column == [*START, "completed completed"]


def test_a_background_stream_begins_queued() -> None:
    assert play(text("Hi"), background=True).column[:4] == [
        "created queued",
        "queued queued",
        "in_progress in_progress",
        "output_item.added 0 message msg_1 in_progress",
    ]


# --- Ends ---


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_a_cut_text_is_incomplete(reason: str) -> None:
    played = play(text("Once upon"), ends=reason)

    assert played.column[-4:] == [
        "output_text.done 0.0 'Once upon'",
        "content_part.done 0.0 output_text",
        "output_item.done 0 message msg_1 incomplete",
        "incomplete incomplete",
    ]
    wanted = "max_output_tokens" if reason == "length" else reason
    assert played.response["incomplete_details"] == {"reason": wanted}


def test_a_cut_call_is_incomplete() -> None:
    assert after_start(play(call(0, '{"id":', "look", "call_a"), ends="length")) == [
        "output_item.added 0 function_call fc_1 in_progress call_a:look()",
        "function_call_arguments.delta 0 '{\"id\":'",
        "function_call_arguments.done 0 '{\"id\":'",
        'output_item.done 0 function_call fc_1 incomplete call_a:look({"id":)',
        "incomplete incomplete",
    ]


def test_a_call_cut_before_its_arguments_is_incomplete_and_has_none() -> None:
    assert after_start(play(call(0, "", "look", "call_a"), ends="length")) == [
        "output_item.added 0 function_call fc_1 in_progress call_a:look()",
        "output_item.done 0 function_call fc_1 incomplete call_a:look()",
        "incomplete incomplete",
    ]


def test_of_several_open_calls_the_last_one_was_cut() -> None:
    played = play(call(0, "oops", "a", "call_a"), call(1, '{"x"', "b", "call_b"), ends="length")

    assert [item["status"] for item in played.response["output"]] == ["completed", "incomplete"]


@pytest.mark.parametrize(
    "reads",
    [
        [reasoning("Hm"), call(0, "{}", "look")],
        [call(0, '{"a":1}', "look")],
        [],
    ],
)
def test_a_cut_between_items_leaves_whole_ones(reads: list[Read]) -> None:
    played = play(*reads, ends="length")

    assert {item["status"] for item in played.response["output"]} <= {"completed"}
    assert played.response["status"] == "incomplete"


def test_cut_reasoning_is_incomplete() -> None:
    played = play(reasoning("Let me"), ends="length")

    assert [(item["type"], item["status"]) for item in played.response["output"]] == [("reasoning", "incomplete")]


STATES: dict[str, list[Read]] = {
    "nothing": [],
    "text": [text("Hi")],
    "text with logprobs": [text("Hi", LOGPROBS)],
    "refusal": [refusal("No")],
    "a second part": [text("Hi"), refusal("No")],
    "reasoning": [reasoning("Hm")],
    "text after reasoning": [reasoning("Hm"), text("Hi")],
    "a call without arguments": [call(0, "", "look")],
    "half a call": [call(0, '{"a"', "look")],
    "a whole call": [call(0, "{}", "look")],
    "two half calls": [call(0, '{"a"', "look"), call(1, '{"b"', "look")],
    "text after half a call": [call(0, '{"a"', "look"), text("Hi")],
}


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("ends", ["failed", "cancelled"])
@pytest.mark.parametrize("state", STATES)
def test_abandoned_in_every_state(state: str, ends: str, background: bool) -> None:
    played = play(*STATES[state], ends=ends, background=background)

    assert played.events[-1]["type"] == "response.failed"
    assert played.response["status"] == ends
    for item in played.response["output"]:
        whole = item["type"] == "function_call" and item["arguments"] == "{}"
        closed = item is not played.response["output"][-1] and item["type"] == "reasoning"
        assert item["status"] == ("completed" if whole or closed else "incomplete")


# --- What the request allows ---


def test_calls_that_are_not_allowed_are_not_made() -> None:
    played = play(
        call(0, "{}", "secret"), [call(1, "{", "open"), call(0, "more"), call(1, "}")], allowed=frozenset({"open"})
    )

    assert [(item["name"], item["arguments"]) for item in played.response["output"]] == [("open", "{}")]


def test_without_parallel_calls_only_the_first_is_made() -> None:
    played = play(call(0, "{", "a"), call(1, "{}", "b"), call(0, "}"), call(2, "{}", "c"), parallel=False)

    assert [(item["name"], item["arguments"]) for item in played.response["output"]] == [("a", "{}")]


def test_the_next_model_call_may_call_again() -> None:
    draft = Draft(shell_of(), CountingClock(), MayCall(parallel=False))
    for _ in range(2):
        draft.apply([call(0, "{}", "a"), call(1, "{}", "b")])
        draft.end_turn(cut=False)

    assert [json.loads(item.body)["name"] for item in draft.output()] == ["a", "a"]


# --- Resuming ---


def test_a_resumed_draft_goes_on_where_it_stood() -> None:
    asked = shell_of(background=True)
    first = Draft(asked, CountingClock())
    log = first.apply([text("Once "), text("upon")])

    draft = Draft.resume(asked, CountingClock(), log)
    log += draft.apply([TextDelta(" a time")])
    log += draft.end_turn(cut=False)

    said = [json.loads(event.data).get("delta") for event in log if event.type == "response.output_text.delta"]
    assert said == ["Once ", "upon", " a time"]
    assert [event.number for event in log] == list(range(len(log)))
    assert [json.loads(item.body)["content"][0]["text"] for item in draft.output()] == ["Once upon a time"]


def test_calls_of_a_resumed_draft_are_not_mixed_with_new_ones() -> None:
    asked = shell_of(background=True)
    log = Draft(asked, CountingClock()).apply([call(0, '{"a"', "old", "call_old")])

    draft = Draft.resume(asked, CountingClock(), log)
    draft.apply([call(0, "{}", "new", "call_new")])
    draft.end_turn(cut=False)

    assert [(json.loads(item.body)["name"], json.loads(item.body)["arguments"]) for item in draft.output()] == [
        ("old", '{"a"'),
        ("new", "{}"),
    ]


def test_hosted_items_keep_their_members_when_resumed() -> None:
    asked = shell_of(background=True)
    first = Draft(asked, CountingClock())
    members = {"server_label": "files", "name": "read", "arguments": '{"path":"a"}', "content": [1], "summary": "s"}
    log = [*first.open(), *first.open_hosted("mcp_call", "mcp_1", members)]

    draft = Draft.resume(asked, CountingClock(), log)
    draft.abandon()

    assert json.loads(draft.output()[0].body) == {
        "id": "mcp_1",
        "type": "mcp_call",
        "status": "incomplete",
        **members,
    }


# --- Anything ---


def chance(seed: int) -> tuple[list[Read], str]:
    """Some upstream's nonsense: every kind of delta in any order, in reads of any size."""
    dice = random.Random(seed)
    made: list[Read] = []
    named: set[int] = set()
    for _ in range(dice.randrange(12)):
        read: list[Delta] = []
        for _ in range(dice.randrange(4)):
            kind = dice.randrange(5)
            piece = dice.choice(["", "a", "{", "}", '{"x":1}', "é\n"])
            if kind < 3:
                read.append((text, refusal, reasoning)[kind](piece))
            else:
                key = dice.randrange(3)
                read.append(call(key, piece, None if key in named else f"f{key}"))
                named.add(key)
        made.append(read)
    return made, dice.choice(list(OUTCOMES))


@pytest.mark.parametrize("seed", range(80))
def test_whatever_an_upstream_says_the_stream_is_lawful(seed: int) -> None:
    reads, ends = chance(seed)

    play(*reads, ends=ends, background=seed % 2 == 0, parallel=seed % 3 != 0)
