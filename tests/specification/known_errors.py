"""Where the two specifications are wrong, or narrower than the API that clients meet, and what is done about it.

Each entry names a document and a place, gives the reason, and says the remedy; `correct` is the remedy as code, applied
to the schemas when they are loaded. An entry without `correct` is a difference that is left standing on purpose.
Knows schemas only; what a stream or a body must be is said elsewhere.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.specification.documents import REFERENCE, Document, Json, Schemas, corrected, load, tags

OPENAI = "openai"
OPENRESPONSES = "openresponses"
OURS = "antiphon:"
NULL = {"type": "null"}

Pair = dict[str, Schemas]


@dataclass(frozen=True)
class SpecificationError:
    """One known error: `correct` changes the pair of documents in place."""

    document: str
    place: str
    reason: str
    remedy: str
    correct: Callable[[Pair], None] | None = None


def _at(schemas: Schemas, path: tuple[str, ...]) -> Any:
    node: Any = schemas
    for step in path:
        node = node[int(step)] if isinstance(node, list) else node[step]
    return node


def _replace(document: str, path: tuple[str, ...], value: Json, pair: Pair) -> None:
    parent = _at(pair[document], path[:-1])
    parent[int(path[-1]) if isinstance(parent, list) else path[-1]] = value


def _nullable(document: str, path: tuple[str, ...], pair: Pair) -> None:
    _replace(document, path, {"anyOf": [_at(pair[document], path), NULL]}, pair)


def _optional(document: str, component: str, name: str, pair: Pair) -> None:
    pair[document][component]["required"].remove(name)


def _also_values(document: str, path: tuple[str, ...], values: tuple[str, ...], pair: Pair) -> None:
    _at(pair[document], (*path, "enum")).extend(values)


def _also_branch(document: str, path: tuple[str, ...], branch: Json, pair: Pair) -> None:
    _at(pair[document], (*path, "anyOf")).append(branch)


def _tagged(values: list[str], *required: str) -> Json:
    """An object of which only the tag is looked at; the other document knows the rest."""
    return {"type": "object", "properties": {"type": {"enum": values}}, "required": ["type", *required]}


def _foreign(union: str, path: tuple[str, ...], pair: Pair, *required: str) -> None:
    """Let a union of Open Responses take, by tag alone, what OpenAI's `union` has beyond it."""
    target = _at(pair[OPENRESPONSES], path)
    own = tags({**pair[OPENRESPONSES], "": target}, "")
    target["anyOf"].append(_tagged([tag for tag in tags(pair[OPENAI], union) if tag not in own], *required))


def _ours(*required: str) -> Json:
    return {
        "type": "object",
        "properties": {
            "type": {"type": "string", "pattern": f"^{OURS}"},
            "id": {"type": "string"},
            "status": {"enum": ["in_progress", "completed", "incomplete", "failed"]},
            "sequence_number": {"type": "integer"},
        },
        "required": ["type", *required],
    }


def _our_items(pair: Pair) -> None:
    for document, unions in (
        (OPENAI, ("OutputItem", "ItemResource", "ConversationItem", "ItemField")),
        (OPENRESPONSES, ("ItemField",)),
    ):
        for union in unions:
            pair[document][union]["anyOf"].append(_ours("id", "status"))


def _newer_items(pair: Pair) -> None:
    for document, union in ((OPENAI, "ItemResource"), (OPENAI, "ConversationItem"), (OPENRESPONSES, "ItemField")):
        pair[document][union]["anyOf"].append(_tagged(["agent_message", "configuration_update"], "id"))


def _our_tools(pair: Pair) -> None:
    for document, path in (
        (OPENAI, ("Tool",)),
        (OPENAI, ("ToolChoiceParam",)),
        (OPENRESPONSES, ("Tool",)),
        (OPENRESPONSES, ("ResponseResource", "properties", "tool_choice")),
    ):
        _also_branch(document, path, _ours(), pair)


def _empty_lists(pair: Pair) -> None:
    for schema in pair[OPENAI].values():
        names = schema.get("properties", {})
        if "has_more" in names:
            for name in ("first_id", "last_id"):
                if name in names:
                    names[name] = {"anyOf": [names[name], NULL]}


def _action_when_completed(pair: Pair) -> None:
    schema = pair[OPENAI]["WebSearchToolCall"]
    schema["required"].remove("action")
    schema["if"] = {"properties": {"status": {"const": "completed"}}}
    schema["then"] = {"required": ["action"]}


def _nested_error_event(pair: Pair) -> None:
    schemas = pair[OPENAI]
    schemas["FlatErrorEvent"] = schemas["ResponseErrorEvent"]
    schemas["ResponseErrorEvent"] = {
        "if": {"required": ["error"]},
        "then": {"$ref": REFERENCE + "ResponseWsError"},
        "else": {"$ref": REFERENCE + "FlatErrorEvent"},
        "properties": {"type": {"enum": ["error"]}},
    }


def _socket_error_event(pair: Pair) -> None:
    schemas = pair[OPENRESPONSES]
    schemas["StreamErrorEvent"] = schemas["ErrorStreamingEvent"]
    schemas["ErrorStreamingEvent"] = {
        "if": {"required": ["status"]},
        "then": {"$ref": REFERENCE + "WebSocketErrorEvent"},
        "else": {"$ref": REFERENCE + "StreamErrorEvent"},
        "properties": {"type": {"enum": ["error"]}},
    }


def _raw_reasoning_names(pair: Pair) -> None:
    for end in ("Delta", "Done"):
        openai, other = f"response.reasoning_text.{end.lower()}", f"response.reasoning.{end.lower()}"
        _also_values(OPENAI, (f"ResponseReasoningText{end}Event", "properties", "type"), (other,), pair)
        _also_values(OPENRESPONSES, (f"ResponseReasoning{end}StreamingEvent", "properties", "type"), (openai,), pair)


def _compacting_event(pair: Pair) -> None:
    numbers = ("sequence_number", "output_index")
    pair[OPENAI]["ResponseCompactionCompactingEvent"] = {
        "type": "object",
        "properties": {
            "type": {"enum": ["response.compaction.compacting"]},
            "item_id": {"type": "string"},
            **{name: {"type": "integer"} for name in numbers},
        },
        "required": ["type", "item_id", *numbers],
    }
    pair[OPENAI]["ResponseStreamEvent"]["anyOf"].append({"$ref": REFERENCE + "ResponseCompactionCompactingEvent"})


def _our_events(pair: Pair) -> None:
    pair[OPENAI]["AntiphonEvent"] = _ours("sequence_number")


def _deleted_response(pair: Pair) -> None:
    pair[OPENAI]["DeletedResponse"] = {
        "type": "object",
        "properties": {"id": {"type": "string"}, "object": {"enum": ["response"]}, "deleted": {"type": "boolean"}},
        "required": ["id", "object", "deleted"],
    }


def _original_detail(pair: Pair) -> None:
    _also_values(OPENRESPONSES, ("ImageDetail",), ("original",), pair)


def _tool_choices(pair: Pair) -> None:
    _foreign("ToolChoiceParam", ("ResponseResource", "properties", "tool_choice"), pair)
    allowed = _at(pair[OPENRESPONSES], ("AllowedToolChoice", "properties", "tools", "items"))
    other = {"type": "object", "properties": {"type": {"not": {"const": "function"}}}, "required": ["type"]}
    allowed["anyOf"].append(other)


def _listed_items(pair: Pair) -> None:
    """`ListedItem`: the items of Open Responses with null allowed for whatever may be absent."""
    schemas = pair[OPENRESPONSES]
    union = copy.deepcopy(schemas["ItemField"])
    for branch in union["anyOf"]:
        if (name := branch.get("$ref", "").removeprefix(REFERENCE)) and name in schemas:
            branch["$ref"] = REFERENCE + "Listed" + name
            schemas["Listed" + name] = _absent_or_null(schemas[name])
    schemas["ListedItem"] = union


def _absent_or_null(schema: Json) -> Json:
    properties = {
        name: entry if name in schema["required"] else {"anyOf": [entry, NULL]}
        for name, entry in schema["properties"].items()
    }
    return {**schema, "properties": properties}


KNOWN_SPECIFICATION_ERRORS: tuple[SpecificationError, ...] = (
    SpecificationError(
        OPENAI,
        "Response.usage",
        "Typed as an object always; it is null until the end, as Open Responses has it.",
        "null admitted",
        partial(_nullable, OPENAI, ("Response", "allOf", "2", "properties", "usage")),
    ),
    SpecificationError(
        OPENAI,
        "Response.user",
        "Typed as a string; the echo of an unset parameter is null.",
        "null admitted",
        partial(_nullable, OPENAI, ("ModelResponseProperties", "properties", "user")),
    ),
    SpecificationError(
        OPENAI,
        "Response.incomplete_details.reason",
        "The list lacks the two newer reasons of the SDK.",
        "max_messages and steered admitted",
        partial(
            _also_values,
            OPENAI,
            ("Response", "allOf", "2", "properties", "incomplete_details", "anyOf", "0", "properties", "reason"),
            ("max_messages", "steered"),
        ),
    ),
    SpecificationError(
        OPENAI,
        "ResponseErrorCode",
        "A closed list; other codes (context_length_exceeded, insufficient_quota) are sent, and clients expect them.",
        "any string admitted",
        partial(_replace, OPENAI, ("ResponseErrorCode",), {"type": "string"}),
    ),
    SpecificationError(
        OPENAI,
        "TextResponseFormatJsonSchema.description",
        "Typed as a string; Open Responses wants the key even when unset, then null.",
        "null admitted",
        partial(_nullable, OPENAI, ("TextResponseFormatJsonSchema", "properties", "description")),
    ),
    SpecificationError(
        OPENAI,
        "MCPTool.server_description",
        "Typed as a string; the real echo fills it with null when unset.",
        "null admitted",
        partial(_nullable, OPENAI, ("MCPTool", "properties", "server_description")),
    ),
    SpecificationError(
        OPENAI,
        "WebSearchToolCall.action",
        "Required from the start; the action is known only when the model has said it.",
        "required once the status is completed",
        _action_when_completed,
    ),
    SpecificationError(
        OPENAI,
        "ReasoningItem.content",
        "Typed as an array; SDKs replay it as null, and lists give it back.",
        "null admitted (for Open Responses see ReasoningBody)",
        partial(_nullable, OPENAI, ("ReasoningItem", "properties", "content")),
    ),
    SpecificationError(
        OPENAI,
        "ItemResource and ConversationItem",
        "They lack agent_message and configuration_update, which the SDKs have.",
        "admitted by their tags",
        _newer_items,
    ),
    SpecificationError(
        OPENAI,
        "MCPApprovalResponseResource.required",
        "Requires request_id, which it does not define; the field is approval_request_id.",
        "not required",
        partial(_optional, OPENAI, "MCPApprovalResponseResource", "request_id"),
    ),
    SpecificationError(
        OPENAI,
        "LocalShellToolCallOutput.required",
        "Requires call_id, which it does not define; the SDK has none.",
        "not required",
        partial(_optional, OPENAI, "LocalShellToolCallOutput", "call_id"),
    ),
    SpecificationError(
        OPENAI,
        "first_id and last_id of every list",
        "Typed as strings; an empty list has neither.",
        "null admitted",
        _empty_lists,
    ),
    SpecificationError(
        OPENAI,
        "ResponseErrorEvent",
        "Only the flat form; the wire has the nested one, with error inside.",
        "with the key error it is read as ResponseWsError, otherwise as the flat form",
        _nested_error_event,
    ),
    SpecificationError(
        OPENAI,
        "ResponseStreamEvent",
        "Lacks response.compaction.compacting, which the SDK has.",
        "event added",
        _compacting_event,
    ),
    SpecificationError(
        OPENAI,
        "DELETE /responses/{response_id}",
        "No schema for the reply, only an example.",
        "component DeletedResponse added",
        _deleted_response,
    ),
    SpecificationError(
        OPENRESPONSES,
        "JsonSchemaResponseFormat.schema",
        "Typed as null only, so an echoed schema fails.",
        "object admitted",
        partial(_also_branch, OPENRESPONSES, ("JsonSchemaResponseFormat", "properties", "schema"), {"type": "object"}),
    ),
    SpecificationError(
        OPENRESPONSES,
        "Tool",
        "Function tools only.",
        "the other types of OpenAI's Tool admitted by tag",
        partial(_foreign, "Tool", ("Tool",)),
    ),
    SpecificationError(
        OPENRESPONSES,
        "ResponseResource.tool_choice",
        "Function and allowed function tools only.",
        "the other forms of OpenAI's ToolChoiceParam admitted by tag",
        _tool_choices,
    ),
    SpecificationError(
        OPENRESPONSES,
        "ItemField",
        "Knows five item types; hosted tools' items are OpenAI's.",
        "the other types of OpenAI's OutputItem admitted by tag and id",
        lambda pair: _foreign("OutputItem", ("ItemField",), pair, "id"),
    ),
    SpecificationError(
        OPENRESPONSES,
        "Annotation",
        "url_citation only.",
        "the other types of OpenAI's Annotation admitted by tag",
        partial(_foreign, "Annotation", ("Annotation",)),
    ),
    SpecificationError(
        OPENRESPONSES,
        "ReasoningEffortEnum",
        "Lacks minimal and max, which the echo must give back.",
        "both admitted",
        partial(_also_values, OPENRESPONSES, ("ReasoningEffortEnum",), ("minimal", "max")),
    ),
    SpecificationError(
        OPENRESPONSES,
        "ResponseResource.instructions",
        "A string only; instructions from a prompt template are items.",
        "array admitted, its items are checked by OpenAI's document",
        partial(_also_branch, OPENRESPONSES, ("ResponseResource", "properties", "instructions"), {"type": "array"}),
    ),
    SpecificationError(
        OPENRESPONSES,
        "ImageDetail",
        "Lacks original.",
        "admitted",
        _original_detail,
    ),
    SpecificationError(
        OPENRESPONSES,
        "InputImageContent.image_url",
        "Required; an image may be named by file_id instead.",
        "not required",
        partial(_optional, OPENRESPONSES, "InputImageContent", "image_url"),
    ),
    SpecificationError(
        OPENRESPONSES,
        "ErrorStreamingEvent",
        "The WebSocket's error frame is another component and is in no union.",
        "with the key status it is read as WebSocketErrorEvent",
        _socket_error_event,
    ),
    SpecificationError(
        "both",
        "response.reasoning_text.* and response.reasoning.*",
        "Two names for the same raw reasoning events; each document rejects the other's.",
        "both names admitted in both documents",
        _raw_reasoning_names,
    ),
    SpecificationError(
        "both",
        "items named antiphon:*",
        "Our own types, prefixed as Open Responses asks of extensions; no document can know them.",
        "admitted with id, type and status",
        _our_items,
    ),
    SpecificationError(
        "both",
        "tools named antiphon:*",
        "As for items.",
        "admitted as tools and as tool choices",
        _our_tools,
    ),
    SpecificationError(
        "both",
        "events named antiphon:*",
        "As for items.",
        "component AntiphonEvent: type and sequence_number",
        _our_events,
    ),
    # After all that widen ItemField, for it copies the union.
    SpecificationError(
        OPENRESPONSES,
        "ReasoningBody.content, ReasoningBody.encrypted_content, Message.phase",
        "null fails, although it means absent; SDKs replay it so, and lists give it back.",
        "null admitted in item lists (ListedItem); in output refused, since a server can leave the key out",
        _listed_items,
    ),
    SpecificationError(
        "both",
        "oneOf",
        "Branches overlap (easy message and item; image and file parts), which oneOf refuses; the tag is what decides.",
        "read as anyOf when loaded, as are nullable and $recursiveRef read in the newer dialect: as_json_schema",
    ),
    SpecificationError(
        OPENRESPONSES,
        "ResponseFunctionCallArgumentsDoneStreamingEvent.name",
        "Not defined, while OpenAI's document requires it; the SDK lacks it too.",
        "left: it must be sent, and an unknown key offends nobody",
    ),
    SpecificationError(
        OPENRESPONSES,
        "Usage.input_tokens_details.cache_write_tokens",
        "Not defined, while OpenAI's document requires it.",
        "left: it must be sent",
    ),
    SpecificationError(
        OPENRESPONSES,
        "ResponseResource.status",
        "Any string.",
        "left: OpenAI's document has the six values",
    ),
    SpecificationError(
        OPENRESPONSES,
        "ResponseOutputTextDeltaStreamingEvent.logprobs",
        "Entries need bytes and top_logprobs, which OpenAI's stream entries lack.",
        "left: the full entry satisfies both",
    ),
)


def correct_documents(errors: tuple[SpecificationError, ...] = KNOWN_SPECIFICATION_ERRORS) -> dict[str, Document]:
    """Both documents with the given errors corrected."""
    pair: Pair = {name: load(name) for name in (OPENAI, OPENRESPONSES)}
    for error in errors:
        if error.correct is not None:
            error.correct(pair)
    return {name: corrected(name, schemas) for name, schemas in pair.items()}
