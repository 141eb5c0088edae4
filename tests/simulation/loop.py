"""An event loop without time, threads or sockets: one order of events for one seed.

When nothing is ready, time jumps to the next timer.  Every handle belongs to a process, found in its context; handles
of one process run in the order in which they came, those of different processes in an order that the seed draws.
A process that was killed runs nothing any more, not even ``finally``; one that is frozen runs nothing until it thaws.
Must not know what the processes do.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")

#: When time begins: 2026-01-01.
EPOCH = 1_767_225_600.0
#: Handles that one seed may run: nothing that comes to rest needs so many.
HANDLES_MAX = 400_000


class Process:
    """What a crash takes away as a whole."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.frozen = False
        self.ready: deque[asyncio.Handle] = deque()
        self.tasks: list[asyncio.Task[Any]] = []
        #: How many more handles it runs before ``on_fuse`` is called; None for no end.
        self.fuse: int | None = None
        self.on_fuse: Callable[[], None] | None = None
        self.context = contextvars.Context()
        self.context.run(OWNER.set, self)

    def __repr__(self) -> str:
        return self.name


OWNER: contextvars.ContextVar[Process] = contextvars.ContextVar("owner")


class Livelock(Exception):
    """The loop is busy without an end."""


class Stuck(Exception):
    """Nothing is ready and no timer is set, but somebody is still waited for."""


class SimulatedLoop(asyncio.AbstractEventLoop):
    """See the module.  ``world`` is the process of everything that never dies."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.world = Process("world")
        self.processes = [self.world]
        #: What asyncio reported: exceptions that nobody caught.
        self.reported: list[dict[str, Any]] = []
        self.handles = 0
        self._time = 0.0
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._count = 0
        self._stopping = False
        self._running = False
        self._over = False
        self._failure: Exception | None = None

    # --- Processes ---

    def process(self, name: str) -> Process:
        process = Process(name)
        self.processes.append(process)
        return process

    def spawn(self, process: Process, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Runs a coroutine as a part of the process."""
        return self.create_task(work, context=process.context.copy())

    def kill(self, process: Process) -> None:
        """From here on it runs nothing; its tasks are kept, so that nothing of them is unwound."""
        process.alive = False
        process.ready.clear()

    # --- What asyncio calls ---

    def time(self) -> float:
        return self._time

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self._running

    def is_closed(self) -> bool:
        return False

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Any = None) -> asyncio.Task[Any]:
        context = contextvars.copy_context() if context is None else context
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context)
        context[OWNER].tasks.append(task)
        return task

    def call_soon(self, callback: Any, *args: Any, context: contextvars.Context | None = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._add(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        return self.call_at(self._time + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._count += 1
        heapq.heappush(self._timers, (when, self._count, handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is passed over when its time comes."""

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """The work of a thread is done in one piece, a little later."""
        future = self.create_future()

        def work() -> None:
            if future.cancelled():
                return
            try:
                future.set_result(func(*args))
            except Exception as error:  # noqa: BLE001 - handed to whoever waits
                future.set_exception(error)

        self.call_later(self.random.random() * 0.01, work)
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self._over:
            self.reported.append(context)
            if "exception" in context and "handle" in context:
                self.fail(context["exception"])

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)

    # --- Running ---

    def _add(self, handle: asyncio.Handle) -> None:
        owner = handle._context[OWNER]  # type: ignore[attr-defined]
        if owner.alive and not self._over:
            owner.ready.append(handle)

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Runs the world's main task to its end.  Raises ``Livelock`` and ``Stuck``."""
        task = self.spawn(self.world, main)
        task.add_done_callback(self._stop, context=self.world.context)
        self._running = True
        asyncio._set_running_loop(self)
        try:
            while not self._stopping:
                self._step()
        finally:
            asyncio._set_running_loop(None)
            self._running = False
        if self._failure is not None:
            raise self._failure
        return task.result()

    def fail(self, error: Exception) -> None:
        """Ends everything; the first reason counts."""
        self._failure = self._failure or error
        self._stopping = True

    def _stop(self, _task: asyncio.Task[Any]) -> None:
        self._stopping = True

    def _step(self) -> None:
        able = [process for process in self.processes if process.ready and not process.frozen]
        if not able:
            self._jump()
            return
        process = able[0] if len(able) == 1 else able[int(self.random.random() * len(able))]
        if process.fuse is not None:
            process.fuse -= 1
            if process.fuse < 0:
                process.fuse = None
                if process.on_fuse is not None:
                    process.on_fuse()
                return
        handle = process.ready.popleft()
        self.handles += 1
        if self.handles > HANDLES_MAX:
            raise Livelock(f"{process} runs {handle!r} at {self._time:.3f} s")
        if not handle._cancelled:  # type: ignore[attr-defined]
            handle._run()

    def _jump(self) -> None:
        """To the next timer, and to all others that are due at the same moment."""
        timers = self._timers
        while timers and timers[0][2]._cancelled:  # type: ignore[attr-defined]
            heapq.heappop(timers)
        if not timers:
            raise Stuck(f"nothing is left to happen at {self._time:.3f} s")
        self._time = max(self._time, timers[0][0])
        while timers and timers[0][0] <= self._time:
            handle = heapq.heappop(timers)[2]
            if not handle._cancelled:  # type: ignore[attr-defined]
                self._add(handle)

    def close(self) -> None:
        """Lets go of everything; what the tasks left undone is of no account any more."""
        self._over = True
        self._timers.clear()
        for process in self.processes:
            process.ready.clear()
            for task in process.tasks:
                _discard(task)
            process.tasks.clear()


def _discard(task: asyncio.Task[Any]) -> None:
    if task.done():
        if not task.cancelled():
            task.exception()  # it counts as retrieved
        return
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    work = task.get_coro()
    for _ in range(10):  # an await in a ``finally`` takes one more
        try:
            work.close()  # type: ignore[union-attr]
        except BaseException:  # noqa: BLE001 - the seed is over
            continue
        return
