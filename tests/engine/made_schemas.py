"""Random strict schemas, and values that match them, written as JSON in random ways."""

from __future__ import annotations

import json
import random
from typing import Any

Json = dict[str, Any]
WORDS = ("red", "back\\slash/", "green", "greenish", "ä", "日本", 'a "b"', "tab\there", "\U0001f600", "")
KEYS = ("a", "ab", "abc", "b", "é", 'q"', "kind", "n")
#: Patterns, each with strings that match and that do not.
PATTERNS = {
    "^[a-z]{2,4}$": (["ab", "abcd"], ["a", "abcde", "aB"]),
    "b+": (["b", "abba"], ["", "aa"]),
    "^\\d{4}-\\w+": (["2024-x", "2024-x!"], ["20-x"]),
    "^[^/]+/é$": (["ab/é"], ["/é", "a/e"]),
}
FORMATS = {
    "date": (["2024-02-29"], ["2024-02-30", "x"]),
    "uuid": (["123e4567-e89b-12d3-a456-426614174000"], ["123e4567"]),
    "ipv4": (["127.0.0.1"], ["127.0.0.256"]),
    "email": (["a@example.com"], ["a"]),
}


class Maker:
    """One random schema at a time; ``value`` and ``text`` are of the last one."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.definitions: Json = {}

    def schema(self) -> Json:
        self.definitions = {}
        for name in ("one", "two"):
            self.definitions[name] = self._object(1)
        root = self._object(3)
        return {**root, "$defs": self.definitions}

    def _object(self, deep: int) -> Json:
        keys = self.random.sample(KEYS, self.random.randint(0, 4))
        return {
            "type": "object",
            "properties": {key: self._any(deep - 1) for key in keys},
            "required": keys,
            "additionalProperties": False,
        }

    def _any(self, deep: int) -> Json:
        makers = [self._string, self._number, self._plain, self._words, self._literal]
        if deep > 0:
            makers += [self._array, self._object, self._union, self._union, self._reference, self._kinds]
        made: Json = self.random.choice(makers)(deep)
        return made

    def _string(self, deep: int) -> Json:
        rule = self.random.choice(["none", "pattern", "format", "length"])
        if rule == "pattern":
            return {"type": "string", "pattern": self.random.choice(list(PATTERNS))}
        if rule == "format":
            return {"type": "string", "format": self.random.choice(list(FORMATS))}
        if rule == "length":
            return {"type": "string", "minLength": 1, "maxLength": 5}
        return {"type": "string"}

    def _number(self, deep: int) -> Json:
        kind = self.random.choice(["integer", "number"])
        rules = [{}, {"minimum": -3, "maximum": 7}, {"exclusiveMinimum": 0, "exclusiveMaximum": 9}, {"multipleOf": 0.5}]
        return {"type": kind, **self.random.choice(rules)}

    def _plain(self, deep: int) -> Json:
        return {"type": self.random.choice(["boolean", "null"])}

    def _words(self, deep: int) -> Json:
        words = self.random.sample(WORDS, self.random.randint(1, 4))
        return {"type": ["string", "null"], "enum": [*words, None]}

    def _literal(self, deep: int) -> Json:
        values = [7, 1.0, True, "x", {"a": [1, {"b": None}]}, [], [1, "x"], {}]
        kinds = ["string", "number", "boolean", "array", "null"]
        return {
            "type": kinds,
            "items": {"type": ["string", "number"]},
            "const": self.random.choice(values[:4] + values[5:7]),
        }

    def _kinds(self, deep: int) -> Json:
        return {**self._object(deep), "type": ["object", "string", "null"], "maxLength": 3}

    def _array(self, deep: int) -> Json:
        rules = self.random.choice([{}, {"minItems": 1}, {"maxItems": 2}, {"minItems": 2, "maxItems": 3}])
        return {"type": "array", "items": self._any(deep - 1), **rules}

    def _union(self, deep: int) -> Json:
        return {"anyOf": [self._any(deep - 1) for _ in range(self.random.randint(1, 3))]}

    def _reference(self, deep: int) -> Json:
        return {"$ref": f"#/$defs/{self.random.choice(['one', 'two'])}"}

    # --- Values ---

    def value(self, schema: Json) -> Any:
        """One that matches; definitions do not refer to themselves, so there always is one."""
        if "$ref" in schema:
            return self.value(self.definitions[schema["$ref"].rpartition("/")[2]])
        if "anyOf" in schema:
            return self.value(self.random.choice(schema["anyOf"]))
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self.random.choice(schema["enum"])
        kinds = schema["type"]
        kind = self.random.choice(kinds) if isinstance(kinds, list) else kinds
        return getattr(self, f"_{kind}_value")(schema)

    def _object_value(self, schema: Json) -> Any:
        keys = list(schema["properties"])
        self.random.shuffle(keys)
        return {key: self.value(schema["properties"][key]) for key in keys}

    def _array_value(self, schema: Json) -> Any:
        low = schema.get("minItems", 0)
        return [self.value(schema["items"]) for _ in range(self.random.randint(low, schema.get("maxItems", low + 2)))]

    def _string_value(self, schema: Json) -> Any:
        if "pattern" in schema:
            return self.random.choice(PATTERNS[schema["pattern"]][0])
        if "format" in schema:
            return self.random.choice(FORMATS[schema["format"]][0])
        words = [word for word in WORDS if schema.get("minLength", 0) <= len(word) <= schema.get("maxLength", 99)]
        return self.random.choice(words)

    def _integer_value(self, schema: Json) -> Any:
        return self.random.choice([1, 2, 5, 3.0])

    def _number_value(self, schema: Json) -> Any:
        return self.random.choice([1, 2, 0.5, 2.5, 6.0])

    def _boolean_value(self, schema: Json) -> Any:
        return self.random.choice([True, False])

    def _null_value(self, schema: Json) -> Any:
        return None

    # --- Text ---

    def text(self, value: Any) -> str:
        """JSON, with escapes, white space and forms of numbers as they come."""
        if isinstance(value, dict):
            members = [
                f"{self._quoted(key)}{self._space()}:{self._space()}{self.text(one)}" for key, one in value.items()
            ]
            return "{" + self._space() + f"{self._space()},{self._space()}".join(members) + self._space() + "}"
        if isinstance(value, list):
            return "[" + self._space() + f",{self._space()}".join(self.text(one) for one in value) + self._space() + "]"
        if isinstance(value, str):
            return self._quoted(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return self._written(value)
        return json.dumps(value)

    def _space(self) -> str:
        return self.random.choice(["", "", " ", "\n\t"])

    def _quoted(self, text: str) -> str:
        return json.dumps(text, ensure_ascii=self.random.random() < 0.5)

    def _written(self, number: float) -> str:
        forms = [json.dumps(number), f"{number:e}", f"{number * 10:g}e-1"]
        return self.random.choice(forms)

    def mutated(self, text: str) -> str:
        """The text with something taken out, put in, or doubled."""
        at = self.random.randrange(len(text))
        how = self.random.randrange(4)
        if how == 0:
            return text[:at] + text[at + 1 :]
        if how == 1:
            return text[:at] + self.random.choice('{}[]",:0-.etn\\ \x00x') + text[at:]
        if how == 2:
            return text[:at] + self.random.choice('{}[]",:019-.a') + text[at + 1 :]
        end = min(len(text), at + self.random.randint(1, 8))
        return text[:end] + text[at:end] + text[end:]
