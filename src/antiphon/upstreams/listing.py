"""``GET /models`` as OpenAI has it, and everything that speaks like it."""

from typing import Any

import msgspec

from antiphon.engine.ports.upstreams import ModelInfo


class Listed(msgspec.Struct):
    """One model of the list.  How long its window is, each kind of server says in its own way, or not at all."""

    id: str
    created: int | float | None = 0
    owned_by: str | None = None
    #: vLLM and SGLang; OpenRouter, Together and others; llama.cpp.
    max_model_len: Any = None
    context_length: Any = None
    meta: Any = None

    @property
    def context(self) -> int | None:
        """Tokens of its window."""
        meta = self.meta if isinstance(self.meta, dict) else {}
        said = (self.max_model_len, self.context_length, meta.get("n_ctx"), meta.get("n_ctx_train"))
        return next((number for number in said if type(number) is int and number > 0), None)


class ModelList(msgspec.Struct):
    """The list."""

    data: list[Listed] | None = None


def infos(listed: ModelList, owner: str) -> list[ModelInfo]:
    """The models; ``owner`` is that of those which name none."""
    return [
        ModelInfo(model.id, int(model.created or 0), model.owned_by or owner, model.context)
        for model in listed.data or ()
    ]
