"""Reads JSON text as it comes, piece by piece, and tells at once when it can no longer become what a schema asks for.

The order of keys, white space, escapes and the ways to write a number are free, as JSON has it.  JSON nests without
choice, so all shapes that may still fit are kept side by side: one frame for each open container, in it one thread
for each shape with the threads outside it that it serves.
Must not know JSON Schema; what may be said where is a matter of ``shapes``.
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple, NoReturn

from antiphon.engine.shapes import (
    ARRAY,
    BOOLEAN,
    NAMES,
    NULL,
    NUMBER,
    OBJECT,
    STRING,
    Scalar,
    Shape,
    Shapes,
    starts_one,
)

#: Open containers of a text, characters of a number, and shapes that are followed at once.
DEPTH_MAX = 100
NUMBER_CHARS_MAX = 400
THREADS_MAX = 2_000
#: Characters of a key or string that a reason repeats.
QUOTED_MAX = 60

_SPACE = re.compile(r"[ \t\n\r]*")
_PLAIN = re.compile(r'[^"\\\x00-\x1f\ud800-\udfff]*')
_NUMBER_CHARS = re.compile(r"[-+0-9.eE]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_NUMBER_BEGUN = re.compile(
    r"-?(?:0|[1-9][0-9]*)?|-?(?:0|[1-9][0-9]*)\.[0-9]*|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?[eE][-+]?[0-9]*"
)
_WORDS: dict[str, tuple[int, bool | None]] = {"true": (BOOLEAN, True), "false": (BOOLEAN, False), "null": (NULL, None)}
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_ESCAPE_BEGUN = re.compile(r'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{0,4}|u[dD][89abAB][0-9a-fA-F]{2}\\(?:u[0-9a-fA-F]{0,4})?)?')
_KINDS = {
    '"': STRING,
    "{": OBJECT,
    "[": ARRAY,
    "t": BOOLEAN,
    "f": BOOLEAN,
    "n": NULL,
    **dict.fromkeys("-0123456789", NUMBER),
}

#: Shapes of a value, each with the threads outside that it serves.
Places = dict[Shape, list[int]]


class _Wrong(Exception):
    """The text cannot become what is asked for; the message is a sentence."""


class _Thread(NamedTuple):
    shape: Shape
    serves: Sequence[int]


class _Frame:
    """An open container, and the shapes that it may still have."""

    __slots__ = ("count", "key", "kind", "seen", "threads")

    def __init__(self, kind: int, threads: list[_Thread]) -> None:
        self.kind = kind
        self.threads = threads
        self.seen: set[str] = set()
        self.key = ""
        self.count = 0


class JsonChecker:
    """One text.  ``reason`` tells as a sentence, with the place, why it can no longer fit."""

    def __init__(self, shapes: Shapes) -> None:
        self.reason: str | None = None
        self._frames: list[_Frame] = []
        self._places: Places = {shape: [0] for shape in shapes.root}
        self._step: Callable[[str, int], int] = self._value
        self._kind = 0
        #: Pieces of the open string, key, number or word, and how many characters they are.
        self._pieces: list[str] = []
        self._count = 0
        self._escape = ""
        self._keys: list[list[str]] = []

    def feed(self, text: str) -> bool:
        """Takes the next piece; False: the whole can no longer fit, and stays so."""
        if self.reason is not None:
            return False
        at, end = 0, len(text)
        try:
            while at < end:
                at = self._step(text, at)
        except _Wrong as wrong:
            self.reason = str(wrong)
        return self.reason is None

    @property
    def complete(self) -> bool:
        """Whether what was said fits as it is."""
        if self.reason is not None:
            return False
        if self._step == self._number and not self._frames:
            return bool(self._fitting(NUMBER, _number_of("".join(self._pieces))))
        return self._step == self._ended

    # --- Values ---

    def _value(self, text: str, at: int) -> int:
        at = _skip(text, at)
        if at == len(text):
            return at
        kind = _KINDS.get(text[at], 0)
        fitting = {shape: serves for shape, serves in self._places.items() if shape.kinds & kind}
        if not fitting:
            self._fail_kind(kind, text[at])
        self._places = fitting
        self._kind = kind
        if kind & (OBJECT | ARRAY):
            self._open(kind)
            return at + 1
        self._pieces, self._count = [], 0
        self._step = {STRING: self._string, NUMBER: self._number}.get(kind, self._word)
        return at + 1 if kind == STRING else at

    def _open(self, kind: int) -> None:
        if len(self._frames) >= DEPTH_MAX:
            self._fail(f"the text is nested deeper than {DEPTH_MAX} levels.")
        self._frames.append(_Frame(kind, [_Thread(shape, serves) for shape, serves in self._places.items()]))
        self._step = self._first_key if kind == OBJECT else self._first_item

    def _string(self, text: str, at: int) -> int:
        at, ended = self._scan(text, at)
        if ended:
            value = "".join(self._pieces)
            self._finish(STRING, value)
        elif not any(shape.begins(self._pieces, self._count) for shape in self._places):
            self._fail(f"no string that is allowed here begins with {_quoted(''.join(self._pieces))}.")
        return at

    def _number(self, text: str, at: int) -> int:
        end = self._collect(_NUMBER_CHARS, text, at)
        begun = "".join(self._pieces)
        if self._count > NUMBER_CHARS_MAX or not _NUMBER_BEGUN.fullmatch(begun):
            self._fail(f"{_quoted(begun)} does not begin a number.")
        if end < len(text):
            if not _NUMBER.fullmatch(begun):
                self._fail(f"{_quoted(begun)} is not a number.")
            self._finish(NUMBER, _number_of(begun))
        return end

    def _word(self, text: str, at: int) -> int:
        self._pieces.append(text[at])
        begun = "".join(self._pieces)
        if begun in _WORDS:
            self._finish(*_WORDS[begun])
        elif not any(word.startswith(begun) for word in _WORDS):
            self._fail(f"{_quoted(begun)} does not begin a value.")
        return at + 1

    def _collect(self, pattern: re.Pattern[str], text: str, at: int) -> int:
        found = pattern.match(text, at)
        assert found is not None
        self._pieces.append(found[0])
        self._count += len(found[0])
        return found.end()

    def _finish(self, kind: int, value: Scalar) -> None:
        """A scalar is whole."""
        serves = self._fitting(kind, value)
        if not serves:
            self._fail(f"{_quoted(value)} is not allowed here.")
        self._settle(serves)

    def _fitting(self, kind: int, value: Scalar) -> set[int]:
        """The threads outside for which the scalar is right."""
        if isinstance(value, float) and value in (float("inf"), float("-inf")):
            return set()
        return {thread for shape, serves in self._places.items() if shape.allows(kind, value) for thread in serves}

    def _settle(self, serves: set[int]) -> None:
        """A value is whole and right for these threads of the frame that it stands in."""
        if not self._frames:
            self._step = self._ended
            return
        frame = self._frames[-1]
        if len(serves) < len(frame.threads):
            frame.threads = [thread for index, thread in enumerate(frame.threads) if index in serves]
        frame.count += 1
        frame.key = ""
        self._step = self._behind

    # --- Strings ---

    def _scan(self, text: str, at: int) -> tuple[int, bool]:
        """Takes the open string's characters; whether it ended."""
        if self._escape:
            return self._unescape(text, at), False
        end = self._collect(_PLAIN, text, at)
        if end == len(text):
            return end, False
        if text[end] == '"':
            return end + 1, True
        if text[end] != "\\":
            self._fail("a string has a character that must be escaped.")
        self._escape = "\\"
        return end + 1, False

    def _unescape(self, text: str, at: int) -> int:
        """Takes one character of an escape; the two halves of a surrogate pair are one."""
        self._escape += text[at]
        escape = self._escape
        if not _ESCAPE_BEGUN.fullmatch(escape):
            self._fail(f"{_quoted(escape)} is not an escape.")
        if escape[1] in _ESCAPES:
            self._take_escaped(_ESCAPES[escape[1]])
        elif len(escape) == 6:
            unit = int(escape[2:6], 16)
            if 0xDC00 <= unit < 0xE000:
                self._fail(f"{_quoted(escape)} is half of a surrogate pair.")
            if not 0xD800 <= unit < 0xDC00:
                self._take_escaped(chr(unit))
        elif len(escape) == 12:
            self._take_pair(int(escape[2:6], 16), int(escape[8:], 16))
        return at + 1

    def _take_pair(self, high: int, low: int) -> None:
        if not 0xDC00 <= low < 0xE000:
            self._fail(f"{_quoted(self._escape)} is half of a surrogate pair.")
        self._take_escaped(chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)))

    def _take_escaped(self, character: str) -> None:
        self._escape = ""
        self._pieces.append(character)
        self._count += 1

    # --- Objects ---

    def _first_key(self, text: str, at: int) -> int:
        at = _skip(text, at)
        if at < len(text) and text[at] == "}":
            self._close(self._frames[-1])
            return at + 1
        return self._next_key(text, at)

    def _next_key(self, text: str, at: int) -> int:
        at = _skip(text, at)
        if at == len(text):
            return at
        if text[at] != '"':
            self._fail(f"{_quoted(text[at])} does not begin a key.")
        frame = self._frames[-1]
        self._keys = [thread.shape.keys for thread in frame.threads]
        self._pieces, self._count = [], 0
        self._step = self._key
        self._check_key("")
        return at + 1

    def _key(self, text: str, at: int) -> int:
        at, ended = self._scan(text, at)
        begun = "".join(self._pieces)
        if ended:
            self._take_key(begun)
        else:
            self._check_key(begun)
        return at

    def _check_key(self, begun: str) -> None:
        seen = self._frames[-1].seen
        if not any(starts_one(keys, begun, seen) for keys in self._keys):
            self._fail(f"no key that is allowed here begins with {_quoted(begun)}." if begun else "no more keys fit.")

    def _take_key(self, key: str) -> None:
        frame = self._frames[-1]
        if key in frame.seen:
            self._fail(f"the key {_quoted(key)} is there twice.")
        self._expect([thread.shape.property(key) for thread in frame.threads])
        if not self._places:
            self._fail(f"the key {_quoted(key)} is not allowed here.")
        frame.seen.add(key)
        frame.key = key
        self._step = self._colon

    def _colon(self, text: str, at: int) -> int:
        at = _skip(text, at)
        if at == len(text):
            return at
        if text[at] != ":":
            self._fail(f"{_quoted(text[at])} stands where a colon must be.")
        self._step = self._value
        return at + 1

    def _expect(self, shapes: Sequence[Sequence[Shape]]) -> None:
        """What may come next inside the innermost container: the shapes that each of its threads has there."""
        places: Places = {}
        for index, fitting in enumerate(shapes):
            for shape in fitting:
                places.setdefault(shape, []).append(index)
        if len(places) > THREADS_MAX:
            self._fail(f"more than {THREADS_MAX} cases of the schema would have to be followed at once.")
        self._places = places

    # --- Arrays, and what stands behind values ---

    def _first_item(self, text: str, at: int) -> int:
        at = _skip(text, at)
        if at == len(text):
            return at
        if text[at] == "]":
            self._close(self._frames[-1])
            return at + 1
        self._expect_item()
        return at

    def _expect_item(self) -> None:
        frame = self._frames[-1]
        shapes = [thread.shape for thread in frame.threads]
        self._expect([shape.item(frame.count) if shape.takes_item(frame.count) else () for shape in shapes])
        if not self._places:
            self._fail(f"the array may not have more than {frame.count} items.")
        self._step = self._value

    def _behind(self, text: str, at: int) -> int:
        at = _skip(text, at)
        if at == len(text):
            return at
        frame, character = self._frames[-1], text[at]
        if character == ("}" if frame.kind == OBJECT else "]"):
            self._close(frame)
        elif character != ",":
            self._fail(f"{_quoted(character)} stands where a comma or an end must be.")
        elif frame.kind == ARRAY:
            self._expect_item()
        else:
            self._keys = [thread.shape.keys for thread in frame.threads]
            self._check_key("")
            self._step = self._next_key
        return at + 1

    def _close(self, frame: _Frame) -> None:
        if frame.kind == OBJECT:
            right = [thread for thread in frame.threads if thread.shape.required <= frame.seen]
            if not right:
                missing = min(frame.threads[0].shape.required - frame.seen)
                self._frame_fails(f"the key {_quoted(missing)} is missing.")
        else:
            right = [thread for thread in frame.threads if frame.count >= thread.shape.min_items]
            if not right:
                self._frame_fails(f"{frame.count} items are too few.")
        self._frames.pop()
        self._settle({index for thread in right for index in thread.serves})

    def _ended(self, text: str, at: int) -> int:
        end = _skip(text, at)
        if end < len(text):
            self._fail(f"{_quoted(text[end])} stands behind the end.")
        return end

    # --- What is wrong ---

    def _fail_kind(self, kind: int, character: str) -> NoReturn:
        if not kind:
            self._fail(f"{_quoted(character)} does not begin a value.")
        allowed = 0
        for shape in self._places:
            allowed |= shape.kinds
        names = " or ".join(name for bit, name in NAMES.items() if bit & allowed)
        self._fail(f"expected {names or 'nothing'}, but got {NAMES[kind]}.")

    def _frame_fails(self, text: str) -> NoReturn:
        self._frames.pop()
        self._fail(text)

    def _fail(self, text: str) -> NoReturn:
        path = "$"
        for frame in self._frames:
            path += f".{frame.key}" if frame.kind == OBJECT and frame.key else ""
            path += f"[{frame.count}]" if frame.kind == ARRAY else ""
        raise _Wrong(f"At {path[:QUOTED_MAX]}: {text}")


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None
    return found.end()


def _number_of(text: str) -> int | float:
    if not _NUMBER.fullmatch(text):
        return float("inf")
    return float(text) if any(character in text for character in ".eE") else int(text)


def _quoted(value: Scalar) -> str:
    text = repr(value)
    return text if len(text) <= QUOTED_MAX else f"{text[:QUOTED_MAX]}..."
