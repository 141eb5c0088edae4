"""Calls of earlier turns as the model saw them then: by the names that it knows, hosted ones as call and result.

Must not know how items were stored or how they are sent.
"""

from collections.abc import Sequence

import msgspec

from antiphon.engine.ports.upstreams import ContextItem
from antiphon.engine.thoughts import Thoughts
from antiphon.engine.toolbox import Toolbox
from antiphon.protocol.items import Item, decode_object
from antiphon.protocol.tools import leaves, read_listed

_CALLS = ("function_call", "custom_tool_call")


def recall(items: Sequence[ContextItem], box: Toolbox, thoughts: Thoughts | None = None) -> list[ContextItem]:
    """The items with calls in terms of ``box``; a renamed call keeps the bytes that it was stored as.

    ``thoughts`` opens reasoning that is still sealed.
    """
    items = _without_cut(items if thoughts is None else thoughts.opened_at_once(items))
    by_item = {tool.item_type: tool for tool in box.registry.values()}
    searches = _searches(items)
    recalled: list[ContextItem] = []
    for index, item in enumerate(items):
        kind = item.view.kind
        if kind in _CALLS:
            recalled.append(_renamed(item, box))
        elif kind == "tool_search_call":
            recalled += [_search_call(item, searches[index], box)] if index in searches else []
        elif kind == "tool_search_output":
            recalled += [_search_output(item, searches[index], box)] if index in searches else []
        elif kind in by_item:
            call, text = by_item[kind].recall(msgspec.json.decode(item.body))
            recalled += exchange(call.item_id, call.name, call.arguments, text)
        else:
            recalled.append(item)
    return recalled


def _without_cut(items: Sequence[ContextItem]) -> list[ContextItem]:
    """Without calls that an upstream made by itself and that were cut off: they have led to nothing."""
    answered = {item.view.call_id for item in items if item.view.kind.endswith("_output")} - {None}
    return [item for item in items if not _is_cut(item.view) or item.view.call_id in answered]


def _is_cut(view: Item) -> bool:
    return view.status == "incomplete" and view.kind.endswith("_call") and view.kind not in _CALLS


def exchange(call_id: str, name: str, arguments: str, text: str) -> list[ContextItem]:
    """A hosted call and its result, as the model sees them; they are never stored in this form."""
    call = Item(type="function_call", call_id=call_id, name=name, arguments=arguments)
    return [ContextItem(call, b""), ContextItem(_result(call_id, text), b"")]


def _result(call_id: str, text: str) -> Item:
    return Item(type="function_call_output", call_id=call_id, output=msgspec.Raw(msgspec.json.encode(text)))


def found(names: Sequence[str]) -> str:
    """What the model is told of a tool search."""
    if not names:
        return "No tool was found. Try other words."
    return f"These tools can be called from now on: {', '.join(names)}."


def _renamed(item: ContextItem, box: Toolbox) -> ContextItem:
    name = box.names.of(item.view.namespace, item.view.name or "")
    if name == item.view.name:
        return item
    return ContextItem(msgspec.structs.replace(item.view, name=name), item.body)


def _searches(items: Sequence[ContextItem]) -> dict[int, str]:
    """Of searches that were answered, the places of call and output with the id that joins them.

    They are joined by ``call_id``, or where there is none by their order.  What is alone is not shown: an output
    without a call brings its tools all the same.
    """
    waiting: dict[str, int] = {}
    joined: dict[int, str] = {}
    for index, item in enumerate(items):
        view = item.view
        if view.kind == "tool_search_call":
            waiting[view.call_id or view.id or f"tool_search_{index}"] = index
        elif view.kind == "tool_search_output" and waiting:
            call_id = view.call_id or next(iter(waiting))
            if call_id in waiting:
                joined[waiting.pop(call_id)] = joined[index] = call_id
    return joined


def _search_call(item: ContextItem, call_id: str, box: Toolbox) -> ContextItem:
    arguments = item.view.arguments
    text = arguments if isinstance(arguments, str) else _object(item.body)
    view = Item(type="function_call", id=item.view.id, call_id=call_id, name=box.search_name, arguments=text)
    return ContextItem(view, item.body)


def _object(body: bytes) -> str:
    """The arguments as they were said, number by number."""
    arguments = bytes(decode_object(body).get("arguments", b"{}"))
    return arguments.decode("utf-8", "replace") if arguments[:1] == b"{" else "{}"


def _search_output(item: ContextItem, call_id: str, box: Toolbox) -> ContextItem:
    listed = read_listed(item.view.tools, "tools")
    names = [box.names.of(namespace, leaf.name or "") for leaf, namespace in leaves(listed)]
    hosted = [offer for offer in box.offers.values() if offer.hosted is not None]
    types = {tool.type for tool in listed}
    names += [offer.declaration.name or "" for offer in hosted if offer.source.type in types]
    return ContextItem(_result(call_id, found(names)), item.body)
