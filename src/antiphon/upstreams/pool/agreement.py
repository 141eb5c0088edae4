"""What can be said of several servers as one: the models that any has, and the abilities that all have."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from antiphon.engine.ports.upstreams import Capabilities, ModelInfo


def agreed(told: Sequence[Capabilities]) -> Capabilities:
    """The least of each ability: whichever server is asked, it can do what was counted on."""
    first = told[0]
    if all(other == first for other in told):
        return first
    return Capabilities(**{name: _least([getattr(one, name) for one in told]) for name in first.__struct_fields__})


def _least(values: list[Any]) -> Any:
    first = values[0]
    if isinstance(first, bool):
        return all(values)
    if isinstance(first, tuple):
        return tuple(one for one in first if all(one in other for other in values))
    return _smallest(values)


def _smallest(windows: Iterable[int | None]) -> int | None:
    return min((window for window in windows if window is not None), default=None)


def joined(lists: Sequence[Sequence[ModelInfo]]) -> list[ModelInfo]:
    """Each model once, as the first server tells it, with the smallest of its windows."""
    found: dict[str, ModelInfo] = {}
    for model in (model for listed in lists for model in listed):
        known = found.setdefault(model.id, model)
        found[model.id] = msgspec.structs.replace(known, context=_smallest([known.context, model.context]))
    return list(found.values())
