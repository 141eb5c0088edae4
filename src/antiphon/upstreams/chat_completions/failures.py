"""What an upstream's error means, whatever shape it has."""

from typing import Any

import msgspec

from antiphon.engine.ports import UpstreamError

#: Statuses after which another try may work, as long as nothing was generated.
RETRYABLE = frozenset({408, 429, 500, 502, 503, 504})

_TOO_LONG = (
    "context_length_exceeded",
    "exceed_context_size",
    "maximum context length",
    "exceeds the available context size",
    "context window",
    "prompt is too long",
    "larger than the context",
    "exceeds the maximum number of tokens",
)
_MESSAGE_MAX = 2000


def failure_of(status: int, body: bytes, *, began: bool = False, retry_after: str | None = None) -> UpstreamError:
    """The error that a reply with this status and body is."""
    told = _told(body)
    message = str(told.get("message") or body[:_MESSAGE_MAX].decode("utf-8", "replace") or f"HTTP {status}")
    code = told.get("code")
    if isinstance(code, int) and 400 <= code < 600:
        status = code
    code = code if isinstance(code, str) else told.get("type")
    if any(sign in f"{code} {message}".lower() for sign in _TOO_LONG) and status in (400, 413, 422, 500):
        return UpstreamError(message[:_MESSAGE_MAX], status=400, code="context_length_exceeded", param="input")
    return UpstreamError(
        message[:_MESSAGE_MAX],
        status=status,
        code=_code(status, code),
        retryable=not began and status in RETRYABLE,
        retry_after_seconds=_seconds(retry_after),
    )


def _told(body: bytes) -> dict[str, Any]:
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    if not isinstance(decoded, dict):
        return {}
    told = decoded.get("error", decoded)
    if isinstance(told, dict):
        return {"message": told.get("message") or told.get("detail"), **told} if "message" not in told else told
    return {"message": told, "code": decoded.get("code")}


def _code(status: int, code: object) -> str:
    if status == 429:
        return "rate_limit_exceeded" if code != "insufficient_quota" else "insufficient_quota"
    if status == 404:
        return "model_not_found"
    if status >= 500:
        return "server_error"
    return code if isinstance(code, str) and code else "invalid_request_error"


def _seconds(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None
