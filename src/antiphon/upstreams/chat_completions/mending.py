"""JSON as some servers write it although it is none, made into JSON.

Python servers send ``NaN``, ``-Infinity`` and halves of surrogate pairs, others raw control characters or bytes that
are no UTF-8.  One such token is no reason to lose a whole reply.  The slow path: only for what would not decode.
"""

import json


def mended(data: bytes) -> bytes | None:
    """The same value as valid JSON: null for numbers that are none, U+FFFD for what is no text; else None."""
    try:
        value = json.loads(data.decode("utf-8", "replace"), strict=False, parse_constant=lambda _: None)
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except (ValueError, RecursionError):
        return None
    # Both halves of a pair are joined, a lone one is replaced.
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()
