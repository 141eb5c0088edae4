"""Calls that llama.cpp must write and would not: under a grammar that knows nothing else, read back into calls.  Pure.

With ``tool_choice: required`` its own grammars let the model talk first, for as long as it likes.  So the chat template
shows the model its tools, as in every other turn, but the engine is not told of them: what comes is text.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from antiphon.engine.deltas import Delta, TextDelta
from antiphon.protocol.tools import Tool
from antiphon.upstreams.chat_completions.calls import Calls

encode = msgspec.json.encode

Members = dict[str, Any]

#: llguidance's, of JSON: written as most models have learnt to, and keywords that it does not know bind nothing.
_GUIDANCE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": ", "lenient": True}
#: Of integers without bounds: an unsure model would write digits for ever.
INTEGER_MAX = 999_999_999_999_999
#: Keywords whose schemas hold beside others, so that none of them knows all members of an object.
_PARTIAL = frozenset(
    {"allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas", "$defs", "definitions"}
)
#: Keywords by which an object says what else it may hold.
_OPEN = _PARTIAL | {"additionalProperties", "unevaluatedProperties", "patternProperties", "$ref"}
#: Keywords whose values are no schemas.
_VALUES = frozenset({"const", "default", "enum", "examples", "required"})
#: How a call ends, behind its arguments.  Without it the small model, which says both in one token, finds no end.
TAIL = "}</tool_call>"
#: Members of a body that grammar and text of our own stand for.
_REPLACED = ("tools", "tool_choice", "parallel_tool_calls", "response_format")


def is_forced(form: Members) -> bool:
    """Whether a body demands a call."""
    return form.get("tool_choice") == "required"


def forced(form: Members, *, shows_tools: bool) -> Members:
    """The same body, so that a call comes as text.  ``shows_tools``: the chat template does."""
    functions = [tool["function"] for tool in form["tools"]]
    body = {name: value for name, value in form.items() if name not in _REPLACED}
    kwargs: Members = {**(body.get("chat_template_kwargs") or {}), "enable_thinking": False}
    if shows_tools:
        kwargs["tools"] = form["tools"]
    else:
        body["messages"] = _described(functions, body["messages"])
    body |= {"chat_template_kwargs": kwargs, "reasoning_format": "none", "grammar": grammar_of(functions)}
    return body


def _described(functions: Sequence[Members], messages: Sequence[Members]) -> list[Members]:
    """The messages, with the functions told first; many templates refuse a second system message."""
    text = "\n".join(["You call one of these functions:", *(encode(function).decode() for function in functions)])
    if messages and messages[0]["role"] == "system" and isinstance(messages[0]["content"], str):
        return [{"role": "system", "content": f"{text}\n\n{messages[0]['content']}"}, *messages[1:]]
    return [{"role": "system", "content": text}, *messages]


def grammar_of(functions: Sequence[Members]) -> str:
    """One call of one of the functions, for llguidance."""
    calls = [f"call_{index}" for index in range(len(functions))]
    rules = ["%llguidance {}", f"start: {' | '.join(calls)}"]
    for call, function in zip(calls, functions, strict=True):
        head, tail = (encode(part).decode() for part in (head_of(function["name"]), TAIL))
        rules += [f"{call}: {head} {call}_json {tail}", f"{call}_json: %json {encode(_schema_of(function)).decode()}"]
    return "\n".join([*rules, ""])


def head_of(name: str) -> str:
    """How a call begins, up to its arguments; the form that most open models have learnt, the bundled one too."""
    return f'<tool_call>{{"name": {encode(name).decode()}, "arguments": '


def _schema_of(function: Members) -> Members:
    given = function.get("parameters")
    if given is None:
        return {"type": "object", "properties": {}, "additionalProperties": False, "x-guidance": _GUIDANCE}
    schema = msgspec.json.decode(encode(given))
    return {**_bounded({"type": "object", **schema}), "x-guidance": _GUIDANCE}


def _bounded(schema: Any, *, closes: bool = True) -> Any:
    """The schema, whose integers and objects have an end: an unsure model would write on for ever."""
    if isinstance(schema, list):
        return [_bounded(one, closes=closes) for one in schema]
    if not isinstance(schema, dict):
        return schema
    bounded = {
        name: value if name in _VALUES else _bounded(value, closes=closes and name not in _PARTIAL)
        for name, value in schema.items()
    }
    if schema.get("type") == "integer":
        bounds = {"minimum": -INTEGER_MAX, "maximum": INTEGER_MAX}
        bounded |= {name: end for name, end in bounds.items() if not _is_bounded(schema, name)}
    if closes and schema.get("type") == "object" and schema.keys().isdisjoint(_OPEN):
        bounded["additionalProperties"] = False
    return bounded


def _is_bounded(schema: Mapping[str, Any], name: str) -> bool:
    return name in schema or f"exclusive{name.capitalize()}" in schema or not schema.keys().isdisjoint(_VALUES)


class CallReader:
    """Text that is one call of these tools, as it comes."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        self._calls = Calls(tools)
        self._heads = {head_of(tool.name or ""): tool.name or "" for tool in tools}
        self._begun = False
        #: What may be part of the head, or of the tail.
        self._held = ""

    def take(self, deltas: Sequence[Delta]) -> list[Delta]:
        """The deltas as they should be."""
        return [call for delta in deltas if isinstance(delta, TextDelta) for call in self._read(delta.text)]

    def _read(self, text: str) -> list[Delta]:
        self._held += text
        name = ""
        if not self._begun:
            head = next((head for head in self._heads if head in self._held), None)
            if head is None:
                return []
            self._begun = True
            name, self._held = self._heads[head], self._held.partition(head)[2]
        kept = next(size for size in range(len(TAIL), -1, -1) if self._held.endswith(TAIL[:size]))
        arguments, self._held = self._held[: len(self._held) - kept], TAIL[:kept]
        told = self._calls.take(0, "", name, arguments) if name or arguments else None
        return [] if told is None else [told]
