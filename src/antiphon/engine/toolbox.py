"""Which of a request's tools the model sees, which of them this server runs, and which are left out.

Must not know how a tool works.  Rule: design decision 4.
"""

from collections.abc import Mapping, Sequence

import msgspec

from antiphon.engine.ports import ContextItem, Tool
from antiphon.protocol.errors import invalid
from antiphon.protocol.items import Item
from antiphon.protocol.requests import CreateResponse
from antiphon.protocol.tools import Tool as Declaration


class Hosted(msgspec.Struct, frozen=True):
    """A function that the model sees and this server answers."""

    tool: Tool
    declaration: Declaration


class Toolbox(msgspec.Struct):
    """The tools of one request, sorted."""

    visible: list[Declaration]
    hosted: dict[str, Hosted]
    left_out: list[str]


def sort(request: CreateResponse, registry: Mapping[str, Tool], *, strict: bool) -> Toolbox:
    """Raises ``ApiError`` 400 where leaving a tool out would change what was asked for."""
    box = Toolbox([], {}, [])
    for index, declaration in enumerate(request.declared):
        if declaration.type == "function":
            box.visible.append(declaration)
        elif (tool := registry.get(declaration.type)) is not None:
            for function in tool.functions(declaration):
                box.visible.append(function)
                box.hosted[function.name or ""] = Hosted(tool, declaration)
        else:
            box.left_out.append(f"tools[{index}]")
            if _is_needed(request, declaration, strict=strict):
                text = f"Unsupported tool: this server cannot run {declaration.label}."
                raise invalid(text, f"tools[{index}].type", "unsupported_value")
    return box


def _is_needed(request: CreateResponse, declaration: Declaration, *, strict: bool) -> bool:
    demanded = request.choice.mode == "required" and request.choice.type == declaration.type
    return strict or demanded or len(request.declared) == 1


def recall(items: Sequence[ContextItem], registry: Mapping[str, Tool]) -> list[ContextItem]:
    """Hosted calls of earlier turns as the call and the result that the model saw then."""
    by_item = {tool.item_type: tool for tool in registry.values()}
    recalled: list[ContextItem] = []
    for item in items:
        tool = by_item.get(item.view.kind)
        if tool is None:
            recalled.append(item)
        else:
            call, text = tool.recall(msgspec.json.decode(item.body))
            recalled += exchange(call.item_id, call.name, call.arguments, text)
    return recalled


def exchange(call_id: str, name: str, arguments: str, text: str) -> list[ContextItem]:
    """A hosted call and its result, as the model sees them; they are never stored in this form."""
    call = Item(type="function_call", call_id=call_id, name=name, arguments=arguments)
    result = Item(type="function_call_output", call_id=call_id, output=msgspec.Raw(msgspec.json.encode(text)))
    return [ContextItem(call, b""), ContextItem(result, b"")]
