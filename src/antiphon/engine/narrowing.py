"""The model calls of last resort for a call that does not come: which of the tools, then its arguments alone.

What such a call says is no reply: it becomes the call.  Must not know when one is asked for, or what is told of it.
"""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from antiphon.engine.ports.upstreams import ModelRequest
from antiphon.engine.strictness import unfenced
from antiphon.protocol.requests import CreateResponse, Format, Text
from antiphon.protocol.tools import Tool, ToolChoice

encode = msgspec.json.encode

#: Characters of a description by which a model chooses a tool.
DESCRIPTION_MAX = 200
_ANY_OBJECT = msgspec.Raw(b'{"type":"object"}')
#: The member that holds the name of the tool, and what the schema of the choice is called.
_TOOL, _CHOICE = "tool", "tool_choice"


def narrowed(asked: ModelRequest, tools: Sequence[Tool]) -> ModelRequest:
    """The model call that only asks which of several tools is called, or of one tool for the arguments of its call.

    It offers no tools, and its text is bound by a schema where the upstream holds to one.
    """
    form = _choice_of(tools) if len(tools) > 1 else _arguments_of(tools[0])
    verbosity = None if asked.request.text is None else asked.request.text.verbosity
    text = None if form is None else Text(form, verbosity)
    request: CreateResponse = msgspec.structs.replace(asked.request, text=text, tools=None, declared=[])
    request.raw_text = b"" if form is None else encode({"format": _told(form)})
    return msgspec.structs.replace(asked, request=request, tools=[], choice=ToolChoice("none"), force_choice=False)


def plea_for(tools: Sequence[Tool]) -> str:
    """What the model is told in that call."""
    return _plea_for_choice(tools) if len(tools) > 1 else _plea_for_arguments(tools[0])


# --- Which of them ---


def chosen(tools: Sequence[Tool], text: str) -> Tool | None:
    """The tool that a reply names: in the JSON that it was asked for, else the only one whose name stands in it."""
    by_name = {tool.name or "": tool for tool in tools}
    name = _named(unfenced(text) or text)
    if name in by_name:
        return by_name[name]
    found = [tool for name, tool in by_name.items() if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text)]
    return found[0] if len(found) == 1 else None


def _named(text: str) -> str | None:
    told = _json(text)
    name = told.get(_TOOL) if isinstance(told, dict) else told
    return name if isinstance(name, str) else None


def _choice_of(tools: Sequence[Tool]) -> Format:
    names = {"type": "string", "enum": [tool.name for tool in tools]}
    schema = {"type": "object", "properties": {_TOOL: names}, "required": [_TOOL], "additionalProperties": False}
    return Format("json_schema", _CHOICE, None, msgspec.Raw(encode(schema)), strict=True)


def _plea_for_choice(tools: Sequence[Tool]) -> str:
    told = [f"- {tool.name}: {' '.join((tool.description or '').split())[:DESCRIPTION_MAX]}" for tool in tools]
    return (
        "One of these tools is going to be called. "
        f'Reply with the name of the right one, as {{"{_TOOL}": "..."}}, and with nothing else:\n' + "\n".join(told)
    )


# --- With which arguments ---


def is_object(text: str) -> bool:
    """Whether it is a JSON object, as the arguments of a function are."""
    return isinstance(_json(text), dict)


def _arguments_of(tool: Tool) -> Format | None:
    return None if tool.type == "custom" else Format("json_schema", tool.name, None, _schema(tool), tool.strict)


def _plea_for_arguments(tool: Tool) -> str:
    if tool.type != "custom":
        told = "Reply with the arguments of the call, as a JSON object that matches this schema, and with nothing else:"
        return f"'{tool.name}' is going to be called. {told}\n{bytes(_schema(tool)).decode()}"
    text = f"'{tool.name}' is going to be called. Reply with the input of the call, and with nothing else."
    if tool.grammar is None:
        return text
    return f"{text} It must match this grammar ({tool.grammar[0]}):\n{tool.grammar[1]}"


def _schema(tool: Tool) -> msgspec.Raw:
    return tool.parameters if bytes(tool.parameters) not in (b"", b"null") else _ANY_OBJECT


def _told(form: Format) -> dict[str, object]:
    return {"type": form.type, "name": form.name, "schema": form.schema, "strict": bool(form.strict)}


def _json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None
