"""Recorded streams of tool calls."""

from __future__ import annotations

from tests.upstreams.recordings import (
    LLAMA,
    LM_STUDIO,
    OLLAMA,
    OPENAI,
    ROLE,
    TIME,
    VLLM,
    WEATHER,
    Recording,
    call,
    calls,
    chunk,
    piece,
    stream,
    text,
)

CALLS: dict[str, Recording] = {
    "openai call, split": Recording(
        stream(
            chunk(OPENAI, '{"role":"assistant","content":null,"refusal":null}'),
            chunk(OPENAI, call(0, "call_1", "get_weather", "")),
            chunk(OPENAI, call(0, arguments='{"city')),
            chunk(OPENAI, call(0, arguments='": "Paris"}')),
            chunk(OPENAI, "{}", "tool_calls"),
        ),
        [WEATHER],
    ),
    "openai parallel calls, one after the other": Recording(
        stream(
            chunk(OPENAI, call(0, "call_1", "get_weather", "")),
            chunk(OPENAI, call(0, arguments='{"city": "Paris"}')),
            chunk(OPENAI, call(1, "call_2", "get_time", "")),
            chunk(OPENAI, call(1, arguments='{"zone": "CET"}')),
            chunk(OPENAI, "{}", "tool_calls"),
        ),
        [WEATHER, TIME],
    ),
    "parallel calls, interleaved": Recording(
        stream(
            chunk(VLLM, calls(piece(0, "call_1", "get_weather"), piece(1, "call_2", "get_time"))),
            chunk(VLLM, calls(piece(0, arguments='{"city'), piece(1, arguments='{"zone": '))),
            chunk(VLLM, calls(piece(1, arguments='"CET"}'), piece(0, arguments='": "Paris"}'))),
            chunk(VLLM, "{}", "tool_calls"),
        ),
        [WEATHER, TIME],
    ),
    "old vllm: a fresh id in every piece": Recording(
        stream(
            chunk(VLLM, call(0, "call_1", "get_weather", None)),
            chunk(VLLM, call(0, "chatcmpl-tool-5f2", None, '{"city": ')),
            chunk(VLLM, call(0, "chatcmpl-tool-9ab", None, '"Paris"}')),
            chunk(VLLM, "{}", "tool_calls"),
        ),
        [WEATHER],
    ),
    "llama.cpp call after text": Recording(
        stream(
            chunk(LLAMA, '{"role":"assistant","content":null}'),
            chunk(LLAMA, text("I look.")),
            chunk(LLAMA, call(0, "call_1", "get_weather", "{")),
            chunk(LLAMA, call(0, arguments='"city": "Paris"}')),
            chunk(LLAMA, "{}", "tool_calls"),
        ),
        [("text", "I look."), WEATHER],
    ),
    "ollama calls, whole, each in its chunk, all with index 0": Recording(
        stream(
            chunk(
                OLLAMA,
                calls(piece(0, "call_1", "get_weather", '{"city": "Paris"}'), beside=ROLE[1:-1] + ","),
            ),
            chunk(
                OLLAMA,
                calls(piece(0, "call_2", "get_time", '{"zone": "CET"}'), beside=ROLE[1:-1] + ","),
            ),
            chunk(OLLAMA, '{"role":"assistant","content":""}', "tool_calls"),
        ),
        [WEATHER, TIME],
    ),
    "ollama calls, whole, in one chunk, all with index 0": Recording(
        stream(
            chunk(
                OLLAMA,
                calls(
                    piece(0, "call_1", "get_weather", '{"city": "Paris"}'),
                    piece(0, "call_2", "get_time", '{"zone": "CET"}'),
                ),
                "tool_calls",
            ),
        ),
        [WEATHER, TIME],
    ),
    "index 0 for all, split": Recording(
        stream(
            chunk(LM_STUDIO, call(0, "call_1", "get_weather", "")),
            chunk(LM_STUDIO, call(0, None, None, '{"city": "Paris"}')),
            chunk(LM_STUDIO, call(0, "call_2", "get_time", "")),
            chunk(LM_STUDIO, call(0, None, None, '{"zone": "CET"}')),
            chunk(LM_STUDIO, "{}", "tool_calls"),
        ),
        [WEATHER, TIME],
    ),
    "index 0 for all, split, the same function": Recording(
        stream(
            chunk(LM_STUDIO, call(0, "call_1", "f", "")),
            chunk(LM_STUDIO, call(0, None, None, '{"a": 1}')),
            chunk(LM_STUDIO, call(0, "call_2", "f", "")),
            chunk(LM_STUDIO, call(0, None, None, '{"a": 2}')),
            chunk(LM_STUDIO, "{}", "tool_calls"),
        ),
        [("call", "call_1", "f", '{"a": 1}'), ("call", "call_2", "f", '{"a": 2}')],
    ),
    "no index, interleaved by id": Recording(
        stream(
            chunk(OLLAMA, calls(piece(None, "call_1", "f", "{"), piece(None, "call_2", "f", "{"))),
            chunk(OLLAMA, calls(piece(None, "call_1", None, '"a": '), piece(None, "call_2", None, '"b": '))),
            chunk(OLLAMA, calls(piece(None, "call_2", None, "2}"), piece(None, "call_1", None, "1}"))),
            chunk(OLLAMA, "{}", "tool_calls"),
        ),
        [("call", "call_1", "f", '{"a": 1}'), ("call", "call_2", "f", '{"b": 2}')],
    ),
    "no index": Recording(
        stream(
            chunk(LM_STUDIO, call(None, "call_1", "get_weather", "")),
            chunk(LM_STUDIO, call(None, "call_1", None, '{"city": ')),
            chunk(LM_STUDIO, call(None, None, None, '"Paris"}')),
            chunk(LM_STUDIO, call(None, "call_2", "get_time", '{"zone": "CET"}')),
            chunk(LM_STUDIO, "{}", "tool_calls"),
        ),
        [WEATHER, TIME],
    ),
    "no id": Recording(
        stream(
            chunk(OLLAMA, call(0, None, "get_weather", '{"city": "Paris"}')),
            chunk(OLLAMA, call(1, None, "get_time", '{"zone": "CET"}'), "tool_calls"),
        ),
        [("call", None, *WEATHER[2:]), ("call", None, *TIME[2:])],
    ),
    "an empty id": Recording(
        stream(chunk(LLAMA, call(0, "", "get_weather", '{"city": "Paris"}'), "tool_calls")),
        [("call", None, *WEATHER[2:])],
    ),
    "no index, no id": Recording(
        stream(
            chunk(OLLAMA, call(None, None, "get_weather", "")),
            chunk(OLLAMA, call(None, None, None, '{"city": "Paris"}')),
            chunk(OLLAMA, call(None, None, "get_weather", '{"city": "Rome"}')),
            chunk(OLLAMA, "{}", "tool_calls"),
        ),
        [("call", None, *WEATHER[2:]), ("call", None, "get_weather", '{"city": "Rome"}')],
    ),
    "the same id twice": Recording(
        stream(
            chunk(OLLAMA, call(0, "call_0", "get_weather", '{"city": "Paris"}')),
            chunk(OLLAMA, call(1, "call_0", "get_time", '{"zone": "CET"}'), "tool_calls"),
        ),
        [("call", "call_0", *WEATHER[2:]), ("call", None, *TIME[2:])],
    ),
    "ids with names of ours": Recording(
        stream(
            chunk(OLLAMA, call(0, "next", "get_weather", '{"city": "Paris"}')),
            chunk(OLLAMA, call(None, "#0", "get_time", '{"zone": "CET"}'), "tool_calls"),
        ),
        [("call", "next", *WEATHER[2:]), ("call", "#0", *TIME[2:])],
    ),
    "name and id in every piece": Recording(
        stream(
            chunk(OLLAMA, call(0, "call_1", "get_weather", '{"city": ')),
            chunk(OLLAMA, call(0, "call_1", "get_weather", '"Paris"}')),
            chunk(OLLAMA, call(0, "call_1", "get_weather", ""), "tool_calls"),
        ),
        [WEATHER],
    ),
    "name in every piece, no id": Recording(
        stream(
            chunk(OLLAMA, call(0, None, "get_weather", '{"city": ')),
            chunk(OLLAMA, call(0, None, "get_weather", '"Paris"}')),
            chunk(OLLAMA, call(0, None, "get_weather", ""), "tool_calls"),
        ),
        [("call", None, *WEATHER[2:])],
    ),
    "the name comes late": Recording(
        stream(
            chunk(OLLAMA, call(0, "call_1", None, "")),
            chunk(OLLAMA, call(0, None, None, '{"city": ')),
            chunk(OLLAMA, call(0, None, "get_weather", '"Paris"}'), "tool_calls"),
        ),
        [WEATHER],
    ),
    "arguments as an object": Recording(
        stream(
            chunk(
                OLLAMA,
                '{"tool_calls":[{"id":"call_1","function":{"name":"f",'
                '"arguments":{"a": [1, 12345678901234567890], "b": {"c": 1.10}}}}]}',
                "tool_calls",
            )
        ),
        [("call", "call_1", "f", '{"a":[1, 12345678901234567890],"b":{"c": 1.10}}')],
    ),
    "empty, null and missing arguments": Recording(
        stream(
            chunk(OLLAMA, call(0, "call_1", "a", "")),
            chunk(OLLAMA, '{"tool_calls":[{"index":1,"id":"call_2","function":{"name":"b","arguments":null}}]}'),
            chunk(OLLAMA, '{"tool_calls":[{"index":2,"id":"call_3","type":"function","function":{"name":"c"}}]}'),
            chunk(OLLAMA, "{}", "tool_calls"),
        ),
        [("call", "call_1", "a", ""), ("call", "call_2", "b", ""), ("call", "call_3", "c", "")],
    ),
    "the form before tools": Recording(
        stream(
            chunk(OLLAMA, '{"role":"assistant","content":null,"function_call":{"name":"f","arguments":""}}'),
            chunk(OLLAMA, '{"function_call":{"arguments":"{\\"a\\": "}}'),
            chunk(OLLAMA, '{"function_call":{"arguments":"1}"}}'),
            chunk(OLLAMA, "{}", "function_call"),
        ),
        [("call", None, "f", '{"a": 1}')],
    ),
    "reasoning, text and a call in one chunk": Recording(
        stream(
            chunk(
                VLLM,
                calls(
                    piece(0, "call_1", "get_weather", '{"city": "Paris"}'),
                    beside='"reasoning_content":"Hm","content":"I look.",',
                ),
                "tool_calls",
            )
        ),
        [("reasoning", "Hm"), ("text", "I look."), WEATHER],
    ),
}
