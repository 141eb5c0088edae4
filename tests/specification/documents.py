"""The two specifications as compiled validators.

Loads the vendored shapes, reads the OpenAPI idioms as JSON Schema 2020-12, and tells in one line what is wrong with a
value. Knows nothing of the errors in the files (`known_errors.py`) nor of whole streams (`streams.py`).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema_rs
from jsonschema_rs import ValidationError, ValidationErrorKind, Validator

Json = dict[str, Any]
Schemas = dict[str, Json]

FOLDER = Path(__file__).resolve().parent
REFERENCE = "#/components/schemas/"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
# Where a union's branches differ, in the order in which they are asked.
TAGS = ("type", "role", "object")
SHOWN_ERRORS = 3
SHOWN_CHARACTERS = 160


def load(name: str) -> Schemas:
    """The component schemas of `openai` or `openresponses`, as JSON Schema, not yet corrected."""
    document = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    schemas: Schemas = document["components"]["schemas"]
    if name == "openresponses":  # it lists the events in the path alone
        reply = document["paths"]["/responses"]["post"]["responses"]["200"]
        schemas["ResponseStreamEvent"] = reply["content"]["text/event-stream"]["schema"]
    return {component: as_json_schema(schema, component) for component, schema in schemas.items()}


def as_json_schema(node: Any, component: str) -> Any:
    """Rewrite OpenAPI's own keywords inside the schema of `component`.

    `oneOf` becomes `anyOf`: with a discriminator OpenAPI means "the branch that the tag names", and several branches
    overlap (a message with typed content is both an easy input message and an item), which `oneOf` would refuse.
    """
    if isinstance(node, list):
        return [as_json_schema(entry, component) for entry in node]
    if not isinstance(node, dict):
        return node
    schema = {key: as_json_schema(value, component) for key, value in node.items()}
    schema.pop("$recursiveAnchor", None)
    if schema.pop("$recursiveRef", None) == "#":  # of draft 2019-09, gone from 2020-12
        schema["$ref"] = REFERENCE + component
    if "oneOf" in schema and isinstance(schema["oneOf"], list):
        schema["anyOf"] = schema.pop("oneOf")
    return _with_null(schema)


def _with_null(schema: Json) -> Json:
    """`nullable: true` of OpenAPI 3.0, alone or as a member of `allOf`, becomes a branch for null."""
    members = schema.get("allOf")
    marked = schema.get("nullable") is True
    if isinstance(members, list):
        marked = marked or any(member.get("nullable") is True for member in members)
        members = [member for member in members if member != {"nullable": True}]
        schema = {**schema, "allOf": members}
    if not marked:
        return schema
    schema.pop("nullable", None)
    return {"anyOf": [schema, {"type": "null"}]}


@dataclass
class Document:
    """One specification: `name` for messages, its `schemas`, and validators that are compiled on first use."""

    name: str
    schemas: Schemas
    _validators: dict[str, Validator] = field(default_factory=dict)
    _events: dict[str, str] | None = None

    def check(self, component: str, value: Any) -> None:
        """Raise AssertionError that names the document, the place and the value if `value` is no `component`."""
        validator = self._validators.get(component) or self._compile(component)
        if validator.is_valid(value):
            return
        faults = [describe(leaf) for error in validator.iter_errors(value) for leaf in leaves(error)]
        more = len(faults) - SHOWN_ERRORS
        shown = [*faults[:SHOWN_ERRORS], *([f"and {more} more"] if more > 0 else [])]
        raise AssertionError(f"{self.name} {component}: {'; '.join(shown)}")

    @property
    def events(self) -> dict[str, str]:
        """The component for each type of stream event."""
        if self._events is None:
            names = [branch["$ref"].removeprefix(REFERENCE) for branch in self.schemas["ResponseStreamEvent"]["anyOf"]]
            self._events = {tag: name for name in names for tag in tags(self.schemas, name)}
        return self._events

    def _compile(self, component: str) -> Validator:
        assert component in self.schemas, f"{self.name} has no component {component}"
        root = {"$schema": DIALECT, "$ref": REFERENCE + component, "components": {"schemas": self.schemas}}
        # Formats stay annotations, as the dialect has it: "uri" would refuse data URLs that the API takes.
        self._validators[component] = jsonschema_rs.Draft202012Validator(root, mask="value", offline=True)
        return self._validators[component]


def tags(schemas: Schemas, component: str) -> list[str]:
    """The values of `type` that a component, or any branch of it, admits."""
    schema = schemas[component]
    found = list(schema.get("properties", {}).get("type", {}).get("enum", []))
    for branch in [*schema.get("anyOf", []), *schema.get("allOf", [])]:
        name = branch.get("$ref", "").removeprefix(REFERENCE)
        found += tags(schemas, name) if name else branch.get("properties", {}).get("type", {}).get("enum", [])
    return found


def leaves(error: ValidationError) -> Iterator[ValidationError]:
    """The errors that say what is wrong: of a union, those of the branch that the value chose by its tag."""
    branches = _branches(error)
    chosen = _chosen(error, branches) if branches else None
    if chosen is None:
        yield error
        return
    for inner in chosen:
        yield from leaves(inner)


def _branches(error: ValidationError) -> list[list[ValidationError]]:
    kind = error.kind
    return list(kind.context) if isinstance(kind, ValidationErrorKind.AnyOf) else []


def _chosen(union: ValidationError, branches: list[list[ValidationError]]) -> list[ValidationError] | None:
    """The branch that all tags of the value name, else the one that its `type` names, else none."""
    for asked in (TAGS, TAGS[:1]):
        places = [[*union.instance_path, tag] for tag in asked]
        fitting = [errors for errors in branches if not any(_is_mismatch(error, union, places) for error in errors)]
        if fitting:
            return min(fitting, key=len)
    return None


def _is_mismatch(error: ValidationError, union: ValidationError, places: list[list[str | int]]) -> bool:
    """Whether this error means that the value belongs to another branch of `union`, whose tags are at `places`."""
    if error.instance_path == union.instance_path:
        branches = _branches(error)
        return error.kind.name == "type" or (bool(branches) and _chosen(error, branches) is None)
    return error.kind.name in {"enum", "const", "pattern"} and error.instance_path in places


def describe(error: ValidationError) -> str:
    """`$.path: what is wrong (the value)`, short."""
    path = "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.instance_path)
    return f"{path}: {_complaint(error)} ({shorten(error.instance)})"


def _complaint(error: ValidationError) -> str:
    kind = error.kind
    if isinstance(kind, ValidationErrorKind.Required):
        return f"{kind.property!r} is missing"
    if isinstance(kind, ValidationErrorKind.AnyOf) and isinstance(error.instance, dict):
        seen = {tag: error.instance[tag] for tag in TAGS if tag in error.instance}
        return f"no branch of the union takes {seen}"
    return error.message


def shorten(value: Any) -> str:
    """`value` as JSON, cut to what fits in a line."""
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "..."


def corrected(name: str, schemas: Schemas) -> Document:
    """A document over a private copy of `schemas`."""
    return Document(name, copy.deepcopy(schemas))
