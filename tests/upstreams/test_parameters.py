"""Every parameter of a request in every dialect: sent, this server's own, warned of or refused; none is dropped."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from tests.upstreams.asking import asked, user

from antiphon.clock import SystemClock
from antiphon.engine.ports.upstreams import ModelRequest, Upstream
from antiphon.protocol.errors import ApiError
from antiphon.protocol.requests import UNSERVED, CreateResponse, read_create
from antiphon.upstreams import chat_completions, messages, responses
from antiphon.upstreams.chat_completions import ChatCompletions
from antiphon.upstreams.embedded.upstream import Embedded
from antiphon.upstreams.embedded.wording import OPTIONS, worded
from antiphon.upstreams.messages import Messages
from antiphon.upstreams.responses import Responses

Json = dict[str, Any]
Body = Callable[[ModelRequest], Json]
URL, CLOCK = "http://127.0.0.1:1/v1", SystemClock()
OPENAI = chat_completions.Options(openai_parameters=True)
SILENT = messages.Options(thinking="off")


class Dialect(NamedTuple):
    """An upstream, and the body that it sends."""

    upstream: Upstream
    body: Body


def chat(options: chat_completions.Options) -> Body:
    return lambda request: chat_completions.request.form_of(request, options, stream=False)


def embedded(request: ModelRequest) -> Json:
    said = worded(request)
    options = OPTIONS.get(said.model, OPTIONS["*"])
    return {**chat_completions.request.form_of(said, options, stream=True), "model": "m"}


def anthropic(options: messages.Options) -> Body:
    return lambda request: messages.request.form_of(request, options, "m", stream=True)


DIALECTS = {
    "chat": Dialect(ChatCompletions(URL, CLOCK), chat(chat_completions.Options())),
    "openai": Dialect(ChatCompletions(URL, CLOCK, options={"*": OPENAI}), chat(OPENAI)),
    "responses": Dialect(
        Responses(URL, CLOCK),
        lambda request: responses.request.form_of(request, responses.Options(), "m", stream=False),
    ),
    "messages": Dialect(Messages(URL, CLOCK), anthropic(messages.Options())),
    "silent": Dialect(Messages(URL, CLOCK, options={"*": SILENT}), anthropic(SILENT)),
    "embedded": Dialect(Embedded({"m": Path("m.gguf")}, CLOCK), embedded),
}
FUNCTION: Json = {"type": "function", "name": "f", "parameters": {"type": "object"}}
SCHEMA: Json = {"type": "json_schema", "name": "n", "schema": {"type": "object"}}
LOGPROBS = ["message.output_text.logprobs"]
LOW: Json = {"effort": "low"}

# What becomes of it: S is sent, O is this server's own or means nothing elsewhere, W is named in the warnings, R is
# refused.  One letter for each of chat, openai, responses, messages, silent, embedded.
TABLE: list[tuple[Json, str]] = [
    ({"model": "m"}, "OOOOOO"),
    ({"input": "Hello"}, "OOOOOO"),
    ({"instructions": "Be brief."}, "SSSSSS"),
    ({"previous_response_id": "resp_1"}, "OOOOOO"),
    ({"conversation": "conv_1"}, "OOOOOO"),
    ({"store": False}, "OOOOOO"),
    ({"background": True}, "OOOOOO"),
    ({"stream": True}, "OOOOOO"),
    ({"stream": True, "stream_options": {"include_obfuscation": True}}, "OOOOOO"),
    ({"include": LOGPROBS}, "SSSWWS"),
    ({"include": ["reasoning.encrypted_content"]}, "OOOOOO"),
    ({"include": LOGPROBS, "top_logprobs": 3}, "SSSWWS"),
    ({"top_logprobs": 3}, "WWWWWW"),
    ({"max_output_tokens": 100}, "SSSSSS"),
    ({"max_tool_calls": 3}, "OOSOOO"),
    ({"metadata": {"a": "b"}}, "OOOOOO"),
    ({"tools": [FUNCTION], "parallel_tool_calls": False}, "SSSSSS"),
    ({"temperature": 0.5}, "SSSSSS"),
    ({"temperature": 1.5}, "SSSWWS"),
    ({"reasoning": LOW, "temperature": 0.5}, "SSSWSS"),
    ({"top_p": 0.5}, "SSSSSS"),
    ({"reasoning": LOW, "top_p": 0.5}, "SSSWSS"),
    ({"presence_penalty": 0.5}, "SSSWWS"),
    ({"frequency_penalty": 0.5}, "SSSWWS"),
    ({"presence_penalty": 0, "frequency_penalty": 0}, "SSSOOS"),
    ({"reasoning": LOW}, "SSSSWS"),
    ({"reasoning": {"effort": "none"}}, "SSSOOS"),
    ({"reasoning": {"summary": "auto"}}, "OOSOOO"),
    ({"reasoning": {"context": "all_turns"}}, "WWSWWW"),
    ({"text": {"format": SCHEMA}}, "SSSSSS"),
    ({"text": {"format": {"type": "json_object"}}}, "SSSSSS"),
    ({"text": {"verbosity": "low"}}, "WSSWWW"),
    ({"tools": [FUNCTION]}, "SSSSSS"),
    ({"tools": [FUNCTION], "tool_choice": "required"}, "SSSSSS"),
    ({"truncation": "auto"}, "OOSOOO"),
    ({"service_tier": "auto"}, "OSSSSO"),
    ({"service_tier": "default"}, "OSSSSO"),
    *(({"service_tier": tier}, "OSSOOO") for tier in ("flex", "scale", "priority", "fast", "ultrafast")),
    ({"user": "u"}, "SSSSSS"),
    ({"safety_identifier": "u"}, "OSSSSO"),
    ({"user": "u", "safety_identifier": "s"}, "OSSSSO"),
    ({"safety_identifier": "s", "user": "u"}, "SSSOOS"),
    ({"prompt_cache_key": "k"}, "OSSOOO"),
    ({"prompt_cache_retention": "24h"}, "WWSWWW"),
    ({"context_management": [{"type": "compaction", "compact_threshold": 1000}]}, "OOOOOO"),
    ({"prompt": {"id": "pmpt_1"}}, "OOOOOO"),
    ({"novelty": 1}, "WWSWWW"),
    ({"moderation": {"model": "m"}}, "RRRRRR"),
]
#: Those that the engine handles, some only where the request is planned.
DERIVED = {"unknown", "declared", "choice", "raw_reasoning", "raw_text", "generate", "compacts_now"}


def became(parameters: Json, dialect: Dialect) -> str:
    """What becomes of the last of the parameters, beside a request that does not have it."""
    name = next(reversed(parameters))
    raw = json.dumps({"model": "m", "input": "-", **parameters}).encode()
    if name in UNSERVED:
        with pytest.raises(ApiError) as refused:
            read_create(raw)
        assert refused.value.param == name
        return "R"
    request, takes = read_create(raw), dialect.upstream.capabilities("m")
    warned = dialect.upstream.unheeded(request, "m") + request.without_effect(
        verbosity=takes.verbosity, reasoning=takes.reasoning, cache_retention=takes.cache_retention
    )
    if any(path.partition(".")[0].partition("[")[0] == name for path in warned):
        return "W"
    rest = {other: value for other, value in parameters.items() if other != name}
    whole, without = (sent(dialect.body(asked(user("Hi"), **given))) for given in (parameters, rest))
    if whole != without:
        return "S"
    return "W" if name in request.unknown else "O"


def sent(body: Json) -> Json:
    decoded: Json = json.loads(msgspec.json.encode(body))
    return {name: value for name, value in decoded.items() if name not in ("stream", "stream_options")}


@pytest.mark.parametrize(("parameters", "fates"), TABLE, ids=[json.dumps(parameters) for parameters, _ in TABLE])
def test_what_becomes_of_a_parameter(parameters: Json, fates: str) -> None:
    told = {name: became(parameters, dialect) for name, dialect in DIALECTS.items()}

    assert "".join(told.values()) == fates


def test_every_parameter_is_in_the_table() -> None:
    fields = {field.name for field in msgspec.structs.fields(CreateResponse)} - DERIVED

    assert fields <= {name for parameters, _ in TABLE for name in parameters}
