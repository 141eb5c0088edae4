"""JSON as some programs write it although it is none, made into JSON.

Python programs send ``NaN``, ``-Infinity`` and halves of surrogate pairs, others raw control characters or bytes that
are no UTF-8.  One such token is no reason to lose a whole text.  The slow path: only for what would not decode.
Must not know whose text it is.
"""

import json
import re
from typing import Any, NoReturn

#: An escaped half of a surrogate pair without the other one.  It may also find what is none, behind an escaped
#: backslash; then the text is only written anew.
_HALF = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)


def mended(data: bytes) -> bytes | None:
    """The same value as valid JSON: null for numbers that are none, U+FFFD for what is no text; else None."""
    try:
        value = json.loads(data.decode("utf-8", "replace"), strict=False, parse_constant=lambda _: None)
        return _written(value)
    except (ValueError, RecursionError):
        return None


def with_whole_characters(data: bytes) -> bytes | None:
    """The same value with U+FFFD for lone halves of surrogate pairs; None where there are none, or for other faults."""
    if _HALF.search(data) is None:
        return None
    try:
        return _written(json.loads(data, parse_constant=_refuse))
    except (ValueError, RecursionError):
        return None  # the parser that reads it next says what is wrong


def _written(value: Any) -> bytes:
    """Both halves of a pair are joined, a lone one is replaced.  Raises ``ValueError`` for infinite numbers."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
