"""``/v1/models``.  Shapes: reference 13.1."""

from collections.abc import Sequence

import msgspec

from antiphon.engine.ports.upstreams import ModelInfo, Models
from antiphon.web.api.agent_models import described
from antiphon.web.messages import Reply, Request


class ModelList:
    """The handlers; ``instance`` lets another look for models notice that it found this server itself.

    ``default``: the model to be used by clients that have no choice of their own; a header of the list tells it.
    """

    def __init__(self, models: Models, instance: str, default: str = "") -> None:
        self._models = models
        self._instance = instance
        self._headers: tuple[tuple[bytes, bytes], ...] = ((b"x-antiphon-instance", instance.encode()),)
        if default.isascii() and default.isprintable() and default:
            self._headers += ((b"x-antiphon-default-model", default.encode()),)

    async def all(self, request: Request) -> Reply:
        """GET /v1/models"""
        if request.headers.get("x-antiphon-instance") == self._instance:
            # It is this server that asks: looking again would wait for itself.
            return Reply(b'{"object":"list","data":[]}', headers=self._headers)
        models = await self._models.all()
        listed: dict[str, object] = {"object": "list", "data": [_shape(model) for model in models]}
        if "client_version" in request.query:
            listed["models"] = await self._described(models)
        return Reply(msgspec.json.encode(listed), headers=self._headers)

    async def _described(self, models: Sequence[ModelInfo]) -> list[dict[str, object]]:
        """The models without aliases: who sets one up for a client means a name that the client knows by itself."""
        routes = [(model, await self._models.route(model.id)) for model in models]
        own = [(model, route.upstream.capabilities(route.model)) for model, route in routes if route.model == model.id]
        return [described(model, capabilities, place) for place, (model, capabilities) in enumerate(own, 1)]

    async def one(self, request: Request) -> Reply:
        """GET /v1/models/{model}: every name that a request may use, also those that the list leaves out."""
        name = request.params["model"]
        for model in await self._models.all():
            if model.id == name:
                return Reply(msgspec.json.encode(_shape(model)))
        known = (await self._models.route(name)).info
        listed = ModelInfo(name, known.created if known else 0, known.owned_by if known else "antiphon")
        return Reply(msgspec.json.encode(_shape(listed)))


def _shape(model: ModelInfo) -> dict[str, object]:
    return {"id": model.id, "object": "model", "created": model.created, "owned_by": model.owned_by}
