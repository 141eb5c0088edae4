"""Model requests as llama.cpp must be asked, where it differs from the dialect.  Pure.

Found by trial with the engine that the package pins; each function tells what would happen without it.
"""

from collections.abc import Callable, Sequence

import msgspec

from antiphon.engine.deltas import Delta, TextDelta
from antiphon.engine.ports.upstreams import Feed, ModelRequest, UpstreamError
from antiphon.protocol.tools import ToolChoice
from antiphon.upstreams.chat_completions import Options

#: Most alternatives per token that a request can ask for.
LOGPROBS_MAX = 20

#: A report after every batch of the prompt: only by writing does the engine notice that its client has left.
_BODY = {"return_progress": True}

#: Options by the model's name in the body, which means nothing to an engine with one model.
OPTIONS = {
    **{f"n_probs={n}": Options(images=False, extra_body={**_BODY, "n_probs": n}) for n in range(1, LOGPROBS_MAX + 1)},
    "*": Options(images=False, extra_body=_BODY),
}


def worded(asked: ModelRequest) -> ModelRequest:
    """The same request in the engine's terms."""
    request = asked.request
    model = asked.model
    if request.wants_logprobs:
        # ``logprobs`` is refused in a stream with tools, and gives nothing with ``top_logprobs`` 0.
        model = f"n_probs={max(1, request.top_logprobs or 0)}"
        request = msgspec.structs.replace(request, include=None)
    # Always a stream: a generation that is not streamed goes on to its end when the client leaves.
    request = msgspec.structs.replace(request, stream=True)
    return _choosing(msgspec.structs.replace(asked, model=model, request=request))


def _choosing(asked: ModelRequest) -> ModelRequest:
    """A named function is ignored by the engine; offered alone and required, it is the only one that can be called."""
    choice = asked.choice
    if choice.mode != "required" or choice.type != "function" or not asked.force_choice:
        return asked
    named = [tool for tool in asked.tools if tool.name in choice.names]
    return msgspec.structs.replace(asked, tools=named, choice=ToolChoice("required"))


def fed(asked: ModelRequest, feed: Feed) -> Feed:
    """The feed, without alternatives to tokens that nobody asked for."""
    return _Fewer(feed) if asked.request.wants_logprobs and not asked.request.top_logprobs else feed


class _Fewer:
    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self.on_pressure: Callable[[Callable[[], None], Callable[[], None]], None] = feed.on_pressure

    def __call__(self, deltas: Sequence[Delta]) -> None:
        self._feed([_without_alternatives(delta) for delta in deltas])


def _without_alternatives(delta: Delta) -> Delta:
    if not isinstance(delta, TextDelta) or delta.logprobs is None:
        return delta
    tokens = msgspec.json.decode(delta.logprobs)
    return TextDelta(delta.text, msgspec.json.encode([{**token, "top_logprobs": []} for token in tokens]))


def blamed(error: UpstreamError) -> UpstreamError:
    """Arguments of a replayed call that are no JSON are the client's error; the engine answers 500."""
    if error.status == 500 and "Failed to parse tool call arguments" in error.message:
        return UpstreamError(error.message, status=400, code="invalid_request_error", param="input")
    return error
