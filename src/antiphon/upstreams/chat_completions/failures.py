"""What an upstream's error means, whatever shape it has."""

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Any

import msgspec

from antiphon.engine.ports import UpstreamError

#: Statuses after which another try may work, as long as nothing was generated.
RETRYABLE = frozenset({408, 429, 500, 502, 503, 504, 529})

_TOO_LONG = (
    "context_length_exceeded",
    "exceed_context_size",
    "context length",
    "context size",
    "context window",
    "prompt is too long",
    "longer than the maximum model length",
    "larger than the context",
    "exceeds the maximum number of tokens",
    "`inputs` tokens + `max_new_tokens`",
)
_MESSAGE_MAX = 2000


def failure_of(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> UpstreamError:
    """The error that a reply with this status, body and headers is; 500 for one inside a stream."""
    headers = headers or {}
    if status < 400:
        return UpstreamError(_no_error(status, headers))
    told = _told(body)
    code = told.get("code")
    if isinstance(code, int) and 400 <= code < 600:
        status = code
    message = _message(told, body, status)
    kind = " ".join(str(part) for part in (code, told.get("type"), message)).lower()
    if status in (400, 413, 422, 500) and any(sign in kind for sign in _TOO_LONG):
        return UpstreamError(message, status=400, code="context_length_exceeded", param="input")
    return UpstreamError(
        message,
        status=status if status < 600 else 502,
        code=_code(status, code or told.get("type")),
        retryable=status in RETRYABLE and code != "insufficient_quota",
        retry_after_seconds=_retry_after(headers),
    )


def _no_error(status: int, headers: Mapping[str, str]) -> str:
    if 300 <= status < 400 and "location" in headers:
        return f"The upstream redirects to {headers['location']}; configure that URL instead."
    return f"The upstream answered with status {status}."


def _told(body: bytes) -> dict[str, Any]:
    """The members of the error: under ``error`` or flat (older vLLM, FastAPI's ``detail``), or a bare string."""
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    if isinstance(decoded, str):
        return {"message": decoded}
    if not isinstance(decoded, dict):
        return {}
    told = decoded.get("error") or decoded
    return told if isinstance(told, dict) else {**decoded, "message": told}


def _message(told: Mapping[str, Any], body: bytes, status: int) -> str:
    said = told.get("message") or told.get("detail")
    if said is None and body.lstrip()[:1] != b"<":  # a page is made for eyes
        said = body[:_MESSAGE_MAX].decode("utf-8", "replace").strip()
    if said and not isinstance(said, str):
        said = msgspec.json.encode(said).decode()
    return said[:_MESSAGE_MAX] if said else f"The upstream answered with status {status}."


def _code(status: int, code: object) -> str:
    if status == 429:
        return "rate_limit_exceeded" if code != "insufficient_quota" else "insufficient_quota"
    if status == 404:
        return "model_not_found"
    if status >= 500:
        return "server_error"
    return code if isinstance(code, str) and code else "invalid_request_error"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds: as a number, or as the distance of two dates of the same reply."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("retry-after")
    seconds = _number(text)
    if seconds is not None or text is None or "date" not in headers:
        return seconds
    try:
        wait = parsedate_to_datetime(text) - parsedate_to_datetime(headers["date"])
    except (ValueError, TypeError):
        return None
    return max(0.0, wait.total_seconds())


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return max(0.0, number) if isfinite(number) else None
