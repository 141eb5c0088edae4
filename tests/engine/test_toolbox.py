"""The tools of a request and its items, as the model sees them; every form of the choice among them."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from typing import Any

import pytest
from tests.engine.playbook import CountingClock

from antiphon.engine import toolbox
from antiphon.engine.context import view
from antiphon.engine.ports.tools import Tool
from antiphon.engine.recalling import recall
from antiphon.engine.toolbox import Toolbox
from antiphon.protocol.errors import ApiError
from antiphon.protocol.requests import read_create
from antiphon.tools.scripted import ScriptedTool

Json = dict[str, Any]

LOOK: Json = {"type": "function", "name": "look", "description": "Looks."}
PATCH: Json = {"type": "custom", "name": "patch", "description": "Patches."}
SEARCH: Json = {"type": "tool_search"}
CLIENT_SEARCH: Json = {
    "type": "tool_search",
    "execution": "client",
    "description": "Finds tools.",
    "parameters": {"type": "object", "properties": {"words": {"type": "string"}}},
}
HOSTED: Json = {"type": "antiphon:scripted", "name": "run"}


def function(name: str, **members: Any) -> Json:
    return {"type": "function", "name": name, "parameters": {"type": "object"}, **members}


def namespace(name: str, *tools: Json, description: str = "Things.") -> Json:
    return {"type": "namespace", "name": name, "description": description, "tools": list(tools)}


def deferred(tool: Json) -> Json:
    return {**tool, "defer_loading": True}


CRM = namespace("crm", function("list"), {"type": "custom", "name": "query"}, description="Customers.")


def sort(
    *tools: Json,
    choice: Any = None,
    items: Sequence[Json] = (),
    earlier: int = 0,
    strict: bool = False,
    foreign: Sequence[str] = (),
) -> Toolbox:
    body = {"model": "m", "input": "x", "tools": list(tools), "tool_choice": choice}
    request = read_create(json.dumps(body).encode())
    registry: dict[str, Tool] = {ScriptedTool.declared_type: ScriptedTool(CountingClock())}
    context = view(json.dumps(item).encode() for item in items)
    return toolbox.sort(request, registry, strict=strict, items=context, earlier=earlier, foreign=foreign)


def visible(box: Toolbox) -> list[str]:
    return [tool.name or "" for tool in box.visible]


def refused(*tools: Json, **more: Any) -> ApiError:
    with pytest.raises(ApiError) as raised:
        sort(*tools, **more)
    assert raised.value.status == 400
    return raised.value


# --- What the model sees ---


def test_namespaces_are_flattened_and_called_back() -> None:
    box = sort(LOOK, CRM, PATCH)

    assert visible(box) == ["look", "crm__list", "crm__query", "patch"]
    callees = box.may_call(parallel=True).callees
    told = {name: (callee.kind.item_type, callee.namespace, callee.name) for name, callee in callees.items()}
    assert told == {
        "look": ("function_call", None, "look"),
        "crm__list": ("function_call", "crm", "list"),
        "crm__query": ("custom_tool_call", "crm", "query"),
        "patch": ("custom_tool_call", None, "patch"),
    }


def test_the_first_tool_of_a_namespace_tells_what_the_namespace_is() -> None:
    box = sort(namespace("crm", function("a", description="A."), function("b"), description="Customers."))

    assert [tool.description for tool in box.visible] == ["[crm: Customers.]\nA.", None]


def test_schemas_and_grammars_are_kept() -> None:
    box = sort(
        namespace(
            "n",
            function("a", strict=True, parameters={"type": "object", "x": [1.10]}),
            {"type": "custom", "name": "b", "format": {"type": "grammar", "syntax": "lark", "definition": "start: X"}},
        )
    )

    one, other = box.visible
    assert (one.strict, json.loads(bytes(one.parameters))) == (True, {"type": "object", "x": [1.1]})
    assert other.grammar == ("lark", "start: X")
    assert (one.path, other.path) == ("tools[0].tools[0]", "tools[0].tools[1]")


def test_a_name_without_a_namespace_stays_what_it_is() -> None:
    box = sort(namespace("a", function("b")), function("a__b"))

    mangled, plain = visible(box)
    assert plain == "a__b" != mangled
    callees = box.may_call(parallel=True).callees
    assert (callees[mangled].namespace, callees[mangled].name) == ("a", "b")


def test_a_client_may_have_a_function_of_the_name_of_the_search() -> None:
    box = sort(function("tool_search"), CLIENT_SEARCH)
    kinds = {name: callee.kind.item_type for name, callee in box.may_call(parallel=True).callees.items()}

    assert kinds.pop("tool_search") == "function_call"
    assert list(kinds.values()) == ["tool_search_call"]


@pytest.mark.parametrize(
    "tools",
    [
        [LOOK, LOOK],
        [LOOK, {**PATCH, "name": "look"}],
        [CRM, CRM],
        [namespace("a", function("b"), function("b"))],
    ],
)
def test_no_name_may_mean_two_tools(tools: list[Json]) -> None:
    error = refused(*tools)

    assert "Duplicate tool name" in error.message
    assert error.param == "tools"


def test_a_namespace_in_two_pieces_is_one() -> None:
    assert visible(sort(namespace("a", function("b")), namespace("a", function("c")))) == ["a__b", "a__c"]


BAD: list[tuple[Json, str, str]] = [
    ({"type": "custom"}, "missing_required_parameter", "tools[0].name"),
    ({"type": "custom", "name": ""}, "invalid_value", "tools[0].name"),
    ({"type": "custom", "name": "x" * 129}, "string_above_max_length", "tools[0].name"),
    ({"type": "custom", "name": "a", "format": {"type": "ebnf"}}, "invalid_value", "tools[0].format.type"),
    ({"type": "custom", "name": "a", "format": 5}, "invalid_type", "tools[0].format"),
    (
        {"type": "custom", "name": "a", "format": {"type": "grammar"}},
        "missing_required_parameter",
        "tools[0].format.syntax",
    ),
    (
        {"type": "custom", "name": "a", "format": {"type": "grammar", "syntax": "lark"}},
        "missing_required_parameter",
        "tools[0].format.definition",
    ),
    (
        {"type": "custom", "name": "a", "format": {"type": "grammar", "syntax": "gbnf", "definition": "x"}},
        "invalid_value",
        "tools[0].format.syntax",
    ),
    ({"type": "namespace", "tools": []}, "missing_required_parameter", "tools[0].name"),
    ({"type": "namespace", "name": "crm", "tools": []}, "empty_array", "tools[0].tools"),
    ({"type": "namespace", "name": "a"}, "missing_required_parameter", "tools[0].tools"),
    ({"type": "namespace", "name": "a", "tools": {}}, "invalid_type", "tools[0].tools"),
    (namespace("a", {"type": "web_search"}), "invalid_value", "tools[0].tools[0].type"),
    (namespace("a", CRM), "invalid_value", "tools[0].tools[0].type"),
    (namespace("a", {"type": "function"}), "missing_required_parameter", "tools[0].tools[0].name"),
    (namespace("a", function("a b")), "invalid_value", "tools[0].tools[0].name"),
    ({"type": "tool_search", "execution": "nobody"}, "invalid_value", "tools[0].execution"),
    ({"type": "tool_search", "execution": 5}, "invalid_value", "tools[0].execution"),
    ({"type": "tool_search", "parameters": []}, "invalid_type", "tools[0].parameters"),
]


@pytest.mark.parametrize(("tool", "code", "param"), BAD, ids=[f"{param} {n}" for n, (_, _, param) in enumerate(BAD)])
def test_declarations_that_make_no_sense(tool: Json, code: str, param: str) -> None:
    error = refused(tool)

    assert (error.code, error.param) == (code, param)


def test_names_in_a_namespace_may_be_long() -> None:
    (name,) = visible(sort(namespace("n" * 128, function("x" * 128))))

    assert len(name) <= 64


def test_what_a_client_says_of_the_derived_members_is_not_believed() -> None:
    tool = {**LOOK, "own_name": "other", "namespace": "crm", "path": "x", "raw": 5, "inner": [5]}
    box = sort(tool)

    assert box.may_call(parallel=True).callees["look"].namespace is None


def word(dice: random.Random) -> str:
    return "".join(dice.choice("ab_-") for _ in range(dice.choice([1, 2, 3, 60, 120])))


@pytest.mark.parametrize("seed", range(30))
def test_whatever_clients_name_comes_back_as_they_named_it(seed: int) -> None:
    dice = random.Random(seed)
    owners = {(word(dice), word(dice)) for _ in range(60)}
    tools = [namespace(space, function(own)) for space, own in sorted(owners)]
    tools += [function(name) for name in sorted({word(dice)[:64] for _ in range(20)})]
    box = sort(*tools)
    callees = box.may_call(parallel=True).callees

    assert all(re.fullmatch("[A-Za-z0-9_-]{1,64}", name) for name in visible(box))
    told = [(callees[name].namespace, callees[name].name) for name in visible(box)]
    given = [(tool["name"], inner["name"]) for tool in tools for inner in tool.get("tools", ())]
    assert told == [*given, *((None, tool["name"]) for tool in tools if tool["type"] == "function")]
    replayed = [{"type": "function_call", "call_id": "c", "namespace": space, "name": own} for space, own in told]
    seen = recall(view(json.dumps(item).encode() for item in replayed), box)
    assert [item.view.name for item in seen] == visible(box)


@pytest.mark.parametrize("kind", ["computer_call", "web_search_call", "code_interpreter_call"])
def test_a_call_of_the_upstreams_tools_that_was_cut_is_not_shown(kind: str) -> None:
    cut = {"type": kind, "id": "x_1", "call_id": "c1", "status": "incomplete"}
    output = {"type": f"{kind}_output", "call_id": "c1", "status": "incomplete"}
    others = [{**cut, "status": "completed"}, {"type": "message", "role": "user", "status": "incomplete"}]

    def seen(*items: Json) -> list[str]:
        return [item.view.kind for item in recall(view(json.dumps(item).encode() for item in items), sort(LOOK))]

    assert seen(cut, *others) == [kind, "message"]
    assert seen(cut, output) == [kind, f"{kind}_output"]
    assert seen({**cut, "call_id": None}, {**output, "call_id": None}) == [f"{kind}_output"]


# --- Tools that cannot be run here ---


def test_a_tool_that_cannot_be_run_is_left_out_and_named() -> None:
    box = sort(LOOK, {"type": "web_search"})

    assert (visible(box), box.left_out) == (["look"], ["tools[1]"])


@pytest.mark.parametrize("more", [{"strict": True}, {"choice": {"type": "web_search"}}])
def test_leaving_it_out_may_be_refused(more: Json) -> None:
    assert refused(LOOK, {"type": "web_search"}, **more).param == "tools[1].type"


def test_alone_it_is_refused() -> None:
    assert refused({"type": "web_search"}).param == "tools[0].type"


# --- Tools of items ---


def added(*tools: Json) -> Json:
    return {"type": "additional_tools", "id": "at_1", "role": "developer", "tools": list(tools)}


def found(*tools: Json, **members: Any) -> Json:
    return {"type": "tool_search_output", "id": "tso_1", "call_id": "c", "tools": list(tools), **members}


def test_additional_tools_come_behind_those_of_the_request() -> None:
    box = sort(LOOK, items=[added(CRM, PATCH)])

    assert visible(box) == ["look", "crm__list", "crm__query", "patch"]


def test_additional_tools_need_no_others() -> None:
    """Codex sends its newest models no `tools` at all (clients 1.9)."""
    box = sort(items=[added(namespace("functions", {"type": "custom", "name": "exec"}))], choice="required")

    assert visible(box) == ["functions__exec"]


def test_the_same_tool_may_come_again_and_the_last_is_meant() -> None:
    box = sort(LOOK, items=[added(LOOK, {**LOOK, "description": "Looks twice."}), added(CRM), added(CRM)])

    assert visible(box) == ["look", "crm__list", "crm__query"]
    assert box.visible[0].description == "Looks twice."


def test_hosted_tools_may_be_among_the_additional_ones() -> None:
    box = sort(items=[added(HOSTED), added(HOSTED)])

    assert visible(box) == ["run"]
    assert list(box.hosted) == ["run"]


def test_additional_tools_that_cannot_be_run_are_named_by_their_place() -> None:
    items = [added({"type": "web_search"}), added(LOOK, {"type": "web_search"})]

    assert sort(LOOK, items=items, earlier=1).left_out == ["input[0].tools[1]"]
    assert refused(LOOK, items=items, earlier=1, strict=True).param == "input[0].tools[1].type"


def test_what_a_client_has_found_can_be_called() -> None:
    box = sort(
        LOOK, CLIENT_SEARCH, items=[found(deferred(function("far")), namespace("crm", deferred(function("list"))))]
    )

    assert visible(box) == ["tool_search", "look", "far", "crm__list"]


def test_items_that_bring_tools_are_heeded_and_others_named() -> None:
    kinds = ["additional_tools", "tool_search_call", "tool_search_output", "configuration_update", "holodeck_call"]
    items = view(json.dumps({"type": kind, "id": "x"}).encode() for kind in kinds)

    assert toolbox.unseen(items, {}) == ["input[4]"]


def test_a_context_has_a_limit_of_tools() -> None:
    items = [added(*(function(f"f{number}_{piece}") for number in range(1000))) for piece in range(5)]

    assert len(sort(items=items[:4]).visible) == 4000
    assert refused(items=items).code == "array_above_max_length"


# --- Deferred tools ---


def test_deferred_tools_are_hidden_until_they_are_found() -> None:
    tools = [deferred(function("one", description="Counts one.")), SEARCH, deferred(PATCH), LOOK]
    box = sort(*tools)
    assert visible(box) == ["tool_search", "look"]

    result = box.find('{"query": "patches"}')

    assert result.names == ["patch"]
    assert visible(box) == ["tool_search", "look", "patch"]
    assert visible(sort(*tools, items=[found(*json.loads(result.tools), call_id=None)])) == visible(box)


def test_what_is_found_is_listed_in_its_namespace_as_the_client_wrote_it() -> None:
    crm = namespace(
        "crm", deferred(function("list", strict=True)), deferred(function("delete")), description="Customers."
    )
    box = sort(crm, SEARCH, deferred({"type": "function", "name": "customers", "parameters": None}))

    result = box.find('{"query": "list customers"}')

    assert result.names[0] == "crm__list"
    listed = json.loads(result.tools)
    assert listed == [
        {
            "type": "function",
            "name": "customers",
            "description": None,
            "parameters": None,
            "strict": False,
            "defer_loading": True,
        },
        crm,
    ]


def test_finding_it_again_changes_nothing() -> None:
    box = sort(deferred(LOOK), SEARCH)

    assert box.find('{"query": "look"}').names == box.find('{"query": "look"}').names == ["look"]
    assert visible(box) == ["tool_search", "look"]


def test_nothing_found_is_no_tools() -> None:
    assert (sort(deferred(LOOK), SEARCH).find('{"query": "zebra"}')).tools == b"[]"


def test_without_a_search_nothing_is_deferred() -> None:
    assert visible(sort(deferred(LOOK), deferred(HOSTED))) == ["look", "run"]


def test_a_search_with_nothing_to_find_is_left_out() -> None:
    box = sort(LOOK, SEARCH)

    assert (visible(box), box.left_out, box.search) == (["look"], ["tools[1]"], None)


def test_hosted_tools_may_be_deferred() -> None:
    box = sort(deferred({**HOSTED, "description": "Prints."}), SEARCH)
    assert visible(box) == ["tool_search"]

    result = box.find('{"query": "prints"}')

    assert visible(box) == ["tool_search", "run"]
    assert [tool["type"] for tool in json.loads(result.tools)] == ["antiphon:scripted"]


def test_a_search_may_come_with_the_items_as_well() -> None:
    box = sort(deferred(LOOK), items=[added(SEARCH)])

    assert visible(box) == ["tool_search"]


def test_the_clients_own_search_is_shown_as_it_wrote_it() -> None:
    (search,) = sort(CLIENT_SEARCH).visible

    assert (search.type, search.name, search.description) == ("function", "tool_search", "Finds tools.")
    assert json.loads(bytes(search.parameters)) == CLIENT_SEARCH["parameters"]


# --- Choice ---


def allowed(mode: str, *tools: Json) -> Json:
    return {"type": "allowed_tools", "mode": mode, "tools": list(tools)}


FORCED: list[tuple[Json, str, tuple[str, ...]]] = [
    ({"type": "function", "name": "look"}, "function", ("look",)),
    ({"type": "custom", "name": "patch"}, "function", ("patch",)),
    ({"type": "function", "name": "list"}, "function", ("crm__list",)),
    ({"type": "function", "name": "list", "namespace": "crm"}, "function", ("crm__list",)),
    ({"type": "custom", "name": "query"}, "function", ("crm__query",)),
    ({"type": "namespace", "name": "crm"}, "allowed_tools", ("crm__list", "crm__query")),
    ({"type": "antiphon:scripted"}, "allowed_tools", ("run",)),
    ({"type": "tool_search"}, "function", ("tool_search",)),
]


@pytest.mark.parametrize(("choice", "kind", "names"), FORCED)
def test_a_choice_of_one_tool(choice: Json, kind: str, names: tuple[str, ...]) -> None:
    box = sort(LOOK, PATCH, CRM, HOSTED, CLIENT_SEARCH, choice=choice)

    assert (box.choice.mode, box.choice.type, box.choice.names) == ("required", kind, names)
    assert json.loads(box.choice.echo) == choice
    assert box.allowed is None


ALLOWED: list[tuple[list[Json], set[str]]] = [
    ([{"type": "function", "name": "look"}], {"look"}),
    ([{"type": "custom", "name": "patch"}, {"type": "function", "name": "look"}], {"look", "patch"}),
    ([{"type": "function", "name": "list", "namespace": "crm"}], {"crm__list"}),
    ([{"type": "namespace", "name": "crm"}], {"crm__list", "crm__query"}),
    ([{"type": "antiphon:scripted"}, {"type": "tool_search"}], {"run", "tool_search"}),
    ([{"type": "web_search"}, {"type": "function", "name": "look"}], {"look"}),
]


@pytest.mark.parametrize("mode", ["auto", "required"])
@pytest.mark.parametrize(("tools", "names"), ALLOWED)
def test_a_choice_among_some(tools: list[Json], names: set[str], mode: str) -> None:
    choice = allowed(mode, *tools)
    box = sort(LOOK, PATCH, CRM, HOSTED, CLIENT_SEARCH, {"type": "web_search"}, choice=choice)

    assert box.allowed == names == set(box.choice.names)
    assert (box.choice.mode, box.choice.type) == (mode, "allowed_tools")


def test_none_may_be_called() -> None:
    assert sort(LOOK, choice="none").allowed == frozenset()


@pytest.mark.parametrize("choice", [None, "auto", "required"])
def test_any_may_be_called(choice: Any) -> None:
    assert sort(LOOK, choice=choice).allowed is None


def test_a_name_without_a_namespace_is_meant_before_that_of_a_namespace() -> None:
    box = sort(function("list"), CRM, choice={"type": "function", "name": "list"})

    assert box.choice.names == ("list",)


def test_a_name_of_several_namespaces_is_any_of_them() -> None:
    shop = namespace("shop", function("list"))
    box = sort(CRM, shop, choice={"type": "function", "name": "list"})

    assert (box.choice.type, box.choice.names) == ("allowed_tools", ("crm__list", "shop__list"))


def test_a_choice_may_name_a_tool_of_an_item() -> None:
    box = sort(items=[added(CRM)], choice={"type": "function", "name": "list", "namespace": "crm"})

    assert box.choice.names == ("crm__list",)


@pytest.mark.parametrize(
    "choice", [{"type": "function", "name": "look"}, allowed("auto", {"type": "function", "name": "look"})]
)
def test_a_deferred_tool_that_is_chosen_is_there(choice: Json) -> None:
    assert "look" in visible(sort(deferred(LOOK), deferred(PATCH), SEARCH, choice=choice))


NOT_FOUND: list[tuple[Json, str]] = [
    ({"type": "function", "name": "other"}, "other"),
    ({"type": "custom", "name": "look"}, "look"),
    ({"type": "function", "name": "patch"}, "patch"),
    ({"type": "function", "name": "look", "namespace": "crm"}, "look"),
    ({"type": "namespace", "name": "look"}, "look"),
    ({"type": "web_search"}, "web_search"),
    ({"type": "mcp", "server_label": "files"}, "files"),
    (allowed("auto", {"type": "function", "name": "look"}, {"type": "function", "name": "x"}), "x"),
    ({"type": "function", "name": "x" * 100_000}, "x" * 100 + "..."),
]


@pytest.mark.parametrize(("choice", "name"), NOT_FOUND, ids=range(len(NOT_FOUND)))
def test_a_choice_of_what_is_not_declared(choice: Json, name: str) -> None:
    error = refused(LOOK, PATCH, CRM, choice=choice)

    assert error.message == f"Tool choice '{name}' not found in 'tools' parameter."
    assert (error.param, error.code) == ("tool_choice", "invalid_value")


def test_a_choice_among_very_many_is_found_at_once() -> None:
    tools = [namespace(f"n{number}", function("same")) for number in range(1000)]
    picks = [{"type": "function", "name": "same", "namespace": f"n{number}"} for number in range(1000)]
    box = sort(*tools, choice=allowed("auto", *picks, *20 * [{"type": "function", "name": "same"}]))

    assert box.allowed is not None
    assert len(box.allowed) == 1000


def test_a_call_cannot_be_demanded_without_tools() -> None:
    assert "must be specified with 'tools'" in refused(choice="required").message


def test_a_call_cannot_be_demanded_of_tools_that_cannot_be_run() -> None:
    tools = [{"type": "web_search"}, {"type": "file_search"}]
    assert "needs a tool that this server can run" in refused(*tools, choice="required").message
    choice = allowed("required", {"type": "web_search"})
    assert "needs a tool that this server can run" in refused(LOOK, *tools, choice=choice).message


# --- Tools of the model's side ---

WEB: Json = {"type": "web_search", "filters": {"allowed_domains": ["a.example"]}}
MCP: Json = {"type": "mcp", "server_label": "deep", "server_url": "https://a.example/mcp", "require_approval": "never"}


def test_tools_of_the_models_side_are_declared_as_they_came() -> None:
    box = sort(LOOK, WEB, MCP, MCP, {"type": "novelty"}, foreign=["web_search*", "mcp"])

    assert [json.loads(tool.raw) for tool in box.visible] == [LOOK, WEB, MCP, MCP]
    assert box.left_out == ["tools[4]"]


def test_a_tool_of_this_server_wins() -> None:
    box = sort(HOSTED, WEB, foreign=["*"])

    assert list(box.hosted) == ["run"]
    assert [tool.type for tool in box.visible] == ["function", "web_search"]


def test_a_tool_of_the_models_side_may_be_alone_strict_and_demanded() -> None:
    box = sort(WEB, choice={"type": "web_search"}, strict=True, foreign=["*"])

    assert box.left_out == []
    assert box.choice.mode == "required"


def test_tools_of_the_models_side_that_items_bring() -> None:
    brought = {"type": "additional_tools", "tools": [WEB]}

    assert [tool.type for tool in sort(items=[brought], foreign=["*"]).visible] == ["web_search"]
