"""Items and parameters of the Responses API as a body of chat completions: tables of both."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.upstreams.asking import Json, asked, asked_of, body_of, function, user

from antiphon.upstreams.chat_completions.options import Options

PNG = "data:image/png;base64,iVBORw0KGgo="


def message(role: str, *parts: Json | str) -> Json:
    kind = "output_text" if role == "assistant" else "input_text"
    content = [{"type": kind, "text": part} if isinstance(part, str) else part for part in parts]
    return {"type": "message", "role": role, "content": content}


def agent_message(about: str, task: str) -> Json:
    """The task itself came from an argument that OpenAI would have encrypted."""
    parts = [{"type": "input_text", "text": about}, {"type": "encrypted_content", "encrypted_content": task}]
    return {"type": "agent_message", "author": "/root", "recipient": "/root/a", "content": parts}


def image(**members: Any) -> Json:
    return {"type": "input_image", "image_url": PNG, **members}


def call(call_id: str, name: str = "f", arguments: str = "{}") -> Json:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}


def output(call_id: str, output: Any) -> Json:
    return {"type": "function_call_output", "call_id": call_id, "output": output}


def reasoning(text: str) -> Json:
    return {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": text}]}


def called(*calls: tuple[str, str, str], **members: Any) -> Json:
    """An assistant's message with calls."""
    made = [{"id": i, "type": "function", "function": {"name": name, "arguments": a}} for i, name, a in calls]
    return {"role": "assistant", "content": None, **members, "tool_calls": made}


def body(*items: Json, options: Options | None = None, stream: bool = True, **more: Any) -> Json:
    decoded: Json = json.loads(body_of(asked(*items, **more), options or Options(), stream=stream))
    return decoded


def messages(*items: Json, options: Options | None = None, **more: Any) -> list[Json]:
    built: list[Json] = body(*items, options=options, **more)["messages"]
    return built


# --- Messages ---

MESSAGES: dict[str, tuple[list[Json], list[Json]]] = {
    "one user text": ([user("Hi")], [{"role": "user", "content": "Hi"}]),
    "content that is a string": (
        [{"role": "user", "content": "Hi"}],
        [{"role": "user", "content": "Hi"}],
    ),
    "several texts are one": ([message("user", "a", "b")], [{"role": "user", "content": "a\nb"}]),
    "no text": ([message("user")], [{"role": "user", "content": ""}]),
    "a developer is a system": ([message("developer", "Rule")], [{"role": "system", "content": "Rule"}]),
    "what one agent tells another is the user's": (
        [agent_message("New task: ", "say hi")],
        [{"role": "user", "content": "New task: \nsay hi"}],
    ),
    "it waits for the outputs of open calls": (
        [call("c1"), agent_message("From ", "b"), output("c1", "1")],
        [
            called(("c1", "f", "{}")),
            {"role": "tool", "tool_call_id": "c1", "content": "1"},
            {"role": "user", "content": "From \nb"},
        ],
    ),
    "systems at the head are one": (
        [message("system", "a"), message("developer", "b"), user("c"), message("system", "d")],
        [
            {"role": "system", "content": "a\n\nb"},
            {"role": "user", "content": "c"},
            {"role": "system", "content": "d"},
        ],
    ),
    "an assistant between two users": (
        [user("a"), message("assistant", "b"), user("c")],
        [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"},
            {"role": "user", "content": "c"},
        ],
    ),
    "assistants in a row are one": (
        [message("assistant", "a", "b"), message("assistant", "c")],
        [{"role": "assistant", "content": "a\nb\nc"}],
    ),
    "a refusal is what was said": (
        [message("assistant", {"type": "refusal", "refusal": "No."})],
        [{"role": "assistant", "content": "No."}],
    ),
    "text and image": (
        [message("user", "What is it?", image(detail="high"))],
        [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is it?"},
                    {"type": "image_url", "image_url": {"url": PNG, "detail": "high"}},
                ],
            }
        ],
    ),
    "an image of the original size": (
        [message("user", image(detail="original"))],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": PNG}}]}],
    ),
    "a file": (
        [message("user", {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"})],
        [
            {
                "role": "user",
                "content": [
                    {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"}}
                ],
            }
        ],
    ),
    "a file without a name": (
        [message("user", {"type": "input_file", "file_data": "data:application/pdf;base64,JVBE"})],
        [
            {
                "role": "user",
                "content": [{"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBE"}}],
            }
        ],
    ),
    "a call and its output": (
        [user("a"), call("c1", "f", '{"x": 1}'), output("c1", "42"), message("assistant", "b")],
        [
            {"role": "user", "content": "a"},
            called(("c1", "f", '{"x": 1}')),
            {"role": "tool", "tool_call_id": "c1", "content": "42"},
            {"role": "assistant", "content": "b"},
        ],
    ),
    "text and parallel calls are one message": (
        [message("assistant", "I look."), call("c1"), call("c2", "g"), output("c1", "1"), output("c2", "2")],
        [
            called(("c1", "f", "{}"), ("c2", "g", "{}"), content="I look."),
            {"role": "tool", "tool_call_id": "c1", "content": "1"},
            {"role": "tool", "tool_call_id": "c2", "content": "2"},
        ],
    ),
    "one call after the other": (
        [call("c1"), output("c1", "1"), call("c2"), output("c2", "2")],
        [
            called(("c1", "f", "{}")),
            {"role": "tool", "tool_call_id": "c1", "content": "1"},
            called(("c2", "f", "{}")),
            {"role": "tool", "tool_call_id": "c2", "content": "2"},
        ],
    ),
    "empty arguments": ([call("c1", "f", "")], [called(("c1", "f", "{}"))]),
    "an output of parts": (
        [call("c1"), output("c1", [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}])],
        [called(("c1", "f", "{}")), {"role": "tool", "tool_call_id": "c1", "content": "a\nb"}],
    ),
    "an output with nothing in it": (
        [call("c1"), output("c1", [])],
        [called(("c1", "f", "{}")), {"role": "tool", "tool_call_id": "c1", "content": ""}],
    ),
    "images of outputs follow behind all of them": (
        [
            call("c1"),
            call("c2"),
            output("c1", [{"type": "input_text", "text": "a"}, image()]),
            output("c2", [image(detail="low")]),
            user("Which?"),
        ],
        [
            called(("c1", "f", "{}"), ("c2", "f", "{}")),
            {"role": "tool", "tool_call_id": "c1", "content": "a"},
            {"role": "tool", "tool_call_id": "c2", "content": ""},
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": PNG}},
                    {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}},
                ],
            },
            {"role": "user", "content": "Which?"},
        ],
    ),
    "a file of an output": (
        [call("c1"), output("c1", [{"type": "input_file", "file_data": "aGk=", "filename": "a.pdf"}])],
        [
            called(("c1", "f", "{}")),
            {"role": "tool", "tool_call_id": "c1", "content": ""},
            {"role": "user", "content": [{"type": "file", "file": {"filename": "a.pdf", "file_data": "aGk="}}]},
        ],
    ),
    "an image of the last output": (
        [call("c1"), output("c1", [image()])],
        [
            called(("c1", "f", "{}")),
            {"role": "tool", "tool_call_id": "c1", "content": ""},
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": PNG}}]},
        ],
    ),
    "free-form calls": (
        [
            {"type": "custom_tool_call", "call_id": "c1", "name": "patch", "input": '*** Begin "x"'},
            {"type": "custom_tool_call_output", "call_id": "c1", "output": "done"},
        ],
        [
            called(("c1", "patch", '{"input":"*** Begin \\"x\\""}')),
            {"role": "tool", "tool_call_id": "c1", "content": "done"},
        ],
    ),
    "reasoning stays here": (
        [user("a"), reasoning("Hm"), message("assistant", "b")],
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
    ),
    "items that the dialect has no words for": (
        [user("a"), {"type": "web_search_call", "id": "ws_1", "status": "completed"}, {"type": "x:y", "id": "1"}],
        [{"role": "user", "content": "a"}],
    ),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_messages(name: str) -> None:
    items, expected = MESSAGES[name]

    assert messages(*items) == expected


REPLAYED: dict[str, tuple[list[Json], list[Json]]] = {
    "before text": (
        [user("a"), reasoning("Hm"), message("assistant", "b")],
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "reasoning_content": "Hm"}],
    ),
    "told as a summary": (
        [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm"}], "content": []}, call("c1")],
        [called(("c1", "f", "{}"), reasoning_content="Hm")],
    ),
    "before calls": ([reasoning("Hm"), call("c1")], [called(("c1", "f", "{}"), reasoning_content="Hm")]),
    "between calls of two turns": (
        [reasoning("a"), call("c1"), output("c1", "1"), reasoning("b"), call("c2"), output("c2", "2")],
        [
            called(("c1", "f", "{}"), reasoning_content="a"),
            {"role": "tool", "tool_call_id": "c1", "content": "1"},
            called(("c2", "f", "{}"), reasoning_content="b"),
            {"role": "tool", "tool_call_id": "c2", "content": "2"},
        ],
    ),
    "twice in a row": (
        [reasoning("a"), reasoning("b"), message("assistant", "c")],
        [
            {"role": "assistant", "content": "", "reasoning_content": "a"},
            {"role": "assistant", "content": "c", "reasoning_content": "b"},
        ],
    ),
    "alone": (
        [reasoning("Hm"), user("Go on.")],
        [
            {"role": "assistant", "content": "", "reasoning_content": "Hm"},
            {"role": "user", "content": "Go on."},
        ],
    ),
    "none in it": ([{"type": "reasoning", "summary": []}, user("a")], [{"role": "user", "content": "a"}]),
}


@pytest.mark.parametrize("name", REPLAYED)
def test_reasoning_that_is_sent_back(name: str) -> None:
    items, expected = REPLAYED[name]

    assert messages(*items, options=Options(replay_reasoning=True)) == expected


def test_instructions_stand_first_and_join_the_head() -> None:
    built = messages(message("developer", "b"), user("c"), instructions="a")

    assert built == [{"role": "system", "content": "a\n\nb"}, {"role": "user", "content": "c"}]


def test_a_model_that_knows_developers() -> None:
    built = messages(
        message("developer", "b"), user("c"), instructions="a", options=Options(developer_role="developer")
    )

    assert built == [
        {"role": "system", "content": "a"},
        {"role": "developer", "content": "b"},
        {"role": "user", "content": "c"},
    ]


# --- Tools ---

F = {"type": "function", "function": {"name": "f"}}
G = {"type": "function", "function": {"name": "g"}}

CHOICES: dict[str, tuple[Any, bool, Json]] = {
    "absent": (None, True, {"tools": [F, G]}),
    "auto": ("auto", True, {"tools": [F, G]}),
    "none": ("none", True, {}),
    "required": ("required", True, {"tools": [F, G], "tool_choice": "required"}),
    "required, later": ("required", False, {"tools": [F, G]}),
    "one function": (
        {"type": "function", "name": "g"},
        True,
        {"tools": [F, G], "tool_choice": {"type": "function", "function": {"name": "g"}}},
    ),
    "one function, later": ({"type": "function", "name": "g"}, False, {"tools": [F, G]}),
    "allowed": (
        {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "g"}]},
        True,
        {"tools": [G]},
    ),
    "allowed and required": (
        {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]},
        True,
        {"tools": [F], "tool_choice": "required"},
    ),
    "allowed and required, later": (
        {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]},
        False,
        {"tools": [F]},
    ),
}


@pytest.mark.parametrize("name", CHOICES)
def test_tool_choice(name: str) -> None:
    choice, force, expected = CHOICES[name]

    built = body(user("a"), tools=[function("f"), function("g")], tool_choice=choice, force_choice=force)

    assert {key: built[key] for key in ("tools", "tool_choice") if key in built} == expected


def test_a_function_with_everything() -> None:
    schema = {"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "integer"}}}
    tool = function("f", description="Does it.", parameters=schema, strict=True)

    built = body(user("a"), tools=[tool], parallel_tool_calls=False)

    assert built["tools"] == [
        {
            "type": "function",
            "function": {"name": "f", "description": "Does it.", "parameters": schema, "strict": True},
        }
    ]
    assert built["parallel_tool_calls"] is False


def test_without_tools_nothing_is_said_of_them() -> None:
    built = body(user("a"), parallel_tool_calls=False)

    assert not built.keys() & {"tools", "tool_choice", "parallel_tool_calls"}


def test_a_tool_that_is_left_out_is_not_offered() -> None:
    built = body(user("a"), tools=[function("f"), {"type": "web_search"}])

    assert built["tools"] == [F]


# --- Format and sampling ---

FORMATS: dict[str, tuple[Json | None, Any]] = {
    "absent": (None, None),
    "text": ({"type": "text"}, None),
    "object": ({"type": "json_object"}, {"type": "json_object"}),
    "schema": (
        {"type": "json_schema", "name": "n", "schema": {"type": "object", "x": [1]}},
        {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object", "x": [1]}}},
    ),
    "schema with everything": (
        {"type": "json_schema", "name": "n", "schema": {}, "strict": True, "description": "d"},
        {"type": "json_schema", "json_schema": {"name": "n", "schema": {}, "strict": True, "description": "d"}},
    ),
}


@pytest.mark.parametrize("name", FORMATS)
def test_format(name: str) -> None:
    form, expected = FORMATS[name]

    built = body(user("a"), text=None if form is None else {"format": form})

    assert built.get("response_format") == expected


def test_without_parameters_nothing_is_decided_for_the_model() -> None:
    assert body(user("a")) == {
        "model": "m",
        "messages": [{"role": "user", "content": "a"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert body(user("a"), stream=False) == {
        "model": "m",
        "messages": [{"role": "user", "content": "a"}],
        "stream": False,
    }


def test_sampling() -> None:
    parameters: Json = {
        "temperature": 0.0,
        "top_p": 0.5,
        "presence_penalty": -1.0,
        "frequency_penalty": 0.25,
        "user": "u",
    }

    built = body(user("a"), **parameters, max_output_tokens=16, reasoning={"effort": "low"})

    assert {key: built[key] for key in parameters} == parameters
    assert built["max_tokens"] == 16
    assert built["reasoning_effort"] == "low"


def test_the_name_of_the_token_limit_is_an_option() -> None:
    built = body(user("a"), max_output_tokens=16, options=Options(max_tokens_field="max_completion_tokens"))

    assert built["max_completion_tokens"] == 16
    assert "max_tokens" not in built


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, {}),
        ({"top_logprobs": 3}, {}),
        ({"include": ["message.output_text.logprobs"]}, {"logprobs": True}),
        ({"include": ["message.output_text.logprobs"], "top_logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
    ],
)
def test_logprobs_are_asked_for_where_they_are_shown(parameters: Json, expected: Json) -> None:
    built = body(user("a"), **parameters)

    assert {key: built[key] for key in ("logprobs", "top_logprobs") if key in built} == expected


def test_extra_members_win() -> None:
    built = body(user("a"), temperature=1.0, options=Options(extra_body={"temperature": 0.5, "top_k": 40}))

    assert (built["temperature"], built["top_k"]) == (0.5, 40)


# --- Bytes ---


def test_the_same_request_is_the_same_bytes_and_a_longer_one_begins_alike() -> None:
    """Prefix caches of upstreams live on this."""
    schema = {"type": "object", "properties": {"zebra": {}, "apple": {}, "é": {"description": "ü"}}}
    common: Json = {"instructions": "Be brief.", "tools": [function("f", parameters=schema)], "temperature": 0.3}
    turn = [user("é 🦄"), call("c1"), output("c1", "1"), message("assistant", "b")]

    short = body_of(asked(*turn, **common), Options(), stream=True)
    again = body_of(asked(*turn, **common), Options(), stream=True)
    longer = body_of(asked(*turn, user("and?"), **common), Options(), stream=True)

    assert short == again
    end = short.index(b'}],"stream"')
    assert longer[: end + 1] == short[: end + 1]


def test_schemas_go_as_the_client_wrote_them() -> None:
    schema = '{"type": "object",  "properties": {"n": {"const": 1.10, "enum": [12345678901234567890]}}}'
    raw = f'{{"model":"m","input":"a","tools":[{{"type":"function","name":"f","parameters":{schema}}}]}}'

    assert schema.encode() in body_of(asked_of(raw.encode(), user("a")), Options(), stream=True)


# --- What has to wait, and what is said once ---


def test_messages_wait_until_every_open_call_has_its_output() -> None:
    built = messages(call("1"), call("2"), user("a"), output("1", "x"), message("system", "b"), output("2", "y"))

    assert [told["role"] for told in built] == ["assistant", "tool", "tool", "user", "system"]
    assert [told["content"] for told in built[3:]] == ["a", "b"]


def test_pictures_of_outputs_wait_too_and_come_first() -> None:
    built = messages(call("1"), call("2"), output("1", [image()]), user("a"), output("2", "y"))

    assert [told["role"] for told in built] == ["assistant", "tool", "tool", "user", "user"]
    assert built[3]["content"][0]["type"] == "image_url"


def test_the_assistants_words_stay_with_its_calls_but_not_between_outputs() -> None:
    assert messages(call("1"), message("assistant", "a"), output("1", "x"))[0]["content"] == "a"
    built = messages(call("1"), call("2"), output("1", "x"), message("assistant", "a"), output("2", "y"))
    assert [told["role"] for told in built] == ["assistant", "tool", "tool", "assistant"]


def test_a_message_after_a_call_without_output_is_not_lost() -> None:
    assert messages(call("1"), user("a"))[-1] == {"role": "user", "content": "a"}


def test_instructions_that_are_sent_again_are_said_once() -> None:
    rules = message("developer", "Be brief.")

    assert messages(rules, user("a"), rules, message("system", "Be  brief."), instructions="Be brief.") == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "a"},
        {"role": "system", "content": "Be  brief."},
    ]
    assert len(messages(user("a"), user("a"))) == 2


def test_later_system_messages_may_be_folded_into_the_head() -> None:
    items = [message("system", "a"), user("b"), message("developer", "c"), user("d")]

    assert messages(*items, options=Options(fold_system=True)) == [
        {"role": "system", "content": "a\n\nc"},
        {"role": "user", "content": "b"},
        {"role": "user", "content": "d"},
    ]


def test_parameters_that_only_some_servers_know_are_passed_on_where_the_operator_says_so() -> None:
    given: Json = {"service_tier": "flex", "prompt_cache_key": "k", "safety_identifier": "s"}
    plain = body(user("a"), text={"verbosity": "low"}, **given)
    told = body(user("a"), text={"verbosity": "low"}, options=Options(openai_parameters=True), **given)

    assert {name: value for name, value in told.items() if name not in plain} == {"verbosity": "low", **given}
    assert not plain.keys() & {"verbosity", *given}
