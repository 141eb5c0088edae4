"""The request as its Response repeats it: every parameter with its effective value.

Must not know how the response comes about.  Rule and defaults: reference 2.1.
"""

import msgspec

from antiphon.protocol import tools
from antiphon.protocol.requests import CreateResponse
from antiphon.protocol.responses import Shell

encode = msgspec.json.encode

_PLAIN_TEXT = b'{"format":{"type":"text"},"verbosity":"medium"}'
_NOTHING = b"null"
#: Above this many bytes a member is kept once per project instead of in every row (design section 3).
LARGE_BYTES = 256


def _given(value: object, default: object) -> object:
    return default if value is None else value


def build(request: CreateResponse, *, response_id: str, created_at: int, model: str) -> Shell:
    """Encodes the echo once; tools, instructions and text come last so that the store can share them."""
    large = {
        "instructions": _NOTHING if request.instructions is None else encode(request.instructions),
        "tools": b"[" + b",".join(tools.echo(tool) for tool in request.declared) + b"]",
        "text": _text(request),
    }
    if bytes(request.prompt) not in (b"", _NOTHING):
        large["prompt"] = bytes(request.prompt)
    small = encode(_small(request, model))[1:-1] + b',"tool_choice":' + request.choice.echo
    return Shell(response_id, created_at, bool(request.background), small, large)


def _small(request: CreateResponse, model: str) -> dict[str, object]:
    conversation = request.conversation_id
    return {
        "model": model,
        "previous_response_id": request.previous_response_id,
        "parallel_tool_calls": _given(request.parallel_tool_calls, True),
        "reasoning": _reasoning(request),
        "store": request.stored,
        "temperature": _given(request.temperature, 1.0),
        "top_p": _given(request.top_p, 1.0),
        "presence_penalty": _given(request.presence_penalty, 0.0),
        "frequency_penalty": _given(request.frequency_penalty, 0.0),
        "top_logprobs": _given(request.top_logprobs, 0),
        "truncation": _given(request.truncation, "disabled"),
        "user": request.user,
        "metadata": _given(request.metadata, {}),
        "max_output_tokens": request.max_output_tokens,
        "max_tool_calls": request.max_tool_calls,
        # The only tier that there is: the tier actually used is what a Response shows (reference 5.1).
        "service_tier": "default",
        "safety_identifier": request.safety_identifier,
        "prompt_cache_key": request.prompt_cache_key,
        **({} if conversation is None else {"conversation": {"id": conversation}}),
    }


def _reasoning(request: CreateResponse) -> dict[str, object]:
    given = msgspec.json.decode(request.raw_reasoning or b"null", type=dict[str, msgspec.Raw] | None) or {}
    return {"effort": None, "summary": None, **given}


def _text(request: CreateResponse) -> bytes:
    if request.text is None:
        return _PLAIN_TEXT
    members = msgspec.json.decode(request.raw_text, type=dict[str, msgspec.Raw])
    if request.text.format is None:
        members["format"] = msgspec.Raw(b'{"type":"text"}')
    elif request.text.format.type == "json_schema":
        form = msgspec.json.decode(members["format"], type=dict[str, msgspec.Raw])
        form = {"description": msgspec.Raw(_NOTHING), **form}
        form["strict"] = msgspec.Raw(b"true" if request.text.format.strict else b"false")
        members["format"] = msgspec.Raw(encode(form))
    if request.text.verbosity is None:
        members["verbosity"] = msgspec.Raw(b'"medium"')
    return encode(members)
