"""The request's ``input`` into items as they are stored: ids given, shapes normalised, everything else untouched.

Must not know what came before the request or what the model can take.  Shapes: reference 4.2, 6.1, 6.2.
"""

from collections.abc import Mapping

import msgspec

from antiphon.engine.ports import Clock, ContextItem, Store, StoredItem
from antiphon.protocol.decoding import decode
from antiphon.protocol.errors import bad_choice, invalid, item_not_found, missing
from antiphon.protocol.items import ID_PREFIXES, Item, Part, decode_object, text_of_raw

encode = msgspec.json.encode

_raws: msgspec.json.Decoder[list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw])
_item = msgspec.json.Decoder(Item)
_parts = msgspec.json.Decoder(list[Part])

ROLES = ("assistant", "system", "developer", "user")
_INPUT_PARTS = ("input_text", "input_image", "input_file")
_PARTS = {"assistant": ("output_text", "refusal", "input_text"), "output": _INPUT_PARTS}
_NULL = (b"", b"null")


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
    return [await _take_one(bytes(item), f"input[{index}]", project, store, clock) for index, item in enumerate(raws)]


def _from_string(raw: msgspec.Raw, clock: Clock) -> Taken:
    content = b'[{"type":"input_text","text":%b}]' % bytes(raw)
    return _message(clock.new_id("msg_"), "user", content, {})


def _message(item_id: str, role: str, content: bytes, others: Mapping[str, msgspec.Raw]) -> Taken:
    rest = b"".join(b',"%b":%b' % (name.encode(), bytes(value)) for name, value in others.items())
    body = b'{"id":%b,"type":"message","status":"completed","role":"%b","content":%b%b}' % (
        encode(item_id),
        role.encode(),
        content,
        rest,
    )
    return Taken(Item(type="message", id=item_id, role=role, content=msgspec.Raw(content)), body)


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
    part_types = _PARTS.get(view.role, _INPUT_PARTS)
    if raw[:1] == b'"':
        extra = b',"annotations":[],"logprobs":[]' if view.role == "assistant" else b""
        content = b'[{"type":"%b","text":%b%b}]' % (part_types[0].encode(), raw, extra)
    else:
        check_parts(decode(_parts, raw, f"{path}.content"), part_types, f"{path}.content")
        content = raw
    members = decode_object(data)
    others = {name: value for name, value in members.items() if name not in ("id", "type", "status", "role", "content")}
    return _message(view.id or clock.new_id("msg_"), view.role, content, others)


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
        if part.type == "input_image" and part.image_url is None and part.file_id is None:
            raise missing(f"{where}.image_url")
        if part.type == "input_file" and not (part.file_id or part.file_url or part.file_data):
            raise missing(f"{where}.file_data")


def _check(view: Item, kind: str, path: str) -> None:
    if kind == "function_call":
        for name in ("call_id", "name", "arguments"):
            if getattr(view, name) is None:
                raise missing(f"{path}.{name}")
    elif kind in ("function_call_output", "custom_tool_call_output"):
        if view.call_id is None:
            raise missing(f"{path}.call_id")
        if bytes(view.output) in _NULL:
            raise missing(f"{path}.output")
        _check_output(view, path)


def _check_output(view: Item, path: str) -> None:
    if bytes(view.output)[:1] not in (b'"', b"["):
        text = f"Invalid type for '{path}.output': expected one of a string or an array of content parts."
        raise invalid(text, f"{path}.output", "invalid_type")
    parts = text_of_raw(view.output)
    if not isinstance(parts, str):
        check_parts(parts, _INPUT_PARTS, f"{path}.output")


def _with_id(view: Item, data: bytes, fresh: str) -> Taken:
    """The same bytes with an id and a status in front, where they had none."""
    if view.id and view.status:
        return Taken(view, data)
    members = decode_object(data)
    view.id = view.id or fresh
    view.status = view.status or "completed"
    head = {"id": msgspec.Raw(encode(view.id)), "type": msgspec.Raw(encode(view.kind))}
    status = {"status": msgspec.Raw(encode(view.status))}
    return Taken(view, encode({**head, **{k: v for k, v in members.items() if k not in ("id", "status")}, **status}))
