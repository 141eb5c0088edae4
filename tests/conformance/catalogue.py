"""What there is to be produced: every endpoint, item type, event type and error code, read from both documents.

What this server does not serve yet stands in ``LATER`` with the reason; everything else must be produced by a run.
Knows nothing of how anything is produced.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any, NamedTuple

from tests.specification.documents import FOLDER, load, tags

from antiphon.assemble import Server
from antiphon.config import Config
from antiphon.web.api.openapi import described
from antiphon.web.api.openapi_shapes import CODES

Json = dict[str, Any]

KINDS = ("endpoint", "output item", "input item", "event", "error code")

HOSTED = "hosted tools are not here yet"
FILES = "files are not kept here yet"
STORES = "vector stores are not here yet"
#: Why something is not produced, by a pattern of its name.
LATER: dict[str, list[tuple[str, str]]] = {
    "endpoint": [
        (r"\w+ /v1/(files|uploads)\b.*", FILES),
        (r"\w+ /v1/vector_stores\b.*", STORES),
        (r"\w+ /v1/containers\b.*", HOSTED),
        (r"DELETE /v1/models/.*", "it deletes fine-tuned models, and nothing is tuned here"),
    ],
    "output item": [
        (r"(function|custom_tool)_call_output", "only programmatic tool calling puts them into an output"),
        (
            r"(additional_tools|mcp_approval_response|(apply_patch|computer|local_shell)_call_output)",
            "clients send it; no model makes it",
        ),
        (r"(program|program_output)", "programmatic tool calling is not here yet"),
    ],
    "input item": [],
    "event": [
        (r"error", "a failed stream ends with response.failed: some clients see nothing behind an error event"),
        (r"response\.audio\..*", "legacy; no model of the Responses API speaks"),
        (r"response\.reasoning\.(delta|done)", "Open Responses' name of response.reasoning_text.*, which SDKs need"),
    ],
    "error code": [
        (r"upstream_crashed", "only the embedded engine crashes: tests/upstreams/test_embedded.py"),
        (r"unsupported_image_media_type", "it takes a server with a broken image: tests/test_attachments.py"),
        (r"websocket_connection_limit_reached", "it ends a connection: tests/web/test_websocket_limits.py"),
        (r"request_timeout", "it takes a minute: tests/web/test_transport.py"),
    ],
}


class Entry(NamedTuple):
    """One thing to be produced; ``later`` says why it is not yet."""

    kind: str
    name: str
    sources: tuple[str, ...]
    later: str = ""


def _methods(document: str) -> set[str]:
    paths = json.loads((FOLDER / f"{document}.json").read_text("utf-8"))["paths"]
    return {
        f"{method.upper()} /v1{path}"
        for path, operations in paths.items()
        for method in operations
        if method in ("get", "post", "delete")
    }


def routes() -> set[str]:
    """What this server serves, as METHOD and path."""
    server = Server(Config(database=":memory:", demo_model=False))
    return {f"{route.method} {described(route.path)}" for route in server.app.routes}


def _endpoints() -> dict[str, set[str]]:
    return {"openai": _methods("openai"), "openresponses": _methods("openresponses"), "ours": routes()}


def _types(document: str, *components: str) -> set[str]:
    schemas = load(document)
    return {tag for component in components for tag in tags(schemas, component)}


def _named() -> dict[str, dict[str, set[str]]]:
    """Names by kind and source."""
    return {
        "endpoint": _endpoints(),
        "output item": {
            "openai": _types("openai", "OutputItem"),
            "openresponses": _types("openresponses", "ItemField"),
        },
        "input item": {
            "openai": _types("openai", "InputItem") | {"item_reference"},
            "openresponses": _types("openresponses", "ItemParam") | {"item_reference"},
            "the SDKs": {"configuration_update"},
        },
        "event": {
            "openai": _types("openai", "ResponseStreamEvent"),
            "openresponses": _types("openresponses", "ResponseStreamEvent"),
        },
        "error code": {"ours": set(CODES)},
    }


def _later(kind: str, name: str) -> str:
    return next((reason for pattern, reason in LATER[kind] if re.fullmatch(pattern, name)), "")


@cache
def catalogue() -> list[Entry]:
    """Everything, in a fixed order."""
    entries = []
    for kind, sources in _named().items():
        for name in sorted(set().union(*sources.values())):
            told = tuple(source for source, names in sources.items() if name in names)
            later = _later(kind, name)
            entries.append(Entry(kind, name, told, later))
    return entries
