"""Replies of the Messages API, written by hand from what Anthropic's documentation publishes, and what they say.

Nothing here was received from a server: the shapes are those of the API reference and of the guides on streaming,
extended thinking, tool use, prompt caching and errors.
"""

from __future__ import annotations

import json
from typing import Any

from tests.upstreams.sayings import Recording

Json = dict[str, Any]

START_USAGE: Json = {
    "input_tokens": 25,
    "cache_creation_input_tokens": 100,
    "cache_read_input_tokens": 1000,
    "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 0},
    "output_tokens": 1,
    "service_tier": "standard",
}
COUNTED = (1125, 1000, 100, 15, 0)
SIGNATURE = "EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pkiMOYds"
REDACTED = "EmwKAhgBEgy3va3pzix/LafPsn4aDFIT2Xlxh0L5L8rLVyIwxtE3"


def event(kind: str, **members: Any) -> Json:
    return {"type": kind, **members}


def start(usage: Json | None = None) -> Json:
    message = {
        "id": "msg_1nZdL29xx5MUA1yADyHTEsnR8uuvGzszyY",
        "type": "message",
        "role": "assistant",
        "content": [],
        "model": "claude-opus-4-8",
        "stop_reason": None,
        "stop_sequence": None,
        "usage": START_USAGE if usage is None else usage,
    }
    return event("message_start", message=message)


def block(index: int, content: Json, *deltas: Json) -> list[Json]:
    """A content block from its beginning to its end."""
    return [
        event("content_block_start", index=index, content_block=content),
        *(event("content_block_delta", index=index, delta=delta) for delta in deltas),
        event("content_block_stop", index=index),
    ]


def text(index: int, *pieces: str) -> list[Json]:
    return block(index, {"type": "text", "text": ""}, *({"type": "text_delta", "text": piece} for piece in pieces))


def thinking(index: int, *pieces: str, signature: str = SIGNATURE) -> list[Json]:
    deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces]
    signed = {"type": "signature_delta", "signature": signature}
    return block(index, {"type": "thinking", "thinking": "", "signature": ""}, *deltas, signed)


def tool_use(index: int, name: str, *pieces: str, call_id: str = "toolu_01T1x1fJ34qAmk2tNTrN7Up6") -> list[Json]:
    content = {"type": "tool_use", "id": call_id, "name": name, "input": {}}
    return block(index, content, *({"type": "input_json_delta", "partial_json": piece} for piece in pieces))


def end(reason: str = "end_turn", **usage: Any) -> list[Json]:
    delta = {"stop_reason": reason, "stop_sequence": None}
    return [event("message_delta", delta=delta, usage={"output_tokens": 15, **usage}), event("message_stop")]


PING = event("ping")
CALL_ID = "toolu_01T1x1fJ34qAmk2tNTrN7Up6"


def stream(*events: Json, line_end: str = "\n", names: bool = True) -> bytes:
    lines: list[str] = []
    for one in events:
        lines += [f"event: {one['type']}"] if names else []
        lines += [f"data: {json.dumps(one, ensure_ascii=False)}", ""]
    return "".join(f"{line}{line_end}" for line in lines).encode()


def thought(index: int, words: str, signature: str = SIGNATURE) -> list[tuple[Any, ...]]:
    kept = {"type": "thinking", "thinking": words, "signature": signature}
    return [
        ("item", index, "reasoning", {}, None),
        ("reasoning", words),
        ("item", index, "reasoning", {"encrypted_content": kept}, "completed"),
    ]


WEATHER = ("call", CALL_ID, "get_weather", '{"location": "San Francisco, CA"}', False)

STREAMS = {
    "text with pings": Recording(
        stream(start(), PING, *text(0, "Hel", "lo 漢 ça", " va?")[:2], PING, *text(0, "lo 漢 ça", " va?")[1:], *end()),
        [("text", "Hello 漢 ça va?")],
        usage=COUNTED,
    ),
    "text of a server that names no events, writes CRLF and counts nothing": Recording(
        stream(start({}), *text(0, "Hello"), end()[1], line_end="\r\n", names=False),
        [("text", "Hello")],
    ),
    "text in the start of its block, in several blocks": Recording(
        stream(start(), *block(0, {"type": "text", "text": "He"}), *text(1, "llo"), *end()),
        [("text", "Hello")],
        usage=COUNTED,
    ),
    "a call after text": Recording(
        stream(
            start(),
            *text(0, "Okay."),
            *tool_use(1, "get_weather", "", '{"location":', ' "San', ' Francisco, CA"}'),
            *end("tool_use"),
        ),
        [("text", "Okay."), WEATHER],
        usage=COUNTED,
    ),
    "calls at once, one without arguments": Recording(
        stream(
            start(),
            *tool_use(0, "get_weather", '{"location": "San Francisco, CA"}'),
            *tool_use(1, "get_time", call_id="toolu_02"),
            *end("tool_use"),
        ),
        [WEATHER, ("call", "toolu_02", "get_time", "", False)],
        usage=COUNTED,
    ),
    "a custom tool's input": Recording(
        stream(start(), *tool_use(0, "apply_patch", '{"inp', 'ut": "*** Begin\\', 'n\\u00e9"', "}"), *end("tool_use")),
        [("call", CALL_ID, "apply_patch", "*** Begin\né", True)],
        usage=COUNTED,
    ),
    "a custom tool's input as the model would have it": Recording(
        stream(start(), *tool_use(0, "apply_patch", '{"patch": "*** Begin"}'), *end("tool_use")),
        [("call", CALL_ID, "apply_patch", "*** Begin", True)],
        usage=COUNTED,
    ),
    "thoughts between calls": Recording(
        stream(
            start(),
            *thinking(0, "Let me ", "see."),
            *tool_use(1, "get_weather", '{"location": "San Francisco, CA"}'),
            *thinking(2, "And again.", signature="c2ln"),
            *text(3, "Done."),
            *end("tool_use", output_tokens_details={"thinking_tokens": 9}),
        ),
        [*thought(0, "Let me see."), WEATHER, *thought(2, "And again.", "c2ln"), ("text", "Done.")],
        usage=(*COUNTED[:4], 9),
    ),
    "thoughts that are hidden": Recording(
        stream(
            start(),
            *block(0, {"type": "redacted_thinking", "data": REDACTED}),
            *thinking(1),
            *text(2, "Hello"),
            *end(),
        ),
        [
            ("item", 0, "reasoning", {}, None),
            (
                *("item", 0, "reasoning"),
                {"encrypted_content": {"type": "redacted_thinking", "data": REDACTED}},
                "completed",
            ),
            ("item", 1, "reasoning", {}, None),
            (
                *("item", 1, "reasoning"),
                {"encrypted_content": {"type": "thinking", "thinking": "", "signature": SIGNATURE}},
                "completed",
            ),
            ("text", "Hello"),
        ],
        usage=COUNTED,
    ),
    "thoughts that nobody signed": Recording(
        stream(start(), *thinking(0, "Hm.", signature=""), *text(1, "Hello"), *end()),
        [
            ("item", 0, "reasoning", {}, None),
            ("reasoning", "Hm."),
            ("item", 0, "reasoning", {}, "completed"),
            ("text", "Hello"),
        ],
        usage=COUNTED,
    ),
    "what the provider does by itself": Recording(
        stream(
            start(),
            *block(
                0,
                {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}},
                {"type": "input_json_delta", "partial_json": '{"query": "news"}'},
            ),
            *block(1, {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}),
            *block(
                2,
                {"type": "text", "text": ""},
                {"type": "text_delta", "text": "News"},
                {"type": "citations_delta", "citation": {"type": "web_search_result_location", "url": "https://a/"}},
            ),
            event("novelty", index=7),
            *end("pause_turn"),
        ),
        [("text", "News")],
        usage=COUNTED,
    ),
    "cut by the limit": Recording(
        stream(start(), *text(0, "Hel"), *end("max_tokens")), [("text", "Hel")], "length", COUNTED
    ),
    "cut by the window": Recording(
        stream(start(), *text(0, "Hel"), *end("model_context_window_exceeded")), [("text", "Hel")], "length", COUNTED
    ),
    "cut in a call": Recording(
        stream(start(), *tool_use(0, "get_weather", '{"loc'), *end("max_tokens")),
        [("call", CALL_ID, "get_weather", '{"loc', False)],
        "length",
        COUNTED,
    ),
    "refused": Recording(stream(start(), *end("refusal")), [], "content_filter", COUNTED),
    "stopped at a sequence, with usage at the end only": Recording(
        stream(start({}), *text(0, "Hel"), *end("stop_sequence", input_tokens=7)),
        [("text", "Hel")],
        usage=(7, 0, 0, 15, 0),
    ),
    "ended without a last word": Recording(
        stream(start(), *text(0, "Hello"), *end()[:1]), [("text", "Hello")], usage=COUNTED
    ),
}

WHOLES: dict[str, tuple[Json, Recording]] = {
    "all kinds of blocks": (
        {
            "id": "msg_01",
            "type": "message",
            "role": "assistant",
            "model": "claude-opus-4-8",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": SIGNATURE},
                {"type": "text", "text": "Okay.", "citations": None},
                {"type": "novelty", "text": "?"},
                {
                    "type": "tool_use",
                    "id": CALL_ID,
                    "name": "get_weather",
                    "input": {"location": "San Francisco, CA"},
                },
                {"type": "tool_use", "id": "toolu_02", "name": "apply_patch", "input": {"input": "x\ny"}},
                {"type": "tool_use", "id": "toolu_03", "name": "get_time", "input": {}},
            ],
            "stop_reason": "tool_use",
            "stop_sequence": None,
            "usage": {**START_USAGE, "output_tokens": 15},
        },
        Recording(
            b"",
            [
                *thought(0, "Hm."),
                ("text", "Okay."),
                WEATHER,
                ("call", "toolu_02", "apply_patch", "x\ny", True),
                ("call", "toolu_03", "get_time", "", False),
            ],
            usage=COUNTED,
        ),
    ),
    "cut": (
        {"type": "message", "content": [{"type": "text", "text": "Hel"}], "stop_reason": "max_tokens", "usage": None},
        Recording(b"", [("text", "Hel")], "length"),
    ),
}


def error(kind: str, message: str) -> Json:
    return event("error", error={"type": kind, "message": message}, request_id="req_011CSHoEeqs5C35K2UUqR7Fy")


#: The type of an error, and of the failure inside a stream: status, code, whether another try may help.
FAILURES = {
    "overloaded_error": (529, "server_error", True),
    "api_error": (500, "server_error", True),
    "rate_limit_error": (429, "rate_limit_exceeded", True),
    "timeout_error": (504, "server_error", True),
    "invalid_request_error": (400, "invalid_request_error", False),
    "authentication_error": (401, "authentication_error", False),
    "permission_error": (403, "permission_error", False),
    "not_found_error": (404, "model_not_found", False),
    "request_too_large": (413, "request_too_large", False),
    "billing_error": (402, "billing_error", False),
    "novel_error": (500, "server_error", True),
}
