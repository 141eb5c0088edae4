"""Conversations: the bodies that clients send, and the objects that they get.

Must not know what is stored.  Shapes: responses-api reference, section 12.
"""

import msgspec

from antiphon.protocol.decoding import decode, fewer, members_of
from antiphon.protocol.errors import empty_array, missing
from antiphon.protocol.requests import check_metadata

#: Items of one request.
ITEMS_MAX = 20
_NULL = (b"", b"null")
_raws: msgspec.json.Decoder[list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw])
_metadata: msgspec.json.Decoder[dict[str, str]] = msgspec.json.Decoder(dict[str, str])


def read_created(body: bytes) -> tuple[msgspec.Raw, bytes, list[str]]:
    """The items, which may be none, the metadata as JSON, and the names that mean nothing here.

    Raises ``ApiError`` 400.  A body is not needed.
    """
    _, members = members_of(body if body.strip() else b"{}")
    items = members.get("items", msgspec.Raw(b"null"))
    if bytes(items) not in _NULL:
        _count(items)
    return items, _metadata_of(members), [name for name in members if name not in ("items", "metadata")]


def read_metadata(body: bytes) -> bytes:
    """The metadata that is to replace what there was, as JSON.  Raises ``ApiError`` 400."""
    _, members = members_of(body)
    if "metadata" not in members:
        raise missing("metadata")
    return _metadata_of(members)


def read_items(body: bytes) -> msgspec.Raw:
    """One to 20 items as they came.  Raises ``ApiError`` 400."""
    _, members = members_of(body)
    items = members.get("items", msgspec.Raw())
    if bytes(items) in _NULL:
        raise missing("items")
    if not _count(items):
        raise empty_array("items")
    return items


def _count(items: msgspec.Raw) -> int:
    count = len(decode(_raws, items, "items"))
    fewer("items", count, ITEMS_MAX)
    return count


def _metadata_of(members: dict[str, msgspec.Raw]) -> bytes:
    given = members.get("metadata", msgspec.Raw(b"null"))
    if bytes(given) in _NULL:
        return b"{}"
    check_metadata(decode(_metadata, given, "metadata"))
    return bytes(given)


def shown(id: str, created_at: int, metadata: bytes) -> bytes:
    """The Conversation object."""
    return b'{"id":%b,"object":"conversation","created_at":%d,"metadata":%b}' % (
        msgspec.json.encode(id), created_at, metadata,
    )  # fmt: skip


def deleted(id: str) -> bytes:
    """What DELETE of a conversation answers."""
    return b'{"id":%b,"object":"conversation.deleted","deleted":true}' % msgspec.json.encode(id)
