"""Connections to PostgreSQL: how they are made, pooled and given up, and what their failures mean.

Straight to the server or through a pooler of sessions: prepared statements and session settings are relied on.
Must not know what is asked over them.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import asyncpg
import msgspec

from antiphon.protocol.errors import ApiError, unavailable

#: What the driver raises of its own.
DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
T = TypeVar("T")

#: Where our tables live in the database.
SCHEMA = "antiphon"
#: The oldest server that this store is written for.
OLDEST_VERSION = 13
#: Pause before another try: the first, and the longest.
FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0
#: How long a lock is waited for: a circle of waiting is found by the server, a stalled process is not.
LOCK_SECONDS = 5.0
#: The server gives up a statement first, so that its outcome is known; this is how much later we do.
GRACE_SECONDS = 0.5
#: How long closing waits for the server's farewell.
CLOSE_SECONDS = 2.0
#: Unused connections are closed after this.
IDLE_SECONDS = 300.0
#: What a client is told about trying again.
RETRY_AFTER_SECONDS = 2


#: Every query here looks things up by key.  A plan may be made while a table is still empty and be kept when it is not,
#: so what would be cheap for few rows only is not for choice; nor is another plan for each group of a few rows, which
#: costs more to make than to run.
PLANS = {
    "jit": "off",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_generic_plan",
}


class Settings(msgspec.Struct, frozen=True):
    """What an operator may change about PostgreSQL."""

    url: str
    connections: int = 8
    connect_seconds: float = 5.0
    statement_seconds: float = 10.0
    read_seconds: float = 5.0
    write_seconds: float = 30.0


class Lost(Exception):
    """A try failed in a way that another may not.

    ``unknown``: what was sent may have been committed all the same.  ``broken``: the connection is of no more use.
    """

    def __init__(self, cause: BaseException, *, unknown: bool = False, broken: bool = True) -> None:
        super().__init__(str(cause) or type(cause).__name__)
        self.unknown = unknown
        self.broken = broken


#: Rolled back for certain: serialization, deadlock, lock and statement timeouts, a server that is full.
_PASSING = ("40001", "40P01", "55P03", "57014", "53")
#: Rolled back as well, but the server is starting, or only a standby by now.
_ELSEWHERE = ("57P03", "25006")
#: The connection or the server ended meanwhile.
_ENDED = ("08", "57P")


def sort_failure(error: Exception) -> Exception:
    """``Lost`` where another try makes sense, else the error itself."""
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        if state.startswith((*_PASSING, *_ELSEWHERE)):
            return Lost(error, broken=state in _ELSEWHERE)
        return Lost(error, unknown=True) if state.startswith(_ENDED) else error
    if isinstance(error, ValueError):
        return error  # an argument that cannot be sent
    if isinstance(error, (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError)):
        return Lost(error, unknown=True)
    return error


class Quick(asyncpg.Connection):  # type: ignore[misc]
    """A connection whose session nobody changes, so that giving it back to the pool needs no round trip."""

    def get_reset_query(self) -> str:
        return ""


def plain_url(url: str) -> str:
    """The URL without a driver's name in its scheme."""
    return url.replace("postgresql+asyncpg://", "postgresql://", 1)


def shown(url: str) -> str:
    """Where the URL leads, without its password."""
    parts = urlsplit(plain_url(url))
    return f"{parts.netloc.rpartition('@')[2] or 'the local server'}{parts.path}"


class Connections:
    """A pool for reading, and single connections for whoever writes."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.shown = shown(settings.url)
        self._pool: Any = None

    def _arguments(self, **session: str) -> dict[str, Any]:
        settings = self.settings
        milliseconds = {
            "statement_timeout": settings.statement_seconds,
            "lock_timeout": min(LOCK_SECONDS, settings.statement_seconds),
            "idle_in_transaction_session_timeout": settings.statement_seconds,
        }
        session = {
            "application_name": "antiphon",
            "search_path": SCHEMA,
            **PLANS,
            **{name: str(int(seconds * 1000)) for name, seconds in milliseconds.items()},
            **session,
        }
        arguments: dict[str, Any] = {
            "dsn": plain_url(settings.url),
            "timeout": settings.connect_seconds,
            "command_timeout": settings.statement_seconds + GRACE_SECONDS,
            "server_settings": session,
            "connection_class": Quick,
        }
        if "target_session_attrs" not in settings.url:
            arguments["target_session_attrs"] = "read-write"  # after a failover the old host may be a standby
        return arguments

    def _make_pool(self) -> Any:
        # What the readers write are pins, which a crash of the server may forget.
        return asyncpg.create_pool(
            min_size=0,
            max_size=self.settings.connections,
            max_inactive_connection_lifetime=IDLE_SECONDS,
            **self._arguments(synchronous_commit="off"),
        )

    async def connect(self, **session: str) -> Any:
        """A connection of one's own.  Raises ``Lost`` whatever is in the way, ``ValueError`` for a wrong URL."""
        try:
            return await asyncpg.connect(**self._arguments(**session))
        except (*DRIVER_ERRORS, OSError) as error:
            if isinstance(error, ValueError):
                raise
            raise Lost(error) from error  # nothing was sent yet

    async def rows(self, query: str, *arguments: Any) -> list[Any]:
        """Reads; repeated while the database is away.  Raises ``ApiError`` 503 after ``read_seconds``."""
        return await persist(lambda: self._try(query, arguments), self.settings.read_seconds)

    async def _try(self, query: str, arguments: tuple[Any, ...]) -> list[Any]:
        settings = self.settings
        connection = None
        try:
            if self._pool is None:
                self._pool = self._make_pool()
            await self._pool  # makes ready for use, once
            connection = await self._pool.acquire(timeout=min(settings.connect_seconds, settings.read_seconds))
            found: list[Any] = await connection.fetch(query, *arguments)
            return found
        except Exception as error:
            sorted_out = sort_failure(error)
            if connection is not None and isinstance(sorted_out, Lost) and sorted_out.broken:
                with contextlib.suppress(asyncpg.InterfaceError):  # the pool may have noticed before us
                    connection.terminate()
            raise sorted_out from error
        finally:
            if connection is not None:
                await self._pool.release(connection, timeout=CLOSE_SECONDS)

    async def close(self) -> None:
        """Ends all connections of the pool, politely for a while."""
        if self._pool is None:
            return
        try:
            await asyncio.wait_for(self._pool.close(), CLOSE_SECONDS)
        except TimeoutError:
            self._pool.terminate()


async def end(connection: Any) -> None:
    """Closes a connection of one's own, politely for a while."""
    try:
        await connection.close(timeout=CLOSE_SECONDS)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        connection.terminate()


async def persist(attempt: Callable[[], Awaitable[T]], seconds: float) -> T:
    """Repeats what raises ``Lost``, with growing pauses.  Raises ``ApiError`` 503 when the time is over."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    tries = 0
    while True:
        try:
            return await attempt()
        except Lost as lost:
            pause = pause_after(tries)
            if loop.time() + pause >= deadline:
                raise away(lost) from lost
        tries += 1
        await asyncio.sleep(pause)


def pause_after(tries: int) -> float:
    """Seconds to wait after so many tries, spread so that many waiters do not come back together."""
    return min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(tries, 10)) * random.uniform(0.7, 1.3)  # noqa: S311


def away(lost: Lost) -> ApiError:
    """What clients are told while the database is away; why it is so is for the log."""
    message = "The database cannot be reached at the moment. Please try again."
    failure = unavailable(message, retry_after_seconds=RETRY_AFTER_SECONDS)
    failure.__cause__ = lost
    return failure
