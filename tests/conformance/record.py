"""What a run produced, and the checks that every reply of it passes.

A reply is held against both specifications (`tests.web.client`), against this server's own document, and a stream
against its fold.  Must not know how replies are brought about.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jsonschema_rs
from tests.conformance.catalogue import Entry, catalogue
from tests.specification.conformance import parse_sse, without_keepalives
from tests.web import client as web
from tests.web.client import Client, Reply

from antiphon.assemble import Server
from antiphon.config import Config
from antiphon.engine.fold import Fold
from antiphon.web.api.openapi import document

Json = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"


class Document:
    """This server's own OpenAPI document, as validators."""

    def __init__(self) -> None:
        server = Server(Config(database=":memory:", demo_model=False))
        self.whole = document(server.app.routes, "0")
        self._patterns = [
            (re.compile(re.sub(r"\\\{\w+\\\}", "(.+)" if "model" in path else "([^/]+)", re.escape(path))), path)
            for path in sorted(self.whole["paths"], key=lambda path: path.count("{"))
        ]
        self._validators: dict[str, jsonschema_rs.Validator] = {}

    def path_of(self, target: str) -> str | None:
        """The documented path that a target belongs to; None for one that there is not."""
        path = target.partition("?")[0]
        return next((told for pattern, told in self._patterns if pattern.fullmatch(path)), None)

    def check(self, method: str, target: str, reply: Reply) -> str | None:
        """Raises AssertionError unless the reply is documented; returns the endpoint, if it is one."""
        path = self.path_of(target)
        operation = self.whole["paths"].get(path, {}).get(method.lower())
        if operation is None:
            assert reply.status in (204, 400, 401, 403, 404, 405), (method, target, reply.status)
            return None
        told = operation["responses"].get(str(reply.status))
        assert told, f"{method} {path}: status {reply.status} is not documented: {reply.body[:300]!r}"
        kind = reply.headers["content-type"].partition(";")[0]
        schema = told["content"][kind]["schema"]
        bodies = without_keepalives(parse_sse(reply.body)) if kind == "text/event-stream" else [reply.json]
        for body in bodies:
            self.check_schema(schema, body)
        return f"{method} {path}"

    def check_schema(self, schema: Json, body: Any) -> None:
        """Raises AssertionError unless the body is what the schema says."""
        key = json.dumps(schema)
        validator = self._validators.get(key)
        if validator is None:
            root = {"$schema": DIALECT, **schema, "components": self.whole["components"]}
            validator = self._validators[key] = jsonschema_rs.Draft202012Validator(root, offline=True)
        error = next(iter(validator.iter_errors(body)), None)
        assert error is None, f"our document: {error}"[:2000]

    def accepts(self, schema: Json, body: Any) -> bool:
        """Whether the body is what the schema says."""
        try:
            self.check_schema(schema, body)
        except AssertionError:
            return False
        return True


class Record:
    """How often everything in the catalogue was produced."""

    def __init__(self) -> None:
        self.document = Document()
        self.counts: Counter[tuple[str, str]] = Counter()
        self.streams = 0

    def take(self, method: str, target: str, body: bytes, reply: Reply) -> None:
        """Checks a reply and counts what it shows."""
        endpoint = self.document.check(method, target, reply)
        if endpoint is not None and reply.status < 400:
            self.counts["endpoint", endpoint] += 1
        if reply.headers.get("content-type", "").startswith("text/event-stream"):
            self._take_stream(parse_sse(reply.body), whole="starting_after" not in target)
        elif reply.body and reply.status >= 400:
            self._take_error(reply.json.get("error"))
        elif reply.body and reply.json.get("object") == "response":
            self._take_response(reply.json)
        if reply.status < 400:
            self._take_input(body)

    def take_socket(self, events: list[Json]) -> None:
        """Counts what one message over WebSocket was answered with; the client has checked it."""
        self.counts["endpoint", "GET /v1/responses"] += 1
        if events[0]["type"] == "error":
            self._take_error(events[0]["error"])
        else:
            self._take_stream(events, whole=True)

    def _take_stream(self, events: list[Json], *, whole: bool) -> None:
        kept = without_keepalives(events)
        for event in kept:
            self.counts["event", event["type"]] += 1
            self._take_error(event.get("error"))
        final = kept[-1]["response"] if kept else None
        if final is None or not whole:
            return
        self._take_response(final)
        self.streams += 1
        fold = Fold()
        for event in kept:
            fold.apply(event)
        assert fold.response() == final, "the fold of the events is not the Response"

    def _take_response(self, response: Json) -> None:
        for item in response.get("output", ()):
            self.counts["output item", item["type"]] += 1
        self._take_error(response.get("error"))

    def _take_error(self, error: Json | None) -> None:
        if error and error.get("code"):
            self.counts["error code", error["code"]] += 1

    def _take_input(self, body: bytes) -> None:
        """What a request that was served had as its input."""
        try:
            sent = json.loads(body or b"{}")
        except ValueError:
            return
        given = (sent.get("input") or sent.get("items")) if isinstance(sent, dict) else None
        for item in given if isinstance(given, list) else []:
            if not isinstance(item, dict):
                continue
            self.counts["input item", item.get("type") or ("message" if "role" in item else "item_reference")] += 1

    def missing(self) -> list[Entry]:
        """What should have been produced and was not."""
        return [entry for entry in catalogue() if not entry.later and not self.counts[entry.kind, entry.name]]

    def premature(self) -> list[Entry]:
        """What the catalogue says is not here yet, and was produced."""
        return [entry for entry in catalogue() if entry.later and self.counts[entry.kind, entry.name]]


class _Connection(web.Connection):
    record: Record
    _sent: bytes = b""

    async def send(self, method: str, target: str, body: Any = None, headers: Any = None) -> None:
        self._sent = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        await super().send(method, target, body, headers)

    async def reply(self, method: str, target: str) -> Reply:
        reply = await super().reply(method, target)
        self.record.take(method, target, self._sent, reply)
        return reply


class RecordingClient(Client):
    """A client whose replies are recorded."""

    def __init__(self, port: int, record: Record, headers: dict[str, str] | None = None) -> None:
        super().__init__(port, headers)
        self.record = record

    @asynccontextmanager
    async def connected(self, **options: Any) -> AsyncIterator[web.Connection]:
        async with super().connected(**options) as plain:
            connection = _Connection(plain.reader, plain.writer, self.headers)
            connection.record = self.record
            yield connection
