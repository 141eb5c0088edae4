"""One model: loaded on first use, asked over loopback, started again after a crash, unloaded when idle.

Must not know how requests are worded or what a child prints.
"""

import asyncio
import logging
import os
import secrets
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from antiphon.engine.ports.upstreams import Feed, ModelRequest, Stop, UpstreamError
from antiphon.engine.ports.world import Clock
from antiphon.upstreams.chat_completions import ChatCompletions
from antiphon.upstreams.embedded.cores import memory_bytes, physical_cores
from antiphon.upstreams.embedded.gguf import Header, read_header
from antiphon.upstreams.embedded.llamacpp import LlamaCpp
from antiphon.upstreams.embedded.process import Child
from antiphon.upstreams.embedded.sizing import Settings, sizes_of
from antiphon.upstreams.embedded.wording import OPTIONS, blamed, fed, worded
from antiphon.upstreams.http import Timeouts

T = TypeVar("T")

logger = logging.getLogger("antiphon.upstreams.embedded")

#: So many failures within so many seconds, and the next start waits until the window has passed.
FAILURES_MAX, FAILURES_SECONDS = 3, 60.0
#: How long a lost connection waits for the news that the child has died.
NEWS_SECONDS = 1.0


class _Running:
    """A child and the dialect that speaks with it."""

    def __init__(self, child: Child, dialect: ChatCompletions) -> None:
        self.child = child
        self.dialect = dialect

    async def close(self) -> None:
        await self.dialect.close()
        await self.child.end()


class Engine:
    """A model in a file, under the name that messages give it."""

    def __init__(self, name: str, path: Path, clock: Clock, settings: Settings, timeouts: Timeouts) -> None:
        self._name = name
        self._path = path
        self._clock = clock
        self._settings = settings
        self._timeouts = timeouts
        self._slots = asyncio.Semaphore(settings.engine_slots)
        self._users = 0
        self._running: _Running | None = None
        self._starting: asyncio.Task[_Running] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._idle: asyncio.TimerHandle | None = None
        self._failures: deque[float] = deque(maxlen=FAILURES_MAX)
        self._last_failure = ""
        self._closed = False
        #: Tokens of context that each generation has; None before the file's header was read.
        self.context: int | None = None

    @property
    def pid(self) -> int | None:
        """The child's process id; None while the model is not loaded."""
        return self._running.child.pid if self._running is not None else None

    async def run(self, request: ModelRequest, feed: Feed) -> Stop:
        """One model call, when a slot is free.  Raises ``UpstreamError``."""
        async with self._use(), self._slots:
            return await self._ask(lambda dialect: dialect.run(worded(request), fed(request, feed)))

    async def count(self, request: ModelRequest) -> int | None:
        """The tokens of the request's prompt; needs no slot.  Raises ``UpstreamError``."""
        async with self._use():
            return await self._ask(lambda dialect: dialect.count(worded(request)))

    async def load(self) -> None:
        """Loads the model where it is not loaded yet.  Raises ``UpstreamError``."""
        async with self._use():
            await self._loaded()

    @asynccontextmanager
    async def _use(self) -> AsyncIterator[None]:
        """Among those who keep the model loaded, of which there may be so many."""
        if self._users >= self._settings.engine_slots + self._settings.engine_waiting:
            message = f"Too many requests wait for the model `{self._name}`."
            raise UpstreamError(message, status=503, retryable=True, retry_after_seconds=1.0)
        self._users += 1
        self._stop_idling()
        try:
            yield
        finally:
            self._users -= 1
            self._begin_idling()

    async def _ask(self, call: Callable[[ChatCompletions], Awaitable[T]]) -> T:
        running = await self._loaded()
        try:
            return await call(running.dialect)
        except UpstreamError as error:
            if not await self._died(running, error):
                raise blamed(error) from None
            if error.code != "upstream_unreachable":
                raise self._crash(running, error) from None
        # It had died before this request reached it.
        running = await self._loaded()
        return await call(running.dialect)

    async def _died(self, running: _Running, error: UpstreamError) -> bool:
        """Whether the connection failed because the child is gone: of 502 none is the engine's own answer."""
        return error.status == 502 and await running.child.ends_within(NEWS_SECONDS)

    def _crash(self, running: _Running, error: UpstreamError) -> UpstreamError:
        if self._closed:
            return _shutting_down()
        message = f"The embedded engine of `{self._name}` crashed: {running.child.reason()}."
        return UpstreamError(message, status=502, code="upstream_crashed", retryable=error.retryable)

    # --- Loading ---

    async def _loaded(self) -> _Running:
        """The running engine; everybody who needs it before it is there waits for the same start."""
        if self._running is not None and self._running.child.alive:
            return self._running
        if self._closed:
            raise _shutting_down()
        if self._starting is None:
            self._starting = asyncio.get_running_loop().create_task(self._start())
            self._starting.add_done_callback(self._started)
        # Shielded: one client that leaves must not end the start that others wait for.
        return await asyncio.shield(self._starting)

    async def _start(self) -> _Running:
        self._check_failures()
        if self._ending:
            await asyncio.wait(self._ending)
        header = await self._header()
        began = self._clock.now()
        key = secrets.token_urlsafe(32)
        child = await self._spawn(header, key)
        logger.info("loaded %s in %.1f seconds", self._name, self._clock.now() - began)
        dialect = LlamaCpp(
            f"{child.address}/v1",
            self._clock,
            shows_tools="tools" in (header.chat_template or ""),
            key=key,
            timeouts=self._timeouts,
            retries=0,
            options=OPTIONS,
        )
        running = _Running(child, dialect)
        child.ended.add_done_callback(lambda _: self._over(running))
        return running

    async def _header(self) -> Header:
        try:
            header = await asyncio.to_thread(read_header, self._path)
        except ValueError as error:
            raise UpstreamError(f"The model `{self._name}` cannot be loaded: {error}", status=503) from None
        if header.chat_template is None:
            logger.warning("%s has no chat template; a common one (ChatML) is used", self._name)
        return header

    async def measure(self) -> None:
        """Learns the size of the context without loading the model; a file that is no model has none."""
        if self.context is None:
            try:
                header = await asyncio.to_thread(read_header, self._path)
            except ValueError:
                return
            self.context = sizes_of(header, self._settings, physical_cores(), memory_bytes()).context

    async def _spawn(self, header: Header, key: str) -> Child:
        sizes = sizes_of(header, self._settings, physical_cores(), memory_bytes())
        self.context = sizes.context
        settings = {
            "path": str(self._path),
            "key": key,
            "parent": os.getpid(),
            "threads": sizes.threads,
            "slots": sizes.slots,
            "context": sizes.context,
            "cache_mib": self._settings.engine_cache_mib,
            "verbosity": 3 if logger.isEnabledFor(logging.DEBUG) else 1,
        }
        try:
            return await Child.start(settings, self._settings.engine_load_seconds)
        except UpstreamError as error:
            self._failed(error.message)
            message = f"The model `{self._name}` cannot be loaded: {error.message}."
            raise UpstreamError(message, status=error.status, code=error.code) from None

    def _started(self, task: asyncio.Task[_Running]) -> None:
        self._starting = None
        if task.cancelled() or task.exception() is not None:
            return
        self._running = task.result()
        self._begin_idling()

    # --- Failing ---

    def _over(self, running: _Running) -> None:
        """A child has ended; unasked, if it is still the one in use."""
        if self._running is running and not running.child.ended.cancelled():
            self._running = None
            reason = running.child.reason()
            logger.warning("the engine of %s crashed: %s", self._name, reason)
            self._failed(reason)
            self._end(running)

    def _failed(self, reason: str) -> None:
        self._failures.append(self._clock.now())
        self._last_failure = reason

    def _check_failures(self) -> None:
        """Three failures in a minute: a clear error instead of a loop."""
        wait = self._failures[0] + FAILURES_SECONDS - self._clock.now() if self._failures else 0.0
        if len(self._failures) == FAILURES_MAX and wait > 0:
            message = (
                f"The embedded engine of `{self._name}` failed {FAILURES_MAX} times within a minute and rests for "
                f"{wait:.0f} seconds; the last failure: {self._last_failure}."
            )
            raise UpstreamError(message, status=503, code="upstream_crashed", retry_after_seconds=wait)

    # --- Unloading ---

    def _begin_idling(self) -> None:
        self._stop_idling()
        if not self._users and self._running is not None:
            loop = asyncio.get_running_loop()
            self._idle = loop.call_later(self._settings.engine_idle_seconds, self._unload)

    def _stop_idling(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _unload(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            logger.info("unloading %s, idle for %g seconds", self._name, self._settings.engine_idle_seconds)
            self._end(running)

    def _end(self, running: _Running) -> None:
        task = asyncio.get_running_loop().create_task(running.close())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        """Ends the child, whatever it does."""
        self._closed = True
        self._stop_idling()
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait([self._starting])
        running, self._running = self._running, None
        if running is not None:
            self._end(running)
        if self._ending:
            await asyncio.wait(self._ending)


def _shutting_down() -> UpstreamError:
    return UpstreamError("The server is shutting down.", status=503)
