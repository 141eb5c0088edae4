"""``engine.ports.stores.Conversations`` over PostgreSQL: a face of the store.

Must not know how conversations are written.
"""

import secrets
from collections.abc import Sequence
from typing import Any, Protocol

from antiphon.engine.ports.stores import Context, Conversation, Hold, Listing, StoredItem
from antiphon.protocol.errors import conversation_locked, conversation_not_found
from antiphon.protocol.requests import Page
from antiphon.stores.postgres import operations
from antiphon.stores.postgres.lanes import Operation
from antiphon.stores.postgres.texts import sendable

_LINE = {"{owner}": "conversations", "{end}": "upto"}


class _Store(Protocol):
    """The store as it is seen from here."""

    async def _rows(self, name: str, *arguments: Any) -> list[Any]: ...
    async def _page(self, line: dict[str, str], project: str, id: str, page: Page) -> Listing | None: ...
    async def _conversation_context(self, project: str, conversation: str, *, pinned: bool) -> Context: ...
    async def _do(self, operation: Operation) -> Any: ...
    async def _take(self, operation: Operation) -> Any: ...


class PostgresConversations:
    """The conversations of one store."""

    def __init__(self, store: _Store) -> None:
        self._store = store

    async def create(self, project: str, conversation: Conversation, items: Sequence[StoredItem]) -> None:
        await self._store._do(operations.Converse(project, conversation, items))

    async def read(self, project: str, conversation: str) -> Conversation | None:
        rows = await self._store._rows("conversation", sendable(project), sendable(conversation))
        return Conversation(conversation, *rows[0]) if rows else None

    async def update(self, project: str, conversation: str, metadata: bytes) -> Conversation | None:
        changed: Conversation | None = await self._store._do(operations.Describe(project, conversation, metadata))
        return changed

    async def delete(self, project: str, conversation: str) -> bool:
        return bool(await self._store._take(operations.Forget(project, conversation)))

    async def add(self, project: str, conversation: str, items: Sequence[StoredItem]) -> bool:
        return _unlocked(await self._store._do(operations.Add(project, conversation, items, secrets.token_hex(8))))

    async def remove(self, project: str, conversation: str, item: str) -> bool:
        return _unlocked(await self._store._take(operations.TakeOut(project, conversation, item, secrets.token_hex(8))))

    async def items(self, project: str, conversation: str, page: Page) -> Listing | None:
        return await self._store._page(_LINE, project, conversation, page)

    async def item(self, project: str, conversation: str, item: str) -> bytes | None:
        names = (sendable(project), sendable(conversation), sendable(item))
        rows = await self._store._rows("conversation_item", *names)
        return rows[0][0] if rows else None

    async def context(self, project: str, conversation: str) -> Context:
        return await self._store._conversation_context(project, conversation, pinned=False)

    async def enter(self, hold: Hold, seconds: float) -> Context:
        """One write and one query."""
        if not _unlocked(await self._store._do(operations.Enter(hold, seconds))):
            raise conversation_not_found(hold.conversation, "conversation")
        return await self._store._conversation_context(hold.project, hold.conversation, pinned=True)

    async def renew(self, holds: Sequence[Hold], seconds: float) -> None:
        if holds:
            await self._store._do(operations.Renew(holds, seconds))

    async def leave(self, hold: Hold) -> None:
        await self._store._do(operations.Leave(hold))


def _unlocked(done: int | None) -> bool:
    """What a write came to: 1 done, None nothing there, 0 refused because a response holds the conversation."""
    if done == 0:
        raise conversation_locked()
    return done is not None
