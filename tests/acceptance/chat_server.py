"""A scripted chat-completions server, with a door for tests: what it was asked, and gates that hold its replies.

What it says is in `behaviours`.  Under `/control`:

- `GET /control/requests?said=TEXT`: the requests whose last user text holds TEXT, oldest first;
- `POST /control/scripts`: whoever says `said` from now on gets these `turns` (`behaviours.played`), from every model;
- `POST /control/gates/NAME/open`: lets the reply that waits at the gate go on;
- `GET /control/gates/NAME/reached` and `.../abandoned`: answer once a reply waits there, or its reader left.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import urllib.parse
import urllib.request
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web
from tests.acceptance.behaviours import (
    BEHAVIOURS,
    REFUSALS,
    Asked,
    Break,
    Call,
    Fail,
    Finish,
    Json,
    Reasoning,
    Refusal,
    Step,
    Text,
    Wait,
    played,
)

GATE_SECONDS = 20


class Failed(Exception):
    """The reply ends in an error."""


class Broken(Exception):
    """The reply ends in the middle, without a word."""


class Gate:
    """Where a reply waits for a test, and a test for a reply."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()
        self.abandoned = asyncio.Event()

    async def hold(self) -> None:
        self.reached.set()
        try:
            async with asyncio.timeout(GATE_SECONDS):
                await self.opened.wait()
        except asyncio.CancelledError:
            self.abandoned.set()
            raise


class ChatServer:
    """The routes, the requests seen and the gates."""

    def __init__(self) -> None:
        self.requests: list[Json] = []
        self.scripts: dict[str, list[list[Json]]] = {}
        self.gates: defaultdict[str, Gate] = defaultdict(Gate)
        self.app = web.Application(client_max_size=64 << 20)
        self.app.add_routes(
            [
                web.get("/v1/models", self.models),
                web.post("/v1/chat/completions", self.complete),
                web.get("/control/requests", self.seen),
                web.post("/control/scripts", self.add_script),
                web.post("/control/gates/{name}/open", self.open_gate),
                web.get("/control/gates/{name}/{state:reached|abandoned}", self.await_gate),
            ]
        )

    async def models(self, request: web.Request) -> web.Response:
        names = [*BEHAVIOURS, *REFUSALS, "flaky"]
        data = [{"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "tests"} for name in names]
        return web.json_response({"object": "list", "data": data})

    async def complete(self, request: web.Request) -> web.StreamResponse:
        asked = Asked(await request.json())
        model = asked.body["model"]
        before = [seen for seen in self.requests if seen["model"] == model and seen["said"] == asked.said]
        self.requests.append({"model": model, "said": asked.said, "body": asked.body})
        if model == "flaky" and not before:
            model = "overloaded"
        if model in REFUSALS:
            status, error, headers = REFUSALS[model]
            return web.json_response({"error": error}, status=status, headers=headers)
        steps = self._limited(asked, self._steps(asked, "echo" if model == "flaky" else model))
        try:
            return await (self._stream if asked.body.get("stream") else self._whole)(request, asked, steps)
        except Broken:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()

    async def _steps(self, asked: Asked, model: str) -> AsyncIterator[Step]:
        """The behaviour's steps; gates and breaks happen here."""
        turns = next((turns for said, turns in self.scripts.items() if said in asked.said), None)
        for step in played(asked, turns) if turns else BEHAVIOURS[model](asked):
            if isinstance(step, Wait):
                await self.gates[step.gate].hold()
            elif isinstance(step, Break):
                raise Broken
            elif isinstance(step, Fail):
                raise Failed(step.message)
            else:
                yield step

    async def _limited(self, asked: Asked, steps: AsyncIterator[Step]) -> AsyncIterator[Step]:
        """At most `max_tokens` pieces, then how it finished."""
        left = asked.body.get("max_tokens") or 10_000
        async for step in steps:
            if isinstance(step, Finish):
                yield step
                return
            yield step
            left -= 1
            if left == 0:
                yield Finish("length")
                return
        yield Finish("stop")

    # --- Streamed ---

    async def _stream(self, request: web.Request, asked: Asked, steps: AsyncIterator[Step]) -> web.StreamResponse:
        reply = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await reply.prepare(request)
        said = 0
        try:
            async for step in steps:
                for delta in _deltas(step, said):
                    await _send(reply, _chunk(asked, delta, step))
                said += 1
        except Failed as failure:
            await _send(reply, {"error": {"message": str(failure), "type": "server_error", "code": None}})
            return reply
        if asked.body.get("stream_options", {}).get("include_usage"):
            await _send(reply, {**_shell(asked, "chat.completion.chunk"), "choices": [], "usage": _usage(asked, said)})
        await reply.write(b"data: [DONE]\n\n")
        return reply

    # --- Whole ---

    async def _whole(self, request: web.Request, asked: Asked, steps: AsyncIterator[Step]) -> web.Response:
        message: Json = {"role": "assistant", "content": None}
        logprobs: list[Json] = []
        reason, said = "stop", 0
        try:
            async for step in steps:
                said += 1
                if isinstance(step, Finish):
                    reason = step.reason
                    continue
                if isinstance(step, Text):
                    logprobs.append(_logprob(step.text))
                _grow(message, step)
        except Failed as failure:
            error = {"message": str(failure), "type": "server_error", "code": None}
            return web.json_response({"error": error}, status=500)
        choice: Json = {"index": 0, "message": message, "finish_reason": reason, "logprobs": None}
        if asked.body.get("logprobs"):
            choice["logprobs"] = {"content": logprobs}
        shell = _shell(asked, "chat.completion")
        return web.json_response({**shell, "choices": [choice], "usage": _usage(asked, said)})

    # --- The door for tests ---

    async def seen(self, request: web.Request) -> web.Response:
        text = request.query["said"]
        return web.json_response([seen for seen in self.requests if text in seen["said"]])

    async def add_script(self, request: web.Request) -> web.Response:
        script = await request.json()
        self.scripts[script["said"]] = script["turns"]
        return web.json_response({})

    async def open_gate(self, request: web.Request) -> web.Response:
        self.gates[request.match_info["name"]].opened.set()
        return web.json_response({})

    async def await_gate(self, request: web.Request) -> web.Response:
        gate = self.gates[request.match_info["name"]]
        state = request.match_info["state"]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GATE_SECONDS / 2):
                await (gate.reached if state == "reached" else gate.abandoned).wait()
                return web.json_response({})
        return web.json_response({"error": f"the gate was not {state}"}, status=504)


class ChatControl:
    """The door, from the side of a test."""

    def __init__(self, url: str) -> None:
        self.url = url

    def asked(self, text: str) -> list[Json]:
        """The bodies of the requests whose last user text holds `text`."""
        return [seen["body"] for seen in self._call("GET", f"/requests?said={urllib.parse.quote(text)}")]

    def script(self, said: str, *turns: list[Json]) -> None:
        """Whoever says `said` from now on gets these turns."""
        self._call("POST", "/scripts", {"said": said, "turns": turns})

    def open(self, gate: str) -> None:
        self._call("POST", f"/gates/{gate}/open")

    def reached(self, gate: str) -> None:
        """Returns when a reply waits at the gate."""
        self._call("GET", f"/gates/{gate}/reached")

    def abandoned(self, gate: str) -> None:
        """Returns when the reader of the reply at the gate has left."""
        self._call("GET", f"/gates/{gate}/abandoned")

    def _call(self, method: str, path: str, body: Json | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/control{path}", method=method, data=data)
        with urllib.request.urlopen(request, timeout=GATE_SECONDS) as reply:
            return json.load(reply)


def _shell(asked: Asked, kind: str) -> Json:
    return {"id": "chatcmpl-1", "object": kind, "created": 1_700_000_000, "model": asked.body["model"]}


def _usage(asked: Asked, said: int) -> Json:
    prompt = len(re.findall(r"\w+", json.dumps(asked.messages)))
    return {"prompt_tokens": prompt, "completion_tokens": said, "total_tokens": prompt + said}


def _logprob(text: str) -> Json:
    entry: Json = {"token": text, "logprob": -0.25, "bytes": list(text.encode())}
    return {**entry, "top_logprobs": [entry]}


def _chunk(asked: Asked, delta: Json, step: Step) -> Json:
    choice: Json = {"index": 0, "delta": delta, "finish_reason": step.reason if isinstance(step, Finish) else None}
    if asked.body.get("logprobs") and isinstance(step, Text):
        choice["logprobs"] = {"content": [_logprob(step.text)]}
    return {**_shell(asked, "chat.completion.chunk"), "choices": [choice]}


def _deltas(step: Step, said: int) -> list[Json]:
    """The deltas of one step; a call comes in three, as vLLM and OpenAI cut it."""
    first: Json = {"role": "assistant"} if said == 0 else {}
    if isinstance(step, Call):
        half = len(step.arguments) // 2
        head = _call(step, step.arguments[:0], whole=True)
        return [{**first, **head}, _call(step, step.arguments[:half]), _call(step, step.arguments[half:])]
    return [{**first, **_fields(step)}]


def _call(step: Call, arguments: str, *, whole: bool = False) -> Json:
    function: Json = {"arguments": arguments}
    call: Json = {"index": step.index, "function": function}
    if whole:
        call |= {"id": step.id or f"call_{step.name}", "type": "function"}
        function["name"] = step.name
    return {"tool_calls": [call]}


def _fields(step: Step) -> Json:
    match step:
        case Text(text):
            return {"content": text}
        case Reasoning(text):
            return {"reasoning_content": text}
        case Refusal(text):
            return {"refusal": text}
    return {}


def _grow(message: Json, step: Step) -> None:
    if isinstance(step, Call):
        message.setdefault("tool_calls", []).extend(_call(step, step.arguments, whole=True)["tool_calls"])
    for name, text in _fields(step).items():
        message[name] = (message.get(name) or "") + text


async def _send(reply: web.StreamResponse, chunk: Json) -> None:
    await reply.write(b"data: %b\n\n" % json.dumps(chunk).encode())
