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
from antiphon.upstreams.http import REPLY_MAX, HttpClient, Receiver, Timeouts, Whole

#: Waits grow from this many seconds, doubled each time, at most ``BACKOFF_MAX_SECONDS``.
BACKOFF_SECONDS = 0.25
BACKOFF_MAX_SECONDS = 8.0
#: Longest wait for an upstream's list of models.
MODELS_SECONDS = 10.0
#: How much is read of an error's body.
FAILURE_MAX = 64 * 1024


class _Listed(msgspec.Struct):
    id: str
    created: int | float | None = 0
    owned_by: str | None = None


class _List(msgspec.Struct):
    data: list[_Listed] | None = None


class ChatCompletions:
    """Any server that speaks chat completions, at ``base_url`` (which ends with its version, as in ``/v1``).

    Raises ``ValueError`` for a URL, key or file of certificates that cannot be used.
    """

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
        ca_file: str | None = None,
    ) -> None:
        self._client = HttpClient(base_url, timeouts, ca_file=ca_file)
        self.base_url = self._client.base_url
        self.name = name
        self._clock = clock
        self._retries = retries
        self._options = options or {}
        self._instance = instance
        self._headers = {"accept": "*/*", "user-agent": "antiphon"}
        if key:
            if not (key.isascii() and key.isprintable()):
                raise ValueError(f"the key for {self.base_url} has characters that a header cannot have")
            self._headers["authorization"] = f"Bearer {key}"

    def options_for(self, model: str) -> Options:
        """The first pattern that matches wins."""
        return next((options for pattern, options in self._options.items() if fnmatchcase(model, pattern)), _DEFAULT)

    def capabilities(self, model: str) -> Capabilities:
        options = self.options_for(model)
        return Capabilities(images=options.images, verbosity=options.openai_parameters)

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
        answer = _Answer(feed, options.think, stream=stream)
        try:
            try:
                await self._client.send("POST", "/chat/completions", headers, body, answer)
            except UpstreamError as error:
                if not (error.code in _LOST and answer.finished):
                    raise
            return answer.end()
        except UpstreamError as error:
            error.retryable = error.retryable and not answer.spoke
            raise

    async def models(self) -> list[ModelInfo]:
        whole = Whole()
        headers = self._headers | {"x-antiphon-instance": self._instance} if self._instance else self._headers
        try:
            async with asyncio.timeout(MODELS_SECONDS):
                await self._client.send("GET", "/models", headers, b"", whole)
        except TimeoutError:
            message = f"{self.base_url} did not list its models within {MODELS_SECONDS:g} seconds."
            raise UpstreamError(message, status=504, code="upstream_timeout") from None
        if self._instance and whole.headers.get("x-antiphon-instance") == self._instance:
            raise UpstreamError(f"{self.base_url} is this server itself; it cannot be its own upstream.", status=508)
        if not 200 <= whole.status < 300:
            raise failure_of(whole.status, bytes(whole.body), whole.headers)
        try:
            listed = msgspec.json.decode(bytes(whole.body), type=_List)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UpstreamError(f"{self.base_url} sent a malformed list of models: {error}.") from None
        return [
            ModelInfo(model.id, int(model.created or 0), model.owned_by or self.name) for model in listed.data or ()
        ]

    async def close(self) -> None:
        self._client.close()


_DEFAULT = Options()
#: The reply broke off; without harm when the model had said how it ended.
_LOST = ("upstream_cut", "upstream_timeout")


def _backoff(attempt: int) -> float:
    longest: float = min(BACKOFF_MAX_SECONDS, BACKOFF_SECONDS * 2**attempt)
    return longest * (0.5 + random.random() / 2)  # noqa: S311 - jitter


class _Answer(Receiver):
    """A reply, streamed or whole as its content type says: servers do not always send what they were asked for.

    One read of the socket is one call of the feed.
    """

    def __init__(self, feed: Feed, think: str, *, stream: bool) -> None:
        #: Something was handed on: no other try may follow.
        self.spoke = False
        self._feed = feed
        self._reply = Reply(think)
        self._stream = stream
        self._status = 0
        self._headers: Mapping[str, str] = {}
        self._body = bytearray()

    @property
    def finished(self) -> bool:
        """The model has said how it ended."""
        return self._reply.finished

    def started(self, status: int, headers: Mapping[str, str]) -> None:
        self._status, self._headers = status, headers
        if not self._is_good:
            self._stream = False
            return
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind.endswith("html"):
            raise UpstreamError("The upstream answered with a page; is its base URL right?")
        if headers.get("content-encoding", "identity") != "identity":
            raise UpstreamError("The upstream compresses its replies although it was not asked to.")
        self._stream = kind == "text/event-stream" or (self._stream and kind != "application/json")
        if self._stream:
            self._feed.on_pressure(self.flow.pause, self.flow.resume)
            self._feed([])

    @property
    def _is_good(self) -> bool:
        return 200 <= self._status < 300

    def data(self, chunk: bytes) -> None:
        if not self._stream:
            self._keep(chunk)
            return
        deltas = self._reply.feed(chunk)
        if deltas:
            self.spoke = True
            self._feed(deltas)
        if self._reply.failure is not None:
            raise self._reply.failure
        if self._reply.ended:
            self.flow.expect_end()

    def _keep(self, chunk: bytes) -> None:
        self._body += chunk
        if self._is_good and len(self._body) > REPLY_MAX:
            raise UpstreamError("The upstream's reply is too large.")
        if not self._is_good and len(self._body) > FAILURE_MAX:
            self.flow.expect_end()
            del self._body[FAILURE_MAX:]

    def end(self) -> Stop:
        """How the model call ended.  Raises ``UpstreamError`` where it did not end well."""
        if not self._is_good:
            raise failure_of(self._status, bytes(self._body), self._headers)
        deltas = self._reply.close() if self._stream else self._reply.whole(bytes(self._body))
        if deltas:
            self.spoke = True
            self._feed(deltas)
        return self._reply.stop()
