"""Replies of chat-completions servers, in the exact shapes in which each of them sends, and what they say.

What a recording says is told in a normal form (`said`), which does not depend on where its bytes were cut.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from antiphon.engine.deltas import CallDelta, Delta, ReasoningDelta, RefusalDelta, TextDelta

Said = tuple[Any, ...]


class Recording(NamedTuple):
    """Bytes of a reply, what they say, how the model stopped, and the usage: input, cached, output, reasoning."""

    body: bytes
    said: list[Said]
    reason: str = "stop"
    usage: tuple[int, int, int, int] | None = None
    think: str = "off"


def said(deltas: Iterable[Delta]) -> list[Said]:
    """Deltas joined: runs of text as one, the pieces of a call at the place of its first."""
    told: list[list[Any]] = []
    calls: dict[int, list[str]] = {}
    for delta in deltas:
        if not isinstance(delta, CallDelta):
            _join_text(told, delta)
        elif delta.key in calls:
            calls[delta.key].append(delta.arguments)
        else:
            calls[delta.key] = [delta.arguments]
            told.append(["call", delta.call_id, delta.name, calls[delta.key]])
    return [(*one[:3], "".join(one[3])) if one[0] == "call" else tuple(one) for one in told]


def _join_text(told: list[list[Any]], delta: TextDelta | ReasoningDelta | RefusalDelta) -> None:
    kind = {TextDelta: "text", ReasoningDelta: "reasoning", RefusalDelta: "refusal"}[type(delta)]
    if not told or told[-1][0] != kind:
        told.append([kind, ""])
    told[-1][1] += delta.text
    if isinstance(delta, TextDelta) and delta.logprobs is not None:
        told[-1][2:] = [[*(told[-1][2] if len(told[-1]) > 2 else []), *json.loads(delta.logprobs)]]


# --- The envelope of each server: `choices` is the JSON array, `more` what follows it ---

OPENAI = (
    '{"id":"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT","object":"chat.completion.chunk","created":1741569952,'
    '"model":"gpt-4o-2024-08-06","service_tier":"default","system_fingerprint":"fp_44added55e",'
    '"choices":%s,"usage":%s,"obfuscation":"fX8"}'
)
VLLM = (
    '{"id":"chatcmpl-93c1f2d4e5b64a7f8a1b","object":"chat.completion.chunk","created":1741569952,'
    '"model":"Qwen/Qwen3-8B","choices":%s,"prompt_token_ids":null%s}'
)
LLAMA = (
    '{"choices":%s,"created":1741569952,"id":"chatcmpl-cXJ7hQmQk1Yx0dG9","model":"gpt-3.5-turbo",'
    '"system_fingerprint":"b6503-a5b1d2c3","object":"chat.completion.chunk"%s}'
)
OLLAMA = (
    '{"id":"chatcmpl-554","object":"chat.completion.chunk","created":1741569952,"model":"llama3.2",'
    '"system_fingerprint":"fp_ollama","choices":%s%s}'
)
LM_STUDIO = (
    '{"id":"chatcmpl-1eo8xh2lkgw9x3lnmv1p7a","object":"chat.completion.chunk","created":1741569952,'
    '"model":"qwen2.5-7b-instruct","system_fingerprint":"qwen2.5-7b-instruct","choices":%s%s}'
)


def _choice(server: str, delta: str, finish: str | None = None, logprobs: str = "null") -> str:
    """One choice in the order and with the members that a server sends."""
    reason = "null" if finish is None else f'"{finish}"'
    if server is LLAMA:
        return f'[{{"finish_reason":{reason},"index":0,"delta":{delta}}}]'
    if server is OLLAMA:
        return f'[{{"index":0,"delta":{delta},"finish_reason":{reason}}}]'
    stop = ',"stop_reason":null' if server is VLLM and finish else ""
    return f'[{{"index":0,"delta":{delta},"logprobs":{logprobs},"finish_reason":{reason}{stop}}}]'


def chunk(server: str, delta: str, finish: str | None = None, *, logprobs: str = "null", more: str = "") -> str:
    """One event's data: a delta of the first choice."""
    return server % (_choice(server, delta, finish, logprobs), more or ("null" if server is OPENAI else ""))


def stream(*data: str, done: bool = True) -> bytes:
    """Data as a stream of events with the usual end."""
    return "".join(f"data: {one}\n\n" for one in [*data, *(["[DONE]"] if done else [])]).encode()


def text(piece: str) -> str:
    return json.dumps({"content": piece}, ensure_ascii=False)


def call(index: int | None = None, call_id: str | None = None, name: str | None = None, arguments: Any = None) -> str:
    """A delta with one piece of a call; what is None is not sent."""
    return calls(piece(index, call_id, name, arguments))


def calls(*pieces: str, beside: str = "") -> str:
    """A delta with pieces of calls; `beside` are other members of it, with a comma behind each."""
    return f'{{{beside}"tool_calls":[{",".join(pieces)}]}}'


def piece(index: int | None = None, call_id: str | None = None, name: str | None = None, arguments: Any = None) -> str:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    head = {key: value for key, value in (("index", index), ("id", call_id)) if value is not None}
    return json.dumps({**head, **({"type": "function"} if call_id else {}), "function": function})


def usage(prompt: int, completion: int, details: str = "") -> str:
    return (
        f'{{"prompt_tokens":{prompt},"total_tokens":{prompt + completion},"completion_tokens":{completion}{details}}}'
    )


DETAILS = (
    ',"prompt_tokens_details":{"cached_tokens":4,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":2,'
    '"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}'
)
ROLE = '{"role":"assistant","content":""}'
WEATHER = ("call", "call_1", "get_weather", '{"city": "Paris"}')
TIME = ("call", "call_2", "get_time", '{"zone": "CET"}')

LOGPROBS = (
    '{"content":[{"token":"Hé","logprob":-0.25,"bytes":[72,195,169],"top_logprobs":[{"token":"Hé","logprob":-0.25,'
    '"bytes":[72,195,169]},{"token":"Ho","logprob":-1.5,"bytes":null}]}],"refusal":null}'
)
SPECIAL = '{"content":[{"token":"<|x|>","logprob":-9999.0,"bytes":null,"top_logprobs":[]}]}'
HALF = '{"content":[{"token":"bytes:\\\\xf0\\\\x9f","logprob":-0.5,"bytes":[240,159],"top_logprobs":[]}]}'
OTHER_HALF = '{"content":[{"token":"bytes:\\\\xa6\\\\x84","logprob":-0.125,"bytes":[166,132],"top_logprobs":[]}]}'
