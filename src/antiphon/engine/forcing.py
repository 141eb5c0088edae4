"""Makes a demanded call happen, between an upstream's deltas and ``strictness`` (reference 5.3).

Where the upstream makes such calls by itself, what it says streams.  Otherwise what is said is held back until the call
begins; a reply without it is nobody's, and the model is asked again, at last for the arguments alone (``narrowing``).
Must not know how a model call is made, or what binds a call's arguments.
"""

from collections.abc import Sequence

from antiphon.engine.deltas import CallDelta, Delta, ItemDelta, ReasoningDelta, RefusalDelta, SummaryDelta, TextDelta
from antiphon.engine.narrowing import chosen, is_object, plea_for
from antiphon.engine.ports.upstreams import ModelRequest
from antiphon.engine.strictness import (
    HELD_CHARS_MAX,
    RETRIES_MAX,
    WHOLE,
    Accept,
    Fail,
    Retry,
    Strictness,
    Verdict,
    asked_again,
    unfenced,
    words_of,
)
from antiphon.protocol.responses import ResponseError
from antiphon.protocol.tools import INNER_TYPES, Tool

#: Names that a model is reminded of; of more it sees the declarations anyway.
NAMES_TOLD_MAX = 10
#: Items that are no calls.
_SPEECH = ("message", "reasoning")


def demanded(asked: ModelRequest) -> list[Tool]:
    """The tools of which the reply must call one; none: it need not call any."""
    if not asked.force_choice or asked.choice.mode != "required":
        return []
    names = asked.choice.names
    return [tool for tool in asked.tools if tool.type in INNER_TYPES and (not names or tool.name in names)]


class Forcing:
    """One model turn that must call one of ``tools``, with its retries; ``native``: the upstream sees to it."""

    def __init__(self, tools: Sequence[Tool], *, native: bool, retries_max: int = RETRIES_MAX) -> None:
        self._names = {tool.name for tool in tools}
        self._tools = list(tools)
        self._native = native
        self._retries = retries_max
        self._attempts = 0
        #: The tools that the model is only asked about, since it calls none: of several which one, of one how.
        self.narrowed: Sequence[Tool] = ()
        #: Set once too much is held back: the upstream's request is to be ended.
        self.failed: ResponseError | None = None
        self.begin()

    def begin(self) -> None:
        """Another attempt."""
        self._held: list[Delta] = []
        self._held_chars = 0
        self._said: list[str] = []
        self._keys: dict[int, bool] = {}
        self._others: list[str] = []
        self._met = False
        self._refused = False

    # --- While the model speaks ---

    def admit(self, deltas: Sequence[Delta]) -> list[Delta]:
        """What of it may be told now; never a call that is not demanded."""
        told: list[Delta] = []
        for delta in deltas:
            if self._is_other(delta):
                continue
            self._note(delta)
            if self._met or (self._native and not self.narrowed):
                told += [*self._held, delta]
                self._held.clear()
            elif isinstance(delta, ReasoningDelta | SummaryDelta) and not self._held:
                told.append(delta)
            else:
                self._hold(delta)
        return told

    def _is_other(self, delta: Delta) -> bool:
        """Whether it belongs to a call that does not meet the demand."""
        if not isinstance(delta, CallDelta):
            return False
        if delta.key not in self._keys:
            self._keys[delta.key] = delta.name in self._names
            if delta.name not in self._names:
                self._others.append(delta.name or "")
        return not self._keys[delta.key]

    def _note(self, delta: Delta) -> None:
        if isinstance(delta, CallDelta) or (isinstance(delta, ItemDelta) and delta.type not in _SPEECH):
            self._met = True
        elif isinstance(delta, RefusalDelta):
            self._refused = self._refused or bool(delta.text)
        elif isinstance(delta, TextDelta):
            self._said.append(delta.text)

    def _hold(self, delta: Delta) -> None:
        self._held.append(delta)
        self._held_chars += len(words_of(delta))
        if self._held_chars > HELD_CHARS_MAX:
            text = f"The reply is longer than {HELD_CHARS_MAX} characters, without the call that 'tool_choice' demands."
            self.failed = ResponseError("server_error", text)

    # --- When it has spoken ---

    def done(self, reason: str) -> Verdict:
        """How the turn goes on after a model call that ended for ``reason`` (``Stop.reason``).

        After a ``Retry`` this takes the next attempt.  A refusal, and a reply that was cut, stand as they are.
        """
        if self.failed is not None:
            return Fail(self.failed)
        if self.narrowed and not (self._met or self._refused):
            return self._told_of(self.narrowed, cut=reason != WHOLE)
        if self._met or self._refused or reason != WHOLE:
            return Accept(self._held)
        return self._again(self._plea()) if self._attempts < self._retries else self._narrow(self._tools)

    def _narrow(self, tools: Sequence[Tool]) -> Retry:
        self.narrowed = tools
        return self._again(plea_for(tools))

    def _told_of(self, tools: Sequence[Tool], *, cut: bool) -> Verdict:
        """What comes of a reply that was only asked about these."""
        if len(tools) == 1:
            return self._call_of(tools[0], cut=cut)
        tool = chosen(tools, "".join(self._said))
        if tool is not None:
            return self._narrow([tool])
        return Accept([]) if cut else self._missed()

    def _call_of(self, tool: Tool, *, cut: bool) -> Verdict:
        """The call, of what the model says are its arguments."""
        text = "".join(self._said)
        if tool.type != "custom":
            text = unfenced(text) or text.strip()
        if not cut and tool.type != "custom" and not is_object(text):
            return self._missed()
        return Accept([CallDelta(0, None, tool.name, text, whole=not cut)])

    def _missed(self) -> Fail:
        text = f"The model did not call {self._wanted()} after {self._attempts + 1} attempts."
        return Fail(ResponseError("server_error", text))

    def _again(self, plea: str) -> Retry:
        messages = asked_again("".join(self._said), plea)
        self._attempts += 1
        self.begin()
        return Retry(messages, self.narrowed)

    def _wanted(self) -> str:
        names = sorted(f"'{name}'" for name in self._names)
        return " or ".join(names) if len(names) <= NAMES_TOLD_MAX else "any of its tools"

    def _plea(self) -> str:
        if self._others:
            return f"You may not call '{self._others[0]}' now. Call {self._wanted()}, and say nothing else."
        return f"Your reply must be a tool call, and there was none. Call {self._wanted()}, and say nothing else."


class Keeper:
    """One model turn of which something is promised: a call, or what binds the text and the calls."""

    def __init__(self, strictness: Strictness, forcing: Forcing | None) -> None:
        self._strictness = strictness
        self._forcing = forcing

    @property
    def failed(self) -> ResponseError | None:
        """Set once the reply is broken for good while it streams: the upstream's request is to be ended."""
        return self._strictness.failed or (self._forcing.failed if self._forcing is not None else None)

    def admit(self, deltas: Sequence[Delta]) -> list[Delta]:
        """What of it may be told now."""
        return self._strictness.admit(deltas if self._forcing is None else self._forcing.admit(deltas))

    async def done(self, reason: str) -> Verdict:
        """How the turn goes on after a model call that ended for ``reason``."""
        forcing, strictness = self._forcing, self._strictness
        if forcing is None or self.failed is not None:
            return Fail(self.failed) if self.failed is not None else await strictness.done(reason)
        verdict = forcing.done(reason)
        if not isinstance(verdict, Accept):
            strictness.begin()
            return verdict
        told = strictness.admit(verdict.deltas)
        kept = await strictness.done(reason)
        if isinstance(kept, Accept):
            return Accept([*told, *kept.deltas])
        forcing.begin()
        return Retry(kept.messages, forcing.narrowed) if isinstance(kept, Retry) else kept
