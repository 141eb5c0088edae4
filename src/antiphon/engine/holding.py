"""Holds back what cannot be continued after a crash, until it is whole (docs/log.md, I9).

Half a call or half a JSON text is of no use to anybody: after a takeover the model is asked for it anew.
Must not know of events or logs.
"""

from collections.abc import Iterator, Sequence

from antiphon.engine.calls import ASKED
from antiphon.engine.deltas import AnnotationDelta, CallDelta, Delta, ItemDelta, ItemEvent, TextDelta
from antiphon.protocol.requests import CreateResponse


class Holding:
    """Calls of one model call, and with ``text`` what it says as well, because a schema binds it.

    What a bound text is followed by waits behind it, so that nothing changes places but calls, which come last.
    """

    def __init__(self, *, text: bool) -> None:
        self._holds_text = text
        #: In order; a list is a text that grows.
        self._held: list[Delta | list[TextDelta]] = []
        self._text: list[TextDelta] | None = None
        self._calls: dict[int, list[CallDelta]] = {}
        #: Calls of other kinds that the client answers: their beginnings, events and ends.
        self._asked: dict[int, list[Delta]] = {}
        #: Those of them that the upstream has answered itself.
        self._answered: set[int] = set()

    @classmethod
    def of(cls, request: CreateResponse) -> "Holding":
        """What of a background run is told whole only."""
        form = None if request.text is None else request.text.format
        return cls(text=form is not None and form.type != "text")

    @property
    def empty(self) -> bool:
        return not self._held and not self._calls and not self._asked

    def take(self, deltas: Sequence[Delta]) -> list[Delta]:
        """What of it may be told now."""
        told: list[Delta] = []
        for delta in self._with_answered(deltas):
            if isinstance(delta, CallDelta):
                self._calls.setdefault(delta.key, []).append(delta)
            elif isinstance(delta, ItemDelta | ItemEvent) and self._is_asked(delta):
                self._asked.setdefault(delta.key, []).append(delta)
            elif self._held or (self._holds_text and isinstance(delta, TextDelta)):
                self._hold(delta)
            else:
                told.append(delta)
        return told

    def _with_answered(self, deltas: Sequence[Delta]) -> Iterator[Delta]:
        """The deltas, and before an output the calls that it answers: no client is asked for those."""
        for delta in deltas:
            if isinstance(delta, ItemDelta) and delta.type.endswith("_output"):
                for key, pieces in list(self._asked.items()):
                    if any(isinstance(piece, ItemDelta) and f"{piece.type}_output" == delta.type for piece in pieces):
                        self._answered |= {key}
                        yield from self._asked.pop(key)
            yield delta

    def _is_asked(self, delta: ItemDelta | ItemEvent) -> bool:
        asks = isinstance(delta, ItemDelta) and delta.type in ASKED and delta.key not in self._answered
        return asks or delta.key in self._asked

    def _hold(self, delta: Delta) -> None:
        """Annotations stand at the text that they came in; pieces of it on both sides are still one."""
        if not isinstance(delta, TextDelta):
            self._held.append(delta)
            self._text = self._text if isinstance(delta, AnnotationDelta) else None
            return
        if self._text is None:
            self._text = []
            self._held.append(self._text)
        self._text.append(delta)

    def rest(self) -> list[Delta]:
        """What was held, each in one piece; the model call is over."""
        whole: list[Delta] = [_joined_text(one) if isinstance(one, list) else one for one in self._held]
        whole += [_joined_call(pieces) for pieces in self._calls.values()]
        whole += [delta for pieces in self._asked.values() for delta in pieces]
        self._held, self._text, self._calls, self._asked, self._answered = [], None, {}, {}, set()
        return whole


def _joined_text(pieces: Sequence[TextDelta]) -> TextDelta:
    arrays = [piece.logprobs[1:-1] for piece in pieces if piece.logprobs is not None]
    text = "".join(piece.text for piece in pieces)
    return TextDelta(text, b"[" + b",".join(array for array in arrays if array) + b"]" if arrays else None)


def _joined_call(pieces: Sequence[CallDelta]) -> CallDelta:
    """The name comes with the first piece; so does the id, or later."""
    call_id = next((piece.call_id for piece in pieces if piece.call_id is not None), None)
    arguments = "".join(piece.arguments for piece in pieces)
    return CallDelta(pieces[0].key, call_id, pieces[0].name, arguments, any(piece.whole for piece in pieces))
