"""The one database, which outlives every process: the SQLite store's own SQL, without its thread.

What is submitted at about the same time is committed as one group, in the loop.  Must not know of faults.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from tests.simulation.loop import EPOCH

from antiphon.stores.sqlite import SqliteStore
from antiphon.stores.sqlite import writer as writing
from antiphon.stores.sqlite.writer import Ticket, Writer

#: How long a commit takes at the most, in virtual seconds.
COMMIT_SECONDS = 0.004


class InlineWriter(Writer):
    """Commits in the loop what the thread would."""

    def __init__(self, ended: Writer, loop: Any, earlier: Database | None) -> None:
        for name in ("_connection", "_execute", "_gate", "_checkpoints", "_erase_seconds", "_exclusive"):
            setattr(self, name, getattr(ended, name))
        self._on_rollback = ended._on_rollback
        self._full: bool | None = None
        self._erase_at: float | None = None
        self.failure = None
        self.closed = False
        self._loop = loop
        self._group: list[Ticket] = []
        self._pending = False
        self.commits = 0 if earlier is None else earlier.commits

    def submit(self, operation: Any) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        if self.closed:
            return future  # of a process that is gone
        self._group.append(Ticket(operation, future))
        if not self._pending:
            self._pending = True
            delay = self._loop.random.random() * COMMIT_SECONDS
            self._loop.call_later(delay, self._write, context=self._loop.world.context)
        return future

    def _write(self) -> None:
        self._pending = False
        if not self._group:
            return
        group, self._group = self._group, []
        self.commits += 1
        self._commit(group)
        writing._settle(group)

    def cut(self) -> None:
        """What was not committed is lost, and nothing is written any more."""
        self._group = []
        self.closed = True

    def close(self) -> None:
        self.closed = True


class Database(SqliteStore):
    """A database in memory; it is empty unless there was an ``earlier`` one, which is gone with its process."""

    _writer: InlineWriter

    def __init__(self, loop: Any, earlier: Database | None = None) -> None:
        self._earlier = earlier
        super().__init__(None)
        ended = self._writer
        ended.close()
        self._writer = InlineWriter(ended, loop, earlier)
        # Its clock is that of the loop, in whole seconds or, with an argument, with their parts.
        self._writing.create_scalar_function(
            "unixepoch", lambda *parts: EPOCH + loop.time() if parts else int(EPOCH + loop.time())
        )

    def _connect(self, path: Path | None, opening: contextlib.ExitStack) -> None:
        if self._earlier is None:
            super()._connect(path, opening)
            return
        self._earlier._writer.cut()
        self._checkpoints = None
        self._writing = self._reading = self._earlier._writing
        self._read_gate = self._gate
        opening.push(self._earlier._open.pop_all())

    @property
    def commits(self) -> int:
        return self._writer.commits

    def dispose(self) -> None:
        """Closes the connection."""
        self._open.close()
