"""Holds back what cannot be continued after a crash, until it is whole (docs/log.md, I9).

Half a call or half a JSON text is of no use to anybody: after a takeover the model is asked for it anew.
Must not know of items, events or logs.
"""

from collections.abc import Sequence

from antiphon.engine.deltas import CallDelta, Delta, TextDelta
from antiphon.protocol.requests import CreateResponse


class Holding:
    """Calls of one model call, and with ``text`` what it says as well, because a schema binds it."""

    def __init__(self, *, text: bool) -> None:
        self._holds_text = text
        self._text: list[TextDelta] = []
        self._calls: dict[int, list[CallDelta]] = {}

    @classmethod
    def of(cls, request: CreateResponse) -> "Holding":
        """What of a background run is told whole only."""
        form = None if request.text is None else request.text.format
        return cls(text=form is not None and form.type != "text")

    @property
    def empty(self) -> bool:
        return not self._text and not self._calls

    def take(self, deltas: Sequence[Delta]) -> list[Delta]:
        """What of it may be told now."""
        told: list[Delta] = []
        for delta in deltas:
            if isinstance(delta, CallDelta):
                self._calls.setdefault(delta.key, []).append(delta)
            elif self._holds_text and isinstance(delta, TextDelta):
                self._text.append(delta)
            else:
                told.append(delta)
        return told

    def rest(self) -> list[Delta]:
        """What was held, each in one piece; the model call is over."""
        whole: list[Delta] = [_joined_text(self._text)] if self._text else []
        whole += [_joined_call(pieces) for pieces in self._calls.values()]
        self._text, self._calls = [], {}
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
