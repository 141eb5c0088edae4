"""Recorded streams of text, reasoning and refusals."""

from __future__ import annotations

from tests.upstreams.recordings import (
    DETAILS,
    HALF,
    LLAMA,
    LM_STUDIO,
    LOGPROBS,
    OLLAMA,
    OPENAI,
    OTHER_HALF,
    ROLE,
    SPECIAL,
    VLLM,
    Recording,
    call,
    chunk,
    stream,
    text,
    usage,
)

TEXTS: dict[str, Recording] = {
    # --- Plain text, each server in its own words ---
    "openai text with usage": Recording(
        stream(
            chunk(OPENAI, '{"role":"assistant","content":"","refusal":null}'),
            chunk(OPENAI, text("Hello")),
            chunk(OPENAI, text(" wörld, 你好 🦄\n")),
            chunk(OPENAI, "{}", "stop"),
            OPENAI % ("[]", usage(19, 10, DETAILS)),
        ),
        [("text", "Hello wörld, 你好 🦄\n")],
        usage=(19, 4, 10, 2),
    ),
    "vllm text with usage in every chunk": Recording(
        stream(
            chunk(VLLM, '{"role":"assistant","content":"","reasoning_content":null}', more=f',"usage":{usage(9, 0)}'),
            chunk(VLLM, '{"content":"One","reasoning_content":null}', more=f',"usage":{usage(9, 1)}'),
            chunk(VLLM, '{"content":" two","reasoning_content":null}', more=f',"usage":{usage(9, 2)}'),
            chunk(VLLM, '{"content":"","reasoning_content":null}', "stop", more=f',"usage":{usage(9, 3)}'),
            VLLM % ("[]", f',"usage":{usage(9, 3)}'),
        ),
        [("text", "One two")],
        usage=(9, 0, 3, 0),
    ),
    "llama.cpp text with timings": Recording(
        stream(
            chunk(LLAMA, '{"role":"assistant","content":null}'),
            chunk(LLAMA, text("Ünïcode")),
            chunk(LLAMA, "{}", "stop"),
            LLAMA
            % (
                "[]",
                ',"usage":{"completion_tokens":6,"prompt_tokens":5,"total_tokens":11},"timings":{"prompt_n":5}',
            ),
        ),
        [("text", "Ünïcode")],
        usage=(5, 0, 6, 0),
    ),
    "ollama text, usage in its own chunk without details": Recording(
        stream(
            chunk(OLLAMA, '{"role":"assistant","content":"Hi"}'),
            chunk(OLLAMA, '{"role":"assistant","content":" there"}'),
            chunk(OLLAMA, '{"role":"assistant","content":""}', "stop"),
            OLLAMA % ("[]", ',"usage":{"prompt_tokens":11,"completion_tokens":3,"total_tokens":14}'),
        ),
        [("text", "Hi there")],
        usage=(11, 0, 3, 0),
    ),
    "lm studio text, no usage": Recording(
        stream(
            chunk(LM_STUDIO, '{"role":"assistant","content":"A"}'),
            chunk(LM_STUDIO, text("B")),
            chunk(LM_STUDIO, "{}", "stop"),
        ),
        [("text", "AB")],
    ),
    "usage in the last choice's chunk": Recording(
        stream(
            chunk(OLLAMA, ROLE),
            chunk(OLLAMA, text("x")),
            chunk(OLLAMA, "{}", "stop", more=',"usage":{"prompt_tokens":2,"completion_tokens":1,"total_tokens":3}'),
        ),
        [("text", "x")],
        usage=(2, 0, 1, 0),
    ),
    "usage with hidden reasoning in the total, a null and a float": Recording(
        stream(
            chunk(OLLAMA, text("x"), "stop"),
            OLLAMA
            % (
                "[]",
                ',"usage":{"prompt_tokens":10.0,"completion_tokens":5,"total_tokens":115,"prompt_tokens_details":null}',
            ),
        ),
        [("text", "x")],
        usage=(10, 0, 105, 0),
    ),
    "usage of nothing is no usage": Recording(
        stream(chunk(OLLAMA, text("x"), "stop", more=',"usage":{"prompt_tokens":null,"completion_tokens":null}')),
        [("text", "x")],
    ),
    # --- Ends ---
    "finish length": Recording(
        stream(chunk(VLLM, text("cut")), chunk(VLLM, "{}", "length")), [("text", "cut")], "length"
    ),
    "finish model_length": Recording(stream(chunk(OLLAMA, text("cut"), "model_length")), [("text", "cut")], "length"),
    "finish content_filter": Recording(
        stream(chunk(OPENAI, text("I")), chunk(OPENAI, "{}", "content_filter")), [("text", "I")], "content_filter"
    ),
    "finish of a server's own": Recording(stream(chunk(OLLAMA, text("x"), "eos_token")), [("text", "x")]),
    "no finish reason but [DONE]": Recording(stream(chunk(OLLAMA, text("x"))), [("text", "x")]),
    "finish reason but no [DONE]": Recording(
        stream(chunk(LLAMA, text("x")), chunk(LLAMA, "{}", "stop"), done=False), [("text", "x")]
    ),
    "no line break after the last line": Recording(
        stream(chunk(LLAMA, text("x")), chunk(LLAMA, "{}", "stop")).rstrip(), [("text", "x")]
    ),
    "no break, no [DONE]": Recording(stream(chunk(LLAMA, text("x"), "stop"), done=False).rstrip(), [("text", "x")]),
    "nothing was said": Recording(stream(chunk(OPENAI, ROLE), chunk(OPENAI, "{}", "stop")), []),
    "something after [DONE]": Recording(
        stream(chunk(OLLAMA, text("x"), "stop")) + stream(chunk(OLLAMA, text("y"))), [("text", "x")]
    ),
    # --- Framing ---
    "CRLF": Recording(
        stream(chunk(LLAMA, text("one")), chunk(LLAMA, text(" two"), "stop")).replace(b"\n", b"\r\n"),
        [("text", "one two")],
    ),
    "no space after data:": Recording(
        stream(chunk(LLAMA, text("one")), chunk(LLAMA, text(" two"), "stop")).replace(b"data: ", b"data:"),
        [("text", "one two")],
    ),
    "comments, event names, ids, retry": Recording(
        b": OPENROUTER PROCESSING\n\nretry: 3000\n\nevent: message\nid: 1\n"
        + stream(chunk(OLLAMA, text("one")))[:-14]
        + b": ping\n\n:\n\n"
        + stream(chunk(OLLAMA, text(" two"), "stop")),
        [("text", "one two")],
    ),
    "single line breaks": Recording(
        stream(chunk(OLLAMA, text("one")), chunk(OLLAMA, text(" two"), "stop")).replace(b"\n\n", b"\n"),
        [("text", "one two")],
    ),
    "azure's first chunk without choices, a ping": Recording(
        stream(
            '{"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"prompt_index":0}]}',
            '{"type":"ping"}',
            chunk(OPENAI, text("x"), "stop"),
        ),
        [("text", "x")],
    ),
    "several choices": Recording(
        stream(
            OLLAMA % ('[{"index":1,"delta":{"content":"no"}},{"index":0,"delta":{"content":"yes"}}]', ""),
            OLLAMA % ('[{"index":1,"delta":{},"finish_reason":"length"}]', ""),
            OLLAMA % ('[{"index":0,"delta":{},"finish_reason":"stop"}]', ""),
        ),
        [("text", "yes")],
    ),
    "content as parts": Recording(
        stream(
            chunk(OLLAMA, '{"content":[{"type":"thinking","thinking":[{"type":"text","text":"Hm."}]}]}'),
            chunk(OLLAMA, '{"content":[{"type":"text","text":"So"},{"type":"reference","reference_ids":[1]}]}'),
            chunk(OLLAMA, text("!"), "stop"),
        ),
        [("reasoning", "Hm."), ("text", "So!")],
    ),
    "escapes: NUL, quotes, slashes, a surrogate pair": Recording(
        stream(chunk(OLLAMA, r'{"content":"a\u0000b\"\\\/ \ud83e\udd84\u2028"}', "stop")),
        [("text", 'a\0b"\\/ 🦄\u2028')],
    ),
    # --- Not quite JSON ---
    "lone surrogates": Recording(
        stream(chunk(OLLAMA, r'{"content":"a\ud83eb"}'), chunk(OLLAMA, r'{"content":"\udd84c"}', "stop")),
        [("text", "a\ufffdb\ufffdc")],
    ),
    "bytes that are no UTF-8": Recording(
        stream(chunk(OLLAMA, text("a*b"), "stop")).replace(b"a*b", b"a\xffb"), [("text", "a\ufffdb")]
    ),
    "raw NUL and control characters": Recording(
        stream(chunk(OLLAMA, text("a*b"), "stop")).replace(b"a*b", b"a\x00\x01b"), [("text", "a\0\x01b")]
    ),
    "no UTF-8 in arguments": Recording(
        stream(chunk(OLLAMA, call(0, "call_1", "f", '{"a":"*"}'), "tool_calls")).replace(b"*", b"\xfe"),
        [("call", "call_1", "f", '{"a":"\ufffd"}')],
    ),
    "logprob of -Infinity": Recording(
        stream(
            chunk(
                VLLM,
                text("x"),
                "stop",
                logprobs='{"content":[{"token":"x","logprob":-Infinity,"bytes":[120],"top_logprobs":[]}]}',
            )
        ),
        [("text", "x", [{"token": "x", "bytes": [120], "logprob": 0.0, "top_logprobs": []}])],
    ),
    # --- Reasoning ---
    "vllm reasoning_content": Recording(
        stream(
            chunk(VLLM, '{"role":"assistant","content":"","reasoning_content":null}'),
            chunk(VLLM, '{"reasoning_content":"Let me"}'),
            chunk(VLLM, '{"reasoning_content":" think."}'),
            chunk(VLLM, '{"content":"Yes","reasoning_content":null}'),
            chunk(VLLM, '{"content":"","reasoning_content":null}', "stop"),
        ),
        [("reasoning", "Let me think."), ("text", "Yes")],
    ),
    "ollama reasoning": Recording(
        stream(
            chunk(OLLAMA, '{"role":"assistant","content":"","reasoning":"Hm"}'),
            chunk(OLLAMA, '{"role":"assistant","content":"","reasoning":"m."}'),
            chunk(OLLAMA, '{"role":"assistant","content":"Yes"}', "stop"),
        ),
        [("reasoning", "Hmm."), ("text", "Yes")],
    ),
    "both names for the same reasoning": Recording(
        stream(
            chunk(VLLM, '{"reasoning":"Hm","reasoning_content":"Hm"}'),
            chunk(VLLM, text("Yes"), "stop"),
        ),
        [("reasoning", "Hm"), ("text", "Yes")],
    ),
    "reasoning that is no text": Recording(
        stream(chunk(OLLAMA, '{"content":"Yes","reasoning":{"effort":"low"},"reasoning_details":[]}', "stop")),
        [("text", "Yes")],
    ),
    "think tags": Recording(
        stream(
            chunk(LM_STUDIO, text("<think>")),
            chunk(LM_STUDIO, text("\nIs 1 < 2? </thin is no tag.\n")),
            chunk(LM_STUDIO, text("</think>\n\n")),
            chunk(LM_STUDIO, text("Yes, <think> is a tag.")),
            chunk(LM_STUDIO, "{}", "stop"),
        ),
        [("reasoning", "Is 1 < 2? </thin is no tag.\n"), ("text", "Yes, <think> is a tag.")],
        think="tags",
    ),
    "think tags cut into letters": Recording(
        stream(
            *(chunk(LM_STUDIO, text(letter)) for letter in "\n<think>ab</think>\ncd<"), chunk(LM_STUDIO, "{}", "stop")
        ),
        [("reasoning", "ab"), ("text", "cd<")],
        think="tags",
    ),
    "think tags of a block without thoughts": Recording(
        stream(chunk(LLAMA, text("<think>\n\n</think>\n\nHi")), chunk(LLAMA, "{}", "stop")),
        [("text", "Hi")],
        think="tags",
    ),
    "think tags that never come": Recording(
        stream(chunk(LLAMA, text("<")), chunk(LLAMA, text("thin")), chunk(LLAMA, "{}", "stop")),
        [("text", "<thin")],
        think="tags",
    ),
    "think tag that is not closed": Recording(
        stream(chunk(LLAMA, text("<think>ab</th")), chunk(LLAMA, "{}", "length")),
        [("reasoning", "ab</th")],
        "length",
        think="tags",
    ),
    "think block opened by the template": Recording(
        stream(chunk(VLLM, text("ab")), chunk(VLLM, text("c</think>\n\nYes")), chunk(VLLM, "{}", "stop")),
        [("reasoning", "abc"), ("text", "Yes")],
        think="open",
    ),
    "think block opened by the template and again by the model": Recording(
        stream(chunk(VLLM, text("<thi")), chunk(VLLM, text("nk>\nab</think>Yes")), chunk(VLLM, "{}", "stop")),
        [("reasoning", "ab"), ("text", "Yes")],
        think="open",
    ),
    "think tags with logprobs": Recording(
        stream(
            chunk(VLLM, text("<think>"), logprobs=SPECIAL),
            chunk(VLLM, text("</think>"), logprobs=SPECIAL),
            chunk(VLLM, text("Hé"), logprobs=LOGPROBS.replace("null}]", "[72,111]}]")),
            chunk(VLLM, "{}", "stop"),
        ),
        [
            (
                "text",
                "Hé",
                [
                    {
                        "token": "Hé",
                        "bytes": [72, 195, 169],
                        "logprob": -0.25,
                        "top_logprobs": [
                            {"token": "Hé", "bytes": [72, 195, 169], "logprob": -0.25},
                            {"token": "Ho", "bytes": [72, 111], "logprob": -1.5},
                        ],
                    }
                ],
            )
        ],
        think="tags",
    ),
    # --- Logprobs and refusals ---
    "logprobs, null bytes": Recording(
        stream(
            chunk(OPENAI, ROLE, logprobs='{"content":[],"refusal":null}'),
            chunk(OPENAI, text("Hé"), logprobs=LOGPROBS),
            chunk(OPENAI, text("<|x|>"), logprobs=SPECIAL),
            chunk(OPENAI, "{}", "stop", logprobs="null"),
        ),
        [
            (
                "text",
                "Hé<|x|>",
                [
                    {
                        "token": "Hé",
                        "bytes": [72, 195, 169],
                        "logprob": -0.25,
                        "top_logprobs": [
                            {"token": "Hé", "bytes": [72, 195, 169], "logprob": -0.25},
                            {"token": "Ho", "bytes": [72, 111], "logprob": -1.5},
                        ],
                    },
                    {"token": "<|x|>", "bytes": [60, 124, 120, 124, 62], "logprob": -9999.0, "top_logprobs": []},
                ],
            )
        ],
    ),
    "logprobs of a character in two tokens": Recording(
        stream(
            chunk(VLLM, text(""), logprobs=HALF),
            chunk(VLLM, text("🦄"), "stop", logprobs=OTHER_HALF),
        ),
        [
            (
                "text",
                "🦄",
                [
                    {"token": "bytes:\\xf0\\x9f", "bytes": [240, 159], "logprob": -0.5, "top_logprobs": []},
                    {"token": "bytes:\\xa6\\x84", "bytes": [166, 132], "logprob": -0.125, "top_logprobs": []},
                ],
            )
        ],
    ),
    "refusal": Recording(
        stream(
            chunk(OPENAI, '{"role":"assistant","content":null,"refusal":""}'),
            chunk(OPENAI, '{"refusal":"I\'m sorry"}'),
            chunk(OPENAI, '{"refusal":", no."}'),
            chunk(OPENAI, "{}", "stop"),
        ),
        [("refusal", "I'm sorry, no.")],
    ),
}
