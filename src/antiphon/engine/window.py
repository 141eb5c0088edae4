"""How much of a model's window a request takes, and which turns are left out so that it fits (``truncation``).

Counting costs a round trip to the upstream, so nothing is counted that its bytes show to be small enough.
Must not know what the model is asked for.  Rules: reference 3.2 (12) and 5.1; design decision 13.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from antiphon.engine.context import cut_before, cuts, drop_oldest_turns
from antiphon.engine.ports.upstreams import ContextItem, Feed, ModelRequest, Route, Stop, UpstreamError

#: The bound: a token is at least a byte.  Tokens of a chat template, of what it puts around an item, and of an image.
TEMPLATE_TOKENS_MAX, ITEM_TOKENS_MAX, IMAGE_TOKENS_MAX = 512, 32, 16_384
#: What is left free for a reply of which no limit is given; never more than this part of the window.
RESERVE_TOKENS, RESERVE_PART = 1024, 8
FULL = "context_length_exceeded"

_TOO_LONG = "Your input exceeds the context window of this model: it has {tokens} tokens, and the window {window}."

#: The model request with these items of the context.
Ask: TypeAlias = Callable[[Sequence[ContextItem]], ModelRequest]


class Answered(NamedTuple):
    """How a model call ended, and the items that were left in its context."""

    stop: Stop
    items: Sequence[ContextItem]


async def answered(
    items: Sequence[ContextItem], ask: Ask, route: Route, feed: Feed, *, drop: bool, quiet: Callable[[], bool]
) -> Answered:
    """A model call; with ``drop`` without the oldest turns while the window is full.

    ``quiet``: whether nothing was said yet.  Where the window and the tokens are known, what is too long is known
    before the call.  Elsewhere the upstream says it, and each time twice as many turns go, so that a long conversation
    costs few calls.  Raises ``UpstreamError``.
    """
    items = await _fitting(items, ask, route, drop=drop)
    dropped = 1
    while True:
        try:
            return Answered(await route.upstream.run(ask(items), feed), items)
        except UpstreamError as error:
            shorter = drop_oldest_turns(items, dropped) if drop and error.code == FULL and quiet() else None
            if shorter is None:
                raise
            items = shorter
            dropped *= 2


async def _fitting(items: Sequence[ContextItem], ask: Ask, route: Route, *, drop: bool) -> Sequence[ContextItem]:
    """The items, with ``drop`` without the fewest of the oldest turns that leave room for a reply."""
    window = route.upstream.capabilities(route.model).context
    asked = ask(items)
    room = 0 if window is None else window - _reserve(asked, window)
    if window is None or at_most(asked) <= room:
        return items
    tokens = await counted(asked, route)
    if tokens is None or tokens <= room or (tokens < window and not drop):
        return items
    places = cuts(items) if drop else []
    low, high = 0, len(places)
    while low < high:
        middle = (low + high) // 2
        shorter = await counted(ask(cut_before(items, places[middle])), route) or 0
        low, high = (middle + 1, high) if shorter > room else (low, middle)
    if low < len(places):
        return cut_before(items, places[low])
    # Not even the newest turn leaves the room that was wished for: it is asked if there is any.
    newest = cut_before(items, places[-1]) if places else items
    tokens = (await counted(ask(newest), route) or 0) if places else tokens
    if tokens >= window:
        message = _TOO_LONG.format(tokens=tokens, window=window)
        raise UpstreamError(message, status=400, code=FULL, param="input")
    return newest


def _reserve(asked: ModelRequest, window: int) -> int:
    limit = asked.request.max_output_tokens
    return min(RESERVE_TOKENS, window // RESERVE_PART) if limit is None else min(limit, window // 2)


async def counted(asked: ModelRequest, route: Route) -> int | None:
    """The tokens of the prompt; None where nobody can count them now: the model call will tell what is wrong."""
    try:
        return await route.upstream.count(asked)
    except UpstreamError:
        return None


def at_most(asked: ModelRequest) -> int:
    """Tokens that the prompt has at the most."""
    tools = sum(len(tool.raw) + len(tool.parameters) + len(tool.description or "") * 4 for tool in asked.tools)
    size = TEMPLATE_TOKENS_MAX + len(asked.request.instructions or "") * 4 + len(asked.prefix or "") * 4 + tools
    size += len(asked.request.raw_text)
    images = 0
    for item in asked.items:
        size += size_of(item)
        images += b'"input_image"' in bytes(item.view.content) or b'"input_image"' in bytes(item.view.output)
    return size + ITEM_TOKENS_MAX * (len(asked.items) + len(asked.tools)) + IMAGE_TOKENS_MAX * images


def size_of(item: ContextItem) -> int:
    """Bytes of an item as the model sees it, or as it is stored if that is more."""
    view = item.view
    texts = [text for text in (view.arguments, view.input) if isinstance(text, str)]
    return max(len(item.body), len(view.content) + len(view.output) + 4 * sum(map(len, texts)))
