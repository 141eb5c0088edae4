"""``/health`` (the process lives) and ``/ready`` (the store and at least one model can be used)."""

import msgspec

from antiphon.engine.ports.stores import Store, StoreError
from antiphon.engine.ports.upstreams import Models
from antiphon.web.messages import Reply, Request

RETRY = ((b"x-should-retry", b"true"),)


class Health:
    def __init__(self, store: Store, models: Models) -> None:
        self._store = store
        self._models = models

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
        body = {"status": "ready" if usable else "unavailable", "store": store, "models": models}
        return Reply(msgspec.json.encode(body)) if usable else Reply(msgspec.json.encode(body), 503, RETRY)
