"""The tables "What is supported" in the README say what is so."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from antiphon.assemble import Server
from antiphon.config import Config
from antiphon.protocol import requests
from antiphon.protocol.errors import ApiError
from antiphon.protocol.requests import CreateResponse, read_create

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
SECTION = README.partition("## What is supported")[2].partition("\n## ")[0]
ROWS = re.findall(r"^\| (`.+?) \| (.+?) \|$", SECTION, re.MULTILINE)

EXAMPLES: dict[str, Any] = {
    "input": [{"role": "user", "content": "Hello"}],
    "model": "some-model",
    "instructions": "Be brief.",
    "previous_response_id": "resp_x",
    "store": False,
    "background": True,
    "stream": True,
    "stream_options": {"include_obfuscation": True},
    "include": ["message.output_text.logprobs", "reasoning.encrypted_content"],
    "max_output_tokens": 16,
    "max_tool_calls": 1,
    "metadata": {"key": "value"},
    "parallel_tool_calls": False,
    "temperature": 0.5,
    "top_p": 0.5,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.5,
    "top_logprobs": 3,
    "reasoning": {"effort": "low", "summary": "auto", "context": "all_turns"},
    "service_tier": "flex",
    "text": {"format": {"type": "json_object"}, "verbosity": "low"},
    "tools": [{"type": "function", "name": "look"}],
    "tool_choice": "none",
    "truncation": "auto",
    "context_management": [{"type": "compaction", "compact_threshold": 1000}],
    "user": "someone",
    "safety_identifier": "someone",
    "prompt_cache_key": "key",
    "prompt": {"id": "pmpt_1"},
    "prompt_cache_retention": "24h",
    "conversation": "conv_x",
}


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def endpoint_rows() -> dict[str, str]:
    return {names(cell)[0]: told for cell, told in ROWS if re.match(r"`(GET|POST|DELETE) ", cell)}


def parameter_rows() -> dict[str, str]:
    return {name: told for cell, told in ROWS if not re.match(r"`(GET|POST|DELETE) ", cell) for name in names(cell)}


async def test_the_table_of_endpoints_is_the_table_of_routes() -> None:
    server = Server(Config(database=":memory:", demo_model=False))
    try:
        routes = {f"{route.method} {route.path.replace(':path', '')}" for route in server.app.routes}
    finally:
        await server.stop()

    assert set(endpoint_rows()) == routes


def test_every_parameter_stands_in_the_table() -> None:
    known = {field.name for field in msgspec.structs.fields(CreateResponse)}
    derived = requests._DERIVED

    assert set(parameter_rows()) == known - derived == set(EXAMPLES)


@pytest.mark.parametrize(("name", "told"), parameter_rows().items())
def test_a_parameter_does_what_the_table_says(name: str, told: str) -> None:
    body = {"model": "some-model", "input": "Hello", "stream": name == "stream_options"} | {name: EXAMPLES[name]}

    if told.startswith("not yet"):
        with pytest.raises(ApiError) as refused:
            read_create(msgspec.json.encode(body))
        assert (refused.value.status, refused.value.param) == (400, name)
    else:
        request = read_create(msgspec.json.encode(body))
        assert name not in request.unknown
        warned = any(path.partition(".")[0].partition("[")[0] == name for path in request.without_effect())
        assert warned == ("warnings" in told)
