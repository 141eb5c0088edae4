"""``/health`` (the process lives) and ``/ready`` (the store and at least one model can be used)."""

from collections.abc import Callable, Mapping

import msgspec

from antiphon.engine.ports.stores import Store, StoreError
from antiphon.engine.ports.upstreams import Condition, Models
from antiphon.web.messages import Reply, Request

RETRY = ((b"x-should-retry", b"true"),)


class Health:
    """``conditions``: how the servers of upstreams with several are.  Addresses are not told: nobody shows a key."""

    def __init__(self, store: Store, models: Models, conditions: Callable[[], Mapping[str, Condition]]) -> None:
        self._store = store
        self._models = models
        self._conditions = conditions

    async def live(self, request: Request) -> Reply:  # noqa: ARG002 - a handler's signature
        """GET /health"""
        return Reply(b'{"status":"ok"}')

    async def ready(self, request: Request) -> Reply:  # noqa: ARG002 - a handler's signature
        """GET /ready"""
        try:
            await self._store.ping()
            store = "ok"
        except StoreError as error:
            store = str(error)
        models = len(await self._models.all())
        usable = store == "ok" and models > 0
        body: dict[str, object] = {"status": "ready" if usable else "unavailable", "store": store, "models": models}
        conditions = self._conditions()
        if conditions:
            body["upstreams"] = conditions
        return Reply(msgspec.json.encode(body)) if usable else Reply(msgspec.json.encode(body), 503, RETRY)
