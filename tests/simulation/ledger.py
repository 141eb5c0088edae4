"""What really happened, noted where it happened: in the database, at the tools, at the readers.

Every note checks what can be checked at once and raises ``Violation``; ``checks`` looks at the whole afterwards.
Must not know how the server works, only what it promises (docs/log.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
from tests.simulation.loop import Process

from antiphon.engine.ports.stores import Batch, Claim, Record, RunName
from antiphon.engine.ports.tools import ToolCall, ToolResult
from antiphon.protocol.events import TERMINAL_TYPES, Event


class Violation(Exception):
    """A promise was broken."""


class Taken(NamedTuple):
    """A claim that the database granted, and to whom."""

    claim: Claim
    process: Process


@dataclass
class Attempt:
    """What one model call said, word by word."""

    tag: str
    number: int
    turn: int
    #: Of the open message that it was to go on with, None where there was none.
    went_on: str | None
    words: int = 0
    #: A hosted call that it asked for was begun.
    called: bool = False
    begins_with_text: bool = False
    whole: bool = False


@dataclass
class Called:
    """A hosted call, as the tool saw it."""

    name: str
    tag: str
    index: int
    starts: int = 0
    #: What the tool answered last; None: it never came to an answer.
    told: list[str] = field(default_factory=list)


@dataclass
class Truth:
    """One background run."""

    name: RunName
    tag: str
    first: Process
    owner: Process
    fence: int = 1
    #: The durable events, and when each was noted.
    events: list[bytes] = field(default_factory=list)
    moments: list[int] = field(default_factory=list)
    #: The highest number that anybody read from the database.
    seen: int = -1
    ended: bool = False
    deleted: bool = False
    claims: list[Taken] = field(default_factory=list)
    claimed_at: int = 0
    handed_back_at: int | None = None
    intents: dict[str, ToolCall] = field(default_factory=dict)
    results: dict[str, ToolResult] = field(default_factory=dict)
    result_moments: dict[str, int] = field(default_factory=dict)
    #: How many model calls were made under which fence of the run.
    model_calls: int = 0
    asked_since_claim: bool = False
    #: Somebody was told that it is cancelled; somebody asked for it at all.
    cancelled: bool = False
    asked_to_cancel: bool = False
    #: What receivers of webhooks have heard: the ids of events and the statuses in them.
    told: set[tuple[str, str]] = field(default_factory=set)

    @property
    def durable(self) -> int:
        return max(len(self.events) - 1, self.seen)

    def alone(self, process: Process) -> bool:
        """Whether the process owns the run and has taken it only once, so that nothing older of it is at work there."""
        owners = [self.first, *(taken.process for taken in self.claims)]
        return owners[-1] is process and owners.count(process) == 1

    @property
    def given_up(self) -> bool:
        """Whether so many owners got nowhere that the run is to fail (I10)."""
        return any(taken.claim.attempt > TAKEOVERS_MAX for taken in self.claims)


TAKEOVERS_MAX = 3


class Ledger:
    """Everything that is known of all runs."""

    def __init__(self, fail: Callable[[Exception], None]) -> None:
        self._fail = fail
        self.runs: dict[RunName, Truth] = {}
        self.by_tag: dict[str, list[Truth]] = {}
        self.calls: dict[str, Called] = {}
        #: Calls with effects that were made, by what the model meant: (tag, number of the call).
        self.effects: dict[tuple[str, int], int] = {}
        #: The last model call that a process made for a scenario.
        self.latest: dict[tuple[str, Process], Attempt] = {}
        self.moment = 0
        #: The operator has interrupted calls made again.
        self.repeats = False
        #: What there was in this seed; see ``test_simulation``.
        self.saw: Counter[str] = Counter()

    def violation(self, text: str) -> Violation:
        """Ends the simulation, whoever catches what is raised."""
        error = Violation(text)
        self._fail(error)
        return error

    def now(self) -> int:
        """Moments order what happens; each is another."""
        self.moment += 1
        return self.moment

    # --- The database ---

    def begun(self, record: Record, process: Process) -> None:
        name = RunName(record.project, record.shell.id)
        truth = Truth(name, tag_of(item.body for item in record.input), process, process)
        self.runs[name] = truth
        self.by_tag.setdefault(truth.tag, []).append(truth)

    def appended(self, batches: Sequence[Batch], granted: Sequence[bool], started: int) -> None:
        if len(granted) != len(batches):
            raise self.violation("append answers another number of batches")
        for batch, yes in zip(batches, granted, strict=True):
            if yes:
                self._grown(batch, started)
            else:
                self.saw["an append that was refused"] += 1

    def _grown(self, batch: Batch, started: int) -> None:
        truth = self.runs[RunName(batch.project, batch.response)]
        self._check_owner(truth, batch.fence, started, "append")
        for event in batch.events:
            if event.number < len(truth.events):
                if truth.events[event.number] != event.data:
                    raise self.violation(f"I1: event {event.number} of {truth.tag} was written twice, differently")
                self.saw["an event that was written again"] += 1
                continue
            if event.number > len(truth.events):
                raise self.violation(f"I1: event {event.number} of {truth.tag} follows {len(truth.events) - 1}")
            if truth.ended:
                raise self.violation(f"I6: event {event.number} of {truth.tag} was written after the end")
            truth.events.append(event.data)
            truth.moments.append(self.now())

    def _check_owner(self, truth: Truth, fence: int, started: int, what: str) -> None:
        """A write that began after a claim was granted must carry the claim's fence (I2)."""
        if truth.claimed_at < started and fence != truth.fence:
            raise self.violation(
                f"I2: {what} of {truth.tag} with fence {fence} was accepted, the run's is {truth.fence}"
            )

    def finished(self, record: Record, fence: int, batches: Sequence[Batch], *, yes: bool, started: int) -> None:
        if not yes:
            self.saw["an end that was refused"] += 1
            return
        truth = self.runs[RunName(record.project, record.shell.id)]
        self._check_owner(truth, fence, started, "finish")
        again = truth.ended
        self.saw["an end that was written again" if again else f"a run that {record.outcome.status}"] += 1
        if again:
            return
        for batch in batches:
            self._grown(batch, started)
        if not (batches and batches[-1].events[-1].type in TERMINAL_TYPES):
            raise self.violation(f"I6: {truth.tag} ended without a terminal event")
        truth.ended = True

    def claimed(self, name: RunName, claim: Claim | None, process: Process, started: int) -> None:
        if claim is None:
            self.saw["a claim of nothing"] += 1
            return
        truth = self.runs[name]
        if claim.fence <= truth.fence:
            raise self.violation(f"I2: the fence of {truth.tag} went from {truth.fence} to {claim.fence}")
        self._check_attempt(truth, claim, started)
        self.saw[f"takeover {min(claim.attempt, TAKEOVERS_MAX + 1)} since the log grew"] += 1
        truth.handed_back_at = None
        truth.fence = claim.fence
        truth.owner = process
        truth.claims.append(Taken(claim, process))
        truth.claimed_at = self.now()
        truth.asked_since_claim = False

    def _check_attempt(self, truth: Truth, claim: Claim, started: int) -> None:
        """Takeovers since the log last grew (I10)."""
        last = truth.claims[-1].claim if truth.claims else Claim(0, -1, 0)
        expected = 1 if claim.last > last.last else last.attempt + 1
        if truth.handed_back_at is not None:
            if started < truth.handed_back_at:
                return  # both at once
            expected = 0
        if claim.attempt != expected:
            raise self.violation(f"I10: takeover {expected} of {truth.tag} counts as {claim.attempt}")

    def returned(self, runs: Sequence[tuple[RunName, int]]) -> None:
        for name, fence in runs:
            truth = self.runs.get(name)
            if truth is not None and truth.fence == fence and not truth.ended:
                truth.handed_back_at = self.now()

    def intended(self, name: RunName, fence: int, call: ToolCall, process: Process, started: int) -> None:
        truth = self.runs[name]
        self._check_owner(truth, fence, started, "journal_begin")
        if truth.alone(process):
            self.latest[truth.tag, process].called = True
        truth.intents[call.item_id] = call

    def completed(self, name: RunName, fence: int, call: ToolCall, result: ToolResult, started: int) -> None:
        truth = self.runs[name]
        self._check_owner(truth, fence, started, "journal_complete")
        truth.results[call.item_id] = result
        truth.result_moments[call.item_id] = self.now()

    def read(self, name: RunName, events: Sequence[Event]) -> None:
        truth = self.runs.get(name)
        if truth is not None and events:
            truth.seen = max(truth.seen, events[-1].number)

    def deleted(self, name: RunName, *, yes: bool) -> None:
        truth = self.runs.get(name)
        if truth is not None and yes:
            truth.deleted = True

    def told(self, name: RunName, id: str, status: str) -> None:
        """A receiver hears of the end of a run, perhaps not for the first time."""
        truth = self.runs[name]
        if not truth.ended:
            raise self.violation(f"webhooks: {truth.tag} is told as {status}, but has not ended")
        self.saw["an event that was told again" if truth.told else "an event that was told"] += 1
        truth.told.add((id, status))

    # --- The tools ---

    def call_started(self, call: ToolCall, process: Process, *, read_only: bool) -> Called:
        """A tool begins to work.

        An owner that does not know yet that it is none any more may repeat what is read-only, like anybody else.
        """
        meant = msgspec.json.decode(call.arguments, type=dict[str, str | int])
        tag, index = str(meant["tag"]), int(meant["call"])
        owners = [truth for truth in self.by_tag.get(tag, ()) if call.item_id in truth.intents]
        if not owners:
            raise self.violation(f"I8: call {index} of {tag} was made before its intent was durable")
        if call.item_id in owners[0].results and owners[0].alone(process):
            raise self.violation(f"I8: call {index} of {tag} was made although its result was durable")
        called = self.calls.setdefault(call.item_id, Called(call.name, tag, index))
        called.starts += 1
        if called.starts > 1:
            self.saw["a call that was made again"] += 1
        if not read_only:
            made = self.effects[tag, index] = self.effects.get((tag, index), 0) + 1
            if made > 1 and not self.repeats:
                raise self.violation(f"I8: call {index} of {tag}, which has effects, was made {made} times")
        return called

    # --- Readers ---

    def pushed(self, name: RunName, events: Sequence[Event]) -> None:
        """Events leave the process (I5)."""
        truth = self.runs[name]
        if events and events[-1].number > truth.durable:
            number = events[-1].number
            raise self.violation(
                f"I5: event {number} of {truth.tag} left before its commit, durable is {truth.durable}"
            )


def tag_of(bodies: object) -> str:
    """The name of the scenario, which stands in the last message of the client."""
    tag = ""
    for body in bodies:  # type: ignore[attr-defined]
        start = body.find(b"[tag:")
        if start >= 0:
            tag = body[start + 5 : body.index(b"]", start)].decode()
    return tag
