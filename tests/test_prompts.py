"""Prompt templates: what a request says with one, which file is meant, and what is refused."""

from __future__ import annotations

import json
import logging
import os
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from antiphon import prompts
from antiphon.prompts import Prompts, TemplateError, read_template
from antiphon.protocol.decoding import members_of
from antiphon.protocol.errors import ApiError
from antiphon.protocol.requests import read_create

Json = dict[str, Any]

IMAGE = {"type": "input_image", "image_url": "https://example.com/a.png", "detail": "low"}
FILE = {"type": "input_file", "file_id": "file_1"}
TEXT = {"type": "input_text", "text": "Rome"}
HELLO = {"role": "user", "content": "Hello"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def put(folder: Path, name: str, template: Any) -> Path:
    """Writes a template as people do, over several lines."""
    file = folder / f"{name}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(template if isinstance(template, str) else json.dumps(template, indent=2), "utf-8")
    return file


def laid(at: Prompts | Path, prompt: Any, project: str = "default", **members: Any) -> Json:
    """What becomes of a request."""
    served = at if isinstance(at, Prompts) else Prompts(at)
    _, given = members_of(json.dumps({"prompt": prompt, **members}).encode())
    encoded = msgspec.json.encode(served.overlay(given, project))
    assert b"\n" not in encoded
    told: Json = json.loads(encoded)
    return told


def refusal(at: Prompts | Path, prompt: Any, **members: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        laid(at, prompt, **members)
    return caught.value


# --- What a request says with one ---


def test_a_template_brings_what_the_request_leaves_out(folder: Path) -> None:
    put(folder, "guide", {"instructions": "Be a guide to {{city}}.", "model": "demo", "temperature": 0.2})
    made = laid(folder, {"id": "guide", "variables": {"city": "Rome"}}, input="What is there?")

    assert made == {
        "prompt": {"id": "guide", "version": "1", "variables": {"city": "Rome"}},
        "instructions": "Be a guide to Rome.",
        "model": "demo",
        "temperature": 0.2,
        "input": "What is there?",
    }


def test_what_the_request_says_goes_before_what_the_template_says(folder: Path) -> None:
    template = {"instructions": "A", "model": "demo", "tools": [{"type": "function", "name": "a"}], "top_p": 0.1}
    put(folder, "t", {**template, "reasoning": {"effort": "low"}})
    own = {"instructions": "B", "model": "other", "tools": [], "reasoning": {"summary": "auto"}, "input": "x"}

    assert laid(folder, {"id": "t"}, **own, top_p=None) == {
        **own,
        "top_p": 0.1,
        "prompt": {"id": "t", "version": "1", "variables": None},
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, []),
        ({"input": None}, []),
        ({"input": "And you?"}, [{"role": "user", "content": "And you?"}]),
        ({"input": [HELLO, {"type": "x", "id": "y"}]}, [HELLO, {"type": "x", "id": "y"}]),
        ({"input": []}, []),
    ],
)
def test_the_templates_items_stand_before_the_requests(folder: Path, given: Json, expected: list[Json]) -> None:
    first = [{"role": "developer", "content": "You know {{a}}."}, {"role": "assistant", "content": "{{a}}!"}]
    put(folder, "t", {"input": first})

    assert laid(folder, {"id": "t", "variables": {"a": "it"}}, **given)["input"] == [
        {"role": "developer", "content": "You know it."},
        {"role": "assistant", "content": "it!"},
        *expected,
    ]


def test_an_input_that_is_none_is_left_to_be_refused(folder: Path) -> None:
    put(folder, "t", {"input": "Hello"})

    assert laid(folder, {"id": "t"}, input=5)["input"] == 5


def test_a_text_as_input_is_the_users(folder: Path) -> None:
    put(folder, "t", {"input": "Describe {{ city }}."})

    made = laid(folder, {"id": "t", "variables": {"city": "Rome"}})["input"]
    assert made == [{"role": "user", "content": "Describe Rome."}]


def test_images_and_files_become_parts_between_the_texts(folder: Path) -> None:
    listed = [{"type": "input_text", "text": "{{photo}}"}, {"type": "input_image", "image_url": "https://{{host}}/b"}]
    put(
        folder,
        "t",
        {"input": [{"role": "user", "content": "See {{photo}} and\n{{ doc }}"}, {**HELLO, "content": listed}]},
    )
    made = laid(folder, {"id": "t", "variables": {"photo": IMAGE, "doc": FILE, "host": "example.com"}})["input"]

    assert made == [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "See "},
                IMAGE,
                {"type": "input_text", "text": " and\n"},
                FILE,
            ],
        },
        {"role": "user", "content": [IMAGE, {"type": "input_image", "image_url": "https://example.com/b"}]},
    ]


def test_a_text_part_is_a_part_in_content_and_a_text_elsewhere(folder: Path) -> None:
    put(folder, "t", {"instructions": "In {{city}}.", "input": [{"role": "user", "content": "Of {{city}}"}]})
    made = laid(folder, {"id": "t", "variables": {"city": TEXT}})

    assert made["instructions"] == "In Rome."
    assert made["input"] == [{"role": "user", "content": [{"type": "input_text", "text": "Of "}, TEXT]}]


def test_what_a_variable_brings_is_not_looked_at_again(folder: Path) -> None:
    put(folder, "t", {"instructions": "{{a}} {{b}} {{ a }}"})
    made = laid(folder, {"id": "t", "variables": {"a": '{{b}} \\1 "\n', "b": "{{a}}"}}, input="x")

    assert made["instructions"] == '{{b}} \\1 "\n {{a}} {{b}} \\1 "\n'


@pytest.mark.parametrize("literal", ["{x}", "{{x", "x}}", "{{}}", "{{ 1x }}", "{{a b}}", "{{\nx}}", "{%x%}"])
def test_other_braces_are_text(folder: Path, literal: str) -> None:
    put(folder, "t", {"instructions": literal})

    assert laid(folder, {"id": "t"}, input="x")["instructions"] == literal


def test_an_empty_variable_leaves_a_message(folder: Path) -> None:
    put(folder, "t", {"input": [{"role": "user", "content": [{"type": "input_text", "text": "{{a}}"}]}]})

    made = laid(folder, {"id": "t", "variables": {"a": ""}})["input"]
    assert made == [{"role": "user", "content": [{"type": "input_text", "text": ""}]}]


def test_items_that_are_no_messages_stay_as_they_are(folder: Path) -> None:
    items = [
        {"type": "function_call", "call_id": "c", "name": "look", "arguments": '{"a": "{{b}}"}'},
        {"type": "function_call_output", "call_id": "c", "output": "{{b}}"},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "{{b}}", "annotations": []}],
        },
    ]
    put(folder, "t", {"input": items})
    made = laid(folder, {"id": "t", "variables": {"b": "it"}})["input"]

    assert made[:2] == items[:2]
    assert made[2]["content"] == [{"type": "output_text", "text": "it", "annotations": []}]


def test_defaults_stand_in_for_variables(folder: Path) -> None:
    template = {"instructions": "{{tone}} {{name}}", "input": "{{photo}}"}
    put(folder, "t", {**template, "variables": {"tone": "kind", "photo": IMAGE, "name": None}})

    made = laid(folder, {"id": "t", "variables": {"name": "Ada"}})
    assert made["instructions"] == "kind Ada"
    assert made["input"] == [{"role": "user", "content": [IMAGE]}]
    assert made["prompt"]["variables"] == {"name": "Ada"}
    assert laid(folder, {"id": "t", "variables": {"name": "Ada", "tone": "dry"}})["instructions"] == "dry Ada"


def test_what_is_made_of_it_is_a_request(folder: Path) -> None:
    put(folder, "t", {"model": "demo", "instructions": "x", "input": "{{a}}", "text": {"format": {"type": "text"}}})
    made = laid(folder, {"id": "t", "variables": {"a": IMAGE}}, stream=True)
    del made["prompt"]

    request = read_create(msgspec.json.encode(made))
    assert (request.model, request.instructions, request.stream) == ("demo", "x", True)


@pytest.mark.parametrize("members", [{}, {"prompt": None}])
def test_a_request_without_one_is_left_alone(folder: Path, members: Json) -> None:
    _, given = members_of(json.dumps({"input": "x", **members}).encode())

    assert Prompts(folder).overlay(given, "default") is given


# --- Which file is meant ---


def versions(folder: Path, *names: str) -> None:
    for name in names:
        put(folder, name, {"instructions": name})


def picked(at: Prompts | Path, version: str | None = None, project: str = "default") -> tuple[str, str]:
    made = laid(at, {"id": "t"} if version is None else {"id": "t", "version": version}, project, input="x")
    return made["instructions"], made["prompt"]["version"]


def test_without_a_version_the_highest_is_meant(folder: Path) -> None:
    versions(folder, "t/1", "t/9", "t/10", "t/draft", "t/.hidden")

    assert picked(folder) == ("t/10", "10")
    assert picked(folder, "9") == ("t/9", "9")
    assert picked(folder, "draft") == ("t/draft", "draft")


def test_a_file_of_its_own_is_the_current_version(folder: Path) -> None:
    versions(folder, "t/1", "t/7")
    put(folder, "t", {"instructions": "own", "version": "3"})

    assert [picked(folder, version) for version in (None, "3", "7")] == [("own", "3"), ("own", "3"), ("t/7", "7")]


@pytest.mark.parametrize("version", ["2", "", "../t", "1.json", "0", "x" * 200])
def test_an_unknown_version_is_told(folder: Path, version: str) -> None:
    versions(folder, "t/1")
    error = refusal(folder, {"id": "t", "version": version}, input="x")

    assert (error.status, error.param, error.code) == (400, "prompt.version", "invalid_value")
    assert error.message == f"Version '{version[:100]}{'...' * (len(version) > 100)}' of prompt 't' not found."


HOSTILE = [
    "../secret",
    "..",
    ".",
    "",
    "/etc/passwd",
    "a/b",
    "a\\b",
    "t\0",
    ".hidden",
    "%2e%2e/secret",
    "x" * 300,
    "t\n",
]


@pytest.mark.parametrize("name", ["pmpt_unknown", "empty", *HOSTILE])
@pytest.mark.parametrize("version", [None, "1", "../../secret", ".."])
def test_an_unknown_id_is_a_404_in_the_official_words(folder: Path, name: str, version: str | None) -> None:
    """Whatever an id or a version says, nothing outside of the folder is looked at."""
    inside = folder / "prompts"
    (inside / "empty").mkdir(parents=True)
    versions(folder, "secret", "hidden")
    versions(inside, "t", ".hidden")
    error = refusal(inside, {"id": name, "version": version}, input="x")
    shown = name if len(name) <= 100 else name[:100] + "..."

    assert (error.status, error.type, error.param, error.code) == (404, "invalid_request_error", None, None)
    assert error.message == f"Prompt with id '{shown}' not found."


def test_a_server_without_a_folder_knows_none() -> None:
    assert refusal(Prompts(None), {"id": "t"}).status == 404
    assert Prompts(None).check() == 0


def test_a_template_may_be_for_some_projects_alone(folder: Path) -> None:
    put(folder, "t", {"instructions": "own", "projects": ["support"]})
    put(folder, "t/0", {"instructions": "shared"})
    put(folder, "t/2", {"instructions": "2", "projects": []})

    assert picked(folder, project="support") == ("own", "1")
    assert picked(folder, "0") == ("shared", "0")
    assert {refusal(folder, {"id": "t", "version": version}).status for version in (None, "1", "2", "3")} == {404}


# --- What is refused ---


def test_variables_that_are_missing_or_too_many_are_named(folder: Path) -> None:
    put(folder, "t", {"instructions": "{{a}} {{b}}", "input": "{{c}}"})
    told = []
    for variables in ({"b": "x"}, {"a": "x", "b": "x", "c": "x", "d": "x", "e": "x"}, None):
        error = refusal(folder, {"id": "t", "variables": variables})
        told.append((error.status, error.code, error.param, error.message))

    assert told == [
        (400, "missing_required_parameter", "prompt.variables.a", "Missing prompt variables: a, c."),
        (400, "unknown_parameter", "prompt.variables.d", "Unknown prompt variables: d, e."),
        (400, "missing_required_parameter", "prompt.variables.a", "Missing prompt variables: a, b, c."),
    ]


@pytest.mark.parametrize(
    ("prompt", "code", "param"),
    [
        ("t", "invalid_type", "prompt"),
        ({}, "missing_required_parameter", "prompt.id"),
        ({"id": 5}, "invalid_type", "prompt.id"),
        ({"id": "t", "version": 2}, "invalid_type", "prompt.version"),
        ({"id": "t", "variables": ["a"]}, "invalid_type", "prompt.variables"),
        ({"id": "t", "variables": {"a": 30}}, "invalid_type", "prompt.variables.a"),
        ({"id": "t", "variables": {"a": None}}, "invalid_type", "prompt.variables.a"),
        ({"id": "t", "variables": {"a": ["x"]}}, "invalid_type", "prompt.variables.a"),
        ({"id": "t", "variables": {"a": {}}}, "missing_required_parameter", "prompt.variables.a.type"),
        ({"id": "t", "variables": {"a": {"type": "x"}}}, "invalid_value", "prompt.variables.a.type"),
        (
            {"id": "t", "variables": {"a": {"type": "output_text", "text": ""}}},
            "invalid_value",
            "prompt.variables.a.type",
        ),
        (
            {"id": "t", "variables": {"a": {"type": "input_text"}}},
            "missing_required_parameter",
            "prompt.variables.a.text",
        ),
        (
            {"id": "t", "variables": {"a": {"type": "input_image"}}},
            "missing_required_parameter",
            "prompt.variables.a.image_url",
        ),
        (
            {"id": "t", "variables": {"a": {"type": "input_image", "image_url": {"url": "x"}}}},
            "invalid_type",
            "prompt.variables.a.image_url",
        ),
        (
            {"id": "t", "variables": {"a": {"type": "input_file"}}},
            "missing_required_parameter",
            "prompt.variables.a.file_id",
        ),
        ({"id": "t", "variables": {"a": IMAGE}}, "invalid_value", "prompt.variables.a"),
    ],
)
def test_odd_prompts_are_refused(folder: Path, prompt: Any, code: str, param: str) -> None:
    put(folder, "t", {"instructions": "{{a}}"})
    error = refusal(folder, prompt, input="x")

    assert (error.status, error.code, error.param) == (400, code, param)


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": "{{a}}"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "{{a}}"}]},
        {"role": "user", "content": [{"type": "input_image", "image_url": "{{a}}"}]},
    ],
)
def test_an_image_cannot_stand_within_text(folder: Path, message: Json) -> None:
    put(folder, "t", {"input": [message]})
    error = refusal(folder, {"id": "t", "variables": {"a": IMAGE}})

    assert error.param == "prompt.variables.a"
    assert error.message == "Invalid value: the variable 'a' stands within text and cannot be input_image."


def test_a_variable_that_stands_in_many_places_does_not_fill_memory(folder: Path) -> None:
    put(folder, "t", {"instructions": "{{a}}" * 1000})
    served = Prompts(folder, rendered_max_bytes=100_000)

    assert len(laid(served, {"id": "t", "variables": {"a": "x" * 98}}, input="x")["instructions"]) == 98_000
    error = refusal(served, {"id": "t", "variables": {"a": "x" * 99}}, input="x")
    assert (error.status, error.code, error.param) == (400, "string_above_max_length", "prompt.variables")


# --- Files that change, and files that are wrong ---


def touch(file: Path, text: str) -> None:
    """Changes a file in place; a clock that stood still must not hide it."""
    before = file.stat().st_mtime_ns
    file.write_text(text, "utf-8")
    os.utime(file, ns=(before + 1_000_000, before + 1_000_000))


def test_a_changed_file_is_seen_and_an_unchanged_one_is_not_read_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = put(folder, "t", {"instructions": "before"})
    served = Prompts(folder)
    reads: list[Path] = []
    read = prompts._read
    monkeypatch.setattr(prompts, "_read", lambda file, version: [reads.append(file), read(file, version)][1])
    told = [picked(served)[0], picked(served)[0]]
    touch(file, '{"instructions":"after!"}')
    told += [picked(served)[0], picked(served)[0]]
    file.unlink()

    assert told == ["before", "before", "after!", "after!"]
    assert reads == [file, file]
    assert refusal(served, {"id": "t"}).status == 404
    put(folder, "t/5", {"instructions": "new"})
    assert picked(served) == ("new", "5")


def test_a_file_that_was_broken_leaves_the_one_before_in_force(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = put(folder, "t", {"instructions": "good"})
    served = Prompts(folder)
    told = [picked(served)]
    with caplog.at_level(logging.ERROR, "antiphon.prompts"):
        touch(file, '{"instructions": ')
        told += [picked(served), picked(served)]

    assert told == [("good", "1")] * 3
    assert len(caplog.records) == 1
    assert "stays in force" in caplog.text
    touch(file, '{"instructions":"better"}')
    assert picked(served) == ("better", "1")


def test_a_file_that_never_was_a_template_is_the_servers_fault(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(folder, "t", "{")
    put(folder, "t/2", {"instructions": "well"})
    served = Prompts(folder)
    error = refusal(served, {"id": "t"})

    assert (error.status, error.code, error.headers) == (500, "server_error", (("x-should-retry", "false"),))
    assert str(folder) not in error.message
    assert refusal(served, {"id": "t"}).status == 500
    assert len(caplog.records) == 1
    assert picked(served, "2") == ("well", "2")


def test_not_all_templates_are_held(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompts, "TEMPLATES_MAX", 3)
    versions(folder, *(f"t{number}" for number in range(10)))
    served = Prompts(folder)
    for number in (0, 1, 2, 0, 3, 4, 0):
        laid(served, {"id": f"t{number}"}, input="x")

    assert [file.stem for file in served._kept] == ["t3", "t4", "t0"]


WRONG: list[tuple[Any, str]] = [
    ("", "could not parse the JSON"),
    ("[]", "expected a JSON object"),
    ("\ufeff{}", "could not parse the JSON"),
    ({"instructions": ["x"]}, "'instructions': expected a string"),
    ({"input": 5}, "Invalid type for 'input'"),
    ({"input": ["x"]}, r"'input\[0\]': expected an object"),
    ({"variables": {"a": "x"}}, "variable 'a' stands nowhere"),
    ({"instructions": "{{a}}", "variables": {"a": 5}}, "'variables.a': expected a string or an input part"),
    ({"instructions": "{{a}}", "variables": {"a": {"type": "x"}}}, "'x'. Supported values are"),
    ({"temperature": 5}, "Invalid 'temperature'"),
    ({"max_tokens": 5}, "Unsupported parameter: 'max_tokens'"),
    ({"tools": [{"type": "function"}]}, r"Missing required parameter: 'tools\[0\].name'"),
    ({"stream": True}, "'stream' belongs to a request"),
    ({"previous_response_id": "x"}, "belongs to a request"),
    ({"version": "../2"}, "none that a file could be named after"),
]


@pytest.mark.parametrize(("template", "message"), WRONG)
def test_what_is_no_template_is_told_at_the_start(folder: Path, template: Any, message: str) -> None:
    file = put(folder, "t", template)

    with pytest.raises(TemplateError, match=message) as caught:
        Prompts(folder).check()
    assert str(caught.value).startswith(f"{file}: ")


def test_the_name_of_a_version_is_its_version(folder: Path) -> None:
    file = put(folder, "t/2", {"version": "2"})
    assert Prompts(folder).check() == 1
    file.rename(folder / "t/3.json")

    with pytest.raises(TemplateError, match="version is '2', but its name says '3'"):
        Prompts(folder).check()


def test_every_file_is_looked_at_but_for_hidden_ones(folder: Path) -> None:
    versions(folder, "a", "b/1", "b/2", ".c", ".git/config")
    put(folder, ".git/broken", "{")
    (folder / "README.md").write_text("...")

    assert Prompts(folder).check() == 3
    versions(folder, "odd name")
    with pytest.raises(TemplateError, match="'odd name' is no name"):
        Prompts(folder).check()


def test_a_folder_that_is_not_there_is_told(folder: Path) -> None:
    with pytest.raises(TemplateError, match="is not a folder"):
        Prompts(folder / "nowhere").check()


def test_only_files_of_a_sane_size_are_read(folder: Path) -> None:
    put(folder, "t", {"instructions": "x" * prompts.FILE_MAX_BYTES})
    with pytest.raises(TemplateError, match=re.escape(f"at most {prompts.FILE_MAX_BYTES} bytes")):
        Prompts(folder).check()
    (folder / "t.json").unlink()
    os.mkfifo(folder / "t.json")
    with pytest.raises(TemplateError, match="It is no file"):
        Prompts(folder).check()
    (folder / "t.json").unlink()
    (folder / "t.json").mkdir()
    assert refusal(Prompts(folder), {"id": "t"}).status == 500


def test_the_example_in_the_documentation_is_a_template() -> None:
    assert prompts.__doc__ is not None
    example = prompts.__doc__.partition("    {")[2].partition("...}")[0]
    lines = [re.sub(r'(?<=[,"}\]]) {4,}.*$|(?<=,) {2,}\D.*$', "", line) for line in ("{" + example).splitlines()]
    text = "\n".join(lines).replace("[...]", "[]").rstrip().rstrip(",") + "}"
    template = read_template(text.encode())

    assert set(template.uses) == {"company", "tone", "photo"}
    assert template.version == "2"
    assert set(template.members) == {"model", "temperature", "tools"}
