"""A strict JSON schema, compiled into what may be said next at each place of a value.

A ``Shape`` is one way in which a value may match: schemas that must all hold, without any choice left in them.  Each
place of a value has a tuple of shapes, of which one must fit; unions and references are resolved into them.
Must not know how text becomes values.  Only for schemas that ``protocol.schemas.strict_problem`` finds nothing wrong
with: there every object names all of its keys.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from antiphon.protocol.schemas import SCHEMAS_DEEP_MAX, resolve

#: Shapes of one place, and of a whole schema; a schema beyond them is refused when it is sent.
PLACE_SHAPES_MAX = 500
SHAPES_MAX = 20_000
#: Keys of all shapes together, and steps in which unions are resolved: what the time to compile is in proportion to.
KEYS_MAX = 200_000
STEPS_MAX = 200_000

#: The kinds of JSON values, as bits.
STRING, NUMBER, BOOLEAN, NULL, OBJECT, ARRAY = (1 << bit for bit in range(6))
NAMES = {
    STRING: "a string",
    NUMBER: "a number",
    BOOLEAN: "a boolean",
    NULL: "null",
    OBJECT: "an object",
    ARRAY: "an array",
}
_BITS = {
    "string": STRING,
    "number": NUMBER,
    "integer": NUMBER,
    "boolean": BOOLEAN,
    "null": NULL,
    "object": OBJECT,
    "array": ARRAY,
}

Scalar = str | int | float | bool | None
#: Says of a value whether the keywords that are left to a library hold.
Judge = Callable[[Scalar], bool]
#: Makes one from those keywords.
Bench = Callable[[Mapping[str, Any]], Judge]
_JUDGED = (("string", STRING, ("pattern", "format")), ("number", NUMBER, ("multipleOf",)))


class TooComplex(Exception):
    """The schema says more than can be kept track of; the message ends a sentence that begins with it."""


def kind_of(value: object) -> int:
    """The bit of a decoded value."""
    if value is None:
        return NULL
    if isinstance(value, bool):
        return BOOLEAN
    if isinstance(value, str):
        return STRING
    if isinstance(value, int | float):
        return NUMBER
    return OBJECT if isinstance(value, dict) else ARRAY


class Bound(NamedTuple):
    """An end of a range of numbers, and whether it belongs to it."""

    value: float
    belongs: bool


class Node(msgspec.Struct, eq=False):
    """One schema of the source, and the places of others in it."""

    kinds: int = sum(NAMES)
    #: Each of them is a choice: one of its members must hold as well.
    unions: list[list["Node"]] = []
    target: "Node | None" = None
    #: Whether it speaks of objects: then ``properties`` are all the keys there are.
    closed: bool = False
    properties: dict[str, "Node"] = {}
    required: frozenset[str] = frozenset()
    items: "Node | None" = None
    #: The very items of an array, where a literal is one.
    tuple_items: list["Node"] | None = None
    min_items: int = 0
    max_items: int | None = None
    min_length: int = 0
    max_length: int | None = None
    lowest: list[Bound] = []
    highest: list[Bound] = []
    integer: bool = False
    #: The only scalars there are, with their kinds: ``1`` and ``true`` are two.
    literals: frozenset[tuple[int, Scalar]] | None = None
    judges: dict[int, Judge] = {}

    def allows(self, kind: int, value: Scalar) -> bool:
        """Whether it takes a scalar of a kind that it takes."""
        if self.literals is not None and (kind, value) not in self.literals:
            return False
        if kind == STRING and isinstance(value, str):
            if len(value) < self.min_length or (self.max_length is not None and len(value) > self.max_length):
                return False
        elif kind == NUMBER and isinstance(value, int | float) and not self._allows_number(value):
            return False
        judge = self.judges.get(kind)
        return judge is None or judge(value)

    def _allows_number(self, value: float) -> bool:
        if self.integer and isinstance(value, float) and not value.is_integer():
            return False
        above = all(value > bound.value or (bound.belongs and value == bound.value) for bound in self.lowest)
        return above and all(value < bound.value or (bound.belongs and value == bound.value) for bound in self.highest)


class Shape:
    """Schemas without choices that hold together for one value, and the places inside that value."""

    def __init__(self, nodes: tuple[Node, ...], shapes: "Shapes") -> None:
        self.nodes = nodes
        self.kinds = sum(NAMES)
        for node in nodes:
            self.kinds &= node.kinds
        self._shapes = shapes
        self._inner: dict[str | int | None, tuple[Shape, ...]] = {}
        closed = [set(node.properties) for node in nodes if node.closed]
        #: The keys that an object may have, sorted.
        self.keys = sorted(set.intersection(*closed)) if closed and self.kinds & OBJECT else []
        self.required: frozenset[str] = frozenset().union(*(node.required for node in nodes))
        self.min_items = max((node.min_items for node in nodes), default=0)
        self.max_items = _smallest(node.max_items for node in nodes)
        self._has_tuple = any(node.tuple_items is not None for node in nodes)
        self.words = _shared_words(nodes)
        chars = [node.max_length for node in nodes]
        if self.words is not None:
            chars.append(max((len(word) for word in self.words), default=0))
        #: Characters of the longest string there is; None: there is none.
        self.chars_max = _smallest(chars)

    def property(self, key: str) -> tuple["Shape", ...]:
        """The shapes of the value under ``key``; none where an object may not have it."""
        found = self._inner.get(key)
        if found is None:
            inner = [node.properties.get(key) for node in self.nodes if node.closed]
            known = [node for node in inner if node is not None]
            found = self._shapes.of(known) if known and len(known) == len(inner) else ()
            self._inner[key] = found
        return found

    def item(self, index: int) -> tuple["Shape", ...]:
        """The shapes of the item at ``index``."""
        place = index if self._has_tuple else None
        found = self._inner.get(place)
        if found is None:
            nodes = [node.tuple_items[index] for node in self.nodes if node.tuple_items is not None]
            nodes += [node.items for node in self.nodes if node.items is not None]
            found = self._inner[place] = self._shapes.of(nodes)
        return found

    def takes_item(self, index: int) -> bool:
        """Whether an array may have an item there."""
        return self.max_items is None or index < self.max_items

    def allows(self, kind: int, value: Scalar) -> bool:
        """Whether a scalar of a kind that it takes fits."""
        return all(node.allows(kind, value) for node in self.nodes)

    def begins(self, begun: Sequence[str], count: int) -> bool:
        """Whether a string may still fit of which there are ``count`` characters in pieces."""
        if self.chars_max is not None and count > self.chars_max:
            return False
        return self.words is None or starts_one(self.words, "".join(begun))

    def inner(self) -> Iterator["Shape"]:
        """The shapes of all places inside."""
        for key in self.keys:
            yield from self.property(key)
        if self.kinds & ARRAY:
            for index in range(self.max_items or 0) if self._has_tuple else (0,):
                if self.takes_item(index):
                    yield from self.item(index)


def _smallest(limits: Iterable[int | None]) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)


def _shared_words(nodes: Iterable[Node]) -> list[str] | None:
    """The only strings that all take, sorted; None: there is no such list."""
    listed = [node.literals for node in nodes if node.literals is not None]
    if not listed:
        return None
    return sorted(value for _, value in frozenset.intersection(*listed) if isinstance(value, str))


def starts_one(words: Sequence[str], begun: str, besides: Iterable[str] = ()) -> bool:
    """Whether one of the sorted words begins so; those of ``besides`` do not count."""
    at = bisect_left(words, begun)
    while at < len(words) and words[at].startswith(begun):
        if words[at] not in besides:
            return True
        at += 1
    return False


class Shapes:
    """All shapes of one schema.

    Raises ``TooComplex`` where its unions multiply beyond the limits.  Every shape is made here, so nothing that is
    said later can make more of them.
    """

    def __init__(self, schema: Mapping[str, Any], bench: Bench) -> None:
        self._places: dict[tuple[int, ...], tuple[Shape, ...]] = {}
        self._known: dict[tuple[int, ...], Shape] = {}
        self._ways: dict[int, list[tuple[Node, ...]]] = {}
        self._keys = 0
        self._steps = 0
        self._source = _Source(schema, bench)
        self.root = self.of([self._source.root])
        self._explore()
        #: Containers that one place has to choose between, at the most.
        self.branching = max(
            sum(1 for shape in place if shape.kinds & (OBJECT | ARRAY)) for place in self._places.values()
        )

    def _explore(self) -> None:
        waiting, seen = list(self.root), set(self.root)
        while waiting:
            for inner in waiting.pop().inner():
                if inner not in seen:
                    seen.add(inner)
                    waiting.append(inner)

    def of(self, nodes: Sequence[Node]) -> tuple[Shape, ...]:
        """The shapes of a place where all these schemas hold."""
        nodes = [_followed(node) for node in nodes]
        key = tuple(id(node) for node in nodes)
        found = self._places.get(key)
        if found is None:
            ways = self._combined([self._ways_of(node) for node in nodes])
            shapes = [self._shape(way) for way in ways]
            found = self._places[key] = tuple(shape for shape in shapes if shape.kinds)
        return found

    def _shape(self, nodes: tuple[Node, ...]) -> Shape:
        key = tuple(sorted(id(node) for node in nodes))
        shape = self._known.get(key)
        if shape is None:
            shape = self._known[key] = Shape(nodes, self)
            self._keys += len(shape.keys)
            if len(self._known) > SHAPES_MAX or self._keys > KEYS_MAX:
                raise TooComplex("its unions multiply to too many cases.")
        return shape

    def _ways_of(self, node: Node) -> list[tuple[Node, ...]]:
        """The schema without its choices: each way to make them all."""
        found = self._ways.get(id(node))
        if found is None:
            choices = [[way for one in union for way in self._ways_of(_followed(one))] for union in node.unions]
            found = self._ways[id(node)] = self._combined([[(node,)], *choices])
        return found

    def _combined(self, choices: Sequence[Sequence[tuple[Node, ...]]]) -> list[tuple[Node, ...]]:
        """One of each, in every combination; what says the same is there once."""
        ways: dict[frozenset[int], tuple[Node, ...]] = {frozenset(): ()}
        for choice in choices:
            self._steps += len(ways) * len(choice)
            if self._steps > STEPS_MAX:
                raise TooComplex("its unions multiply to too many cases.")
            longer: dict[frozenset[int], tuple[Node, ...]] = {}
            for way in ways.values():
                for more in choice:
                    whole = {id(node): node for node in (*way, *more)}
                    longer[frozenset(whole)] = tuple(whole.values())
            if len(longer) > PLACE_SHAPES_MAX:
                raise TooComplex(f"its unions multiply to more than {PLACE_SHAPES_MAX} cases at one place.")
            ways = longer
        return list(ways.values())


def _followed(node: Node) -> Node:
    while node.target is not None:
        node = node.target
    return node


class _Source:
    """Makes the nodes, each schema's once."""

    def __init__(self, schema: Mapping[str, Any], bench: Bench) -> None:
        self._schema = schema
        self._bench = bench
        self._nodes: dict[int, Node] = {}
        self._waiting: list[tuple[Node, Mapping[str, Any]]] = []
        self._literals = 0
        self.root = self._node(schema)
        while self._waiting:
            node, source = self._waiting.pop()
            self._fill(node, source)

    def _node(self, schema: Mapping[str, Any]) -> Node:
        node = self._nodes.get(id(schema))
        if node is None:
            node = self._nodes[id(schema)] = Node()
            self._waiting.append((node, schema))
        return node

    def _fill(self, node: Node, schema: Mapping[str, Any]) -> None:
        if "$ref" in schema:
            target = resolve(self._schema, schema["$ref"])
            assert target is not None
            node.target = self._node(target)
            return
        if "type" in schema:
            self._fill_types(node, schema["type"])
        if "anyOf" in schema:
            node.unions = [*node.unions, [self._node(branch) for branch in schema["anyOf"]]]
        if node.closed:
            node.properties = {name: self._node(inner) for name, inner in schema["properties"].items()}
            node.required = frozenset(schema.get("required", ()))
        if "items" in schema:
            node.items = self._node(schema["items"])
        node.min_items, node.max_items = schema.get("minItems", 0), schema.get("maxItems")
        node.min_length, node.max_length = schema.get("minLength", 0), schema.get("maxLength")
        node.lowest = _bounds(schema, "minimum", "exclusiveMinimum")
        node.highest = _bounds(schema, "maximum", "exclusiveMaximum")
        for values in ([schema["const"]] if "const" in schema else None, schema.get("enum")):
            if values is not None:
                self._fill_literals(node, values)
        self._fill_judges(node, schema)

    def _fill_types(self, node: Node, names: str | list[str]) -> None:
        kinds = [names] if isinstance(names, str) else names
        node.kinds = sum({_BITS[kind] for kind in kinds})
        node.integer = "integer" in kinds and "number" not in kinds
        node.closed = "object" in kinds

    def _fill_judges(self, node: Node, schema: Mapping[str, Any]) -> None:
        for name, kind, keywords in _JUDGED:
            rules = {keyword: schema[keyword] for keyword in keywords if keyword in schema}
            if rules and node.kinds & kind:
                node.judges = node.judges | {kind: self._bench({"type": name, **rules})}

    def _fill_literals(self, node: Node, values: Sequence[Any]) -> None:
        node.unions = [*node.unions, self._literal_nodes(values, 0)]

    def _literal_nodes(self, values: Sequence[Any], deep: int) -> list[Node]:
        """One for all scalars and one for each container."""
        if deep > SCHEMAS_DEEP_MAX:
            raise TooComplex(f"its literal values are nested deeper than {SCHEMAS_DEEP_MAX} levels.")
        self._literals += len(values)
        if self._literals > SHAPES_MAX:
            raise TooComplex(f"its literal values have more than {SHAPES_MAX} parts.")
        kinds = [kind_of(value) for value in values]
        scalars = frozenset((kind, value) for kind, value in zip(kinds, values, strict=True) if kind not in _CONTAINERS)
        nodes = [Node(kinds=sum({kind for kind, _ in scalars}), literals=scalars)] if scalars else []
        for value in values:
            if isinstance(value, dict):
                inner = {name: self._literal(one, deep) for name, one in value.items()}
                nodes.append(Node(kinds=OBJECT, closed=True, properties=inner, required=frozenset(inner)))
            elif isinstance(value, list):
                items = [self._literal(one, deep) for one in value]
                count = len(items)
                nodes.append(Node(kinds=ARRAY, tuple_items=items, min_items=count, max_items=count))
        return nodes

    def _literal(self, value: object, deep: int) -> Node:
        return self._literal_nodes([value], deep + 1)[0]


_CONTAINERS = (OBJECT, ARRAY)


def _bounds(schema: Mapping[str, Any], within: str, beyond: str) -> list[Bound]:
    found = [Bound(schema[within], belongs=True)] if within in schema else []
    return [*found, Bound(schema[beyond], belongs=False)] if beyond in schema else found
