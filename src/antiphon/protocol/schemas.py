"""What a JSON schema must be where ``strict`` is true, and what is wrong with one in the official words.

Must not know how text is held against a schema, or any library that does it.  Rules and wordings: OpenAI's guide to
structured outputs ("Supported schemas"), and the errors that its API is known to answer with.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

from antiphon.protocol.errors import ApiError, invalid, quoted

#: Limits of the guide, over a whole schema.
PROPERTIES_MAX = 5_000
NESTING_MAX = 10
ENUM_VALUES_MAX = 1_000
NAMES_CHARS_MAX = 120_000
#: Of one enum with more values than this, the strings together have a limit of their own.
SMALL_ENUM = 250
LARGE_ENUM_CHARS_MAX = 15_000
#: Schemas inside schemas of whatever kind, and references that lead to references; the guide has no such limits, a
#: stack has.
SCHEMAS_DEEP_MAX = 64
REFERENCES_MAX = 256

TYPES = ("string", "number", "integer", "boolean", "object", "array", "null")
FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid")
#: Keywords of JSON Schema that would restrict what is said, and that the guide leaves out.  Whatever else is unknown
#: restricts nothing and is let pass, as JSON Schema says.
UNSUPPORTED = frozenset(
    {
        *("allOf", "oneOf", "not", "if", "then", "else"),
        *("dependentRequired", "dependentSchemas", "dependencies"),
        *("patternProperties", "propertyNames", "minProperties", "maxProperties", "unevaluatedProperties"),
        *("prefixItems", "additionalItems", "contains", "minContains", "maxContains", "uniqueItems"),
        *("unevaluatedItems", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor"),
        "$vocabulary",
    }
)
_NOT_AT_ROOT = ("oneOf", "anyOf", "allOf", "enum", "not")
_DEFINITION = re.compile(r"#/(?P<where>\$defs|definitions)/(?P<name>[^/]+)")

Context = tuple[str, ...]
Schema = Mapping[str, Any]


class Place(NamedTuple):
    """Where a request carries a schema: what messages call it, the parameter, and the error's code."""

    subject: str
    param: str
    code: str

    def refuse(self, problem: str) -> ApiError:
        """400 in the official form; ``problem`` is a sentence."""
        return invalid(f"Invalid schema for {self.subject}: {problem}", self.param, self.code)


def of_format(name: str | None) -> Place:
    """The schema of ``text.format``."""
    return Place(f"response_format '{quoted(name or '')}'", "text.format.schema", "invalid_json_schema")


def of_function(name: str | None, path: str) -> Place:
    """The parameters of the function that is declared at ``path``."""
    return Place(f"function '{quoted(name or '')}'", f"{path}.parameters", "invalid_function_parameters")


class _Problem(Exception):
    """What is wrong, as a sentence."""


def strict_problem(schema: object) -> str | None:
    """What keeps a decoded schema from being a strict one, as a sentence with the place; None: nothing."""
    try:
        _check_root(schema)
        _Walk(schema).run()
    except _Problem as problem:
        return str(problem)
    return None


def _problem(context: Context, text: str) -> _Problem:
    return _Problem(f"In context={quoted_context(context)}, {text}")


def quoted_context(context: Context) -> str:
    """The place inside a schema as the official messages write it; the middle of a long one is left out."""
    shown = tuple(quoted(step) for step in context)
    return str(shown if len(shown) <= 24 else (*shown[:12], "...", *shown[-12:]))


def _check_root(schema: object) -> None:
    kind = schema.get("type") if isinstance(schema, dict) else None
    if not isinstance(schema, dict) or kind != "object":
        got = "null" if kind is None else quoted(json.dumps(kind))
        raise _Problem(f"schema must be a JSON Schema of 'type: \"object\"', got 'type: {got}'.")
    if any(keyword in schema for keyword in _NOT_AT_ROOT):
        raise _Problem(
            "schema must have type 'object' and not have 'oneOf'/'anyOf'/'allOf'/'enum'/'not' at the top level."
        )


class _Walk:
    """One pass over a schema, outermost and first things first."""

    def __init__(self, root: Any) -> None:
        self._root: Schema = root
        self._properties = 0
        self._enum_values = 0
        self._chars = 0

    def run(self) -> None:
        self._visit(self._root, (), 0, 0)
        for where in ("$defs", "definitions"):
            definitions = self._root.get(where, {})
            if not isinstance(definitions, dict):
                raise _problem((where,), f"{_shown(definitions)} is not of type 'object'.")
            for name, schema in definitions.items():
                self._chars += len(name)
                self._visit(schema, (where, name), 0, 0)
        self._check_totals()
        _Loops(self._root).check()

    def _check_totals(self) -> None:
        if self._properties > PROPERTIES_MAX:
            raise _Problem(f"{self._properties} object properties exceeds limit of {PROPERTIES_MAX}.")
        if self._enum_values > ENUM_VALUES_MAX:
            raise _Problem(
                f"Expected at most {ENUM_VALUES_MAX} enum values in total within a single schema when using "
                f"structured outputs, but received {self._enum_values}. Consider reducing the number of enums, or "
                "use 'strict: false' to opt out of structured outputs."
            )
        if self._chars > NAMES_CHARS_MAX:
            raise _Problem(
                f"The property names, definition names, enum and const values have {self._chars} characters together, "
                f"which exceeds limit of {NAMES_CHARS_MAX}."
            )

    def _visit(self, schema: object, context: Context, nesting: int, deep: int) -> None:
        if not isinstance(schema, dict):
            raise _problem(context, f"{_shown(schema)} is not of type 'object'.")
        if deep > SCHEMAS_DEEP_MAX:
            raise _Problem(f"schemas inside schemas exceed limit of {SCHEMAS_DEEP_MAX} levels.")
        for keyword in schema:
            if keyword in UNSUPPORTED or (keyword == "$id" and context):
                raise _problem(context, f"'{keyword}' is not permitted.")
        if "$ref" in schema:
            _check_reference(schema, context, self._root)
            return
        if "type" not in schema and "anyOf" not in schema:
            raise _problem(context, "schema must have a 'type' key.")
        self._count_values(schema, context)
        for kind, place in _types(schema, context):
            if kind == "object":
                self._visit_object(schema, place, context, nesting + 1, deep)
            elif kind == "array":
                if "items" not in schema:
                    raise _problem(place, "array schema missing items.")
                self._visit(schema["items"], (*context, "items"), nesting, deep + 1)
            elif kind == "string":
                _check_string(schema, place)
        self._visit_branches(schema, context, nesting, deep)

    def _visit_branches(self, schema: Schema, context: Context, nesting: int, deep: int) -> None:
        branches = schema.get("anyOf", ())
        if "anyOf" in schema and (not isinstance(branches, list) or not branches):
            raise _problem(context, f"{_shown(branches)} is not a non-empty array of schemas for 'anyOf'.")
        for index, branch in enumerate(branches):
            self._visit(branch, (*context, "anyOf", str(index)), nesting, deep + 1)

    def _visit_object(self, schema: Schema, place: Context, context: Context, nesting: int, deep: int) -> None:
        if nesting > NESTING_MAX:
            raise _Problem(f"{nesting} levels of nesting exceeds limit of {NESTING_MAX}.")
        if schema.get("additionalProperties") is not False:
            raise _problem(place, "'additionalProperties' is required to be supplied and to be false.")
        if "properties" not in schema:
            raise _problem(place, "object schema missing properties.")
        properties = schema["properties"]
        if not isinstance(properties, dict):
            raise _problem(place, f"{_shown(properties)} is not of type 'object'.")
        _check_required(properties, schema.get("required"), place)
        self._properties += len(properties)
        for name, inner in properties.items():
            self._chars += len(name)
            self._visit(inner, (*context, "properties", name), nesting, deep + 1)

    def _count_values(self, schema: Schema, context: Context) -> None:
        if "const" in schema:
            self._chars += _chars([schema["const"]])
        if "enum" not in schema:
            return
        values = schema["enum"]
        if not isinstance(values, list) or not values:
            raise _problem(context, f"{_shown(values)} is not a non-empty array for 'enum'.")
        self._enum_values += len(values)
        chars = _chars(values)
        self._chars += chars
        if len(values) > SMALL_ENUM and chars > LARGE_ENUM_CHARS_MAX:
            raise _problem(
                context,
                f"an enum of more than {SMALL_ENUM} values may have {LARGE_ENUM_CHARS_MAX} characters in all its "
                f"strings together, but has {chars}.",
            )


def _types(schema: Schema, context: Context) -> Iterator[tuple[str, Context]]:
    """Each type once, with its place; the members of a list have places of their own."""
    kinds = schema.get("type", [])
    listed = isinstance(kinds, list)
    told: set[str] = set()
    for index, kind in enumerate(kinds if listed else [kinds]):
        place = (*context, "type", str(index)) if listed else context
        if kind not in TYPES or kind in told:
            raise _problem(place, f"{_shown(kind)} is not valid under any of the given schemas.")
        told.add(kind)
        yield kind, place


def _check_required(properties: Schema, required: object, place: Context) -> None:
    start = "'required' is required to be supplied and to be an array including every key in properties."
    if required is None and not properties:
        return
    if not isinstance(required, list):
        raise _problem(place, f"{start} Missing '{quoted(next(iter(properties), ''))}'.")
    given = {name for name in required if isinstance(name, str)}
    for name in properties:
        if name not in given:
            raise _problem(place, f"{start} Missing '{quoted(name)}'.")
    for name in required:
        if not isinstance(name, str) or name not in properties:
            raise _problem(place, f"{start} Extra required key {_shown(name)} supplied.")


def _check_string(schema: Schema, place: Context) -> None:
    form = schema.get("format")
    if form is not None and form not in FORMATS:
        raise _problem(place, f"{_shown(form)} is not a valid format.")


def _check_reference(schema: Schema, context: Context, root: Schema) -> None:
    reference = schema["$ref"]
    others = sorted(keyword for keyword in schema if keyword != "$ref")
    if others:
        shown = ", ".join(_shown(keyword) for keyword in others)
        raise _problem(context, f"$ref cannot have keywords {{{quoted(shown)}}}.")
    if not isinstance(reference, str):
        raise _problem(context, f"{_shown(reference)} is not of type 'string'.")
    if reference != "#" and _DEFINITION.fullmatch(reference) is None:
        raise _problem(context, "reference can only point to definitions defined at the top level of the schema.")
    if resolve(root, reference) is None:
        text = f"reference to component {_shown(reference)} which was not found in the schema."
        raise _problem(context, text)


def resolve(root: Schema, reference: str) -> Schema | None:
    """What a reference to the root or to one of its definitions points at; None: nothing."""
    if reference == "#":
        return root
    found = _DEFINITION.fullmatch(reference)
    if found is None:
        return None
    name = unquote(found["name"]).replace("~1", "/").replace("~0", "~")
    definitions = root.get(found["where"])
    target = definitions.get(name) if isinstance(definitions, dict) else None
    return target if isinstance(target, dict) else None


class _Loops:
    """Looks for references that lead back to themselves before any value is said: nothing could ever match them."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._open: set[int] = set()
        self._done: set[int] = set()

    def check(self) -> None:
        for where in ("$defs", "definitions"):
            for name, schema in self._root.get(where, {}).items():
                self._follow(schema, (where, name))

    def _follow(self, schema: Schema, context: Context) -> None:
        if id(schema) in self._done:
            return
        if id(schema) in self._open:
            raise _problem(context, "the reference leads back to itself.")
        if len(self._open) > REFERENCES_MAX:
            raise _problem(context, f"more than {REFERENCES_MAX} references lead to one another.")
        self._open.add(id(schema))
        if "$ref" in schema:
            target = resolve(self._root, schema["$ref"])
            assert target is not None
            self._follow(target, context)
        for index, branch in enumerate(schema.get("anyOf", ())):
            self._follow(branch, (*context, "anyOf", str(index)))
        self._open.discard(id(schema))
        self._done.add(id(schema))


def _chars(values: list[Any]) -> int:
    return sum(len(value) for value in values if isinstance(value, str))


def _shown(value: object) -> str:
    return quoted(repr(value))
