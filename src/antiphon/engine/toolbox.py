"""Which of a request's tools the model sees, which of them this server runs, and which are left out.

Must not know how a tool works.  Rule: design decision 4.
"""

from collections.abc import Mapping, Sequence, Set

import msgspec

from antiphon.engine.ports import ContextItem, Tool
from antiphon.protocol.errors import invalid
from antiphon.protocol.items import ANSWERS, Item
from antiphon.protocol.requests import CreateResponse
from antiphon.protocol.tools import Tool as Declaration
from antiphon.protocol.tools import ToolChoice


class Hosted(msgspec.Struct, frozen=True):
    """A function that the model sees and this server answers."""

    tool: Tool
    declaration: Declaration


class Toolbox(msgspec.Struct):
    """The tools of one request, sorted."""

    visible: list[Declaration]
    hosted: dict[str, Hosted]
    left_out: list[str]
    #: The request's choice in terms of ``visible``.
    choice: ToolChoice = ToolChoice()
    #: Functions that may be called; None: every one (reference 5.3).
    allowed: frozenset[str] | None = None


#: Items that every dialect shows to its model, besides those that a hosted tool recalls.
SEEN = frozenset({"message", "reasoning", *ANSWERS, *ANSWERS.values()})


def sort(request: CreateResponse, registry: Mapping[str, Tool], *, strict: bool) -> Toolbox:
    """Raises ``ApiError`` 400 where leaving a tool out would change what was asked for."""
    box = Toolbox([], {}, [])
    client = {tool.name for tool in request.declared if tool.type == "function"}
    for index, declaration in enumerate(request.declared):
        if declaration.type == "function":
            box.visible.append(declaration)
        elif (tool := registry.get(declaration.type)) is not None:
            for function in tool.functions(declaration):
                _check_free(box, client, function, index)
                box.visible.append(function)
                box.hosted[function.name or ""] = Hosted(tool, declaration)
        else:
            box.left_out.append(f"tools[{index}]")
            if _is_needed(request, declaration, strict=strict):
                text = f"Unsupported tool: this server cannot run {declaration.label}."
                raise invalid(text, f"tools[{index}].type", "unsupported_value")
    box.allowed = _allowed(request, box)
    box.choice = _choice_of_functions(request.choice, box)
    if request.choice.mode == "required" and not _callable(box):
        raise invalid("Tool choice 'required' needs a tool that this server can run.", "tool_choice")
    return box


def _check_free(box: Toolbox, client: Set[str | None], function: Declaration, index: int) -> None:
    """A hosted tool's function shares the model's name space with the client's functions: each name means one."""
    if function.name in client or function.name in box.hosted:
        text = f"Duplicate tool name: '{function.name}' is also the name of a function of tools[{index}]."
        raise invalid(text, f"tools[{index}]")


def _allowed(request: CreateResponse, box: Toolbox) -> frozenset[str] | None:
    choice = request.choice
    if choice.mode == "none":
        return frozenset()
    if choice.type != "allowed_tools":
        return None
    return frozenset(tool.name or "" for tool in box.visible if _is_named(tool, box, choice.names))


def _is_named(tool: Declaration, box: Toolbox, names: Sequence[str]) -> bool:
    hosted = box.hosted.get(tool.name or "")
    return tool.name in names or (hosted is not None and hosted.declaration.type in names)


def _choice_of_functions(choice: ToolChoice, box: Toolbox) -> ToolChoice:
    """What upstreams are told: the choice of a hosted tool is that of the functions it is made of."""
    if choice.type == "allowed_tools" and box.allowed is not None:
        return msgspec.structs.replace(choice, names=tuple(sorted(box.allowed)))
    names = [name for name, one in box.hosted.items() if one.declaration.type == choice.type]
    return ToolChoice(choice.mode, "allowed_tools", tuple(names), choice.echo) if names else choice


def _callable(box: Toolbox) -> bool:
    return any(box.allowed is None or tool.name in box.allowed for tool in box.visible)


def _is_needed(request: CreateResponse, declaration: Declaration, *, strict: bool) -> bool:
    demanded = request.choice.mode == "required" and request.choice.type == declaration.type
    return strict or demanded or len(request.declared) == 1


def unseen(items: Sequence[ContextItem], registry: Mapping[str, Tool]) -> list[str]:
    """Items of the request that are carried but that the model does not see, as paths for the warnings."""
    seen = SEEN | {tool.item_type for tool in registry.values()}
    return [f"input[{index}]" for index, item in enumerate(items) if item.view.kind not in seen]


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
