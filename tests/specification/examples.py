"""Hand-written streams and bodies that both specifications and all laws accept.

Each stream function returns fresh events, so a test may change what it gets.
"""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def usage() -> Json:
    return {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 4,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 13,
    }


def response(status: str = "completed", **changes: Any) -> Json:
    """A Response object with every key that either specification asks for."""
    body: Json = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1760000000,
        "completed_at": 1760000001 if status == "completed" else None,
        "status": status,
        "error": {"code": "server_error", "message": "The model stopped."} if status == "failed" else None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": None,
        "model": "demo",
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "store": True,
        "temperature": 1.0,
        "top_p": 1.0,
        "presence_penalty": 0,
        "frequency_penalty": 0,
        "top_logprobs": 0,
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": "auto",
        "tools": [],
        "truncation": "disabled",
        "usage": usage() if status in {"completed", "incomplete"} else None,
        "user": None,
        "metadata": {},
        "background": False,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "service_tier": "default",
        "safety_identifier": None,
        "prompt_cache_key": None,
    }
    return {**body, **changes}


def text_part(text: str = "", annotations: list[Json] | None = None) -> Json:
    return {"type": "output_text", "text": text, "annotations": annotations or [], "logprobs": []}


def message(status: str, *parts: Json, identifier: str = "msg_1") -> Json:
    return {"type": "message", "id": identifier, "role": "assistant", "status": status, "content": list(parts)}


def function_call(status: str, arguments: str) -> Json:
    names = {"id": "fc_1", "call_id": "call_1", "name": "weather"}
    return {"type": "function_call", **names, "arguments": arguments, "status": status}


def stream(*middle: Json, status: str = "completed", queued: bool = False) -> list[Json]:
    """A whole stream around the events of its items, numbered; the output is what the done events hold."""
    first = "queued" if queued else "in_progress"
    output = [event["item"] for event in middle if event["type"] == "response.output_item.done"]
    end = "failed" if status == "cancelled" else status
    events = [
        {"type": "response.created", "response": response(first)},
        *([{"type": "response.queued", "response": response("queued")}] if queued else []),
        {"type": "response.in_progress", "response": response("in_progress")},
        *middle,
        {"type": f"response.{end}", "response": response(status, output=output)},
    ]
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


def item_events(added: Json, done: Json, *between: Json, index: int = 0) -> list[Json]:
    """The events of one item; `between` get its id and index."""
    place = {"output_index": index}
    return [
        {"type": "response.output_item.added", **place, "item": added},
        *({"item_id": added["id"], **place, **event} for event in between),
        {"type": "response.output_item.done", **place, "item": done},
    ]


def part_events(kind: str, empty: Json, whole: Json, *deltas: str, index: int = 0, text: str = "text") -> list[Json]:
    """The events of one content part whose text arrives in `deltas`."""
    place = {"content_index": index}
    logprobs: Json = {"logprobs": []} if kind == "output_text" else {}
    return [
        {"type": "response.content_part.added", **place, "part": empty},
        *({"type": f"response.{kind}.delta", **place, "delta": delta, **logprobs} for delta in deltas),
        {"type": f"response.{kind}.done", **place, text: whole[text], **logprobs},
        {"type": "response.content_part.done", **place, "part": whole},
    ]


def text_message(status: str = "completed", *, index: int = 0, identifier: str = "msg_1") -> list[Json]:
    part = text_part("Hello world")
    return item_events(
        message("in_progress", identifier=identifier),
        message(status, part, identifier=identifier),
        *part_events("output_text", text_part(), part, "Hello", " ", "world"),
        index=index,
    )


def text() -> list[Json]:
    return stream(*text_message())


def cited() -> list[Json]:
    citation = {"type": "url_citation", "url": "https://a.example", "title": "A", "start_index": 0, "end_index": 2}
    first, second = text_part("Hi", [citation]), text_part("there")
    events = part_events("output_text", text_part(), first, "H", "i")
    place = {"content_index": 0, "annotation_index": 0}
    events.insert(3, {"type": "response.output_text.annotation.added", **place, "annotation": citation})
    events += part_events("output_text", text_part(), second, "there", index=1)
    return stream(*item_events(message("in_progress"), message("completed", first, second), *events))


def refusal() -> list[Json]:
    empty, whole = {"type": "refusal", "refusal": ""}, {"type": "refusal", "refusal": "I won't."}
    events = part_events("refusal", empty, whole, "I ", "won't.", text="refusal")
    return stream(*item_events(message("in_progress"), message("completed", whole), *events))


def call() -> list[Json]:
    """A call, then a message; the arguments come in two pieces."""
    kind = "response.function_call_arguments"
    events = item_events(
        function_call("in_progress", ""),
        function_call("completed", '{"city":"Oslo"}'),
        {"type": f"{kind}.delta", "delta": '{"city":'},
        {"type": f"{kind}.delta", "delta": '"Oslo"}'},
        {"type": f"{kind}.done", "arguments": '{"city":"Oslo"}', "name": "weather"},
    )
    return stream(*events, *text_message(index=1))


def reasoning(raw: str = "response.reasoning_text") -> list[Json]:
    """A summary part and raw text under the event name `raw`, then a message; the response was queued."""
    empty, whole = {"type": "reasoning_text", "text": ""}, {"type": "reasoning_text", "text": "So 4."}
    summary, place = {"type": "summary_text", "text": "Adding."}, {"summary_index": 0}
    name = "response.reasoning_summary"
    shown = [
        {"type": f"{name}_part.added", **place, "part": {"type": "summary_text", "text": ""}},
        {"type": f"{name}_text.delta", **place, "delta": "Add"},
        {"type": f"{name}_text.delta", **place, "delta": "ing."},
        {"type": f"{name}_text.done", **place, "text": "Adding."},
        {"type": f"{name}_part.done", **place, "part": summary},
    ]
    events = part_events(raw.removeprefix("response."), empty, whole, "So ", "4.")
    item: Json = {"type": "reasoning", "id": "rs_1", "status": "in_progress", "summary": []}
    done = {**item, "status": "completed", "summary": [summary], "content": [whole], "encrypted_content": "AbC="}
    return stream(*item_events(item, done, *shown, *events), *text_message(index=1), queued=True)


def incomplete() -> list[Json]:
    return stream(*text_message("incomplete"), status="incomplete")


def cut_call() -> list[Json]:
    """A call cut off in its arguments, which therefore has no done event of its own."""
    delta = {"type": "response.function_call_arguments.delta", "delta": '{"ci'}
    events = item_events(function_call("in_progress", ""), function_call("incomplete", '{"ci'), delta)
    return stream(*events, status="incomplete")


def failed() -> list[Json]:
    return stream(*text_message("incomplete"), status="failed")


def failed_with_error_event() -> list[Json]:
    error = {"type": "server_error", "code": None, "message": "The model stopped.", "param": None}
    return stream(*text_message("incomplete"), {"type": "error", "error": error}, status="failed")


def cancelled() -> list[Json]:
    return stream(*text_message("incomplete"), status="cancelled")


def never_started() -> list[Json]:
    """A queued response that was cancelled before it ran."""
    events = stream(status="cancelled", queued=True)
    del events[2]
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


def custom_call() -> list[Json]:
    names = {"type": "custom_tool_call", "id": "ctc_1", "call_id": "call_1", "name": "patch"}
    return stream(
        *item_events(
            {**names, "input": "", "status": "in_progress"},
            {**names, "input": "*** a", "status": "completed"},
            {"type": "response.custom_tool_call_input.delta", "delta": "*** a"},
            {"type": "response.custom_tool_call_input.done", "input": "*** a"},
        )
    )


def hosted() -> list[Json]:
    """One call of each hosted tool that has events of its own."""
    search, code, tools, mcp = "web_search_call", "code_interpreter_call", "mcp_list_tools", "mcp_call"
    searched: Json = {"type": search, "id": "ws_1", "status": "in_progress"}
    action = {"type": "search", "queries": ["oslo"]}
    ran: Json = {"type": code, "id": "ci_1", "status": "in_progress", "container_id": "cntr_1", "code": ""}
    listed: Json = {"type": tools, "id": "mcpl_1", "server_label": "s", "tools": []}
    called: Json = {"type": mcp, "id": "mcp_1", "server_label": "s", "name": "f", "status": "in_progress"}
    error = {"type": "http_error", "code": 502, "message": "Bad Gateway"}
    return stream(
        *item_events(
            searched,
            {**searched, "status": "completed", "action": action},
            *({"type": f"response.{search}.{step}"} for step in ("in_progress", "searching", "completed")),
        ),
        *item_events(
            {**ran, "outputs": None},
            {**ran, "status": "completed", "code": "1+1", "outputs": [{"type": "logs", "logs": "2"}]},
            {"type": f"response.{code}.in_progress"},
            {"type": f"response.{code}_code.delta", "delta": "1+1"},
            {"type": f"response.{code}_code.done", "code": "1+1"},
            {"type": f"response.{code}.interpreting"},
            {"type": f"response.{code}.completed"},
            index=1,
        ),
        *item_events(
            listed,
            {**listed, "tools": [{"name": "f", "input_schema": {"type": "object"}}]},
            {"type": f"response.{tools}.in_progress"},
            {"type": f"response.{tools}.completed"},
            index=2,
        ),
        *item_events(
            {**called, "arguments": ""},
            {**called, "arguments": "{}", "status": "failed", "error": error},
            {"type": f"response.{mcp}.in_progress"},
            {"type": f"response.{mcp}_arguments.delta", "delta": "{}"},
            {"type": f"response.{mcp}_arguments.done", "arguments": "{}"},
            {"type": f"response.{mcp}.failed"},
            index=3,
        ),
        *item_events({"type": "compaction", "id": "cmp_1", "encrypted_content": "A="}, _COMPACTED, index=4),
    )


_COMPACTED: Json = {"type": "compaction", "id": "cmp_1", "encrypted_content": "A="}
