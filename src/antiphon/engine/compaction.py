"""Compaction: what was said so far becomes a summary that the model made, sealed in one item.

What stands before a compaction item is given up for what the item says, but for instructions, the newest of the
user's own words, which no summary is as true as, and a turn that the model is in the middle of.
Must not know how anything is sealed or stored.  Shapes and rules: reference 4.6, 5.1 (``context_management``), 6.1.
"""

from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from antiphon.engine import window
from antiphon.engine.context import is_instruction, is_user
from antiphon.engine.deltas import Delta, TextDelta
from antiphon.engine.estimates import Measured, prompt_tokens
from antiphon.engine.ports.upstreams import ContextItem, ModelRequest, Route, Standing, UpstreamError
from antiphon.engine.ports.world import Seal
from antiphon.engine.window import Ask
from antiphon.protocol.errors import invalid
from antiphon.protocol.items import ANSWERS, Item, decode_item, text_of_raw
from antiphon.protocol.requests import CreateResponse
from antiphon.protocol.responses import Usage

encode = msgspec.json.encode

KIND, PREFIX = "compaction", "cmp_"
#: What sealed content is bound to besides its project.
PURPOSE = "compaction"
#: Bytes of the user's own words that stay seen, and of a turn that the model is in; less where the window is small.
KEPT_BYTES = 80_000
#: Tokens that a summary may have with what the model thinks before it, never more than this part of the window; and
#: characters that are taken of one whose upstream heeds no limit.
SUMMARY_TOKENS, SUMMARY_PART, SUMMARY_CHARS = 8192, 4, 200_000
#: The part of the window that is the threshold where the request gives none, and that a given one is capped at.
DEFAULT_PART, MOST_PART = 0.75, 0.9


class Summary(msgspec.Struct):
    """What a compaction item holds: the summary, and marks of items before it.

    ``gone`` are the user's messages that the summary stands for; others of the user, which it may never have known,
    are seen before it.  The items of ``turn``, which the model was in, are seen behind it.
    """

    text: str
    gone: list[str] = []
    turn: list[str] = []


class Seen(NamedTuple):
    """The items that are left, and for each its place in the whole context; a summary has that of its item."""

    items: list[ContextItem]
    places: Sequence[int]


class Split(NamedTuple):
    """The marks of a compaction, as in ``Summary``, and how many bytes of items it would give up."""

    gone: list[str]
    turn: list[str]
    freed: int


class Made(NamedTuple):
    """A summary, and what the model call cost."""

    text: str
    usage: Usage


class Compacted(NamedTuple):
    """A compacted context: the items that a client goes on from as JSON, and what the summary cost.

    ``unseen``: items of the request that the summary knows nothing of, as paths.
    """

    output: list[bytes]
    usage: Usage
    unseen: Sequence[str] = ()


class Told(ContextItem):
    """A summary as the model sees it."""

    #: What it stands for stays given up in the next compaction.
    gone: Sequence[str] = ()

    @classmethod
    def of(cls, summary: Summary) -> "Told":
        """Says what it is: to the model it is an instruction among others."""
        parts = [{"type": "input_text", "text": _HEAD + summary.text}]
        told = cls(Item(role="developer", content=msgspec.Raw(encode(parts))), b"")
        told.gone = summary.gone
        return told


_decode = msgspec.json.Decoder(Summary).decode

_ASK = """\
Stop here and write a summary of this conversation for yourself. You will go on from the summary alone and see nothing \
else of what was said, so leave out nothing that is needed to go on without asking again:
- names, and what is known about the user;
- what the user asked for, with every constraint and preference;
- decisions, each with its reason;
- results of tool calls that matter, and what follows from them;
- what is done, what is still to be done, and the very next step;
- exact names, numbers, dates, ids, paths, commands and pieces of code that will be needed.
Write it as plain text, short and complete. Do not answer the user, and write nothing but the summary."""
_HEAD = "Summary of the conversation up to this point:\n\n"


class Compactor:
    """Makes and reads the compaction items of one project."""

    def __init__(self, seal: Seal, project: str) -> None:
        self._seal = seal
        self._project = project

    def seen(self, items: Sequence[ContextItem], earlier: int = 0) -> Seen:
        """The items as the model is to see them: the last compaction item stands for what is before it.

        One that another provider made cannot be read here: everything stays, and the dialect decides what its model
        sees of it.  Raises ``ApiError`` 400 for one that was tampered with; among the first ``earlier`` items, which
        come from the store and not from the request, it is passed over.
        """
        for place in range(len(items) - 1, -1, -1):
            if items[place].view.kind == KIND:
                summary = self._opened(items[place].view, strict=place >= earlier)
                if summary is not None:
                    return _replaced(items, place, summary)
        return Seen(list(items), range(len(items)))

    def _opened(self, view: Item, *, strict: bool) -> Summary | None:
        try:
            data = self._seal.open(view.encrypted_content or "", project=self._project, purpose=PURPOSE)
            return None if data is None else _decode(data)
        except (ValueError, msgspec.DecodeError) as error:
            if strict:
                raise invalid(str(error), None, "invalid_encrypted_content") from None
            return None

    def sealed(self, text: str, split: Split) -> str:
        """The ``encrypted_content`` of a new item."""
        return self._seal.seal(encode(Summary(text, split.gone, split.turn)), project=self._project, purpose=PURPOSE)

    async def compact(
        self, items: Sequence[ContextItem], route: Route, request: CreateResponse, new_id: Callable[[str], str]
    ) -> Compacted:
        """The user's messages as they are, then the compaction item.  Raises ``UpstreamError``."""
        made = await summarize(items, route, request, Standing(self._project))
        content = self.sealed(made.text, split(items, room_of(route, request)))
        words = [item.body for item in items if _is_said(item)]
        members = {"id": new_id(PREFIX), "type": KIND, "encrypted_content": content}
        return Compacted([*words, encode(members)], made.usage)


def _replaced(items: Sequence[ContextItem], place: int, summary: Summary) -> Seen:
    gone, turn = frozenset(summary.gone), frozenset(summary.turn)
    newest = _newest_turn(items[:place])
    before, behind = [], []
    for index, item in enumerate(items[:place]):
        if isinstance(item, Told):
            continue
        mark = _mark(item)
        if index >= newest and mark in turn:
            behind.append(index)
        elif is_instruction(item.view) or (_is_said(item) and mark not in gone):
            before.append(index)
    rest = range(place + 1, len(items))
    places = [*before, place, *behind, *rest]
    seen = [Told.of(summary) if index == place else items[index] for index in places]
    return Seen(seen, places)


def _is_said(item: ContextItem) -> bool:
    """The user said it, and not this server in the user's name."""
    return is_user(item.view) and bool(item.body)


def _newest_turn(items: Sequence[ContextItem]) -> int:
    """Where the newest turn begins: at the user's last message."""
    return next((index for index in range(len(items) - 1, -1, -1) if _is_said(items[index])), len(items))


def _mark(item: ContextItem) -> str:
    """What an item is known by again.

    A message is known by what it says, since many clients send it back without its id; it counts as it was sent, before
    what it points at was fetched.  Anything else is known by its ids.
    """
    view = item.view
    if view.kind != "message":
        return view.call_id or view.id or ""
    content = text_of_raw((decode_item(item.body) if item.body else view).content)
    return blake2b(encode([view.role, content]), digest_size=12).hexdigest()


def split(items: Sequence[ContextItem], room: int) -> Split:
    """What a compaction of these items keeps, with so many bytes of room for the user's words and for the newest turn.

    The newest turn is kept while it is not over; where it is too large, only what the user said in it.
    """
    newest = _newest_turn(items)
    running = [item for item in items[newest:] if not isinstance(item, Told)]
    if running and running[-1].view.kind == "message" and running[-1].view.role == "assistant":
        newest, running = len(items), []
    elif sum(map(window.size_of, running)) > room:
        running = running[:1]
    keep = _newest_words(items[:newest], room)
    stays = {id(item) for item in (*running, *keep)}
    left = [item for item in items if not (is_instruction(item.view) or id(item) in stays)]
    gone = {*_marks(filter(_is_said, left)), *(mark for item in items if isinstance(item, Told) for mark in item.gone)}
    return Split(sorted(gone.difference(_marks(keep))), _marks(running), sum(map(window.size_of, left)))


def _newest_words(items: Sequence[ContextItem], room: int) -> list[ContextItem]:
    """The user's messages, newest first as far as there is room."""
    kept: list[ContextItem] = []
    for item in filter(_is_said, reversed(items)):
        room -= window.size_of(item)
        if room < 0:
            break
        kept.append(item)
    return kept[::-1]


def _marks(items: Iterable[ContextItem]) -> list[str]:
    return [mark for mark in map(_mark, items) if mark]


# --- When ---


def room_of(route: Route, request: CreateResponse) -> int:
    """Bytes that may be kept: about a quarter of the window, or of the threshold."""
    limits = [KEPT_BYTES, route.upstream.capabilities(route.model).context, threshold_of(route, request)]
    return min(limit for limit in limits if limit is not None)


def threshold_of(route: Route, request: CreateResponse) -> int | None:
    """Tokens from which on the request wants its context compacted; None: from no number on that is known."""
    most = route.upstream.capabilities(route.model).context
    if not request.context_management:
        return None
    given = [entry.compact_threshold for entry in request.context_management if entry.compact_threshold is not None]
    if most is None:
        return min(given, default=None)
    return min([*given, int(most * MOST_PART)]) if given else int(most * DEFAULT_PART)


async def is_due(items: Sequence[ContextItem], ask: Ask, route: Route, request: CreateResponse) -> bool:
    """Whether the context has reached the threshold, and a compaction would help.

    It has to give up at least about a quarter of the threshold, so that what always stays cannot bring about one
    compaction after another.
    """
    threshold = threshold_of(route, request)
    if threshold is None:
        return False
    asked = ask(items)
    if window.at_most(asked) < threshold or split(items, room_of(route, request)).freed < threshold:
        return False
    tokens = await window.counted(asked, route)
    return (prompt_tokens(asked) if tokens is None else tokens) >= threshold


# --- The summary ---


async def summarize(
    items: Sequence[ContextItem],
    route: Route,
    request: CreateResponse,
    standing: Standing = Standing(),  # noqa: B008 - frozen
) -> Made:
    """Asks the model for a summary of the items, without the oldest turns where all do not fit.

    Raises ``UpstreamError``.
    """
    plain = _plain(request, route)
    plea = _message("user", _ASK)
    heard = _Heard()
    measured = Measured(heard)

    def ask(seen: Sequence[ContextItem]) -> ModelRequest:
        return ModelRequest(route.model, [*seen, plea], [], plain, standing=standing)

    told = await window.answered(_spoken(items), ask, route, measured, drop=True, quiet=lambda: not heard.pieces)
    text = "".join(heard.pieces).strip()[:SUMMARY_CHARS]
    if not text:
        raise UpstreamError("The model was asked to summarize the conversation and said nothing.")
    return Made(text, measured.spoken.usage(told.stop.usage, ask(told.items)))


def _plain(request: CreateResponse, route: Route) -> CreateResponse:
    """The request without what shapes its answer; streamed, so that a long silence is noticed."""
    context = route.upstream.capabilities(route.model).context
    return CreateResponse(
        model=request.model,
        instructions=request.instructions,
        temperature=request.temperature,
        top_p=request.top_p,
        reasoning=request.reasoning,
        raw_reasoning=request.raw_reasoning,
        max_output_tokens=SUMMARY_TOKENS if context is None else min(SUMMARY_TOKENS, context // SUMMARY_PART),
        prompt_cache_key=request.prompt_cache_key,
        service_tier=request.service_tier,
        safety_identifier=request.safety_identifier,
        stream=True,
    )


def _spoken(items: Sequence[ContextItem]) -> list[ContextItem]:
    """The items as messages alone: a request without tools has no place for calls at some upstreams.

    What this server has told the model for its next answer is left out; what another provider has compacted is for
    whoever can read it.
    """
    spoken: list[ContextItem] = []
    names: dict[str | None, str | None] = {}
    for item in items:
        view = item.view
        if view.kind in ("message", "agent_message", KIND):
            spoken += [item] if item.body or isinstance(item, Told) else []
        elif view.kind in ANSWERS.values():
            names[view.call_id] = view.name
            said = view.arguments if view.kind == "function_call" else view.input
            spoken.append(_message("assistant", f"[I called the tool {view.name} with: {said}]"))
        elif view.kind in ANSWERS:
            content = text_of_raw(view.output)
            text = content if isinstance(content, str) else "\n".join(part.text or f"({part.type})" for part in content)
            spoken.append(_message("user", f"[The tool {names.get(view.call_id, '')} answered: {text}]"))
    return spoken


def _message(role: str, text: str) -> ContextItem:
    kind = "output_text" if role == "assistant" else "input_text"
    return ContextItem(Item(role=role, content=msgspec.Raw(encode([{"type": kind, "text": text}]))), b"")


class _Heard:
    """The feed of a summary."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self._left = SUMMARY_CHARS

    def __call__(self, deltas: Sequence[Delta]) -> None:
        said = [delta.text for delta in deltas if isinstance(delta, TextDelta)] if self._left > 0 else []
        self.pieces += said
        self._left -= sum(map(len, said))

    def on_pressure(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """It takes all that comes: there is a limit to it."""
