"""Pydantic AI, by `OpenAIResponsesModel`."""

from __future__ import annotations

from tests.acceptance.chat_server import ChatControl
from tests.acceptance.serving import Served
from tests.clients.installed import Client

CLIENT = "pydantic-ai"


def test_agents_have_tools_and_types(client: Client, scripted: Served) -> None:
    told = client.run(scripted, "agents.py").json

    assert "sunny in Oslo" in told["whole"]
    assert "noon in Oslo" in told["whole"]
    assert told["usage"] == [2, 2, True]
    assert "".join(told["pieces"]) == "The tools said: sunny in Bergen"
    assert len(told["pieces"]) > 1
    assert told["typed"] == {"tool": {"name": "Alice", "age": 30}, "native": {"name": "Alice", "age": 30}}
    assert told["partial"] == {"name": "Bob", "age": 30}
    assert told["image"].startswith("What is it? [image/png of ")


def test_a_conversation_goes_on(client: Client, scripted: Served, chat: ChatControl) -> None:
    calls = [{"reasoning": "I must look."}, {"call": "get_weather", "arguments": {"city": "Oslo"}}]
    chat.script("Think over", calls, [{"reasoning": "I have seen it."}, {"text": "It is {results}"}])

    told = client.run(scripted, "state.py").json

    for way in ("messages", "chained", "conversed", "sealed", "reasoned"):
        assert told[way][:3] == ["It is sunny in Oslo", "Your name is Alice.", 2]
    assert told["sealed"][3]
    turn = ["message", "reasoning", "function_call", "function_call_output", "reasoning", "message"]
    assert told["items"] == ["message", "message", *turn, "message", "message"]


def test_the_bundled_model(client: Client, bundled: Served) -> None:
    told = client.run(bundled, "bundled.py").json

    assert len(told["pieces"]) > 5
    assert [set(person) for person in told["people"]] == [{"name", "age"}] * 2
