"""``engine.ports.stores.Conversations`` over SQLite: a face of the store.

Must not know how conversations are written.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from antiphon.engine.ports.stores import Context, Conversation, Hold, Listing, StoredItem
from antiphon.protocol.errors import conversation_locked, conversation_not_found
from antiphon.protocol.requests import Page
from antiphon.stores.sqlite import operations
from antiphon.stores.sqlite.writer import Operation

_LINE = {"{owner}": "conversations", "{end}": "upto"}


class _Store(Protocol):
    """The store as it is seen from here."""

    def _rows(self, name: str, **bindings: Any) -> list[Any]: ...
    def _snapshot(self) -> Any: ...
    def _page(self, line: dict[str, str], project: str, id: str, page: Page) -> Listing: ...
    def _conversation_context(self, project: str, conversation: str, holder: str | None) -> Context: ...
    async def _held(self, read: Callable[[], Context]) -> Context: ...
    async def _write(self, operation: Operation) -> Any: ...


class SqliteConversations:
    """The conversations of one store."""

    def __init__(self, store: _Store) -> None:
        self._store = store

    async def create(self, project: str, conversation: Conversation, items: Sequence[StoredItem]) -> None:
        await self._store._write(operations.Converse(project, conversation, items))

    async def read(self, project: str, conversation: str) -> Conversation | None:
        rows = self._store._rows("conversation", project=project, id=conversation)
        return Conversation(conversation, *rows[0]) if rows else None

    async def update(self, project: str, conversation: str, metadata: bytes) -> Conversation | None:
        changed: Conversation | None = await self._store._write(operations.Describe(project, conversation, metadata))
        return changed

    async def delete(self, project: str, conversation: str) -> bool:
        return bool(await self._store._write(operations.Forget(project, conversation)))

    async def add(self, project: str, conversation: str, items: Sequence[StoredItem]) -> bool:
        return _unlocked(await self._store._write(operations.Add(project, conversation, items)))

    async def remove(self, project: str, conversation: str, item: str) -> bool:
        return _unlocked(await self._store._write(operations.TakeOut(project, conversation, item)))

    async def items(self, project: str, conversation: str, page: Page) -> Listing | None:
        with self._store._snapshot():
            if not self._store._rows("conversation", project=project, id=conversation):
                return None
            return self._store._page(_LINE, project, conversation, page)

    async def item(self, project: str, conversation: str, item: str) -> bytes | None:
        rows = self._store._rows("conversation_item", project=project, id=conversation, item=item)
        return bytes(rows[0][0]) if rows else None

    async def context(self, project: str, conversation: str) -> Context:
        read = self._store._conversation_context
        return await self._store._held(lambda: read(project, conversation, None))

    async def enter(self, hold: Hold, seconds: float) -> Context:
        """One write and one query."""
        project, conversation, response = hold
        if not _unlocked(await self._store._write(operations.Enter([hold], seconds))):
            raise conversation_not_found(conversation, "conversation")
        read = self._store._conversation_context
        return await self._store._held(lambda: read(project, conversation, response))

    async def renew(self, holds: Sequence[Hold], seconds: float) -> None:
        if holds:
            await self._store._write(operations.Renew(holds, seconds))

    async def leave(self, hold: Hold) -> None:
        await self._store._write(operations.Leave([hold]))


def _unlocked(done: bool | None) -> bool:
    """What a write came to: True done, None nothing there, False refused because a response holds the conversation."""
    if done is False:
        raise conversation_locked()
    return done is True
