"""Bodies and query parameters that clients send.

``read_create`` turns bytes into a checked ``CreateResponse`` or raises the official 400.
Must not know what is stored or which models exist.  Shapes: responses-api reference, section 5.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import msgspec

from antiphon.protocol.decoding import decode, members_of, shorter, within
from antiphon.protocol.errors import bad_choice, empty_array, invalid, missing, quoted
from antiphon.protocol.responses import Shell
from antiphon.protocol.tools import Tool, ToolChoice, check_name, read_choice, read_tools

LOGPROBS = "message.output_text.logprobs"
INCLUDABLE = (
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    LOGPROBS,
)
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
SUMMARIES = ("auto", "concise", "detailed")
VERBOSITIES = ("low", "medium", "high")
TRUNCATIONS = ("auto", "disabled")
SERVICE_TIERS = ("auto", "default", "flex", "scale", "priority", "fast", "ultrafast")
RETENTIONS = ("in_memory", "24h", "in-memory")
INPUT_CHARS_MAX = 10_485_760
OUTPUT_TOKENS_MIN = 16
COMPACT_THRESHOLD_MIN = 1000
#: The type of the item that asks for a compaction.
TRIGGER = "compaction_trigger"
_WHOLE = re.compile(r"-?[0-9]{1,30}")

#: Parameters of sibling APIs, and what this API calls the same thing (design decision 4).
SIBLINGS = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "functions": "tools",
    "function_call": "tool_choice",
    "n": None,
    "stop": None,
    "seed": None,
}


#: Documented parameters that would change what the model says, and that this server does not have: leaving them out
#: would answer another question than the one that was asked.
UNSERVED = {
    "moderation": "This server does not moderate.",
}


class Reasoning(msgspec.Struct):
    effort: str | None = None
    summary: str | None = None
    generate_summary: str | None = None


class Format(msgspec.Struct):
    type: str
    name: str | None = None
    description: str | None = None
    schema: msgspec.Raw = msgspec.Raw()
    strict: bool | None = None


class Text(msgspec.Struct):
    format: Format | None = None
    verbosity: str | None = None


class StreamOptions(msgspec.Struct):
    include_obfuscation: bool | None = None


class ContextManagement(msgspec.Struct, omit_defaults=True):
    """When the context is compacted; the threshold is in tokens."""

    type: str
    compact_threshold: int | None = None


class CreateResponse(msgspec.Struct, kw_only=True):
    """The body of ``POST /v1/responses``; null means unset.  The last group is derived by ``read_create``."""

    model: str | None = None
    input: msgspec.Raw = msgspec.Raw()
    instructions: str | None = None
    previous_response_id: str | None = None
    conversation: msgspec.Raw = msgspec.Raw()
    store: bool | None = None
    background: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    include: list[str] | None = None
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    metadata: dict[str, str] | None = None
    parallel_tool_calls: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    top_logprobs: int | None = None
    reasoning: Reasoning | None = None
    text: Text | None = None
    tools: list[msgspec.Raw] | None = None
    tool_choice: msgspec.Raw = msgspec.Raw()
    truncation: str | None = None
    context_management: list[ContextManagement] | None = None
    service_tier: str | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt: msgspec.Raw = msgspec.Raw()

    unknown: dict[str, msgspec.Raw] = {}
    declared: list[Tool] = []
    choice: ToolChoice = ToolChoice()
    raw_reasoning: bytes = b""
    raw_text: bytes = b""
    #: False: the response says nothing, it is there to be continued (reference 5.1 ``prewarm``, 11.1).
    generate: bool = True
    #: The input ended in a ``compaction_trigger``.
    compacts_now: bool = False

    @property
    def conversation_id(self) -> str | None:
        """The conversation that it runs in, given by its id or as ``{id}``."""
        data = bytes(self.conversation)
        if data in (b"", b"null"):
            return None
        return _string.decode(data) if data[:1] == b'"' else _named.decode(data).id

    @property
    def stored(self) -> bool:
        """Whether the response is kept; the default is yes."""
        return self.store is not False

    @property
    def wants_logprobs(self) -> bool:
        return LOGPROBS in (self.include or ())

    @property
    def wants_encrypted_reasoning(self) -> bool:
        return "reasoning.encrypted_content" in (self.include or ())

    @property
    def wants_reasoning_summary(self) -> bool:
        return self.reasoning is not None and bool(self.reasoning.summary or self.reasoning.generate_summary)

    def without_effect(
        self, *, verbosity: bool = False, reasoning: bool = False, cache_retention: bool = False
    ) -> list[str]:
        """Parameters that are taken and echoed but change nothing here, to be named in the reply's warnings.

        ``verbosity``: the model's side is told ``text.verbosity``; ``reasoning``: all of ``reasoning``;
        ``cache_retention``: ``prompt_cache_retention``.
        """
        told = ["prompt_cache_retention"] if self.prompt_cache_retention is not None and not cache_retention else []
        told += [] if reasoning else self._reasoning_without_effect()
        if not verbosity and self.text is not None and self.text.verbosity not in (None, "medium"):
            told.append("text.verbosity")
        if self.top_logprobs and not self.wants_logprobs:
            told.append("top_logprobs")
        return told

    def _reasoning_without_effect(self) -> list[str]:
        """Nothing here chooses what of it the model sees."""
        if self.reasoning is None:
            return []
        members = msgspec.json.decode(self.raw_reasoning, type=dict[str, msgspec.Raw])
        return [
            f"reasoning.{quoted(name)}"
            for name, value in members.items()
            if name not in _REASONING_HEEDED and bytes(value) not in (b"null", _REASONING_DEFAULTS.get(name))
        ]


#: The effort is passed on; where the model's side sums nothing up, raw reasoning is told as the summary.
_REASONING_HEEDED = ("effort", "summary", "generate_summary")
_REASONING_DEFAULTS = {"context": b'"auto"', "mode": b'"standard"'}
#: Members that the Response's shell holds as they came; a request that is kept beside it need not repeat them.
_IN_SHELL = ("instructions", "tools", "text", "prompt")
_DERIVED = {"unknown", "declared", "choice", "raw_reasoning", "raw_text", "generate", "compacts_now"}
_KNOWN = {field.name for field in msgspec.structs.fields(CreateResponse)} - _DERIVED
_create = msgspec.json.Decoder(CreateResponse)
#: The members of a request with those of the template that it names.
Overlay: TypeAlias = Callable[[Mapping[str, msgspec.Raw]], Mapping[str, msgspec.Raw]]
_string = msgspec.json.Decoder(str)


class Named(msgspec.Struct):
    """Something that is named by an object."""

    id: str


_named = msgspec.json.Decoder(Named)
_conversation: msgspec.json.Decoder[str | Named | None] = msgspec.json.Decoder(str | Named | None)
_NULL = msgspec.Raw(b"null")


def read_create(body: bytes, overlay: Overlay | None = None, *, generate: bool = True) -> CreateResponse:
    """The checked request.  Raises ``ApiError`` 400 naming the first parameter that is wrong.

    ``overlay``: what lays a prompt template under the request; it raises ``ApiError`` as well.
    ``generate``: whether it asks for an answer; where it does not, there may be nothing to answer.
    """
    body, members = members_of(body)
    if overlay is not None and (laid := overlay(members)) is not members:
        members = dict(laid)
        body = msgspec.json.encode(members)
    unknown = {name: value for name, value in members.items() if name not in _KNOWN and bytes(value) != b"null"}
    _refuse_siblings(unknown)
    if members.keys() & _DERIVED:
        body = msgspec.json.encode({name: value for name, value in members.items() if name in _KNOWN})
    request = decode(_create, body)
    request.unknown, request.generate = unknown, generate and not _prewarms(unknown)
    request.raw_reasoning = bytes(members.get("reasoning", b""))
    request.raw_text = bytes(members.get("text", b""))
    _check_numbers(request)
    _check_names(request)
    _check_text(request)
    request.declared = read_tools(request.tools)
    request.choice = read_choice(request.tool_choice)
    _check_conflicts(request)
    return request


class _CacheOptions(msgspec.Struct):
    """What is heeded of ``prompt_cache_options``."""

    prewarm: bool | None = None


_cache_options: msgspec.json.Decoder[_CacheOptions] = msgspec.json.Decoder(_CacheOptions)


def _prewarms(unknown: dict[str, msgspec.Raw]) -> bool:
    """Whether the request is to warm a cache: it has no output (reference 5.1), and the member is unknown no more."""
    options = unknown.get("prompt_cache_options")
    if options is None or not decode(_cache_options, bytes(options), "prompt_cache_options").prewarm:
        return False
    if not msgspec.json.decode(options, type=dict[str, msgspec.Raw]).keys() - {"prewarm"}:
        del unknown["prompt_cache_options"]
    return True


#: Members of a request to compact (reference 4.6).
_COMPACTED = ("input", "previous_response_id", "instructions", "prompt_cache_key", "service_tier")


def read_compact(body: bytes) -> CreateResponse:
    """The body of ``POST /v1/responses/compact`` as the create with the same context.

    Other members of a create are passed over, and named in ``unknown``.  Raises ``ApiError`` 400 as ``read_create``.
    """
    body, members = members_of(body)
    given = {name: value for name, value in members.items() if bytes(value) != b"null"}
    if "model" not in given:
        raise missing("model")
    if "conversation" in given:
        text = "Unsupported parameter: 'conversation'. Compact its items, or the response that was made in it."
        raise invalid(text, "conversation", "unsupported_parameter")
    taken = {name: given.pop(name) for name in ("model", *_COMPACTED) if name in given}
    request = read_create(msgspec.json.encode(taken))
    request.unknown = given
    return request


def kept(request: CreateResponse) -> bytes:
    """What must be stored of a request beside the shell of its Response and its input items, as a JSON object.

    The Response repeats the rest; of a background run everything that was given is kept, so that it can be taken up
    with what was asked for and nothing that was not.
    """
    names = _KNOWN - {"input", *_IN_SHELL} if request.background else {"include"}
    given = {name: getattr(request, name) for name in sorted(names)}
    members = {name: value for name, value in given.items() if value not in (None, msgspec.Raw())}
    if request.background and request.compacts_now:
        members["input"] = [{"type": TRIGGER}]
    if request.background and not request.generate:
        members["prompt_cache_options"] = {"prewarm": True}
    if request.raw_reasoning and "reasoning" in members:
        members["reasoning"] = msgspec.Raw(request.raw_reasoning)
    return msgspec.json.encode({**members, **request.unknown})


def reread(kept: bytes, shell: Shell, *, streamed: bool) -> CreateResponse:
    """The request of a background run, from what ``kept`` made of it and the shell of its Response.

    It carries no input: that is stored as items.
    """
    members = msgspec.json.decode(kept, type=dict[str, msgspec.Raw])
    if "model" not in members:  # 0.1 kept only what a Response does not repeat
        echo = msgspec.json.decode(b"{%b}" % shell.small, type=dict[str, msgspec.Raw])
        members = {name: value for name, value in echo.items() if name in _KNOWN and bytes(value) != b"null"} | members
    members |= {
        name: msgspec.Raw(shell.large[name]) for name in _IN_SHELL if shell.large.get(name, b"null") not in _UNSET
    }
    request = read_create(msgspec.json.encode({**members, "input": msgspec.Raw(b'"-"')}))
    request.background, request.stream, request.compacts_now = True, streamed, "input" in members
    return request


_UNSET = (b"null", b"[]", b'{"format":{"type":"text"},"verbosity":"medium"}')


def _refuse_siblings(unknown: dict[str, msgspec.Raw]) -> None:
    for name in unknown:
        if name in UNSERVED:
            raise invalid(f"Unsupported parameter: '{name}'. {UNSERVED[name]}", name, "unsupported_parameter")
        if name in SIBLINGS:
            instead = SIBLINGS[name]
            hint = f" In the Responses API, this parameter has moved to '{instead}'." if instead else ""
            raise invalid(f"Unsupported parameter: '{name}'.{hint}", name, "unsupported_parameter")


def _check_numbers(request: CreateResponse) -> None:
    within("max_output_tokens", request.max_output_tokens, OUTPUT_TOKENS_MIN, 2**31, whole=True)
    within("max_tool_calls", request.max_tool_calls, 1, 2**31, whole=True)
    within("temperature", request.temperature, 0, 2)
    within("top_p", request.top_p, 0, 1)
    within("presence_penalty", request.presence_penalty, -2, 2)
    within("frequency_penalty", request.frequency_penalty, -2, 2)
    within("top_logprobs", request.top_logprobs, 0, 20, whole=True)


def _check_names(request: CreateResponse) -> None:
    for index, value in enumerate(request.include or ()):
        if value not in INCLUDABLE:
            raise bad_choice(f"include[{index}]", value, INCLUDABLE)
    for param, name, choices in (
        ("truncation", request.truncation, TRUNCATIONS),
        ("service_tier", request.service_tier, SERVICE_TIERS),
        ("prompt_cache_retention", request.prompt_cache_retention, RETENTIONS),
    ):
        if name is not None and name not in choices:
            raise bad_choice(param, name, choices)
    if request.reasoning is not None:
        _check_reasoning(request.reasoning)
    check_metadata(request.metadata or {})
    _check_management(request.context_management)
    shorter("safety_identifier", request.safety_identifier, 128)


def _check_reasoning(reasoning: Reasoning) -> None:
    if reasoning.effort is not None and reasoning.effort not in EFFORTS:
        raise bad_choice("reasoning.effort", reasoning.effort, EFFORTS)
    for param in ("summary", "generate_summary"):
        value = getattr(reasoning, param)
        if value is not None and value not in SUMMARIES:
            raise bad_choice(f"reasoning.{param}", value, SUMMARIES)


def _check_management(entries: list[ContextManagement] | None) -> None:
    if entries is not None and not entries:
        raise empty_array("context_management")
    for index, entry in enumerate(entries or ()):
        path = f"context_management[{index}]"
        if entry.type != "compaction":
            raise bad_choice(f"{path}.type", entry.type, ("compaction",))
        within(f"{path}.compact_threshold", entry.compact_threshold, COMPACT_THRESHOLD_MIN, 2**31, whole=True)


def check_metadata(metadata: dict[str, str]) -> None:
    """At most 16 pairs, keys of 64 and values of 512 characters (reference 5.1)."""
    if len(metadata) > 16:
        text = f"Invalid 'metadata': too many properties. Expected an object with at most 16, but got {len(metadata)}."
        raise invalid(text, "metadata", "object_above_max_properties")
    for key, value in metadata.items():
        shorter("metadata", key, 64)
        shorter(f"metadata.{key}", value, 512)


def _check_text(request: CreateResponse) -> None:
    text = request.text
    if text is None:
        return
    if text.verbosity is not None and text.verbosity not in VERBOSITIES:
        raise bad_choice("text.verbosity", text.verbosity, VERBOSITIES)
    form = text.format
    if form is None:
        return
    if form.type not in ("text", "json_object", "json_schema"):
        raise bad_choice("text.format.type", form.type, ("text", "json_object", "json_schema"))
    if form.type == "json_schema":
        if form.name is None:
            raise missing("text.format.name")
        check_name("text.format.name", form.name)
        _check_schema(form)


def _check_schema(form: Format) -> None:
    schema = bytes(form.schema)
    if not schema:
        raise missing("text.format.schema")
    if schema[:1] != b"{":
        text = "Invalid type for 'text.format.schema': expected an object."
        raise invalid(text, "text.format.schema", "invalid_type")


def _check_conflicts(request: CreateResponse) -> None:
    """The order of reference 3.2."""
    decode(_conversation, request.conversation or _NULL, "conversation")
    if request.conversation_id is not None and request.previous_response_id is not None:
        text = (
            "Mutually exclusive parameters: 'previous_response_id' and 'conversation'. "
            "Ensure you are only providing one of these parameters."
        )
        raise invalid(text, "previous_response_id", "mutually_exclusive_parameters")
    if request.stream_options is not None and not request.stream:
        text = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise invalid(text, "stream_options")
    _check_input(request)


def _check_input(request: CreateResponse) -> None:
    _take_trigger(request)
    data = bytes(request.input)
    alone = request.previous_response_id is None and request.conversation_id is None and request.generate
    if data in (b"", b"null"):
        if alone:
            raise missing("input")
    elif data[:1] == b'"':
        if len(data) > INPUT_CHARS_MAX:
            shorter("input", decode(_string, data, "input"), INPUT_CHARS_MAX)
    elif data[:1] != b"[":
        text = "Invalid type for 'input': expected one of a string or an array of input items."
        raise invalid(text, "input", "invalid_type")
    elif data[1:].lstrip()[:1] == b"]" and alone:
        raise empty_array("input")


class _Typed(msgspec.Struct):
    type: Any = None


_items: msgspec.json.Decoder[list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw])
_typed = msgspec.json.Decoder(_Typed)


def _take_trigger(request: CreateResponse) -> None:
    """A ``compaction_trigger`` is about this one request and nothing that was said: it does not become an item.

    A later request would otherwise have it in the middle of its context, where none may stand (reference 6.1).
    """
    data = bytes(request.input)
    if data[:1] != b"[" or TRIGGER.encode() not in data:
        return
    raws = decode(_items, data, "input")
    kinds = [decode(_typed, raw, f"input[{index}]").type for index, raw in enumerate(raws)]
    if TRIGGER not in kinds:
        return
    place = kinds.index(TRIGGER)
    if place != len(kinds) - 1:
        text = f"Invalid 'input[{place}]': an item of type '{TRIGGER}' must be the last item of the input."
        raise invalid(text, f"input[{place}]", "invalid_value")
    request.input, request.compacts_now = msgspec.Raw(msgspec.json.encode(raws[:-1])), True


class Page(msgspec.Struct):
    """Which part of a list is asked for; at most one of ``after`` and ``before`` is used."""

    limit: int = 20
    order: str = "desc"
    after: str | None = None
    before: str | None = None


def read_page(query: dict[str, list[str]]) -> Page:
    """Query parameters of a list (reference 1.1)."""
    order = _last(query, "order") or "desc"
    if order not in ("asc", "desc"):
        raise bad_choice("order", order, ("asc", "desc"))
    limit = whole_number(query, "limit")
    within("limit", limit, 1, 100, whole=True)
    read_include(query)
    return Page(20 if limit is None else limit, order, _last(query, "after"), _last(query, "before"))


def read_include(query: dict[str, list[str]]) -> list[str]:
    """``include[]=``, repeated ``include=`` and comma lists alike (reference 1.1)."""
    values = [part for key in ("include[]", "include") for value in query.get(key, ()) for part in value.split(",")]
    for index, value in enumerate(values):
        if value not in INCLUDABLE:
            raise bad_choice(f"include[{index}]", value, INCLUDABLE)
    return values


def whole_number(query: dict[str, list[str]], name: str) -> int | None:
    """An integer of the query, or a 400."""
    text = _last(query, name)
    if text is None:
        return None
    if _WHOLE.fullmatch(text) is None:
        message = f"Invalid type for '{name}': expected an integer, but got '{text[:40]}' instead."
        raise invalid(message, name, "invalid_type")
    number = int(text)
    within(name, number, -(2**62), 2**62, whole=True)  # what the store can compare
    return number


def truth(query: dict[str, list[str]], name: str) -> bool:
    """A boolean of the query: ``true`` and ``false`` as text."""
    text = (_last(query, name) or "false").lower()
    if text not in ("true", "false", "1", "0"):
        raise invalid(
            f"Invalid type for '{name}': expected a boolean, but got '{quoted(text)}' instead.", name, "invalid_type"
        )
    return text in ("true", "1")


def _last(query: dict[str, list[str]], name: str) -> str | None:
    values: list[Any] = query.get(name) or [None]
    return values[-1] or None


def require_model(request: CreateResponse, default: str | None) -> str:
    """The model asked for, or the server's default one, or a 400."""
    model = request.model or default
    if not model:
        raise missing("model")
    return model
