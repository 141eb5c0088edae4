"""Custom tools for dialects that know functions only, and names that models garble.

A custom tool is shown as a function with one string; ``InputReader`` gets the string out of the arguments while they
come.  Must not know of dialects.
"""

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from antiphon.protocol.tools import Tool

#: The one argument of a custom tool.
INPUT = "input"
_LANGUAGES = {"lark": "a Lark grammar", "regex": "a regular expression"}
_HEAD = re.compile(r'\s*\{\s*"input"\s*:\s*"')
#: So many characters are looked at for the beginning of the string.
_HEAD_CHARS_MAX = 256
_PLAIN = re.compile(r'[^"\\]+')
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_HEX = re.compile(r"[0-9a-fA-F]{4}")
_LOW = re.compile(r"\\u([dD][c-fC-F][0-9a-fA-F]{2})")


def description_of(tool: Tool) -> str:
    """What a model is told of a custom tool, its grammar included."""
    told = [tool.description] if tool.description else []
    if tool.grammar is not None:
        syntax, definition = tool.grammar
        told.append(f"The input must match {_LANGUAGES.get(syntax, syntax)}:\n{definition}")
    return "\n\n".join(told)


def parameters_of(tool: Tool) -> dict[str, Any]:
    """The schema of a custom tool's arguments."""
    kind = "as plain text" if tool.grammar is None else "as plain text that matches the grammar"
    value = {"type": "string", "description": f"The whole input of the tool, {kind}."}
    return {"type": "object", "properties": {INPUT: value}, "required": [INPUT], "additionalProperties": False}


def arguments_of(text: str) -> str:
    """A custom tool's input as the arguments of that function."""
    return msgspec.json.encode({INPUT: text}).decode()


def customs_of(tools: Iterable[Tool]) -> frozenset[str]:
    """The names of custom tools."""
    return frozenset(tool.name or "" for tool in tools if tool.type == "custom")


def aliases_of(tools: Iterable[Tool]) -> dict[str, str]:
    """What models say in place of a name with a namespace, as far as it can mean one tool only."""
    named = [tool for tool in tools if tool.namespace is not None]
    if not named:
        return {}
    names = {tool.name for tool in tools}
    meant: dict[str, set[str]] = {}
    for tool in named:
        own, namespace = tool.own_name or "", tool.namespace
        for said in (own, *(f"{namespace}{between}{own}" for between in ("__", ".", "/", ":", "_", "-"))):
            if said not in names:
                meant.setdefault(said, set()).add(tool.name or "")
    return {said: names.pop() for said, names in meant.items() if len(names) == 1}


class InputReader:
    """The string in a call's arguments, as it comes.

    Arguments of another form are held back until the call is over: what is then found in them is the input, which is
    the text itself where a model has said it without JSON around it.
    """

    def __init__(self) -> None:
        #: The string is over; nothing follows of the input.
        self.whole = False
        self._inside = False
        self._held = ""
        self._pieces: list[str] = []

    def feed(self, piece: str) -> str:
        """What a piece of the arguments adds to the input."""
        if self.whole:
            return ""
        if not self._inside:
            self._pieces.append(piece)
            return self._begin()
        return self._read(self._held + piece)

    def _begin(self) -> str:
        if len(self._held) > _HEAD_CHARS_MAX:
            return ""
        self._held = "".join(self._pieces)[: _HEAD_CHARS_MAX + 1]
        head = _HEAD.match(self._held)
        if head is None:
            return ""
        self._inside = True
        text = "".join(self._pieces)[head.end() :]
        self._pieces.clear()
        return self._read(text)

    def rest(self) -> str:
        """What was held back; the call is over."""
        if self._inside or self.whole:
            return ""
        text = "".join(self._pieces)
        self._pieces.clear()
        self.whole = bool(text)
        return _found_in(text)

    def _read(self, text: str) -> str:
        read: list[str] = []
        at, self._held = 0, ""
        while at < len(text):
            plain = _PLAIN.match(text, at)
            if plain is not None:
                read.append(plain.group())
                at = plain.end()
            elif text[at] == '"':
                self.whole = True
                break
            else:
                character, after = _escaped(text, at)
                if after > len(text):
                    self._held = text[at:]
                    break
                read.append(character)
                at = after
        return "".join(read)


def _escaped(text: str, at: int) -> tuple[str, int]:
    """The character behind the backslash at ``at``, and where it ends; behind the text where it is cut."""
    letter = text[at + 1 : at + 2]
    if letter == "u":
        return _unicode(text, at)
    if not letter:
        return "", at + 2
    # What is no escape of JSON is what a model meant literally, as in a regular expression.
    return _ESCAPES.get(letter, f"\\{letter}"), at + 2


def _unicode(text: str, at: int) -> tuple[str, int]:
    digits = text[at + 2 : at + 6]
    if len(digits) < 4:
        return "", len(text) + 1
    if not _HEX.fullmatch(digits):
        return "\\u", at + 2
    code = int(digits, 16)
    if not 0xD800 <= code < 0xE000:
        return chr(code), at + 6
    if code >= 0xDC00:
        return "\ufffd", at + 6
    behind = text[at + 6 : at + 12]
    if len(behind) < 6 and "\\u".startswith(behind[:2]):
        return "", len(text) + 1
    low = _LOW.fullmatch(behind)
    if low is None:
        return "\ufffd", at + 6
    return chr(0x10000 + ((code - 0xD800) << 10) + int(low[1], 16) - 0xDC00), at + 12


def _found_in(text: str) -> str:
    """The input in arguments that are not of the form that was asked for."""
    try:
        told = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return text
    if isinstance(told, str):
        return told
    if not isinstance(told, dict):
        return text
    if not told:
        return ""
    values = [told[INPUT]] if INPUT in told else list(told.values())
    if len(values) != 1:
        return text
    value = values[0]
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
