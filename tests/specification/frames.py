"""A strict reader of the server's SSE bytes, for tests.

Stricter than any client: what the compliance suite or one real client trips over is refused here.
Knows the framing only, nothing of what the events say.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

DONE = "data: [DONE]"


def parse_sse(data: bytes) -> list[dict[str, Any]]:
    """The events of a finished stream, in order.

    Raises AssertionError unless every block is `event: TYPE`, then one `data: ` line with a JSON object of that type,
    then an empty line; lines end in LF alone; the last block is `data: [DONE]`. Comment lines (`: keepalive`) may stand
    before a block or alone. `id:` and `retry:` are refused, as are CR and a byte order mark.
    """
    text = _decoded(data)
    assert "\r" not in text, f"a CR at character {text.index(chr(13))}: lines end in LF alone"
    assert text.endswith("\n\n"), f"the stream stops in the middle of a block: {text[-80:]!r}"
    blocks = [_without_comments(block) for block in text[:-2].split("\n\n")]
    assert blocks[-1] == [DONE], f"the last block is {blocks[-1]}, not {DONE!r}"
    return [_event(lines) for lines in blocks[:-1] if lines]


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise AssertionError(f"not UTF-8: {error}") from None


def _without_comments(block: str) -> list[str]:
    lines = block.split("\n")
    first = next((number for number, line in enumerate(lines) if not line.startswith(":")), len(lines))
    assert first == len(lines) or lines[first], f"an empty line too many before {lines[first:]}"
    return lines[first:]


def _event(lines: list[str]) -> dict[str, Any]:
    assert lines != [DONE], f"{DONE!r} before the end"
    fields = [line.partition(": ")[0] for line in lines]
    assert fields == ["event", "data"], f"a block needs one event: line, then one data: line: {_shown(lines)}"
    name, text = (line.partition(": ")[2] for line in lines)
    try:
        event = json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise AssertionError(f"data is no JSON: {error}: {text[:120]!r}") from None
    assert isinstance(event, dict), f"data is no object: {_shown(lines)}"
    assert event.get("type") == name, f"event: {name!r}, but type {event.get('type')!r}"
    return event


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    assert len(result) == len(pairs), f"a key twice in one object: {[key for key, _ in pairs]}"
    return result


def _no_constant(name: str) -> NoReturn:
    raise AssertionError(f"{name} is no JSON")


def _shown(lines: list[str]) -> list[str]:
    return [line[:120] for line in lines]
