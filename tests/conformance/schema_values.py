"""Values that a JSON schema lets pass, and values that are spoilt in one place: hypothesis strategies.

Knows the keywords that the vendored documents and our own use; nothing of what the values mean.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

Json = dict[str, Any]

REFERENCE = "#/components/schemas/"
DEPTH_MAX = 7
ENTRIES_MAX = 3
#: Bounds of numbers without any.
NUMBER_MAX = 10**6

TEXT = st.text(max_size=12)
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)


class Values:
    """Values of the schemas of one document."""

    def __init__(self, schemas: Json) -> None:
        self._schemas = schemas

    def of(self, schema: Json) -> st.SearchStrategy[Any]:
        """Values that the schema lets pass."""
        return st.composite(lambda draw: self._draw(draw, schema, 0))()

    def _draw(self, draw: Any, schema: Json, depth: int) -> Any:
        if "$ref" in schema:
            return self._draw(draw, self._schemas[schema["$ref"].removeprefix(REFERENCE)], depth)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return draw(st.sampled_from(schema["enum"]))
        if "allOf" in schema:
            return self._draw(draw, self._joined(schema["allOf"]), depth)
        branches = schema.get("anyOf") or schema.get("oneOf")
        if branches:
            fitting = branches if depth < DEPTH_MAX else [min(branches, key=self._size)]
            return self._draw(draw, draw(st.sampled_from(fitting)), depth)
        return self._plain(draw, schema, depth)

    def _joined(self, parts: list[Json]) -> Json:
        """One schema for all of them; where several have a property, the last one's is the narrowest."""
        if len(parts) == 1:
            return parts[0]
        whole: Json = {"type": "object", "properties": {}, "required": []}
        for part in parts:
            known = self._schemas[part["$ref"].removeprefix(REFERENCE)] if "$ref" in part else part
            known = self._joined(known["allOf"]) if "allOf" in known else known
            whole["properties"] |= known.get("properties", {})
            whole["required"] += known.get("required", [])
        return whole

    def _size(self, schema: Json) -> int:
        """How much the smallest value of a branch holds."""
        kind = schema.get("type")
        if kind in ("null", "string", "boolean", "integer", "number"):
            return 0
        return 1 if kind == "array" else 2 + len(schema.get("required", ())) + ("$ref" in schema)

    def _plain(self, draw: Any, schema: Json, depth: int) -> Any:
        kind = schema.get("type")
        if kind == "object" or (kind is None and "properties" in schema):
            return self._object(draw, schema, depth + 1)
        if kind == "array":
            return self._array(draw, schema, depth + 1)
        if kind == "string":
            return draw(_strings(schema))
        if kind == "integer":
            return draw(st.integers(schema.get("minimum", -NUMBER_MAX), schema.get("maximum", NUMBER_MAX)))
        if kind == "number":
            return draw(st.floats(schema.get("minimum", -NUMBER_MAX), schema.get("maximum", NUMBER_MAX)))
        if kind == "boolean":
            return draw(st.booleans())
        return None if kind == "null" else draw(JUNK)

    def _object(self, draw: Any, schema: Json, depth: int) -> Json:
        properties = schema.get("properties", {})
        required = schema.get("required", [])
        optional = sorted(properties.keys() - set(required))
        chosen = draw(st.lists(st.sampled_from(optional), max_size=4, unique=True)) if optional else []
        names = [*required, *([] if depth >= DEPTH_MAX else chosen)]
        made = {name: self._draw(draw, properties.get(name, {}), depth) for name in names}
        more = schema.get("additionalProperties")
        if isinstance(more, dict) and depth < DEPTH_MAX:
            for name in draw(st.lists(TEXT, max_size=2, unique=True)):
                made.setdefault(name, self._draw(draw, more, depth))
        return made

    def _array(self, draw: Any, schema: Json, depth: int) -> list[Any]:
        least = schema.get("minItems", 0)
        most = least if depth >= DEPTH_MAX else min(schema.get("maxItems", 10**9), least + ENTRIES_MAX)
        return [self._draw(draw, schema.get("items", {}), depth) for _ in range(draw(st.integers(least, most)))]


def _strings(schema: Json) -> st.SearchStrategy[str]:
    if "pattern" in schema:
        return st.from_regex(schema["pattern"], fullmatch=True).map(lambda text: text[: schema.get("maxLength", 64)])
    least = schema.get("minLength", 0)
    texts = st.text(min_size=least, max_size=max(least, min(schema.get("maxLength", 12), 12)))
    excluded = schema.get("not", {}).get("enum", [])
    return texts.filter(lambda text: text not in excluded) if excluded else texts


@st.composite
def spoilt(draw: Any, values: st.SearchStrategy[Any]) -> Any:
    """A value in which one place, at whatever depth, is gone or something else."""
    value = draw(values)
    place = value
    while isinstance(place, dict | list) and place:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = draw(st.sampled_from(keys))
        inner = place[key]
        if not isinstance(inner, dict | list) or not inner or draw(st.integers(0, 2)) == 0:
            if isinstance(place, dict) and draw(st.booleans()):
                del place[key]
            else:
                place[key] = draw(JUNK)
            return value
        place = inner
    return draw(JUNK)
