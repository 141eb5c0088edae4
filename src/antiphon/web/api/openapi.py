"""``GET /openapi.json``: this server's own OpenAPI 3.1 document, made from its routes.

Request parameters come from the types that read them; what types do not say stands in ``openapi_shapes``.
The document is the same for everybody and tells nothing of what is stored, so that no key is asked for it.
Must not know how a route is served.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec
from msgspec import inspect

from antiphon.protocol import errors, requests, responses
from antiphon.web.api.openapi_shapes import (
    CODES,
    HEADERS,
    LIMITS,
    OBJECT,
    QUERY,
    RAW_MEMBERS,
    SHAPES,
    TEXT,
    nullable,
    ref,
)
from antiphon.web.messages import Reply, Request

Json = dict[str, Any]

PATH = "/openapi.json"
VERSION = "3.1.0"


class Served(Protocol):
    """What is asked of a route."""

    @property
    def method(self) -> str: ...

    @property
    def path(self) -> str: ...

    @property
    def open(self) -> bool: ...


class Operation(NamedTuple):
    """What a route does, in terms of components; ``errors`` are the statuses besides those that every route has."""

    summary: str
    reply: str
    body: str | None = None
    query: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    errors: tuple[int, ...] = ()
    body_needed: bool = True
    streams: bool = False


_CURSORS = ("limit", "order", "after", "before")
_PAGE = (*_CURSORS, "include")
#: What a model's side may answer (design decision 10).
_MODEL = (400, 404, 413, 415, 422, 429, 500, 502, 504)
_BODY = (400, 408, 413, 415)
_RESPONSE, _CONVERSATION = "/v1/responses/{response_id}", "/v1/conversations/{conversation_id}"
_WEBHOOK = "/v1/webhook_endpoints/{webhook_endpoint_id}"

#: Every route, by method and path.
OPERATIONS: dict[str, Operation] = {
    "POST /v1/responses": Operation(
        "Asks a model and, unless `store` is false, keeps the response; an event stream with `stream`.",
        "Response",
        "CreateResponse",
        headers=("Idempotency-Key",),
        errors=_MODEL,
        streams=True,
    ),
    "GET /v1/responses": Operation(
        "WebSocket mode, by an upgrade; see docs/websocket.md.", "ErrorReply", errors=(426,)
    ),
    "POST /v1/responses/input_tokens": Operation(
        "Counts the input tokens of what would be asked.", "InputTokens", "CreateResponse", errors=_MODEL
    ),
    "POST /v1/responses/compact": Operation(
        "Replaces a long context by a short one.", "CompactedResponse", "CompactResponse", errors=_MODEL
    ),
    f"GET {_RESPONSE}": Operation(
        "A stored response; with `stream`, the events of a background stream behind `starting_after`.",
        "Response",
        query=("include", "stream", "starting_after", "include_obfuscation"),
        errors=(400, 404),
        streams=True,
    ),
    f"DELETE {_RESPONSE}": Operation("Removes a response.", "DeletedResponse", errors=(400, 404)),
    f"POST {_RESPONSE}/cancel": Operation("Ends a background response.", "Response", errors=(400, 404)),
    f"GET {_RESPONSE}/input_items": Operation(
        "The items that were the model's input.", "ItemList", query=_PAGE, errors=(400, 404)
    ),
    "POST /v1/conversations": Operation(
        "Makes a conversation.", "Conversation", "CreateConversation", errors=(404,), body_needed=False
    ),
    f"GET {_CONVERSATION}": Operation("A conversation.", "Conversation", errors=(404,)),
    f"POST {_CONVERSATION}": Operation("Replaces the metadata.", "Conversation", "UpdateConversation", errors=(404,)),
    f"DELETE {_CONVERSATION}": Operation("Removes a conversation.", "DeletedConversation", errors=(400, 404)),
    f"POST {_CONVERSATION}/items": Operation(
        "Adds items at the end.", "ItemList", "AddItems", ("include",), errors=(404,)
    ),
    f"GET {_CONVERSATION}/items": Operation("The items.", "ItemList", query=_PAGE, errors=(400, 404)),
    f"GET {_CONVERSATION}/items/{{item_id}}": Operation("An item.", "Item", query=("include",), errors=(400, 404)),
    f"DELETE {_CONVERSATION}/items/{{item_id}}": Operation("Removes an item.", "Conversation", errors=(400, 404)),
    "POST /v1/webhook_endpoints": Operation(
        "Makes a webhook endpoint; its signing secret is shown once.",
        "WebhookEndpointWithSecret",
        "CreateWebhookEndpoint",
    ),
    "GET /v1/webhook_endpoints": Operation(
        "The webhook endpoints.", "WebhookEndpointList", query=_CURSORS, errors=(400,)
    ),
    f"GET {_WEBHOOK}": Operation("A webhook endpoint.", "WebhookEndpoint", errors=(404,)),
    f"POST {_WEBHOOK}": Operation(
        "Changes a webhook endpoint, and enables it again.", "WebhookEndpoint", "UpdateWebhookEndpoint", errors=(404,)
    ),
    f"DELETE {_WEBHOOK}": Operation("Removes a webhook endpoint.", "DeletedWebhookEndpoint", errors=(404,)),
    f"POST {_WEBHOOK}/rotate_secret": Operation(
        "Makes a new signing secret, which is shown once.",
        "WebhookEndpointWithSecret",
        "RotateWebhookSecret",
        errors=(404,),
        body_needed=False,
    ),
    f"POST {_WEBHOOK}/test": Operation(
        "Sends a sample event to a webhook endpoint.", "WebhookEndpointTest", "TestWebhookEndpoint", errors=(404,)
    ),
    "GET /v1/webhook_event_types": Operation("The events that webhooks can hear of.", "WebhookEventTypeList"),
    "GET /v1/models": Operation("The models that can be asked.", "ModelList", query=("client_version",)),
    "GET /v1/models/{model}": Operation("A model; its name may hold slashes.", "Model", errors=(404,)),
    "GET /health": Operation("The process lives.", "Health"),
    "GET /ready": Operation("The store and at least one model can be used.", "Readiness"),
    f"GET {PATH}": Operation("This document.", "Document"),
}

_MEANINGS = {
    400: "The request says something that cannot be.",
    401: "The key is missing or wrong.",
    403: "The host or the page's origin is not served.",
    404: "What the request names is not there.",
    408: "The body did not come in time.",
    413: "The body is too large.",
    415: "The body is not plain application/json, or holds media that the model does not take.",
    422: "The model's side could not process the request.",
    426: "A WebSocket is to be opened here.",
    429: "The model's side is asked too often, or its quota is spent.",
    500: "The server or the model's side failed.",
    502: "The model's side failed.",
    503: "Try again: the store or the model's side cannot be used now.",
    504: "The model's side took too long.",
}


def described(path: str) -> str:
    """The path as the document writes it."""
    return path.replace(":path}", "}")


class OpenApi:
    """The handler; the document is made once, when all routes are known."""

    def __init__(self) -> None:
        self._body = b"{}"

    def describe(self, routes: Sequence[Served], version: str) -> None:
        """Makes the document of these routes."""
        self._body = msgspec.json.encode(document(routes, version))

    async def show(self, request: Request) -> Reply:  # noqa: ARG002 - a handler's signature
        """GET /openapi.json"""
        return Reply(self._body)


def document(routes: Iterable[Served], version: str) -> Json:
    """The whole document; every route must stand in ``OPERATIONS``."""
    paths: Json = {}
    for route in routes:
        paths.setdefault(described(route.path), {})[route.method.lower()] = _operation(route)
    return {
        "openapi": VERSION,
        "info": {
            "title": "Antiphon",
            "version": version,
            "summary": "The OpenAI Responses API for any model, self-hosted.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": components(),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "headers": _headers(),
        },
    }


def _headers() -> Json:
    told = {
        "x-request-id": "The request's id, which is unique.",
        "openai-processing-ms": "Milliseconds until the reply began.",
        "openai-version": "Always 2020-10-01.",
        "x-antiphon-warnings": "What of the request was not honoured, as names and paths.",
    }
    return {name: {"description": text, "schema": TEXT} for name, text in told.items()}


def _operation(route: Served) -> Json:
    key = f"{route.method} {described(route.path)}"
    about = OPERATIONS[key]
    shown: Json = {
        "operationId": re.sub(r"\W+", "_", key.lower().replace("/v1", "")).strip("_"),
        "summary": about.summary,
        "parameters": [
            *_path_parameters(route.path),
            *map(_query_parameter, about.query),
            *map(_header_parameter, about.headers),
        ],
        "responses": _replies(about, statuses(route, about)),
        "security": [] if route.open else [{"key": []}, {}],
    }
    if about.body is not None:
        content = {"application/json": {"schema": ref(about.body)}}
        shown["requestBody"] = {"required": about.body_needed, "content": content}
    return shown


def statuses(route: Served, about: Operation) -> list[int]:
    """The errors that a route may answer; those of requests that belong to no route stand nowhere."""
    always = {403, 500} if route.open else {401, 403, 500, 503}
    return sorted({*always, *about.errors, *(_BODY if about.body else ())})


def _path_parameters(path: str) -> list[Json]:
    names = re.findall(r"\{(\w+)", path)
    return [{"name": name, "in": "path", "required": True, "schema": TEXT} for name in names]


def _query_parameter(name: str) -> Json:
    shown: Json = {"name": name, "in": "query", "required": False, "schema": QUERY[name]}
    if name == "include":
        shown["description"] = "Repeated, with commas, or as include[]."
    return shown


def _header_parameter(name: str) -> Json:
    return {"name": name, "in": "header", "required": False, **HEADERS[name]}


def _replies(about: Operation, failures: Iterable[int]) -> Json:
    headers = {name: {"$ref": f"#/components/headers/{name}"} for name in _headers()}
    replies: Json = {}
    if about.reply != "ErrorReply":
        content = {"application/json": {"schema": ref(about.reply)}}
        if about.streams:
            content["text/event-stream"] = {"schema": ref("ResponseStreamEvent")}
        replies["200"] = {"description": about.summary, "headers": headers, "content": content}
    for status in failures:
        content = {"application/json": {"schema": ref("ErrorReply")}}
        replies[str(status)] = {"description": _MEANINGS[status], "headers": headers, "content": content}
    if about.reply == "Readiness":
        replies["503"] = {**replies["200"], "description": "The store, or every model, cannot be used."}
    return replies


# --- Components ---


def components() -> Json:
    """All schemas, by name."""
    made: Json = {}
    for kind in (requests.CreateResponse, responses.Usage, responses.ResponseError, errors.ErrorReply):
        _struct(kind, made)
    made["ErrorBody"]["properties"]["code"] = nullable({"type": "string", "examples": list(CODES)})
    made["ErrorBody"]["description"] = " ".join(f"`{code}`: {told}" for code, told in CODES.items())
    return dict(sorted((made | SHAPES).items()))


def _struct(kind: type[msgspec.Struct], made: Json) -> None:
    told = inspect.type_info(kind)
    assert isinstance(told, inspect.StructType)
    name = component_name(kind)
    made[name] = {}  # first, since types may hold one another
    fields = [field for field in told.fields if kind is not requests.CreateResponse or field.name not in DERIVED]
    properties = {field.encode_name: _member(field, made) for field in fields}
    made[name] = {"type": "object", "properties": properties}
    # What is always written is required of what is answered, and of what is asked only what has no default.
    written = [field.encode_name for field in fields if _is_written(kind, field)]
    if written:
        made[name]["required"] = written


#: Members that reading a create adds.
DERIVED = frozenset({"unknown", "declared", "choice", "raw_reasoning", "raw_text", "generate", "compacts_now"})
_ANSWERED = ("Usage", "InputDetails", "OutputDetails", "ResponseError", "ErrorReply", "ErrorBody")
_NAMES = {"Reasoning": "ReasoningParameter"}


def component_name(kind: type[msgspec.Struct]) -> str:
    """What the document calls a type; what is asked and what is answered may share a name in the code."""
    return _NAMES.get(kind.__name__, kind.__name__)


def _is_written(kind: type[msgspec.Struct], field: inspect.Field) -> bool:
    if kind.__name__ not in _ANSWERED:
        return field.required
    return field.required or any(value is not msgspec.NODEFAULT for value in (field.default, field.default_factory))


def _member(field: inspect.Field, made: Json) -> Json:
    name = field.encode_name
    if name in RAW_MEMBERS:
        return nullable(RAW_MEMBERS[name])
    shown = _shape(field.type, made)
    limits = LIMITS.get(name)
    if limits is None:
        return shown
    if "anyOf" not in shown:
        return {**shown, **limits}
    return {"anyOf": [branch if branch.get("type") == "null" else {**branch, **limits} for branch in shown["anyOf"]]}


_PLAIN: dict[type[inspect.Type], Json] = {
    inspect.StrType: TEXT,
    inspect.IntType: {"type": "integer"},
    inspect.FloatType: {"type": "number"},
    inspect.BoolType: {"type": "boolean"},
    inspect.NoneType: {"type": "null"},
    inspect.RawType: {},
    inspect.AnyType: {},
}


def _shape(told: inspect.Type, made: Json) -> Json:
    if isinstance(told, inspect.UnionType):
        branches = [_shape(branch, made) for branch in told.types]
        return branches[0] if len(branches) == 1 else {"anyOf": branches}
    if isinstance(told, inspect.ListType):
        return {"type": "array", "items": _shape(told.item_type, made)}
    if isinstance(told, inspect.DictType):
        return {**OBJECT, "additionalProperties": _shape(told.value_type, made)}
    if isinstance(told, inspect.StructType):
        if component_name(told.cls) not in made:
            _struct(told.cls, made)
        return ref(component_name(told.cls))
    return dict(_PLAIN[type(told)])
