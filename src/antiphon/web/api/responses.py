"""``/v1/responses`` and everything below it.  Calls: reference 1 and 4."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Protocol

import msgspec

from antiphon.engine.computing import computed
from antiphon.engine.idempotency import KEY_MAX
from antiphon.engine.ports.stores import Listing, Store, Stored
from antiphon.engine.retelling import retold
from antiphon.protocol.errors import ApiError, invalid, response_not_found
from antiphon.protocol.fingerprint import fingerprint
from antiphon.protocol.requests import CreateResponse, read_create, read_include, read_page, truth, whole_number
from antiphon.protocol.responses import Outcome, Shell
from antiphon.runs.run import Run
from antiphon.runs.running import Runs
from antiphon.web import sse
from antiphon.web.delivery import Delivery
from antiphon.web.messages import ClientGone, Reply, Request
from antiphon.web.settings import WebSettings

encode = msgspec.json.encode


class Templates(Protocol):
    """Prompt templates."""

    def overlay(self, members: Mapping[str, msgspec.Raw], project: str) -> Mapping[str, msgspec.Raw]:
        """The members with those of the template that they name.  Raises ``ApiError``."""


#: Begins a run, or finds what it came to.
Begin = Callable[[], Awaitable[Run | Stored]]


async def read_request(request: Request, max_bytes: int, templates: Templates) -> CreateResponse:
    """The body of a create, or of what takes the same."""
    return await read(await request.json(max_bytes), request, templates)


async def read(body: bytes, request: Request, templates: Templates) -> CreateResponse:
    """Likewise, of a body that is here."""
    overlay = partial(templates.overlay, project=request.project)
    return await computed(partial(read_create, body, overlay), size=len(body))


class Responses:
    """The handlers, around what they ask."""

    def __init__(
        self, runs: Runs, store: Store, delivery: Delivery, settings: WebSettings, templates: Templates
    ) -> None:
        self._runs = runs
        self._store = store
        self._delivery = delivery
        self._settings = settings
        self._templates = templates
        #: Of what pads streams (decision 16); nodes that serve the same responses are given the same one.
        self.obfuscation_key = secrets.token_bytes(32)

    async def create(self, request: Request) -> Reply | None:
        """POST /v1/responses"""
        sent = await request.json(self._settings.body_max_bytes)
        body = await read(sent, request, self._templates)
        key = _key(request)
        begin: Begin = partial(self._runs.create, request.project, body)
        if key is not None:
            begin = partial(self._runs.create_once, request.project, body, key, fingerprint(sent))
        if body.background:
            return await self._answer_background(request, await begin(), body)
        try:
            return await self._answer(request, begin, body)
        except asyncio.CancelledError:
            if request.connection.gone:
                raise ClientGone from None
            raise

    async def _answer(self, request: Request, begin: Begin, body: CreateResponse) -> Reply | None:
        """A foreground run, which ends when its client leaves; so does the fetching before it."""
        connection = request.connection
        handling = asyncio.current_task()
        assert handling is not None
        connection.on_gone = partial(_end, handling)
        connection.watch()
        run = await begin()
        if isinstance(run, Stored):
            return await self._replay(request, run, body)
        request.warnings = run.warnings
        run.join(connection)
        connection.on_gone = partial(run.leave, connection)
        if connection.gone:
            run.leave(connection)
        if body.stream:
            await self._stream(request, run, self._padding(run.draft.shell.id, _asked_in(body)))
            return None
        result = await run.finished()
        if not result:
            raise ClientGone
        return Reply(result)

    def _padding(self, response_id: str, asked: bool | None) -> sse.Padding | None:
        """For a reader that asked for obfuscation, or did not ask and would get it by default."""
        wanted = self._settings.obfuscation_default if asked is None else asked
        return sse.Padding(self.obfuscation_key, response_id) if wanted else None

    async def _stream(self, request: Request, run: Run, padding: sse.Padding | None) -> None:
        await run.opened()
        connection = request.connection
        if connection.gone:
            raise ClientGone
        await connection.start(200, [*sse.HEADERS, *request.reply_headers()], self._settings.run_buffer_bytes)
        request.forget_head()
        await self._delivery.live(run, sse.SseOutlet(connection, padding))
        await connection.finish()

    async def _replay(self, request: Request, stored: Stored, body: CreateResponse) -> Reply | None:
        """What a foreground run came to, told again as it was asked for."""
        if not body.stream:
            return Reply(stored.snapshot())
        connection = request.connection
        padding = self._padding(stored.shell.id, _asked_in(body))
        events = retold(stored)
        await connection.start(200, [*sse.HEADERS, *request.reply_headers()], self._settings.run_buffer_bytes)
        connection.write((sse.encode if padding is None else padding.encode)(events) + sse.DONE)
        await connection.finish()
        return None

    async def _answer_background(self, request: Request, run: Run | Stored, body: CreateResponse) -> Reply | None:
        shell = run.draft.shell if isinstance(run, Run) else run.shell
        request.warnings = run.warnings if isinstance(run, Run) else []
        if body.stream:
            await self._send_log(request, shell, -1, self._padding(shell.id, _asked_in(body)))
            return None
        # What begins here is begun, whatever the store says by now.
        return Reply(shell.snapshot(Outcome("queued")) if isinstance(run, Run) else run.snapshot())

    async def retrieve(self, request: Request) -> Reply | None:
        """GET /v1/responses/{response_id}"""
        query = request.query
        read_include(query)
        asked = truth(query, "include_obfuscation") if "include_obfuscation" in query else None
        if truth(query, "stream"):
            after = whole_number(query, "starting_after")
            response_id = request.params["response_id"]
            padding = self._padding(response_id, asked)
            await self._follow(request, response_id, -1 if after is None else after, padding)
            return None
        if "starting_after" in query:
            raise invalid("'starting_after' is only allowed with 'stream=true'.", "starting_after")
        return Reply((await self._stored(request)).snapshot())

    async def _stored(self, request: Request) -> Stored:
        stored = await self._runs.read(request.project, request.params["response_id"])
        if stored is None:
            raise response_not_found(request.params["response_id"])
        return stored

    async def _follow(self, request: Request, response_id: str, after: int, padding: sse.Padding | None) -> None:
        """Streams a background run from its log (reference 4.1)."""
        stored = await self._store.read(request.project, response_id)
        if stored is None:
            raise response_not_found(response_id)
        for made, how in ((stored.shell.background, "background=true"), (stored.streamed, "stream=true")):
            if not made:
                message = f"This response cannot be streamed because it was not created with {how}."
                raise invalid(message, "stream", None)
        await self._send_log(request, stored.shell, after, padding)

    async def _send_log(self, request: Request, shell: Shell, after: int, padding: sse.Padding | None) -> None:
        connection = request.connection
        connection.watch()
        await connection.start(200, [*sse.HEADERS, *request.reply_headers()], self._settings.run_buffer_bytes)
        request.forget_head()
        outlet = sse.SseOutlet(connection, padding)
        await self._delivery.logged(request.project, shell, outlet, after=after)
        await connection.finish()

    async def delete(self, request: Request) -> Reply:
        """DELETE /v1/responses/{response_id}"""
        response_id = request.params["response_id"]
        await self._runs.delete(request.project, response_id)
        return Reply(b'{"id":"%b","object":"response","deleted":true}' % response_id.encode())

    async def cancel(self, request: Request) -> Reply:
        """POST /v1/responses/{response_id}/cancel"""
        return Reply(await self._runs.cancel(request.project, request.params["response_id"]))

    async def input_items(self, request: Request) -> Reply:
        """GET /v1/responses/{response_id}/input_items"""
        response_id = request.params["response_id"]
        page = read_page(request.query)
        listing = await self._store.input_items(request.project, response_id, page)
        if listing is None:
            raise response_not_found(response_id)
        return Reply(list_of(listing))

    async def upgrade(self, request: Request) -> Reply:  # noqa: ARG002 - a handler's signature
        """GET /v1/responses: WebSocket mode, for what does not ask for it as RFC 6455 says."""
        message = "This is the address of WebSocket mode: open a WebSocket here, or use POST /v1/responses."
        # The parser may have seen an upgrade, so that nothing may follow on this connection.
        headers = (
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("connection", "close"),
            ("x-should-retry", "false"),
        )
        raise ApiError(426, message, code="upgrade_required", headers=headers)


def _key(request: Request) -> str | None:
    """The idempotency key of a request.  Raises ``ApiError`` 400 for what is none."""
    key = request.headers.get("idempotency-key")
    if key is None or 0 < len(key) <= KEY_MAX:
        return key
    raise invalid(
        f"Invalid 'Idempotency-Key': expected 1 to {KEY_MAX} characters, but got {len(key)}.", "Idempotency-Key"
    )


def _asked_in(body: CreateResponse) -> bool | None:
    return None if body.stream_options is None else body.stream_options.include_obfuscation


def _end(task: "asyncio.Task[Any]") -> None:
    task.cancel()


def list_of(listing: Listing) -> bytes:
    """The list envelope (reference 1.1)."""
    items = listing.items
    first, last = (encode(items[0].id), encode(items[-1].id)) if items else (b"null", b"null")
    return b'{"object":"list","data":[%b],"first_id":%b,"last_id":%b,"has_more":%b}' % (
        b",".join(item.body for item in items),
        first,
        last,
        b"true" if listing.has_more else b"false",
    )
