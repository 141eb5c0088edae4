"""The shapes of the API's document that no type says: what is written as bytes, and the limits that checks have.

Must not know of routes.  Shapes: responses-api reference, sections 2, 6, 8, 12 and 13; ``tests/conformance`` holds
replies and refusals against them.
"""

from typing import Any

from antiphon.engine.idempotency import KEY_MAX
from antiphon.protocol import conversations, items, requests, responses, tools, webhooks

Json = dict[str, Any]

TEXT: Json = {"type": "string"}
WHOLE: Json = {"type": "integer"}
NUMBER: Json = {"type": "number"}
TRUTH: Json = {"type": "boolean"}
OBJECT: Json = {"type": "object"}
ANY: Json = {}

#: Each code of an error and when it is answered; upstreams may add their own.
CODES = {
    "array_above_max_length": "A list has too many entries.",
    "context_length_exceeded": "The input does not fit the model's context window.",
    "conversation_locked": "Another response is running in the conversation.",
    "decimal_above_max_value": "A number is too large.",
    "decimal_below_min_value": "A number is too small.",
    "empty_array": "A list that must not be empty is.",
    "empty_image_file": "An image has no bytes.",
    "failed_to_download_file": "A file's URL cannot be fetched.",
    "failed_to_download_image": "An image's URL cannot be fetched.",
    "host_not_allowed": "The Host header names a host that is not served.",
    "idempotency_key_reused": "The key was sent with another request.",
    "insufficient_quota": "The upstream's quota is spent.",
    "integer_above_max_value": "A whole number is too large.",
    "integer_below_min_value": "A whole number is too small.",
    "invalid_api_key": "The key is missing or wrong.",
    "invalid_base64": "A file's data are not base64.",
    "invalid_base64_image": "An image's data URL cannot be read.",
    "invalid_encrypted_content": "Sealed content was not made here, or was changed.",
    "invalid_file": "A file cannot be read.",
    "invalid_function_parameters": "A strict function's parameters are no schema that can be enforced.",
    "invalid_json_schema": "The schema of a strict text format cannot be enforced.",
    "invalid_request_error": "The upstream refused the request.",
    "invalid_type": "A parameter has another type.",
    "invalid_value": "A value is none of those that there are.",
    "method_not_supported": "The path has other methods.",
    "missing_required_parameter": "A parameter is missing.",
    "model_not_found": "No upstream serves the model.",
    "mutually_exclusive_parameters": "Two parameters cannot be given together.",
    "object_above_max_properties": "An object has too many members.",
    "origin_not_allowed": "The page's origin may not call this server.",
    "previous_response_not_found": "There is no such response to go on from.",
    "rate_limit_exceeded": "The upstream limits how often it is asked.",
    "request_timeout": "The body did not come in time.",
    "request_too_large": "The body is too large.",
    "server_error": "The server or the model's side failed.",
    "server_is_overloaded": "The store or the model's side cannot be used now; try again.",
    "string_above_max_length": "A text is too long.",
    "unknown_url": "There is no such path.",
    "unsupported_content_encoding": "The body is compressed.",
    "unsupported_content_type": "The body is not application/json.",
    "unsupported_image_media_type": "What an image's URL leads to is no image that models take.",
    "unsupported_parameter": "A parameter of a sibling API, or one that this server does not have.",
    "unsupported_value": "A value that this server, or the model, cannot honour.",
    "upgrade_required": "A WebSocket is to be opened here.",
    "upstream_crashed": "The embedded engine ended.",
    "upstream_cut": "The upstream's reply ended too early.",
    "upstream_timeout": "The upstream took too long.",
    "upstream_unreachable": "The upstream cannot be reached.",
    "webhook_endpoint_unreachable": "A webhook endpoint could not be reached for a test.",
    "webhook_endpoints_exceeded": "The project has as many webhook endpoints as it can have.",
    "websocket_connection_limit_reached": "A WebSocket has been used for as long as it may be.",
}

#: What the checks of a create say beyond its types.
LIMITS: dict[str, Json] = {
    "include": {"items": {"type": "string", "enum": list(requests.INCLUDABLE)}},
    "max_output_tokens": {"minimum": requests.OUTPUT_TOKENS_MIN, "maximum": 2**31},
    "max_tool_calls": {"minimum": 1, "maximum": 2**31},
    "metadata": {
        "maxProperties": 16,
        "propertyNames": {"maxLength": 64},
        "additionalProperties": {"type": "string", "maxLength": 512},
    },
    "temperature": {"minimum": 0, "maximum": 2},
    "top_p": {"minimum": 0, "maximum": 1},
    "presence_penalty": {"minimum": -2, "maximum": 2},
    "frequency_penalty": {"minimum": -2, "maximum": 2},
    "top_logprobs": {"minimum": 0, "maximum": 20},
    "truncation": {"enum": list(requests.TRUNCATIONS)},
    "service_tier": {"enum": list(requests.SERVICE_TIERS)},
    "prompt_cache_retention": {"enum": list(requests.RETENTIONS)},
    "safety_identifier": {"maxLength": 128},
    "tools": {"maxItems": tools.TOOLS_MAX},
    "effort": {"enum": list(requests.EFFORTS)},
    "summary": {"enum": list(requests.SUMMARIES)},
    "generate_summary": {"enum": list(requests.SUMMARIES)},
    "verbosity": {"enum": list(requests.VERBOSITIES)},
}


def ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def one_of(*values: str) -> Json:
    return {"type": "string", "enum": list(values)}


def listed(of: Json, **limits: int) -> Json:
    return {"type": "array", "items": of, **limits}


def nullable(of: Json) -> Json:
    return {"anyOf": [of, {"type": "null"}]}


def shape(required: dict[str, Json], **optional: Json) -> Json:
    """An object with these members; others may stand beside them."""
    return {"type": "object", "properties": required | optional, "required": list(required)}


def only(required: dict[str, Json], **optional: Json) -> Json:
    """An object with these members and no others."""
    return {**shape(required, **optional), "additionalProperties": False}


METADATA = {"type": "object", **LIMITS["metadata"]}
STATUSES = sorted(responses.TERMINAL | responses.UNFINISHED)
ITEM_STATUS = one_of("in_progress", "completed", "incomplete")

_PARTS: dict[str, Json] = {
    "InputText": shape({"type": one_of("input_text"), "text": TEXT}),
    "InputImage": shape(
        {"type": one_of("input_image")}, image_url=nullable(TEXT), file_id=nullable(TEXT), detail=nullable(TEXT)
    ),
    "InputFile": shape(
        {"type": one_of("input_file")},
        file_url=nullable(TEXT),
        file_data=nullable(TEXT),
        file_id=nullable(TEXT),
        filename=nullable(TEXT),
    ),
    "OutputText": shape(
        {"type": one_of("output_text"), "text": TEXT, "annotations": listed(OBJECT)}, logprobs=listed(OBJECT)
    ),
    "Refusal": shape({"type": one_of("refusal"), "refusal": TEXT}),
    "ReasoningText": shape({"type": one_of("reasoning_text"), "text": TEXT}),
    "SummaryText": shape({"type": one_of("summary_text"), "text": TEXT}),
    "InputPart": {"oneOf": [ref("InputText"), ref("InputImage"), ref("InputFile")]},
    "ContentPart": {"anyOf": [ref("OutputText"), ref("Refusal"), ref("ReasoningText"), ref("InputPart")]},
}

_ANSWER = {"anyOf": [TEXT, listed(ref("InputPart"))]}


def _item(kind: str, required: dict[str, Json], **optional: Json) -> Json:
    return shape({"type": one_of(kind), "id": TEXT, **required}, **optional)


#: Items as they are shown.
_ITEMS: dict[str, Json] = {
    "Message": _item(
        "message", {"role": TEXT, "status": ITEM_STATUS, "content": listed(ref("ContentPart"))}, phase=nullable(TEXT)
    ),
    "FunctionCall": _item(
        "function_call",
        {"call_id": TEXT, "name": TEXT, "arguments": TEXT, "status": ITEM_STATUS},
        namespace=nullable(TEXT),
    ),
    "FunctionCallOutput": _item("function_call_output", {"call_id": TEXT, "output": _ANSWER, "status": ITEM_STATUS}),
    "CustomToolCall": _item(
        "custom_tool_call", {"call_id": TEXT, "name": TEXT, "input": TEXT}, namespace=nullable(TEXT)
    ),
    "CustomToolCallOutput": _item("custom_tool_call_output", {"call_id": TEXT, "output": _ANSWER}),
    "Reasoning": _item(
        "reasoning",
        {"summary": listed(ref("SummaryText"))},
        content=nullable(listed(OBJECT)),
        encrypted_content=nullable(TEXT),
    ),
    "Compaction": _item("compaction", {"encrypted_content": TEXT}),
    "ToolSearchCall": _item(
        "tool_search_call",
        {"execution": one_of(*tools.EXECUTIONS), "status": ITEM_STATUS, "arguments": ANY},
        call_id=nullable(TEXT),
    ),
    "ToolSearchOutput": _item(
        "tool_search_output",
        {"execution": one_of(*tools.EXECUTIONS), "status": ITEM_STATUS, "tools": listed(OBJECT)},
        call_id=nullable(TEXT),
    ),
    "AdditionalTools": _item("additional_tools", {"role": TEXT, "tools": listed(OBJECT)}),
}
_KNOWN_KINDS = [shown["properties"]["type"]["enum"][0] for shown in _ITEMS.values()]
_ITEMS |= {
    "OtherItem": {
        "description": "An item of a hosted tool, of an upstream that speaks this API, or of a type nobody here knows.",
        **shape({"type": {"type": "string", "not": {"enum": _KNOWN_KINDS}}, "id": TEXT}),
    },
    "Item": {"oneOf": [ref(name) for name in (*_ITEMS, "OtherItem")]},
    "ItemList": only(
        {
            "object": one_of("list"),
            "data": listed(ref("Item")),
            "first_id": nullable(TEXT),
            "last_id": nullable(TEXT),
            "has_more": TRUTH,
        }
    ),
}

_CONTENT = {"anyOf": [TEXT, listed(OBJECT)]}
_CHECKED = {"message", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output"}
#: Items as they may be sent; ids, statuses and annotations may be left out.
_INPUT: dict[str, Json] = {
    "InputMessage": shape(
        {"role": one_of("assistant", "system", "developer", "user"), "content": _CONTENT},
        type=one_of("message"),
        status=nullable(ITEM_STATUS),
        id=nullable(TEXT),
        phase=nullable(TEXT),
    ),
    "InputCall": shape(
        {"type": one_of("function_call"), "call_id": TEXT, "name": TEXT, "arguments": TEXT}, id=nullable(TEXT)
    ),
    "InputCustomCall": shape(
        {"type": one_of("custom_tool_call"), "call_id": TEXT, "name": TEXT, "input": TEXT}, id=nullable(TEXT)
    ),
    "InputAnswer": shape(
        {"type": one_of("function_call_output", "custom_tool_call_output"), "call_id": TEXT, "output": _ANSWER},
        id=nullable(TEXT),
    ),
    "ItemReference": shape({"id": TEXT}, type=nullable(one_of("item_reference"))),
    "OtherInput": shape(
        {"type": one_of(*sorted((items.ID_PREFIXES.keys() - _CHECKED) | {requests.TRIGGER}))}, id=nullable(TEXT)
    ),
    "InputItem": {
        "anyOf": [
            ref("InputMessage"),
            ref("InputCall"),
            ref("InputCustomCall"),
            ref("InputAnswer"),
            ref("ItemReference"),
            ref("OtherInput"),
        ]
    },
}

_NAMED = {"name": TEXT}
_TOOLS: dict[str, Json] = {
    "FunctionTool": shape(
        {
            "type": one_of("function"),
            "name": {"type": "string", "pattern": "^[a-zA-Z0-9_-]+$", "maxLength": tools.NAME_MAX},
        },
        description=nullable(TEXT),
        parameters=nullable(OBJECT),
        strict=nullable(TRUTH),
        defer_loading=TRUTH,
    ),
    "CustomTool": shape(
        {"type": one_of("custom"), "name": {"type": "string", "minLength": 1, "maxLength": tools.LONG_NAME_MAX}},
        description=nullable(TEXT),
        format=nullable(OBJECT),
        defer_loading=TRUTH,
    ),
    "Namespace": shape(
        {
            "type": one_of("namespace"),
            "name": {"type": "string", "minLength": 1, "maxLength": tools.LONG_NAME_MAX},
            "tools": listed({"anyOf": [ref("FunctionTool"), ref("CustomTool")]}),
        },
        description=nullable(TEXT),
    ),
    "ToolSearch": shape(
        {"type": one_of("tool_search")},
        execution=nullable(one_of(*tools.EXECUTIONS)),
        description=nullable(TEXT),
        parameters=nullable(OBJECT),
    ),
    "OtherTool": {
        "description": "Left out and named in x-antiphon-warnings, unless this server has a tool of the type.",
        **shape({"type": {"type": "string", "not": {"enum": ["function", "custom", "namespace", "tool_search"]}}}),
    },
    "Tool": {"oneOf": [ref("FunctionTool"), ref("CustomTool"), ref("Namespace"), ref("ToolSearch"), ref("OtherTool")]},
    "ToolChoice": {
        "anyOf": [
            one_of(*tools.CHOICE_MODES),
            shape({"type": one_of("function", "custom"), **_NAMED}, namespace=nullable(TEXT)),
            shape(
                {"type": one_of("allowed_tools"), "tools": listed(shape({"type": TEXT}), minItems=1)},
                mode=one_of("auto", "required"),
            ),
            shape({"type": {"type": "string", "not": {"enum": ["function", "custom", "allowed_tools"]}}}),
        ]
    },
}

#: Members of a create that are read only where they are used.
RAW_MEMBERS: dict[str, Json] = {
    "input": {"anyOf": [{"type": "string", "maxLength": requests.INPUT_CHARS_MAX}, listed(ref("InputItem"))]},
    "conversation": {"anyOf": [TEXT, shape({"id": TEXT})]},
    "tools": listed(ref("Tool"), maxItems=tools.TOOLS_MAX),
    "tool_choice": ref("ToolChoice"),
    "context_management": listed(
        shape(
            {"type": one_of("compaction")},
            compact_threshold=nullable({**WHOLE, "minimum": requests.COMPACT_THRESHOLD_MIN, "maximum": 2**31}),
        ),
        minItems=1,
    ),
    "prompt": shape({"id": TEXT}, version=nullable(TEXT), variables=nullable(OBJECT)),
    "schema": OBJECT,
}

_RESPONSE = only(
    {
        "id": TEXT,
        "object": one_of("response"),
        "created_at": WHOLE,
        "status": one_of(*STATUSES),
        "background": TRUTH,
        "completed_at": nullable(WHOLE),
        "error": nullable(ref("ResponseError")),
        "incomplete_details": nullable(only({"reason": TEXT})),
        "output": listed(ref("Item")),
        "usage": nullable(ref("Usage")),
        "model": TEXT,
        "previous_response_id": nullable(TEXT),
        "parallel_tool_calls": TRUTH,
        "reasoning": shape({"effort": nullable(TEXT), "summary": nullable(TEXT)}),
        "store": TRUTH,
        "temperature": NUMBER,
        "top_p": NUMBER,
        "presence_penalty": NUMBER,
        "frequency_penalty": NUMBER,
        "top_logprobs": WHOLE,
        "truncation": one_of(*requests.TRUNCATIONS),
        "user": nullable(TEXT),
        "metadata": METADATA,
        "max_output_tokens": nullable(WHOLE),
        "max_tool_calls": nullable(WHOLE),
        "service_tier": one_of("default"),
        "safety_identifier": nullable(TEXT),
        "prompt_cache_key": nullable(TEXT),
        "tool_choice": ref("ToolChoice"),
        "instructions": nullable(TEXT),
        "tools": listed(shape({"type": TEXT})),
        "text": shape({"format": shape({"type": TEXT}), "verbosity": TEXT}),
    },
    conversation=shape({"id": TEXT}),
    prompt=OBJECT,
)

_ITEM_PLACE = {"item_id": TEXT, "output_index": WHOLE}
_PART_PLACE = {**_ITEM_PLACE, "content_index": WHOLE}
_SUMMARY_PLACE = {**_ITEM_PLACE, "summary_index": WHOLE}
_LOGPROBS = listed(OBJECT)

#: Every event that this server itself makes, by its type without ``response.``, and its members.
EVENTS: dict[str, dict[str, Json]] = {
    **{
        name: {"response": ref("Response")}
        for name in ("created", "queued", "in_progress", "completed", "incomplete", "failed")
    },
    **{name: {"output_index": WHOLE, "item": ref("Item")} for name in ("output_item.added", "output_item.done")},
    **{name: {**_PART_PLACE, "part": ref("ContentPart")} for name in ("content_part.added", "content_part.done")},
    "output_text.delta": {**_PART_PLACE, "delta": TEXT, "logprobs": _LOGPROBS},
    "output_text.done": {**_PART_PLACE, "text": TEXT, "logprobs": _LOGPROBS},
    "output_text.annotation.added": {**_PART_PLACE, "annotation_index": WHOLE, "annotation": OBJECT},
    "refusal.delta": {**_PART_PLACE, "delta": TEXT},
    "refusal.done": {**_PART_PLACE, "refusal": TEXT},
    "reasoning_text.delta": {**_PART_PLACE, "delta": TEXT},
    "reasoning_text.done": {**_PART_PLACE, "text": TEXT},
    **{
        name: {**_SUMMARY_PLACE, "part": ref("SummaryText")}
        for name in ("reasoning_summary_part.added", "reasoning_summary_part.done")
    },
    "reasoning_summary_text.delta": {**_SUMMARY_PLACE, "delta": TEXT},
    "reasoning_summary_text.done": {**_SUMMARY_PLACE, "text": TEXT},
    "function_call_arguments.delta": {**_ITEM_PLACE, "delta": TEXT},
    "function_call_arguments.done": {**_ITEM_PLACE, "arguments": TEXT, "name": TEXT},
    "custom_tool_call_input.delta": {**_ITEM_PLACE, "delta": TEXT},
    "custom_tool_call_input.done": {**_ITEM_PLACE, "input": TEXT},
}


def _event(type: str, members: dict[str, Json]) -> Json:
    return shape({"type": one_of(type), "sequence_number": WHOLE, **members}, obfuscation=TEXT)


_EVENT_SHAPES = {f"response.{name}": _event(f"response.{name}", members) for name, members in EVENTS.items()}
#: Of a hosted tool, or of an upstream that speaks this API: passed on as they came.
_EVENT_SHAPES["other"] = shape(
    {"type": {"type": "string", "not": {"enum": list(_EVENT_SHAPES)}}, "sequence_number": WHOLE}
)

_ITEMS_OF_CONVERSATION = {"maxItems": conversations.ITEMS_MAX}
_EVENT_TYPES = listed(one_of(*webhooks.EVENT_TYPES))
_ENDPOINT_ASKED: dict[str, Json] = {
    "name": {**TEXT, "minLength": 1, "maxLength": webhooks.NAME_MAX},
    "url": {**TEXT, "maxLength": webhooks.URL_MAX},
    "event_types": {**_EVENT_TYPES, "minItems": 1},
}
_ENDPOINT: dict[str, Json] = {
    "id": TEXT,
    "object": one_of("webhook_endpoint"),
    "name": TEXT,
    "url": TEXT,
    "event_types": _EVENT_TYPES,
    "created_at": WHOLE,
    "updated_at": WHOLE,
    "signing_secret_hint": nullable(TEXT),
}
_WEBHOOKS: dict[str, Json] = {
    "CreateWebhookEndpoint": shape(_ENDPOINT_ASKED),
    "UpdateWebhookEndpoint": shape({}, **{name: nullable(asked) for name, asked in _ENDPOINT_ASKED.items()}),
    "RotateWebhookSecret": shape({}, keep_old_secret_active_for_24_hours=nullable(TRUTH)),
    "TestWebhookEndpoint": shape({"event_type": one_of(*webhooks.EVENT_TYPES)}),
    "WebhookEndpoint": only(_ENDPOINT, disabled_at=WHOLE),
    "WebhookEndpointWithSecret": only({**_ENDPOINT, "signing_secret": TEXT}, disabled_at=WHOLE),
    "WebhookEndpointList": only(
        {
            "object": one_of("list"),
            "data": listed(ref("WebhookEndpoint")),
            "first_id": nullable(TEXT),
            "last_id": nullable(TEXT),
            "has_more": TRUTH,
        }
    ),
    "DeletedWebhookEndpoint": only({"id": TEXT, "object": one_of("webhook_endpoint.deleted"), "deleted": TRUTH}),
    "WebhookEndpointTest": only(
        {
            "object": one_of("webhook_endpoint.test"),
            "webhook_endpoint_id": TEXT,
            "event_type": TEXT,
            "status_code": WHOLE,
            "success": TRUTH,
        }
    ),
    "WebhookEventTypeList": only({"object": one_of("list"), "data": _EVENT_TYPES}),
}
_BODIES: dict[str, Json] = {
    "CreateConversation": shape(
        {}, items=nullable(listed(ref("InputItem"), **_ITEMS_OF_CONVERSATION)), metadata=nullable(METADATA)
    ),
    "UpdateConversation": shape({"metadata": nullable(METADATA)}),
    "AddItems": shape({"items": listed(ref("InputItem"), minItems=1, **_ITEMS_OF_CONVERSATION)}),
    "Conversation": only({"id": TEXT, "object": one_of("conversation"), "created_at": WHOLE, "metadata": METADATA}),
    "DeletedConversation": only({"id": TEXT, "object": one_of("conversation.deleted"), "deleted": TRUTH}),
    "DeletedResponse": only({"id": TEXT, "object": one_of("response"), "deleted": TRUTH}),
    "InputTokens": only({"object": one_of("response.input_tokens"), "input_tokens": WHOLE}),
    "CompactedResponse": shape(
        {
            "id": TEXT,
            "object": one_of("response.compaction"),
            "created_at": WHOLE,
            "output": listed(ref("Item")),
            "usage": ref("Usage"),
        }
    ),
    "CompactResponse": shape(
        {"model": TEXT},
        input=nullable(RAW_MEMBERS["input"]),
        previous_response_id=nullable(TEXT),
        instructions=nullable(TEXT),
        prompt_cache_key=nullable(TEXT),
        service_tier=nullable({**TEXT, **LIMITS["service_tier"]}),
    ),
    "Model": only({"id": TEXT, "object": one_of("model"), "created": WHOLE, "owned_by": TEXT}),
    "ModelList": only({"object": one_of("list"), "data": listed(ref("Model"))}, models=listed(OBJECT)),
    "Health": only({"status": one_of("ok")}),
    "Readiness": only(
        {"status": one_of("ready", "unavailable"), "store": TEXT, "models": WHOLE},
        upstreams={"type": "object", "additionalProperties": ref("Condition")},
    ),
    "Condition": only(
        {"servers": WHOLE, "left_out": listed(WHOLE), "active": WHOLE, "waiting": WHOLE, "failovers": WHOLE}
    ),
    "Document": shape({"openapi": TEXT, "info": OBJECT, "paths": OBJECT}),
}

#: Components by name; the events are told apart by their types.
SHAPES: dict[str, Json] = {
    **_PARTS,
    **_ITEMS,
    **_INPUT,
    **_TOOLS,
    **_BODIES,
    **_WEBHOOKS,
    "Response": _RESPONSE,
    "ResponseStreamEvent": {"oneOf": list(_EVENT_SHAPES.values())},
}

#: Parameters of the query.
QUERY: dict[str, Json] = {
    "limit": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20},
    "order": {**one_of("asc", "desc"), "default": "desc"},
    "after": TEXT,
    "before": TEXT,
    "include": listed(one_of(*requests.INCLUDABLE)),
    "stream": {"type": "boolean", "default": False},
    "starting_after": WHOLE,
    "include_obfuscation": TRUTH,
    "client_version": TEXT,
}

#: Headers that operations read of a request: what each is for and its schema.
HEADERS: dict[str, Json] = {
    "Idempotency-Key": {
        "description": "The same request under the same key runs once: sent again, it joins its run or gets its "
        "response. Not with `store: false`; another request under a key is 422 `idempotency_key_reused`.",
        "schema": {"type": "string", "minLength": 1, "maxLength": KEY_MAX},
    }
}
