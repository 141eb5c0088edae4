"""Packs the logs of runs that have ended: read in pages, compressed on a thread, put in place in one transaction.

Two processes may pack the same log at once; the later one changes nothing.  Rule: docs/log.md, I11.
Must not know how rows are asked for or written.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from antiphon.stores.postgres.operations import Compact, PackedLog
from antiphon.stores.rows import PACK_BYTES, packs_of

#: Compressed bytes that one transaction puts in place, unless one log alone is larger.
WRITE_BYTES = 4 << 20


class Compaction:
    """``read`` asks a named query, ``write`` returns when what it was given is durable."""

    def __init__(self, read: Callable[..., Awaitable[list[Any]]], write: Callable[[Compact], Awaitable[Any]]) -> None:
        self._read = read
        self._write = write

    async def run(self, most: int) -> int:
        """How many logs there were to pack, of so many at the most."""
        ended = await self._read("ended", most)
        logs: list[PackedLog] = []
        for run, last in ended:
            logs.append(await self._packed(run, last))
            group = Compact(logs)
            if group.size >= WRITE_BYTES:
                await self._write(group)
                logs = []
        if logs:
            await self._write(Compact(logs))
        return len(ended)

    async def _packed(self, run: int, last: int) -> PackedLog:
        log = PackedLog(run, [])
        upto = -1
        while upto < last:
            page = await self._read("log", run, upto, PACK_BYTES)
            if not page:  # deleted meanwhile
                break
            log.packs.extend(await asyncio.to_thread(list, packs_of(page)))
            upto = page[-1][1]
        return log
