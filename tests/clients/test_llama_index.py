"""LlamaIndex, by `OpenAIResponses` of `llama-index-llms-openai`."""

from __future__ import annotations

from tests.acceptance.serving import Served
from tests.clients.installed import Client

CLIENT = "llama-index"


def test_completions_chats_tools_and_types(client: Client, scripted: Served) -> None:
    told = client.run(scripted, "chat.py").json

    assert told["complete"] == "Good evening"
    assert told["chat"] == "Good morning"
    assert "".join(told["pieces"]) == "Good morning"
    for names, answer in told["worked"]:
        assert names == ["get_time", "get_weather"]
        assert "sunny in Oslo" in answer
        assert "noon in Oslo" in answer
    assert told["person"] == {"name": "Alice", "age": 30}
    assert told["tracked"] == "Your name is Alice."
    assert told["image"].startswith("What is it? [image/png of ")


def test_the_bundled_model(client: Client, bundled: Served) -> None:
    told = client.run(bundled, "bundled.py").json

    assert len(told["pieces"]) > 5
    [[name, arguments]] = told["calls"]
    assert name == "get_weather"
    assert set(arguments) == {"location"}
    assert set(told["person"]) == {"name", "age"}
