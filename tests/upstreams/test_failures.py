"""What error replies of each server mean: their status, our code, and whether another try may help."""

from __future__ import annotations

import json
from typing import Any

import pytest

from antiphon.upstreams.chat_completions.failures import failure_of

CODE = "context_length_exceeded"

TOO_LONG = {
    "openai": (
        400,
        {
            "error": {
                "message": "This model's maximum context length is 8192 tokens. However, your messages resulted in "
                "9001 tokens. Please reduce the length of the messages.",
                "type": "invalid_request_error",
                "param": "messages",
                "code": "context_length_exceeded",
            }
        },
    ),
    "vllm": (
        400,
        {
            "error": {
                "message": "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens "
                "(4000 in the messages, 1000 in the completion). Please reduce the length of the messages.",
                "type": "BadRequestError",
                "param": None,
                "code": 400,
            }
        },
    ),
    "old vllm": (
        400,
        {
            "object": "error",
            "message": "The prompt (total length 5000) is longer than the maximum model length of 4096.",
            "type": "BadRequestError",
            "param": None,
            "code": 400,
        },
    ),
    "llama.cpp": (
        400,
        {
            "error": {
                "code": 400,
                "message": "request (5000 tokens) exceeds the available context size (4096 tokens), try increasing it",
                "type": "exceed_context_size_error",
                "n_prompt_tokens": 5000,
                "n_ctx": 4096,
            }
        },
    ),
    "old llama.cpp": (500, {"error": {"code": 500, "message": "context size exceeded", "type": "server_error"}}),
    "ollama": (
        400,
        {
            "error": {
                "message": "input length exceeds the context length",
                "type": "invalid_request_error",
                "param": None,
                "code": None,
            }
        },
    ),
    "lm studio": (
        400,
        {
            "error": "Trying to keep the first 5000 tokens when context the overflows. However, the model is loaded "
            "with context length of only 4096 tokens, which is not enough."
        },
    ),
    "sglang": (400, {"message": "The input (5000 tokens) is longer than the model's context length (4096 tokens)."}),
    "tgi": (422, {"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000"}),
    "anthropic": (400, {"error": {"type": "invalid_request_error", "message": "prompt is too long: 5 tokens > 4"}}),
}


@pytest.mark.parametrize("name", TOO_LONG)
def test_a_full_context_has_one_code_whoever_says_it(name: str) -> None:
    status, body = TOO_LONG[name]

    error = failure_of(status, json.dumps(body).encode())

    assert (error.status, error.code, error.param, error.retryable) == (400, CODE, "input", False)
    assert error.message in json.dumps(body)


# Status and body of a reply; status, code, message, retryable of the error.
OTHERS: dict[str, tuple[int, Any, tuple[int, str, str, bool]]] = {
    "openai wrong key": (
        401,
        {"error": {"message": "Incorrect API key", "type": "invalid_request_error", "code": "invalid_api_key"}},
        (401, "invalid_api_key", "Incorrect API key", False),
    ),
    "openai rate limit": (
        429,
        {"error": {"message": "Rate limit reached", "type": "requests", "code": "rate_limit_exceeded"}},
        (429, "rate_limit_exceeded", "Rate limit reached", True),
    ),
    "openai no quota": (
        429,
        {"error": {"message": "No quota", "type": "insufficient_quota", "param": None, "code": "insufficient_quota"}},
        (429, "insufficient_quota", "No quota", False),
    ),
    "openai bad parameter": (
        400,
        {"error": {"message": "Unknown", "type": "invalid_request_error", "param": "x", "code": "unknown_parameter"}},
        (400, "unknown_parameter", "Unknown", False),
    ),
    "vllm unknown model": (
        404,
        {"error": {"message": "The model `x` does not exist.", "type": "NotFoundError", "param": None, "code": 404}},
        (404, "model_not_found", "The model `x` does not exist.", False),
    ),
    "vllm bad request": (
        400,
        {"error": {"message": "Bad", "type": "BadRequestError", "param": None, "code": 400}},
        (400, "invalid_request_error", "Bad", False),
    ),
    "vllm validation": (
        422,
        {"detail": [{"loc": ["body", "messages"], "msg": "Field required"}]},
        (422, "invalid_request_error", '[{"loc":["body","messages"],"msg":"Field required"}]', False),
    ),
    "llama.cpp loading": (
        503,
        {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}},
        (503, "server_error", "Loading model", True),
    ),
    "llama.cpp code in the body": (
        500,
        {"error": {"message": "busy", "code": 503}},
        (503, "server_error", "busy", True),
    ),
    "ollama unknown model": (
        404,
        {"error": {"message": 'model "x" not found', "type": "api_error", "param": None, "code": None}},
        (404, "model_not_found", 'model "x" not found', False),
    ),
    "ollama bare": (500, {"error": "llama runner died"}, (500, "server_error", "llama runner died", True)),
    "fastapi detail": (
        405,
        {"detail": "Method Not Allowed"},
        (405, "invalid_request_error", "Method Not Allowed", False),
    ),
    "a JSON string": (500, "oops", (500, "server_error", "oops", True)),
    "a JSON list": (500, ["oops"], (500, "server_error", '["oops"]', True)),
    "null": (500, None, (500, "server_error", "null", True)),
    "an error without words": (
        400,
        {"error": {"code": "x"}},
        (400, "x", '{"error": {"code": "x"}}', False),
    ),
    "an error that is null": (
        400,
        {"error": None, "message": "m"},
        (400, "invalid_request_error", "m", False),
    ),
    "overloaded": (529, {"error": {"message": "m"}}, (529, "server_error", "m", True)),
    "a code of no status": (400, {"error": {"message": "m", "code": 7}}, (400, "invalid_request_error", "m", False)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_an_error_reply(name: str) -> None:
    status, body, expected = OTHERS[name]

    error = failure_of(status, json.dumps(body).encode())

    assert (error.status, error.code, error.message, error.retryable) == expected


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (502, b"<html><head><title>502 Bad Gateway</title></head></html>", "The upstream answered with status 502."),
        (502, b"", "The upstream answered with status 502."),
        (500, b"Internal Server Error\n", "Internal Server Error"),
        (500, b"\xff\xfe", "\ufffd\ufffd"),
        (500, b"{", "{"),
        (500, b"[" * 100_000, "[" * 2000),
        (500, b"x" * 5000, "x" * 2000),
    ],
)
def test_a_body_that_is_no_json(status: int, body: bytes, message: str) -> None:
    error = failure_of(status, body)

    assert (error.status, error.message, error.retryable) == (status, message, True)


def test_a_redirect_names_where_to() -> None:
    error = failure_of(308, b"", {"location": "https://elsewhere/v1/chat/completions"})

    assert (error.status, error.retryable) == (502, False)
    assert "https://elsewhere/v1/chat/completions" in error.detail
    assert "elsewhere/" not in error.message


def test_a_status_that_does_not_exist() -> None:
    assert failure_of(799, b"").status == 502


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "Sun, 22 Nov 2026 10:00:30 GMT", "date": "Sun, 22 Nov 2026 10:00:00 GMT"}, 30.0),
        ({"retry-after": "Sun, 22 Nov 2026 09:00:00 GMT", "date": "Sun, 22 Nov 2026 10:00:00 GMT"}, 0.0),
        ({"retry-after": "Sun, 22 Nov 2026 10:00:30 GMT"}, None),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert failure_of(429, b"{}", headers).retry_after_seconds == seconds
