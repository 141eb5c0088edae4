"""Efforts of reasoning that a model knows, in place of those that it does not (reference 5.2: clamped)."""

from collections.abc import Collection

#: From the least to the most.
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def clamped(effort: str | None, known: Collection[str]) -> str | None:
    """The effort, or the next lower one that is known, or else the lowest; as it is where none are known.

    No thinking at all is not the next lower one of anything.
    """
    if effort is None or effort in known or not known:
        return effort
    ranked = [name for name in EFFORTS if name in known]
    lower = [name for name in ranked if name != "none" and EFFORTS.index(name) < EFFORTS.index(effort)]
    higher = [name for name in ranked if EFFORTS.index(name) > EFFORTS.index(effort)]
    return (lower[-1:] or higher[:1] or ranked or [effort])[-1]
