"""A chat-completions server that says what plans tell, slowly, in many pieces and differently on each attempt.

Run as ``python -m tests.durability.model_server``; its first line on standard output is its URL.  It reads in the
messages how far a reply is and goes on there, as a model does, handed its own half reply or asked to go on.  Under
`/control` a test asks what happened and opens gates.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import msgspec
from aiohttp import web
from tests.durability.plans import (
    LETTERS,
    Answer,
    Call,
    Gate,
    Json,
    Plan,
    Say,
    Step,
    Think,
    finish_word,
    read_plan,
    spoken,
    words,
)

HOLD_SECONDS = 120
#: The longest piece of a text.
PIECE_CHARS = 9


@dataclass
class State:
    """How far a reply is, as the messages tell it."""

    plan: Plan
    calls: int
    said: int
    rest: str
    #: What is wrong with the conversation that the model was shown.
    faults: list[str]


def read_state(messages: list[Json]) -> State:
    """Raises ValueError where there is no plan."""
    plans = [(place, plan) for place, message in enumerate(messages) if (plan := _plan_of(message)) is not None]
    if not plans:
        raise ValueError("no plan")
    place, plan = plans[-1]
    after = messages[place + 1 :]
    replies = [message["content"] or "" for message in after if message["role"] == "assistant"]
    text = spoken("".join(replies))
    # A bound answer is shown whole or not at all, which its reader judges.
    bound = any(isinstance(step, Answer) for step in plan.steps)
    faults = [f"{plan.tag}: the model is shown: {fault}" for _, fault in text.faults if not bound]
    results = [message for message in after if message["role"] == "tool"]
    faults += [f"{plan.tag}: a tool's result is empty" for message in results if not message["content"]]
    for place, earlier in plans[:-1]:
        answer = messages[place + 1]
        told = spoken(answer["content"] or "") if answer["role"] == "assistant" else None
        if told is None or told.faults or told.words != earlier.words:
            faults.append(f"{plan.tag}: of {earlier.tag} the model is shown {answer}")
    return State(plan, len(results), text.words, text.rest, faults)


def _plan_of(message: Json) -> Plan | None:
    content = message["content"]
    return read_plan(content) if message["role"] == "user" and isinstance(content, str) else None


class ModelServer:
    """The routes and what was asked."""

    def __init__(self) -> None:
        self.attempts: Counter[str] = Counter()
        self.faults: list[str] = []
        self._news = asyncio.Condition()
        self._gates: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.app = web.Application(client_max_size=16 << 20)
        self.app.add_routes(
            [
                web.get("/v1/models", self.models),
                web.post("/v1/chat/completions", self.complete),
                web.get("/control/faults", self.told_faults),
                web.get("/control/attempts/{tag}/{count}", self.await_attempts),
                web.post("/control/gates/{name}/open", self.open_gate),
            ]
        )

    async def models(self, request: web.Request) -> web.Response:
        data = [{"id": name, "object": "model", "created": 1, "owned_by": "tests"} for name in ("words", "prefilled")]
        return web.json_response({"object": "list", "data": data})

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """A reply.  Whoever asked may be killed while he reads it; whatever else goes wrong here is a fault."""
        try:
            return await self._complete(request)
        except ConnectionError:
            return web.Response()
        except Exception as error:
            self.faults.append(f"the model failed: {error!r}")
            raise

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        state = read_state(asked["messages"])
        self.faults += state.faults if asked["stream"] else [f"{state.plan.tag}: it was asked for a whole reply"]
        attempt = self.attempts[state.plan.tag]
        self.attempts[state.plan.tag] += 1
        async with self._news:
            self._news.notify_all()
        reply = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await reply.prepare(request)
        if attempt < state.plan.silent:
            await asyncio.sleep(HOLD_SECONDS)  # ends with the reader
        async for delta in self._deltas(state, attempt):
            await _send(reply, {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
            await asyncio.sleep(state.plan.pace_ms / 1000)
        await _send(reply, {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        usage = {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20}
        await _send(reply, {"choices": [], "usage": usage})
        await reply.write(b"data: [DONE]\n\n")
        return reply

    async def _deltas(self, state: State, attempt: int) -> AsyncIterator[Json]:
        """What is still to be said until the next call or the end."""
        rng = random.Random(f"{state.plan.tag} {attempt}")
        steps, upto = _due(state.plan, state.calls)
        for step in steps:
            if isinstance(step, Gate):
                await asyncio.wait_for(self._gates[step.name].wait(), HOLD_SECONDS)
            elif isinstance(step, Call):
                for delta in _call(step, state, attempt):
                    yield delta
            elif isinstance(step, Say):
                before, upto = upto, upto + step.words
                for piece in _pieces(_rest_of(state, before, upto, attempt), rng):
                    yield {"content": piece}
            elif isinstance(step, Think):
                text = words(0, step.words, attempt) if state.said <= upto and not state.rest else ""
                for piece in _pieces(text, rng):
                    yield {"reasoning_content": piece}
            else:
                told = {"words": words(0, step.words, attempt).split()}
                for piece in _pieces(json.dumps(told), rng):
                    yield {"content": piece}

    async def told_faults(self, request: web.Request) -> web.Response:
        return web.json_response(self.faults)

    async def await_attempts(self, request: web.Request) -> web.Response:
        """Answers once there have been so many model calls of a run."""
        tag, count = request.match_info["tag"], int(request.match_info["count"])
        async with asyncio.timeout(HOLD_SECONDS), self._news:
            await self._news.wait_for(lambda: self.attempts[tag] >= count)
        return web.json_response({})

    async def open_gate(self, request: web.Request) -> web.Response:
        self._gates[request.match_info["name"]].set()
        return web.json_response({})


def _due(plan: Plan, calls: int) -> tuple[list[Step], int]:
    """The steps behind the last of so many calls, up to the next one; and how many words were due before them."""
    ends = [place + 1 for place, step in enumerate(plan.steps) if isinstance(step, Call)]
    first = ends[calls - 1] if calls else 0
    upto = ends[calls] if calls < len(ends) else len(plan.steps)
    return plan.steps[first:upto], sum(step.words for step in plan.steps[:first] if isinstance(step, Say))


def _rest_of(state: State, first: int, upto: int, attempt: int) -> str:
    """The words from `first` up to `upto` without those that were said."""
    if state.said >= upto:
        return ""
    if state.said < first or not state.rest:
        return words(max(first, state.said), upto, attempt)
    return finish_word(state.said, state.rest, attempt) + words(state.said + 1, upto, attempt)


def _pieces(text: str, rng: random.Random) -> Iterator[str]:
    place = 0
    while place < len(text):
        size = rng.randint(1, PIECE_CHARS)
        yield text[place : place + size]
        place += size


def _call(step: Call, state: State, attempt: int) -> Iterator[Json]:
    """A call in three pieces; each attempt's arguments are its own."""
    arguments = json.dumps({"tag": state.plan.tag, "call": state.calls, "attempt": LETTERS[attempt % len(LETTERS)]})
    head = {"id": f"call_{attempt}", "type": "function", "function": {"name": step.name, "arguments": ""}}
    for part in (head, {"function": {"arguments": arguments[:9]}}, {"function": {"arguments": arguments[9:]}}):
        yield {"tool_calls": [{"index": 0, **part}]}


async def _send(reply: web.StreamResponse, chunk: Json) -> None:
    shell = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "words"}
    await reply.write(b"data: %b\n\n" % msgspec.json.encode(shell | chunk))


async def main() -> None:
    runner = web.AppRunner(ModelServer().app, handler_cancellation=True, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    sys.stdout.write(f"http://127.0.0.1:{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().connect_read_pipe(lambda: _Parent(asyncio.current_task()), sys.stdin)
    await asyncio.Event().wait()


class _Parent(asyncio.Protocol):
    """Ends this process when the one that started it is gone."""

    def __init__(self, task: asyncio.Task[None] | None) -> None:
        self._task = task

    def connection_lost(self, exc: Exception | None) -> None:
        assert self._task is not None
        self._task.cancel()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except asyncio.CancelledError:
        sys.exit(0)
