"""Request and earlier items in, the items that the model sees out.

Checks that calls and their outputs pair up, heeds configuration updates, makes what the request points at (images,
files) readable for the model, and drops the oldest turns when the model says that its window is full.
Must not know how items were stored or how they are sent.  Rules: reference 3.1, 3.2; design decision 4.
"""

import asyncio
import mimetypes
import re
from collections.abc import Coroutine, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import msgspec

from antiphon.engine.ports.stores import StoredItem
from antiphon.engine.ports.upstreams import Capabilities, ContextItem
from antiphon.engine.ports.world import Attachments
from antiphon.protocol.errors import ApiError, invalid, quoted
from antiphon.protocol.items import ANSWERS, Item, Part, decode_item, text_of_raw
from antiphon.protocol.requests import CreateResponse, read_create

encode = msgspec.json.encode

R = TypeVar("R")

#: So many items are walked before others may run.
ITEMS_AT_ONCE = 500
#: Images and files of one context that are fetched and read at once.
ATTACHMENTS_AT_ONCE = 4


def view(bodies: Iterable[bytes]) -> list[ContextItem]:
    """Stored items as the engine reads them."""
    return [ContextItem(decode_item(body), body) for body in bodies]


def stored(bodies: Iterable[bytes]) -> list[StoredItem]:
    """Items of earlier responses as the store keeps them."""
    return [StoredItem(decode_item(body).id or "", body) for body in bodies]


def check_pairs(items: Sequence[ContextItem]) -> None:
    """Every output answers a call, and every call has an output, before the model runs again (reference 3.2.10)."""
    calls: dict[tuple[str, str], bool] = {}
    for item in items:
        kind, call_id = item.view.kind, item.view.call_id or ""
        if kind in ANSWERS.values():
            calls[kind, call_id] = False
        elif kind in ANSWERS:
            if (ANSWERS[kind], call_id) not in calls:
                text = f"No tool call found for {_spoken(kind)} with call_id {quoted(call_id)}."
                raise invalid(text, "input", None)
            calls[ANSWERS[kind], call_id] = True
    for (kind, call_id), answered in calls.items():
        if not answered:
            raise invalid(f"No tool output found for {_spoken(kind)} {quoted(call_id)}.", "input", None)


def _spoken(kind: str) -> str:
    return kind.replace("_", " ")


def configured(request: CreateResponse, items: Iterable[ContextItem]) -> CreateResponse:
    """The request with what the configuration updates among the items say; of each setting the last one holds."""
    updates = [read_update(item.view, "input") for item in items if item.view.kind == "configuration_update"]
    if not updates:
        return request
    changed = msgspec.structs.replace(request)
    for update in updates:
        if update.reasoning is not None and update.reasoning.effort is not None:
            changed.reasoning = _with(changed.reasoning, update.reasoning, "effort")
            changed.raw_reasoning = _overlaid(changed.raw_reasoning, update.raw_reasoning, "effort")
        if update.text is not None and update.text.format is not None:
            changed.text = _with(changed.text, update.text, "format")
            changed.raw_text = _overlaid(changed.raw_text, update.raw_text, "format")
    return changed


def read_update(view: Item, path: str) -> CreateResponse:
    """A configuration update as the request that sets the same.  Raises ``ApiError`` 400 with its place."""
    given = {"reasoning": view.reasoning, "text": view.text}
    members = {name: raw for name, raw in given.items() if bytes(raw)}
    try:
        return read_create(encode({"input": "-", **members}))
    except ApiError as error:
        error.param = f"{path}.{error.param}"
        raise


_Settings = TypeVar("_Settings", bound=msgspec.Struct)


def _with(settings: _Settings | None, update: _Settings, name: str) -> _Settings:
    return update if settings is None else msgspec.structs.replace(settings, **{name: getattr(update, name)})


def _overlaid(raw: bytes, update: bytes, name: str) -> bytes:
    members = msgspec.json.decode(raw or b"null", type=dict[str, msgspec.Raw] | None) or {}
    return encode({**members, name: msgspec.json.decode(update, type=dict[str, msgspec.Raw])[name]})


def whole_calls(items: Sequence[ContextItem]) -> list[int]:
    """The places of all items but calls that were cut off: no client may run one, so that none has an output."""
    answered = {(ANSWERS[item.view.kind], item.view.call_id) for item in items if item.view.kind in ANSWERS}
    return [
        place
        for place, item in enumerate(items)
        if item.view.kind not in ANSWERS.values()
        or item.view.status != "incomplete"
        or (item.view.kind, item.view.call_id) in answered
    ]


async def readable(
    items: Sequence[ContextItem],
    earlier: int,
    capabilities: Capabilities,
    attachments: Attachments,
    at_most: int,
    places: Sequence[int] | None = None,
) -> list[ContextItem]:
    """The items with images as data URLs and, for models that take no files, files as text.

    ``places``: where each stands in the whole context, if some of that are left out; of the whole context, the first
    ``earlier`` items come from before the request.  Raises ``ApiError`` 400 naming the part that cannot be read, or
    when there are more than ``at_most`` images and files.
    """
    few = _AFewAtOnce(attachments)
    seen = list(items)
    paths: dict[int, str] = {}
    attached = 0
    for index, item in enumerate(items):
        if index % ITEMS_AT_ONCE == 0:
            await asyncio.sleep(0)
        if here := _attached(item):
            place = index if places is None else places[index]
            paths[index] = "previous_response_id" if place < earlier else f"input[{place - earlier}]"
            attached += here
    if attached > at_most:
        text = f"Too many images and files: this server takes {at_most} in one context, but there are {attached}."
        raise invalid(text, "input", "array_above_max_length")
    reading = (_readable(items[index], path, capabilities, few) for index, path in paths.items())
    for index, read in zip(paths, await _together(reading), strict=True):
        seen[index] = read
    return seen


class _AFewAtOnce:
    """Attachments, so many of them at once."""

    def __init__(self, attachments: Attachments) -> None:
        self._attachments = attachments
        self._room = asyncio.Semaphore(ATTACHMENTS_AT_ONCE)

    async def image(self, url: str, param: str) -> str:
        async with self._room:
            return await self._attachments.image(url, param)

    async def text(self, url: str | None, data: str | None, filename: str | None, param: str) -> str:
        async with self._room:
            return await self._attachments.text(url, data, filename, param)

    async def file(self, url: str, param: str) -> tuple[str, str]:
        async with self._room:
            return await self._attachments.file(url, param)


async def _together(work: Iterable[Coroutine[Any, Any, R]]) -> list[R]:
    """What all come to, in their order.  The first of them that fails, by its place, ends the others."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        return [await task for task in tasks]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _attached(item: ContextItem) -> int:
    field = _field(item)
    if field is None:
        return 0
    raw = bytes(getattr(item.view, field))
    return raw.count(b'"input_image"') + raw.count(b'"input_file"')


def _field(item: ContextItem) -> str | None:
    """Where its parts are; other items may call anything ``content``, and their parts were not checked."""
    return "output" if item.view.kind in ANSWERS else "content" if item.view.kind == "message" else None


async def _readable(item: ContextItem, path: str, capabilities: Capabilities, attachments: Attachments) -> ContextItem:
    field = _field(item)
    if field is None:
        return item
    parts = text_of_raw(getattr(item.view, field))
    if isinstance(parts, str):
        return item
    read = await _together(
        _read_part(part, f"{path}.{field}[{index}]", capabilities, attachments) for index, part in enumerate(parts)
    )
    changed = msgspec.structs.replace(item.view, **{field: msgspec.Raw(encode(read))})
    return ContextItem(changed, item.body)


async def _read_part(part: Part, path: str, capabilities: Capabilities, attachments: Attachments) -> Part:
    if part.type not in ("input_image", "input_file"):
        return part
    if part.file_id is not None:
        message = f"File with id '{quoted(part.file_id)}' not found. This server does not keep files yet."
        raise ApiError(404, message, param=f"{path}.file_id")
    if part.type == "input_image":
        if not capabilities.images:
            message = f"Invalid '{path}': this model does not take images."
            raise invalid(message, path, "unsupported_value")
        assert part.image_url is not None, "checked on intake"
        url = await attachments.image(part.image_url, f"{path}.image_url")
        return Part(type="input_image", image_url=url, detail=part.detail)
    name = part.filename or part.file_url or "file"
    if part.file_url is not None and capabilities.files:
        found, data = await attachments.file(part.file_url, f"{path}.file_url")
        part = Part(type="input_file", filename=part.filename or found, file_data=data)
    if part.file_data is not None and _is_read(part, capabilities.files):
        return part
    text = await attachments.text(part.file_url, part.file_data, part.filename, path)
    return Part(type="input_text", text=f'<file name="{name}">\n{text}\n</file>')


def _is_read(part: Part, patterns: Sequence[str]) -> bool:
    """Whether a model reads this kind of file: by its data URL, or by its name where the data is bare."""
    told = _DATA_URL.match(part.file_data or "")
    kind = told[1] if told else mimetypes.guess_type(part.filename or "")[0]
    return any(fnmatchcase(kind or "", pattern) for pattern in patterns)


_DATA_URL = re.compile(r"data:([^;,]*)")


def instruction(text: str) -> ContextItem:
    """What this server has to tell the model itself."""
    parts = [{"type": "input_text", "text": text}]
    return ContextItem(Item(role="developer", content=msgspec.Raw(encode(parts))), b"")


def asked_to_go_on(said: str) -> list[ContextItem]:
    """For a model that cannot be handed its own half reply: it reads what it said, and is asked for the rest."""
    reply = Item(role="assistant", content=msgspec.Raw(encode([{"type": "output_text", "text": said}])))
    plea = Item(role="user", content=msgspec.Raw(encode([{"type": "input_text", "text": _GO_ON}])))
    return [ContextItem(reply, b""), ContextItem(plea, b"")]


def asked_for_more() -> list[ContextItem]:
    """For a model whose message is whole and who was about to do something, nobody knows what (docs/log.md)."""
    return [ContextItem(Item(role="user", content=msgspec.Raw(encode([{"type": "input_text", "text": _MORE}]))), b"")]


_MORE = (
    "A technical fault came after your last message. If you were about to call a tool or to say more, do it now; "
    "repeat nothing and do not mention the fault."
)
_GO_ON = (
    "Your last message was cut off by a technical fault. Go on exactly where it ends, in the middle of a word if need "
    "be; repeat nothing of it and do not mention the fault."
)


def drop_oldest_turns(items: Sequence[ContextItem], count: int = 1) -> list[ContextItem] | None:
    """The items without the oldest ``count`` turns, or as many as there are before the newest; None for none."""
    later = _later_turns(items)
    whole = _whole_from(items)
    found = (place for place in later[min(count, len(later)) - 1 :] if whole[place])
    place = next(found, None)
    return None if place is None else cut_before(items, place)


def cuts(items: Sequence[ContextItem]) -> list[int]:
    """The places before which all turns can be dropped, in their order.

    A turn begins with a user's message.  A call is never parted from its output: where a user's message stands
    between the two, the turn ends later (reference 5.1).
    """
    whole = _whole_from(items)
    return [place for place in _later_turns(items) if whole[place]]


def cut_before(items: Sequence[ContextItem], place: int) -> list[ContextItem]:
    """The items from there on; instructions (system and developer messages) stay."""
    return [item for item in items[:place] if is_instruction(item.view)] + list(items[place:])


def _later_turns(items: Sequence[ContextItem]) -> list[int]:
    """Where turns begin, but for the first."""
    return [index for index, item in enumerate(items) if is_user(item.view)][1:]


def _whole_from(items: Sequence[ContextItem]) -> list[bool]:
    """For each item, whether every output from there on has the call that it answers; one pass from the end."""
    alone: set[tuple[str, str | None]] = set()
    whole = [False] * len(items)
    for index in range(len(items) - 1, -1, -1):
        kind, call_id = items[index].view.kind, items[index].view.call_id
        if kind in ANSWERS:
            alone.add((ANSWERS[kind], call_id))
        else:
            alone.discard((kind, call_id))
        whole[index] = not alone
    return whole


def is_user(item: Item) -> bool:
    """Whether the user says it."""
    return item.kind == "message" and item.role == "user"


def is_instruction(item: Item) -> bool:
    """Whether it tells the model how to behave."""
    return item.kind == "message" and item.role in ("system", "developer")
