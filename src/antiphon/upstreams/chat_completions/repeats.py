"""The text of a chunk that is like the one before it but for its text, without parsing the rest again.

A model's server sends the same bytes around every token.  What was parsed once need not be parsed again: bytes that
stand for the same JSON around a string without quotes and escapes mean the same but for that string.
Pure.  Must not know what else a chunk may hold.
"""

import re

_CONTENT = re.compile(rb'"content": ?"')
#: Servers with something new in every chunk are not learned from for ever.
TRIES_MAX = 8


class Repeats:
    """What stands before and behind the text of an event that held nothing but text."""

    __slots__ = ("_head", "_tail", "_tries")

    def __init__(self) -> None:
        self._head = b""
        self._tail = b""
        self._tries = 0

    def text(self, data: bytes) -> str | None:
        """The text of one whole event that is like the last; None where it has to be parsed."""
        head, tail = self._head, self._tail
        if not head or not data.startswith(head) or not data.endswith(tail):
            return None
        said = data[len(head) : -len(tail)]
        if b'"' in said or b"\\" in said:
            return None
        try:
            text = said.decode()
        except UnicodeDecodeError:
            return None
        if not text.isprintable():
            return None
        self._tries = 0
        return text

    def forget(self) -> None:
        """The last event was something else."""
        self._head = b""

    def learn(self, data: bytes, text: str) -> None:
        """``data``: a whole event of which parsing has found this text and nothing else."""
        self._head = b""
        if self._tries > TRIES_MAX:
            return
        self._tries += 1
        places = [match.end() for match in _CONTENT.finditer(data)]
        said = text.encode("utf-8", "replace")
        if len(places) == 1 and said and data.startswith(said + b'"', places[0]):
            self._head, self._tail = data[: places[0]], data[places[0] + len(said) :]
