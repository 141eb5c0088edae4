"""What every test asks of a body, an event or a stream: is it what both specifications say?

`check_*` return nothing and raise AssertionError that names the document, the place and the value. Each checks
against OpenAI's document and, for what Open Responses defines, against that as well; where a document is in error,
`KNOWN_SPECIFICATION_ERRORS` says so and how it is corrected. Knows nothing of the server under test.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from tests.specification.documents import Document, Json
from tests.specification.frames import parse_sse
from tests.specification.known_errors import KNOWN_SPECIFICATION_ERRORS, OURS, correct_documents
from tests.specification.streams import check_laws, without_keepalives

__all__ = [
    "KNOWN_SPECIFICATION_ERRORS",
    "check_compaction",
    "check_conversation",
    "check_deleted",
    "check_error",
    "check_event",
    "check_item",
    "check_item_list",
    "check_model",
    "check_model_list",
    "check_openai",
    "check_response",
    "check_stream",
    "check_webhook",
    "parse_sse",
    "without_keepalives",
]

DELETED = {
    "response": "DeletedResponse",
    "conversation.deleted": "DeletedConversationResource",
    "file": "DeleteFileResponse",
    "model": "DeleteModelResponse",
    "vector_store.deleted": "DeleteVectorStoreResponse",
    "vector_store.file.deleted": "DeleteVectorStoreFileResponse",
}
WEBHOOKS = {
    "response.cancelled": "WebhookResponseCancelled",
    "response.completed": "WebhookResponseCompleted",
    "response.failed": "WebhookResponseFailed",
    "response.incomplete": "WebhookResponseIncomplete",
}
# Which of the nullable fields is set in which status, and in no other.
SET_ONLY_IN = {"completed_at": "completed", "error": "failed", "incomplete_details": "incomplete"}


@cache
def _documents() -> tuple[Document, Document]:
    documents = correct_documents()
    return documents["openai"], documents["openresponses"]


def check_openai(component: str, body: Any) -> None:
    """Check `body` against a component of OpenAI's document, by its name there (`VectorStoreObject`, `OpenAIFile`)."""
    _documents()[0].check(component, body)


def check_openresponses(component: str, body: Any) -> None:
    """Check `body` against a component of the Open Responses document, by its name there."""
    _documents()[1].check(component, body)


def check_response(body: Json) -> None:
    """Check a Response object: its shape, and what its status says about its other fields."""
    check_openai("Response", body)
    check_openresponses("ResponseResource", body)
    _check_status(body)
    _check_output(body)
    assert "output_text" not in body, "response: output_text is made by the SDKs and not sent"
    if usage := body["usage"]:
        total = usage["input_tokens"] + usage["output_tokens"]
        assert usage["total_tokens"] == total, f"response.usage: total_tokens is not {total}: {usage}"


def _check_status(body: Json) -> None:
    status = body["status"]
    for name, only in SET_ONLY_IN.items():
        assert (body[name] is not None) == (status == only), f"response: {name} is {body[name]!r} in status {status}"
    if status in {"queued", "in_progress"}:
        assert body["usage"] is None, f"response: usage is set in status {status}"
    assert status != "completed" or body["usage"] is not None, "response: completed without usage"
    assert status != "queued" or body["output"] == [], "response: queued with output"


def _check_output(body: Json) -> None:
    identifiers = [item["id"] for item in body["output"]]
    assert len(set(identifiers)) == len(identifiers), f"response.output: an id twice: {identifiers}"
    unfinished = [index for index, item in enumerate(body["output"]) if item.get("status") == "incomplete"]
    if body["status"] == "completed":
        assert not unfinished, f"response.output{unfinished}: incomplete items in a completed response"
    if body["status"] == "incomplete":
        last = len(body["output"]) - 1
        assert unfinished in ([], [last]), f"response.output{unfinished}: an incomplete item is not the last"


def check_event(event: Json) -> None:
    """Check one stream event or WebSocket frame; the snapshot in a lifecycle event is checked as a response."""
    openai, openresponses = _documents()
    kind = str(event.get("type"))
    if kind.startswith(OURS):
        openai.check("AntiphonEvent", event)
        return
    assert kind in openai.events, f"openai: no event has the type {kind!r}"
    openai.check(openai.events[kind], event)
    if kind in openresponses.events:
        openresponses.check(openresponses.events[kind], event)
    if isinstance(event.get("response"), dict):
        check_response(event["response"])


def check_stream(events: list[Json]) -> None:
    """Check every event of a whole stream, and the laws that hold between them; keep-alives are dropped first."""
    kept = without_keepalives(events)
    for event in kept:
        check_event(event)
    check_laws(kept)


def check_error(body: Json) -> None:
    """Check the body of a reply that is an error."""
    check_openai("ErrorResponse", body)
    check_openresponses("ErrorPayload", body["error"])
    assert body["error"]["message"], "error.message is empty"


def check_item(item: Json) -> None:
    """Check one item as it is listed under a response."""
    check_openai("ItemResource", item)
    check_openresponses("ListedItem", item)


def check_item_list(body: Json, *, conversation: bool = False) -> None:
    """Check a page of items, of a response or of a conversation (whose messages have more roles and parts)."""
    check_openai("ConversationItemList" if conversation else "ResponseItemList", body)
    if not conversation:
        for item in body["data"]:
            check_item(item)
    identifiers = [item.get("id") for item in body["data"]]
    ends = (identifiers[0], identifiers[-1]) if identifiers else (None, None)
    assert (body["first_id"], body["last_id"]) == ends, f"list: first_id and last_id are not {ends}"
    assert identifiers or not body["has_more"], "list: has_more on an empty page"
    assert len(set(identifiers)) == len(identifiers), f"list: an id twice: {identifiers}"


def check_model(body: Json) -> None:
    """Check a model object."""
    check_openai("Model", body)


def check_model_list(body: Json) -> None:
    """Check the list of models; ids are unique."""
    check_openai("ListModelsResponse", body)
    names = [model["id"] for model in body["data"]]
    assert len(set(names)) == len(names), f"models: an id twice: {names}"


def check_deleted(body: Json) -> None:
    """Check the reply to DELETE of a response, conversation, model, file, vector store or one of its files."""
    kind = body.get("object")
    assert kind in DELETED, f"deleted: object {kind!r} is none of {sorted(DELETED)}"
    check_openai(DELETED[kind], body)
    assert body["deleted"] is True, "deleted: deleted is not true"


def check_compaction(body: Json) -> None:
    """Check the reply of /responses/compact: it ends in its one compaction item."""
    check_openai("CompactResource", body)
    check_openresponses("CompactResource", body)
    kinds = [item["type"] for item in body["output"]]
    assert kinds[-1:] == ["compaction"], f"compaction: the last item is not the compaction: {kinds}"
    assert kinds.count("compaction") == 1, f"compaction: more than one compaction item: {kinds}"


def check_conversation(body: Json) -> None:
    """Check a conversation object."""
    check_openai("ConversationResource", body)


def check_webhook(body: Json) -> None:
    """Check the body of a webhook delivery about a response."""
    kind = body.get("type")
    assert kind in WEBHOOKS, f"webhook: type {kind!r} is none of {sorted(WEBHOOKS)}"
    check_openai(WEBHOOKS[kind], body)
    assert body.get("object") == "event", f"webhook: object is {body.get('object')!r}"
