"""The request's ``tool_choice`` in terms of what the model sees.

Must not know where tools come from.  Forms: reference 5.3.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import msgspec

from antiphon.engine.offers import Offer
from antiphon.protocol.errors import invalid
from antiphon.protocol.items import decode_object
from antiphon.protocol.tools import INNER_TYPES, Pick, ToolChoice
from antiphon.protocol.tools import Tool as Declaration


class Chosen(NamedTuple):
    """The choice by names that the model sees, and the names that it may call; None: every one.

    Upstreams know two kinds: type ``function`` forces the one name, ``allowed_tools`` restricts to the names.
    """

    choice: ToolChoice
    allowed: frozenset[str] | None


_Key: TypeAlias = tuple[str, str | None]


class _Index(NamedTuple):
    """The names of offers by what a choice may say of them.

    ``exact``: type and name, in their namespace or without one.  ``wide``: type and name in any namespace, all of a
    namespace, all of a hosted tool's type.
    """

    exact: dict[tuple[_Key, str | None], list[str]]
    wide: dict[_Key, list[str]]


def choose(choice: ToolChoice, declared: Sequence[Declaration], offers: Mapping[str, Offer]) -> Chosen:
    """Raises ``ApiError`` 400 where the choice names what is not declared, or demands what cannot be called."""
    if choice.mode == "none":
        return Chosen(choice, frozenset())
    if choice.mode == "required" and not declared:
        raise invalid("Tool choice 'required' must be specified with 'tools' parameter.", "tool_choice")
    index, types = _index(offers), {tool.type for tool in declared}
    picked: dict[str, None] = {}
    for pick in dict.fromkeys(choice.picks):
        names = _matching(pick, offers, index)
        if not names and (pick.type in (*INNER_TYPES, "namespace") or pick.type not in types):
            raise invalid(f"Tool choice '{pick.label}' not found in 'tools' parameter.", "tool_choice")
        picked |= dict.fromkeys(names)
    if choice.mode == "required" and not (picked if choice.picks else offers):
        raise invalid("Tool choice 'required' needs a tool that this server can run.", "tool_choice")
    return _chosen(choice, [name for name in offers if name in picked], offers)


def _chosen(choice: ToolChoice, names: Sequence[str], offers: Mapping[str, Offer]) -> Chosen:
    if not choice.picks:
        return Chosen(choice, None)
    forced = choice.type != "allowed_tools"
    one = forced and len(names) == 1 and offers[names[0]].hosted is None
    told = msgspec.structs.replace(choice, type="function" if one else "allowed_tools", names=tuple(names))
    return Chosen(told, None if forced else frozenset(names))


def _index(offers: Mapping[str, Offer]) -> _Index:
    index = _Index({}, {})
    for name, offer in offers.items():
        tool, kind = offer.declaration, offer.source.type
        if kind not in INNER_TYPES or offer.hosted is not None:
            index.wide.setdefault((kind, None), []).append(name)
            continue
        key = (kind, tool.own_name)
        index.wide.setdefault(key, []).append(name)
        index.exact.setdefault((key, tool.namespace), []).append(name)
        if tool.namespace is not None:
            index.wide.setdefault(("namespace", tool.namespace), []).append(name)
    return index


def _matching(pick: Pick, offers: Mapping[str, Offer], index: _Index) -> Sequence[str]:
    if pick.type in INNER_TYPES:
        key = (pick.type, pick.name)
        # A choice without a namespace means the tool that has none, or else that of any namespace.
        anywhere = index.wide.get(key, ()) if pick.namespace is None else ()
        return index.exact.get((key, pick.namespace)) or anywhere
    found = index.wide.get((pick.type, pick.name if pick.type == "namespace" else None), ())
    if pick.server_label is not None:
        return [name for name in found if _label(offers[name].source) == pick.server_label]
    return found


def _label(source: Declaration) -> str | None:
    told = decode_object(source.raw).get("server_label", msgspec.Raw(b"null"))
    value = msgspec.json.decode(told)
    return value if isinstance(value, str) else None
