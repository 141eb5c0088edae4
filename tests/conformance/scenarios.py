"""What is asked so that everything in the catalogue is produced: plays of the upstream, requests, and refusals.

Every reply is checked and counted by the client (`record.py`).  What an upstream plays is named by the request's
metadata; without a name it echoes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiohttp import web
from tests.conformance import passed_on
from tests.conformance.record import Record, RecordingClient
from tests.loopback import served
from tests.web.client import PATIENCE_SECONDS, asked
from tests.web.conftest import Serving, serving
from tests.web.sockets import talking

from antiphon.config import UpstreamConfig
from antiphon.engine.deltas import AnnotationDelta, CallDelta, ReasoningDelta, RefusalDelta, SummaryDelta, TextDelta
from antiphon.engine.ports.upstreams import ModelRequest, Stop, UpstreamError
from antiphon.upstreams.scripted import Script, echo

Json = dict[str, Any]

CITATION = b'{"type":"url_citation","url":"https://a.example","title":"A","start_index":0,"end_index":2}'
LOGPROBS = b'[{"token":"Hi","logprob":-0.1,"bytes":[72,105],"top_logprobs":[]}]'
FUNCTION: Json = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}
STRICT: Json = {**FUNCTION, "strict": False}
CUSTOM: Json = {"type": "custom", "name": "patch"}
DEFERRED: Json = {**FUNCTION, "name": "weather", "description": "Tells the weather.", "defer_loading": True}

#: Errors of the model's side, by their code: status, and whether it is told within a reply.
UPSTREAM_ERRORS = {
    "context_length_exceeded": 400,
    "invalid_request_error": 400,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "server_error": 500,
    "server_is_overloaded": 503,
    "upstream_cut": 502,
    "upstream_timeout": 504,
}


def _searches(request: ModelRequest) -> Script:
    """Searches for a tool, then says what it would do."""
    searched = any(item.view.kind == "tool_search_output" for item in request.items) or request.items[-1].view.kind != (
        "message"
    )
    seen = {tool.name for tool in request.tools}
    if searched or "weather" in seen:
        return [[TextDelta("Found.")]]
    return [[CallDelta(0, "call_s", "tool_search", '{"query":"weather"}')]]


PLAYS: dict[str, Callable[[ModelRequest], Script]] = {
    "cited": lambda _: [[TextDelta("Hi", LOGPROBS)], [AnnotationDelta(CITATION)]],
    "refusal": lambda _: [[RefusalDelta("I will "), RefusalDelta("not.")]],
    "reasoning": lambda _: [[SummaryDelta("Adding.")], [ReasoningDelta("So 4.")], [TextDelta("4")]],
    "call": lambda _: [[CallDelta(0, "call_1", "look", "{"), CallDelta(0, None, None, "}")]],
    "custom": lambda _: [[CallDelta(0, "call_1", "patch", "*** a", whole=True)]],
    "length": lambda _: [[TextDelta("Once upon")], Stop("length")],
    "filtered": lambda _: [[TextDelta("Once upon")], Stop("content_filter")],
    "broken": lambda _: [[TextDelta("Once upon")], UpstreamError("It broke.")],
    "hanging": lambda _: [[TextDelta("Once upon")], asyncio.Event()],
    "searching": _searches,
}
#: Items of hosted tools that run at an upstream which speaks this API.
PASSED_ON: dict[str, list[Any]] = {
    f"{kind} {number}": list(script) for number, (kind, script) in enumerate(passed_on.scripts())
}


def script_of(request: ModelRequest) -> Script:
    """What the upstream plays for a request."""
    name = (request.request.metadata or {}).get("play", "")
    if name in UPSTREAM_ERRORS:
        return [UpstreamError("It failed.", status=UPSTREAM_ERRORS[name], code=name)]
    if name in PASSED_ON:
        return list(PASSED_ON[name])
    return PLAYS[name](request) if name in PLAYS else echo(request)


class Stage(NamedTuple):
    """A running server and the client that records."""

    here: Serving
    client: RecordingClient

    async def post(self, target: str, body: Any = None, **headers: str | None) -> Json:
        """A reply that must be 200."""
        reply = await self.client.post(target, body, **headers)
        assert reply.status == 200, (target, reply.status, reply.body)
        return {} if reply.headers["content-type"].startswith("text/event-stream") else reply.json

    async def get(self, target: str) -> Json:
        """As ``post``."""
        reply = await self.client.get(target)
        assert reply.status == 200, (target, reply.status, reply.body)
        return {} if reply.headers["content-type"].startswith("text/event-stream") else reply.json

    async def play(self, name: str, **parameters: Any) -> None:
        """A play, as one reply and as a stream."""
        for stream in (False, True):
            body = asked(metadata={"play": name}, stream=stream, **parameters)
            await self.client.post("/v1/responses", body)


@asynccontextmanager
async def staged(record: Record, **config: Any) -> AsyncIterator[Stage]:
    """A server in this process, whose replies are recorded."""
    async with serving(script_of, **config) as here:
        yield Stage(here, RecordingClient(here.port, record))


# --- What works ---


async def simple_calls(stage: Stage) -> None:
    """Everything that is asked without a body."""
    for target in ("/health", "/ready", "/openapi.json", "/v1/models", "/v1/models/demo", "/v1/models/other/model"):
        await stage.get(target)
    await stage.client.get("/v1/responses", upgrade="websocket", connection="Upgrade")


async def over_websocket(stage: Stage) -> None:
    """A response and an error on one connection."""
    async with talking(stage.here.port) as talk:
        for play in ("echo", "call"):
            await talk.ask(metadata={"play": play})
            stage.client.record.take_socket(await talk.events())
        await talk.say({"type": "response.cancel"})
        stage.client.record.take_socket([await talk.error()])


async def responses(stage: Stage) -> None:
    """A stored response through all its calls."""
    made = await stage.post("/v1/responses", asked(include=["message.output_text.logprobs"]))
    target = f"/v1/responses/{made['id']}"
    await stage.get(target)
    await stage.get(f"{target}/input_items?limit=1&order=asc")
    await stage.post("/v1/responses/input_tokens", asked())
    chained = asked(previous_response_id=made["id"], input="Again", stream=True)
    await stage.post("/v1/responses", chained)
    deleted = await stage.client.request("DELETE", target)
    assert deleted.status == 200


async def background(stage: Stage) -> None:
    """Runs that are polled, followed and cancelled."""
    await stage.post("/v1/responses", asked(background=True, stream=True))
    made = await stage.post("/v1/responses", asked(background=True))
    await _until_terminal(stage, made["id"])
    hanging = {"background": True, "metadata": {"play": "hanging"}}
    async with stage.here.client.streaming(**hanging) as stream:
        await stream.until("output_text.delta")
        response_id = stream.events[0]["response"]["id"]
        await stage.post(f"/v1/responses/{response_id}/cancel")
    await stage.get(f"/v1/responses/{response_id}?stream=true")
    await stage.get(f"/v1/responses/{response_id}?stream=true&starting_after=2")


async def _until_terminal(stage: Stage, response_id: str) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await stage.get(f"/v1/responses/{response_id}"))["status"] in ("queued", "in_progress"):
            pass


async def conversations(stage: Stage) -> None:
    """A conversation through all its calls, with a response in it and one that is locked out."""
    made = await stage.post("/v1/conversations", {"items": [{"role": "user", "content": "Hi"}], "metadata": {"a": "b"}})
    target = f"/v1/conversations/{made['id']}"
    await stage.get(target)
    await stage.post(target, {"metadata": {"a": "c"}})
    listed = await stage.post(f"{target}/items", {"items": [{"role": "user", "content": "More"}]})
    await stage.post("/v1/responses", asked(conversation=made["id"]))
    await stage.get(f"{target}/items?order=asc")
    item = f"{target}/items/{listed['data'][0]['id']}"
    await stage.get(item)
    await stage.client.request("DELETE", item)
    hanging = asked(conversation=made["id"], background=True, metadata={"play": "hanging"})
    running = await stage.post("/v1/responses", hanging)
    await stage.client.post("/v1/responses", asked(conversation=made["id"]))
    await stage.post(f"/v1/responses/{running['id']}/cancel")
    await stage.client.request("DELETE", target)


async def webhooks(stage: Stage) -> None:
    """An endpoint through all its calls, with a test that is received and one that is not."""
    async with served(_heard) as port:
        await stage.get("/v1/webhook_event_types")
        wanted = {"name": "a", "url": f"http://127.0.0.1:{port}/", "event_types": ["response.completed"]}
        made = await stage.post("/v1/webhook_endpoints", wanted)
        target = f"/v1/webhook_endpoints/{made['id']}"
        await stage.get("/v1/webhook_endpoints?limit=1")
        await stage.get(target)
        await stage.post(target, {"name": "b"})
        await stage.post(f"{target}/rotate_secret", {"keep_old_secret_active_for_24_hours": True})
        await stage.post(f"{target}/test", {"event_type": "response.failed"})
    unheard = await stage.client.post(f"{target}/test", {"event_type": "response.failed"})
    assert (unheard.status, unheard.error["code"]) == (400, "webhook_endpoint_unreachable")
    for _ in range(stage.here.server.config.webhook_endpoints_max - 1):
        await stage.post("/v1/webhook_endpoints", wanted)
    refused = await stage.client.post("/v1/webhook_endpoints", wanted)
    assert (refused.status, refused.error["code"]) == (400, "webhook_endpoints_exceeded")
    await stage.client.request("DELETE", target)
    for code, change in (("invalid_value", {"event_types": ["batch.completed"]}), ("empty_array", {"event_types": []})):
        reply = await stage.client.post("/v1/webhook_endpoints", {**wanted, **change})
        assert (reply.status, reply.error["code"]) == (400, code)


async def _heard(_request: web.Request) -> web.Response:
    return web.Response()


async def plays(stage: Stage) -> None:
    """What a model may say, and how it may fail."""
    for name in ("cited", "refusal", "reasoning", "length", "filtered", "broken", *UPSTREAM_ERRORS):
        await stage.play(name, include=["message.output_text.logprobs"])
    await stage.play("call", tools=[FUNCTION])
    await stage.play("custom", tools=[CUSTOM])
    for execution in ("server", "client"):
        await stage.play("searching", tools=[DEFERRED, {"type": "tool_search", "execution": execution}])
    for name in PASSED_ON:
        await stage.play(name)


def every_input() -> list[Json]:
    """One item of each type that clients may send."""
    call, answer = {"call_id": "call_1"}, {"call_id": "call_1", "output": "Rain."}
    pairs: list[Json] = [
        {"role": "user", "content": "Hi"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hi"}]},
        {"type": "function_call", "name": "look", "arguments": "{}", **call},
        {"type": "function_call_output", **answer},
        {"type": "custom_tool_call", "call_id": "call_2", "name": "patch", "input": "a"},
        {"type": "custom_tool_call_output", "call_id": "call_2", "output": "b"},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Adding."}]},
        {"type": "additional_tools", "role": "developer", "tools": [{**STRICT, "name": "other"}]},
        {"type": "tool_search_call", "call_id": "call_3", "execution": "client", "arguments": {}},
        {"type": "tool_search_output", "call_id": "call_3", "tools": [{**STRICT, "name": "found"}]},
        {"type": "program", "call_id": "call_4", "code": "1", "fingerprint": "f"},
        {"type": "program_output", "call_id": "call_4", "result": "1", "status": "completed"},
        {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True},
    ]
    hosted = [
        {"type": kind, "id": f"it_{kind}", "status": "completed", **begun, **ended}
        for kind, (begun, ended) in passed_on.ITEMS.items()
    ]
    return [*pairs, *hosted]


async def inputs(stage: Stage) -> None:
    """Every type of item goes in, and comes out of the list of input items."""
    made = await stage.post("/v1/responses", asked(input=every_input(), tools=[FUNCTION, CUSTOM]))
    await stage.get(f"/v1/responses/{made['id']}/input_items?limit=100")
    reference = {"id": made["output"][0]["id"]}
    update = {"type": "configuration_update", "reasoning": {"effort": "low"}}
    await stage.post("/v1/responses", asked(input=[reference, update, {"role": "user", "content": "Again"}]))


async def sealed(stage: Stage) -> None:
    """Encrypted reasoning goes out, comes back, and is refused once it was changed."""
    sealing = {"store": False, "include": ["reasoning.encrypted_content"], "metadata": {"play": "reasoning"}}
    made = await stage.post("/v1/responses", asked(**sealing))
    thought = made["output"][0]
    content = thought["encrypted_content"]
    question = {"role": "user", "content": "Again"}
    await stage.post("/v1/responses", asked(input=[thought, question], store=False))
    changed = {**thought, "encrypted_content": content[:-8] + ("A" * 8 if content[-8:] != "A" * 8 else "B" * 8)}
    reply = await stage.client.post("/v1/responses", asked(input=[changed, question]))
    assert (reply.status, reply.error["code"]) == (400, "invalid_encrypted_content")


async def compacted(stage: Stage) -> None:
    """A context is compacted in all three ways, and gone on from."""
    talk = [{"role": "user", "content": "I am Ann."}, {"role": "assistant", "content": "Hi " * 2000}]
    made = await stage.post("/v1/responses/compact", asked(input=talk))
    await stage.post("/v1/responses", asked(input=[*made["output"], {"role": "user", "content": "Again"}]))
    for stream in (False, True):
        await stage.post("/v1/responses", asked(input=[*talk, {"type": "compaction_trigger"}], stream=stream))
        managed = {"context_management": [{"type": "compaction", "compact_threshold": 1000}], "stream": stream}
        await stage.post("/v1/responses", asked(input=[*talk, {"role": "user", "content": "Again"}], **managed))


# --- What is refused ---


class Refusal(NamedTuple):
    """A request and the error that it must be answered with."""

    code: str | None
    body: Any = None
    status: int = 400
    target: str = "/v1/responses"
    method: str = "POST"
    headers: Sequence[tuple[str, str]] = ()


def _with_part(**part: Any) -> Json:
    return asked(input=[{"role": "user", "content": [part]}])


def _strict(schema: Json) -> Json:
    return {"format": {"type": "json_schema", "name": "a", "schema": schema, "strict": True}}


LOOSE = {"type": "object", "properties": {"a": {"type": "string"}}}


def refusals() -> Iterator[Refusal]:
    """Every code that a request alone brings about."""
    evil = (("host", "evil.example"),)
    yield Refusal(None, b"{", 400)
    yield Refusal(None, None, 404, "/v1/responses/resp_none", "GET")
    yield Refusal(None, None, 404, "/v1/conversations/conv_none", "GET")
    yield Refusal(
        "array_above_max_length", {"items": [{"role": "user", "content": "a"}] * 21}, target="/v1/conversations"
    )
    yield Refusal("decimal_above_max_value", asked(temperature=3))
    yield Refusal("decimal_below_min_value", asked(top_p=-1))
    yield Refusal("empty_array", asked(input=[]))
    yield Refusal("empty_image_file", _with_part(type="input_image", image_url="data:image/png;base64,"))
    yield Refusal("failed_to_download_file", _with_part(type="input_file", file_url="http://10.0.0.1/a.txt"))
    yield Refusal("failed_to_download_image", _with_part(type="input_image", image_url="http://10.0.0.1/a.png"))
    yield Refusal("host_not_allowed", None, 403, "/v1/models", "GET", evil)
    yield Refusal("integer_above_max_value", asked(top_logprobs=21))
    yield Refusal("integer_below_min_value", asked(max_output_tokens=5))
    yield Refusal("invalid_base64", _with_part(type="input_file", file_data="!", filename="a.txt"))
    yield Refusal("invalid_base64_image", _with_part(type="input_image", image_url="data:nothing"))
    yield Refusal("invalid_file", _with_part(type="input_file", file_data="AAECAw==", filename="a.bin"))
    yield Refusal("invalid_function_parameters", asked(tools=[{**FUNCTION, "strict": True, "parameters": LOOSE}]))
    yield Refusal("invalid_json_schema", asked(text=_strict(LOOSE)))
    yield Refusal("invalid_type", asked(stream="yes"))
    yield Refusal("invalid_value", asked(truncation="often"))
    yield Refusal("method_not_supported", None, 405, "/v1/models", "DELETE")
    yield Refusal("missing_required_parameter", {"model": "demo"})
    yield Refusal("model_not_found", asked(model="nobody"), 404)
    yield Refusal("mutually_exclusive_parameters", asked(previous_response_id="resp_a", conversation="conv_a"))
    yield Refusal("object_above_max_properties", asked(metadata={str(number): "" for number in range(17)}))
    yield Refusal("origin_not_allowed", None, 403, "/v1/models", "GET", (("origin", "http://evil.example"),))
    yield Refusal("previous_response_not_found", asked(previous_response_id="resp_none"))
    yield Refusal("request_too_large", b"{" + b" " * 200_000, 413)
    yield Refusal("string_above_max_length", asked(safety_identifier="a" * 129))
    yield Refusal("unknown_url", None, 404, "/v1/nothing", "GET")
    yield Refusal("unsupported_content_encoding", asked(), 415, headers=(("content-encoding", "gzip"),))
    yield Refusal("unsupported_content_type", asked(), 415, headers=(("content-type", "text/plain"),))
    yield Refusal("unsupported_parameter", asked(messages=[]))
    yield Refusal("unsupported_value", asked(tools=[{"type": "web_search"}]))


async def refused(stage: Stage) -> None:
    """Every refusal is what it should be, in the official shape."""
    for told in refusals():
        headers = {name.replace("-", "_"): value for name, value in told.headers}
        reply = await stage.client.request(told.method, told.target, told.body, **headers)
        assert (reply.status, reply.error["code"]) == (told.status, told.code), (told, reply.body)
    for text, status in (("Hello", 200), ("Something else", 422)):
        reply = await stage.client.request("POST", "/v1/responses", asked(input=text), idempotency_key="one")
        assert reply.status == status, reply.body


async def guarded(record: Record) -> None:
    """Without the key, and with an upstream that is not there."""
    gone = UpstreamConfig(url="http://127.0.0.1:9/v1", name="gone", models=["gone"])
    async with staged(record, api_keys=["sk-good-0123456789"], upstreams=[gone], retries=0) as stage:
        assert (await stage.client.get("/v1/models")).status == 401
        keyed = RecordingClient(stage.here.port, record, {"authorization": "Bearer sk-good-0123456789"})
        reply = await keyed.post("/v1/responses", asked(model="gone"))
        assert (reply.status, reply.error["code"]) == (502, "upstream_unreachable")


SCENARIOS = (
    simple_calls,
    over_websocket,
    responses,
    background,
    conversations,
    webhooks,
    plays,
    inputs,
    sealed,
    compacted,
    refused,
)


async def run() -> Record:
    """Everything once."""
    record = Record()
    config = {"webhook_endpoints_max": 3, "fetch_allowed_hosts": ["127.0.0.1"]}
    async with staged(record, body_max_bytes=100_000, **config) as stage:
        for scenario in SCENARIOS:
            await scenario(stage)
    await guarded(record)
    return record
