"""The Codex CLI: a coding agent that edits files by what the model calls."""

from __future__ import annotations

import json
import os
import signal
import sys
from base64 import b64decode

import pytest
from tests.acceptance.behaviours import Json, text_of
from tests.acceptance.chat_server import ChatControl
from tests.acceptance.files import png
from tests.acceptance.processes import ANTIPHON
from tests.acceptance.serving import Served
from tests.clients.installed import Client

CLIENT = "codex"
#: It sends a web search and metadata of its own with every request.
pytestmark = pytest.mark.warned
#: Codex's own sandbox needs what containers do not have; the tests' models do nothing but what is written here.
UNBOUND = ("--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox")
KEY = {"ANTIPHON_API_KEY": "any-value", "CODEX_API_KEY": "any-value"}
#: Names that Codex knows: one with `apply_patch` and tool search, one whose tools come as an item, in namespaces.
KNOWN, LITE = "gpt-5.5", "gpt-6-astra"
RED = png(200, 0, 0)


class Turn:
    """What `codex exec --json` told of a turn."""

    def __init__(self, printed: str) -> None:
        self.events: list[Json] = [json.loads(line) for line in printed.splitlines()]

    def items(self, kind: str) -> list[Json]:
        """The items of a type as they were when they were done."""
        done = [event["item"] for event in self.events if event["type"] == "item.completed"]
        return [item for item in done if item["type"] == kind]

    @property
    def answer(self) -> str:
        return str(self.items("agent_message")[-1]["text"])

    @property
    def thread(self) -> str:
        return str(self.events[0]["thread_id"])


def codex(client: Client, served: Served, *arguments: str) -> Turn:
    """`codex exec` with the configuration of the page.  Raises AssertionError unless it ends well."""
    client.configure(served)
    command = ["codex", "exec", "--json", *UNBOUND, *arguments]
    return Turn(client.execute(command, **KEY).text)


def run(command: str) -> Json:
    return {"call": "exec_command", "arguments": {"cmd": command}}


def tools_of(body: Json) -> set[str]:
    return {tool["function"]["name"] for tool in body["tools"]}


def test_a_turn_is_answered_and_counted(client: Client, scripted: Served, chat: ChatControl) -> None:
    turn = codex(client, scripted, "Sing of the sea.")

    assert turn.answer == "Sing of the sea."
    (asked,) = chat.asked("Sing of the sea.")
    assert {"exec_command", "multi_agent_v1__spawn_agent"} <= tools_of(asked)
    usage = turn.events[-1]["usage"]
    assert turn.events[-1]["type"] == "turn.completed"
    assert usage["input_tokens"] > 0
    assert usage["output_tokens"] > 0


def test_commands_edit_files_until_it_is_done(client: Client, scripted: Served, chat: ChatControl) -> None:
    chat.script(
        "Mend greeting.txt.",
        [{"text": "I write it first."}, run("echo 'Helo, world' > greeting.txt; cat greeting.txt")],
        [run("sed -i s/Helo/Hello/ greeting.txt && cat greeting.txt")],
        [{"text": "Mended: {results}"}],
    )

    turn = codex(client, scripted, "Mend greeting.txt.")

    assert (client.folder / "greeting.txt").read_text("utf-8") == "Hello, world\n"
    assert [item["aggregated_output"] for item in turn.items("command_execution")] == [
        "Helo, world\n",
        "Hello, world\n",
    ]
    assert "Hello, world" in turn.answer
    assert len(chat.asked("Mend greeting.txt.")) == 3


def test_calls_of_one_turn_are_all_made(client: Client, scripted: Served, chat: ChatControl) -> None:
    chat.script(
        "Make two files.",
        [run("echo one > one.txt; cat one.txt"), run("echo two > two.txt; cat two.txt")],
        [{"text": "{results}"}],
    )

    turn = codex(client, scripted, "Make two files.")

    assert [(client.folder / name).read_text("utf-8") for name in ("one.txt", "two.txt")] == ["one\n", "two\n"]
    first, second = chat.asked("Make two files.")
    assert first["parallel_tool_calls"] is True
    called, *results = second["messages"][-3:]
    assert [call["id"] for call in called["tool_calls"]] == [result["tool_call_id"] for result in results]
    assert turn.answer.index("one") < turn.answer.index("two")


PATCH = """\
*** Begin Patch
*** Update File: poem.txt
@@
 Roses are red,
-violets are green.
+violets are blue.
*** Add File: notes/new.txt
+"quoted" \\ and: ünïcode
*** End Patch
"""


def test_apply_patch_edits_files(client: Client, scripted: Served, chat: ChatControl) -> None:
    (client.folder / "poem.txt").write_text("Roses are red,\nviolets are green.\n", "utf-8")
    chat.script("Correct the poem.", [{"call": "apply_patch", "arguments": {"input": PATCH}}], [{"text": "{results}"}])

    turn = codex(client, scripted, "-m", KNOWN, "Correct the poem.")

    assert (client.folder / "poem.txt").read_text("utf-8") == "Roses are red,\nviolets are blue.\n"
    assert (client.folder / "notes/new.txt").read_text("utf-8") == '"quoted" \\ and: ünïcode\n'
    (change,) = turn.items("file_change")
    assert change["status"] == "completed"
    assert "Success" in turn.answer


def test_a_patch_that_the_grammar_forbids_never_reaches_it(client: Client, scripted: Served, chat: ChatControl) -> None:
    (client.folder / "poem.txt").write_text("Roses are red,\nviolets are green.\n", "utf-8")
    wrong = PATCH.replace("*** Update File:", "*** Change File:")
    chat.script("Amend the poem.", [{"call": "apply_patch", "arguments": {"input": wrong}}], [{"text": "{results}"}])
    chat.script("it does not match the grammar", [{"call": "apply_patch", "arguments": {"input": PATCH}}])

    turn = codex(client, scripted, "-m", KNOWN, "Amend the poem.")

    assert (client.folder / "poem.txt").read_text("utf-8") == "Roses are red,\nviolets are blue.\n"
    assert [item["status"] for item in turn.items("file_change")] == ["completed"]
    calls = [message.get("tool_calls", ()) for message in chat.asked("Amend the poem.")[-1]["messages"]]
    assert wrong not in json.dumps(calls)


def test_thoughts_are_shown_and_may_come_back(client: Client, scripted: Served, chat: ChatControl) -> None:
    chat.script(
        "Think first.",
        [{"reasoning": "The date is what they want."}, run("date > date.txt")],
        [{"text": "It is written."}],
    )

    turn = codex(client, scripted, "Think first.")

    assert [item["text"] for item in turn.items("reasoning")] == ["The date is what they want."]
    assert turn.answer == "It is written."
    assert len(chat.asked("Think first.")) == 2, "with them among its items the second request is taken"


def mcp(client: Client) -> list[str]:
    """The options that give Codex the MCP server `weather`."""
    program = json.dumps([str(client.sources / "weather_mcp.py")])
    return ["-c", f"mcp_servers.weather.command={sys.executable}", "-c", f"mcp_servers.weather.args={program}"]


FORECAST = {"call": "mcp__weather__get_forecast", "arguments": {"city": "Oslo"}}


def test_tools_in_namespaces_are_called(client: Client, scripted: Served, chat: ChatControl) -> None:
    chat.script("Is there snow?", [FORECAST], [{"text": "{results}"}])

    turn = codex(client, scripted, *mcp(client), "Is there snow?")

    (call,) = turn.items("mcp_tool_call")
    assert (call["server"], call["tool"], call["status"]) == ("weather", "get_forecast", "completed")
    assert "Snow in Oslo." in turn.answer


def test_tools_are_found_by_a_search_and_called(client: Client, scripted: Served, chat: ChatControl) -> None:
    chat.script(
        "Look for snow.",
        [{"call": "tool_search", "arguments": {"query": "weather forecast"}}],
        [FORECAST],
        [{"text": "{results}"}],
    )

    turn = codex(client, scripted, *mcp(client), "-m", KNOWN, "Look for snow.")

    before, after, _ = chat.asked("Look for snow.")
    assert FORECAST["call"] in tools_of(after) - tools_of(before)
    assert "Snow in Oslo." in turn.answer


def test_a_tool_that_takes_javascript_runs_commands(client: Client, scripted: Served, chat: ChatControl) -> None:
    script = "const done = await tools.exec_command({cmd: 'echo lite > lite.txt; cat lite.txt'});\ntext(done);\n"
    chat.script("Go by code.", [{"call": "functions__exec", "arguments": {"input": script}}], [{"text": "{results}"}])

    turn = codex(client, scripted, "-m", LITE, "Go by code.")

    assert (client.folder / "lite.txt").read_text("utf-8") == "lite\n"
    assert "Script completed" in turn.answer


def test_an_agent_starts_another_and_hears_of_it(client: Client, scripted: Served, chat: ChatControl) -> None:
    task = {"task_name": "helper", "message": "Sing of the moon.", "fork_turns": "none"}
    chat.script(
        "Share the work.",
        [{"call": "collaboration__spawn_agent", "arguments": task}],
        [{"call": "collaboration__wait_agent", "arguments": {"timeout_ms": 30_000}}],
        [{"text": "It is done."}],
    )
    chat.script("Sing of the moon.", [{"text": "The moon is bright."}])

    codex(client, scripted, "-m", LITE, "Share the work.")

    assert len(chat.asked("Sing of the moon.")) == 1
    heard = " ".join(text_of(message) for message in chat.asked("The moon is bright.")[-1]["messages"])
    assert "The moon is bright." in heard


def test_an_answer_has_the_form_of_the_schema(client: Client, scripted: Served, chat: ChatControl) -> None:
    person: Json = {"name": {"type": "string"}, "age": {"type": "integer"}}
    schema = {"type": "object", "properties": person, "required": ["name", "age"], "additionalProperties": False}
    (client.folder / "schema.json").write_text(json.dumps(schema), "utf-8")

    turn = codex(client, scripted, "--output-schema", "schema.json", "At 42 there was Ada")

    assert json.loads(turn.answer) == {"name": "Ada", "age": 42}
    (asked,) = chat.asked("At 42 there was Ada")
    assert asked["response_format"]["json_schema"]["schema"] == schema


#: What a model that was shown a picture was told last, as the scripted model tells pictures.
SHOWN = "[image/png of"


def pictures_of(body: Json) -> list[bytes]:
    contents = [message["content"] for message in body["messages"] if isinstance(message["content"], list)]
    urls = [part["image_url"]["url"] for content in contents for part in content if part["type"] == "image_url"]
    return [b64decode(url.removeprefix("data:image/png;base64,")) for url in urls]


def test_a_picture_of_the_user_reaches_the_model(client: Client, scripted: Served, chat: ChatControl) -> None:
    (client.folder / "red.png").write_bytes(RED)
    chat.script(SHOWN, [{"text": "It is red."}])

    turn = codex(client, scripted, "-i", "red.png", "--", "Which colour?")

    assert turn.answer == "It is red."
    (asked,) = chat.asked("Which colour?")
    assert pictures_of(asked) == [RED]


def test_the_model_looks_at_a_picture(client: Client, scripted: Served, chat: ChatControl) -> None:
    (client.folder / "red.png").write_bytes(RED)
    chat.script("Look at it.", [{"call": "view_image", "arguments": {"path": "red.png"}}])
    chat.script(SHOWN, [{"text": "It is red."}])

    turn = codex(client, scripted, "Look at it.")

    assert turn.answer == "It is red."
    assert pictures_of(chat.asked(SHOWN)[-1]) == [RED]


def test_a_session_goes_on_with_what_came_before(client: Client, scripted: Served, chat: ChatControl) -> None:
    chat.script("Plant a tree.", [run("echo oak > tree.txt; cat tree.txt")], [{"text": "An oak."}])
    first = codex(client, scripted, "Plant a tree.")

    second = codex(client, scripted, "resume", first.thread, "Which one was it?")

    assert second.thread == first.thread
    assert second.answer == "Which one was it?"
    (asked,) = chat.asked("Which one was it?")
    told = [(message["role"], text_of(message)) for message in asked["messages"]]
    assert ("user", "Plant a tree.") in told
    assert ("assistant", "An oak.") in told
    assert [call for message in asked["messages"] for call in message.get("tool_calls", ())]


#: Turns on one connection, each with what is new in it.
SOCKET = ("-c", "model_providers.antiphon.supports_websockets=true")


def test_a_turn_over_a_websocket_edits_files(client: Client, scripted: Served, chat: ChatControl) -> None:
    chat.script(
        "Grow a flower.",
        [run("echo bud > flower.txt; cat flower.txt")],
        [run("echo bloom > flower.txt; cat flower.txt")],
        [{"text": "{results}"}],
    )

    turn = codex(client, scripted, *SOCKET, "Grow a flower.")
    again = codex(client, scripted, *SOCKET, "resume", turn.thread, "What grew?")

    assert (client.folder / "flower.txt").read_text("utf-8") == "bloom\n"
    assert "bloom" in turn.answer
    assert scripted.proxy.sockets == 2, "each session has one, and none was given up"
    assert again.answer == "What grew?"
    assert any("bud" in text_of(message) for message in chat.asked("What grew?")[-1]["messages"])


#: Codex's own provider, by the page's second file: it speaks over a WebSocket, and the server compacts.
BUILT_IN = ("-p", "built-in")


def test_codexs_own_provider_edits_files(client: Client, scripted: Served, chat: ChatControl) -> None:
    chat.script("Build a wall.", [run("echo brick > wall.txt; cat wall.txt")], [{"text": "{results}"}])

    turn = codex(client, scripted, *BUILT_IN, "Build a wall.")

    assert (client.folder / "wall.txt").read_text("utf-8") == "brick\n"
    assert "brick" in turn.answer
    assert scripted.proxy.sockets == 1


#: Every turn begins with a summary of those before it.
COMPACTING = ("-c", "model_auto_compact_token_limit=1")


def test_a_session_goes_on_from_its_summary(client: Client, scripted: Served, chat: ChatControl) -> None:
    chat.script("CONTEXT CHECKPOINT", [{"text": "The secret is 4711."}])
    chat.script("Keep a secret.", [{"text": "I keep it."}])
    first = codex(client, scripted, "Keep a secret.")

    codex(client, scripted, *COMPACTING, "resume", first.thread, "Tell the secret.")

    asked = chat.asked("Tell the secret.")[-1]
    told = " ".join(text_of(message) for message in asked["messages"])
    assert "The secret is 4711." in told
    assert "I keep it." not in told


def test_a_session_goes_on_from_what_the_server_compacted(client: Client, scripted: Served, chat: ChatControl) -> None:
    chat.script("write a summary of this conversation", [{"text": "The name of the cat is Mog."}])
    chat.script("Name the cat.", [{"text": "I call it something."}])
    first = codex(client, scripted, *BUILT_IN, "Name the cat.")

    codex(client, scripted, *BUILT_IN, *COMPACTING, "resume", first.thread, "Call the cat.")
    codex(client, scripted, *BUILT_IN, "resume", first.thread, "Feed the cat.")

    for said in ("Call the cat.", "Feed the cat."):
        told = " ".join(text_of(message) for message in chat.asked(said)[-1]["messages"])
        assert "The name of the cat is Mog." in told
        assert "Name the cat." in told, "what the user said stays"
        assert "I call it something." not in told
        assert str(client.folder) in told, "where the agent is"


@pytest.mark.refused
def test_a_window_that_is_full_ends_the_turn_at_once(client: Client, scripted: Served, chat: ChatControl) -> None:
    with pytest.raises(AssertionError, match="ran out of room in the model's context window"):
        codex(client, scripted, "-m", "too-long", "Count to ten.")

    assert len(chat.asked("Count to ten.")) == 1


@pytest.mark.refused
def test_a_failure_that_passes_is_tried_again(client: Client, scripted: Served, chat: ChatControl) -> None:
    turn = codex(client, scripted, "-m", "flaky", "Sing of the wind.")

    assert turn.answer == "Sing of the wind."
    assert len(chat.asked("Sing of the wind.")) == 2


@pytest.mark.parametrize("options", [(), SOCKET], ids=["http", "websocket"])
def test_cancelling_ends_the_models_work(
    client: Client, scripted: Served, chat: ChatControl, gate: str, options: tuple[str, ...]
) -> None:
    chat.script(f"Wait at {gate}.", [{"text": "Well,"}, {"wait": gate}, {"text": "done."}])
    client.configure(scripted)

    with client.started(["codex", "exec", "--json", *UNBOUND, *options, f"Wait at {gate}."], **KEY) as process:
        chat.reached(gate)
        process.send_signal(signal.SIGINT)
        chat.abandoned(gate)
        printed, _ = process.communicate(timeout=20)

    assert process.returncode != 0
    assert "agent_message" not in printed


def asking_for_the_list(served: Served) -> list[str]:
    """The options of a provider with a command for its key, of which Codex asks the list of models itself."""
    auth = 'auth={command="echo",args=["any-value"]}'
    provider = f'{{name="Antiphon",base_url="{served.base_url}",wire_api="responses",{auth}}}'
    return ["-c", f"model_providers.asked={provider}", "-c", "model_provider=asked"]


def test_the_list_of_models_is_understood(client: Client, scripted: Served, chat: ChatControl) -> None:
    client.configure(scripted)

    printed = client.execute(["codex", "debug", "models", *asking_for_the_list(scripted)]).text
    listed = json.loads(printed)["models"]
    ours = {model["slug"]: model for model in listed if model["description"] == "Served by tests"}

    assert {"agent", "echo", "story"} <= ours.keys()
    assert KNOWN not in ours


def test_a_model_of_the_list_edits_files(client: Client, scripted: Served, chat: ChatControl) -> None:
    (client.folder / "poem.txt").write_text("Roses are red,\nviolets are green.\n", "utf-8")
    chat.script("Set it right.", [{"call": "apply_patch", "arguments": {"input": PATCH}}], [{"text": "{results}"}])

    turn = codex(client, scripted, *asking_for_the_list(scripted), "-m", "agent", "Set it right.")

    assert (client.folder / "poem.txt").read_text("utf-8") == "Roses are red,\nviolets are blue.\n"
    assert not turn.items("error"), "Codex knows the model"


def test_launched_codex_edits_files(client: Client, scripted: Served, chat: ChatControl) -> None:
    (client.folder / "poem.txt").write_text("Roses are red,\nviolets are green.\n", "utf-8")
    chat.script("Put it right.", [{"call": "apply_patch", "arguments": {"input": PATCH}}], [{"text": "{results}"}])
    launch = [str(ANTIPHON), "launch", "--base-url", scripted.base_url, "-m", "agent", "codex"]
    source = os.environ.get("PYTHONPATH", "")

    turn = Turn(client.execute([*launch, "exec", "--json", *UNBOUND, "Put it right."], PYTHONPATH=source).text)

    assert (client.folder / "poem.txt").read_text("utf-8") == "Roses are red,\nviolets are blue.\n"
    assert not turn.items("error"), "the model was described to it"
    assert not (client.folder / ".codex/config.toml").exists()
