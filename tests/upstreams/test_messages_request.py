"""Model requests as the Messages API takes them: turns by turns, thoughts as they were, parameters translated."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from tests.upstreams.asking import asked, function, user

from antiphon.engine.ports.upstreams import ModelRequest, UpstreamError
from antiphon.upstreams.messages.options import Options
from antiphon.upstreams.messages.request import counted, form_of, headers_of
from antiphon.upstreams.opaque import wrapped

Json = dict[str, Any]

MAKER = "messages/here"
CACHED = {"cache_control": {"type": "ephemeral"}}


def body_of(request: ModelRequest, *, stream: bool = True, cache: bool = False, **options: Any) -> Json:
    form = form_of(request, Options(cache=cache, **options), MAKER, stream=stream)
    body = json.loads(msgspec.json.encode(form))
    assert isinstance(body, dict)
    return body


def messages(*items: Json, prefix: str | None = None, **parameters: Any) -> list[tuple[str, Any]]:
    """The messages that these items become, texts as strings."""
    request = asked(*items, **parameters)
    request.prefix = prefix
    return [
        (message["role"], [_shown(block) for block in message["content"]]) for message in body_of(request)["messages"]
    ]


def _shown(block: Json) -> Any:
    return block["text"] if block["type"] == "text" else block


def said(role: str, text: str, kind: str | None = None) -> Json:
    kind = kind or ("output_text" if role == "assistant" else "input_text")
    return {"type": "message", "role": role, "content": [{"type": kind, "text": text}]}


def call(call_id: str, name: str = "f", arguments: str = "{}") -> Json:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}


def output(call_id: str, told: Any = "1") -> Json:
    return {"type": "function_call_output", "call_id": call_id, "output": told}


def use(call_id: str, name: str = "f", given: Any = None) -> Json:
    return {"type": "tool_use", "id": call_id, "name": name, "input": given or {}}


def result(call_id: str, content: Any = "1") -> Json:
    return {"type": "tool_result", "tool_use_id": call_id, "content": content}


def test_a_small_request() -> None:
    assert body_of(asked(user("Hi"))) == {
        "model": "m",
        "max_tokens": 32_000,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
        "stream": True,
    }


def test_instructions_of_all_kinds_are_the_system_prompt_each_once() -> None:
    items = [said("developer", "Two."), user("Hi"), said("system", "Three."), said("developer", "Two."), user("Ho")]

    body = body_of(asked(*items, instructions="One."))

    assert body["system"] == [{"type": "text", "text": "One.\n\nTwo.\n\nThree."}]
    assert body["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "text", "text": "Ho"}]}
    ]


# --- Turns ---


def test_messages_of_the_same_role_are_one() -> None:
    items = [user("a"), user("b"), said("assistant", "c"), said("assistant", "d", "refusal"), user("e")]
    items[3]["content"][0] = {"type": "refusal", "refusal": "d"}

    assert messages(*items) == [("user", ["a", "b"]), ("assistant", ["c", "d"]), ("user", ["e"])]


def test_what_one_agent_tells_another_is_the_users() -> None:
    task = {"type": "encrypted_content", "encrypted_content": "say hi"}
    told = {"type": "agent_message", "author": "/root", "content": [{"type": "input_text", "text": "Task: "}, task]}

    assert messages(told) == [("user", ["Task: ", "say hi"])]


def test_blank_text_is_not_said() -> None:
    assert messages(user("a"), said("assistant", " \n"), user(""), user("b")) == [("user", ["a", "b"])]


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([], [("user", ["Begin."])]),
        ([said("developer", "Speak.")], [("user", ["Begin."])]),
        ([said("assistant", "Hello")], [("user", ["Begin."]), ("assistant", ["Hello"]), ("user", ["Go on."])]),
        ([user("Hi"), said("assistant", "Hello")], [("user", ["Hi"]), ("assistant", ["Hello"]), ("user", ["Go on."])]),
    ],
)
def test_the_user_has_the_first_word_and_the_last(items: list[Json], expected: Any) -> None:
    assert messages(*items) == expected


def test_a_reply_that_is_gone_on_with_comes_last_without_white_space_at_its_end() -> None:
    assert messages(user("Hi"), prefix="So far \n") == [("user", ["Hi"]), ("assistant", ["So far"])]
    assert messages(user("Hi"), prefix=" \n") == [("user", ["Hi"])]


# --- Calls ---


def test_calls_and_their_results() -> None:
    items = [
        user("Hi"),
        said("assistant", "I look."),
        call("a", "f", '{"x": 1.10}'),
        call("b"),
        output("a"),
        output("b"),
    ]

    assert messages(*items, user("And?")) == [
        ("user", ["Hi"]),
        ("assistant", ["I look.", use("a", given={"x": 1.1}), use("b")]),
        ("user", [result("a"), result("b"), "And?"]),
    ]


def test_arguments_stay_as_they_were_said() -> None:
    form = form_of(asked(call("a", arguments='{"x":  1.10}'), output("a")), Options(), MAKER, stream=True)

    assert b'"input":{"x":  1.10}' in msgspec.json.encode(form)


@pytest.mark.parametrize(
    ("arguments", "given"),
    [("", {}), (" ", {}), ("{}", {}), ("[1]", {"input": "[1]"}), ("{", {"input": "{"}), ('"x"', {"input": '"x"'})],
)
def test_arguments_that_are_no_object(arguments: str, given: Json) -> None:
    assert messages(user("Hi"), call("a", arguments=arguments), output("a"))[1] == (
        "assistant",
        [use("a", given=given)],
    )


def test_a_custom_tools_call_is_that_of_a_function_with_a_string() -> None:
    items = [
        user("Hi"),
        {"type": "custom_tool_call", "call_id": "a", "name": "p", "input": 'x"\n'},
        {"type": "custom_tool_call_output", "call_id": "a", "output": "done"},
    ]

    assert messages(*items) == [
        ("user", ["Hi"]),
        ("assistant", [use("a", "p", {"input": 'x"\n'})]),
        ("user", [result("a", "done")]),
    ]


def test_results_come_next_and_all_at_once_whatever_was_said_meanwhile() -> None:
    items = [
        user("Hi"),
        call("a"),
        call("b"),
        user("Hurry!"),
        output("b", "2"),
        said("assistant", "I wait."),
        call("c"),
        output("c", "3"),
        said("developer", "Calm."),
        output("a"),
        user("So?"),
    ]

    assert messages(*items) == [
        ("user", ["Hi"]),
        ("assistant", ["I wait.", use("a"), use("b"), use("c")]),
        ("user", [result("b", "2"), result("c", "3"), result("a"), "Hurry!", "So?"]),
    ]


def test_ids_of_calls_are_plain_and_no_two_are_the_same() -> None:
    items = [call("fc:1|é"), output("fc:1|é"), call("call_1"), output("call_1"), call("call_1"), output("call_1", "2")]

    assert messages(user("Hi"), *items)[1:] == [
        ("assistant", [use("fc_1__")]),
        ("user", [result("fc_1__")]),
        ("assistant", [use("call_1")]),
        ("user", [result("call_1")]),
        ("assistant", [use("call_1_2")]),
        ("user", [result("call_1_2", "2")]),
    ]


def test_results_without_words_and_with_pictures() -> None:
    told = [{"type": "input_text", "text": "A"}, {"type": "input_image", "image_url": "data:image/png;base64,AA=="}]

    assert messages(user("Hi"), call("a"), call("b"), output("a", ""), output("b", told))[2] == (
        "user",
        [
            {"type": "tool_result", "tool_use_id": "a"},
            result("b", [{"type": "text", "text": "A"}, picture("image/png", "AA==")]),
        ],
    )


# --- Pictures and documents ---


def picture(kind: str, data: str) -> Json:
    return {"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}}


def document(**source: str) -> Json:
    return {"type": "document", "source": source}


def part(**members: Any) -> Json:
    return {"type": "message", "role": "user", "content": [members]}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("data:image/webp;base64,AA==", picture("image/webp", "AA==")),
        ("data:image/jpeg;charset=x;base64,AA==", picture("image/jpeg", "AA==")),
        ("data:;base64,AA==", picture("image/png", "AA==")),
        ("https://a/x.png", {"type": "image", "source": {"type": "url", "url": "https://a/x.png"}}),
    ],
)
def test_a_picture(url: str, expected: Json) -> None:
    assert messages(part(type="input_image", image_url=url, detail="low")) == [("user", [expected])]


PDF = {"type": "base64", "media_type": "application/pdf", "data": "AA=="}
TEXT = {"type": "text", "media_type": "text/plain", "data": "é"}


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"file_data": "data:application/pdf;base64,AA=="}, document(**PDF)),
        ({"file_data": "AA==", "filename": "A.PDF"}, {**document(**PDF), "title": "A.PDF"}),
        ({"file_data": "data:text/markdown;base64,w6k="}, document(**TEXT)),
        ({"file_data": "w6k=", "filename": "a.txt"}, {**document(**TEXT), "title": "a.txt"}),
    ],
)
def test_a_document(members: Json, expected: Json) -> None:
    assert messages(part(type="input_file", **members)) == [("user", [expected])]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"file_data": "data:application/zip;base64,AA=="}, "'file' is neither"),
        ({"file_data": "AA==", "filename": "a.docx"}, "'a.docx' is neither"),
        ({"file_data": "data:text/plain;base64,A"}, "no base64"),
    ],
)
def test_a_file_that_the_api_does_not_take(members: Json, message: str) -> None:
    with pytest.raises(UpstreamError, match=message) as caught:
        messages(part(type="input_file", **members))

    assert (caught.value.status, caught.value.retryable) == (400, False)


# --- Thoughts ---

THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}
HIDDEN = {"type": "redacted_thinking", "data": "x"}


def reasoning(encrypted: str | None) -> Json:
    return {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": encrypted}


def thinking_turns(*items: Json, effort: str | None = "high", **options: Any) -> tuple[Any, list[Any]]:
    """What the model is told of thinking, and the blocks of the assistant's turns."""
    request = asked(user("Hi"), *items, reasoning={"effort": effort})
    body = body_of(request, **options)
    return body.get("thinking"), [block for one in body["messages"] for block in one["content"]]


ADAPTIVE = {"type": "adaptive", "display": "summarized"}


def test_thoughts_go_back_as_they_were() -> None:
    items = [reasoning(wrapped(MAKER, THOUGHT)), reasoning(wrapped(MAKER, HIDDEN)), call("a"), output("a")]

    told, blocks = thinking_turns(*items)

    assert told == ADAPTIVE
    assert blocks[1:] == [THOUGHT, HIDDEN, use("a"), result("a")]


@pytest.mark.parametrize(
    "encrypted",
    [
        None,
        "",
        "gAAAA",
        "antph1AAAA",
        wrapped("messages/there", THOUGHT),
        wrapped(MAKER, [1]),
        wrapped(MAKER, {"type": "text", "text": "forged"}),
    ],
)
def test_thoughts_that_are_not_the_models_own(encrypted: str | None) -> None:
    _, blocks = thinking_turns(reasoning(encrypted), call("a"), output("a"))

    assert blocks[1:] == [use("a"), result("a")]


def test_a_model_that_is_not_to_think_gets_no_thoughts() -> None:
    told, blocks = thinking_turns(reasoning(wrapped(MAKER, THOUGHT)), said("assistant", "Yes"), user("?"), effort=None)

    assert told is None
    assert [block["text"] for block in blocks] == ["Hi", "Yes", "?"]


def test_a_model_with_a_budget_does_not_think_behind_calls_without_a_thought() -> None:
    told, blocks = thinking_turns(reasoning(wrapped(MAKER, THOUGHT)), call("a"), output("a"), thinking="budget")
    assert told == {"type": "enabled", "budget_tokens": 16_000}
    assert blocks[1] == THOUGHT

    earlier = [reasoning(wrapped(MAKER, THOUGHT)), said("assistant", "Yes"), user("?")]
    told, blocks = thinking_turns(*earlier, call("a"), output("a"), thinking="budget")
    assert told is None
    assert THOUGHT not in blocks


@pytest.mark.parametrize(
    ("effort", "limit", "options", "thinking", "known"),
    [
        ("none", 50_000, {}, None, None),
        ("minimal", 50_000, {}, ADAPTIVE, "low"),
        ("low", 50_000, {}, ADAPTIVE, "low"),
        ("high", 50_000, {}, ADAPTIVE, "high"),
        ("xhigh", 50_000, {}, ADAPTIVE, "high"),
        ("xhigh", 50_000, {"efforts": ["xhigh"]}, ADAPTIVE, "xhigh"),
        ("low", 50_000, {"efforts": ["xhigh"]}, ADAPTIVE, "xhigh"),
        ("low", 50_000, {"efforts": []}, ADAPTIVE, None),
        ("max", 50_000, {}, ADAPTIVE, "max"),
        ("high", 50_000, {"thinking": "off"}, None, None),
        ("medium", 50_000, {"thinking": "budget"}, {"type": "enabled", "budget_tokens": 8192}, None),
        ("max", 50_000, {"thinking": "budget"}, {"type": "enabled", "budget_tokens": 25_000}, None),
        ("minimal", 2048, {"thinking": "budget"}, {"type": "enabled", "budget_tokens": 1024}, None),
        ("minimal", 2047, {"thinking": "budget"}, None, None),
    ],
)
def test_effort(effort: str, limit: int, options: Json, thinking: Any, known: str | None) -> None:
    body = body_of(asked(user("Hi"), reasoning={"effort": effort}, max_output_tokens=limit), **options)

    assert body.get("thinking") == thinking
    assert body.get("output_config") == (None if known is None else {"effort": known})


def test_who_must_call_or_has_begun_does_not_think() -> None:
    parameters: Json = {"reasoning": {"effort": "high"}, "tools": [function("f")]}
    assert "thinking" not in body_of(asked(user("Hi"), **parameters, tool_choice="required"))
    assert "thinking" in body_of(asked(user("Hi"), **parameters, tool_choice="required", force_choice=False))

    request = asked(user("Hi"), **parameters)
    request.prefix = "So"
    assert "thinking" not in body_of(request)


# --- Parameters ---


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"max_output_tokens": 100}, {"max_tokens": 100}),
        ({"temperature": 0.5}, {"temperature": 0.5}),
        ({"temperature": 1.5}, {"temperature": 1.0}),
        ({"top_p": 1}, {}),
        ({"top_p": 0.5}, {"top_p": 0.5}),
        ({"user": "u"}, {"metadata": {"user_id": "u"}}),
        ({"user": "u", "safety_identifier": "s"}, {"metadata": {"user_id": "s"}}),
        ({"service_tier": "auto"}, {"service_tier": "auto"}),
        ({"service_tier": "default"}, {"service_tier": "standard_only"}),
        ({"service_tier": "flex", "top_logprobs": 2, "presence_penalty": 1, "store": True, "novelty": 1}, {}),
    ],
)
def test_parameters(given: Json, expected: Json) -> None:
    assert body_of(asked(user("Hi"), **given)) == {**body_of(asked(user("Hi"))), **expected}


@pytest.mark.parametrize(
    ("given", "left"), [({"temperature": 0.5, "top_p": 0.9}, {}), ({"top_p": 0.97}, {"top_p": 0.97})]
)
def test_thoughts_want_no_sampling(given: Json, left: Json) -> None:
    body = body_of(asked(user("Hi"), reasoning={"effort": "low"}, **given))

    assert {name: body[name] for name in ("temperature", "top_p") if name in body} == left


SCHEMA = {"type": "object", "properties": {"a": {"type": "number"}}}


def formatted(form: Json, **options: Any) -> tuple[Any, Any]:
    body = body_of(asked(user("Hi"), instructions="Be brief.", text={"format": form}), **options)
    return body.get("output_config"), body["system"][0]["text"]


def test_a_strict_schema_binds_the_model() -> None:
    form = {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}

    assert formatted(form) == ({"format": {"type": "json_schema", "schema": SCHEMA}}, "Be brief.")


@pytest.mark.parametrize(("strict", "options"), [(False, {}), (None, {}), (True, {"structured_outputs": False})])
def test_any_other_schema_is_told_in_words(strict: bool | None, options: Json) -> None:
    output, system = formatted({"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": strict}, **options)

    assert output is None
    assert system.startswith("Be brief.\n\nAnswer with JSON")
    assert json.dumps(SCHEMA) in system


def test_other_formats() -> None:
    assert formatted({"type": "text"}) == (None, "Be brief.")
    assert formatted({"type": "json_object"})[1].endswith("Answer with a single JSON object and nothing else.")


# --- Tools ---


def test_tools() -> None:
    tools = [
        function("f", description="F.", parameters=SCHEMA, strict=True),
        function("g", parameters=None),
        {"type": "custom", "name": "p", "format": {"type": "grammar", "syntax": "regex", "definition": "a+"}},
    ]

    shown = body_of(asked(user("Hi"), tools=tools))["tools"]

    assert shown[:2] == [
        {"name": "f", "input_schema": SCHEMA, "description": "F.", "strict": True},
        {"name": "g", "input_schema": {"type": "object", "properties": {}}},
    ]
    assert shown[2]["name"] == "p"
    assert shown[2]["input_schema"]["required"] == ["input"]
    assert "a+" in shown[2]["description"]
    assert "strict" not in body_of(asked(user("Hi"), tools=tools), structured_outputs=False)["tools"][0]


@pytest.mark.parametrize(
    ("choice", "parallel", "force", "expected"),
    [
        ("auto", None, True, None),
        ("auto", True, True, None),
        ("auto", False, True, {"type": "auto", "disable_parallel_tool_use": True}),
        ("none", False, True, {"type": "none"}),
        ("required", None, True, {"type": "any"}),
        ("required", None, False, None),
        ("required", False, True, {"type": "any", "disable_parallel_tool_use": True}),
        ({"type": "function", "name": "f"}, None, True, {"type": "tool", "name": "f"}),
        ({"type": "function", "name": "f"}, None, False, None),
    ],
)
def test_what_the_model_must_call(choice: Any, parallel: bool | None, force: bool, expected: Any) -> None:
    parameters = {"tools": [function("f"), function("g")], "tool_choice": choice, "parallel_tool_calls": parallel}

    body = body_of(asked(user("Hi"), force_choice=force, **parameters))

    assert body.get("tool_choice") == expected
    assert [tool["name"] for tool in body["tools"]] == ["f", "g"]


def test_of_allowed_tools_only_those_are_offered() -> None:
    choice = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "g"}]}

    body = body_of(asked(user("Hi"), tools=[function("f"), function("g")], tool_choice=choice))

    assert [tool["name"] for tool in body["tools"]] == ["g"]
    assert body["tool_choice"] == {"type": "any"}


# --- Cache, counting, headers ---


def test_what_later_turns_find_cached() -> None:
    items = [user("a"), said("assistant", "b"), user("c"), call("d"), output("d"), user("e")]

    body = body_of(asked(*items, instructions="Be brief.", tools=[function("f")]), cache=True)

    marked = [block["type"] for one in body["messages"] for block in one["content"] if "cache_control" in block]
    assert body["system"] == [{"type": "text", "text": "Be brief.", **CACHED}]
    assert "cache_control" not in body["tools"][0]
    assert marked == ["text", "text"]
    assert body["messages"][-1]["content"][-1] == {"type": "text", "text": "e", **CACHED}


def test_without_instructions_the_tools_are_marked() -> None:
    body = body_of(asked(user("a"), tools=[function("f"), function("g")]), cache=True)

    assert [tool.get("cache_control") for tool in body["tools"]] == [None, {"type": "ephemeral"}]


def test_what_the_operator_adds_wins() -> None:
    assert body_of(asked(user("Hi")), extra_body={"max_tokens": 1, "top_k": 5})["max_tokens"] == 1


def test_what_tokens_are_counted_of() -> None:
    request = asked(user("Hi"), instructions="I", tools=[function("f")], tool_choice="required", temperature=1)
    form = form_of(request, Options(), MAKER, stream=False)

    assert counted(form).keys() == {"model", "messages", "system", "tools", "tool_choice"}


def test_headers() -> None:
    assert headers_of(Options()) == {"anthropic-version": "2023-06-01"}
    assert headers_of(Options(version="v", beta=["a", "b"])) == {"anthropic-version": "v", "anthropic-beta": "a,b"}


def test_the_same_request_gives_the_same_bytes() -> None:
    forms = [form_of(asked(user("Hi"), call("a"), output("a")), Options(), MAKER, stream=True) for _ in range(2)]

    assert msgspec.json.encode(forms[0]) == msgspec.json.encode(forms[1])
