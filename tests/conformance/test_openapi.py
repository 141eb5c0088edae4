"""`GET /openapi.json` says what the routes and the handlers do: it is complete, and its limits are the checks'."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from tests.conformance.catalogue import routes
from tests.conformance.record import Document
from tests.web.client import asked
from tests.web.conftest import serving

from antiphon.protocol import requests
from antiphon.protocol.errors import ApiError
from antiphon.protocol.requests import read_create
from antiphon.web.api.openapi import DERIVED, OPERATIONS
from antiphon.web.api.openapi_shapes import LIMITS

Json = dict[str, Any]

DOCUMENT = Document()
SCHEMAS: Json = DOCUMENT.whole["components"]["schemas"]
CREATE: Json = SCHEMAS["CreateResponse"]["properties"]
#: Where members with limits stand in a create.
INSIDE = {"effort": "reasoning", "summary": "reasoning", "generate_summary": "reasoning", "verbosity": "text"}


def test_every_route_is_described_and_nothing_else() -> None:
    described = {f"{method.upper()} {path}" for path, methods in DOCUMENT.whole["paths"].items() for method in methods}

    assert described == routes()
    assert described <= OPERATIONS.keys()


def test_operations_have_ids_of_their_own() -> None:
    ids = [operation["operationId"] for methods in DOCUMENT.whole["paths"].values() for operation in methods.values()]

    assert len(set(ids)) == len(ids)


def test_every_reference_leads_somewhere() -> None:
    text = json.dumps(DOCUMENT.whole)
    named = set(re.findall(r'"#/components/(\w+)/([\w-]+)"', text))

    assert {name for kind, name in named if kind == "schemas"} <= SCHEMAS.keys()
    assert {name for kind, name in named if kind == "headers"} <= DOCUMENT.whole["components"]["headers"].keys()


def test_every_component_can_be_compiled_and_refuses_something() -> None:
    for name in SCHEMAS:
        DOCUMENT.accepts({"$ref": f"#/components/schemas/{name}"}, None)
        assert not DOCUMENT.accepts({"$ref": f"#/components/schemas/{name}"}, 1.5), name


async def test_it_is_served_without_a_key_and_in_full() -> None:
    async with serving(api_keys=["sk-good-0123456789"]) as here:
        reply = await here.client.get("/openapi.json")

    assert reply.status == 200
    assert reply.json["openapi"].startswith("3.1")
    assert reply.json["paths"] == DOCUMENT.whole["paths"]
    assert reply.json["components"] == DOCUMENT.whole["components"]


async def test_only_open_routes_are_said_to_be_open() -> None:
    async with serving(api_keys=["sk-good-0123456789"]) as here:
        for path, methods in DOCUMENT.whole["paths"].items():
            for method, operation in methods.items():
                target = re.sub(r"\{\w+\}", "none", path)
                reply = await here.client.request(method.upper(), target)
                assert (reply.status != 401) == (operation["security"] == []), (method, path)


async def test_headers_that_a_request_may_have_are_described_with_their_limits() -> None:
    parameters = DOCUMENT.whole["paths"]["/v1/responses"]["post"]["parameters"]
    told = next(parameter for parameter in parameters if parameter["name"] == "Idempotency-Key")
    assert (told["in"], told["required"]) == ("header", False)
    longest = told["schema"]["maxLength"]
    async with serving() as here:
        for length, status in ((longest, 200), (longest + 1, 400)):
            reply = await here.client.post("/v1/responses", asked(), idempotency_key="k" * length)
            assert reply.status == status


# --- What a create may hold ---


def test_its_parameters_are_those_that_are_read() -> None:
    assert CREATE.keys() == requests._KNOWN
    assert DERIVED == requests._DERIVED


def _body(name: str, value: Any) -> bytes:
    inside = INSIDE.get(name)
    return json.dumps(asked(**({inside: {name: value}} if inside else {name: value}))).encode()


def _inside_and_outside(name: str, limits: Json) -> tuple[list[Any], list[Any]]:
    """Values at a limit, and values just beyond it."""
    good: list[Any] = list(limits.get("enum", []))
    bad: list[Any] = ["no such value"] if "enum" in limits else []
    if "minimum" in limits:
        good += [limits["minimum"], limits["maximum"]]
        bad += [limits["minimum"] - 1, limits["maximum"] + 1]
    if "maxLength" in limits:
        good.append("a" * limits["maxLength"])
        bad.append("a" * (limits["maxLength"] + 1))
    if name == "metadata":
        good.append({f"{number:064}": "a" * 512 for number in range(16)})
        bad += [{str(number): "" for number in range(17)}, {"a" * 65: ""}, {"a": "a" * 513}]
    if name == "include":
        good.append(limits["items"]["enum"])
        bad.append(["no such value"])
    if name == "tools":
        tool = {"type": "function", "name": "f"}
        good.append([{**tool, "name": f"f{number}"} for number in range(limits["maxItems"])])
        bad.append([{**tool, "name": f"f{number}"} for number in range(limits["maxItems"] + 1)])
    return good, bad


@pytest.mark.parametrize("name", LIMITS)
def test_limits_are_those_of_the_checks(name: str) -> None:
    good, bad = _inside_and_outside(name, LIMITS[name])
    assert good
    assert bad
    for value in good:
        body = _body(name, value)
        read_create(body)
        DOCUMENT.check_schema({"$ref": "#/components/schemas/CreateResponse"}, json.loads(body))
    for value in bad:
        body = _body(name, value)
        with pytest.raises(ApiError) as refused:
            read_create(body)
        assert refused.value.status == 400
        assert not DOCUMENT.accepts({"$ref": "#/components/schemas/CreateResponse"}, json.loads(body)), value
