"""A model request as the body of ``POST /messages``.

Must not know of sockets.  Pure: the same request gives the same bytes, so that prefix caches hit.
"""

from typing import Any

import msgspec

from antiphon.engine.ports.upstreams import ModelRequest
from antiphon.protocol.requests import LOGPROBS, CreateResponse
from antiphon.protocol.tools import Tool
from antiphon.upstreams.custom_tools import description_of, parameters_of
from antiphon.upstreams.efforts import clamped
from antiphon.upstreams.messages.conversation import THINKING, Conversation
from antiphon.upstreams.messages.options import Options

encode = msgspec.json.encode

Members = dict[str, Any]

#: Of these members the prompt is made, and ``count_tokens`` is asked with them.
_COUNTED = ("model", "messages", "system", "tools", "tool_choice", "thinking")
#: From the least to the most.
_EFFORTS = ("minimal", "low", "medium", "high", "xhigh", "max")
#: Tokens of thought for models that are told a number, of which the API wants at least 1024.
_BUDGETS = dict(zip(_EFFORTS, (1024, 2048, 8192, 16_384, 32_768, 65_536), strict=True))
_BUDGET_MIN = 1024
#: The lowest ``top_p`` beside thoughts.
_TOP_P_MIN = 0.95
_CACHED = {"type": "ephemeral"}
_NO_PARAMETERS = msgspec.Raw(b'{"type":"object","properties":{}}')


def form_of(asked: ModelRequest, options: Options, maker: str, *, stream: bool) -> Members:
    """The members of the body.  ``maker`` is who signed the thoughts that may be sent back.

    Raises ``UpstreamError`` for a file that the API does not take.
    """
    request = asked.request
    limit = request.max_output_tokens or options.max_tokens
    thinking = _thinking(asked, options, limit)
    talk = _conversation(asked, options, maker if thinking else None)
    if thinking and options.thinking == "budget" and not talk.thinks_before_calls:
        thinking, talk = {}, _conversation(asked, options, None)
    body: Members = {"model": asked.model, "max_tokens": limit, "messages": talk.messages, "stream": stream}
    if talk.system:
        body["system"] = [{"type": "text", "text": "\n\n".join(talk.system)}]
    body |= _tools(asked, options) | _sampling(request, thinks=bool(thinking))
    if thinking:
        body["thinking"] = thinking
    output = _output(request, options, adaptive=thinking.get("type") == "adaptive")
    if output:
        body["output_config"] = output
    if options.cache:
        _mark(body)
    return body | options.extra_body


def counted(form: Members) -> Members:
    """The members of a body that its input tokens are counted of."""
    return {name: form[name] for name in _COUNTED if name in form}


def unheeded(request: CreateResponse, options: Options) -> list[str]:
    """Parameters that the API has no words for, or not for their value, as paths."""
    thinks = _effort(request) is not None and options.thinking != "off"
    told = [name for name in ("presence_penalty", "frequency_penalty") if getattr(request, name)]
    told += [f"include[{index}]" for index, name in enumerate(request.include or ()) if name == LOGPROBS]
    if request.wants_logprobs and request.top_logprobs:
        told.append("top_logprobs")
    if request.temperature is not None and (request.temperature > 1 or (thinks and request.temperature < 1)):
        told.append("temperature")
    if request.top_p is not None and thinks and request.top_p < _TOP_P_MIN:
        told.append("top_p")
    if _effort(request) is not None and options.thinking == "off":
        told.append("reasoning.effort")
    return told


def headers_of(options: Options) -> dict[str, str]:
    """The headers that a model wants."""
    headers = {"anthropic-version": options.version}
    return headers | {"anthropic-beta": ",".join(options.beta)} if options.beta else headers


def _conversation(asked: ModelRequest, options: Options, maker: str | None) -> Conversation:
    talk = Conversation(maker)
    talk.instruct(asked.request.instructions or "")
    talk.take(asked.items)
    talk.instruct(_told_format(asked.request, options))
    # The API refuses a reply that ends with white space.
    talk.end(None if asked.prefix is None else asked.prefix.rstrip() or None)
    return talk


# --- Parameters ---


def _sampling(request: CreateResponse, *, thinks: bool) -> Members:
    """A ``top_p`` of 1 means nothing, and newer models take only one of the two; thoughts want neither."""
    body: Members = {}
    if request.temperature is not None and not thinks:
        body["temperature"] = min(1.0, request.temperature)
    if request.top_p is not None and request.top_p < 1 and not (thinks and request.top_p < _TOP_P_MIN):
        body["top_p"] = request.top_p
    user = request.safety_identifier or request.user
    if user is not None:
        body["metadata"] = {"user_id": user}
    if request.service_tier in ("auto", "default"):
        body["service_tier"] = "auto" if request.service_tier == "auto" else "standard_only"
    return body


def _effort(request: CreateResponse) -> str | None:
    effort = request.reasoning.effort if request.reasoning else None
    return effort if effort in _EFFORTS else None


def _thinking(asked: ModelRequest, options: Options, limit: int) -> Members:
    """Empty where the model is not to think: nobody asks for it, it must call a tool, or its reply has begun."""
    effort = _effort(asked.request)
    forced = asked.force_choice and asked.choice.mode == "required" and bool(asked.tools)
    if effort is None or options.thinking == "off" or forced or asked.prefix is not None:
        return {}
    if options.thinking == "adaptive":
        return {"type": "adaptive", "display": "summarized"}
    budget = min(_BUDGETS[effort], limit // 2)
    return {"type": "enabled", "budget_tokens": budget} if budget >= _BUDGET_MIN else {}


def _output(request: CreateResponse, options: Options, *, adaptive: bool) -> Members:
    output: Members = {}
    effort = _effort(request)
    if adaptive and options.efforts and effort is not None:
        output["effort"] = clamped(effort, options.efforts)
    form = request.text.format if request.text else None
    if form is not None and _is_bound(request, options):
        output["format"] = {"type": "json_schema", "schema": form.schema}
    return output


def _is_bound(request: CreateResponse, options: Options) -> bool:
    """Whether the API itself holds the model to the schema; it takes a part of what schemas can say."""
    form = request.text.format if request.text else None
    return form is not None and form.type == "json_schema" and bool(form.strict) and options.structured_outputs


def _told_format(request: CreateResponse, options: Options) -> str:
    """The format in words, where the API does not see to it."""
    form = request.text.format if request.text else None
    if form is None or form.type == "text" or _is_bound(request, options):
        return ""
    if form.type == "json_object":
        return "Answer with a single JSON object and nothing else."
    schema = bytes(form.schema).decode()
    return f"Answer with JSON that this schema describes, and with nothing else:\n{schema}"


# --- Tools ---


def _tools(asked: ModelRequest, options: Options) -> Members:
    choice = asked.choice
    offered = [tool for tool in asked.tools if choice.type != "allowed_tools" or tool.name in choice.names]
    if not offered:
        return {}
    body: Members = {"tools": [_tool(tool, options) for tool in offered]}
    told = _choice(asked)
    if asked.request.parallel_tool_calls is False and told.get("type") != "none":
        told = {"type": "auto"} | told | {"disable_parallel_tool_use": True}
    return body | ({"tool_choice": told} if told else {})


def _choice(asked: ModelRequest) -> Members:
    choice = asked.choice
    if choice.mode == "none":
        return {"type": "none"}  # the tools stay: earlier calls of them are in the messages
    if choice.mode != "required" or not asked.force_choice:
        return {}
    if choice.type != "allowed_tools" and len(choice.names) == 1:
        return {"type": "tool", "name": choice.names[0]}
    return {"type": "any"}


def _tool(tool: Tool, options: Options) -> Members:
    """The dialect has functions only: a custom tool is one with a single string."""
    if tool.type == "custom":
        return {"name": tool.name, "input_schema": parameters_of(tool), "description": description_of(tool)}
    given = bytes(tool.parameters) not in (b"", b"null")
    members: Members = {"name": tool.name, "input_schema": tool.parameters if given else _NO_PARAMETERS}
    if tool.description:
        members["description"] = tool.description
    if tool.strict and options.structured_outputs:
        members["strict"] = True
    return members


# --- Cache ---


def _mark(body: Members) -> None:
    """Where later calls find the same beginning: behind the instructions, and behind the user's last two messages."""
    head = body.get("system") or body.get("tools")
    if head:
        head[-1]["cache_control"] = _CACHED
    said = [message for message in body["messages"] if message["role"] == "user"]
    for message in said[-2:]:
        last = message["content"][-1]
        if last["type"] not in THINKING:
            last["cache_control"] = _CACHED
