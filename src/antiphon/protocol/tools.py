"""Tool declarations and tool choice, as requests carry them and Responses echo them.

Must not know which tools this server can run.  Shapes: responses-api reference, sections 5.3 and 7.
"""

import re

import msgspec

from antiphon.protocol.decoding import decode, fewer, shorter
from antiphon.protocol.errors import bad_choice, invalid, missing, quoted
from antiphon.protocol.items import decode_object

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
CHOICE_MODES = ("none", "auto", "required")
#: Tools of one request, and names of one ``allowed_tools``, at the most.
TOOLS_MAX = 1024

#: Members of a tool declaration that are secrets: never echoed, never stored (reference 7, MCP).
SECRETS = ("authorization", "headers")


class Tool(msgspec.Struct):
    """One declaration; ``raw`` is what the client sent."""

    type: str
    name: str | None = None
    description: str | None = None
    parameters: msgspec.Raw = msgspec.Raw(b"null")
    strict: bool | None = None
    raw: bytes = b""

    @property
    def label(self) -> str:
        """How messages name it."""
        return f"{quoted(self.type)} '{quoted(self.name)}'" if self.name else quoted(self.type)


class _Named(msgspec.Struct):
    type: str
    name: str | None = None


class AllowedTools(msgspec.Struct):
    type: str
    tools: list[_Named]
    mode: str = "auto"


class ToolChoice(msgspec.Struct, frozen=True):
    """What the model may or must call.  ``names`` restricts it; empty means every tool."""

    mode: str = "auto"
    type: str | None = None
    names: tuple[str, ...] = ()
    echo: bytes = b'"auto"'


_tool = msgspec.json.Decoder(Tool)
_named = msgspec.json.Decoder(_Named)
_allowed = msgspec.json.Decoder(AllowedTools)


def read_tools(raws: list[msgspec.Raw] | None) -> list[Tool]:
    """Checks every declaration; names of functions are unique."""
    fewer("tools", len(raws or ()), TOOLS_MAX)
    tools = [_read_tool(bytes(raw), f"tools[{index}]") for index, raw in enumerate(raws or ())]
    names: set[str | None] = set()
    for tool in tools:
        if tool.type == "function" and tool.name in names:
            raise invalid(f"Duplicate tool name: '{tool.name}'. Names of functions must be unique.", "tools")
        if tool.type == "function":
            names.add(tool.name)
    return tools


def _read_tool(raw: bytes, path: str) -> Tool:
    tool = decode(_tool, raw, path)
    tool.raw = raw
    if tool.type == "function":
        if tool.name is None:
            raise missing(f"{path}.name")
        check_name(f"{path}.name", tool.name)
        if bytes(tool.parameters)[:1] not in (b"{", b"n"):
            text = f"Invalid type for '{path}.parameters': expected an object."
            raise invalid(text, f"{path}.parameters", "invalid_type")
    return tool


def check_name(param: str, name: str) -> None:
    """Names are 1 to 64 letters, digits, underscores and dashes."""
    shorter(param, name, 64)
    if not NAME.fullmatch(name):
        text = f"Invalid '{param}': string does not match pattern. Expected a string that matches the pattern "
        raise invalid(text + "'^[a-zA-Z0-9_-]+$'.", param)


def echo(tool: Tool) -> bytes:
    """The declaration as the Response repeats it: given members, defaults filled in, secrets left out."""
    members = decode_object(tool.raw)
    if tool.type == "function":
        members.setdefault("description", msgspec.Raw(b"null"))
        members.setdefault("parameters", msgspec.Raw(b"null"))
        members["strict"] = msgspec.Raw(b"true" if tool.strict else b"false")
    for secret in SECRETS:
        if secret in members:
            members[secret] = msgspec.Raw(b"null")
    return msgspec.json.encode(members)


def read_choice(raw: msgspec.Raw, tools: list[Tool]) -> ToolChoice:
    """``tool_choice`` in each of its forms; a tool that is named must be declared."""
    data = bytes(raw).strip()
    if not data or data == b"null":
        return ToolChoice()
    if data[:1] == b'"':
        mode = msgspec.json.decode(data, type=str)
        if mode not in CHOICE_MODES:
            raise bad_choice("tool_choice", mode, CHOICE_MODES)
        _check_required(mode, tools)
        return ToolChoice(mode, echo=data)
    choice = decode(_named, data, "tool_choice")
    if choice.type == "allowed_tools":
        return _read_allowed(data, tools)
    _check_declared(choice, tools, "tool_choice")
    return ToolChoice("required", choice.type, (choice.name,) if choice.name else (), data)


def _read_allowed(data: bytes, tools: list[Tool]) -> ToolChoice:
    allowed = decode(_allowed, data, "tool_choice")
    if allowed.mode not in ("auto", "required"):
        raise bad_choice("tool_choice.mode", allowed.mode, ("auto", "required"))
    if not allowed.tools:
        raise invalid("Invalid 'tool_choice.tools': empty array.", "tool_choice.tools", "empty_array")
    fewer("tool_choice.tools", len(allowed.tools), TOOLS_MAX)
    for index, named in enumerate(allowed.tools):
        _check_declared(named, tools, f"tool_choice.tools[{index}]")
    names = tuple(named.name or named.type for named in allowed.tools)
    # The mode is optional in requests and not in Responses (reference 5.3).
    members = {"mode": msgspec.Raw(b'"auto"'), **decode_object(data)}
    return ToolChoice(allowed.mode, "allowed_tools", names, msgspec.json.encode(members))


def _check_required(mode: str, tools: list[Tool]) -> None:
    if mode == "required" and not tools:
        raise invalid("Tool choice 'required' must be specified with 'tools' parameter.", "tool_choice")


def _check_declared(choice: _Named, tools: list[Tool], param: str) -> None:
    if choice.type in ("function", "custom") and choice.name is None:
        raise missing(f"{param}.name")
    if not any(tool.type == choice.type and choice.name in (None, tool.name) for tool in tools):
        name = choice.name or choice.type
        raise invalid(f"Tool choice '{quoted(name)}' not found in 'tools' parameter.", "tool_choice")
