"""The connection to NATS: made again whenever it breaks, and never waited for.

Must not know what is said over it.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error
from nats.js import JetStreamContext

logger = logging.getLogger("antiphon.bus")

#: What a bus that is away answers with.
AWAY = (Error, OSError, asyncio.TimeoutError)
#: How long the start waits for the first connection; then the process serves without.
FIRST_SECONDS = 3.0
#: Between two tries to connect, and the longest wait for one.
RETRY_SECONDS, CONNECT_SECONDS = 0.5, 2
#: How often a silent connection is asked whether it is alive; the second question without answer ends it.
PING_SECONDS = 2
#: The longest wait for an answer.
ANSWER_SECONDS = 2.0
#: Words that may wait to be sent; then the oldest are dropped, which costs time and nothing else.
WORDS_MAX = 20_000
#: Bytes that one subscription may hold unread.
UNREAD_BYTES = 16 << 20


class Connection:
    """``on_connected`` is awaited after every connect, in a task of its own."""

    def __init__(self, url: str, credentials: str | None, on_connected: Callable[[], Awaitable[None]]) -> None:
        self._servers = [part.strip() for part in url.split(",")]
        self._credentials = credentials
        self._on_connected = on_connected
        self._client = Client()
        self._words: deque[tuple[str, bytes, str]] = deque(maxlen=WORDS_MAX)
        self._spoken = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closing = False

    @property
    def connected(self) -> bool:
        return self._client.is_connected and not self._closing

    async def start(self) -> None:
        """Returns once it is connected, or after a while."""
        self.run(self._speak())
        connecting = self.run(self._connect())
        await asyncio.wait([connecting], timeout=FIRST_SECONDS)
        if not self.connected:
            logger.warning("the bus cannot be reached yet; background responses run where they are asked for")

    def run(self, work: Any) -> "asyncio.Task[Any]":
        """A task that ends with the connection."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("a task of the bus failed", exc_info=task.exception())

    async def _connect(self) -> None:
        """The first connection; from then on the client makes it again by itself."""
        while True:
            try:
                await self._client.connect(
                    self._servers, name="antiphon", error_cb=self._failed, disconnected_cb=self._disconnected,
                    reconnected_cb=self._reconnected, max_reconnect_attempts=-1, reconnect_time_wait=RETRY_SECONDS,  # type: ignore[arg-type]
                    connect_timeout=CONNECT_SECONDS, ping_interval=PING_SECONDS, user_credentials=self._credentials,
                )  # fmt: skip
                break
            except AWAY as error:
                logger.debug("the bus cannot be reached: %s", error)
            await asyncio.sleep(RETRY_SECONDS)
        logger.info("the bus is connected")
        await self._on_connected()

    async def _failed(self, error: Exception) -> None:
        logger.debug("the bus: %s", error)

    async def _disconnected(self) -> None:
        if not self._closing:
            logger.warning("the bus is away; background responses go on without it")

    async def _reconnected(self) -> None:
        logger.info("the bus is back")
        self.run(self._on_connected())

    # --- Speaking ---

    def tell(self, subject: str, data: bytes = b"", reply: str = "") -> None:
        """Says something to whoever listens, soon.  What is said while the bus is away is not heard."""
        if self.connected:
            self._words.append((subject, data, reply))
            self._spoken.set()

    async def _speak(self) -> None:
        while True:
            await self._spoken.wait()
            self._spoken.clear()
            while self._words:
                subject, data, reply = self._words.popleft()
                try:
                    await self._client.publish(subject, data, reply)
                except AWAY as error:
                    logger.debug("a word was lost: %s", error)

    async def ask(self, subject: str, data: bytes, headers: dict[str, str] | None = None) -> bytes:
        """One answer.  Raises ``AWAY``."""
        return (await self._client.request(subject, data, ANSWER_SECONDS, headers=headers)).data

    async def listen(self, subject: str, heard: Callable[[Msg], None]) -> Subscription:
        """Calls ``heard`` with what is said.  Raises ``AWAY``."""

        async def hear(message: Msg) -> None:
            heard(message)

        return await self._client.subscribe(subject, cb=hear, pending_bytes_limit=UNREAD_BYTES)

    async def reached(self) -> None:
        """Returns when everything said so far has arrived at the bus.  Raises ``AWAY``."""
        await self._client.flush(int(ANSWER_SECONDS))

    def jetstream(self) -> JetStreamContext:
        return self._client.jetstream(timeout=ANSWER_SECONDS)

    def new_inbox(self) -> str:
        return self._client.new_inbox()

    async def close(self) -> None:
        """What was said is sent before."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                while self._words and self.connected:  # noqa: ASYNC110 - the speaker empties it turn by turn
                    await asyncio.sleep(0)
                if self.connected:
                    await self._client.flush()
        except AWAY as error:
            logger.debug("the bus did not hear the last words: %s", error)
        self._closing = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.close()


__all__ = ["AWAY", "Connection", "Msg", "Subscription"]
