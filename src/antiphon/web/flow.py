"""The way to a client, whatever carries the bytes: too much is unsent, there is room again, nobody is there any more.

Must not know what is sent.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property


class Flow(ABC):
    """One client's side of a connection, and who is told what happens to it."""

    def __init__(self) -> None:
        self.gone = False
        self.full = False
        self.on_gone: Callable[[], None] | None = None
        self.on_full: Callable[[], None] | None = None
        self.on_room: Callable[[], None] | None = None

    @cached_property
    def _room(self) -> asyncio.Event:
        """Most requests are over before anybody waits for it."""
        room = asyncio.Event()
        room.set()
        return room

    @property
    @abstractmethod
    def unsent(self) -> int:
        """Bytes that wait for the client to read."""

    @abstractmethod
    def drop(self) -> None:
        """Closes the connection at once: the client has not read for too long."""

    def lost(self) -> None:
        self.gone = True
        self._room.set()
        if self.on_gone is not None:
            self.on_gone()

    def paused(self) -> None:
        if not self.full:
            self.full = True
            self._room.clear()
            if self.on_full is not None:
                self.on_full()

    def resumed(self) -> None:
        if self.full:
            self.full = False
            self._room.set()
            if self.on_room is not None:
                self.on_room()

    async def room(self) -> None:
        """Returns when more may be written, or nobody is there any more."""
        await self._room.wait()
