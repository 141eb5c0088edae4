"""The request's ``input`` into items as they are stored: ids given, shapes normalised, everything else untouched.

Must not know what came before the request or what the model can take.  Shapes: reference 4.2, 6.1, 6.2.
"""

import asyncio
from collections.abc import Mapping

import msgspec

from antiphon.engine.context import read_update
from antiphon.engine.ports.stores import Store, StoredItem
from antiphon.engine.ports.upstreams import ContextItem
from antiphon.engine.ports.world import Clock
from antiphon.protocol.decoding import decode, fewer
from antiphon.protocol.errors import bad_choice, invalid, item_not_found, missing
from antiphon.protocol.items import ANSWERS, ID_PREFIXES, Item, Part, decode_object
from antiphon.protocol.tools import EXECUTIONS, as_listed, read_listed

encode = msgspec.json.encode

#: Items of one request at the most, and how many of them, or of their bytes, are taken before others may run.
ITEMS_MAX, ITEMS_AT_ONCE, BYTES_AT_ONCE = 20_000, 500, 4 << 20

_raws: msgspec.json.Decoder[list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw])
_item = msgspec.json.Decoder(Item)
_parts = msgspec.json.Decoder(list[Part])

ROLES = ("assistant", "system", "developer", "user")
_INPUT_PARTS = ("input_text", "input_image", "input_file")
_PARTS = {"assistant": ("output_text", "refusal", "input_text"), "output": _INPUT_PARTS}
_NULL = (b"", b"null")
STATUSES = ("in_progress", "completed", "incomplete")
#: What items of these types must have; all of it is a string but for ``output``.
_REQUIRED = {
    "function_call": ("call_id", "name", "arguments"),
    "custom_tool_call": ("call_id", "name", "input"),
    "function_call_output": ("call_id",),
    "custom_tool_call_output": ("call_id",),
    "compaction": ("encrypted_content",),
}
#: What lists show of parts and items where clients leave it out (reference 6.2, 6.3; clients 1.16).
_PART_DEFAULTS = {
    "output_text": {"annotations": msgspec.Raw(b"[]"), "logprobs": msgspec.Raw(b"[]")},
    "input_image": {"detail": msgspec.Raw(b'"auto"')},
}
_ITEM_DEFAULTS = {
    "additional_tools": {"role": msgspec.Raw(b'"developer"')},
    "reasoning": {"summary": msgspec.Raw(b"[]")},
}


class Taken(ContextItem):
    """An item of the request: its view and its bytes, which now carry an id."""

    def stored(self) -> StoredItem:
        """As the store keeps it."""
        assert self.view.id is not None
        return StoredItem(self.view.id, self.body)


async def take(raw: msgspec.Raw, project: str, store: Store, clock: Clock) -> list[Taken]:
    """All items of the request.  Raises ``ApiError`` naming the part that is wrong."""
    data = bytes(raw)
    if data in _NULL:
        return []
    if data[:1] == b'"':
        return [_from_string(raw, clock)]
    raws: list[msgspec.Raw] = decode(_raws, data, "input")
    fewer("input", len(raws), ITEMS_MAX)
    items: list[Taken] = []
    ids: set[str | None] = set()
    size = 0
    for index, item in enumerate(raws):
        size += len(item)
        if index % ITEMS_AT_ONCE == 0 or size > BYTES_AT_ONCE:
            size = 0
            await asyncio.sleep(0)
        taken = await _take_one(bytes(item), f"input[{index}]", project, store, clock)
        if taken.view.id in ids:
            taken = _under_fresh_id(taken, clock)
        ids.add(taken.view.id)
        items.append(taken)
    return items


def _under_fresh_id(taken: Taken, clock: Clock) -> Taken:
    """The same item for another place of the list: pages begin after an id, which therefore names one place.

    That goes for an item that is referred to again, too.
    """
    view = msgspec.structs.replace(taken.view, id=clock.new_id(ID_PREFIXES.get(taken.view.kind, "item_")))
    return Taken(view, encode({**decode_object(taken.body), "id": view.id}))


def _from_string(raw: msgspec.Raw, clock: Clock) -> Taken:
    content = b'[{"type":"input_text","text":%b}]' % bytes(raw)
    return _message(Item(id=clock.new_id("msg_"), role="user", content=msgspec.Raw(content)), {})


def _message(view: Item, others: Mapping[str, msgspec.Raw]) -> Taken:
    view.type, view.status = "message", view.status or "completed"
    rest = b"".join(b",%b:%b" % (encode(name), bytes(value)) for name, value in others.items())
    body = b'{"id":%b,"type":"message","status":%b,"role":%b,"content":%b%b}' % (
        encode(view.id),
        encode(view.status),
        encode(view.role),
        bytes(view.content),
        rest,
    )
    return Taken(view, body)


async def _take_one(data: bytes, path: str, project: str, store: Store, clock: Clock) -> Taken:
    view = decode(_item, data, path)
    kind = view.kind
    if kind == "message":
        return _take_message(view, data, path, clock)
    if kind == "item_reference":
        return await _resolve(view, path, project, store)
    if kind not in ID_PREFIXES and view.id is None and view.call_id is None:
        raise bad_choice(f"{path}.type", kind, tuple(ID_PREFIXES))
    _check(view, kind, path)
    return _with_id(view, data, clock.new_id(ID_PREFIXES.get(kind, "item_")))


async def _resolve(view: Item, path: str, project: str, store: Store) -> Taken:
    if not view.id:
        raise missing(f"{path}.type" if view.type is None else f"{path}.id")
    body = await store.item(project, view.id)
    if body is None:
        raise item_not_found(view.id)
    return Taken(_item.decode(body), body)


def _take_message(view: Item, data: bytes, path: str, clock: Clock) -> Taken:
    if view.role not in ROLES:
        raise missing(f"{path}.role") if view.role is None else bad_choice(f"{path}.role", view.role, ROLES)
    raw = bytes(view.content)
    if raw in _NULL:
        raise missing(f"{path}.content")
    if view.status is not None and view.status not in STATUSES:
        raise bad_choice(f"{path}.status", view.status, STATUSES)
    part_types = _PARTS.get(view.role, _INPUT_PARTS)
    if raw[:1] == b'"':
        extra = b',"annotations":[],"logprobs":[]' if view.role == "assistant" else b""
        content = b'[{"type":"%b","text":%b%b}]' % (part_types[0].encode(), raw, extra)
    else:
        content = _whole_parts(raw, part_types, f"{path}.content")
    view.content = msgspec.Raw(content)
    view.id = view.id or clock.new_id("msg_")
    # A null means unset, and no published message has a null for its phase.
    members = ((name, value) for name, value in decode_object(data).items() if bytes(value) != b"null")
    return _message(view, {name: value for name, value in members if name not in _HEAD})


_HEAD = ("id", "type", "status", "role", "content")


def _whole_parts(raw: bytes, allowed: tuple[str, ...], path: str) -> bytes:
    """The checked parts with the defaults that clients leave out; as they came where nothing is missing."""
    parts = decode(_parts, raw, path)
    check_parts(parts, allowed, path)
    if not any(part.type in _PART_DEFAULTS for part in parts):
        return raw
    members = msgspec.json.decode(raw, type=list[dict[str, msgspec.Raw]])
    return encode([_filled(part, _PART_DEFAULTS.get(view.type)) for view, part in zip(parts, members, strict=True)])


def _filled(members: dict[str, msgspec.Raw], defaults: Mapping[str, msgspec.Raw] | None) -> dict[str, msgspec.Raw]:
    absent = {name: value for name, value in (defaults or {}).items() if bytes(members.get(name, b"")) in _NULL}
    return members | absent


def check_parts(parts: list[Part], allowed: tuple[str, ...], path: str) -> None:
    """Every part has a known type and what that type needs."""
    for index, part in enumerate(parts):
        where = f"{path}[{index}]"
        if not part.type:
            raise missing(f"{where}.type")
        if part.type not in allowed:
            raise bad_choice(f"{where}.type", part.type, allowed)
        if part.type in ("input_text", "output_text") and part.text is None:
            raise missing(f"{where}.text")
        if part.type == "encrypted_content" and part.encrypted_content is None:
            raise missing(f"{where}.encrypted_content")
        if part.type == "input_image" and part.image_url is None and part.file_id is None:
            raise missing(f"{where}.image_url")
        if part.type == "input_file" and not (part.file_id or part.file_url or part.file_data):
            raise missing(f"{where}.file_data")


def _check(view: Item, kind: str, path: str) -> None:
    for name in _REQUIRED.get(kind, ()):
        value = getattr(view, name)
        if value is None:
            raise missing(f"{path}.{name}")
        if not isinstance(value, str):
            text = f"Invalid type for '{path}.{name}': expected a string."
            raise invalid(text, f"{path}.{name}", "invalid_type")
    if kind in ANSWERS:
        if bytes(view.output) in _NULL:
            raise missing(f"{path}.output")
        _check_output(view, f"{path}.output")
    if kind == "reasoning":
        _check_reasoning(view, path)
    if kind == "agent_message":
        _check_content(view, ("input_text", "encrypted_content"), f"{path}.content")
    if kind in _BRING:
        read_listed(view.tools, f"{path}.tools")
    if kind == "additional_tools" and view.role not in (None, "developer"):
        raise bad_choice(f"{path}.role", view.role, ("developer",))
    if kind in _SEARCHES and view.execution is not None and view.execution not in EXECUTIONS:
        raise bad_choice(f"{path}.execution", str(view.execution), EXECUTIONS)
    if kind == "configuration_update":
        read_update(view, path)


#: Items that carry declarations of tools, those of a tool search, and those that have no status (reference 6.1, 6.3).
_BRING = ("additional_tools", "tool_search_output")
_SEARCHES = ("tool_search_call", "tool_search_output")
_STATELESS = ("additional_tools", "agent_message", "configuration_update")


def _check_reasoning(view: Item, path: str) -> None:
    """Parts with text, of whatever type: upstreams read them in every later turn."""
    for name in ("content", "summary"):
        raw = bytes(getattr(view, name))
        if raw in _NULL:
            continue
        parts = decode(_parts, raw, f"{path}.{name}")
        for index, part in enumerate(parts):
            if not part.type or part.text is None:
                raise missing(f"{path}.{name}[{index}].{'text' if part.type else 'type'}")


def _check_content(view: Item, allowed: tuple[str, ...], path: str) -> None:
    raw = bytes(view.content)
    if raw in _NULL:
        raise missing(path)
    if raw[:1] != b'"':
        check_parts(decode(_parts, raw, path), allowed, path)


def _check_output(view: Item, path: str) -> None:
    raw = bytes(view.output)
    if raw[:1] == b"[":
        view.output = msgspec.Raw(_whole_parts(raw, _INPUT_PARTS, path))
    elif raw[:1] != b'"':
        text = f"Invalid type for '{path}': expected one of a string or an array of content parts."
        raise invalid(text, path, "invalid_type")


def _with_id(view: Item, data: bytes, fresh: str) -> Taken:
    """The same members, with an id, a status and the defaults of its type where it had none."""
    members = decode_object(data)
    view.id = view.id or fresh
    view.status = view.status or "completed"
    whole = {"id": msgspec.Raw(encode(view.id)), "type": msgspec.Raw(encode(view.kind)), **members}
    whole["id"] = msgspec.Raw(encode(view.id))
    if view.kind not in _STATELESS:
        whole["status"] = msgspec.Raw(encode(view.status))
    if view.kind in ANSWERS:
        whole["output"] = view.output
    if view.kind in _BRING:
        whole["tools"] = as_listed(view.tools)
    return Taken(view, encode(_filled(whole, _defaults(view))))


def _defaults(view: Item) -> Mapping[str, msgspec.Raw] | None:
    if view.kind in _SEARCHES:
        execution = b'"server"' if view.call_id is None else b'"client"'
        return {"call_id": msgspec.Raw(b"null"), "execution": msgspec.Raw(execution)}
    return _ITEM_DEFAULTS.get(view.kind)
