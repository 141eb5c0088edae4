"""The shipped fake upstream: plays scripts instead of asking a model.  For our tests and users' own.

Without a script it answers every request with an echo of the last text of the user, token by token.
Deterministic: no clock, no chance.  Must not know what runs it.
"""

import asyncio
import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeAlias

import msgspec

from antiphon.engine.deltas import CallDelta, Delta, TextDelta
from antiphon.engine.ports.upstreams import (
    Capabilities,
    ContextItem,
    Feed,
    ModelInfo,
    ModelRequest,
    Stop,
    UpstreamError,
)
from antiphon.protocol.items import text_of_raw
from antiphon.protocol.requests import CreateResponse
from antiphon.protocol.responses import InputDetails, OutputDetails, Usage

#: Characters of a request's items that the echo counts as one token.
CHARS_PER_TOKEN = 4


class Accept(NamedTuple):
    """The upstream has accepted the request and says nothing yet."""


#: A step of a script: deltas that come in one read, an event to wait for, or an end.  A script without an end stops
#: with the reason ``stop`` and no usage.
Step: TypeAlias = Sequence[Delta] | asyncio.Event | Accept | Stop | UpstreamError
Script: TypeAlias = Iterable[Step]


class ScriptedUpstream:
    """Plays one script per request.

    ``scripts``: scripts in the order of the requests, or a function that makes one of a request; None is the echo.
    A request beyond the last script fails with an ``UpstreamError`` that says so.

    Of a request that goes on with a reply (``ModelRequest.prefix``), the echo says the rest of its sentence.  A script
    is played as it is, so that it says what follows; ``behind`` makes one of a script of the whole reply.
    """

    def __init__(
        self,
        scripts: Iterable[Script] | Callable[[ModelRequest], Script] | None = None,
        *,
        models: Sequence[str] = ("scripted",),
        capabilities: Capabilities = Capabilities(),  # noqa: B008 - frozen
    ) -> None:
        #: The requests that came, as they were then.
        self.requests: list[ModelRequest] = []
        #: "pause" and "resume", in the order in which readers asked for it.
        self.pressure: list[str] = []
        #: How many calls were cancelled before their end.
        self.cancelled = 0
        self.closed = False
        self._echoes = scripts is None
        self._script_of = scripts if callable(scripts) else echo if scripts is None else _in_order(scripts)
        self._models = list(models)
        self._capabilities = capabilities

    async def run(self, request: ModelRequest, feed: Feed) -> Stop:
        """Plays the next script; stands still while the feed is paused."""
        self.requests.append(msgspec.structs.replace(request, items=list(request.items)))
        flow = _Flow(self.pressure)
        feed.on_pressure(flow.pause, flow.resume)
        try:
            for step in self._script_of(request):
                await flow.open.wait()
                if isinstance(step, Stop):
                    return step
                await _play(step, feed)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return Stop("stop")

    async def count(self, request: ModelRequest) -> int | None:
        """The input tokens of the echo's usage; a script counts none."""
        return _read_by_echo(request) if self._echoes else None

    async def models(self) -> list[ModelInfo]:
        return [ModelInfo(name, 0, "antiphon") for name in self._models]

    def capabilities(self, model: str) -> Capabilities:  # noqa: ARG002 - the port's signature
        return self._capabilities

    def unheeded(self, request: CreateResponse, model: str) -> list[str]:  # noqa: ARG002 - the port's signature
        return []

    async def close(self) -> None:
        self.closed = True


class _Flow:
    """Whether the reader of one call takes more."""

    def __init__(self, asked: list[str]) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self._asked = asked

    def pause(self) -> None:
        self._asked.append("pause")
        self.open.clear()

    def resume(self) -> None:
        self._asked.append("resume")
        self.open.set()


async def _play(step: Sequence[Delta] | asyncio.Event | Accept | UpstreamError, feed: Feed) -> None:
    if isinstance(step, UpstreamError):
        raise step
    if isinstance(step, asyncio.Event):
        await step.wait()
        return
    feed([] if isinstance(step, Accept) else step)
    await asyncio.sleep(0)  # every step is a read of its own: others may run in between


def _in_order(scripts: Iterable[Script]) -> Callable[[ModelRequest], Script]:
    left = iter(scripts)

    def following(request: ModelRequest) -> Script:
        script = next(left, None)
        if script is None:
            raise UpstreamError(f"No script is left for this request to the model '{request.model}'.", status=500)
        return script

    return following


def behind(prefix: str | None, script: Script) -> Script:
    """What of a script follows a reply that was cut behind ``prefix``; all of it where nothing was.

    Raises ``UpstreamError`` where the script does not begin with this text: then something was lost or doubled.
    """
    left = prefix or ""
    for step in script:
        if not left:
            yield step
        elif isinstance(step, Stop | UpstreamError):
            raise UpstreamError(f"The script ends before the text that was said: {left!r} is left.", status=500)
        elif not isinstance(step, asyncio.Event | Accept):
            new, left = _new_in(step, left)
            if new:
                yield new
    if left:
        raise UpstreamError(f"The script ends before the text that was said: {left!r} is left.", status=500)


def _new_in(deltas: Sequence[Delta], said: str) -> tuple[list[Delta], str]:
    """The deltas without the text that was said before, and without thoughts that led to it; and what is left of it."""
    new: list[Delta] = []
    for delta in deltas:
        if not said:
            new.append(delta)
        elif isinstance(delta, TextDelta):
            if not (said.startswith(delta.text) or delta.text.startswith(said)):
                raise UpstreamError(f"The script says {delta.text!r} where {said!r} was said.", status=500)
            if len(delta.text) > len(said):
                new.append(TextDelta(delta.text[len(said) :]))
            said = said[len(delta.text) :]
    return new, said


# --- The echo ---


def echo(request: ModelRequest) -> Script:
    """``You said: ...``, one token a step, with usage; cut where the request's limit of output tokens cuts it.

    Where the reply was begun, only what follows.  A call that the request forces is made, without arguments.
    """
    if request.force_choice and request.choice.mode == "required" and request.tools:
        yield [CallDelta(0, None, _forced(request), "{}")]
        return
    sentence = f"You said: {_last_words(request.items)}"
    tokens = re.findall(r"\s*\S+|\s+$", sentence.removeprefix(request.prefix or ""))
    limit = request.request.max_output_tokens
    said = tokens if limit is None else tokens[:limit]
    for token in said:
        yield [TextDelta(token)]
    read = _read_by_echo(request)
    usage = Usage(read, InputDetails(), len(said), OutputDetails(), read + len(said))
    yield Stop("stop" if len(said) == len(tokens) else "length", usage)


def _read_by_echo(request: ModelRequest) -> int:
    chars = sum(len(item.body) for item in request.items) + len(request.prefix or "")
    return chars // CHARS_PER_TOKEN


def _forced(request: ModelRequest) -> str:
    """The function that the request names, or the first that there is."""
    names = request.choice.names or [tool.name or "" for tool in request.tools]
    return names[0]


def _last_words(items: Sequence[ContextItem]) -> str:
    """The last text of the user, or of a tool that answered after it; nothing where there is none."""
    for item in reversed(items):
        view = item.view
        if view.kind == "message" and view.role == "user":
            return _text(view.content)
        if view.kind in ("function_call_output", "custom_tool_call_output"):
            return _text(view.output)
    return ""


def _text(raw: msgspec.Raw) -> str:
    content = text_of_raw(raw)
    return content if isinstance(content, str) else "\n".join(part.text for part in content if part.text)
