"""The command `llm`, with its models of `extra-openai-models.yaml`."""

from __future__ import annotations

import base64
import json

import pytest
from tests.acceptance.chat_server import ChatControl
from tests.acceptance.serving import Served
from tests.clients.installed import Client

CLIENT = "llm"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def said(client: Client, *arguments: str) -> str:
    """What the command prints, with the files of the page in its folder."""
    return client.execute(["llm", "-m", "antiphon", *arguments], LLM_USER_PATH=str(client.folder)).text.strip()


@pytest.mark.parametrize("streaming", [[], ["--no-stream"]], ids=["streamed", "whole"])
def test_prompts_conversations_and_tools(
    client: Client, scripted: Served, chat: ChatControl, streaming: list[str]
) -> None:
    client.configure(scripted)
    calls = [{"reasoning": "I must look."}, {"call": "get_weather", "arguments": {"city": "Oslo"}}]
    chat.script("Think about it", calls, [{"reasoning": "I have seen it."}, {"text": "It is {results}"}])
    tools = ["--functions", str(client.sources / "tools.py")]
    answer = said(client, "The weather and the time in Oslo", *tools, *streaming)

    assert said(client, "Good morning", *streaming) == "Good morning"
    assert "sunny in Oslo" in answer
    assert "noon in Oslo" in answer
    assert said(client, "My name is Alice", *streaming) == "My name is Alice"
    assert "sunny in Oslo" in said(client, "--continue", "Think about it", "--hide-reasoning", *tools, *streaming)
    assert said(client, "--continue", "What is my name?", *streaming) == "Your name is Alice."


def test_schemas_and_attachments(client: Client, scripted: Served) -> None:
    client.configure(scripted)
    (client.folder / "pixel.png").write_bytes(base64.b64decode(PIXEL))

    assert json.loads(said(client, "30 is Alice", "--schema", "name, age int")) == {"name": "Alice", "age": 30}
    assert said(client, "What is it?", "-a", "pixel.png").startswith("What is it? [image/png of ")


def test_the_bundled_model(client: Client, bundled: Served) -> None:
    client.configure(bundled)

    assert len(said(client, "Tell me a three sentence bedtime story about a unicorn.").split()) > 10
    assert set(json.loads(said(client, "Alice is 30 years old. Who is it?", "--schema", "name, age int"))) == {
        "name",
        "age",
    }
    assert said(client, "My name is Alice.")
    assert said(client, "--continue", "What is my name?")
