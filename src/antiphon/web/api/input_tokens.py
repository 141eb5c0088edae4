"""``POST /v1/responses/input_tokens``: how many tokens a request is for its model.  Call: reference 4.5.

Nothing is run, stored or added to what is continued.  Must not know how plans are made.
"""

from typing import Protocol

from antiphon.engine.estimates import prompt_tokens
from antiphon.engine.ports.upstreams import ModelRequest, UpstreamError
from antiphon.engine.turns import Plan
from antiphon.protocol.requests import CreateResponse
from antiphon.runs.execution import as_api_error
from antiphon.web.api.responses import Templates, read_request
from antiphon.web.messages import Reply, Request, while_there

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
        return await while_there(request, self._count(request, body))

    async def _count(self, request: Request, body: CreateResponse) -> Reply:
        plan = await self._planner.plan(request.project, body)
        asked = _first_call(plan)
        request.warnings = [*body.unknown, *plan.toolbox.left_out]
        try:
            tokens = await plan.route.upstream.count(asked)
        except UpstreamError as error:
            raise as_api_error(error) from None
        if tokens is None:
            tokens = prompt_tokens(asked)
            request.warnings.insert(0, ESTIMATED)
        return Reply(b'{"object":"response.input_tokens","input_tokens":%d}' % tokens)


def _first_call(plan: Plan) -> ModelRequest:
    box = plan.toolbox
    return ModelRequest(plan.route.model, plan.items, box.visible, plan.request, box.choice)
