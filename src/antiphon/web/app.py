"""The ASGI application: routes, and the one place where an error becomes a reply.

One of the two places that catch everything.  Must not know how responses come about.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias, TypeVar

from antiphon.engine.ports.stores import StoreError
from antiphon.engine.ports.world import Clock
from antiphon.protocol.errors import ApiError, unavailable
from antiphon.web.access import Access
from antiphon.web.frames import BROKEN, RESTARTING, Socket
from antiphon.web.messages import JSON, ClientGone, Guard, Head, Reply, Request
from antiphon.web.transport import Receive, Scope, Send

logger = logging.getLogger("antiphon.web")

T = TypeVar("T")

Handler = Callable[[Request], Awaitable[Reply | None]]
#: Serves one WebSocket to its end; what it does for one message is to be guarded.
SocketHandler: TypeAlias = Callable[[Head, Socket, Guard], Awaitable[None]]

_CORS_METHODS = b"GET, POST, DELETE, OPTIONS"
_CORS_EXPOSED = b"x-request-id, openai-processing-ms, x-antiphon-warnings, retry-after"
_CORS_SECONDS = b"600"


class Route(NamedTuple):
    """``{name}`` in the path is one segment, ``{name:path}`` the rest.  ``open``: no key is asked for."""

    method: str
    path: str
    handler: Handler
    open: bool = False

    def pattern(self) -> re.Pattern[str]:
        text = re.sub(r"\{(\w+):path\}", r"(?P<\1>.+)", self.path)
        return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", text))


class App:
    """Routes requests to handlers; ``startup`` and ``shutdown`` are run by the server's lifespan.

    ``sockets`` are the handlers of WebSockets by their paths.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        access: Access,
        clock: Clock,
        startup: Callable[[], Awaitable[None]],
        shutdown: Callable[[], Awaitable[None]],
        sockets: Mapping[str, SocketHandler],
    ) -> None:
        self._sockets = sockets
        self.routes = tuple(routes)
        self._table = [(route, route.pattern()) for route in routes if "{" in route.path]
        self._fixed: dict[str, dict[str, Route]] = {}
        for route in routes:
            if "{" not in route.path:
                self._fixed.setdefault(route.path, {})[route.method] = route
        self._access = access
        self._clock = clock
        self._startup = startup
        self._shutdown = shutdown

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await self._converse(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self._startup()
        except (OSError, StoreError, ValueError) as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._shutdown()
        await send({"type": "lifespan.shutdown.complete"})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send, self._clock.new_id("req_"))
        try:
            reply = await self._caught(request.id, self._reply(request))
        except ClientGone:
            return
        finally:
            request.connection.release()
        if isinstance(reply, ApiError):
            reply = _error_reply(reply)
        if reply is None:
            return
        if request.connection.started:
            request.connection.drop()  # half a reply is out: the only honest end is a broken connection
        else:
            await _send(reply, request, send)

    async def _converse(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A WebSocket: refused as a request would be, or open until one side ends it."""
        head, socket = Head(scope, self._clock.new_id("req_")), Socket(scope, receive, send)
        await receive()  # that it wants to connect
        try:
            failure = await self._caught(head.id, self._opened(head, socket))
            if failure is not None and not socket.accepted:
                reply = _error_reply(failure)
                await socket.refuse(reply.status, _headers(reply, head), reply.body)
            elif failure is not None:
                await socket.close(BROKEN)
        except asyncio.CancelledError:  # the time that open connections have when the server stops is over
            await socket.close(RESTARTING, "The server is stopping.")
        finally:
            socket.release()

    async def _opened(self, head: Head, socket: Socket) -> None:
        self._admit(head)
        handler = self._sockets.get(head.path)
        if handler is None:
            raise _unknown("GET", head.path)
        head.project = self._access.project(head.headers.get("authorization"))
        await handler(head, socket, self._caught)

    async def _caught(self, request_id: str, working: Awaitable[T]) -> T | ApiError:
        """What came of the work, or what went wrong with it, as clients are told."""
        try:
            return await working
        except ClientGone:
            raise
        except ApiError as error:
            return error
        except StoreError as error:
            logger.error("request %s failed, because the store did: %s", request_id, error)
            return unavailable("The server cannot store or read responses now. Please try again.")
        except Exception:
            logger.exception("request %s failed", request_id)
            message = "The server had an error while processing your request."
            return ApiError(500, message, type="server_error", code="server_error")

    def _admit(self, head: Head) -> str | None:
        """Whether its host and its origin may come in; the origin.  Raises ``ApiError`` 403."""
        host, origin = head.headers.get("host"), head.headers.get("origin")
        self._access.check_host(host)
        self._access.check_origin(origin, host)
        if origin is not None and self._access.allows(origin):
            head.cors = [
                (b"access-control-allow-origin", origin.encode("latin-1")),
                (b"access-control-expose-headers", _CORS_EXPOSED),
                (b"vary", b"Origin"),
            ]
        return origin

    async def _reply(self, request: Request) -> Reply | None:
        origin = self._admit(request)
        if request.method == "OPTIONS" and origin is not None:
            return _preflight(request)
        route = self._route(request)
        if not route.open:
            request.project = self._access.project(request.headers.get("authorization"))
        return await route.handler(request)

    def _route(self, request: Request) -> Route:
        fixed = self._fixed.get(request.path)
        if fixed is not None:  # a path that is spelled out is never the parameter of another
            if request.method in fixed:
                return fixed[request.method]
            raise _not_routed(request, list(fixed))
        allowed = []
        for route, pattern in self._table:
            match = pattern.fullmatch(request.path)
            if match is None:
                continue
            if route.method == request.method:
                request.params = match.groupdict()
                return route
            allowed.append(route.method)
        raise _not_routed(request, allowed)


def _not_routed(request: Request, allowed: list[str]) -> ApiError:
    if allowed:
        message = f"Not allowed to {request.method} on {request.path}."
        return ApiError(405, message, code="method_not_supported", headers=(("allow", ", ".join(allowed)),))
    return _unknown(request.method, request.path)


def _unknown(method: str, path: str) -> ApiError:
    return ApiError(404, f"Invalid URL ({method} {path})", code="unknown_url")


def _preflight(request: Request) -> Reply:
    asked = request.headers.get("access-control-request-headers", "authorization, content-type")
    headers = (
        (b"access-control-allow-methods", _CORS_METHODS),
        (b"access-control-allow-headers", asked.encode("latin-1")),
        (b"access-control-max-age", _CORS_SECONDS),
    )
    return Reply(b"", 204, headers)


def _error_reply(error: ApiError) -> Reply:
    told = error.reply_headers().items()
    return Reply(
        error.body(), error.status, tuple((name.encode(), value.encode("latin-1", "replace")) for name, value in told)
    )


def _headers(reply: Reply, head: Head) -> list[tuple[bytes, bytes]]:
    headers = [*head.reply_headers(), *reply.headers]
    if reply.status != 204:
        headers += [JSON, (b"content-length", b"%d" % len(reply.body))]
    return headers


async def _send(reply: Reply, request: Request, send: Send) -> None:
    await send({"type": "http.response.start", "status": reply.status, "headers": _headers(reply, request)})
    await send({"type": "http.response.body", "body": reply.body, "more_body": False})
