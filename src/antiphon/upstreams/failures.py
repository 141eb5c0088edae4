"""What an upstream's error means, whatever shape it has and whichever dialect it came in.

Pure.  Must not know of sockets or keys.
"""

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Any

import msgspec

from antiphon.engine.ports.upstreams import UpstreamError

#: Statuses after which another try may work, as long as nothing was generated.
RETRYABLE = frozenset({408, 429, 500, 502, 503, 504, 529})

_TOO_LONG = (
    "context_length_exceeded",
    "exceed_context_size",
    "exceed context limit",
    "context length",
    "context size",
    "context window",
    "prompt is too long",
    "longer than the maximum model length",
    "larger than the context",
    "exceeds the maximum number of tokens",
    "`inputs` tokens + `max_new_tokens`",
)
#: What an account without money is told; waiting does not help.
_NO_QUOTA = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
    }
)
#: The status that an error inside a stream would have had as a reply, by its code or type.
_STATUSES = {
    "authentication_error": 401,
    "invalid_api_key": 401,
    "billing_error": 402,
    "permission_error": 403,
    "model_not_found": 404,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "api_error": 500,
    "server_error": 500,
    "server_is_overloaded": 503,
    "service_unavailable_error": 503,
    "slow_down": 503,
    "timeout_error": 504,
    "overloaded_error": 529,
} | dict.fromkeys(_NO_QUOTA, 429)
#: Heads of the codes that say that the request is at fault (reference 2.5).
_CLIENTS_FAULT = ("invalid_", "unsupported_", "context_length", "image_", "empty_image", "failed_to_download", "bio_")
_MESSAGE_MAX = 2000
_WAIT = re.compile(r"try again in (?:(\d+)m)?(\d+(?:\.\d+)?)(ms|s)\b")


def failure_of(
    status: int, body: bytes, headers: Mapping[str, str] | None = None, *, own_params: bool = False
) -> UpstreamError:
    """The error that a reply with this status, body and headers is; 500 for one inside a stream.

    ``own_params``: the dialect's parameters are called as the client's, so that the one which is named is kept.
    """
    headers = headers or {}
    if status < 400:
        return _no_error(status, headers)
    told = _told(body)
    code, kind = told.get("code"), told.get("type")
    if isinstance(code, int) and 400 <= code < 600:
        status = code
    message = _message(told, body, status)
    words = " ".join(str(part) for part in (code, kind, message)).lower()
    if status in (400, 413, 422, 500) and any(sign in words for sign in _TOO_LONG):
        return UpstreamError(message, status=400, code="context_length_exceeded", param="input")
    quota = not _NO_QUOTA.isdisjoint({str(code), str(kind)})
    param = told.get("param") if own_params else None
    return UpstreamError(
        message,
        status=status if status < 600 else 502,
        code="insufficient_quota" if quota and status == 429 else _code(status, code or kind),
        param=param if isinstance(param, str) else None,
        retryable=_retryable(status, headers) and not quota,
        retry_after_seconds=_retry_after(headers) if headers or status != 429 else _told_wait(message),
    )


def failure_within(body: bytes, *, own_params: bool = False) -> UpstreamError:
    """The error that a stream tells: its code or type stands for the status that is missing."""
    told = _told(body)
    names = [name for name in (told.get("code"), told.get("type")) if isinstance(name, str)]
    status = next((_STATUSES[name] for name in names if name in _STATUSES), None)
    if status is None:
        status = 400 if any(name.startswith(_CLIENTS_FAULT) for name in names) else 500
    return failure_of(status, body, own_params=own_params)


def _no_error(status: int, headers: Mapping[str, str]) -> UpstreamError:
    if 300 <= status < 400 and "location" in headers:
        detail = f"The upstream redirects to {headers['location']}; configure that URL instead."
        return UpstreamError("The upstream redirects to another URL, which is to be configured instead.", detail=detail)
    return UpstreamError(f"The upstream answered with status {status}.")


def _retryable(status: int, headers: Mapping[str, str]) -> bool:
    """The providers say themselves where they know better."""
    said = headers.get("x-should-retry")
    return said == "true" if said in ("true", "false") else status in RETRYABLE


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
        return "rate_limit_exceeded"
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


def _told_wait(message: str) -> float | None:
    """Seconds, as OpenAI writes them into the message: inside a stream there are no headers."""
    found = _WAIT.search(message)
    if found is None:
        return None
    minutes, number, unit = found.groups()
    return 60.0 * int(minutes or 0) + float(number) / (1000 if unit == "ms" else 1)


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return max(0.0, number) if isfinite(number) else None
