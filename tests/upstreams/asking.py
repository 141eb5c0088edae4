"""Model requests as the engine makes them, from requests as clients write them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from antiphon.engine import toolbox
from antiphon.engine.context import view
from antiphon.engine.ports.upstreams import ModelRequest
from antiphon.engine.recalling import recall
from antiphon.protocol.requests import read_create
from antiphon.upstreams.chat_completions.options import Options
from antiphon.upstreams.chat_completions.request import encode, form_of

Json = dict[str, Any]


def asked(
    *items: Json, model: str = "m", force_choice: bool = True, foreign: Sequence[str] = (), **parameters: Any
) -> ModelRequest:
    """A model request with these items in its context and the parameters of a client's request."""
    raw = json.dumps({"model": model, "input": "unused", **parameters}).encode()
    return asked_of(raw, *items, force_choice=force_choice, foreign=foreign)


def asked_of(raw: bytes, *items: Json, force_choice: bool = True, foreign: Sequence[str] = ()) -> ModelRequest:
    """The same, from the bytes of a client's request."""
    request = read_create(raw)
    context = view(json.dumps(item).encode() for item in items)
    box = toolbox.sort(request, {}, strict=False, items=context, foreign=foreign)
    return ModelRequest(request.model or "", recall(context, box), box.visible, request, box.choice, force_choice)


def user(text: str) -> Json:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def function(name: str, **members: Any) -> Json:
    """A declaration of a function."""
    return {"type": "function", "name": name, **members}


def body_of(request: ModelRequest, options: Options, *, stream: bool) -> bytes:
    """The body that it is sent as."""
    return encode(form_of(request, options, stream=stream))
