"""opencode without its screen: `opencode run`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.acceptance.chat_server import ChatControl
from tests.acceptance.serving import Served
from tests.clients.installed import Client

CLIENT = "opencode"
OPENCODE_SECONDS = 100

pytestmark = [pytest.mark.timeout(300), pytest.mark.warned]

Json = dict[str, Any]


def opencode(client: Client, served: Served, prompt: str, *arguments: str) -> list[Json]:
    """The parts that a turn told, in order.  A title of the session is given, or else the model is asked for one."""
    client.configure(served)
    command = ["opencode", "run", "--format", "json", *arguments]
    told = client.execute(command, stdin=prompt, seconds=OPENCODE_SECONDS, OPENCODE_DISABLE_MODELS_FETCH="1")
    return [json.loads(line)["part"] for line in told.text.splitlines()]


def texts(parts: list[Json], kind: str = "text") -> list[str]:
    return [part["text"].strip() for part in parts if part["type"] == kind]


def test_a_turn_and_the_title_of_its_session(client: Client, scripted: Served, chat: ChatControl) -> None:
    parts = opencode(client, scripted, "Good morning, everybody")

    assert texts(parts) == ["Good morning, everybody"]
    [tokens] = [part["tokens"] for part in parts if part["type"] == "step-finish"]
    assert tokens["input"] > 1000
    assert tokens["output"] == 4
    titled, asked = sorted(chat.asked("Good morning, everybody"), key=lambda body: "tools" in body)
    assert "title" in titled["messages"][0]["content"]
    assert {"bash", "edit", "read", "write"} <= {tool["function"]["name"] for tool in asked["tools"]}


def test_files_are_written_edited_and_read(client: Client, scripted: Served, chat: ChatControl) -> None:
    said = "Keep a note of the tides"
    note, copy = client.folder / "notes/tides.md", client.folder / "copy.md"
    chat.script(
        said,
        [
            {"text": "I write both."},
            {"call": "write", "arguments": {"filePath": str(note), "content": "High at noon.\n"}},
            {"call": "write", "arguments": {"filePath": str(copy), "content": "Nothing yet.\n"}},
        ],
        [
            {
                "call": "edit",
                "arguments": {"filePath": str(note), "oldString": "noon", "newString": 'six "sharp"'},
            }
        ],
        [{"call": "bash", "arguments": {"command": f"cp {note} {copy}; cat {copy}", "description": "Copies the note"}}],
        [{"text": "The tides are kept."}],
    )

    parts = opencode(client, scripted, said, "--title", "Tides")

    assert note.read_text("utf-8") == copy.read_text("utf-8") == 'High at six "sharp".\n'
    calls = [(part["tool"], part["state"]["status"]) for part in parts if part["type"] == "tool"]
    assert calls == [(tool, "completed") for tool in ("write", "write", "edit", "bash")]
    assert texts(parts) == ["I write both.", "The tides are kept."]
    last = chat.asked(said)[-1]["messages"]
    assert [message["role"] for message in last if message["role"] != "system"] == [
        *("user", "assistant", "tool", "tool", "assistant", "tool", "assistant", "tool"),
    ]
    assert 'six "sharp"' in last[-1]["content"]


def test_a_session_goes_on_with_its_thoughts(client: Client, scripted: Served, chat: ChatControl) -> None:
    thinker = ("--model", "antiphon/thinker", "--thinking")
    first = opencode(client, scripted, "Why is the sea salty?", *thinker, "--title", "Sea")
    second = opencode(client, scripted, "And the lakes?", *thinker, "--continue")

    assert texts(first, "reasoning") == ["They said 'Why is the sea salty?'."]
    assert texts(second, "reasoning") == ["They said 'And the lakes?'."]
    [asked] = chat.asked("And the lakes?")
    told = [message["content"].strip() for message in asked["messages"] if message["role"] != "system"]
    assert told == ["Why is the sea salty?", "I have thought about it.", "And the lakes?"]


def test_the_bundled_model_answers_an_agent_without_tools(client: Client, bundled: Served) -> None:
    [text] = texts(opencode(client, bundled, "Tell me a three sentence bedtime story.", "--agent", "brief"))

    assert text
