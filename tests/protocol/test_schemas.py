"""Which schemas strict mode takes, and the official words for the others."""

from __future__ import annotations

import time
from typing import Any

import pytest

from antiphon.protocol import schemas
from antiphon.protocol.schemas import strict_problem

Json = dict[str, Any]

STRING: Json = {"type": "string"}


def closed(properties: Json, **more: Any) -> Json:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
        **more,
    }


def nested(levels: int) -> Json:
    schema = closed({})
    for _ in range(levels - 1):
        schema = closed({"inner": schema})
    return schema


NODE = closed({"value": STRING, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}})
STEPS = {"steps": {"type": "array", "items": closed({"explanation": STRING, "output": STRING})}, "answer": STRING}

#: Schemas that the guide shows or that clients are known to send.
TAKEN = {
    "empty": closed({}),
    "no required, nothing to require": {"type": "object", "properties": {}, "additionalProperties": False},
    "steps": closed(STEPS),
    "nullable by type": closed({"unit": {"type": ["string", "null"], "enum": ["F", "C", None]}}),
    "nullable by union": closed({"unit": {"anyOf": [STRING, {"type": "null"}]}}),
    "string rules": closed({"a": {"type": "string", "pattern": "^@[a-z]+$", "minLength": 2, "maxLength": 9}}),
    "formats": closed({name: {"type": "string", "format": name} for name in schemas.FORMATS}),
    "number rules": closed({"a": {"type": "number", "minimum": -130, "exclusiveMaximum": 130, "multipleOf": 0.5}}),
    "array rules": closed({"a": {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 3}}),
    "const": closed({"kind": {"type": "string", "const": "fact"}}),
    "union of objects": closed({"item": {"anyOf": [closed({"name": STRING}), closed({"number": STRING})]}}),
    "definitions": closed({"a": {"$ref": "#/$defs/node"}}, **{"$defs": {"node": NODE}}),
    "definitions, old name": closed({"a": {"$ref": "#/definitions/x"}}, definitions={"x": STRING}),
    "escaped reference": closed({"a": {"$ref": "#/$defs/a~1b~0%25"}}, **{"$defs": {"a/b~%": STRING}}),
    "recursion by the root": closed({"children": {"type": "array", "items": {"$ref": "#"}}}),
    "annotations": closed({"a": {"type": "string", "title": "A", "description": "b", "default": "x", "examples": []}}),
    "names of a schema": {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "x", **closed({})},
    "a property named like a keyword": closed({"allOf": STRING, "$ref": STRING, "properties": STRING}),
    "keywords of others": closed({"a": {"type": "string", "x-order": 1, "nullable": True}}),
    "ten levels": nested(schemas.NESTING_MAX),
    "all properties": closed({f"p{index}": STRING for index in range(schemas.PROPERTIES_MAX)}),
    "all enum values": closed({"a": {"type": "string", "enum": [f"{i}" for i in range(schemas.ENUM_VALUES_MAX)]}}),
}

NOT_CLOSED = "'additionalProperties' is required to be supplied and to be false."
ALL_REQUIRED = "'required' is required to be supplied and to be an array including every key in properties."
NO_OBJECT = "schema must be a JSON Schema of 'type: \"object\"',"
MANY_VALUES = (
    "Expected at most 1000 enum values in total within a single schema when using structured outputs, but received "
    "1001. Consider reducing the number of enums, or use 'strict: false' to opt out of structured outputs."
)
LARGE_ENUM = "an enum of more than 250 values may have 15000 characters in all its strings together, but has 15060."
LONG_NAMES = (
    "The property names, definition names, enum and const values have 120001 characters together, which exceeds limit "
    "of 120000."
)
TOP = "schema must have type 'object' and not have 'oneOf'/'anyOf'/'allOf'/'enum'/'not' at the top level."
TOP_REFERENCE = "reference can only point to definitions defined at the top level of the schema."

REFUSED: dict[str, tuple[object, str]] = {
    "array": ({"type": "array", "items": STRING}, f"{NO_OBJECT} got 'type: \"array\"'."),
    "no type": ({"properties": {}}, f"{NO_OBJECT} got 'type: null'."),
    "nothing": (None, f"{NO_OBJECT} got 'type: null'."),
    "true": (True, f"{NO_OBJECT} got 'type: null'."),
    "two types": ({"type": ["object", "null"]}, f'{NO_OBJECT} got \'type: ["object", "null"]\'.'),
    **{word: (closed({}, **{word: [closed({})]}), TOP) for word in ("anyOf", "oneOf", "allOf", "enum", "not")},
    "open": ({"type": "object", "properties": {}, "required": []}, f"In context=(), {NOT_CLOSED}"),
    "open by name": ({**closed({}), "additionalProperties": True}, f"In context=(), {NOT_CLOSED}"),
    "a map": ({**closed({}), "additionalProperties": STRING}, f"In context=(), {NOT_CLOSED}"),
    "open inside": (
        closed({"a": {"type": "object", "properties": {}}}),
        f"In context=('properties', 'a'), {NOT_CLOSED}",
    ),
    "open in a list of types": (
        closed({"a": {"type": ["null", "object"], "properties": {}}}),
        f"In context=('properties', 'a', 'type', '1'), {NOT_CLOSED}",
    ),
    "open in a definition": (
        closed({}, **{"$defs": {"x": {"type": "object"}}}),
        f"In context=('$defs', 'x'), {NOT_CLOSED}",
    ),
    "optional": (
        closed(
            {"people": {"type": "array", "items": {**closed({"name": STRING, "roles": STRING}), "required": ["name"]}}}
        ),
        f"In context=('properties', 'people', 'items'), {ALL_REQUIRED} Missing 'roles'.",
    ),
    "none required": (
        {"type": "object", "properties": {"a": STRING}, "additionalProperties": False},
        f"In context=(), {ALL_REQUIRED} Missing 'a'.",
    ),
    "too much required": (
        {**closed({"a": STRING}), "required": ["a", "b"]},
        f"In context=(), {ALL_REQUIRED} Extra required key 'b' supplied.",
    ),
    "no properties": (
        {"type": "object", "additionalProperties": False},
        "In context=(), object schema missing properties.",
    ),
    "no items": (closed({"a": {"type": "array"}}), "In context=('properties', 'a'), array schema missing items."),
    "no type inside": (closed({"a": {}}), "In context=('properties', 'a'), schema must have a 'type' key."),
    "enum without a type": (
        closed({"a": {"enum": ["x"]}}),
        "In context=('properties', 'a'), schema must have a 'type' key.",
    ),
    "empty items": (
        closed({"a": {"type": "array", "items": {}}}),
        "In context=('properties', 'a', 'items'), schema must have a 'type' key.",
    ),
    "no schema": (closed({"a": True}), "In context=('properties', 'a'), True is not of type 'object'."),
    "unknown type": (
        closed({"a": {"type": "strin"}}),
        "In context=('properties', 'a'), 'strin' is not valid under any of the given schemas.",
    ),
    "a type twice": (
        closed({"a": {"type": ["null", "null"]}}),
        "In context=('properties', 'a', 'type', '1'), 'null' is not valid under any of the given schemas.",
    ),
    "union inside": (
        closed({"a": {"anyOf": [STRING, {"type": "object", "allOf": []}]}}),
        "In context=('properties', 'a', 'anyOf', '1'), 'allOf' is not permitted.",
    ),
    "empty union": (
        closed({"a": {"anyOf": []}}),
        "In context=('properties', 'a'), [] is not a non-empty array of schemas for 'anyOf'.",
    ),
    "format": (
        closed({"url": {"type": ["string", "null"], "format": "uri"}}),
        "In context=('properties', 'url', 'type', '0'), 'uri' is not a valid format.",
    ),
    "reference with company": (
        closed({"a": {"$ref": "#/$defs/x", "description": "d"}}, **{"$defs": {"x": STRING}}),
        "In context=('properties', 'a'), $ref cannot have keywords {'description'}.",
    ),
    "reference into the schema": (
        closed({"a": STRING, "b": {"$ref": "#/properties/a"}}),
        f"In context=('properties', 'b'), {TOP_REFERENCE}",
    ),
    "reference outside": (
        closed({"b": {"$ref": "https://example.com/schema"}}),
        f"In context=('properties', 'b'), {TOP_REFERENCE}",
    ),
    "reference to a file": (
        closed({"b": {"$ref": "file:///etc/passwd"}}),
        f"In context=('properties', 'b'), {TOP_REFERENCE}",
    ),
    "reference to nothing": (
        closed({"b": {"$ref": "#/$defs/Verdict"}}),
        "In context=('properties', 'b'), reference to component '#/$defs/Verdict' which was not found in the schema.",
    ),
    "reference to itself": (
        closed({}, **{"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"anyOf": [STRING, {"$ref": "#/$defs/a"}]}}}),
        "In context=('$defs', 'a', 'anyOf', '1'), the reference leads back to itself.",
    ),
    "empty enum": (
        closed({"a": {"type": "string", "enum": []}}),
        "In context=('properties', 'a'), [] is not a non-empty array for 'enum'.",
    ),
    "definitions that are none": (closed({}, **{"$defs": []}), "In context=('$defs',), [] is not of type 'object'."),
    "eleven levels": (nested(11), "11 levels of nesting exceeds limit of 10."),
    "too many properties": (
        closed({f"p{index}": STRING for index in range(5_001)}),
        "5001 object properties exceeds limit of 5000.",
    ),
    "too many enum values": (
        closed({"a": {"type": "string", "enum": [f"{index}" for index in range(1_001)]}}),
        MANY_VALUES,
    ),
    "a large enum": (
        closed({"a": {"type": "string", "enum": [f"{index:060}" for index in range(251)]}}),
        f"In context=('properties', 'a'), {LARGE_ENUM}",
    ),
    "long names": (
        closed({"a" * 120_001: STRING}),
        LONG_NAMES,
    ),
}


@pytest.mark.parametrize("name", TAKEN)
def test_taken(name: str) -> None:
    assert strict_problem(TAKEN[name]) is None


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    schema, problem = REFUSED[name]

    assert strict_problem(schema) == problem


@pytest.mark.parametrize("keyword", sorted(schemas.UNSUPPORTED))
def test_a_keyword_that_is_not_supported(keyword: str) -> None:
    schema = closed({"a": {"type": "string", keyword: {}}})

    assert strict_problem(schema) == f"In context=('properties', 'a'), '{keyword}' is not permitted."


def test_the_error_of_a_reply_format() -> None:
    error = schemas.of_format("codex_output_schema").refuse(f"In context=(), {NOT_CLOSED}")

    assert error.message == f"Invalid schema for response_format 'codex_output_schema': In context=(), {NOT_CLOSED}"
    assert (error.status, error.type) == (400, "invalid_request_error")
    assert (error.param, error.code) == ("text.format.schema", "invalid_json_schema")


def test_the_error_of_a_function() -> None:
    error = schemas.of_function("glob", "tools[3]").refuse(f"In context=(), {NOT_CLOSED}")

    assert error.message == f"Invalid schema for function 'glob': In context=(), {NOT_CLOSED}"
    assert (error.status, error.param, error.code) == (400, "tools[3].parameters", "invalid_function_parameters")


def deep_unions(levels: int) -> Json:
    schema: Json = STRING
    for _ in range(levels):
        schema = {"anyOf": [schema]}
    return closed({"a": schema})


def chain(links: int) -> Json:
    definitions: Json = {f"d{index}": {"$ref": f"#/$defs/d{index + 1}"} for index in range(links)}
    return closed({"a": {"$ref": "#/$defs/d0"}}, **{"$defs": {**definitions, f"d{links}": STRING}})


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        (deep_unions(200), "schemas inside schemas exceed limit of 64 levels."),
        (chain(5_000), "In context=('$defs', 'd0'), more than 256 references lead to one another."),
        (closed({"a": {"type": ["object"] * 10_000}}), None),
        (closed({"x" * 1_000: {"type": "x" * 100_000}}), None),
        (closed({"a": {"type": "string", "enum": "x" * 1_000_000}}), None),
    ],
)
def test_hostile_schemas_are_refused_in_short_words_at_once(schema: Json, problem: str | None) -> None:
    begun = time.process_time()

    told = strict_problem(schema)

    assert told is not None
    assert problem is None or told == problem
    assert len(told) < 1_000
    assert time.process_time() - begun < 2
