"""The events by which tools of the upstream tell how far they are, in the order that clients rely on (reference 8.2).

An upstream that tells of an item only when it is whole, or leaves steps out, is helped along.  Pure.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

encode = msgspec.json.encode

Members = Mapping[str, bytes]


class Told(NamedTuple):
    """An event: its type, and its members besides number and place."""

    type: str
    members: Members


class _Step(NamedTuple):
    """An event of an item; ``many`` may come any number of times.

    ``member``: what it is called in the item that ``field`` of the event tells, or a piece of.
    """

    event: str
    many: bool = False
    field: str = ""
    member: str = ""


def _own(kind: str, *suffixes: str) -> list[_Step]:
    return [_Step(f"response.{kind}.{suffix}") for suffix in suffixes]


def _text(events: str, member: str) -> list[_Step]:
    pieces = _Step(f"response.{events}.delta", many=True, field="delta", member=member)
    return [pieces, _Step(f"response.{events}.done", field=member, member=member)]


_SEARCH = ("in_progress", "searching", "completed")
_PICTURE = _Step("response.image_generation_call.partial_image", many=True)
#: What comes one after the other; the last is told as failed where the item is.
_STEPS: Mapping[str, list[_Step]] = {
    "web_search_call": _own("web_search_call", *_SEARCH),
    "file_search_call": _own("file_search_call", *_SEARCH),
    "code_interpreter_call": [
        *_own("code_interpreter_call", "in_progress"),
        *_text("code_interpreter_call_code", "code"),
        *_own("code_interpreter_call", "interpreting", "completed"),
    ],
    "image_generation_call": [
        *_own("image_generation_call", "in_progress", "generating"),
        _PICTURE,
        *_own("image_generation_call", "completed"),
    ],
    "mcp_list_tools": _own("mcp_list_tools", "in_progress", "completed"),
    "mcp_call": [
        *_own("mcp_call", "in_progress"),
        *_text("mcp_call_arguments", "arguments"),
        *_own("mcp_call", "completed"),
    ],
}
#: Those that have an event for their failure.
_FAILING = ("mcp_call", "mcp_list_tools")


class Progress:
    """The steps of one item."""

    def __init__(self, kind: str) -> None:
        self._steps = _STEPS.get(kind, [])
        self._fails = kind in _FAILING
        #: How many of the steps are behind it.
        self._at = 0
        self._said = False

    def begun(self, members: Members) -> Members:
        """The members that it begins with: what events are going to tell is not in it yet."""
        empty = {step.member: b'""' for step in self._steps if step.member}
        if _PICTURE in self._steps:
            empty["result"] = b"null"
        return {name: value if value == b"null" else empty.get(name, value) for name, value in members.items()}

    def told(self, event: Told) -> Iterator[Told]:
        """What is to be told where the upstream tells this: what it left out before it as well."""
        failed = self._fails and event.type.endswith(".failed")
        name = f"{event.type.removesuffix('failed')}completed" if failed else event.type
        found = next((index for index, step in enumerate(self._steps) if step.event == name), None)
        if found is None:
            if not self._steps:
                yield event
            return
        if found < self._at:
            return  # told before
        yield from self._until(found, event.members)
        step = self._steps[found]
        self._at = found if step.many else found + 1
        self._said = self._said or bool(step.many and step.member)
        yield event

    def rest(self, members: Members, status: str) -> Iterator[Told]:
        """What was left out of an item that is over; one that was cut off needs no more than its text."""
        fails = self._fails and (status == "failed" or members.get("error", b"null") != b"null")
        if status != "completed" and not fails:
            texts = [index for index, step in enumerate(self._steps) if step.many and step.member in members]
            yield from self._until(texts[-1] + 1 if texts else self._at, members)
            return
        for event in self._until(len(self._steps), members):
            last = self._at == len(self._steps) and fails
            yield event._replace(type=event.type.replace(".completed", ".failed")) if last else event

    def _until(self, end: int, members: Members) -> Iterator[Told]:
        """The steps before ``end`` that were not told; of the texts, those that are known."""
        while self._at < end:
            step = self._steps[self._at]
            self._at += 1
            text = members.get(step.member, b"null")
            if step.many:
                if step.member and not self._said and _is_text(text):
                    yield Told(step.event, {step.field: text})
            elif step.member:
                yield Told(step.event, {step.field: text if text != b"null" else b'""'})
            else:
                yield Told(step.event, {})


def _is_text(raw: bytes) -> bool:
    value: Any = msgspec.json.decode(raw)
    return isinstance(value, str) and bool(value)
