"""Fakes of the engines that run on people's machines: what each says where discovery asks, and a chat for all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from tests.loopback import Handler

OLLAMA: Mapping[str, Any] = {
    "/api/version": {"version": "0.14.2"},
    "/api/tags": {
        "models": [
            {"name": "nomic-embed-text:latest", "details": {"family": "nomic-bert"}},
            {"name": "qwen3:4b", "details": {"family": "qwen3"}},
            {"name": "llama3.2:3b", "details": {"family": "llama"}},
        ]
    },
    "/v1/models": {
        "object": "list",
        "data": [
            {"id": name, "owned_by": "library"} for name in ("nomic-embed-text:latest", "qwen3:4b", "llama3.2:3b")
        ],
    },
}
LLAMACPP: Mapping[str, Any] = {
    "/health": {"status": "ok"},
    "/props": {"default_generation_settings": {"n_ctx": 4096}, "total_slots": 4, "build_info": "b7100-abc"},
    "/v1/models": {"object": "list", "data": [{"id": "gemma.gguf", "owned_by": "llamacpp"}]},
}
VLLM: Mapping[str, Any] = {
    "/version": {"version": "0.33.0"},
    "/v1/models": {"object": "list", "data": [{"id": "Qwen/Qwen3-4B", "owned_by": "vllm"}]},
}
LM_STUDIO: Mapping[str, Any] = {
    "/api/v0/models": {
        "object": "list",
        "data": [
            {"id": "text-embedding-nomic", "type": "embeddings", "state": "loaded"},
            {"id": "phi-4", "type": "llm", "state": "not-loaded"},
            {"id": "qwen-vl", "type": "vlm", "state": "loaded"},
        ],
    },
    "/v1/models": {"object": "list", "data": [{"id": name} for name in ("text-embedding-nomic", "phi-4", "qwen-vl")]},
}
GREETING = "Hello from the engine."


def app(handler: Handler) -> web.Application:
    """Every path is the handler's."""
    made = web.Application()
    made.router.add_route("*", "/{path:.*}", handler)
    return made


def engine(
    pages: Mapping[str, Any], *, server: str = "", missing: int = 404, asked: list[Any] | None = None
) -> Handler:
    """A handler: these pages as JSON (a number is a status without one), and a chat that greets.

    ``asked``: takes what the chat was asked.
    """

    async def handle(request: web.Request) -> web.StreamResponse:
        headers = {"server": server} if server else {}
        if request.path == "/v1/chat/completions":
            return await _greet(request, [] if asked is None else asked)
        page = pages.get(request.path, missing)
        if isinstance(page, int):
            return web.json_response({"error": "no"}, status=page, headers=headers)
        return web.json_response(page, headers=headers)

    return handle


async def _greet(request: web.Request, log: list[Any]) -> web.StreamResponse:
    asked = await request.json()
    log.append(asked)
    if not asked.get("stream"):
        message = {"role": "assistant", "content": GREETING}
        return web.json_response({"model": asked["model"], "choices": [{"message": message, "finish_reason": "stop"}]})
    reply = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await reply.prepare(request)
    for word in GREETING.split(" "):
        separator = "" if word.endswith(".") else " "
        chunk = {"choices": [{"index": 0, "delta": {"content": word + separator}, "finish_reason": None}]}
        await reply.write(f"data: {json.dumps(chunk)}\n\n".encode())
    last = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    await reply.write(f"data: {json.dumps(last)}\n\ndata: [DONE]\n\n".encode())
    return reply
