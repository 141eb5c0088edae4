"""Content parts and tool calls as content blocks.

Pure.  Must not know of messages or turns.
"""

import base64
import binascii
import re
from typing import Any

import msgspec

from antiphon.engine.ports.upstreams import UpstreamError
from antiphon.protocol.items import Part

Block = dict[str, Any]

_DATA_URL = re.compile(r"data:(?P<kind>[\w.+-]+/[\w.+-]+)?(?:;[\w=-]+)*?;base64,(?P<data>.*)", re.DOTALL)
_FOREIGN = re.compile(r"[^A-Za-z0-9_-]")


def text_block(text: str) -> list[Block]:
    """Blank text is no block: the API refuses it."""
    return [{"type": "text", "text": text}] if text.strip() else []


def blocks_of(content: str | list[Part]) -> list[Block]:
    """The blocks of a user's message or a tool's output.  Raises ``UpstreamError`` for a file that is no document."""
    if isinstance(content, str):
        return text_block(content)
    return [block for part in content for block in _blocks(part)]


def _blocks(part: Part) -> list[Block]:
    if part.type == "input_image":
        return [_image(part.image_url or "")]
    if part.type == "input_file":
        return [_document(part)]
    return text_block(part.text or part.refusal or "")


def _image(url: str) -> Block:
    found = _DATA_URL.fullmatch(url)
    if found is None:
        return {"type": "image", "source": {"type": "url", "url": url}}
    source = {"type": "base64", "media_type": found["kind"] or "image/png", "data": found["data"]}
    return {"type": "image", "source": source}


def _document(part: Part) -> Block:
    """A file, as a data URL or in bare base64."""
    found = _DATA_URL.fullmatch(part.file_data or "")
    kind, data = (found["kind"], found["data"]) if found else (None, part.file_data or "")
    name = part.filename or ""
    if kind == "application/pdf" or name.lower().endswith(".pdf"):
        source = {"type": "base64", "media_type": "application/pdf", "data": data}
    elif (kind or "").startswith("text/") or (kind is None and name.lower().endswith((".txt", ".md"))):
        source = {"type": "text", "media_type": "text/plain", "data": _plain(data)}
    else:
        message = f"The model takes files as PDF and plain text only; '{name or 'file'}' is neither."
        raise UpstreamError(message, status=400, code="unsupported_value", param="input")
    return {"type": "document", "source": source} | ({"title": name} if name else {})


def _plain(data: str) -> str:
    try:
        return base64.b64decode(data, validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        message = "A file of the request is no base64."
        raise UpstreamError(message, status=400, code="invalid_value", param="input") from None


def tool_input(arguments: str) -> msgspec.Raw | Block:
    """A call's arguments as an object: as they were said where they are one."""
    try:
        if isinstance(msgspec.json.decode(arguments), dict):
            return msgspec.Raw(arguments.encode())
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        pass
    return {"input": arguments} if arguments.strip() else {}


class CallIds:
    """Ids of calls as the API takes them: letters, digits, underscores and dashes, and no id twice."""

    def __init__(self) -> None:
        self._used: set[str] = set()
        self._now: dict[str | None, str] = {}

    def begin(self, call_id: str | None) -> str:
        """The id of a new call; clients count theirs anew with every turn."""
        plain = _FOREIGN.sub("_", call_id or "") or "call"
        fresh, number = plain, 2
        while fresh in self._used:
            fresh, number = f"{plain}_{number}", number + 1
        self._used.add(fresh)
        self._now[call_id] = fresh
        return fresh

    def of(self, call_id: str | None) -> str:
        """The id of the last call that had this one."""
        return self._now.get(call_id) or self.begin(call_id)
