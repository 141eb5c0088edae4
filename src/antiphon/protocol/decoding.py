"""Bytes into typed requests, and what is wrong with them in the official words.

Must not know what a request means.  Codes and wordings: responses-api reference, section 10.
"""

import re
from typing import TypeVar

import msgspec

from antiphon.protocol.errors import ApiError, invalid, missing, quoted
from antiphon.protocol.mending import with_whole_characters

T = TypeVar("T")

_MISMATCH = re.compile(r"Expected `(?P<expected>[^`]+)`, got `(?P<got>[^`]+)`(?: - at `(?P<path>[^`]+)`)?")
_ABSENT = re.compile(r"Object missing required field `(?P<field>[^`]+)`(?: - at `(?P<path>[^`]+)`)?")
_NAMES = {
    "str": "a string",
    "int": "an integer",
    "float": "a decimal",
    "bool": "a boolean",
    "array": "an array",
    "object": "an object",
    "null": "null",
}
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_skip = msgspec.json.Decoder(msgspec.Raw).decode

#: Brackets in a body from which on its nesting is looked at, and the levels that must be left above it: parts of a
#: request come back inside Responses, events and lists, which are read again.
BRACKETS_MAX, LEVELS_SPARE = 500, 100


def members_of(body: bytes) -> tuple[bytes, dict[str, msgspec.Raw]]:
    """The body on one line, and the top-level members of its object; anything else is a 400.

    One line, since parts of the body are spliced into events, whose frames end where a line ends.
    """
    try:
        if not body.isascii():
            body.decode()  # what is skipped is not checked by the parser
        body, members = _mendable_members(body)
        if b"\n" in body or b"\r" in body:
            body = msgspec.json.format(body, indent=-1)
            members = _decode_members(body)
    except msgspec.ValidationError:
        raise invalid("Invalid type for request body: expected a JSON object.", None, "invalid_type") from None
    except RecursionError:
        raise ApiError(400, "We could not parse the JSON body of your request: it is nested too deeply.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        message = f"We could not parse the JSON body of your request: {error}."
        raise ApiError(400, message) from None
    return body, members


def _mendable_members(body: bytes) -> tuple[bytes, dict[str, msgspec.Raw]]:
    """The body and its members; halves of surrogate pairs, which the parser refuses, are replaced."""
    try:
        return body, _shallow_members(body)
    except msgspec.DecodeError:
        whole = with_whole_characters(body)
        if whole is None:
            raise
    return whole, _shallow_members(whole)


def _shallow_members(body: bytes) -> dict[str, msgspec.Raw]:
    """Raises ``RecursionError`` for what is nested too deeply."""
    if body.count(b"[") + body.count(b"{") > BRACKETS_MAX:
        _skip(b"[" * LEVELS_SPARE + body + b"]" * LEVELS_SPARE)
    return _decode_members(body)


def decode(decoder: "msgspec.json.Decoder[T]", data: bytes | msgspec.Raw, path: str = "") -> T:
    """Decodes, or raises the official 400; ``path`` is put before the parameter's name."""
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        raise _explain(str(error), path) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid(f"Invalid JSON in '{path or 'body'}': {error}.", path or None, "invalid_type") from None


def _explain(message: str, path: str) -> ApiError:
    if found := _ABSENT.search(message):
        return missing(_join(path, found["path"], found["field"]))
    if found := _MISMATCH.search(message):
        param = _join(path, found["path"])
        got = _NAMES.get(found["got"], found["got"])
        text = f"Invalid type for '{param}': expected {_expected(found['expected'])}, but got {got} instead."
        return invalid(text, param or None, "invalid_type")
    where = message.rpartition(" - at `$")[2].rstrip("`") if " - at `$" in message else ""
    return invalid(f"{quoted(message.partition(' - at ')[0])}.", _join(path, where) or None)


def _expected(names: str) -> str:
    kinds = [_NAMES.get(name, name) for name in names.split(" | ") if name != "null"]
    return kinds[0] if len(kinds) == 1 else "one of " + " or ".join(kinds)


def _join(path: str, *rest: str | None) -> str:
    joined = path
    for piece in rest:
        clean = (piece or "").removeprefix("$").replace("[...]", "")  # the parser does not tell keys
        joined += clean if clean.startswith((".", "[")) or not joined or not clean else "." + clean
    return joined.removeprefix(".")


def within(param: str, value: float | None, low: float, high: float, *, whole: bool = False) -> None:
    """400 when a number is outside its range."""
    if value is None or low <= value <= high:
        return
    kind = "integer" if whole else "decimal"
    below = value < low
    bound, side = (low, "below minimum") if below else (high, "above maximum")
    limit = f"Expected a value {'>=' if below else '<='} {_plain(bound)}"
    text = f"Invalid '{param}': {kind} {side} value. {limit}, but got {_plain(value)} instead."
    raise invalid(text, param, f"{kind}_{'below_min' if below else 'above_max'}_value")


def fewer(param: str, count: int, limit: int) -> None:
    """400 when an array is too long."""
    if count > limit:
        text = (
            f"Invalid '{param}': array too long. Expected an array with maximum length {limit}, "
            f"but got an array with length {count} instead."
        )
        raise invalid(text, param, "array_above_max_length")


def shorter(param: str, value: str | None, limit: int) -> None:
    """400 when a string is too long."""
    if value is not None and len(value) > limit:
        text = (
            f"Invalid '{param}': string too long. Expected a string with maximum length {limit}, "
            f"but got a string with length {len(value)} instead."
        )
        raise invalid(text, param, "string_above_max_length")


def _plain(number: float) -> str:
    if abs(number) >= 10**18:
        return f"{number:g}"
    return str(int(number)) if number == int(number) else str(number)
