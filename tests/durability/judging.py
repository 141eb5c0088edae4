"""What must hold of a run, whatever happened to the server: nothing lost, nothing doubled (docs/log.md, I1 to I9).

Knows runs as their followers saw them and the ledger of their servers; knows no process.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from tests.durability.following import Followed, count_of
from tests.durability.plans import ASK, LOOKUP, PAY, Answer, Json, spoken, words

HOSTED = {"antiphon:scripted_call": LOOKUP, "antiphon:effect_call": PAY}
#: Takeovers without a new event that a run lives through (I10).
TAKEOVERS_MAX = 3
INTERRUPTED = "interrupted"


class Verdict(NamedTuple):
    """Counts over all runs, and a sentence for each thing that is wrong."""

    lost: int
    doubled: int
    problems: list[str]

    def __str__(self) -> str:
        return "\n".join([f"lost {self.lost}, doubled {self.doubled}", *self.problems])

    def clean(self) -> bool:
        return not (self.lost or self.doubled or self.problems)


class Problems(list[Json]):
    """What is wrong with one run."""

    def __init__(self, name: str, found: Iterable[Json]) -> None:
        super().__init__(found)
        self._name = name

    def add(self, kind: str, text: str) -> None:
        self.append({"kind": kind, "text": f"{self._name}: {text}"})

    def expect(self, holds: bool, text: str, kind: str = "wrong") -> None:
        if not holds:
            self.add(kind, text)


class Ledger:
    """What the servers have noted so far; it is read on from where it was read before."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self._lines: list[Json] = []

    @property
    def lines(self) -> list[Json]:
        with contextlib.suppress(FileNotFoundError), self._path.open("rb") as file:
            file.seek(self._read)
            new = file.read()
            new = new[: new.rfind(b"\n") + 1]
            self._read += len(new)
            self._lines += [msgspec.json.decode(line) for line in new.splitlines()]
        return self._lines

    def claims(self) -> list[Json]:
        return [line for line in self.lines if line["is"] == "claimed"]


def judge(runs: Sequence[Followed], ledger: Sequence[Json]) -> Verdict:
    """All runs; each has ended and was checked by Node."""
    by_tag: defaultdict[str, list[Json]] = defaultdict(list)
    tags = {run.id: run.name for run in runs}
    for line in ledger:
        tag = line.get("tag") or tags.get(line.get("run", ""))
        if tag is not None:
            by_tag[tag].append(line)
    problems = [problem for run in runs if run.acknowledged for problem in _judge_one(run, by_tag[run.name])]
    counts = count_of(problems)
    return Verdict(counts["lost"], counts["doubled"], [problem["text"] for problem in problems])


def _judge_one(run: Followed, ledger: Sequence[Json]) -> Problems:
    problems = Problems(run.name, run.problems)
    response = run.response
    if response is None:
        problems.add("lost", "it has no end")
        return problems
    status = response["status"]
    if run.cancelled is not None:
        problems.expect(status == run.cancelled == "cancelled", f"cancelled as {run.cancelled}, it is {status}")
    allowed = {"completed", "cancelled"} if run.cancel_asked else {"completed"}
    if run.how == "poll" and _given_up(ledger):
        allowed.add("failed")  # nobody could see whether it had grown before the next kill
    claims = [(line["last"], line["attempt"]) for line in ledger if line["is"] == "claimed"]
    problems.expect(status in allowed, f"it is {status}: {response.get('error')}, {run.how}, claims {claims}")
    whole = status == "completed"
    _judge_text(problems, run, response, whole=whole)
    _judge_calls(problems, run, response, ledger, whole=whole)
    return problems


def _given_up(ledger: Sequence[Json]) -> bool:
    """Whether the last takeover was one too many (I10)."""
    attempts = [line["attempt"] for line in ledger if line["is"] == "claimed"]
    return bool(attempts) and attempts[-1] > TAKEOVERS_MAX


def _messages(response: Json) -> list[str]:
    items = [item for item in response["output"] if item["type"] == "message"]
    return ["".join(part["text"] for part in item["content"]) for item in items]


def _judge_text(problems: Problems, run: Followed, response: Json, *, whole: bool) -> None:
    """As many messages as the model began, all words of all of them in order, each once."""
    for item in response["output"]:
        if item["type"] == "reasoning":
            thought = spoken("".join(part["text"] for part in item["content"]))
            problems.expect(not thought.faults, f"reasoning: {thought.faults}")
    messages = _messages(response)
    if any(isinstance(step, Answer) for step in run.plan.steps):
        _judge_answer(problems, run, messages, whole=whole)
        return
    text = spoken("".join(messages))
    for kind, fault in text.faults:
        problems.add(kind, fault)
    saying = run.plan.messages
    problems.expect(len(messages) <= saying, f"{len(messages)} messages instead of {saying}", "doubled")
    if whole and not text.faults:
        problems.expect(len(messages) == saying, f"{len(messages)} messages instead of {saying}", "lost")
        kind = "lost" if text.words < run.plan.words else "doubled"
        problems.expect(text.words == run.plan.words and not text.rest, f"{text.words} words, {text.rest!r}", kind)


def _judge_answer(problems: Problems, run: Followed, messages: Sequence[str], *, whole: bool) -> None:
    """Text that a schema binds comes from one attempt, whole or not at all (I9)."""
    if not whole:
        return
    awaited = next(step.words for step in run.plan.steps if isinstance(step, Answer))
    try:
        told: list[str] = json.loads("".join(messages))["words"]
    except ValueError:
        problems.add("wrong", f"its answer is no JSON: {messages}")
        return
    text = words(0, awaited, ord(told[0][-1]) - ord("a")).split()
    problems.expect(told == text, f"its answer is not one attempt's: {told}")


def _judge_calls(problems: Problems, run: Followed, response: Json, ledger: Sequence[Json], *, whole: bool) -> None:
    """Completed calls are never made again, calls with effects at most once (I8)."""
    items = {item["id"]: item for item in response["output"] if item["type"] in HOSTED}
    for tool in (LOOKUP, PAY):
        lines = [line for line in ledger if line.get("tool") == tool]
        made = Counter(line["call"] for line in lines if line["is"] == "called")
        mine = [item for item in items.values() if HOSTED[item["type"]] == tool]
        wanted = run.plan.calls(tool)
        problems.expect(len(mine) <= wanted, f"{len(mine)} items of {tool} instead of {wanted}", "doubled")
        if whole:
            problems.expect(len(mine) == wanted, f"{len(mine)} items of {tool} instead of {wanted}", "lost")
        if tool == PAY:
            for call, count in made.items():
                problems.expect(count == 1, f"the effect of call {call} happened {count} times", "doubled")
        _judge_order(problems, lines)
        for item in mine:
            _judge_item(problems, item, lines, tool)
    asked = [item for item in response["output"] if item["type"] == "function_call"]
    if whole:
        problems.expect(len(asked) == run.plan.calls(ASK), f"{len(asked)} calls of the client's function")
    for item in asked:
        problems.expect("attempt" in json.loads(item["arguments"]), f"half a call: {item}")


def _judge_order(problems: Problems, lines: Sequence[Json]) -> None:
    """Intent before the call, nothing after the result (I8)."""
    begun: set[str] = set()
    complete: set[str] = set()
    for line in lines:
        item = line["item"]
        if line["is"] == "journal_begin":
            begun.add(item)
        elif line["is"] == "journal_complete":
            begun.add(item)
            complete.add(item)
        elif line["is"] == "called":
            problems.expect(item in begun, f"{item} was called before its intent was durable")
            problems.expect(item not in complete, f"{item} was made again after its result was durable", "doubled")


def _judge_item(problems: Problems, item: Json, lines: Sequence[Json], tool: str) -> None:
    mine = [line["is"] for line in lines if line["item"] == item["id"]]
    if item["status"] == "completed":
        problems.expect("answered" in mine, f"{item['id']} is completed and was not made: {mine}", "lost")
        problems.expect("journal_complete" in mine, f"{item['id']} is completed and not in the journal: {mine}")
    elif item["status"] == "failed":
        said: Any = item.get("error") or ""
        problems.expect(tool == PAY and INTERRUPTED in said, f"{item['id']} failed: {said}")
