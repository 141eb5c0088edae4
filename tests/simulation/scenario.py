"""What a client asks for and what the model does about it, drawn by the seed; and the model itself.

The model's script is fixed (which calls, in which turn, how it ends), its words are new on every attempt: each word
occurs once in all the world, so that what a log says can be traced to the attempts that said it.
Must not know how the server works.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import msgspec
from tests.simulation.ledger import Attempt, Ledger

from antiphon.engine.deltas import CallDelta, Delta, ReasoningDelta, RefusalDelta, TextDelta
from antiphon.engine.ports.upstreams import Capabilities, Feed, ModelInfo, ModelRequest, Route, Stop, UpstreamError
from antiphon.protocol.items import text_of_raw
from antiphon.protocol.requests import CreateResponse
from antiphon.protocol.responses import Usage

MODELS = ("plain", "prefill")
LOOKUP, CHANGE, ASK = "lookup", "change", "ask"


@dataclass
class Turn:
    """One model turn; calls are (number, function)."""

    reasoning: int
    text: int
    calls: list[tuple[int, str]]
    asks: int = 0
    end: str = "stop"


@dataclass
class Scenario:
    """One request and its script."""

    tag: str
    model: str
    turns: list[Turn]
    bound: bool
    refusal: bool
    logprobs: bool
    streamed: bool
    stored: bool
    usage: bool
    chunk_seconds: float
    parallel: bool = True
    calls_max: int | None = None
    previous: str | None = None
    #: Texts that stand before it in the conversation: the model must see them.
    heard: list[str] = field(default_factory=list)

    @property
    def end(self) -> str:
        return self.turns[-1].end

    def body(self) -> bytes:
        """The request."""
        tools = [{"type": f"antiphon:{name}", "name": name} for name in (LOOKUP, CHANGE)]
        tools.append({"type": "function", "name": ASK, "parameters": {"type": "object", "properties": {}}})
        body: dict[str, Any] = {
            "model": self.model,
            "input": f"[tag:{self.tag}] Go.",
            "background": True,
            "stream": self.streamed,
            "store": self.stored,
            "tools": tools,
            "parallel_tool_calls": self.parallel,
        }
        if self.calls_max is not None:
            body["max_tool_calls"] = self.calls_max
        if self.bound:
            schema = {"type": "object", "properties": {"words": {"type": "string"}}, "required": ["words"]}
            form = {"type": "json_schema", "name": "words", "schema": {**schema, "additionalProperties": False}}
            body["text"] = {"format": form}
        if self.previous is not None:
            body["previous_response_id"] = self.previous
        return json.dumps(body).encode()


def draw(random: Random, tag: str) -> Scenario:
    """A request of up to four turns."""
    turns = []
    number = 0
    for _ in range(random.choice((0, 0, 1, 1, 2, 3))):
        count = random.choice((1, 1, 2, 3))
        calls = [(number + place, random.choice((LOOKUP, CHANGE))) for place in range(count)]
        number += count
        turns.append(_turn(random, calls))
    last = _turn(random, [])
    last.end = random.choice(("stop",) * 9 + ("length", "content_filter", "failure"))
    if last.end == "stop" and random.random() < 0.15:
        last.asks = random.choice((1, 1, 2))
        if random.random() < 0.3:
            last.calls = [(number, random.choice((LOOKUP, CHANGE)))]
    if not last.asks and not last.text:
        last.text = 1
    turns.append(last)
    return Scenario(
        tag=tag,
        model=random.choice(MODELS),
        turns=turns,
        bound=random.random() < 0.15,
        refusal=random.random() < 0.05,
        logprobs=random.random() < 0.1,
        streamed=random.random() < 0.7,
        stored=random.random() < 0.9,
        usage=random.random() < 0.7,
        chunk_seconds=random.choice((0.0, 0.01, 0.03, 0.1, 0.3)),
        parallel=random.random() < 0.85,
        calls_max=random.choice((None,) * 8 + (1, 2)),
    )


def _turn(random: Random, calls: list[tuple[int, str]]) -> Turn:
    reasoning = random.choice((0, 0, 1, 3))
    text = random.choice((0, 1, 3, 8, 8, 20)) if random.random() < 0.95 else 80
    return Turn(reasoning, text, calls)


class SimulatedModel:
    """``engine.ports.upstreams.Upstream`` and ``Models`` of one node."""

    def __init__(self, random: Random, ledger: Ledger, scenarios: dict[str, Scenario], stage: Any) -> None:
        self._random = random
        self._ledger = ledger
        self._scenarios = scenarios
        self._stage = stage

    # --- Models ---

    async def route(self, name: str) -> Route:
        return Route(self, name, ModelInfo(name, 0, "simulation"))

    async def all(self) -> list[ModelInfo]:
        return await self.models()

    # --- Upstream ---

    async def models(self) -> list[ModelInfo]:
        return [ModelInfo(name, 0, "simulation") for name in MODELS]

    def capabilities(self, model: str) -> Capabilities:
        return Capabilities(prefill=model == "prefill")

    def unheeded(self, request: CreateResponse, model: str) -> list[str]:
        return []

    async def close(self) -> None:
        """Nothing is open."""

    async def run(self, request: ModelRequest, feed: Feed) -> Stop:
        """Plays the turn that the request's items call for."""
        scenario = self._scenarios[_tag(request)]
        answered = _answered(request)
        number = next(
            (
                place
                for place, turn in enumerate(scenario.turns)
                if any(call not in answered for call, _ in turn.calls) or place == len(scenario.turns) - 1
            )
        )
        turn = scenario.turns[number]
        calls = [call for call in turn.calls if call[0] not in answered]
        attempt = self._stage.asked(scenario, number, request)
        flow = asyncio.Event()
        flow.set()
        feed.on_pressure(flow.clear, flow.set)
        for deltas in self._script(scenario, turn, calls, attempt, going_on=attempt.went_on is not None):
            await self._pause(scenario)
            await flow.wait()
            feed(deltas)
        await self._pause(scenario)
        if turn.end == "failure" and not calls:
            raise UpstreamError("The simulated model fails.", status=500, code="simulated")
        attempt.whole = True
        usage = Usage(7, output_tokens=5, total_tokens=12) if scenario.usage else None
        return Stop("stop" if turn.end == "failure" else turn.end, usage)

    async def _pause(self, scenario: Scenario) -> None:
        dice = self._random.random()
        if dice < 0.02:
            await asyncio.sleep(1.0 * self._random.random())
        elif dice < 0.8:
            await asyncio.sleep(scenario.chunk_seconds * self._random.random())

    def _script(
        self, scenario: Scenario, turn: Turn, calls: Sequence[tuple[int, str]], attempt: Attempt, *, going_on: bool
    ) -> list[list[Delta]]:
        """Everything that is said, in reads of one to three deltas."""
        said: list[Delta] = []
        if not going_on or (self._random.random() < 0.2 and scenario.model == "plain"):
            said += [ReasoningDelta(self._word(attempt)) for _ in range(turn.reasoning)]
        texts = self._texts(scenario, turn, attempt)
        attempt.begins_with_text = bool(texts) and not said
        said += texts
        said += self._calls(scenario, calls, turn.asks)
        reads: list[list[Delta]] = [[]] if self._random.random() < 0.5 else []
        while said:
            count = self._random.choice((1, 1, 2, 3))
            reads.append(said[:count])
            said = said[count:]
        return reads

    def _word(self, attempt: Attempt) -> str:
        attempt.words += 1
        return f"{attempt.number}.{attempt.words} "

    def _texts(self, scenario: Scenario, turn: Turn, attempt: Attempt) -> list[Delta]:
        words = [self._word(attempt) for _ in range(turn.text)]
        if scenario.bound and words:
            words[0] = '{"words":"' + words[0]
            words[-1] += '"}'
        if scenario.refusal:
            return [RefusalDelta(word) for word in words]
        return [TextDelta(word, _logprobs(word) if scenario.logprobs else None) for word in words]

    def _calls(self, scenario: Scenario, calls: Sequence[tuple[int, str]], asks: int) -> list[Delta]:
        """Calls whose pieces come one after another, or mixed."""
        pieces: list[list[Delta]] = []
        meant = [(name, {"tag": scenario.tag, "call": call}) for call, name in calls]
        meant += [(ASK, {"tag": scenario.tag, "ask": ask}) for ask in range(asks)]
        for key, (name, arguments) in enumerate(meant):
            text = json.dumps(arguments)
            middle = self._random.randrange(len(text))
            first = CallDelta(key, f"call_{scenario.tag}_{key}_{self._random.randrange(10**6)}", name, text[:middle])
            pieces.append([first, CallDelta(key, None, None, text[middle:])])
        if self._random.random() < 0.5:
            return [delta for call in pieces for delta in call]
        return [call[place] for place in (0, 1) for call in pieces]


def _logprobs(word: str) -> bytes:
    return msgspec.json.encode([{"token": word, "logprob": -0.5, "bytes": list(word.encode()), "top_logprobs": []}])


def _tag(request: ModelRequest) -> str:
    for item in reversed(request.items):
        if item.view.kind == "message" and item.view.role == "user":
            text = text_of(item.view.content)
            if "[tag:" in text:
                return text[text.index("[tag:") + 5 : text.index("]")]
    raise AssertionError("a model request without the client's message")


def _answered(request: ModelRequest) -> set[int]:
    """The numbers of the hosted calls of this scenario that the model sees."""
    tag = _tag(request)
    return {call for _, told, call in exchanges(request) if told == tag}


def exchanges(request: ModelRequest) -> list[tuple[str, str, int]]:
    """Hosted calls among the items, as (id, tag, number)."""
    found = []
    for item in request.items:
        if item.view.kind == "function_call" and item.view.name in (LOOKUP, CHANGE):
            arguments = json.loads(item.view.arguments or "{}")
            found.append((item.view.call_id or "", arguments["tag"], arguments["call"]))
    return found


def text_of(raw: msgspec.Raw) -> str:
    """The text of a message's content."""
    content = text_of_raw(raw)
    return content if isinstance(content, str) else "".join(part.text or part.refusal or "" for part in content)
