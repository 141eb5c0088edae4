"""The harness's own tests: bodies, the corrections of the documents, the messages, and the reader of SSE bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.specification import conformance, examples
from tests.specification.conformance import KNOWN_SPECIFICATION_ERRORS, check_event, check_response, parse_sse
from tests.specification.documents import FOLDER, REFERENCE
from tests.specification.examples import Json, function_call, message, response, text_part
from tests.specification.known_errors import SpecificationError, correct_documents

HOSTED: Json = {"type": "file_search_call", "id": "fs_1", "status": "completed", "queries": [], "results": None}
OURS: Json = {"type": "antiphon:note", "id": "note_1", "status": "completed", "anything": [1]}
DELTA: Json = {"item_id": "rs_1", "output_index": 0, "content_index": 0, "delta": "a", "sequence_number": 1}
SCHEMA = {"type": "json_schema", "name": "a", "description": None, "schema": {"type": "object"}, "strict": True}
PAYLOAD: Json = {"type": "server_error", "code": "server_error", "message": "m", "param": None}
IMAGE: Json = {"type": "input_image", "detail": "auto", "file_id": "file-1"}

# What each corrected entry is there for: (document, component, a value that only the correction lets pass).
WITNESSES: dict[str, tuple[str, str, Any]] = {
    "Response.usage": ("openai", "Response", response("queued")),
    "Response.user": ("openai", "Response", response(user=None)),
    "Response.incomplete_details.reason": (
        "openai",
        "Response",
        response("incomplete", incomplete_details={"reason": "steered"}),
    ),
    "ResponseErrorCode": ("openai", "ResponseError", {"code": "insufficient_quota", "message": "m"}),
    "TextResponseFormatJsonSchema.description": ("openai", "TextResponseFormatJsonSchema", SCHEMA),
    "MCPTool.server_description": (
        "openai",
        "MCPTool",
        {"type": "mcp", "server_label": "s", "server_description": None},
    ),
    "WebSearchToolCall.action": (
        "openai",
        "WebSearchToolCall",
        {"type": "web_search_call", "id": "ws_1", "status": "in_progress"},
    ),
    "ReasoningItem.content": (
        "openai",
        "ReasoningItem",
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": None},
    ),
    "ItemResource and ConversationItem": (
        "openai",
        "ItemResource",
        {"type": "configuration_update", "id": "cfg_1", "reasoning": {"effort": "low"}},
    ),
    "MCPApprovalResponseResource.required": (
        "openai",
        "MCPApprovalResponseResource",
        {"type": "mcp_approval_response", "id": "m_1", "approval_request_id": "mcpr_1", "approve": True},
    ),
    "LocalShellToolCallOutput.required": (
        "openai",
        "LocalShellToolCallOutput",
        {"type": "local_shell_call_output", "id": "l_1", "output": ""},
    ),
    "first_id and last_id of every list": (
        "openai",
        "ResponseItemList",
        {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False},
    ),
    "ResponseErrorEvent": ("openai", "ResponseErrorEvent", {"type": "error", "sequence_number": 2, "error": PAYLOAD}),
    "ResponseStreamEvent": (
        "openai",
        "ResponseCompactionCompactingEvent",
        {"type": "response.compaction.compacting", "item_id": "cmp_1", "output_index": 0, "sequence_number": 3},
    ),
    "DELETE /responses/{response_id}": (
        "openai",
        "DeletedResponse",
        {"id": "resp_1", "object": "response", "deleted": True},
    ),
    "JsonSchemaResponseFormat.schema": ("openresponses", "JsonSchemaResponseFormat", SCHEMA),
    "Tool": ("openresponses", "Tool", {"type": "web_search"}),
    "ResponseResource.tool_choice": ("openresponses", "ResponseResource", response(tool_choice={"type": "shell"})),
    "ItemField": ("openresponses", "ItemField", HOSTED),
    "Annotation": ("openresponses", "Annotation", {"type": "file_path", "file_id": "file-1", "index": 0}),
    "ReasoningEffortEnum": ("openresponses", "Reasoning", {"effort": "minimal", "summary": None}),
    "ResponseResource.instructions": ("openresponses", "ResponseResource", response(instructions=[])),
    "ImageDetail": ("openresponses", "InputImageContent", {**IMAGE, "image_url": None, "detail": "original"}),
    "InputImageContent.image_url": ("openresponses", "InputImageContent", IMAGE),
    "ErrorStreamingEvent": ("openresponses", "ErrorStreamingEvent", {"type": "error", "status": 400, "error": PAYLOAD}),
    "response.reasoning_text.* and response.reasoning.*": (
        "openresponses",
        "ResponseReasoningDeltaStreamingEvent",
        {"type": "response.reasoning_text.delta", **DELTA},
    ),
    "items named antiphon:*": ("openresponses", "ItemField", OURS),
    "tools named antiphon:*": ("openresponses", "Tool", {"type": "antiphon:note", "anything": [1]}),
    "events named antiphon:*": ("openai", "AntiphonEvent", {"type": "antiphon:note", "sequence_number": 3}),
    "ReasoningBody.content, ReasoningBody.encrypted_content, Message.phase": (
        "openresponses",
        "ListedItem",
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": None, "encrypted_content": None},
    ),
}
CORRECTED = [entry for entry in KNOWN_SPECIFICATION_ERRORS if entry.correct is not None]


@pytest.mark.parametrize("entry", CORRECTED, ids=lambda entry: str(entry.place))
def test_correction_is_needed_and_enough(entry: SpecificationError) -> None:
    document, component, value = WITNESSES[entry.place]
    others = tuple(other for other in KNOWN_SPECIFICATION_ERRORS if other is not entry)
    correct_documents()[document].check(component, value)
    with pytest.raises(AssertionError):
        correct_documents(others)[document].check(component, value)


def test_every_entry_says_why_and_what() -> None:
    places = [entry.place for entry in KNOWN_SPECIFICATION_ERRORS]
    assert len(set(places)) == len(places)
    assert set(WITNESSES) == {entry.place for entry in CORRECTED}
    assert all(entry.reason and entry.remedy for entry in KNOWN_SPECIFICATION_ERRORS)


def tool_call_reply(**changes: Any) -> Json:
    tool = {"type": "function", "name": "f", "description": None, "parameters": {"type": "object"}, "strict": True}
    return response(output=[function_call("completed", "{}")], tools=[tool], **changes)


GOOD_RESPONSES: dict[str, Json] = {
    **{status: response(status) for status in ("queued", "in_progress", "completed", "incomplete", "failed")},
    "cancelled": response("cancelled", output=[message("incomplete", text_part("Hel"))]),
    "tool call": tool_call_reply(),
    "named tool": tool_call_reply(tool_choice={"type": "function", "name": "f"}),
    "allowed tools": tool_call_reply(
        tool_choice={"type": "allowed_tools", "mode": "auto", "tools": [{"type": "mcp", "server_label": "s"}]}
    ),
    "schema": response(text={"format": SCHEMA}),
    "hosted": response(output=[HOSTED], tools=[{"type": "file_search", "vector_store_ids": ["vs_1"]}]),
    "ours": response(output=[OURS]),
    "instructions as items": response(instructions=[{"role": "developer", "content": "Be brief."}]),
    "effort": response(reasoning={"effort": "max", "summary": "auto"}),
    "nested filters": response(
        tools=[
            {
                "type": "file_search",
                "vector_store_ids": [],
                "filters": {
                    "type": "and",
                    "filters": [{"type": "or", "filters": [{"type": "eq", "key": "a", "value": 1}]}],
                },
            }
        ]
    ),
}


@pytest.mark.parametrize("body", GOOD_RESPONSES.values(), ids=GOOD_RESPONSES.keys())
def test_good_response_passes(body: Json) -> None:
    check_response(body)


def broken_filter() -> Json:
    nested = {"type": "and", "filters": [{"type": "or", "filters": [{"type": "near", "key": "a", "value": 1}]}]}
    return response(tools=[{"type": "file_search", "vector_store_ids": [], "filters": nested}])


BAD_RESPONSES: dict[str, tuple[Json, str]] = {
    "status of a message": (
        response(output=[message("bad")]),
        r"openai Response: \$.output\[0\].status: .*\"completed\".* \(\"bad\"\)$",
    ),
    "text of a part": (
        response(output=[message("completed", {**text_part(), "text": 1})]),
        r"openai Response: \$.output\[0\].content\[0\].text: value is not of type \"string\" \(1\)$",
    ),
    "key of a part": (
        response(output=[message("completed", {"type": "output_text", "text": "a", "logprobs": []})]),
        r"\$.output\[0\].content\[0\]: 'annotations' is missing",
    ),
    "unknown type": (
        response(output=[{"type": "thing", "id": "t_1", "status": "completed"}]),
        r"\$.output\[0\]: no branch of the union takes \{'type': 'thing'\}",
    ),
    "filter": (broken_filter(), r"\$.tools\[0\].filters.filters\[0\].filters\[0\]"),
    "ours without status": (response(output=[{"type": "antiphon:x", "id": "x_1"}]), r"\$.output\[0\]: 'status' is"),
    "hosted": (
        response(output=[{**HOSTED, "queries": None}]),
        r"openai Response: \$.output\[0\].queries: .* \(null\)$",
    ),
    "call without id": (
        response(output=[{key: value for key, value in function_call("completed", "").items() if key != "id"}]),
        r"openresponses ResponseResource: \$.output\[0\]: 'id' is missing",
    ),
    "null reasoning": (
        response(output=[{"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": None}]),
        r"openresponses ResponseResource: \$.output\[0\].encrypted_content",
    ),
    "fraction of a second": (response(created_at=1.5), r"openresponses ResponseResource: \$.created_at"),
    "no cache_write_tokens": (
        response(usage={**examples.usage(), "input_tokens_details": {"cached_tokens": 0}}),
        r"openai Response: \$.usage.input_tokens_details: 'cache_write_tokens' is missing",
    ),
    "status": (response("done"), r"openai Response: \$.status"),
    "null temperature": (response(temperature=None), r"openresponses ResponseResource: \$.temperature"),
    "total": (response(usage={**examples.usage(), "total_tokens": 1}), "total_tokens is not 13"),
    "completed without date": (response(completed_at=None), "completed_at is None in status completed"),
    "date without completed": (response("failed", completed_at=1), "completed_at is 1 in status failed"),
    "failed without error": (response("failed", error=None), "error is None in status failed"),
    "incomplete without reason": (response("incomplete", incomplete_details=None), "incomplete_details is None"),
    "usage too early": (response("in_progress", usage=examples.usage()), "usage is set in status in_progress"),
    "completed without usage": (response(usage=None), "completed without usage"),
    "queued with output": (response("queued", output=[message("completed")]), "queued with output"),
    "incomplete item": (response(output=[message("incomplete")]), "incomplete items in a completed response"),
    "incomplete in between": (
        response("incomplete", output=[message("incomplete"), function_call("completed", "{}")]),
        "is not the last",
    ),
    "id twice": (response(output=[message("completed"), message("completed")]), "an id twice"),
    "output_text": (response(output_text=""), "output_text is made by the SDKs"),
}


@pytest.mark.parametrize(("body", "complaint"), BAD_RESPONSES.values(), ids=BAD_RESPONSES.keys())
def test_bad_response_is_named(body: Json, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check_response(body)


def test_long_values_are_cut_in_the_message() -> None:
    with pytest.raises(AssertionError) as caught:
        check_response(response(output=[message("completed", text_part("x" * 10_000), {"type": "output_text"})] * 9))
    assert len(str(caught.value)) < 1000


BAD_EVENTS: dict[str, tuple[Json, str]] = {
    "unknown": ({"type": "keepalive", "sequence_number": 1}, "no event has the type 'keepalive'"),
    "no type": ({"sequence_number": 1}, "no event has the type 'None'"),
    "no cancelled event": ({"type": "response.cancelled", "sequence_number": 1}, "no event has the type"),
    "no logprobs": (
        {"type": "response.output_text.delta", **DELTA},
        "openai ResponseTextDeltaEvent: .: 'logprobs' is missing",
    ),
    "no name": (
        {
            "type": "response.function_call_arguments.done",
            "item_id": "fc_1",
            "output_index": 0,
            "arguments": "",
            "sequence_number": 1,
        },
        "openai ResponseFunctionCallArgumentsDoneEvent: .: 'name' is missing",
    ),
    "short logprobs": (
        {"type": "response.output_text.delta", **DELTA, "logprobs": [{"token": "a", "logprob": -1.0}]},
        r"openresponses ResponseOutputTextDeltaStreamingEvent: \$.logprobs\[0\]: '(bytes|top_logprobs)' is missing",
    ),
    "reasoning without text": ({"type": "response.reasoning_text.delta", **DELTA, "delta": None}, "openai .*delta"),
    "flat error": ({"type": "error", "code": None, "message": "m", "param": None, "sequence_number": 1}, "'error' is"),
    "ours without number": ({"type": "antiphon:note"}, "'sequence_number' is missing"),
    "snapshot": (
        {"type": "response.created", "sequence_number": 0, "response": response("in_progress", completed_at=1)},
        "completed_at is 1 in status in_progress",
    ),
}


@pytest.mark.parametrize(("event", "complaint"), BAD_EVENTS.values(), ids=BAD_EVENTS.keys())
def test_bad_event_is_named(event: Json, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check_event(event)


@pytest.mark.parametrize(
    "event",
    [
        {"type": "error", "sequence_number": 2, "error": PAYLOAD},
        {"type": "error", "sequence_number": 2, "error": PAYLOAD, "code": None, "message": "m", "param": None},
        {"type": "error", "status": 400, "error": PAYLOAD, "stream_id": "main"},
        {"type": "response.reasoning.delta", **DELTA, "obfuscation": "xx"},
        {"type": "response.output_text.delta", **DELTA, "logprobs": [], "stream_id": "main"},
    ],
)
def test_good_event_passes(event: Json) -> None:
    check_event(event)


USER: Json = {
    "type": "message",
    "id": "msg_1",
    "role": "user",
    "status": "completed",
    "content": [{"type": "input_text", "text": "Hi"}],
}
REPLAYED: Json = {"type": "reasoning", "id": "rs_1", "summary": [], "content": None, "encrypted_content": None}


def page(*items: Json, **changes: Any) -> Json:
    ends = {"first_id": items[0]["id"], "last_id": items[-1]["id"]} if items else {"first_id": None, "last_id": None}
    return {"object": "list", "data": list(items), "has_more": False, **ends, **changes}


def error(**changes: Any) -> Json:
    fields = {"message": "No such model.", "type": "invalid_request_error", "param": "model", "code": None}
    return {"error": {**fields, **changes}}


MODEL: Json = {"id": "demo", "object": "model", "created": 1, "owned_by": "antiphon"}
DELETED: Json = {"id": "resp_1", "object": "response", "deleted": True}
COMPACTION: Json = {"type": "compaction", "id": "cmp_1", "encrypted_content": "A="}
COMPACTED: Json = {
    "id": "resp_1",
    "object": "response.compaction",
    "created_at": 1,
    "output": [USER, COMPACTION],
    "usage": examples.usage(),
}
HOOK: Json = {"id": "evt_1", "object": "event", "created_at": 1, "type": "response.failed", "data": {"id": "resp_1"}}
Check = Callable[[Json], None]

GOOD_BODIES: tuple[tuple[Check, Json], ...] = (
    (conformance.check_error, error()),
    (conformance.check_item_list, page()),
    (conformance.check_item_list, page(USER, REPLAYED, HOSTED, OURS, {**COMPACTION, "id": "cmp_2"})),
    (conformance.check_item, function_call("completed", "{}")),
    (conformance.check_model, MODEL),
    (conformance.check_model_list, {"object": "list", "data": [MODEL]}),
    (conformance.check_deleted, DELETED),
    (conformance.check_deleted, {**DELETED, "object": "vector_store.deleted"}),
    (conformance.check_compaction, COMPACTED),
    (conformance.check_conversation, {"id": "conv_1", "object": "conversation", "created_at": 1, "metadata": {}}),
    (conformance.check_webhook, HOOK),
)
BAD_BODIES: tuple[tuple[Check, Json, str], ...] = (
    (conformance.check_error, {"error": {"message": "m", "type": "t", "param": None}}, "'code' is missing"),
    (conformance.check_error, error(code=404), r"\$.error.code"),
    (conformance.check_error, error(message=""), "message is empty"),
    (conformance.check_item_list, page(USER, first_id="msg_2"), "first_id and last_id are not"),
    (conformance.check_item_list, page(has_more=True), "has_more on an empty page"),
    (conformance.check_item_list, page(USER, USER), "an id twice"),
    (conformance.check_item_list, page({**USER, "content": "Hi"}), r"\$.data\[0\].content: .*\"array\""),
    (conformance.check_item_list, page({**USER, "role": "tool"}), r"\$.data\[0\]"),
    (conformance.check_item, {**function_call("completed", ""), "status": None}, "status"),
    (conformance.check_model, {**MODEL, "created": "today"}, r"\$.created"),
    (conformance.check_model_list, {"object": "list", "data": [MODEL, MODEL]}, "an id twice"),
    (conformance.check_deleted, {**DELETED, "object": "response.deleted"}, "is none of"),
    (conformance.check_deleted, {**DELETED, "deleted": False}, "deleted is not true"),
    (conformance.check_compaction, {**COMPACTED, "output": [COMPACTION, USER]}, "last item is not the compaction"),
    (conformance.check_compaction, {**COMPACTED, "output": [COMPACTION, COMPACTION]}, "more than one"),
    (conformance.check_webhook, {key: HOOK[key] for key in HOOK if key != "object"}, "object is None"),
    (conformance.check_webhook, {**HOOK, "type": "response.queued"}, "is none of"),
)


@pytest.mark.parametrize(("check", "body"), GOOD_BODIES)
def test_good_body_passes(check: Check, body: Json) -> None:
    check(body)


@pytest.mark.parametrize(("check", "body", "complaint"), BAD_BODIES)
def test_bad_body_is_named(check: Check, body: Json, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check(body)


def test_items_of_a_conversation_have_more_roles() -> None:
    item = {**USER, "role": "tool"}
    conformance.check_item_list(page(item), conversation=True)
    with pytest.raises(AssertionError, match=r"\$.data\[0\].role"):
        conformance.check_item_list(page({**USER, "role": "nobody"}), conversation=True)


def sse(events: list[Json]) -> bytes:
    blocks = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events]
    return "".join([*blocks, "data: [DONE]\n\n"]).encode()


GOOD_SSE = sse(examples.text())


def test_sse_is_read_back() -> None:
    assert parse_sse(GOOD_SSE) == examples.text()


@pytest.mark.parametrize("comment", [b": keepalive\n\n", b": keepalive\n"])
def test_sse_comments_are_passed_over(comment: bytes) -> None:
    last = b"event: response.completed"
    assert parse_sse(GOOD_SSE.replace(last, comment + last)) == examples.text()
    assert parse_sse(comment + GOOD_SSE) == examples.text()


FIRST = b"event: response.created\n"
BAD_SSE: dict[str, tuple[bytes, str]] = {
    "carriage return": (GOOD_SSE.replace(b"\n", b"\r\n"), "LF alone"),
    "no DONE": (GOOD_SSE.removesuffix(b"data: [DONE]\n\n"), "the last block is"),
    "DONE twice": (GOOD_SSE + b"data: [DONE]\n\n", "before the end"),
    "after DONE": (GOOD_SSE + GOOD_SSE.split(b"data: [DONE]")[0], "the last block is"),
    "comment after DONE": (GOOD_SSE + b": bye\n\n", "the last block is"),
    "cut": (GOOD_SSE[:-1], "in the middle of a block"),
    "empty": (b"", "in the middle of a block"),
    "other name": (GOOD_SSE.replace(FIRST, b"event: response.queued\n"), "event: 'response.queued', but type"),
    "no name": (GOOD_SSE.replace(FIRST, b""), "one event: line, then one data: line"),
    "identifier": (GOOD_SSE.replace(FIRST, b"id: 1\n" + FIRST), "one event: line"),
    "no space": (GOOD_SSE.replace(b"data: {", b"data:{"), "one event: line"),
    "two data lines": (GOOD_SSE.replace(FIRST, FIRST + b"data: {}\n"), "one event: line"),
    "empty line too many": (GOOD_SSE.replace(FIRST, b"\n" + FIRST), "an empty line too many"),
    "no empty line": (GOOD_SSE.replace(b"}\n\nevent", b"}\nevent", 1), "one event: line"),
    "no object": (FIRST + b"data: []\n\ndata: [DONE]\n\n", "data is no object"),
    "no JSON": (FIRST + b'data: {"type":NaN}\n\ndata: [DONE]\n\n', "NaN is no JSON"),
    "half JSON": (FIRST + b'data: {"type":\n\ndata: [DONE]\n\n', "data is no JSON"),
    "key twice": (FIRST + b'data: {"a":1,"a":2}\n\ndata: [DONE]\n\n', "a key twice"),
    "byte order mark": (b"\xef\xbb\xbf" + GOOD_SSE, "one event: line"),
    "no UTF-8": (GOOD_SSE.replace(b"world", b"w\xffrld"), "not UTF-8"),
}


@pytest.mark.parametrize(("data", "complaint"), BAD_SSE.values(), ids=BAD_SSE.keys())
def test_bad_sse_is_named(data: bytes, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        parse_sse(data)


@pytest.mark.parametrize("name", ["openai", "openresponses"])
def test_vendored_document_is_canonical_closed_and_free_of_prose(name: str) -> None:
    text = (FOLDER / f"{name}.json").read_text(encoding="utf-8")
    document = json.loads(text)
    assert text == json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"
    schemas = document["components"]["schemas"]
    strings = set(every_string(document))
    dangling = {string for string in strings if string.startswith(REFERENCE)} - {REFERENCE + key for key in schemas}
    assert not dangling
    assert not {string for string in strings if " " in string}


def every_string(node: Any) -> list[str]:
    if isinstance(node, dict):
        return [text for value in node.values() for text in every_string(value)]
    if isinstance(node, list):
        return [text for value in node for text in every_string(value)]
    return [node] if isinstance(node, str) else []
