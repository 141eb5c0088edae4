"""WebSocket mode: responses are created one after another on a connection that stays (reference 11).

Reads messages, starts runs and writes their events.  Must not know how responses come about, nor what carries frames.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from antiphon.engine.ports.stores import Context
from antiphon.engine.ports.world import Clock
from antiphon.protocol.errors import ApiError, invalid, unavailable
from antiphon.protocol.events import Event
from antiphon.protocol.requests import Overlay
from antiphon.protocol.websocket import STEER, Told, error_event, read_message, steering_refused, with_headers
from antiphon.runs.run import Run
from antiphon.runs.running import Runs
from antiphon.web.api.responses import Templates
from antiphon.web.delivery import Delivery
from antiphon.web.frames import GOING_AWAY, NORMAL, RESTARTING, Socket
from antiphon.web.messages import WARNINGS, Guard, Head, told_warnings
from antiphon.web.settings import WebSettings


class ConnectionMemory:
    """The newest response of one connection that is in no store; the port ``Memory`` (reference 11.4).

    ``bytes_max``: of its items; a longer one is not kept, and is not found when it is continued.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._response = ""
        self._bodies: Sequence[bytes] = ()

    def recall(self, response: str) -> Context | None:
        return Context(None, list(self._bodies), in_store=False) if response == self._response else None

    def keep(self, response: str, bodies: Sequence[bytes]) -> None:
        """In the place of the one before."""
        if sum(map(len, bodies)) <= self._bytes_max:
            self._response, self._bodies = response, bodies
        else:
            self._response, self._bodies = "", ()

    def forget(self, response: str | None) -> None:
        """After a continuation that failed (reference 11.4)."""
        if response == self._response:
            self._response, self._bodies = "", ()


class SocketOutlet:
    """The client of one response; ``warnings``: what HTTP names in a header."""

    def __init__(self, socket: Socket, warnings: Sequence[str]) -> None:
        self.flow = socket
        self.whole = False
        self._socket = socket
        self._headers = {WARNINGS.decode(): told_warnings(warnings).decode()} if warnings else None

    def write(self, events: list[Event]) -> None:
        if self._headers is not None:
            self._socket.write(with_headers(events, self._headers))
            self._headers = None
        else:
            self._socket.write([event.data for event in events])

    def end(self, *, whole: bool) -> None:
        self.whole = whole

    def keep_alive(self, repeated: Event | None) -> None:
        if repeated is not None:
            self._socket.write([repeated.data])


class WebSockets:
    """All connections of one server."""

    def __init__(
        self, runs: Runs, delivery: Delivery, clock: Clock, settings: WebSettings, templates: Templates
    ) -> None:
        self._runs = runs
        self._delivery = delivery
        self._clock = clock
        self._settings = settings
        self._templates = templates
        self._open = 0

    async def converse(self, head: Head, socket: Socket, guard: Guard) -> None:
        """Serves one connection to its end.  Raises ``ApiError`` where it is not to be opened."""
        if self._open >= self._settings.websockets_max:
            raise unavailable("Too many WebSockets are open. Please try again.", retry_after_seconds=10)
        self._open += 1
        try:
            await socket.accept(head.reply_headers(), self._settings.run_buffer_bytes)
            overlay = partial(self._templates.overlay, project=head.project)
            new_id = partial(self._clock.new_id, "req_")
            await Session(
                socket, head.project, self._runs, self._delivery, self._settings, overlay, new_id, guard
            ).serve()
        finally:
            self._open -= 1


class Session:
    """One connection.  Nothing of it is known to any other."""

    def __init__(
        self,
        socket: Socket,
        project: str,
        runs: Runs,
        delivery: Delivery,
        settings: WebSettings,
        overlay: Overlay,
        new_id: Callable[[], str],
        guard: Guard,
    ) -> None:
        self._socket = socket
        self._project = project
        self._runs = runs
        self._delivery = delivery
        self._settings = settings
        self._overlay = overlay
        self._new_id = new_id
        self._guard = guard
        self._memory = ConnectionMemory(settings.websocket_memory_bytes)
        self._loop = asyncio.get_running_loop()
        self._ends_at = self._loop.time() + settings.websocket_seconds
        #: One message is worked on and one waits here; the client's socket is where more of them wait.
        self._waiting: asyncio.Queue[Told | ApiError] = asyncio.Queue(maxsize=1)
        self._patience: asyncio.Timeout | None = None
        self._old = False
        socket.on_stop = self._stop

    async def serve(self) -> None:
        """Returns when the connection has ended, or is being closed."""
        tasks = [self._loop.create_task(one) for one in (self._read(), self._work(), self._socket.left())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()

    # --- Messages ---

    async def _read(self) -> None:
        while (text := await self._socket.receive()) is not None:
            message = _read(text)
            if isinstance(message, Told) and message.kind == STEER:
                await self._drained()
                self._socket.write([steering_refused(message)])
            else:
                await self._waiting.put(message)

    async def _work(self) -> None:
        while (message := await self._next()) is not None:
            await self._answer(message)
        await self._part()

    async def _next(self) -> Told | ApiError | None:
        """The next message; None when the connection is to end."""
        await self._drained()
        now = self._loop.time()
        idle_until = now + self._settings.websocket_idle_seconds
        self._old = self._ends_at <= now
        if self._socket.stopping or self._old:
            return None
        try:
            async with asyncio.timeout_at(min(self._ends_at, idle_until)) as self._patience:
                return await self._waiting.get()
        except TimeoutError:
            self._old = self._ends_at <= idle_until
            return None
        finally:
            self._patience = None

    def _stop(self) -> None:
        """The server stops: at once where nothing is on its way."""
        if self._patience is not None and not self._patience.expired():
            self._patience.reschedule(self._loop.time())

    async def _part(self) -> None:
        if self._socket.stopping:
            await self._socket.close(RESTARTING, "The server is stopping.")
        elif not self._old:
            await self._socket.close(GOING_AWAY, "Nothing was asked for too long.")
        else:
            minutes = f"{self._settings.websocket_seconds / 60:g} minutes"
            message = (
                f"Responses websocket connection limit reached ({minutes}). "
                "Create a new websocket connection to continue."
            )
            self._tell(invalid(message, None, "websocket_connection_limit_reached"), self._new_id(), None)
            await self._socket.close(NORMAL, "The connection limit is reached.")

    async def _drained(self) -> None:
        """Returns when the client has read enough to be told more; one that reads nothing is dropped."""
        if not self._socket.full:
            return
        try:
            async with asyncio.timeout(self._settings.client_stall_seconds):
                await self._socket.room()
        except TimeoutError:
            self._socket.drop()

    # --- Responses ---

    async def _answer(self, message: Told | ApiError) -> None:
        """An error ends what was asked for, not the connection."""
        request_id = self._new_id()
        failure = await self._guard(request_id, self._respond(message))
        if failure is None:
            return
        known = message if isinstance(message, Told) else None
        self._memory.forget(None if known is None else known.text("previous_response_id"))
        self._tell(failure, request_id, None if known is None else known.text("stream_id"))

    def _tell(self, failure: ApiError, request_id: str, stream_id: str | None) -> None:
        headers = {"x-request-id": request_id, **failure.reply_headers()}
        self._socket.write([error_event(failure, stream_id, headers)])

    async def _respond(self, message: Told | ApiError) -> None:
        if isinstance(message, ApiError):
            raise message
        request = message.create(self._overlay)
        run = await self._runs.create(self._project, request, self._memory)
        warnings = list(run.warnings)
        if request.stream_options is not None and request.stream_options.include_obfuscation:
            warnings.append("stream_options.include_obfuscation")
        outlet = SocketOutlet(self._socket, warnings)
        if request.background:
            await self._delivery.logged(self._project, run.draft.shell, outlet)
        else:
            await self._live(run, outlet)
        if not outlet.whole:
            raise run.failure or unavailable("The events of this response cannot be read to their end.")

    async def _live(self, run: Run, outlet: SocketOutlet) -> None:
        """A foreground run, which ends when its client leaves."""
        try:
            await run.opened()
            await self._delivery.live(run, outlet)
        except asyncio.CancelledError:
            run.cancel()
            raise
        if run.outcome is None or run.outcome.status == "failed":
            self._memory.forget(run.request.previous_response_id)
        elif not run.request.stored:
            self._memory.keep(run.name.response, run.history())


def _read(text: str | bytes) -> Told | ApiError:
    """A message, or what is wrong with it."""
    if isinstance(text, bytes):
        return invalid("Messages are expected as text frames, but this one came as a binary frame.", None)
    try:
        return read_message(text.encode())
    except ApiError as error:
        return error
