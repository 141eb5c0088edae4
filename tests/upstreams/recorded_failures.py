"""How streams of the Responses dialect fail, written by hand from the published documentation."""

from __future__ import annotations

from typing import Any

from tests.upstreams.recorded_responses import event, response

Json = dict[str, Any]

ERROR = {"type": "insufficient_quota", "code": "insufficient_quota", "message": "You exceeded it.", "param": None}

#: The event that ends a stream, and of the failure: status, code, message, param, whether another try may help, wait.
FAILURES: dict[str, tuple[Json, tuple[int, str, str, str | None, bool, float | None]]] = {
    "a nested error": (
        event("error", error=ERROR),
        (429, "insufficient_quota", "You exceeded it.", None, False, None),
    ),
    "a flat error": (
        event("error", code="server_error", message="Oops.", param=None),
        (500, "server_error", "Oops.", None, True, None),
    ),
    "an error that names a parameter": (
        event("error", error={"type": "invalid_request_error", "code": None, "message": "Bad.", "param": "tools[0]"}),
        (400, "invalid_request_error", "Bad.", "tools[0]", False, None),
    ),
    "an error without a word": (event("error"), (500, "server_error", "", None, True, None)),
    "a rate limit that says when": (
        event(
            "response.failed",
            response=response(
                "failed",
                error={
                    "code": "rate_limit_exceeded",
                    "message": "Rate limit reached for gpt-5.5 on tokens per min (TPM): Limit 30000, Used 22999. "
                    "Please try again in 1m1.5s. Visit https://platform.openai.com/account/rate-limits to learn more.",
                },
            ),
        ),
        (429, "rate_limit_exceeded", "Rate limit reached", None, True, 61.5),
    ),
    "a rate limit of milliseconds": (
        event(
            "response.failed",
            response=response("failed", error={"code": "rate_limit_exceeded", "message": "Please try again in 250ms."}),
        ),
        (429, "rate_limit_exceeded", "Please try again", None, True, 0.25),
    ),
    "overloaded": (
        event("response.failed", response=response("failed", error={"code": "server_is_overloaded", "message": "!"})),
        (503, "server_error", "!", None, True, None),
    ),
    "a full context": (
        event(
            "response.failed",
            response=response(
                "failed",
                error={
                    "code": "context_length_exceeded",
                    "message": "Your input exceeds the context window of this model.",
                },
            ),
        ),
        (400, "context_length_exceeded", "Your input exceeds", "input", False, None),
    ),
    "a picture that is none": (
        event(
            "response.failed",
            response=response("failed", error={"code": "image_parse_error", "message": "No picture."}),
        ),
        (400, "image_parse_error", "No picture.", None, False, None),
    ),
    "failed without a word": (
        event("response.failed", response=response("failed")),
        (500, "server_error", "has the status 'failed'", None, False, None),
    ),
    "cancelled": (
        event("response.failed", response=response("cancelled")),
        (500, "server_error", "has the status 'cancelled'", None, False, None),
    ),
    "ended in the queue": (
        event("response.completed", response=response("queued")),
        (502, "server_error", "ended with the status 'queued'", None, False, None),
    ),
}
