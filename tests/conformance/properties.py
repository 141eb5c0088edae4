"""Requests that nobody wrote, sent to a real server: none may end in a 5xx, an unhandled error or a broken shape.

`tests/conformance/test_properties.py` sends some hundreds, `scripts/conformance_cases.py` as many as it is told.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode
from uuid import uuid4

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.acceptance.threads import LoopThread
from tests.conformance.record import Record, RecordingClient
from tests.conformance.schema_values import JUNK, TEXT, Values, spoilt
from tests.conformance.turns import KEYED, OWN, SPOILT, TRIGGER, answers, played, turns
from tests.specification.conformance import check_openai, parse_sse
from tests.specification.documents import load
from tests.web.client import PATIENCE_SECONDS, Reply
from tests.web.conftest import serving

Json = dict[str, Any]

#: What a request that is valid by OpenAI's document may be answered with besides 200, and why: status, code.
LISTED: dict[tuple[int, str | None], str] = {
    (400, "missing_required_parameter"): "nothing is asked, or what an item or tool needs beyond the document",
    (400, "empty_array"): "an empty input, or no allowed tool",
    (400, "invalid_value"): "names, roles, item and tool types, choices that no tool answers",
    (400, "invalid_type"): "what the document leaves open and this server reads",
    (400, "mutually_exclusive_parameters"): "conversation and previous_response_id",
    (400, "previous_response_not_found"): "an id that nobody was given",
    (400, "unsupported_parameter"): "moderation",
    (400, "unsupported_value"): "a tool that cannot run here, alone or demanded",
    (400, "invalid_function_parameters"): "a schema that strict cannot hold",
    (400, "invalid_json_schema"): "a schema that strict cannot hold",
    (400, "invalid_base64"): "file data that are none",
    (400, "invalid_base64_image"): "image data that are none",
    (400, "empty_image_file"): "image data that are empty",
    (400, "invalid_file"): "a file that cannot be read",
    (400, "failed_to_download_image"): "a URL that leads nowhere",
    (400, "failed_to_download_file"): "a URL that leads nowhere",
    (400, "integer_above_max_value"): "numbers without a bound in the document",
    (400, "integer_below_min_value"): "numbers without a bound in the document",
    (400, "string_above_max_length"): "texts without a bound in the document",
    (400, "object_above_max_properties"): "metadata",
    (400, "invalid_encrypted_content"): "sealed content that was not made here",
    (400, None): "a tool output without its call, or the reverse",
    (404, None): "a conversation, prompt, file or item that is not there",
}


#: What the scripted upstream fails with, which is told to its client as it came.
FULL = (400, "context_length_exceeded")
UPSTREAM_FAILURES = ("It broke.", "The model was asked to summarize the conversation and said nothing.")

#: Parameters that name what must be there already, or that are not here.
ELSEWHERE = {"conversation", "previous_response_id", "prompt", "moderation"}


class Case(NamedTuple):
    """One request; the body is JSON or bytes."""

    method: str
    target: str
    body: Any = None
    headers: tuple[tuple[str, str], ...] = ()


class Errors(logging.Handler):
    """What was logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(self.format(record))


class Target:
    """A server in a thread, to which every model name leads."""

    def __init__(self, thread: LoopThread) -> None:
        self.record = Record()
        self.answered: Counter[tuple[int, str | None]] = Counter()
        self._thread = thread
        self._stack = AsyncExitStack()
        self._errors = Errors()

    def open(self) -> None:
        for name in ("antiphon", "asyncio", "uvicorn.error"):
            logging.getLogger(name).addHandler(self._errors)
        here = self._thread.run(
            self._stack.enter_async_context(serving(played, aliases={"*": "demo"}, default_model="demo"))
        )
        self._client = RecordingClient(here.port, self.record)
        self._fill()

    def _fill(self) -> None:
        """Makes what placeholders stand for."""
        asked = {"model": "demo", "input": "I am Ann."}
        sealed = self.ask("/v1/responses/compact", asked).json["output"][-1]["encrypted_content"]
        self._filling = {
            OWN: sealed,
            SPOILT: sealed[:-8] + ("A" * 8 if sealed[-8:] != "A" * 8 else "B" * 8),
            "@previous": self.ask("/v1/responses", asked).json["id"],
        }

    def filled(self, body: Any) -> Any:
        """The body with this server's ids and sealed content where placeholders stand; conversations are new."""
        text = json.dumps(body)
        filling = self._filling
        if "conversation" in body:
            filling = filling | {"@conversation": self.ask("/v1/conversations", {}).json["id"]}
        for placeholder, value in filling.items():
            text = text.replace(f'"{placeholder}"', json.dumps(value))
        return json.loads(text)

    def ask(self, target: str, body: Json, **headers: str) -> Reply:
        """A POST of this body."""
        return self.send(Case("POST", target, json.dumps(body).encode(), tuple(headers.items())))

    def get(self, target: str) -> Reply:
        """A GET."""
        return self.send(Case("GET", target))

    def close(self) -> None:
        self._thread.run(self._stack.aclose())
        for name in ("antiphon", "asyncio", "uvicorn.error"):
            logging.getLogger(name).removeHandler(self._errors)

    def send(self, case: Case) -> Reply:
        """The reply, with the checks that hold for every one."""
        headers: dict[str, str | None] = dict(case.headers)
        reply: Reply = self._thread.run(self._client.request(case.method, case.target, case.body, **headers))
        code = reply.json["error"]["code"] if reply.status >= 400 and reply.body else None
        self.answered[reply.status, code] += 1
        assert reply.status < 500 or reply.error["message"] in UPSTREAM_FAILURES, (case, reply.body)
        assert not self._errors.messages, (case, self._errors.messages)
        return reply

    def final(self, reply: Reply) -> Json:
        """The Response in which it ends; a background run is waited for."""
        streamed = reply.headers["content-type"].startswith("text/event-stream")
        response: Json = parse_sse(reply.body)[-1]["response"] if streamed else reply.json
        deadline = time.monotonic() + PATIENCE_SECONDS
        while response["status"] in ("queued", "in_progress"):
            assert time.monotonic() < deadline, response
            response = self.get(f"/v1/responses/{response['id']}").json
        return response


@contextmanager
def target() -> Iterator[Target]:
    """Starts the server and ends it."""
    thread = LoopThread()
    made = Target(thread)
    made.open()
    try:
        yield made
    finally:
        made.close()
        thread.close()


# --- Requests ---


def valid_creates() -> st.SearchStrategy[Json]:
    """Bodies that OpenAI's document lets pass; most ask something, and name nothing that is not there."""
    bodies = Values(load("openai")).of({"$ref": "#/components/schemas/CreateResponse"})
    return bodies | bodies.map(_asking) | bodies.map(_asking)


def cases(document: Json) -> st.SearchStrategy[Case]:
    """Requests for any operation of our document, some as it says and some spoilt."""
    operations = [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    weighted = [one for one in operations for _ in range(8 if "requestBody" in one[2] else 1)]
    values = Values(document["components"]["schemas"])
    return st.sampled_from(weighted).flatmap(lambda one: _case(values, *one))


@st.composite
def _case(draw: Any, values: Values, method: str, path: str, operation: Json) -> Case:
    query = []
    for parameter in operation["parameters"]:
        if parameter["in"] == "path":
            name = quote(draw(st.text(min_size=1, max_size=12)), safe="")
            path = path.replace("{" + parameter["name"] + "}", name)
        elif draw(st.booleans()):
            query.append((parameter["name"], _in_query(draw(values.of(parameter["schema"]) | TEXT))))
    target = f"{path}?{urlencode(query)}" if query else path
    if "requestBody" not in operation:
        return Case(method, target)
    bodies = values.of(operation["requestBody"]["content"]["application/json"]["schema"])
    body = bodies | bodies.map(_asking)
    return Case(method, target, draw(body | spoilt(body) | spoilt(body) | JUNK | st.binary(max_size=40)))


def _asking(body: Any) -> Any:
    return {"input": "Hello"} | {name: value for name, value in body.items() if name not in ELSEWHERE}


def _in_query(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


# --- Properties ---


def check_any(target: Target, case: Case) -> None:
    """Whatever is sent, the reply is no 5xx, and what our document says of it."""
    if case.body is not None and not isinstance(case.body, bytes):
        case = case._replace(body=json.dumps(case.body).encode())
    try:
        target.send(case)
    except AssertionError as error:
        # What is repeated of a request that OpenAI's document refuses may be refused by it again.
        if not str(error).startswith(("openai ", "openresponses ")) or _is_official(case.body):
            raise


def _is_official(body: bytes) -> bool:
    try:
        check_openai("CreateResponse", json.loads(body))
    except (AssertionError, ValueError):
        return False
    return True


def check_valid(target: Target, body: Json) -> None:
    """What OpenAI's document lets pass is answered, or refused for a listed reason."""
    reply = target.send(Case("POST", "/v1/responses", json.dumps(body).encode()))
    if reply.status != 200:
        told = (reply.status, reply.error["code"])
        assert told in LISTED, (body, reply.body)


def check_turn(target: Target, body: Json) -> None:
    """Whatever was answered can be fetched and gone on from: by its id, with its items sent again, and compacted."""
    body = target.filled(body)
    counted = target.ask("/v1/responses/input_tokens", body)
    reply = _asked_under_a_key(target, body) if body.get("metadata") == KEYED else target.ask("/v1/responses", body)
    if reply.status != 200:
        told = (reply.status, reply.error["code"])
        assert told in LISTED or reply.status >= 500 or told == FULL, (body, reply.body)
        return
    assert counted.status == 200, (body, counted.body)
    response = target.final(reply)
    if response["status"] in ("completed", "incomplete"):
        _check_next(target, body, response)


def _asked_under_a_key(target: Target, body: Json) -> Reply:
    """The reply, which is the same when it is asked for again."""
    key = str(uuid4())
    reply, again = (target.ask("/v1/responses", body, idempotency_key=key) for _ in range(2))
    assert (reply.status, reply.status == 200 or reply.error) == (again.status, again.status == 200 or again.error), (
        body
    )
    if reply.status == 200:
        response = target.final(reply)
        assert response["status"] == "failed" or target.final(again) == response, body
    return reply


def _check_next(target: Target, body: Json, response: Json) -> None:
    rest = [*answers(response["output"]), {"role": "user", "content": "Again"}]
    told = {name: body[name] for name in ("tools", "context_management") if body.get(name)}
    again = {"model": "demo", "input": rest, **told}
    if body.get("store", True) and "conversation" not in body:
        stored = f"/v1/responses/{response['id']}"
        assert target.get(stored).json["output"] == response["output"], body
        assert target.get(f"{stored}/input_items?limit=100").status == 200, body
        for path in ("/v1/responses", "/v1/responses/compact"):
            reply = target.ask(path, {**again, "previous_response_id": response["id"]})
            assert reply.status == 200, (path, body, response, reply.body)
    if not body.keys() & {"conversation", "previous_response_id"}:
        said = [item for item in body["input"] if item != TRIGGER]
        reply = target.ask("/v1/responses", {**again, "input": [*said, *response["output"], *rest], "store": False})
        assert reply.status == 200, (body, response, reply.body)


def run_cases(target: Target, count: int, *, seeded: bool) -> None:
    """``count`` cases, a third of each property; ``seeded``: the same ones every time."""
    options = settings(
        max_examples=count // 3,
        deadline=None,
        database=None,
        derandomize=seeded,
        suppress_health_check=list(HealthCheck),
    )
    runs: list[tuple[Callable[[Target, Any], None], st.SearchStrategy[Any]]] = [
        (check_any, cases(target.record.document.whole)),
        (check_valid, valid_creates()),
        (check_turn, turns()),
    ]
    for check, strategy in runs:
        _property(target, check, strategy, options)()


def _property(
    target: Target, check: Callable[[Target, Any], None], strategy: st.SearchStrategy[Any], options: settings
) -> Callable[[], None]:
    @options
    @given(strategy)
    def holds(one: Any) -> None:
        check(target, one)

    return holds
