"""Cut the two published OpenAPI files down to shapes and write them to `tests/specification/`.

Usage: python scripts/vendor_specification.py SOURCE_DIR

SOURCE_DIR holds `openai-responses-openapi.json` and `openresponses-openapi.json`.
What stays are facts that a validator can use: paths, parameters, schemas, references, limits.
What goes is everything that is prose or tooling.
The output is stable: the same input gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TARGET = Path(__file__).resolve().parent.parent / "tests" / "specification"

PROSE = frozenset({"title", "description", "summary", "example", "examples", "tags", "externalDocs"})
TOOLING = frozenset({"info", "servers", "security", "securitySchemes", "operationId"})

# Below these keys the next level holds names chosen by the API, not keywords of JSON Schema or OpenAPI.
NAME_MAPS = frozenset(
    {"properties", "patternProperties", "$defs", "dependentSchemas", "schemas", "responses", "headers", "content"}
    | {"paths", "webhooks", "mapping"}
)
# Below these keys stand plain values, in which nothing is a keyword.
VALUES = frozenset({"enum", "const", "default", "required"})

SERVED = ("/responses", "/conversations", "/models", "/files", "/uploads", "/vector_stores", "/containers")
ROOTS = {
    "openai": (
        "ErrorResponse",
        "ResponseStreamEvent",
        "ResponsesClientEvent",
        "ResponsesServerEvent",
    ),
    "openresponses": ("ErrorPayload", "WebSocketErrorEvent", "WebSocketResponseCreateEvent"),
}
SOURCES = {"openai": "openai-responses-openapi.json", "openresponses": "openresponses-openapi.json"}
REFERENCE = "#/components/schemas/"

README = """# The two specifications, as shapes

Written by `scripts/vendor_specification.py`; do not edit the JSON by hand.
What the files get wrong is corrected when they are loaded, never here: see `known_errors.py`.

| file | origin | licence |
|---|---|---|
| `openai.json` | github.com/openai/openai-openapi, commit f85dbe2 (2026-08-21) | MIT, Copyright (c) OpenAI |
| `openresponses.json` | github.com/openresponses/openresponses, release 2026-04-24 | Apache-2.0 |

The input of `openai.json` was the published file already cut to the paths and events below.
sha256 of the inputs:

- `openai-responses-openapi.json`: `{openai}`
- `openresponses-openapi.json`: `{openresponses}`

Kept: paths under {served}, webhooks of responses,
and every component that they, the stream events and the WebSocket events reach.
Stripped: {prose}, every `x-` key, {tooling}.
Names of properties that happen to read like one of these stay.
References are not resolved, keys are sorted, and nothing else is changed.
"""


def shape(node: Any, *, names: bool = False) -> Any:
    """Copy `node` without prose; `names` says that its keys are names and therefore all stay."""
    if isinstance(node, list):
        return [shape(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    kept: dict[str, Any] = {}
    for key, value in node.items():
        if not names and (key in PROSE or key in TOOLING or key.startswith("x-")):
            continue
        kept[key] = value if key in VALUES and not names else shape(value, names=key in NAME_MAPS and not names)
    return kept


def references(node: Any) -> Iterator[str]:
    """Names of the component schemas that `node` refers to."""
    if isinstance(node, dict):
        target = node.get("$ref")
        if isinstance(target, str) and target.startswith(REFERENCE):
            yield target.removeprefix(REFERENCE)
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def reachable(schemas: dict[str, Any], roots: list[str]) -> dict[str, Any]:
    """The part of `schemas` that can be reached from `roots`."""
    found: dict[str, Any] = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = schemas[name]
            waiting.extend(references(schemas[name]))
    return found


def vendor(name: str, source: dict[str, Any]) -> dict[str, Any]:
    """The shapes of one document, cut to what the server serves."""
    document = shape(source)
    paths = {path: entry for path, entry in document["paths"].items() if path.startswith(SERVED)}
    webhooks = {key: entry for key, entry in document.get("webhooks", {}).items() if key.startswith("response_")}
    components = document["components"]
    outside = [paths, webhooks, components.get("responses", {})]
    schemas = reachable(components["schemas"], [*ROOTS[name], *references(outside)])
    kept = {"openapi": document["openapi"], "paths": paths, "components": {**components, "schemas": schemas}}
    return {**kept, "webhooks": webhooks} if webhooks else kept


def main(folder: str) -> None:
    hashes: dict[str, str] = {}
    for name, filename in SOURCES.items():
        data = (Path(folder) / filename).read_bytes()
        hashes[name] = hashlib.sha256(data).hexdigest()
        text = json.dumps(vendor(name, json.loads(data)), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        (TARGET / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        print(f"{name}.json: {len(text)} characters")
    served, prose, tooling = (", ".join(f"`{word}`" for word in sorted(words)) for words in (SERVED, PROSE, TOOLING))
    readme = README.format(**hashes, served=served, prose=prose, tooling=tooling)
    (TARGET / "README.md").write_text(readme, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python scripts/vendor_specification.py SOURCE_DIR")
    main(sys.argv[1])
