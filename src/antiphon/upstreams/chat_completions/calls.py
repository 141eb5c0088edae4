"""Pieces of tool calls told apart, however a server marks them.

Pure.  The form of the dialect: ``index`` in every piece, ``id`` and ``name`` in the first.  Servers also send: no
index, no id, a fresh id in every piece, one index for all calls, the name again in every piece, the name late.
Names that the model garbled are put right, and of a custom tool's arguments its input is told.
"""

from collections.abc import Iterable, Sequence

import msgspec

from antiphon.engine.deltas import CallDelta
from antiphon.engine.ports.upstreams import UpstreamError
from antiphon.protocol.tools import Tool
from antiphon.upstreams.custom_tools import InputReader, aliases_of, customs_of


class _Call:
    """A call as far as it was said."""

    __slots__ = ("id", "key", "name", "pieces")

    def __init__(self, key: int, call_id: str | None) -> None:
        self.key = key
        self.id = call_id
        self.name = ""
        self.pieces: list[str] = []

    @property
    def whole(self) -> bool:
        """Its arguments are complete: what follows cannot belong to it."""
        try:
            msgspec.json.decode("".join(self.pieces))
        except (msgspec.DecodeError, RecursionError):
            return False
        return True


class Calls:
    """The calls of one reply, of these tools."""

    def __init__(self, tools: Sequence[Tool] = ()) -> None:
        self._customs = customs_of(tools)
        self._aliases = aliases_of(tools)
        #: Of calls of custom tools, by their keys.
        self._inputs: dict[int, InputReader] = {}
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}
        self._by_id: dict[str, _Call] = {}
        self._touched: set[int] = set()

    def begin_list(self) -> None:
        """A list of pieces follows: with a name, no two of them are of the same call."""
        self._touched.clear()

    def take(self, index: int | None, call_id: str, name: str, arguments: str) -> CallDelta | None:
        """The delta that a piece is; None while the name of its call is not known.  Empty strings: not told."""
        call = self._find(index, call_id, name, arguments)
        self._touched.add(call.key)
        if index is not None:
            self._by_index[index] = call
        call.pieces.append(arguments)
        if call.name:
            return self._delta(call.key, None, None, arguments)
        if call_id:
            call.id = call.id or call_id
            self._by_id.setdefault(call_id, call)
        if not name:
            return None
        call.name = name
        meant = self._aliases.get(name, name)
        if meant in self._customs:
            self._inputs[call.key] = InputReader()
        return self._delta(call.key, self._own_id(call), meant, "".join(call.pieces))

    def _delta(self, key: int, call_id: str | None, name: str | None, arguments: str) -> CallDelta:
        reader = self._inputs.get(key)
        if reader is None:
            return CallDelta(key, call_id, name, arguments)
        text = reader.feed(arguments)
        return CallDelta(key, call_id, name, text, reader.whole)

    def rest(self) -> Iterable[CallDelta]:
        """What was held back of inputs; the reply is over.  Told once."""
        inputs, self._inputs = self._inputs, {}
        for key, reader in inputs.items():
            if text := reader.rest():
                yield CallDelta(key, None, None, text, whole=True)

    def check(self) -> None:
        """Raises ``UpstreamError`` when a call has never been named."""
        if any(not call.name for call in self._calls):
            raise UpstreamError("The upstream sent a tool call without a name.")

    def _find(self, index: int | None, call_id: str, name: str, arguments: str) -> _Call:
        known = self._known(index, call_id)
        if known is None or (name and self._is_another(known, call_id, name, arguments)):
            known = _Call(len(self._calls), call_id or None)
            self._calls.append(known)
        return known

    def _known(self, index: int | None, call_id: str) -> _Call | None:
        """The call that such a piece would go on with."""
        if index is not None:
            return self._by_index.get(index)
        if call_id in self._by_id:
            return self._by_id[call_id]
        return self._calls[-1] if self._calls else None

    def _is_another(self, known: _Call, call_id: str, name: str, arguments: str) -> bool:
        """A name that is told again is mostly that of a new call, and with some servers a mere repetition."""
        if not known.name:
            return False
        if known.key in self._touched:
            return True
        if call_id and known.id:
            return call_id != known.id
        return name != known.name or (bool(arguments) and known.whole)

    def _own_id(self, call: _Call) -> str | None:
        """Its id, unless an earlier call of this reply has the same."""
        return call.id if call.id and self._by_id.get(call.id, call) is call else None
