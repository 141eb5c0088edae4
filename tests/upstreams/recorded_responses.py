"""Replies of Responses servers, written by hand from what OpenAI's documentation publishes, and what they say.

Nothing here was received from OpenAI: the shapes are those of the API reference and of the guides on streaming,
reasoning and tools, and of the Open Responses specification where it says so.  One is that of llama.cpp's stream.
"""

from __future__ import annotations

import json
from typing import Any

from tests.upstreams.sayings import Recording

Json = dict[str, Any]

USAGE: Json = {
    "input_tokens": 36,
    "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 4},
    "output_tokens": 87,
    "output_tokens_details": {"reasoning_tokens": 64},
    "total_tokens": 123,
}
COUNTED = (36, 8, 4, 87, 64)


def response(status: str = "completed", output: list[Json] | None = None, **members: Any) -> Json:
    return {
        "id": "resp_67ccd2bed1ec8190b14f964abc0542670bb6a6b452d3795b",
        "object": "response",
        "created_at": 1741476542,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "model": "gpt-5.5-2026-04-23",
        "output": output or [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": "medium", "summary": None},
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": USAGE if status in ("completed", "incomplete") else None,
        "user": None,
        "metadata": {},
        **members,
    }


def event(kind: str, **members: Any) -> Json:
    return {"type": kind, **members}


def stream(*events: Json, begun: bool = True, done: bool = False, names: bool = True, end: str = "\n") -> bytes:
    """Events as they are sent, numbered, behind the two that every stream begins with, of which little is shown."""
    shell = {"id": "resp_1", "object": "response", "status": "in_progress", "error": None, "output": [], "usage": None}
    head = [event(f"response.{name}", response=shell) for name in ("created", "in_progress")]
    lines: list[str] = []
    for number, one in enumerate([*(head if begun else []), *events]):
        lines += [f"event: {one['type']}"] if names else []
        data = json.dumps({**one, "sequence_number": number}, ensure_ascii=False, separators=(",", ":"))
        lines += [f"data: {data}", ""]
    lines += ["data: [DONE]", ""] if done else []
    return "".join(f"{line}{end}" for line in lines).encode()


def added(index: int, item: Json) -> Json:
    return event("response.output_item.added", output_index=index, item=item)


def done(index: int, item: Json) -> Json:
    return event("response.output_item.done", output_index=index, item=item)


def completed(*items: Json, **members: Any) -> Json:
    return event("response.completed", response=response(output=list(items), **members))


def message(*parts: Json, status: str = "completed", **members: Any) -> Json:
    return {
        "id": "msg_67ccd3acc8d48190a77525dc6de64b4104becb25c45c1d41",
        "type": "message",
        "status": status,
        "content": list(parts),
        "role": "assistant",
        **members,
    }


def text_part(text: str, annotations: list[Json] | None = None, logprobs: list[Json] | None = None) -> Json:
    return {"type": "output_text", "annotations": annotations or [], "logprobs": logprobs or [], "text": text}


def uncounted(*events: Json) -> list[Json]:
    """Events of a server that names the items and does not count them."""
    return [{name: value for name, value in one.items() if not name.endswith("_index")} for one in events]


def in_part(kind: str, number: int = 0, index: int = 0, **members: Any) -> Json:
    item_id = "msg_67ccd3acc8d48190a77525dc6de64b4104becb25c45c1d41"
    return event(kind, item_id=item_id, output_index=index, content_index=number, **members)


def spoken(*pieces: str, number: int = 0, index: int = 0) -> list[Json]:
    """A part of text from its beginning to its end."""
    whole = "".join(pieces)
    at = {"number": number, "index": index}
    return [
        in_part("response.content_part.added", part=text_part(""), **at),
        *(in_part("response.output_text.delta", delta=one, logprobs=[], obfuscation="r4nd0m", **at) for one in pieces),
        in_part("response.output_text.done", text=whole, logprobs=[], **at),
        in_part("response.content_part.done", part=text_part(whole), **at),
    ]


def said_message(*pieces: str, index: int = 0) -> list[Json]:
    return [
        added(index, message(status="in_progress")),
        *spoken(*pieces, index=index),
        done(index, message(text_part("".join(pieces)))),
    ]


# --- Reasoning ---

REASONING_ID = "rs_6876cf02e0bc8192b74af0fb64b715ff06fa2fcced15a5ac"
SECRET = "gAAAAABofs8iJUxvaWN0YXRvcg=="


def reasoning(summary: list[Json] | None = None, **members: Any) -> Json:
    return {"id": REASONING_ID, "type": "reasoning", "summary": summary or [], **members}


def summary_events(*texts: str, index: int = 0) -> list[Json]:
    place = {"item_id": REASONING_ID, "output_index": index}
    events = []
    for number, text in enumerate(texts):
        at = {**place, "summary_index": number}
        head, tail = text[:7], text[7:]
        events += [
            event("response.reasoning_summary_part.added", **at, part={"type": "summary_text", "text": ""}),
            event("response.reasoning_summary_text.delta", **at, delta=head, obfuscation="x"),
            event("response.reasoning_summary_text.delta", **at, delta=tail, obfuscation="y"),
            event("response.reasoning_summary_text.done", **at, text=text),
            event("response.reasoning_summary_part.done", **at, part={"type": "summary_text", "text": text}),
        ]
    return events


def summaries(*texts: str) -> list[Json]:
    return [{"type": "summary_text", "text": text} for text in texts]


KEPT = {"encrypted_content": {"id": REASONING_ID, "content": SECRET}}
ROLE = {"role": "assistant"}

# --- Calls ---

CALL: Json = {
    "id": "fc_67ccd3acc8d48190a77525dc6de64b41",
    "type": "function_call",
    "status": "completed",
    "arguments": '{"city": "Paris"}',
    "call_id": "call_unLAR8MvFNptuiZK6K6HCy5k",
    "name": "get_weather",
}
CUSTOM: Json = {
    "id": "ctc_6890e975e86c819c9338825b3e1994810694874912ae0ea6",
    "type": "custom_tool_call",
    "status": "completed",
    "call_id": "call_aGiFQkRWSWAIsMQ19fKqxUgb",
    "input": "*** Begin Patch\n*** End Patch",
    "name": "apply_patch",
}
PARALLEL: Json = {**CALL, "id": "fc_2", "call_id": "call_2", "name": "get_time", "arguments": "{}"}


def call_events(item: Json, *pieces: str, index: int = 0) -> list[Json]:
    kind, field = ("custom_tool_call_input", "input") if "input" in item else ("function_call_arguments", "arguments")
    place = {"item_id": item["id"], "output_index": index}
    return [
        added(index, {**item, "status": "in_progress", field: ""}),
        *(event(f"response.{kind}.delta", **place, delta=piece, obfuscation="z") for piece in pieces),
        event(f"response.{kind}.done", **place, **{field: "".join(pieces)}),
        done(index, item),
    ]


WEATHER = ("call", CALL["call_id"], "get_weather", '{"city": "Paris"}', True)
PATCH = ("call", CUSTOM["call_id"], "apply_patch", CUSTOM["input"], True)

# --- What the provider runs ---

SEARCH_ID = "ws_67c9fa0502748190b7dd390736892e100be649c1a5ff9609"
SEARCH: Json = {
    "id": SEARCH_ID,
    "type": "web_search_call",
    "status": "completed",
    "action": {"type": "search", "query": "positive news", "sources": [{"type": "url", "url": "https://a.example/"}]},
}
CITATION: Json = {
    "type": "url_citation",
    "start_index": 0,
    "end_index": 4,
    "url": "https://a.example/?utm_source=openai",
    "title": "A",
}
INTERPRETER: Json = {
    "id": "ci_68a",
    "type": "code_interpreter_call",
    "status": "completed",
    "code": "print(1)",
    "container_id": "cntr_68a",
    "outputs": None,
}


def progress(kind: str, item: Json, **members: Any) -> Json:
    return event(kind, output_index=0, item_id=item["id"], **members)


LOGPROBS = [
    {"token": "Hé", "logprob": -0.25, "bytes": [72, 195, 169], "top_logprobs": [{"token": "Hé", "logprob": -0.25}]}
]
MESSAGE_BEGINS, MESSAGE_ENDS = ("item", 0, "message", ROLE, None), ("item", 0, "message", ROLE, "completed")
WHOLE_PART = ("part is whole",)
HELLO = [MESSAGE_BEGINS, ("text", "Hello 漢 ça va?"), WHOLE_PART, MESSAGE_ENDS]

STREAMS = {
    "text": Recording(
        stream(*said_message("Hel", "lo 漢 ça", " va?"), completed(message(text_part("Hello 漢 ça va?")))),
        HELLO,
        usage=COUNTED,
    ),
    "text of a server that ends with [DONE], names no events and writes CRLF": Recording(
        stream(
            *said_message("Hel", "lo 漢 ça", " va?"),
            completed(message(text_part("Hello 漢 ça va?")), usage=None),
            done=True,
            names=False,
            end="\r\n",
        ),
        HELLO,
    ),
    "keep-alives and events of which nobody has heard": Recording(
        b": keepalive\n\n"
        + stream(
            event("keepalive"),
            added(0, message(status="in_progress")),
            event("response.novel.delta", output_index=0, delta="?"),
            *spoken("Hello 漢 ça va?"),
            event("keepalive"),
            done(0, message(text_part("Hello 漢 ça va?"))),
            completed(message(text_part("Hello 漢 ça va?"))),
        ),
        HELLO,
        usage=COUNTED,
    ),
    "logprobs": Recording(
        stream(
            added(0, message(status="in_progress")),
            in_part("response.output_text.delta", delta="Hé", logprobs=LOGPROBS),
            in_part("response.content_part.done", part=text_part("Hé", logprobs=LOGPROBS)),
            done(0, message(text_part("Hé", logprobs=LOGPROBS))),
            completed(),
        ),
        [MESSAGE_BEGINS, ("text", "Hé", LOGPROBS), WHOLE_PART, MESSAGE_ENDS],
        usage=COUNTED,
    ),
    "two messages, two parts, phases": Recording(
        stream(
            added(0, message(status="in_progress", phase="commentary")),
            *spoken("I look."),
            done(0, message(text_part("I look."), phase="commentary")),
            added(1, message(status="in_progress", phase="final_answer")),
            *spoken("One", ".", index=1),
            *spoken("Two.", index=1, number=1),
            done(1, message(text_part("One."), text_part("Two."), phase="final_answer")),
            completed(message(text_part("I look.")), message(text_part("One."), text_part("Two."))),
        ),
        [
            ("item", 0, "message", {**ROLE, "phase": "commentary"}, None),
            ("text", "I look."),
            WHOLE_PART,
            ("item", 0, "message", {**ROLE, "phase": "commentary"}, "completed"),
            ("item", 1, "message", {**ROLE, "phase": "final_answer"}, None),
            ("text", "One."),
            WHOLE_PART,
            ("text", "Two."),
            WHOLE_PART,
            ("item", 1, "message", {**ROLE, "phase": "final_answer"}, "completed"),
        ],
        usage=COUNTED,
    ),
    "a refusal": Recording(
        stream(
            added(0, message(status="in_progress")),
            in_part("response.content_part.added", part={"type": "refusal", "refusal": ""}),
            in_part("response.refusal.delta", delta="I can't "),
            in_part("response.refusal.delta", delta="do that."),
            in_part("response.refusal.done", refusal="I can't do that."),
            in_part("response.content_part.done", part={"type": "refusal", "refusal": "I can't do that."}),
            done(0, message({"type": "refusal", "refusal": "I can't do that."})),
            completed(),
        ),
        [MESSAGE_BEGINS, ("refusal", "I can't do that."), WHOLE_PART, MESSAGE_ENDS],
        usage=COUNTED,
    ),
    "summaries of encrypted reasoning, then text": Recording(
        stream(
            added(0, reasoning(encrypted_content="gAAAA-so-far")),
            *summary_events("**Looking** at it", "**Answering** it"),
            done(0, reasoning(summaries("**Looking** at it", "**Answering** it"), encrypted_content=SECRET)),
            *said_message("Yes", index=1),
            completed(),
        ),
        [
            ("item", 0, "reasoning", {}, None),
            ("summary", "**Looking** at it"),
            WHOLE_PART,
            ("summary", "**Answering** it"),
            WHOLE_PART,
            ("item", 0, "reasoning", KEPT, "completed"),
            ("item", 1, "message", ROLE, None),
            ("text", "Yes"),
            WHOLE_PART,
            ("item", 1, "message", ROLE, "completed"),
        ],
        usage=COUNTED,
    ),
    "encrypted reasoning that shows nothing": Recording(
        stream(added(0, reasoning()), done(0, reasoning(encrypted_content=SECRET)), completed()),
        [("item", 0, "reasoning", {}, None), ("item", 0, "reasoning", KEPT, "completed")],
        usage=COUNTED,
    ),
    "raw reasoning under both names": Recording(
        stream(
            added(0, reasoning(content=[])),
            event("response.reasoning_text.delta", item_id=REASONING_ID, output_index=0, content_index=0, delta="Hm, "),
            event("response.reasoning.delta", item_id=REASONING_ID, output_index=0, content_index=0, delta="yes."),
            done(0, reasoning(content=[{"type": "reasoning_text", "text": "Hm, yes."}], status="completed")),
            completed(),
        ),
        [
            ("item", 0, "reasoning", {}, None),
            ("reasoning", "Hm, yes."),
            WHOLE_PART,
            ("item", 0, "reasoning", {}, "completed"),
        ],
        usage=COUNTED,
    ),
    "calls, one after the other and at once": Recording(
        stream(
            *call_events(CALL, '{"city"', ': "Par', 'is"}'),
            added(1, {**CUSTOM, "status": "in_progress", "input": ""}),
            added(2, {**PARALLEL, "status": "in_progress", "arguments": ""}),
            event("response.custom_tool_call_input.delta", item_id=CUSTOM["id"], output_index=1, delta="*** Begin "),
            event("response.function_call_arguments.delta", item_id="fc_2", output_index=2, delta="{}"),
            event("response.custom_tool_call_input.delta", output_index=1, delta="Patch\n*** End Patch"),
            done(2, PARALLEL),
            done(1, CUSTOM),
            completed(CALL, CUSTOM, PARALLEL),
        ),
        [WEATHER, PATCH, ("call", "call_2", "get_time", "{}", True)],
        usage=COUNTED,
    ),
    "a call whose arguments come at the end only": Recording(
        stream(added(0, {**CALL, "status": "in_progress", "arguments": ""}), done(0, CALL), completed(CALL)),
        [WEATHER],
        usage=COUNTED,
    ),
    "a call whose name comes at the end only": Recording(
        stream(
            added(0, {"type": "function_call", "id": CALL["id"], "name": ""}),
            event("response.function_call_arguments.delta", item_id=CALL["id"], delta='{"city": '),
            event("response.function_call_arguments.delta", item_id=CALL["id"], delta='"Paris"}'),
            done(0, CALL),
            completed(),
        ),
        [WEATHER],
        usage=COUNTED,
    ),
    "a call in a server's own words": Recording(
        stream(
            added(0, {**CALL, "arguments": ""}),
            done(0, {**CALL, "arguments": {"a": [1, 12345678901234567890], "b": 1.5}}),
            completed(),
        ),
        [("call", CALL["call_id"], "get_weather", '{"a":[1,12345678901234567890],"b":1.5}', True)],
        usage=COUNTED,
    ),
    "a search of the provider, and text that cites it": Recording(
        stream(
            added(0, {"id": SEARCH_ID, "type": "web_search_call", "status": "in_progress"}),
            progress("response.web_search_call.in_progress", SEARCH),
            progress("response.web_search_call.searching", SEARCH),
            progress("response.web_search_call.completed", SEARCH),
            done(0, SEARCH),
            added(1, message(status="in_progress")),
            in_part("response.content_part.added", index=1, part=text_part("")),
            in_part("response.output_text.delta", index=1, delta="News", logprobs=[]),
            in_part("response.output_text.annotation.added", index=1, annotation_index=0, annotation=CITATION),
            in_part("response.content_part.done", index=1, part=text_part("News", [CITATION])),
            done(1, message(text_part("News", [CITATION]))),
            completed(),
        ),
        [
            ("item", 0, "web_search_call", {}, None),
            ("event", 0, "response.web_search_call.in_progress", {}),
            ("event", 0, "response.web_search_call.searching", {}),
            ("event", 0, "response.web_search_call.completed", {}),
            ("item", 0, "web_search_call", {"action": SEARCH["action"]}, "completed"),
            ("item", 1, "message", ROLE, None),
            ("text", "News"),
            ("annotation", CITATION),
            WHOLE_PART,
            ("item", 1, "message", ROLE, "completed"),
        ],
        usage=COUNTED,
    ),
    "an annotation that no event told": Recording(
        stream(*said_message("News")[:-3], done(0, message(text_part("News", [CITATION]))), completed()),
        [MESSAGE_BEGINS, ("text", "News"), ("annotation", CITATION), WHOLE_PART, MESSAGE_ENDS],
        usage=COUNTED,
    ),
    "code of the provider, which grows": Recording(
        stream(
            added(0, {**INTERPRETER, "status": "in_progress", "code": ""}),
            progress("response.code_interpreter_call.in_progress", INTERPRETER),
            progress("response.code_interpreter_call_code.delta", INTERPRETER, delta="print(", obfuscation="q"),
            progress("response.code_interpreter_call_code.delta", INTERPRETER, delta="1)"),
            progress("response.code_interpreter_call_code.done", INTERPRETER, code="print(1)"),
            progress("response.code_interpreter_call.interpreting", INTERPRETER),
            progress("response.code_interpreter_call.completed", INTERPRETER),
            done(0, INTERPRETER),
            completed(),
        ),
        [
            ("item", 0, "code_interpreter_call", {"code": "", "container_id": "cntr_68a", "outputs": None}, None),
            ("event", 0, "response.code_interpreter_call.in_progress", {}),
            ("event", 0, "response.code_interpreter_call_code.delta", {"delta": "print("}),
            ("event", 0, "response.code_interpreter_call_code.delta", {"delta": "1)"}),
            ("event", 0, "response.code_interpreter_call_code.done", {"code": "print(1)"}),
            ("event", 0, "response.code_interpreter_call.interpreting", {}),
            ("event", 0, "response.code_interpreter_call.completed", {}),
            (
                *("item", 0, "code_interpreter_call"),
                {"code": "print(1)", "container_id": "cntr_68a", "outputs": None},
                "completed",
            ),
        ],
        usage=COUNTED,
    ),
    "items of which nobody has heard, and one that is encrypted": Recording(
        stream(
            added(0, {"id": "x_1", "type": "novelty", "depth": {"a": [1]}}),
            done(0, {"id": "x_1", "type": "novelty", "depth": {"a": [1, 2]}, "status": "failed"}),
            done(1, {"id": "cmp_1", "type": "compaction", "encrypted_content": SECRET}),
            completed(),
        ),
        [
            ("item", 0, "novelty", {"depth": {"a": [1]}}, None),
            ("item", 0, "novelty", {"depth": {"a": [1, 2]}}, "failed"),
            ("item", 1, "compaction", {}, None),
            ("item", 1, "compaction", {"encrypted_content": {"id": "cmp_1", "content": SECRET}}, "completed"),
        ],
        usage=COUNTED,
    ),
    "only the final Response": Recording(
        stream(completed(message(text_part("News", [CITATION])), CALL)),
        [
            MESSAGE_BEGINS,
            ("text", "News"),
            ("annotation", CITATION),
            WHOLE_PART,
            MESSAGE_ENDS,
            WEATHER,
        ],
        usage=COUNTED,
    ),
    "llama.cpp, which counts no items and finishes all at the end": Recording(
        stream(
            *uncounted(
                added(0, message(status="in_progress")),
                in_part("response.content_part.added", part={"type": "output_text", "text": ""}),
                in_part("response.output_text.delta", delta="Hello 漢 ça"),
                in_part("response.output_text.delta", delta=" va?"),
                added(0, {**CALL, "status": "in_progress", "arguments": ""}),
                event("response.function_call_arguments.delta", item_id=CALL["id"], delta=CALL["arguments"]),
                in_part("response.content_part.done", part=text_part("Hello 漢 ça va?")),
                done(0, message(text_part("Hello 漢 ça va?"))),
                done(0, CALL),
                completed(message(text_part("Hello 漢 ça va?")), CALL),
            )
        ),
        [*HELLO[:2], WEATHER, WHOLE_PART, MESSAGE_ENDS],
        usage=COUNTED,
    ),
    "text that is told whole only": Recording(
        stream(added(0, message(status="in_progress")), done(0, message(text_part("Hello 漢 ça va?"))), completed()),
        HELLO,
        usage=COUNTED,
    ),
    "cut by the limit": Recording(
        stream(
            *said_message("Hello")[:-3],
            in_part("response.content_part.done", part=text_part("Hello")),
            done(0, message(text_part("Hello"), status="incomplete")),
            event(
                "response.incomplete",
                response=response("incomplete", incomplete_details={"reason": "max_output_tokens"}),
            ),
        ),
        [MESSAGE_BEGINS, ("text", "Hello"), WHOLE_PART, ("item", 0, "message", ROLE, "incomplete")],
        "length",
        COUNTED,
    ),
    "cut in a call": Recording(
        stream(
            *call_events(CALL, '{"city"')[:2],
            done(0, {**CALL, "status": "incomplete", "arguments": '{"city"'}),
            event("response.incomplete", response=response("incomplete", incomplete_details={"reason": "max_tokens"})),
        ),
        [("call", CALL["call_id"], "get_weather", '{"city"', False)],
        "length",
        COUNTED,
    ),
    "cut by a filter": Recording(
        stream(
            event(
                "response.incomplete",
                response=response("incomplete", incomplete_details={"reason": "content_filter"}, usage=None),
            ),
        ),
        [],
        "content_filter",
    ),
}
