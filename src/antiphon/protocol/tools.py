"""Tool declarations and tool choice, as requests and items carry them and Responses echo them.

Must not know which tools this server can run.  Shapes: responses-api reference, sections 5.3 and 7.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from antiphon.protocol.decoding import decode, fewer, shorter
from antiphon.protocol.errors import bad_choice, empty_array, invalid, missing, quoted
from antiphon.protocol.items import decode_object

NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")
#: Characters of a function's name, and of the names of namespaces, of what is in them, and of custom tools.
NAME_MAX, LONG_NAME_MAX = 64, 128
CHOICE_MODES = ("none", "auto", "required")
#: Tools of one list, names of one ``allowed_tools``, and tools of one list with those inside of its namespaces.
TOOLS_MAX, INNER_TOOLS_MAX = 1024, 4096
#: What a namespace may hold, and the grammars that a custom tool's input may have.
INNER_TYPES = ("function", "custom")
SYNTAXES = ("lark", "regex")
EXECUTIONS = ("server", "client")

#: Members of a tool declaration that are secrets: never echoed, never stored (reference 7, MCP).
SECRETS = ("authorization", "headers")
_NULL = msgspec.Raw(b"null")


class Tool(msgspec.Struct):
    """One declaration; ``raw`` is what the client sent, and ``path`` where it stood.

    Of a tool as the model sees it, ``name`` is what the model calls it; ``own_name`` and ``namespace`` are what its
    client calls it.
    """

    type: str
    name: str | None = None
    description: str | None = None
    parameters: msgspec.Raw = _NULL
    strict: bool | None = None
    #: It is loaded when it is found by a tool search.
    defer_loading: bool = False
    #: Who runs a tool search.
    execution: str | None = None
    #: A custom tool's grammar as syntax and definition; None where its input is any text.
    grammar: tuple[str, str] | None = None
    #: What is inside a namespace.
    inner: tuple["Tool", ...] = ()
    raw: bytes = b""
    path: str = ""
    own_name: str | None = None
    namespace: str | None = None

    @property
    def label(self) -> str:
        """How messages name it."""
        return f"{quoted(self.type)} '{quoted(self.name)}'" if self.name else quoted(self.type)


class _Sent(msgspec.Struct):
    """What of a declaration is looked at; what only some types have is read where the type is known."""

    type: str
    name: str | None = None
    description: str | None = None
    parameters: msgspec.Raw = _NULL
    strict: bool | None = None
    defer_loading: bool | None = None
    execution: Any = None
    format: msgspec.Raw = _NULL
    tools: msgspec.Raw = _NULL


class _Format(msgspec.Struct):
    type: str
    syntax: str | None = None
    definition: str | None = None


class Pick(msgspec.Struct, frozen=True):
    """A tool that a choice names: by its type, and by its name or the label of its server where it has one."""

    type: str
    name: str | None = None
    namespace: str | None = None
    server_label: str | None = None

    @property
    def label(self) -> str:
        """How messages name it."""
        return quoted(self.name or self.server_label or self.type)


class AllowedTools(msgspec.Struct):
    type: str
    tools: list[Pick]
    mode: str = "auto"


class ToolChoice(msgspec.Struct, frozen=True):
    """What the model may or must call.  ``picks`` are the tools that the client named.

    ``names`` are the same in terms of what the model sees, and restrict it; empty means every tool.
    """

    mode: str = "auto"
    type: str | None = None
    names: tuple[str, ...] = ()
    echo: bytes = b'"auto"'
    picks: tuple[Pick, ...] = ()


_sent = msgspec.json.Decoder(_Sent)
_format = msgspec.json.Decoder(_Format)
_raws: msgspec.json.Decoder[list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw])
_pick = msgspec.json.Decoder(Pick)
_allowed = msgspec.json.Decoder(AllowedTools)


# --- Declarations ---


def read_tools(raws: Sequence[msgspec.Raw] | None, path: str = "tools", *, unique: bool = True) -> list[Tool]:
    """Checks every declaration at ``path``; with ``unique`` no function or custom tool is declared twice."""
    fewer(path, len(raws or ()), TOOLS_MAX)
    tools = [_read_tool(bytes(raw), f"{path}[{index}]") for index, raw in enumerate(raws or ())]
    fewer(path, sum(1 + len(tool.inner) for tool in tools), INNER_TOOLS_MAX)
    names: set[tuple[str | None, str | None]] = set()
    for tool, namespace in leaves(tools) if unique else ():
        if (namespace, tool.name) in names:
            shown = quoted(tool.name or "")
            raise invalid(f"Duplicate tool name: '{shown}'. Names of functions must be unique.", path)
        names.add((namespace, tool.name))
    return tools


def read_listed(raw: msgspec.Raw, path: str) -> list[Tool]:
    """The tools that an item carries, at ``path``; the same one may come again."""
    if bytes(raw) in (b"", b"null"):
        raise missing(path)
    return read_tools(decode(_raws, raw, path), path, unique=False)


def leaves(tools: Sequence[Tool]) -> Iterator[tuple[Tool, str | None]]:
    """Functions and custom tools, each with the namespace that it is in."""
    for tool in tools:
        if tool.type in INNER_TYPES:
            yield tool, None
        for inner in tool.inner:
            yield inner, tool.name


def _read_tool(raw: bytes, path: str, *, inside: bool = False) -> Tool:
    sent = decode(_sent, raw, path)
    tool = Tool(sent.type, sent.name, sent.description, sent.parameters, sent.strict, sent.defer_loading is True)
    tool.raw, tool.path = raw, path
    if inside and tool.type not in INNER_TYPES:
        raise bad_choice(f"{path}.type", tool.type, INNER_TYPES)
    if tool.type in (*INNER_TYPES, "namespace"):
        _check_name(tool, NAME_MAX if tool.type == "function" and not inside else LONG_NAME_MAX)
    if tool.type in ("function", "tool_search") and bytes(tool.parameters)[:1] not in (b"{", b"n"):
        text = f"Invalid type for '{path}.parameters': expected an object."
        raise invalid(text, f"{path}.parameters", "invalid_type")
    if tool.type == "custom":
        tool.grammar = _read_format(sent.format, f"{path}.format")
    if tool.type == "namespace":
        tool.inner = _read_inner(sent.tools, f"{path}.tools")
    if tool.type == "tool_search":
        if sent.execution is not None and sent.execution not in EXECUTIONS:
            raise bad_choice(f"{path}.execution", str(sent.execution), EXECUTIONS)
        tool.execution = sent.execution or "server"
    return tool


def _check_name(tool: Tool, longest: int) -> None:
    param = f"{tool.path}.name"
    if not tool.name:
        raise missing(param) if tool.name is None else _no_match(param)
    if tool.type == "function":
        check_name(param, tool.name, longest)
    else:
        shorter(param, tool.name, longest)


def check_name(param: str, name: str, longest: int = NAME_MAX) -> None:
    """Names are 1 to 64 letters, digits, underscores and dashes."""
    shorter(param, name, longest)
    if not NAME.fullmatch(name):
        raise _no_match(param)


def _no_match(param: str) -> Exception:
    text = f"Invalid '{param}': string does not match pattern. Expected a string that matches the pattern "
    return invalid(text + "'^[a-zA-Z0-9_-]+$'.", param)


def _read_format(raw: msgspec.Raw, path: str) -> tuple[str, str] | None:
    if bytes(raw) == b"null":
        return None
    form = decode(_format, raw, path)
    if form.type not in ("text", "grammar"):
        raise bad_choice(f"{path}.type", form.type, ("text", "grammar"))
    if form.type == "text":
        return None
    if form.syntax is None or form.definition is None:
        raise missing(f"{path}.{'syntax' if form.syntax is None else 'definition'}")
    if form.syntax not in SYNTAXES:
        raise bad_choice(f"{path}.syntax", form.syntax, SYNTAXES)
    return form.syntax, form.definition


def _read_inner(raw: msgspec.Raw, path: str) -> tuple[Tool, ...]:
    if bytes(raw) == b"null":
        raise missing(path)
    raws = decode(_raws, raw, path)
    if not raws:
        raise empty_array(path)
    fewer(path, len(raws), TOOLS_MAX)
    return tuple(_read_tool(bytes(inner), f"{path}[{index}]", inside=True) for index, inner in enumerate(raws))


def echo(tool: Tool) -> bytes:
    """The declaration as the Response repeats it: given members, defaults filled in, secrets left out."""
    members = decode_object(tool.raw)
    if tool.type == "function":
        members.setdefault("description", _NULL)
        members.setdefault("parameters", _NULL)
        members["strict"] = msgspec.Raw(b"true" if tool.strict else b"false")
    if tool.type == "custom" and members.get("format", _NULL) == _NULL:
        members["format"] = msgspec.Raw(b'{"type":"text"}')
    if tool.type == "namespace":
        members["tools"] = msgspec.Raw(
            msgspec.json.encode([_loading(decode_object(inner.raw)) for inner in tool.inner])
        )
    return msgspec.json.encode(_without_secrets(_loading(members)))


def _loading(members: dict[str, msgspec.Raw]) -> dict[str, msgspec.Raw]:
    """``defer_loading`` is true, false or not there: both published documents know no null of it."""
    if members.get("defer_loading") == _NULL:
        del members["defer_loading"]
    return members


def _without_secrets(members: dict[str, msgspec.Raw]) -> dict[str, msgspec.Raw]:
    """``headers`` may be null in a Response; ``authorization`` may only be left out (reference 7)."""
    kept = {name: value for name, value in members.items() if name != "authorization"}
    return {name: _NULL if name in SECRETS else value for name, value in kept.items()}


def as_listed(raw: msgspec.Raw) -> msgspec.Raw:
    """The declarations of an item as lists show them: secrets left out, and null for what a function leaves open.

    Unlike in a Response nothing is decided for the client, as later turns read them again.
    """
    return msgspec.Raw(msgspec.json.encode([_as_listed(tool) for tool in _raws.decode(raw)]))


def _as_listed(raw: msgspec.Raw) -> msgspec.Raw:
    """The very bytes where nothing is to be changed."""
    given = decode_object(raw)
    told = _without_secrets(_loading(dict(given)))
    if told["type"] == _FUNCTION:
        told = _OPEN | told
    return raw if told == given else msgspec.Raw(msgspec.json.encode(told))


_FUNCTION = msgspec.Raw(b'"function"')
#: What a published ``FunctionTool`` must name, in both documents.
_OPEN = {"description": _NULL, "parameters": _NULL, "strict": _NULL}


# --- Choice ---


def read_choice(raw: msgspec.Raw) -> ToolChoice:
    """``tool_choice`` in each of its forms.  Whether what it names is declared is known with the items only."""
    data = bytes(raw).strip()
    if not data or data == b"null":
        return ToolChoice()
    if data[:1] == b'"':
        mode = msgspec.json.decode(data, type=str)
        if mode not in CHOICE_MODES:
            raise bad_choice("tool_choice", mode, CHOICE_MODES)
        return ToolChoice(mode, echo=data)
    pick = decode(_pick, data, "tool_choice")
    if pick.type == "allowed_tools":
        return _read_allowed(data)
    _check_pick(pick, "tool_choice")
    return ToolChoice("required", pick.type, echo=data, picks=(pick,))


def _read_allowed(data: bytes) -> ToolChoice:
    allowed = decode(_allowed, data, "tool_choice")
    if allowed.mode not in ("auto", "required"):
        raise bad_choice("tool_choice.mode", allowed.mode, ("auto", "required"))
    if not allowed.tools:
        raise empty_array("tool_choice.tools")
    fewer("tool_choice.tools", len(allowed.tools), TOOLS_MAX)
    for index, pick in enumerate(allowed.tools):
        _check_pick(pick, f"tool_choice.tools[{index}]")
    # The mode is optional in requests and not in Responses (reference 5.3).
    members = {"mode": msgspec.Raw(b'"auto"'), **decode_object(data)}
    return ToolChoice(allowed.mode, "allowed_tools", (), msgspec.json.encode(members), tuple(allowed.tools))


def _check_pick(pick: Pick, param: str) -> None:
    if pick.type in (*INNER_TYPES, "namespace") and pick.name is None:
        raise missing(f"{param}.name")
