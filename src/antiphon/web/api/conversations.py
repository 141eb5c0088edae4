"""``/v1/conversations`` and everything below it.  Calls: reference 12."""

import msgspec

from antiphon.engine import intake
from antiphon.engine.ports.stores import Conversation, Listing, Store, StoredItem
from antiphon.engine.ports.world import Clock
from antiphon.protocol import conversations as bodies
from antiphon.protocol.errors import ApiError, conversation_not_found, quoted
from antiphon.protocol.requests import read_include, read_page
from antiphon.web.api.responses import list_of
from antiphon.web.messages import Reply, Request


class Conversations:
    """The handlers, around the store."""

    def __init__(self, store: Store, clock: Clock, body_max_bytes: int) -> None:
        self._store = store
        self._clock = clock
        self._body_max_bytes = body_max_bytes

    async def create(self, request: Request) -> Reply:
        """POST /v1/conversations"""
        raw, metadata, request.warnings = bodies.read_created(await request.json_or_nothing(self._body_max_bytes))
        items = await self._taken(request, raw)
        made = Conversation(self._clock.new_id("conv_"), int(self._clock.now()), metadata)
        await self._store.conversations.create(request.project, made, items)
        return Reply(bodies.shown(*made))

    async def retrieve(self, request: Request) -> Reply:
        """GET /v1/conversations/{conversation_id}"""
        return Reply(bodies.shown(*await self._found(request)))

    async def update(self, request: Request) -> Reply:
        """POST /v1/conversations/{conversation_id}"""
        metadata = bodies.read_metadata(await request.json(self._body_max_bytes))
        name = _name(request)
        changed = await self._store.conversations.update(request.project, name, metadata)
        if changed is None:
            raise conversation_not_found(name)
        return Reply(bodies.shown(*changed))

    async def delete(self, request: Request) -> Reply:
        """DELETE /v1/conversations/{conversation_id}"""
        name = _name(request)
        if not await self._store.conversations.delete(request.project, name):
            raise conversation_not_found(name)
        return Reply(bodies.deleted(name))

    async def add(self, request: Request) -> Reply:
        """POST /v1/conversations/{conversation_id}/items"""
        read_include(request.query)
        raw = bodies.read_items(await request.json(self._body_max_bytes))
        await self._found(request)  # before what the items refer to is looked for
        items = await self._taken(request, raw)
        if not await self._store.conversations.add(request.project, _name(request), items):
            raise conversation_not_found(_name(request))
        return Reply(list_of(Listing(items, False)))

    async def items(self, request: Request) -> Reply:
        """GET /v1/conversations/{conversation_id}/items"""
        page = read_page(request.query)
        listing = await self._store.conversations.items(request.project, _name(request), page)
        if listing is None:
            raise conversation_not_found(_name(request))
        return Reply(list_of(listing))

    async def item(self, request: Request) -> Reply:
        """GET /v1/conversations/{conversation_id}/items/{item_id}"""
        read_include(request.query)
        item = request.params["item_id"]
        body = await self._store.conversations.item(request.project, _name(request), item)
        if body is None:
            await self._found(request)
            raise _no_item(item, _name(request))
        return Reply(body)

    async def remove(self, request: Request) -> Reply:
        """DELETE /v1/conversations/{conversation_id}/items/{item_id}"""
        item = request.params["item_id"]
        removed = await self._store.conversations.remove(request.project, _name(request), item)
        conversation = await self._found(request)
        if not removed:
            raise _no_item(item, conversation.id)
        return Reply(bodies.shown(*conversation))

    async def _found(self, request: Request) -> Conversation:
        found = await self._store.conversations.read(request.project, _name(request))
        if found is None:
            raise conversation_not_found(_name(request))
        return found

    async def _taken(self, request: Request, raw: msgspec.Raw) -> list[StoredItem]:
        """The items as they are stored: with ids and statuses, content in parts."""
        try:
            taken = await intake.take(raw, request.project, self._store, self._clock)
        except ApiError as error:
            raise _about_items(error) from None
        return [item.stored() for item in taken]


def _name(request: Request) -> str:
    return request.params["conversation_id"]


def _no_item(item: str, conversation: str) -> ApiError:
    return ApiError(404, f"Item with id '{quoted(item)}' not found in conversation '{quoted(conversation)}'.")


def _about_items(error: ApiError) -> ApiError:
    """The same where the member is called ``items``, not ``input`` as in a create."""
    if error.param is None or not error.param.startswith("input"):
        return error
    param = "items" + error.param.removeprefix("input")
    message = error.message.replace(f"'{error.param}'", f"'{param}'")
    return ApiError(error.status, message, type=error.type, code=error.code, param=param, headers=error.headers)
