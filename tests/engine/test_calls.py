"""Custom tools, namespaces and tool searches of the client: deltas in, the whole list of events out."""

from __future__ import annotations

import json
import random

import pytest
from tests.engine.playbook import OUTCOMES, CountingClock, Play, Read, call, play, shell_of, text

from antiphon.engine.calls import CUSTOM, FUNCTION, SEARCH, Callee
from antiphon.engine.deltas import Delta
from antiphon.engine.draft import Draft

CALLEES = {
    "patch": Callee(CUSTOM, "patch"),
    "functions__exec": Callee(CUSTOM, "exec", "functions"),
    "crm__list": Callee(FUNCTION, "list", "crm"),
    "tool_search": Callee(SEARCH, "tool_search"),
    "look": Callee(FUNCTION, "look"),
}


def after_start(*reads: Read, ends: str = "completed") -> list[str]:
    played = play(*reads, ends=ends, callees=CALLEES)
    assert played.column[:2] == ["created in_progress", "in_progress in_progress"]
    return played.column[2:]


def test_a_custom_call() -> None:
    column = after_start(
        call(0, "", "patch", "call_a"), call(0, "*** Be"), [call(0, 'gin "\n'), call(0, "x", whole=True)]
    )

    assert column == [
        "output_item.added 0 custom_tool_call ctc_1 in_progress call_a:patch()",
        "custom_tool_call_input.delta 0 '*** Be'",
        "custom_tool_call_input.delta 0 'gin \"\\n'",
        "custom_tool_call_input.delta 0 'x'",
        "custom_tool_call_input.done 0 '*** Begin \"\\nx'",
        'output_item.done 0 custom_tool_call ctc_1 completed call_a:patch(*** Begin "\nx)',
        "completed completed",
    ]


def test_the_events_and_the_item_of_a_custom_call_have_the_members_of_the_specification() -> None:
    played = play(call(0, "x", "functions__exec", "call_a", whole=True), callees=CALLEES)

    named = {event["type"]: event for event in played.events}
    assert named["response.custom_tool_call_input.delta"] == {
        "type": "response.custom_tool_call_input.delta",
        "sequence_number": 3,
        "item_id": "ctc_1",
        "output_index": 0,
        "delta": "x",
    }
    assert named["response.custom_tool_call_input.done"] == {
        "type": "response.custom_tool_call_input.done",
        "sequence_number": 4,
        "item_id": "ctc_1",
        "output_index": 0,
        "input": "x",
    }
    assert played.response["output"] == [
        {
            "id": "ctc_1",
            "type": "custom_tool_call",
            "status": "completed",
            "call_id": "call_a",
            "name": "exec",
            "namespace": "functions",
            "input": "x",
        }
    ]


def test_a_custom_call_without_input_has_the_empty_text() -> None:
    assert after_start(call(0, "", "patch", "call_a")) == [
        "output_item.added 0 custom_tool_call ctc_1 in_progress call_a:patch()",
        "custom_tool_call_input.done 0 ''",
        "output_item.done 0 custom_tool_call ctc_1 completed call_a:patch()",
        "completed completed",
    ]


def test_input_that_looks_like_json_is_not_taken_for_whole() -> None:
    played = play(call(0, "{}", "patch"), text("Well"), call(0, " and more"), callees=CALLEES)

    assert [item.get("input") for item in played.response["output"]] == ["{} and more", None]


def test_a_whole_custom_call_is_done_before_the_next_item() -> None:
    column = after_start(call(0, "a", "patch", "call_a", whole=True), call(1, "b", "patch", "call_b", whole=True))

    assert [line.split()[0] for line in column] == 2 * [
        "output_item.added",
        "custom_tool_call_input.delta",
        "custom_tool_call_input.done",
        "output_item.done",
    ] + ["completed"]


def test_a_call_in_a_namespace_is_told_apart() -> None:
    assert after_start(call(0, "{}", "crm__list", "call_a")) == [
        "output_item.added 0 function_call fc_1 in_progress call_a:crm.list()",
        "function_call_arguments.delta 0 '{}'",
        "function_call_arguments.done 0 '{}'",
        "output_item.done 0 function_call fc_1 completed call_a:crm.list({})",
        "completed completed",
    ]


def test_the_done_event_of_a_call_in_a_namespace_has_the_name_of_the_item() -> None:
    played = play(call(0, "{}", "crm__list"), callees=CALLEES)

    done = next(event for event in played.events if event["type"] == "response.function_call_arguments.done")
    assert done["name"] == "list" == played.response["output"][0]["name"]
    assert played.response["output"][0]["namespace"] == "crm"


def test_a_tool_search_of_the_client_is_told_when_it_is_whole() -> None:
    assert after_start(call(0, '{"query":', "tool_search", "call_a"), call(0, ' "x", "n": 12345678901234567890}')) == [
        "output_item.added 0 tool_search_call tsc_1 in_progress call_a:({})",
        'output_item.done 0 tool_search_call tsc_1 completed call_a:({"query": "x", "n": 12345678901234567890})',
        "completed completed",
    ]


@pytest.mark.parametrize("said", ["", "nonsense", "[1]", '{"half"'])
def test_a_tool_search_without_an_object_has_an_empty_one(said: str) -> None:
    played = play(call(0, said, "tool_search", "call_a"), callees=CALLEES)

    assert played.response["output"] == [
        {
            "id": "tsc_1",
            "type": "tool_search_call",
            "status": "completed",
            "call_id": "call_a",
            "execution": "client",
            "arguments": {},
        }
    ]


def test_an_unknown_name_is_a_function_of_that_name() -> None:
    played = play(call(0, "{}", "nobody"), callees=CALLEES)

    assert [(item["type"], item["name"]) for item in played.response["output"]] == [("function_call", "nobody")]


CUT: dict[str, tuple[list[Read], list[str]]] = {
    "half an input": ([call(0, "half", "patch")], ["incomplete"]),
    "a whole input": ([call(0, "all", "patch", whole=True)], ["completed"]),
    "no input": ([call(0, "", "patch")], ["incomplete"]),
    "half a search": ([call(0, '{"query"', "tool_search")], ["incomplete"]),
    "a whole search": ([call(0, "{}", "tool_search")], ["completed"]),
    "input before half an input": ([call(0, "a", "patch"), call(1, "b", "patch")], ["completed", "incomplete"]),
}


@pytest.mark.parametrize("name", CUT)
def test_cut_by_the_limit(name: str) -> None:
    reads, statuses = CUT[name]
    played = play(*reads, ends="length", callees=CALLEES)

    assert [item["status"] for item in played.response["output"]] == statuses


@pytest.mark.parametrize("ends", ["failed", "cancelled"])
@pytest.mark.parametrize("name", CUT)
def test_abandoned(name: str, ends: str) -> None:
    reads, _ = CUT[name]
    played = play(*reads, ends=ends, callees=CALLEES)

    whole = {"a whole input", "a whole search"}
    assert {item["status"] for item in played.response["output"]} == {"completed" if name in whole else "incomplete"}


def test_cut_input_is_kept() -> None:
    assert after_start(call(0, "half", "patch", "call_a"), ends="length") == [
        "output_item.added 0 custom_tool_call ctc_1 in_progress call_a:patch()",
        "custom_tool_call_input.delta 0 'half'",
        "custom_tool_call_input.done 0 'half'",
        "output_item.done 0 custom_tool_call ctc_1 incomplete call_a:patch(half)",
        "incomplete incomplete",
    ]


def test_a_custom_tool_that_is_not_allowed_is_not_called() -> None:
    played = play(
        call(0, "a", "patch"), call(1, "{}", "look"), callees=CALLEES, allowed=frozenset({"look", "crm__list"})
    )

    assert [item["name"] for item in played.response["output"]] == ["look"]


def test_without_parallel_calls_only_the_first_of_any_kind_is_made() -> None:
    played = play(call(0, "a", "patch"), call(1, "{}", "look"), call(0, "b"), callees=CALLEES, parallel=False)

    assert [item.get("input") for item in played.response["output"]] == ["ab"]


def test_what_a_log_has_of_an_input_is_whole_when_it_is_resumed() -> None:
    """docs/log.md, I9."""
    asked = shell_of(background=True)
    first = Draft(asked, CountingClock())
    first.may_call = first.may_call._replace(callees=CALLEES)
    log = first.apply([call(0, "all of it", "patch", "call_old")])

    draft = Draft.resume(asked, CountingClock(1000), log)
    draft.settle(turn_over=False)

    [item] = [json.loads(item.body) for item in draft.output()]
    assert (item["input"], item["status"], item["call_id"]) == ("all of it", "completed", "call_old")


# --- Anything ---


def chance(seed: int) -> tuple[list[Read], str]:
    """Calls of every kind and text, in any order and in reads of any size."""
    dice = random.Random(seed)
    names = [*CALLEES, "nobody"]
    made: list[Read] = []
    named: set[int] = set()
    for _ in range(dice.randrange(12)):
        read: list[Delta] = []
        for _ in range(dice.randrange(4)):
            piece = dice.choice(["", "a", "{", "}", '{"x":1}', "é\n", '"'])
            key = dice.randrange(5)
            if key == 4:
                read.append(text(piece))
            else:
                whole = dice.random() < 0.3
                read.append(call(key, piece, None if key in named else dice.choice(names), whole=whole))
                named.add(key)
        made.append(read)
    return made, dice.choice(list(OUTCOMES))


@pytest.mark.parametrize("seed", range(120))
def test_whatever_a_model_calls_the_stream_is_lawful(seed: int) -> None:
    reads, ends = chance(seed)

    played: Play = play(*reads, ends=ends, background=seed % 2 == 0, parallel=seed % 3 != 0, callees=CALLEES)
    for item in played.response["output"]:
        assert "__" not in item.get("name", ""), "no name that only the model knows leaves"
