"""A server process: its runs, its way to the database, its coordinator; and the connections of its clients.

Must not know what clients want or which faults come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, TypeVar

from tests.simulation.link import Link
from tests.simulation.loop import EPOCH, Process, SimulatedLoop

from antiphon.coordinators.local import LocalCoordinator
from antiphon.engine.coordination import Coordinator
from antiphon.engine.ports.stores import StoreError
from antiphon.engine.turns import Limits
from antiphon.engine.webhooks import Post
from antiphon.protocol.errors import ApiError
from antiphon.runs import outbox, recovery
from antiphon.runs.outbox import Deliverer
from antiphon.runs.running import Runs
from antiphon.runs.settings import Settings
from antiphon.sealing import Sealer

T = TypeVar("T")

#: All processes of a database have the same keys.
SEALER = Sealer([b"a key of tests, of 32 bytes or more"])


def draw_settings(random: Random) -> Settings:
    """What operators may set, which no promise depends on but one: calls with effects that are repeated."""
    limits = Limits(tool_seconds=random.choice((0.4, 300.0)), repeat_interrupted_calls=random.random() < 0.1)
    return Settings(
        flush_seconds=random.choice((0.005, 0.02, 0.1)),
        run_buffer_bytes=random.choice((1 << 20, 1 << 20, 2000)),
        store_retry_longest_seconds=random.choice((2.0, 30.0)),
        limits=limits,
    )


class ConnectionLost(Exception):
    """The node is gone, or does not listen."""


class SimulatedClock:
    """``engine.ports.world.Clock``; the clocks of nodes differ."""

    def __init__(self, loop: SimulatedLoop, ids: Callable[[], int], offset: float) -> None:
        self._loop = loop
        self._ids = ids
        self._offset = offset

    def now(self) -> float:
        return EPOCH + self._loop.time() + self._offset

    def new_id(self, prefix: str) -> str:
        return f"{prefix}{int(self.now() * 1000):013d}{self._ids():015d}"

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class NoAttachments:
    """No request here points at anything."""

    async def image(self, url: str, param: str) -> str:
        raise AssertionError(url)

    async def text(self, url: str | None, data: str | None, filename: str | None, param: str) -> str:
        raise AssertionError(url)


class Node:
    """One process that serves."""

    def __init__(
        self,
        loop: SimulatedLoop,
        process: Process,
        link: Link,
        model: Any,
        tools: Any,
        ids: Callable[[], int],
        random: Random,
        settings: Settings,
        receiver: Post,
        coordinator: Callable[[SimulatedClock, Process], Coordinator] | None = None,
    ) -> None:
        self.loop = loop
        self.process = process
        self.link = link
        self.serving = False
        self._connections: dict[asyncio.Future[Any], None] = {}
        clock = SimulatedClock(loop, ids, random.random() * 3 - 1.5)
        self.coordinator = LocalCoordinator(clock) if coordinator is None else coordinator(clock, process)
        hooks = outbox.Settings(webhook_seconds=5.0)
        self.deliverer = Deliverer(link.webhooks, receiver, SEALER, clock, hooks, random.random)  # type: ignore[arg-type]
        ended = self.deliverer.ended
        self.runs: Runs = process.context.run(
            lambda: Runs(link, model, tools, NoAttachments(), clock, self.coordinator, SEALER, settings, ended)  # type: ignore[arg-type]
        )

    @property
    def name(self) -> str:
        return self.process.name

    @property
    def able(self) -> bool:
        """Whether a client that connects now is served."""
        return self.serving and self.process.alive and not self.process.frozen

    async def start(self) -> None:
        """As a supervisor starts it: again until the database answers."""
        while True:
            try:
                if not self.coordinator.shared:
                    await recovery.recover(self.link, self.coordinator)
                break
            except (StoreError, ApiError):
                await asyncio.sleep(0.3)
        await self.runs.start()
        self.deliverer.start()
        self.serving = True

    async def stop(self) -> None:
        """A graceful stop; the process is gone with its return."""
        self.serving = False
        await self.runs.close()
        await self.deliverer.close()

    async def ask(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """A request of a client.  Raises ``ConnectionLost`` when the node dies meanwhile, and what the node answers."""
        if not self.process.alive:
            raise ConnectionLost
        answer: asyncio.Future[T] = self.loop.create_future()
        task = self.loop.spawn(self.process, work())
        self._connections[answer] = None

        def tell(task: asyncio.Task[T]) -> None:
            if answer.done():
                return
            if task.cancelled():
                answer.set_exception(ConnectionLost())
            elif (error := task.exception()) is not None:
                answer.set_exception(error)
            else:
                answer.set_result(task.result())

        task.add_done_callback(tell)
        try:
            return await answer
        finally:
            self._connections.pop(answer, None)
            if not task.done():  # the client left
                self.loop.call_soon(task.cancel, context=self.process.context)

    def cut_connections(self) -> None:
        """Whoever waits for an answer gets none."""
        connections, self._connections = list(self._connections), {}
        for answer in connections:
            if not answer.done():
                answer.set_exception(ConnectionLost())


__all__ = ["ConnectionLost", "Node", "SimulatedClock"]
