"""The OpenAI Agents SDK for Python."""

from __future__ import annotations

import pytest
from tests.acceptance.chat_server import ChatControl
from tests.acceptance.serving import Served
from tests.clients.installed import Client

CLIENT = "openai-agents"


def test_tools_are_called_at_once_and_their_results_are_told(client: Client, scripted: Served) -> None:
    told = client.run(scripted, "tools.py").json

    assert told["called"] == ["time Oslo", "weather Oslo"]
    assert "sunny in Oslo" in told["answer"]
    assert "noon in Oslo" in told["answer"]
    assert told["requests"] == 2
    assert told["tokens"][0] > 0
    assert sum(told["tokens"][:2]) == told["tokens"][2]


def test_agents_hand_off_and_stand_as_tools(client: Client, scripted: Served) -> None:
    told = client.run(scripted, "handoffs.py").json

    agent, answer, again = told["spanish"]
    assert agent == "Spanish"
    assert "soleado en Oslo" in answer
    assert again == "Thank you"
    assert told["refunds"] == ["Refunds", ["shoes"]]
    assert told["as_tool"] == ["Orchestra", "The tools said: hats"]


def test_a_run_streams(client: Client, scripted: Served) -> None:
    told = client.run(scripted, "streaming.py").json

    assert told["text"] == told["answer"] == "The tools said: sunny in Oslo"
    assert told["items"] == ["tool_called", "tool_output", "message_output_created"]
    assert {"response.created", "response.function_call_arguments.delta", "response.completed"} <= set(told["kinds"])
    assert told["requests"] == 2
    assert told["tokens"] > 0


def test_output_has_its_type(client: Client, scripted: Served) -> None:
    told = client.run(scripted, "structured.py").json

    assert told["whole"] == {"kind": "city", "name": "Oslo", "streets": [{"name": "Oslo", "number": 0}]}
    assert told["listed"] == ["Oslo"]
    assert told["streamed"] == "Place"
    assert told["items"] == 3


def test_guardrails_stop_a_run(client: Client, scripted: Served) -> None:
    assert client.run(scripted, "guardrails.py").json == ["input: algebra", "Hello there", "output"]


def test_a_run_goes_on_from_the_server_or_from_the_client(client: Client, scripted: Served) -> None:
    told = client.run(scripted, "state.py").json

    weather, name = "The tools said: sunny in Oslo", "Your name is Alice."
    kinds = ["message", "message", "message", "function_call", "function_call_output", "message", "message", "message"]
    assert told["chained"] == [weather, name, weather]
    assert told["conversed"] == [weather, name, *kinds]
    for session in told["sessions"]:
        assert session["answers"] == [weather, name]
        assert session["kinds"] == kinds
        assert session["popped"] == "assistant"
        assert session["counts"] == [8, 7, 32, 2, 0]


def test_reasoning_is_sent_back(client: Client, scripted: Served, chat: ChatControl) -> None:
    calls = [{"reasoning": "I must look."}, {"call": "get_weather", "arguments": {"city": "Oslo"}}]
    chat.script("Think about", calls, [{"reasoning": "I have seen it."}, {"text": "It is {results}"}])

    told = client.run(scripted, "reasoning.py").json

    kinds = ["reasoning_item", "tool_call_item", "tool_call_output_item", "reasoning_item", "message_output_item"]
    for name in ("stored", "sealed"):
        assert told[name]["answers"] == ["It is sunny in Oslo", "Thank you"]
        assert told[name]["kinds"] == kinds
        assert told[name]["sealed"] == [name == "sealed"] * 2


def test_settings_and_kinds_of_tools(client: Client, scripted: Served) -> None:
    told = client.run(scripted, "settings.py").json

    assert told.pop("searched").endswith("sunny in weather")
    assert told == {
        "everything": "The tools said: sunny in Oslo",
        "demanded": "sunny in Bergen",
        "custom": "The tools said: SHOUT",
        "namespace": "The tools said: sunny in Lund",
    }


@pytest.mark.warned
def test_a_hosted_tool_beside_others_is_left_out(client: Client, scripted: Served) -> None:
    assert client.run(scripted, "hosted.py").json == "The tools said: sunny in Turku"
    assert scripted.proxy.warnings


def test_the_bundled_model(client: Client, bundled: Served) -> None:
    told = client.run(bundled, "bundled.py").json

    assert len(told["deltas"]) > 5
    assert "".join(told["deltas"]) == told["story"]
    assert told["named"]
    assert len(told["cities"]) == 1
    assert told["weather"]
    assert set(told["person"]) == {"name", "age"}
