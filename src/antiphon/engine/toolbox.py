"""Which of a request's tools the model sees, which of them this server runs, and which are left out.

Tools come with the request, with items of its context (``additional_tools``, ``tool_search_output``), and while it
runs by a tool search.  Namespaces are flattened: a model sees functions and custom tools by one name each.
Must not know how a tool works.  Rule: design decision 4; shapes: reference 7.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

import msgspec

from antiphon.engine import searching
from antiphon.engine.calls import CUSTOM, FUNCTION, SEARCH, Callee, MayCall
from antiphon.engine.choosing import choose
from antiphon.engine.naming import Names
from antiphon.engine.offers import Hosted, Offer
from antiphon.engine.ports.tools import Tool
from antiphon.engine.ports.upstreams import ContextItem
from antiphon.protocol.decoding import fewer
from antiphon.protocol.errors import invalid
from antiphon.protocol.items import ANSWERS
from antiphon.protocol.requests import CreateResponse
from antiphon.protocol.tools import INNER_TOOLS_MAX, INNER_TYPES, ToolChoice, echo, leaves, read_listed
from antiphon.protocol.tools import Tool as Declaration

encode = msgspec.json.encode


class Found(msgspec.Struct, frozen=True):
    """What a tool search found: names that the model sees, and the JSON array of the declarations."""

    names: list[str]
    tools: bytes


class Toolbox:
    """The tools of one request, sorted; it grows while a model searches."""

    def __init__(self, registry: Mapping[str, Tool], foreign: Sequence[str] = ()) -> None:
        self.registry = registry
        self._foreign = foreign
        self.names = Names()
        self.hosted: dict[str, Hosted] = {}
        #: Tools of the request that this server cannot run, as paths.
        self.left_out: list[str] = []
        #: The request's choice in terms of ``visible``.
        self.choice = ToolChoice()
        #: Names that may be called; None: every one (reference 5.3).
        self.allowed: frozenset[str] | None = None
        #: By the names that the model sees.
        self.offers: dict[str, Offer] = {}
        #: The function by which the model searches where this server runs the search; None where it runs none.
        self.search: str | None = None
        self._callees: dict[str, Callee] = {}
        self._namespaces: dict[str, str] = {}
        self._index: searching.Index | None = None

    @property
    def visible(self) -> list[Declaration]:
        """What the model sees; the first tool of a namespace tells what the namespace is."""
        told: set[str | None] = {None}
        return [self._introduced(offer.declaration, told) for offer in self.offers.values() if not offer.hidden]

    def _introduced(self, tool: Declaration, told: set[str | None]) -> Declaration:
        if tool.namespace in told:
            return tool
        told.add(tool.namespace)
        about = self._namespaces.get(tool.namespace or "")
        if not about:
            return tool
        description = f"[{tool.namespace}: {about}]"
        return msgspec.structs.replace(tool, description="\n".join(filter(None, (description, tool.description))))

    @property
    def search_name(self) -> str:
        """How the model calls a tool search, whoever runs it."""
        return self.names.of("", _SEARCH)

    def may_call(self, *, parallel: bool) -> MayCall:
        """Which calls the model may make."""
        hosted = {*self.hosted, *([self.search] if self.search is not None else [])}
        return MayCall(frozenset(hosted), self.allowed, parallel, self._callees)

    # --- Tools that come ---

    def add(self, declaration: Declaration, *, searched: bool, again: bool = False, found: bool = False) -> bool:
        """Offers a tool with what is inside of it.  False: this server cannot run it.

        ``searched``: there is a tool search, until which those wait whose loading is deferred.  ``again``: the same
        tool may be there already, from another item.  ``found``: a tool search has loaded it.
        """
        if declaration.type == "tool_search":
            return True
        if declaration.type == "namespace" and declaration.description:
            self._namespaces[declaration.name or ""] = declaration.description
        for leaf, namespace in leaves([declaration]):
            self._offer(leaf, namespace, deferred=searched and leaf.defer_loading, found=found)
        if declaration.type in (*INNER_TYPES, "namespace"):
            return True
        tool = self.registry.get(declaration.type)
        if tool is None:
            return self._offer_foreign(declaration)
        hosted = Hosted(tool, declaration)
        for function in tool.functions(declaration):
            if not again or function.name not in self.hosted:
                self._offer_hosted(hosted, function, deferred=searched and declaration.defer_loading)
        return True

    def _offer(self, leaf: Declaration, namespace: str | None, *, deferred: bool, found: bool) -> None:
        own = leaf.name or ""
        name = self.names.give(namespace, own)
        if name in self.hosted:
            return
        before = self.offers.get(name)
        hidden = deferred and (before is None or before.hidden)
        seen = msgspec.structs.replace(leaf, name=name, own_name=own, namespace=namespace)
        if before is not None and before.hidden and not hidden:
            del self.offers[name]  # what is loaded comes last, so that all others stay where they are
        self.offers[name] = Offer(seen, leaf, None, deferred or (before is not None and before.deferred), hidden)
        if namespace is None and leaf.defer_loading and (deferred or found):
            namespace = own  # so the official API tells calls of what a search has loaded; agents tell them by it
        self._callees[name] = Callee(CUSTOM if leaf.type == "custom" else FUNCTION, own, namespace)

    def _offer_foreign(self, declaration: Declaration) -> bool:
        """A tool that the model's side runs, or knows how to call, is declared to it as it came."""
        if not any(fnmatchcase(declaration.type, pattern) for pattern in self._foreign):
            return False
        name = f"{declaration.path} {declaration.type}"  # no function can be called so
        self.offers[name] = Offer(msgspec.structs.replace(declaration, name=name), declaration)
        return True

    def _offer_hosted(self, hosted: Hosted, function: Declaration, *, deferred: bool) -> None:
        """A hosted tool's function shares the model's name space with the client's functions: each name means one."""
        name, path = function.name or "", hosted.declaration.path
        if name in self.names:
            raise invalid(f"Duplicate tool name: '{name}' is also the name of a function of {path}.", path)
        self.hosted[self.names.give(None, name)] = hosted
        self.offers[name] = Offer(function, hosted.declaration, hosted, deferred, deferred)

    def offer_search(self, declaration: Declaration) -> bool:
        """Lets the model search; False: this server would, and there is nothing to search."""
        server = declaration.execution == "server"
        deferred = [offer.declaration for offer in self.offers.values() if offer.deferred]
        if server and not deferred:
            return False
        name = self.names.give("", _SEARCH)
        if server:
            seen = searching.function(name, deferred, self._namespaces)
            self.search = name
        else:
            seen = msgspec.structs.replace(declaration, type="function", name=name)
            self._callees[name] = Callee(SEARCH, name)
        self.offers = {name: Offer(seen, declaration), **self.offers}  # first, so that what is found comes behind it
        return True

    # --- Tools that are found ---

    def load(self, names: Iterable[str]) -> None:
        """The model sees these from now on, behind all others."""
        for name in names:
            if self.offers[name].hidden:
                offer = self.offers.pop(name)
                offer.hidden = False
                self.offers[name] = offer

    def load_listed(self, listed: Sequence[Declaration]) -> None:
        """The tools that a ``tool_search_output`` lists."""
        for declaration in listed:
            self.add(declaration, searched=False, again=True, found=True)

    def find(self, arguments: str) -> Found:
        """Searches among the deferred tools, and loads what was found."""
        asked = searching.read_query(arguments)
        if self._index is None:
            tools = [offer.declaration for offer in self.offers.values() if offer.deferred]
            self._index = searching.Index(tools, self._namespaces)
        names = self._index.best(asked.query, asked.limit)
        self.load(names)
        return Found(names, self._regrouped([self.offers[name] for name in names]))

    def _regrouped(self, found: Sequence[Offer]) -> bytes:
        """The tools as a ``tool_search_output`` lists them: in their namespaces, as the client wrote them."""
        groups: dict[str | None, list[bytes]] = {None: []}
        for offer in found:
            namespace = offer.declaration.namespace
            groups.setdefault(namespace, []).append(echo(offer.source) if namespace is None else offer.source.raw)
        listed = list(dict.fromkeys(groups.pop(None)))
        for namespace, raws in groups.items():
            about = self._namespaces.get(namespace or "", "")
            head = b'"type":"namespace","name":%b,"description":%b' % (encode(namespace), encode(about))
            listed.append(b'{%b,"tools":[%b]}' % (head, b",".join(raws)))
        return b"[" + b",".join(listed) + b"]"


_SEARCH = "tool_search"

#: Items that every dialect shows to its model, besides those that a hosted tool recalls.
SEEN = frozenset({"message", "reasoning", *ANSWERS, *ANSWERS.values()})
#: Items that the model sees in another form, or that change what it sees.
_HEEDED = frozenset(
    {"tool_search_call", "tool_search_output", "additional_tools", "configuration_update", "compaction"}
)
_KNOWN = SEEN | _HEEDED


def unseen(
    items: Sequence[ContextItem], registry: Mapping[str, Tool], carried: Collection[str | None] = ()
) -> list[str]:
    """Items of the request that are carried but that the model does not see, as paths for the warnings.

    ``carried``: ids of items whose kind is heeded, but that cannot be read here.
    """
    others = [
        (index, item.view.kind)
        for index, item in enumerate(items)
        if item.view.kind not in _KNOWN or item.view.id in carried
    ]
    if not others:
        return []
    own = {tool.item_type for tool in registry.values()}
    return [f"input[{index}]" for index, kind in others if kind not in own]


def sort(
    request: CreateResponse,
    registry: Mapping[str, Tool],
    *,
    strict: bool,
    items: Sequence[ContextItem] = (),
    earlier: int = 0,
    foreign: Sequence[str] = (),
) -> Toolbox:
    """The tools of the request and of its context, of whose items the first ``earlier`` come from before it.

    ``foreign``: patterns of the types that the model's side has itself; those of ``registry`` are this server's.
    Raises ``ApiError`` 400 where leaving a tool out would change what was asked for.
    """
    box = Toolbox(registry, foreign)
    brought = _brought(items, earlier)
    declared = [*request.declared, *(tool for kind, tools in brought if kind == _ADDED for tool in tools)]
    for leaf, namespace in leaves(request.declared):
        if namespace is None:
            box.names.give(None, leaf.name or "")  # names without a namespace stay what the client knows them as
    searches = [one for one in declared if one.type == _SEARCH]
    for declaration in request.declared:
        if not box.add(declaration, searched=bool(searches)):
            _leave_out(box, declaration, request, strict=strict)
    for kind, tools in brought:
        if kind == _SEARCHED:
            box.load_listed(tools)
            continue
        for one in tools:
            if not box.add(one, searched=bool(searches), again=True) and one.path.startswith("input"):
                _leave_out(box, one, request, strict=strict)
    fewer("tools", len(box.offers), INNER_TOOLS_MAX)
    if searches and not box.offer_search(searches[-1]):
        box.left_out += [one.path for one in searches[-1:] if not one.path.startswith(_EARLIER)]
    box.choice, box.allowed = choose(request.choice, declared, box.offers)
    box.load(box.choice.names)
    return box


_ADDED, _SEARCHED = "additional_tools", "tool_search_output"
_EARLIER = "previous_response_id"


def _brought(items: Sequence[ContextItem], earlier: int) -> list[tuple[str, list[Declaration]]]:
    """The tools of items that bring some, by the item's type."""
    brought = []
    for index, item in enumerate(items):
        if item.view.kind in (_ADDED, _SEARCHED):
            path = f"input[{index - earlier}].tools" if index >= earlier else _EARLIER
            brought.append((item.view.kind, read_listed(item.view.tools, path)))
    return brought


def _leave_out(box: Toolbox, declaration: Declaration, request: CreateResponse, *, strict: bool) -> None:
    box.left_out.append(declaration.path)
    demanded = request.choice.mode == "required" and request.choice.type == declaration.type
    alone = len(request.declared) == 1 and declaration is request.declared[0]
    if strict or demanded or alone:
        text = f"Unsupported tool: this server cannot run {declaration.label}."
        raise invalid(text, f"{declaration.path}.type", "unsupported_value")
