"""The upstream behind the dialect: always streamed, since a reply may take longer than a silent connection lives."""

from collections.abc import Awaitable
from datetime import datetime
from functools import partial
from urllib.parse import quote

import msgspec

from antiphon.engine.computing import computed
from antiphon.engine.ports.upstreams import Capabilities, Feed, ModelInfo, ModelRequest, Stop, UpstreamError
from antiphon.protocol.requests import CreateResponse
from antiphon.upstreams.calling import Answer
from antiphon.upstreams.dialect import Dialect
from antiphon.upstreams.http import Body
from antiphon.upstreams.messages.options import Options
from antiphon.upstreams.messages.request import counted, form_of, headers_of, unheeded
from antiphon.upstreams.messages.stream import Continuation, Reply

encode = msgspec.json.encode

#: Models of one page of the list, and pages at the most.
PAGE_MODELS, PAGES_MAX = 1000, 10


class _Listed(msgspec.Struct):
    id: str
    created_at: str | None = None
    created: int | float | None = None
    owned_by: str | None = None


class _Page(msgspec.Struct):
    data: list[_Listed] | None = None
    has_more: bool | None = False
    last_id: str | None = None


class Messages(Dialect[Options]):
    """Any server with Anthropic's Messages API.  Its name stands in the thoughts that it signs: no other gets those."""

    default = Options()
    key_header = "x-api-key"
    headers = headers_of(default)

    @property
    def _maker(self) -> str:
        return f"messages/{self.label}"

    def capabilities(self, model: str) -> Capabilities:
        options = self.options_for(model)
        return Capabilities(
            images=options.images,
            context=options.context,
            files=tuple(options.files),
            prefill=options.prefill,
            strict_text=options.structured_outputs,
            forced_calls=options.forced_calls,
        )

    def unheeded(self, request: CreateResponse, model: str) -> list[str]:
        return unheeded(request, self.options_for(model))

    async def run(self, request: ModelRequest, feed: Feed) -> Stop:
        """One model call, again after a passing failure as long as nothing was said."""

        def call() -> Awaitable[Stop]:
            return self._call(request, feed)

        return await self._caller.patiently(call, _never)

    async def _call(self, request: ModelRequest, feed: Feed) -> Stop:
        options = self.options_for(request.model)
        form = partial(form_of, request, options, self._maker, stream=True)
        body = await computed(lambda: Body(encode(form())), items=len(request.items))
        answer = Answer(
            feed, Reply(self._maker, request.tools), stream=True, shape=Continuation(request.prefix or "").take
        )
        return await self._caller.ask("/messages", body, answer, headers_of(options))

    async def count(self, request: ModelRequest) -> int | None:
        options = self.options_for(request.model)
        form = partial(form_of, request, options, self._maker, stream=False)
        body = await computed(lambda: encode(counted(form())), items=len(request.items))
        return await self._caller.input_tokens("/messages/count_tokens", body, headers_of(options))

    async def models(self) -> list[ModelInfo]:
        """All pages of the list, as far as there are reasonably many."""
        found: list[ModelInfo] = []
        path = f"/models?limit={PAGE_MODELS}"
        for _ in range(PAGES_MAX):
            page = await self._caller.listed(path, _Page, instance=self._instance)
            found += [ModelInfo(one.id, _created(one), one.owned_by or self.owner) for one in page.data or ()]
            if not page.has_more or not page.last_id:
                break
            path = f"/models?limit={PAGE_MODELS}&after_id={quote(page.last_id, safe='')}"
        return found


def _never(error: UpstreamError) -> bool:  # noqa: ARG001 - nothing in the request could be left out
    return False


def _created(listed: _Listed) -> int:
    """Seconds since the epoch; Anthropic writes a date, others the number."""
    try:
        return (
            int(datetime.fromisoformat(listed.created_at).timestamp())
            if listed.created_at
            else int(listed.created or 0)
        )
    except ValueError:
        return 0
