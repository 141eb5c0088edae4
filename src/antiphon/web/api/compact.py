"""``POST /v1/responses/compact``: a context that a client can go on from instead of a long one.  Call: reference 4.6.

Nothing is stored: the reply holds all there is.  Must not know how contexts are compacted.
"""

from typing import Protocol

import msgspec

from antiphon.engine.compaction import Compacted
from antiphon.engine.ports.world import Clock
from antiphon.protocol.requests import CreateResponse, read_compact
from antiphon.web.messages import Reply, Request, while_there

encode = msgspec.json.encode


class Compactor(Protocol):
    """Who makes of a request's context a short one."""

    async def compact(self, project: str, request: CreateResponse) -> Compacted:
        """Raises ``ApiError``."""


class Compact:
    """The handler, around whom it asks."""

    def __init__(self, compactor: Compactor, clock: Clock, body_max_bytes: int) -> None:
        self._compactor = compactor
        self._clock = clock
        self._body_max_bytes = body_max_bytes

    async def create(self, request: Request) -> Reply:
        """POST /v1/responses/compact"""
        body = read_compact(await request.json(self._body_max_bytes))
        made = await while_there(request, self._compactor.compact(request.project, body))
        request.warnings = [*body.unknown, *made.unseen]
        return Reply(
            b'{"id":%b,"object":"response.compaction","created_at":%d,"output":[%b],"usage":%b}'
            % (
                encode(self._clock.new_id("resp_")),
                int(self._clock.now()),
                b",".join(made.output),
                encode(made.usage),
            )
        )
