"""``GET /models`` as OpenAI has it, and everything that speaks like it."""

import msgspec

from antiphon.engine.ports import ModelInfo


class Listed(msgspec.Struct):
    """One model of the list."""

    id: str
    created: int | float | None = 0
    owned_by: str | None = None


class ModelList(msgspec.Struct):
    """The list."""

    data: list[Listed] | None = None


def infos(listed: ModelList, owner: str) -> list[ModelInfo]:
    """The models; ``owner`` is that of those which name none."""
    return [ModelInfo(model.id, int(model.created or 0), model.owned_by or owner) for model in listed.data or ()]
