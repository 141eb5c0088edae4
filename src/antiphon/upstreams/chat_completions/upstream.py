"""The upstream behind the dialect: one call is one exchange, retried only before the first token."""

import asyncio
import random
from collections.abc import Mapping
from fnmatch import fnmatchcase

import msgspec

from antiphon.engine.ports import Capabilities, Clock, Feed, ModelInfo, ModelRequest, Stop, UpstreamError
from antiphon.upstreams.chat_completions.failures import failure_of
from antiphon.upstreams.chat_completions.options import Options
from antiphon.upstreams.chat_completions.request import body_of
from antiphon.upstreams.chat_completions.stream import Reply
from antiphon.upstreams.http import HttpClient, Receiver, Timeouts, Whole

#: Waits grow from this many seconds, doubled each time, at most ``BACKOFF_MAX_SECONDS``.
BACKOFF_SECONDS = 0.25
BACKOFF_MAX_SECONDS = 8.0
#: Longest wait for an upstream's list of models.
MODELS_SECONDS = 10.0


class _Listed(msgspec.Struct):
    id: str
    created: int = 0
    owned_by: str | None = None


class _List(msgspec.Struct):
    data: list[_Listed] = []


class ChatCompletions:
    """Any server that speaks chat completions, at ``base_url`` (which ends with its version, as in ``/v1``)."""

    def __init__(
        self,
        base_url: str,
        clock: Clock,
        *,
        name: str = "",
        key: str | None = None,
        timeouts: Timeouts = Timeouts(),  # noqa: B008 - frozen
        retries: int = 2,
        options: Mapping[str, Options] | None = None,
        instance: str = "",
    ) -> None:
        self.base_url = base_url
        self.name = name
        self._client = HttpClient(base_url, timeouts)
        self._clock = clock
        self._retries = retries
        self._options = options or {}
        self._instance = instance
        self._headers = {"accept": "*/*", "user-agent": "antiphon"}
        if key:
            self._headers["authorization"] = f"Bearer {key}"

    def options_for(self, model: str) -> Options:
        """The first pattern that matches wins."""
        return next((options for pattern, options in self._options.items() if fnmatchcase(model, pattern)), _DEFAULT)

    def capabilities(self, model: str) -> Capabilities:
        return Capabilities(images=self.options_for(model).images)

    async def run(self, request: ModelRequest, feed: Feed) -> Stop:
        """One model call, again after a passing failure as long as nothing was said."""
        attempt = 0
        while True:
            try:
                return await self._call(request, feed)
            except UpstreamError as error:
                if not error.retryable or attempt >= self._retries:
                    raise
                wait = error.retry_after_seconds
                if wait is not None and wait > BACKOFF_MAX_SECONDS:
                    raise  # the client is told how long; it is not kept waiting
            await self._clock.sleep(_backoff(attempt) if wait is None else wait)
            attempt += 1

    async def _call(self, request: ModelRequest, feed: Feed) -> Stop:
        options = self.options_for(request.model)
        stream = bool(request.request.stream or request.request.background)
        body = body_of(request, options, stream=stream)
        headers = self._headers | {"content-type": "application/json"}
        receiver = _Streaming(feed, options.think) if stream else _NotStreaming(feed, options.think)
        await self._client.send("POST", "/chat/completions", headers, body, receiver)
        return receiver.end()

    async def models(self) -> list[ModelInfo]:
        whole = Whole()
        try:
            async with asyncio.timeout(MODELS_SECONDS):
                await self._client.send("GET", "/models", self._headers, b"", whole)
        except TimeoutError:
            message = f"{self.base_url} did not list its models within {MODELS_SECONDS:g} seconds."
            raise UpstreamError(message, status=504, code="upstream_timeout") from None
        if self._instance and whole.headers.get("x-antiphon-instance") == self._instance:
            raise UpstreamError(f"{self.base_url} is this server itself; it cannot be its own upstream.", status=508)
        if whole.status >= 400:
            raise failure_of(whole.status, bytes(whole.body))
        try:
            listed = msgspec.json.decode(bytes(whole.body), type=_List)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UpstreamError(f"{self.base_url} sent a malformed list of models: {error}.") from None
        return [ModelInfo(model.id, model.created, model.owned_by or self.name) for model in listed.data]

    async def close(self) -> None:
        self._client.close()


_DEFAULT = Options()


def _backoff(attempt: int) -> float:
    longest: float = min(BACKOFF_MAX_SECONDS, BACKOFF_SECONDS * 2**attempt)
    return longest * (0.5 + random.random() / 2)  # noqa: S311 - jitter


class _NotStreaming(Whole):
    """A reply that comes as a whole: fewer, larger deltas."""

    def __init__(self, feed: Feed, think: str) -> None:
        super().__init__()
        self._feed = feed
        self._reply = Reply(think)

    def end(self) -> Stop:
        if self.status >= 400:
            raise failure_of(self.status, bytes(self.body), retry_after=self.headers.get("retry-after"))
        self._feed(self._reply.whole(bytes(self.body)))
        return self._reply.stop()


class _Streaming(Receiver):
    """A streamed reply: one read of the socket is one call of the feed."""

    def __init__(self, feed: Feed, think: str) -> None:
        self._feed = feed
        self._reply = Reply(think)
        self._status = 0
        self._headers: Mapping[str, str] = {}
        self._failed = bytearray()

    def started(self, status: int, headers: Mapping[str, str]) -> None:
        self._status, self._headers = status, headers
        if status < 400:
            self._feed.on_pressure(self.flow.pause, self.flow.resume)
            self._feed([])

    def data(self, chunk: bytes) -> None:
        if self._status >= 400:
            self._failed += chunk
            return
        deltas = self._reply.feed(chunk)
        if deltas:
            self._feed(deltas)
        if self._reply.ended:
            self.flow.expect_end()

    def end(self) -> Stop:
        if self._status >= 400:
            raise failure_of(self._status, bytes(self._failed), retry_after=self._headers.get("retry-after"))
        deltas = self._reply.close()
        if deltas:
            self._feed(deltas)
        return self._reply.stop()
