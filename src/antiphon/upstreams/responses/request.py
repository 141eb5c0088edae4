"""A model request as the body of ``POST /responses``: whole input, nothing kept by the other side.

Must not know of sockets.  Pure: the same request gives the same bytes, so that prefix caches hit.  What this server
does not understand (fields, items, tools) goes through as it came.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from antiphon.engine.ports.upstreams import ContextItem, ModelRequest
from antiphon.protocol.items import ID_PREFIXES, NOTHING, Item, decode_object
from antiphon.protocol.requests import CreateResponse
from antiphon.protocol.tools import INNER_TYPES, Tool
from antiphon.upstreams.efforts import clamped
from antiphon.upstreams.opaque import is_foreign, unwrapped
from antiphon.upstreams.responses.options import Options

encode = msgspec.json.encode

Members = dict[str, Any]

ENCRYPTED = "reasoning.encrypted_content"
#: Longest id that OpenAI takes.
ID_CHARS_MAX = 64

#: What the upstream is told of a request as its client said it.
_PASSED = (
    "max_output_tokens",
    "max_tool_calls",
    "parallel_tool_calls",
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "top_logprobs",
    "truncation",
    "service_tier",
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
)
#: Of these members the prompt is made, and ``input_tokens`` is asked with them (reference 4.5).
_COUNTED = (
    "model",
    "input",
    "instructions",
    "tools",
    "tool_choice",
    "text",
    "reasoning",
    "parallel_tool_calls",
    "truncation",
)
#: Items that the engine has heeded already: what they say stands in the tools and parameters of this call.
_HEEDED = frozenset(
    {
        "additional_tools",
        "compaction_trigger",
        "configuration_update",
        "item_reference",
        "tool_search_call",
        "tool_search_output",
    }
)
#: Items that have no ``status`` when they are sent; as stored, every item has one (reference 6.1).
_NO_STATUS = frozenset(
    {
        "agent_message",
        "compaction",
        "custom_tool_call",
        "custom_tool_call_output",
        "mcp_approval_request",
        "mcp_approval_response",
        "mcp_list_tools",
        "reasoning",
    }
)
_CALLS = ("function_call", "custom_tool_call")
#: Where an item holds content that the engine may have made readable.
_CONTENT = {"message": "content", "function_call_output": "output", "custom_tool_call_output": "output"}


class Sealed(msgspec.Struct):
    """An item's encrypted content, and the id that it is bound to: the one that its maker gave the item."""

    id: str
    content: str


def form_of(asked: ModelRequest, options: Options, maker: str, *, stream: bool, sealed: bool = True) -> Members:
    """The members of the body.

    ``maker`` is who made the encrypted content that may be sent back; with ``sealed`` False no reasoning is.
    """
    request = asked.request
    body: Members = {"model": asked.model, "input": _input(asked, options, maker, sealed=sealed)}
    body |= {"store": False, "stream": stream}
    if stream:
        body["stream_options"] = {"include_obfuscation": False}  # what clients get is padded here (decision 16)
    if request.instructions is not None:
        body["instructions"] = request.instructions
    body |= {name: value for name in _PASSED if (value := getattr(request, name)) is not None}
    for name, raw in (("reasoning", _reasoning(request, options)), ("text", request.raw_text)):
        if raw not in (b"", b"null"):
            body[name] = msgspec.Raw(raw)
    include = _include(request, options)
    if include:
        body["include"] = include
    return body | _tools(asked) | request.unknown | options.extra_body


def _reasoning(request: CreateResponse, options: Options) -> bytes:
    """As the client said it, but for an effort that the model does not know."""
    effort = request.reasoning.effort if request.reasoning else None
    known = clamped(effort, options.efforts)
    if known == effort:
        return request.raw_reasoning
    return encode({**decode_object(request.raw_reasoning), "effort": known})


def counted(form: Members) -> Members:
    """The members of a body that its input tokens are counted of."""
    return {name: form[name] for name in _COUNTED if name in form}


def _include(request: CreateResponse, options: Options) -> list[str]:
    asked = [name for name in request.include or () if name != ENCRYPTED]
    return [*asked, ENCRYPTED] if options.encrypted_reasoning else asked


# --- Tools ---


def _tools(asked: ModelRequest) -> Members:
    if not asked.tools:
        return {}
    body: Members = {"tools": [_tool(tool) for tool in asked.tools]}
    choice = _choice(asked)
    if choice != "auto":
        body["tool_choice"] = choice
    return body


def _tool(tool: Tool) -> msgspec.Raw | Members:
    """As the client declared it, under the name that the model sees; what only the provider can run as it came."""
    if tool.type not in ("function", "custom"):
        return msgspec.Raw(tool.raw)
    members: Members = dict(decode_object(tool.raw)) if tool.raw else {}
    if members.get("type") != msgspec.Raw(encode(tool.type)):
        members = {"type": tool.type}
        if tool.type == "function":
            members |= {"parameters": tool.parameters, "strict": bool(tool.strict)}
    members.pop("defer_loading", None)
    members["name"] = tool.name
    if tool.description is not None:
        members["description"] = tool.description
    return members


def _choice(asked: ModelRequest) -> Any:
    """The choice in the names that the model sees; forced only where the engine says so."""
    choice = asked.choice
    mode = "auto" if choice.mode == "required" and not asked.force_choice else choice.mode
    if mode == "none" or choice.type is None:
        return mode
    named = _picked(asked)
    if named and len(named) == 1 and choice.type != "allowed_tools":
        return named[0] if mode == "required" else mode
    if named:
        return {"type": "allowed_tools", "mode": mode, "tools": named}
    return msgspec.Raw(choice.echo) if mode == "required" or choice.type == "allowed_tools" else mode


def _picked(asked: ModelRequest) -> list[Members]:
    """The tools that a choice names: those of the provider in the client's words."""
    tools = {tool.name: tool.type for tool in asked.tools}
    named = [{"type": tools[name], "name": name} for name in asked.choice.names if tools.get(name) in INNER_TYPES]
    own = set(tools.values()).difference(INNER_TYPES)
    picks = (msgspec.structs.asdict(pick) for pick in asked.choice.picks if pick.type in own)
    return named + [{name: value for name, value in pick.items() if value is not None} for pick in picks]


# --- Items ---


def _input(asked: ModelRequest, options: Options, maker: str, *, sealed: bool) -> list[Any]:
    items = (_item(item, options, maker, sealed=sealed) for item in asked.items)
    return [item for item in items if item is not None]


def _item(item: ContextItem, options: Options, maker: str, *, sealed: bool) -> Any:
    """The item as it is sent; None where the upstream is better off without."""
    view = item.view
    if view.kind in _HEEDED:
        return None
    members = _stored(item) or _shown(view)
    if view.kind in _NO_STATUS:
        members.pop("status", None)
    if view.encrypted_content is not None or view.kind == "reasoning":
        return _sealed(view, members, options, maker, sealed=sealed)
    if view.kind in _CALLS:
        _rename(view, members)
    elif view.kind in _CONTENT:
        _make_readable(view, members, _CONTENT[view.kind])
    if "id" in members and view.id is not None:
        members["id"] = _fitting_id(view.kind, view.id)
    return members


def _stored(item: ContextItem) -> Members:
    """The members as they are stored; none where the engine shows the model another item, or one of its own."""
    members: Members = dict(decode_object(item.body)) if item.body else {}
    return members if members.get("type") == msgspec.Raw(encode(item.view.kind)) else {}


def _shown(view: Item) -> Members:
    """An item as the engine shows it."""
    shown = {name: getattr(view, name) for name in ("role", "call_id", "name", "arguments", "input")}
    members = {name: value for name, value in shown.items() if value is not None}
    members |= {name: raw for name in ("content", "output") if (raw := getattr(view, name)) != NOTHING}
    return {"type": view.kind, **members}


def _sealed(view: Item, members: Members, options: Options, maker: str, *, sealed: bool) -> Members | None:
    """Encrypted content goes back under the id that it is bound to, to whoever made it; others cannot read it."""
    reasons = view.kind == "reasoning"
    kept = unwrapped(maker, view.encrypted_content, Sealed)
    if (kept is not None or is_foreign(view.encrypted_content)) and (sealed or not reasons):
        if kept is not None:
            members |= {"id": kept.id, "encrypted_content": kept.content}
        if reasons:
            members.pop("content", None)  # OpenAI takes none beside the encrypted form
        return members
    members.pop("encrypted_content", None)
    if reasons and view.content != NOTHING:
        members["content"] = view.content  # which may have been sealed
    if reasons and not options.replay_reasoning:
        return None
    return members if reasons or view.kind != "compaction" else None


def _rename(view: Item, members: Members) -> None:
    """A call of an earlier turn, under the flat name by which the model knows the tool now."""
    members["name"] = view.name
    members.pop("namespace", None)


def _make_readable(view: Item, members: Members, field: str) -> None:
    """Images and files as the engine fetched them; all else stays as it was written."""
    seen = getattr(view, field)
    if seen != NOTHING and members.get(field) != seen:
        members[field] = _parts(seen)


def _parts(raw: msgspec.Raw) -> Any:
    """Parts without members that are null: the engine's have all that there can be."""
    parts = msgspec.json.decode(raw)
    if not isinstance(parts, list):
        return raw
    return [{name: value for name, value in part.items() if value is not None} for part in parts]


def _fitting_id(kind: str, item_id: str) -> str:
    """OpenAI refuses ids that do not begin as those of their type do; clients bring histories from anywhere."""
    prefix = ID_PREFIXES.get(kind, "")
    fits = item_id.startswith(prefix.rstrip("_")[:2]) and len(item_id) <= ID_CHARS_MAX
    return item_id if fits else f"{prefix}{item_id}"[:ID_CHARS_MAX]


def wants_stream(asked: ModelRequest) -> bool:
    """Whether anybody reads along."""
    return bool(asked.request.stream or asked.request.background)


def has_sealed(items: Sequence[ContextItem]) -> bool:
    """Whether there is reasoning to leave out, should the upstream refuse it."""
    return any(item.view.kind == "reasoning" and item.view.encrypted_content for item in items)
