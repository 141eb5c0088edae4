"""Work that grows with a request: what is small is done at once, what is large in a thread.

A thread makes nothing faster, but it takes turns with the event loop, so that others are served meanwhile.
Only for work that nobody else changes anything of.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

R = TypeVar("R")

#: What takes some ten milliseconds: so many items, or so many bytes of JSON.
ITEMS_AT_ONCE, BYTES_AT_ONCE = 1_000, 1 << 20


async def computed(work: Callable[[], R], *, items: int = 0, size: int = 0) -> R:
    """What ``work`` comes to, which walks over so many items or reads so many bytes."""
    if items < ITEMS_AT_ONCE and size < BYTES_AT_ONCE:
        return work()
    return await asyncio.to_thread(work)
