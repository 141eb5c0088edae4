"""LangChain for Python, by `langchain-openai`."""

from __future__ import annotations

from tests.acceptance.chat_server import ChatControl
from tests.acceptance.serving import Served
from tests.clients.installed import Client

CLIENT = "langchain"


def test_messages_go_in_and_out(client: Client, scripted: Served) -> None:
    told = client.run(scripted, "chat.py").json

    assert told["whole"] == "Good morning"
    assert "".join(told["pieces"]) == "One two three four"
    assert len(list(filter(None, told["pieces"]))) == 4
    assert told["image"].startswith("What is it? [image/png of ")
    for way in ("called", "called_streamed"):
        names, answer, counted = told[way]
        assert names == ["get_time", "get_weather"]
        assert "sunny in Oslo" in answer
        assert "noon in Oslo" in answer
        assert counted
    assert told["by_schema"] == {"name": "Alice", "age": 30}
    assert told["by_tool"] == {"name": "Bob", "age": 30}


def test_a_conversation_goes_on(client: Client, scripted: Served, chat: ChatControl) -> None:
    calls = [{"reasoning": "I must look."}, {"call": "get_weather", "arguments": {"city": "Oslo"}}]
    chat.script("Think of", calls, [{"reasoning": "I have seen it."}, {"text": "It is {results}"}])

    told = client.run(scripted, "state.py").json

    for kinds in told.values():
        assert kinds[:2] == ["It is sunny in Oslo", "Your name is Alice."]
    assert "reasoning" in told["reasoned"]
    assert "reasoning" in told["sealed"]


def test_the_bundled_model(client: Client, bundled: Served) -> None:
    told = client.run(bundled, "bundled.py").json

    assert len(told["pieces"]) > 5
    [call] = told["calls"]
    assert call["name"] == "get_weather"
    assert set(call["args"]) == {"location"}
    assert set(told["person"]) == {"name", "age"}
