"""``POST /v1/responses/input_tokens``: how many tokens a request is for its model.  Call: reference 4.5.

Nothing is run, stored or added to what is continued.  Must not know how plans are made.
"""

import asyncio
from functools import partial
from typing import Protocol

from antiphon.engine.ports import ModelRequest, UpstreamError
from antiphon.engine.toolbox import SEEN
from antiphon.engine.turns import Plan
from antiphon.protocol.items import ANSWERS, Part, text_of_raw
from antiphon.protocol.requests import CreateResponse
from antiphon.runs.execution import as_api_error
from antiphon.web.api.responses import Templates, read_request
from antiphon.web.messages import ClientGone, Reply, Request

#: The estimate, where no tokenizer can be asked: bytes of UTF-8 per token, tokens around an item, tokens of an image.
BYTES_PER_TOKEN, ITEM_TOKENS, IMAGE_TOKENS = 4, 4, 1000
#: What the warnings say of it.
ESTIMATED = "input_tokens is an estimate"


class Planner(Protocol):
    """Who makes of a request what would be asked of the model, with the checks of create and without running it."""

    async def plan(self, project: str, request: CreateResponse) -> Plan:
        """Raises ``ApiError``."""


class InputTokens:
    """The handler, around whom it asks."""

    def __init__(self, planner: Planner, body_max_bytes: int, templates: Templates) -> None:
        self._planner = planner
        self._body_max_bytes = body_max_bytes
        self._templates = templates

    async def count(self, request: Request) -> Reply:
        """POST /v1/responses/input_tokens"""
        body = await read_request(request, self._body_max_bytes, self._templates)
        handling = asyncio.current_task()
        assert handling is not None
        request.connection.on_gone = partial(_end, handling)
        request.connection.watch()
        try:
            return await self._count(request, body)
        except asyncio.CancelledError:
            if request.connection.gone:
                raise ClientGone from None
            raise

    async def _count(self, request: Request, body: CreateResponse) -> Reply:
        plan = await self._planner.plan(request.project, body)
        asked = _first_call(plan)
        request.warnings = [*body.unknown, *plan.toolbox.left_out]
        try:
            tokens = await plan.route.upstream.count(asked)
        except UpstreamError as error:
            raise as_api_error(error) from None
        if tokens is None:
            tokens = estimated(asked)
            request.warnings.insert(0, ESTIMATED)
        return Reply(b'{"object":"response.input_tokens","input_tokens":%d}' % tokens)


def _end(task: "asyncio.Task[object]") -> None:
    task.cancel()


def _first_call(plan: Plan) -> ModelRequest:
    box = plan.toolbox
    return ModelRequest(plan.route.model, plan.items, box.visible, plan.request, box.choice)


def estimated(asked: ModelRequest) -> int:
    """Instructions, tools and what the model sees of the items: their text at so many bytes a token."""
    texts = [asked.request.instructions or ""]
    for tool in asked.tools:
        texts += [tool.name or "", tool.description or "", bytes(tool.parameters).decode("utf-8", "replace")]
    seen = [item.view for item in asked.items if item.view.kind in _SEEN]
    images = 0
    for view in seen:
        texts += [value for value in (view.name, view.arguments, view.input) if isinstance(value, str)]
        content = text_of_raw(view.output if view.kind in ANSWERS else view.content)
        parts = [Part(text=content)] if isinstance(content, str) else content
        texts += [part.text or part.refusal or "" for part in parts]
        images += sum(part.type == "input_image" for part in parts)
    size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    return -(-size // BYTES_PER_TOKEN) + ITEM_TOKENS * len(seen) + IMAGE_TOKENS * images


_SEEN = SEEN - {"reasoning"}
