"""Recorded replies that were not streamed."""

from __future__ import annotations

from tests.upstreams.recordings import DETAILS, SPECIAL, WEATHER, Recording, usage


def whole(message: str, finish: str = '"stop"', more: str = "", logprobs: str = "null") -> bytes:
    """A reply that is not streamed."""
    return (
        '{"id":"chatcmpl-1","object":"chat.completion","created":1741569952,"model":"m","choices":[{"index":0,'
        f'"message":{message},"logprobs":{logprobs},"finish_reason":{finish}}}]{more}}}'
    ).encode()


WHOLES: dict[str, Recording] = {
    "openai": Recording(
        whole(
            '{"role":"assistant","content":"Hello","refusal":null,"annotations":[]}',
            more=f',"usage":{usage(19, 10, DETAILS)},"service_tier":"default"',
        ),
        [("text", "Hello")],
        usage=(19, 4, 10, 2),
    ),
    "vllm with reasoning": Recording(
        whole(
            '{"role":"assistant","reasoning_content":"Hm","content":"Yes","tool_calls":[]}',
            more=f',"usage":{usage(3, 2)},"prompt_logprobs":null,"kv_transfer_params":null',
        ),
        [("reasoning", "Hm"), ("text", "Yes")],
        usage=(3, 0, 2, 0),
    ),
    "ollama with reasoning and a call": Recording(
        whole(
            '{"role":"assistant","content":"","reasoning":"Hm","tool_calls":[{"id":"call_1","index":0,'
            '"type":"function","function":{"name":"get_weather","arguments":"{\\"city\\": \\"Paris\\"}"}}]}',
            '"tool_calls"',
        ),
        [("reasoning", "Hm"), WEATHER],
    ),
    "llama.cpp with calls, all alike": Recording(
        whole(
            '{"role":"assistant","content":null,"tool_calls":['
            '{"type":"function","function":{"name":"f","arguments":"{}"},"id":"a"},'
            '{"type":"function","function":{"name":"f","arguments":"{}"},"id":"a"},'
            '{"type":"function","function":{"name":"f","arguments":"{}"}}]}',
            '"tool_calls"',
        ),
        [("call", "a", "f", "{}"), ("call", None, "f", "{}"), ("call", None, "f", "{}")],
    ),
    "lm studio, cut": Recording(
        whole('{"role":"assistant","content":"cut","tool_calls":[]}', '"length"', ',"stats":{}'),
        [("text", "cut")],
        "length",
    ),
    "refusal": Recording(whole('{"role":"assistant","content":null,"refusal":"No."}'), [("refusal", "No.")]),
    "filtered": Recording(whole('{"content":null}', '"content_filter"'), [], "content_filter"),
    "no finish reason": Recording(whole('{"content":"x"}', "null"), [("text", "x")]),
    "think tags": Recording(
        whole('{"content":"<think>\\nab\\n</think>\\n\\nYes <think>"}'),
        [("reasoning", "ab\n"), ("text", "Yes <think>")],
        think="tags",
    ),
    "logprobs": Recording(
        whole('{"content":"<|x|>"}', logprobs=SPECIAL),
        [
            (
                "text",
                "<|x|>",
                [{"token": "<|x|>", "bytes": [60, 124, 120, 124, 62], "logprob": -9999.0, "top_logprobs": []}],
            )
        ],
    ),
    "lone surrogates": Recording(whole(r'{"content":"a\ud83e"}'), [("text", "a\ufffd")]),
    "several choices, the first one counts": Recording(
        b'{"choices":[{"index":0,"message":{"content":"a"},"finish_reason":"stop"},'
        b'{"index":1,"message":{"content":"b"},"finish_reason":"length"}]}',
        [("text", "a")],
    ),
    "with line breaks": Recording(b'\n{\n "choices": [{"message": {"content": "a"}}]\n}\n', [("text", "a")]),
}
