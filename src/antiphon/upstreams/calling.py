"""What every dialect does with its server: asks, is patient before the first token, hands on what comes, lists, counts.

Must not know how requests are worded or what replies mean: a ``Reader`` does.
"""

import asyncio
import logging
import random
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeAlias, TypeVar

import msgspec

from antiphon.engine.deltas import Delta
from antiphon.engine.ports.upstreams import Feed, Stop, UpstreamError
from antiphon.engine.ports.world import Clock
from antiphon.upstreams.failures import failure_of
from antiphon.upstreams.http import REPLY_MAX, Body, HttpClient, Receiver, Timeouts, Whole

T = TypeVar("T")
#: Makes deltas of what a reader says.
Shape: TypeAlias = Callable[[Sequence[Any]], Sequence[Delta]]

logger = logging.getLogger("antiphon.upstreams")

#: Waits grow from this many seconds, doubled each time, at most ``BACKOFF_MAX_SECONDS``.
BACKOFF_SECONDS = 0.25
BACKOFF_MAX_SECONDS = 8.0
#: Longest wait for an upstream's list of models, and for its count of a prompt's tokens.
MODELS_SECONDS = 10.0
COUNT_SECONDS = 60.0
#: How much is read of an error's body.
FAILURE_MAX = 64 * 1024
#: Statuses of a server that has no such path.
_NO_SUCH_PATH = (404, 405, 501)
#: The reply broke off; without harm when the model had said how it ended.
_LOST = ("upstream_cut", "upstream_timeout")
#: A key as OpenAI repeats it in its complaint, most of it starred.
_KEY_LIKE = re.compile(r"\bsk-[\w*.-]{4,}")
_HIDDEN = "[key]"


class Reader(Protocol):
    """Bytes of one reply into what they say, however they were cut: deltas, or what ``Answer`` makes deltas of."""

    #: The server has said that nothing follows.
    ended: bool
    #: It went wrong in the middle; what was said before stands.
    failure: UpstreamError | None

    @property
    def finished(self) -> bool:
        """The model has said how it ended."""

    def feed(self, data: bytes) -> Sequence[Any]:
        """What a piece of an event stream says.  Look at ``failure`` afterwards."""

    def close(self) -> Sequence[Any]:
        """The stream is over; what was held back.  Raises ``UpstreamError`` when it was cut."""

    def whole(self, data: bytes) -> Sequence[Any]:
        """What a reply says that was not streamed.  Raises ``UpstreamError``."""

    def stop(self) -> Stop:
        """How the model call ended."""


class Answer(Receiver):
    """A reply, streamed or whole as its content type says: servers do not always send what they were asked for.

    One read of the socket is one call of the feed.  ``shape``: makes deltas of what the reader says.
    """

    def __init__(
        self,
        feed: Feed,
        reader: Reader,
        *,
        stream: bool,
        shape: Shape | None = None,
        own_params: bool = False,
    ) -> None:
        #: Something was handed on: no other try may follow.
        self.spoke = False
        self._feed = feed
        self._reader = reader
        self._stream = stream
        self._shape = shape
        self._own_params = own_params
        self._status = 0
        self._headers: Mapping[str, str] = {}
        self._body = bytearray()

    @property
    def finished(self) -> bool:
        """The model has said how it ended."""
        return self._reader.finished

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
        self._say(self._reader.feed(chunk))
        if self._reader.failure is not None:
            raise self._reader.failure
        if self._reader.ended:
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
            raise failure_of(self._status, bytes(self._body), self._headers, own_params=self._own_params)
        self._say(self._reader.close() if self._stream else self._reader.whole(bytes(self._body)))
        return self._reader.stop()

    def _say(self, deltas: Sequence[Any]) -> None:
        if deltas and self._shape is not None:
            deltas = self._shape(deltas)
        if deltas:
            self.spoke = True
            self._feed(deltas)


def is_for_operators(error: UpstreamError) -> bool:
    """Whether a failure is not the request's fault."""
    return error.status >= 500 or error.status in (401, 403)


async def patiently(
    call: Callable[[], Awaitable[Stop]],
    clock: Clock,
    retries: int,
    mends: Callable[[UpstreamError], bool],
    log: Callable[[UpstreamError], None],
) -> Stop:
    """One model call, again after a passing failure as long as nothing was said.

    ``mends``: whether it has changed the call so that it is to be tried again at once.  ``log``: takes a failure that
    is left to the caller.
    """
    attempt = 0
    while True:
        try:
            return await call()
        except UpstreamError as error:
            if mends(error):
                continue
            wait = error.retry_after_seconds
            # A client that would have to wait for long is told how long; it is not kept waiting.
            too_long = wait is not None and wait > BACKOFF_MAX_SECONDS
            if not error.retryable or attempt >= retries or too_long:
                log(error)
                raise
        await clock.sleep(_backoff(attempt) if wait is None else wait)
        attempt += 1


class Caller:
    """One server: where it is, the key it wants, and how long one is patient with it.

    ``name``: how clients are told of it.  ``pooled``: others can be asked instead, and whoever does so is patient and
    says what failed.  ``key_header``: where the key goes.  Raises ``ValueError`` for a URL, key or
    file of certificates that cannot be used.
    """

    def __init__(
        self,
        base_url: str,
        clock: Clock,
        *,
        name: str = "",
        key: str | None = None,
        key_header: str = "authorization",
        headers: Mapping[str, str] | None = None,
        timeouts: Timeouts = Timeouts(),  # noqa: B008 - frozen
        retries: int = 2,
        pooled: bool = False,
        ca_file: str | None = None,
    ) -> None:
        self._client = HttpClient(base_url, timeouts, name=name, ca_file=ca_file)
        self.base_url = self._client.base_url
        self._clock = clock
        self._retries = 0 if pooled else retries
        self._pooled = pooled
        self._key = key
        self._headers = {"accept": "*/*", "user-agent": "antiphon", **(headers or {})}
        if key:
            if not (key.isascii() and key.isprintable()):
                raise ValueError(f"the key for {self.base_url} has characters that a header cannot have")
            self._headers[key_header] = f"Bearer {key}" if key_header == "authorization" else key
        self._posting = self._headers | {"content-type": "application/json"}

    async def patiently(self, call: Callable[[], Awaitable[Stop]], mends: Callable[[UpstreamError], bool]) -> Stop:
        """One model call, with the server's number of retries."""
        return await patiently(call, self._clock, self._retries, mends, self._log)

    async def ask(self, path: str, body: Body, answer: Answer, headers: Mapping[str, str] | None = None) -> Stop:
        """One exchange, whose reply is handed on as it comes.  Raises ``UpstreamError``."""
        posting = {**self._posting, **headers} if headers else self._posting
        try:
            try:
                await self._client.send("POST", path, posting, body, answer)
            except UpstreamError as error:
                if not (error.code in _LOST and answer.finished):
                    raise
            return answer.end()
        except UpstreamError as error:
            error.spoke = answer.spoke
            error.retryable = error.retryable and not answer.spoke
            self._hide_key(error)
            raise

    async def post(
        self, path: str, body: bytes, *, from_root: bool = False, headers: Mapping[str, str] | None = None
    ) -> bytes | None:
        """A whole reply; None where there is no such path.  Raises ``UpstreamError``."""
        whole = Whole()
        with self._without_key():
            posting = self._posting | dict(headers or {})
            await self._client.send("POST", path, posting, Body(body), whole, from_root=from_root)
            if whole.status in _NO_SUCH_PATH:
                return None
            if not 200 <= whole.status < 300:
                raise failure_of(whole.status, bytes(whole.body), whole.headers)
        return bytes(whole.body)

    async def reached(self, path: str) -> None:
        """Whether a path beside the version answers well.  Raises ``UpstreamError``."""
        whole = Whole()
        with self._without_key():
            try:
                async with asyncio.timeout(MODELS_SECONDS):
                    await self._client.send("GET", path, self._headers, Body(), whole, from_root=True)
            except TimeoutError:
                text = f"did not answer within {MODELS_SECONDS:g} seconds."
                raise self._of_it(text, status=504, code="upstream_timeout") from None
            if not 200 <= whole.status < 300:
                raise failure_of(whole.status, bytes(whole.body), whole.headers)

    async def counting(self, counted: Awaitable[T]) -> T:
        """What has to do with a count of tokens, if it comes in time.  Raises ``UpstreamError``."""
        try:
            async with asyncio.timeout(COUNT_SECONDS):
                return await counted
        except TimeoutError:
            message = f"The upstream did not count the tokens within {COUNT_SECONDS:g} seconds."
            late = UpstreamError(message, status=504, code="upstream_timeout")
            self._log(late)
            raise late from None
        except UpstreamError as error:
            self._log(error)
            raise

    async def input_tokens(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> int | None:
        """The count of a prompt's tokens at an endpoint that tells it as ``input_tokens``; None where there is none."""
        reply = await self.counting(self.post(path, body, headers=headers))
        try:
            return None if reply is None else _decode_count(reply).input_tokens
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UpstreamError(f"The upstream sent a malformed count of tokens: {error}.") from None

    async def listed(self, path: str, kind: type[T], *, instance: str = "", from_root: bool = False) -> T:
        """A list of models, or what else is told of them.

        Raises ``UpstreamError``, also where the server turns out to be this one.
        """
        whole = Whole()
        headers = self._headers | {"x-antiphon-instance": instance} if instance else self._headers
        with self._without_key():
            try:
                async with asyncio.timeout(MODELS_SECONDS):
                    await self._client.send("GET", path, headers, Body(), whole, from_root=from_root)
            except TimeoutError:
                text = f"did not list its models within {MODELS_SECONDS:g} seconds."
                raise self._of_it(text, status=504, code="upstream_timeout") from None
            if instance and whole.headers.get("x-antiphon-instance") == instance:
                raise self._of_it("is this server itself; it cannot be its own upstream.", status=508)
            if not 200 <= whole.status < 300:
                raise failure_of(whole.status, bytes(whole.body), whole.headers)
            try:
                return msgspec.json.decode(bytes(whole.body), type=kind)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise self._of_it(f"sent a malformed list of models: {error}.") from None

    def _of_it(self, text: str, **about: Any) -> UpstreamError:
        """A sentence about the server, which begins with its name for clients, and with its URL for operators."""
        called = self._client.called
        return UpstreamError(f"{called[0].upper()}{called[1:]} {text}", detail=f"{self.base_url} {text}", **about)

    def _log(self, error: UpstreamError) -> None:
        """A failure that is not the request's fault: clients are not told where the server is, and operators are."""
        if not self._pooled and is_for_operators(error):
            logger.warning("upstream %s: %s", self.base_url, error.detail)

    @contextmanager
    def _without_key(self) -> Iterator[None]:
        """Errors go to clients and into logs, and servers like to repeat what they were sent."""
        try:
            yield
        except UpstreamError as error:
            self._hide_key(error)
            raise

    def _hide_key(self, error: UpstreamError) -> None:
        error.message, error.detail = self._without(error.message), self._without(error.detail)
        error.args = (error.detail,)

    def _without(self, text: str) -> str:
        return _KEY_LIKE.sub(_HIDDEN, text.replace(self._key, _HIDDEN) if self._key else text)

    def close(self) -> None:
        self._client.close()


class _Count(msgspec.Struct):
    input_tokens: int | None = None


_decode_count = msgspec.json.Decoder(_Count).decode


def _backoff(attempt: int) -> float:
    longest: float = min(BACKOFF_MAX_SECONDS, BACKOFF_SECONDS * 2**attempt)
    return longest * (0.5 + random.random() / 2)  # noqa: S311 - jitter
