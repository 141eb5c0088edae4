"""Keeps what ``strict`` promises, between an upstream's deltas and the draft (design decision 14).

Where the upstream enforces a contract itself, what it says goes through and is checked on its way: the first piece
that cannot fit is not told any more.  Otherwise what the contract binds is held back, and everything behind it, until
the model call is over; then it is told, or the model is asked again with what was wrong.
Must not know what a contract is made of, or how a model call is made.
"""

import asyncio
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

import msgspec

from antiphon.engine.contracts import Checker, Contract, Contracts
from antiphon.engine.deltas import CallDelta, Delta, ReasoningDelta, RefusalDelta, SummaryDelta, TextDelta
from antiphon.engine.ports.upstreams import Capabilities, ContextItem
from antiphon.protocol.items import Item
from antiphon.protocol.responses import ResponseError
from antiphon.protocol.tools import Tool

#: How often a model is asked again for one reply.
RETRIES_MAX = 2
#: Characters that are held back, and of a bad attempt that the model is shown.
HELD_CHARS_MAX = 4 << 20
ATTEMPT_CHARS_MAX = 20_000
#: How upstreams say that a reply is whole; any other reason says that it was cut.
WHOLE = "stop"

_FENCE = "```"
encode = msgspec.json.encode


class Native(NamedTuple):
    """What the upstream enforces itself, for the model that is asked."""

    text: bool = False
    functions: bool = False
    inputs: bool = False
    #: The calls that ``tool_choice`` demands.
    calls: bool = False


def native_to(takes: Capabilities) -> Native:
    """What is left to the upstream, by what is known of the model."""
    return Native(takes.strict_text, takes.strict_functions, takes.strict_inputs, takes.forced_calls)


class Accept(NamedTuple):
    """The reply is right; ``deltas`` were held back and are to be told now, in this order."""

    deltas: list[Delta]


class Retry(NamedTuple):
    """The model is to be asked again, with ``messages`` behind the items that it saw (instead of an earlier Retry's).

    Nothing that was held back may be told.  ``narrowed``: all that is asked for is which of these tools is
    called, or of one the arguments of its call.
    """

    messages: list[ContextItem]
    narrowed: Sequence[Tool] = ()


class Fail(NamedTuple):
    """The reply is broken for good: the response fails with this error."""

    error: ResponseError


Verdict: TypeAlias = Accept | Retry | Fail


class _Said:
    """One text or call of the reply that a contract binds."""

    def __init__(self, contract: Contract, call: str | None, *, native: bool) -> None:
        self.contract = contract
        #: The tool's name; None for text.
        self.call = call
        self.native = native
        self.pieces: list[str] = []
        self.checker: Checker | None = contract.checker() if native else None
        #: What is told instead of the pieces.
        self.mended: str | None = None
        self.left_out = False

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def subject(self) -> str:
        return "The text" if self.call is None else f"The call of '{self.call}'"

    def feed(self, piece: str) -> bool:
        """Takes a piece; False: it cannot fit any more."""
        self.pieces.append(piece)
        return self.checker is None or self.checker.feed(piece)

    def may_go_on(self) -> bool:
        """Whether it fits as far as it goes."""
        return self.checker is not None or self.contract.checker().feed(self.text)


class _Held(NamedTuple):
    delta: Delta
    said: _Said | None


class Strictness:
    """One model turn of a run, with its retries.

    ``admit`` stands between the upstream's deltas and ``Draft.apply``; ``failed`` is looked at behind it.
    When the model call is over, ``done`` tells how it goes on.
    """

    def __init__(self, contracts: Contracts, native: Native = Native(), retries_max: int = RETRIES_MAX) -> None:  # noqa: B008 - a tuple
        self._contracts = contracts
        self._native = native
        self._retries = retries_max
        self._attempts = 0
        #: Set once the reply is broken for good while it streams: the upstream's request is to be ended.
        self.failed: ResponseError | None = None
        self.begin()

    def begin(self) -> None:
        """Another attempt."""
        self._said: list[_Said] = []
        self._text: _Said | None = None
        self._calls: dict[int, _Said | None] = {}
        self._held: list[_Held] = []
        self._held_chars = 0
        self._refused = False
        self._spoke = False

    # --- While the model speaks ---

    def admit(self, deltas: Sequence[Delta]) -> list[Delta]:
        """What of it may be told now."""
        told: list[Delta] = []
        for delta in deltas:
            if self.failed is not None:
                break
            said = self._bound(delta)
            piece = words_of(delta)
            if said is not None and not said.feed(piece):
                self._break(said)
            elif self._held or (said is not None and not said.native):
                self._hold(delta, said, len(piece))
            else:
                told.append(delta)
        return told

    def _bound(self, delta: Delta) -> _Said | None:
        """The text or call that a delta belongs to, if a contract binds it."""
        if isinstance(delta, TextDelta):
            return self._bound_text(delta)
        if isinstance(delta, CallDelta):
            return self._bound_call(delta)
        if isinstance(delta, RefusalDelta):
            self._refused = self._refused or bool(delta.text)
        if words_of(delta):
            self._text = None  # what comes behind it is another item
        return None

    def _bound_text(self, delta: TextDelta) -> _Said | None:
        if self._contracts.text is None or not delta.text:
            return self._text
        self._spoke = True
        if self._text is None:
            self._text = self._new(self._contracts.text, None, native=self._native.text)
        return self._text

    def _bound_call(self, delta: CallDelta) -> _Said | None:
        if delta.key not in self._calls:
            name = delta.name or ""
            function, form = self._contracts.functions.get(name), self._contracts.inputs.get(name)
            said = None
            if function is not None:
                said = self._new(function, name, native=self._native.functions)
            elif form is not None:
                said = self._new(form, name, native=self._native.inputs)
            self._calls[delta.key] = said
            self._text = None
        return self._calls[delta.key]

    def _new(self, contract: Contract, call: str | None, *, native: bool) -> _Said:
        said = _Said(contract, call, native=native)
        self._said.append(said)
        return said

    def _hold(self, delta: Delta, said: _Said | None, chars: int) -> None:
        self._held.append(_Held(delta, said))
        self._held_chars += chars
        if self._held_chars > HELD_CHARS_MAX:
            text = f"The reply is longer than the {HELD_CHARS_MAX} characters that can be held back to be validated."
            self.failed = ResponseError("server_error", text)

    def _break(self, said: _Said) -> None:
        reason = said.checker.reason if said.checker is not None else None
        self.failed = _broken(said, [reason or "The text ends too early."])

    # --- When it has spoken ---

    async def done(self, reason: str) -> Verdict:
        """How the turn goes on after a model call that ended for ``reason`` (``Stop.reason``).

        After a ``Retry`` this takes the next attempt.
        """
        if self.failed is not None:
            return Fail(self.failed)
        wrong = await self._wrong(cut=reason != WHOLE)
        for said, errors in wrong:
            if said.native:
                return Fail(_broken(said, errors))
        if not wrong:
            return Accept(list(self._released()))
        if self._attempts == self._retries:
            said, errors = wrong[0]
            return Fail(_broken(said, errors, self._attempts + 1))
        self._attempts += 1
        messages = _messages(self._said, wrong)
        self.begin()
        return Retry(messages)

    async def _wrong(self, *, cut: bool) -> list[tuple[_Said, list[str]]]:
        """What breaks its contract, each with its errors."""
        if self._says_nothing() and not cut:
            assert self._contracts.text is not None
            said = self._new(self._contracts.text, None, native=self._native.text)
            return [(said, ["There is no text."])]
        wrong = []
        for said in self._said:
            if said.call is None and self._is_exempt(said):
                continue
            if cut and self._may_be_cut(said) and said.may_go_on():
                continue
            errors = await self._errors(said)
            if errors and said.call is None and self._calls and not said.native:
                said.left_out = True  # words before a call are no answer, and the call must not be lost for them
            elif errors:
                wrong.append((said, errors))
        return wrong

    def _may_be_cut(self, said: _Said) -> bool:
        """What was said last, and calls, whose pieces may have come interleaved (reference 5.4)."""
        return said.call is not None or said is self._said[-1]

    def _says_nothing(self) -> bool:
        """Whether the text that was promised is not there, nor anything that takes its place."""
        return self._contracts.text is not None and not (self._spoke or self._calls or self._refused)

    def _is_exempt(self, said: _Said) -> bool:
        return self._refused or (bool(self._calls) and not said.text.strip())

    async def _errors(self, said: _Said) -> list[str]:
        text = said.text
        if said.checker is not None and text:
            return [] if said.checker.complete else ["The text ends too early."]
        if not text and said.call in self._contracts.functions:
            text = "{}"  # what a call without arguments is told as
        errors = await asyncio.to_thread(said.contract.errors, text)
        if errors and said.call is None:
            inside = unfenced(text)
            if inside is not None and not await asyncio.to_thread(said.contract.errors, inside):
                said.mended = inside
                return []
        return errors

    def _released(self) -> Iterator[Delta]:
        told: set[int] = set()
        for delta, said in self._held:
            if said is None or (said.mended is None and not said.left_out):
                yield delta
            elif said.mended is not None and id(said) not in told:
                told.add(id(said))
                yield TextDelta(said.mended)


def unfenced(text: str) -> str | None:
    """What stands inside a fence of Markdown, which many models put around JSON."""
    whole = text.strip()
    head, line, rest = whole.partition("\n")
    language = head.removeprefix(_FENCE).strip()
    fenced = head.startswith(_FENCE) and rest.endswith(_FENCE) and (not language or language.isalpha())
    return rest.removesuffix(_FENCE).strip() if line and fenced else None


def _broken(said: _Said, errors: Sequence[str], attempts: int = 1) -> ResponseError:
    tried = f" after {attempts} attempts" if attempts > 1 else ""
    return ResponseError(
        "server_error", f"{said.subject} does not match the {said.contract.name}{tried}: {' '.join(errors)}"
    )


def instructions(contracts: Contracts, native: Native) -> str | None:
    """What a model must be told whose side does not enforce the contracts; None: nothing.

    What binds calls is not in it: the declarations of the tools carry it.
    """
    if contracts.text is None or native.text:
        return None
    return (
        f"Your reply must be JSON that matches this {contracts.text.name}, and nothing else:\n"
        f"{contracts.text.definition}"
    )


def _messages(all_said: Sequence[_Said], wrong: Sequence[tuple[_Said, list[str]]]) -> list[ContextItem]:
    """What the model said, and what was wrong with it.

    Calls are shown as text: histories with arguments that are no JSON are refused by many upstreams.
    """
    shown = [_shown(said) for said in all_said]
    attempt = "\n\n".join(text for text in shown if text)
    pleas = [_plea(said, errors) for said, errors in wrong]
    return asked_again(attempt, "\n\n".join(pleas))


def asked_again(attempt: str, plea: str) -> list[ContextItem]:
    """What the model said, and what it is asked for instead, as messages."""
    text = attempt[:ATTEMPT_CHARS_MAX] or "-"
    reply = Item(role="assistant", content=msgspec.Raw(encode([{"type": "output_text", "text": text}])))
    asked = Item(role="user", content=msgspec.Raw(encode([{"type": "input_text", "text": plea}])))
    return [ContextItem(reply, b""), ContextItem(asked, b"")]


def _shown(said: _Said) -> str:
    return said.text if said.call is None else f"{said.call}({said.text})"


def _plea(said: _Said, errors: Sequence[str]) -> str:
    listed = "\n".join(f"- {error}" for error in errors)
    if said.call is None:
        again = f"Reply again, with nothing but what matches the {said.contract.name}."
        return f"Your reply does not match the {said.contract.name}:\n{listed}\n{again}"
    again = "Make the call again, and every other call of that reply; say nothing else."
    return (
        f"Your call of '{said.call}' was not made, since it does not match the {said.contract.name}:\n{listed}\n{again}"
    )


def words_of(delta: Delta) -> str:
    """What of it is said."""
    if isinstance(delta, CallDelta):
        return delta.arguments
    return delta.text if isinstance(delta, TextDelta | RefusalDelta | ReasoningDelta | SummaryDelta) else ""
