"""Text held against a schema while it comes: what may still fit is let pass, what cannot is stopped at once."""

from __future__ import annotations

import json
import time
from typing import Any

import jsonschema_rs
import msgspec
import pytest
from tests.engine.made_schemas import Maker

from antiphon.engine.contracts import SchemaContract
from antiphon.engine.json_checker import DEPTH_MAX, NUMBER_CHARS_MAX
from antiphon.protocol import schemas
from antiphon.protocol.errors import ApiError

Json = dict[str, Any]
STRING: Json = {"type": "string"}
SEEDS = range(80)


def closed(properties: Json, **more: Any) -> Json:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
        **more,
    }


def contract(schema: object) -> SchemaContract:
    return SchemaContract(schema, schemas.of_format("made"))


def judge(schema: Json) -> jsonschema_rs.Validator:
    return jsonschema_rs.Draft202012Validator(schema, validate_formats=True, offline=True)


def taken(schema: Json, text: str) -> tuple[str, bool, str | None]:
    """What was taken of a text fed by characters, whether it is whole, and the reason why no more was."""
    checker = contract(schema).checker()
    for at, character in enumerate(text):
        if not checker.feed(character):
            assert not checker.complete
            return text[:at], False, checker.reason
    return text, checker.complete, checker.reason


# --- Made at random ---


@pytest.mark.parametrize("seed", SEEDS)
def test_every_beginning_of_what_matches_is_taken(seed: int) -> None:
    maker = Maker(seed)
    schema = maker.schema()
    made = contract(schema)
    validator = judge(schema)
    for _ in range(8):
        value = maker.value(schema)
        text = maker.text(value)
        assert validator.is_valid(json.loads(text)), text
        checker = made.checker()
        for at, character in enumerate(text):
            assert checker.complete is False, text[:at]
            assert checker.feed(character), (schema, text[: at + 1], checker.reason)
        assert checker.complete, (schema, text)
        assert made.errors(text) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_what_does_not_match_is_stopped_before_it_is_taken_as_whole(seed: int) -> None:
    """The verdict on a whole text is the library's, but for a key that is there twice, which it does not see."""
    maker = Maker(seed)
    schema = maker.schema()
    made = contract(schema)
    validator = judge(schema)
    for _ in range(40):
        text = maker.mutated(maker.text(maker.value(schema)))
        checker = made.checker()
        for character in text:
            checker.feed(character)

        assert checker.complete == matches(validator, text), (schema, text, checker.reason)
        assert bool(made.errors(text)) is not checker.complete


def matches(validator: jsonschema_rs.Validator, text: str) -> bool:
    try:
        value = msgspec.json.decode(text)
        json.loads(text, object_pairs_hook=once)
    except (ValueError, KeyError):
        return False
    return validator.is_valid(value)


def once(pairs: list[tuple[str, Any]]) -> Json:
    if len({key for key, _ in pairs}) < len(pairs):
        raise KeyError
    return dict(pairs)


@pytest.mark.parametrize("seed", SEEDS[:40])
def test_the_cut_between_pieces_changes_nothing(seed: int) -> None:
    maker = Maker(seed)
    schema = maker.schema()
    made = contract(schema)
    for _ in range(10):
        text = maker.text(maker.value(schema))
        if maker.random.random() < 0.5:
            text = maker.mutated(text)
        slow, quick = made.checker(), made.checker()
        for character in text:
            slow.feed(character)
        at = 0
        while at < len(text):
            step = maker.random.randint(1, 9)
            quick.feed(text[at : at + step])
            at += step

        assert (quick.complete, quick.reason is None) == (slow.complete, slow.reason is None)


# --- Where it stops ---

LIST = {"node": closed({"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}})}
SHAPES = {"anyOf": [closed({"kind": {"type": "string", "const": "circle"}, "r": {"type": "number"}}),
                    closed({"kind": {"type": "string", "const": "label"}, "text": STRING})]}  # fmt: skip
TEN = closed({"a": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 10}, "maxItems": 2}})

STOPS: dict[str, tuple[Json, str, str, str]] = {
    "not an object": (closed({}), "", "[", "At $: expected an object, but got an array."),
    "a fence": (closed({}), "", "`", "At $: '`' does not begin a value."),
    "prose": (closed({}), "", "Sure", "At $: 'S' does not begin a value."),
    "unknown key": (closed({"name": STRING}), '{"n', "o", "At $: no key that is allowed here begins with 'no'."),
    "half a key": (closed({"name": STRING}), '{"nam', '"', "At $: the key 'nam' is not allowed here."),
    "a key again": (closed({"a": STRING, "ab": STRING}), '{"a":"","a', '"', "At $: the key 'a' is there twice."),
    "no more keys": (closed({"a": STRING}), '{"a":""', ",", "At $: no more keys fit."),
    "no keys": (closed({}), "{", '"', "At $: no more keys fit."),
    "a missing key": (closed({"a": STRING, "b": STRING}), '{"a":""', "}", "At $: the key 'b' is missing."),
    "nothing": (closed({"a": STRING}), "{", "}", "At $: the key 'a' is missing."),
    "another type": (closed({"a": STRING}), '{"a":', "1", "At $.a: expected a string, but got a number."),
    "either type": (
        closed({"a": {"type": ["string", "null"]}}),
        '{"a":',
        "t",
        "At $.a: expected a string or null, but got a boolean.",
    ),
    "a word": (closed({"a": {"type": "boolean"}}), '{"a":t', "o", "At $.a: 'to' does not begin a value."),
    "another word": (
        closed({"a": {"type": "string", "enum": ["red", "green"]}}),
        '{"a":"gre',
        "y",
        "At $.a: no string that is allowed here begins with 'grey'.",
    ),
    "half a word": (
        closed({"a": {"type": "string", "enum": ["red", "green"]}}),
        '{"a":"gree',
        '"',
        "At $.a: 'gree' is not allowed here.",
    ),
    "a long string": (
        closed({"a": {"type": "string", "maxLength": 3}}),
        '{"a":"\\u00e4\\ud83d\\ude00c',
        "d",
        "At $.a: no string that is allowed here begins with 'ä\U0001f600cd'.",
    ),
    "a pattern": (
        closed({"a": {"type": "string", "pattern": "^[a-z]+$"}}),
        '{"a":"ab1',
        '"',
        "At $.a: 'ab1' is not allowed here.",
    ),
    "a large number": (TEN, '{"a":[1,11', "]", "At $.a[1]: 11 is not allowed here."),
    "a negative number": (TEN, '{"a":[-1', ",", "At $.a[0]: -1 is not allowed here."),
    "a fraction": (TEN, '{"a":[1.5', " ", "At $.a[0]: 1.5 is not allowed here."),
    "too many items": (TEN, '{"a":[1,1.0', ",", "At $.a[2]: the array may not have more than 2 items."),
    "a leading zero": (TEN, '{"a":[0', "1", "At $.a[0]: '01' does not begin a number."),
    "half a number": (TEN, '{"a":[1.', "]", "At $.a[0]: '1.' is not a number."),
    "beyond all numbers": (TEN, '{"a":[1e999', "]", "At $.a[0]: inf is not allowed here."),
    "a line break in a string": (
        closed({"a": STRING}),
        '{"a":"',
        "\n",
        "At $.a: a string has a character that must be escaped.",
    ),
    "half a pair": (closed({"a": STRING}), '{"a":"\\ud83d', "x", "At $.a: '\\\\ud83dx' is not an escape."),
    "the other half": (
        closed({"a": STRING}),
        '{"a":"\\ude0',
        "0",
        "At $.a: '\\\\ude00' is half of a surrogate pair.",
    ),
    "a raw half": (closed({"a": STRING}), '{"a":"', "\ud83d", "At $.a: a string has a character that must be escaped."),
    "an escape": (closed({"a": STRING}), '{"a":"\\', "x", "At $.a: '\\\\x' is not an escape."),
    "more behind it": (closed({}), "{} \n", "{", "At $: '{' stands behind the end."),
    "no colon": (closed({"a": STRING}), '{"a"', ",", "At $.a: ',' stands where a colon must be."),
    "no comma": (closed({"a": STRING}), '{"a":""', ":", "At $: ':' stands where a comma or an end must be."),
    "one of two, by its kind": (
        closed({"shape": SHAPES}),
        '{"shape":{"kind":"circle","',
        "t",
        "At $.shape: no key that is allowed here begins with 't'.",
    ),
    "one of two, by its keys": (
        closed({"shape": SHAPES}),
        '{"shape":{"text":"","kind":"',
        "c",
        "At $.shape.kind: no string that is allowed here begins with 'c'.",
    ),
    "in a list of lists": (
        closed({"list": {"$ref": "#/$defs/node"}}, **{"$defs": LIST}),
        '{"list":{"next":{"next":',
        "1",
        "At $.list.next.next: expected null or an object, but got a number.",
    ),
}


@pytest.mark.parametrize("name", STOPS)
def test_the_first_character_that_cannot_fit_is_not_taken(name: str) -> None:
    schema, fitting, next_character, reason = STOPS[name]

    assert taken(schema, fitting + next_character) == (fitting, False, reason)


def test_a_union_whose_members_begin_alike() -> None:
    schema = closed({"shape": SHAPES, "more": {"type": "array", "items": SHAPES}})
    text = '{"more":[{"kind":"label","text":"x"},{"r":1,"kind":"circle"}],"shape":{"r":2.5,"kind":"circle"}}'

    assert taken(schema, text) == (text, True, None)


def test_literals_that_are_containers() -> None:
    schema = closed({"a": {"type": "array", "items": {"type": "number"}, "enum": [[], [1, 2], [1, 3]]}})

    assert taken(schema, '{"a":[1,3.0]}') == ('{"a":[1,3.0]}', True, None)
    assert taken(schema, '{"a":[2')[0] == '{"a":[2'
    assert taken(schema, '{"a":[2,') == ('{"a":[2', False, "At $.a[0]: 2 is not allowed here.")
    assert taken(schema, '{"a":[1]')[2] == "At $.a: 1 items are too few."


def test_one_is_not_true() -> None:
    schema = closed({"a": {"type": ["number", "boolean"], "enum": [1, False]}})

    assert [taken(schema, f'{{"a":{value}}}')[1] for value in ("1", "1.0", "false", "true", "0")] == [
        True,
        True,
        True,
        False,
        False,
    ]


# --- Errors for the model ---


def test_all_errors_are_told_with_their_places() -> None:
    schema = closed(
        {
            "day": {"type": "string", "format": "date"},
            "shape": {"anyOf": [SHAPES, {"type": "null"}]},
            "color": {"type": "string", "enum": ["red", "green"]},
            "numbers": {"type": "array", "items": {"type": "number", "maximum": 3}, "minItems": 2},
        }
    )
    text = '{"day":"x","shape":{"kind":"circle","r":"1"},"color":"blue","numbers":[5],"more":1}'

    assert contract(schema).errors(text) == [
        'At $.day: the value is not a "date".',
        'At $.shape.r: the value is not of type "number".',
        'At $.color: the value is not one of "red" or "green".',
        "At $.numbers: the value has less than 2 items.",
        "At $.numbers[0]: the value is greater than the maximum of 3.",
        "At $: Additional properties are not allowed ('more' was unexpected).",
    ]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "The text ends too early."),
        ('{"a":"x"', "The text ends too early."),
        ("Sure!", "At $: 'S' does not begin a value."),
        ('{"a":"x"} or so', "At $: 'o' stands behind the end."),
        ('{"a":"x","a":"y"}', "At $: no more keys fit."),
        ('{"a":"\ud800"}', "At $.a: a string has a character that must be escaped."),
    ],
)
def test_text_that_is_no_json(text: str, error: str) -> None:
    assert contract(closed({"a": STRING})).errors(text) == [error]


def test_errors_have_limits() -> None:
    schema = closed({"a": {"type": "array", "items": {"type": "string", "enum": ["x" * 1_000]}}})
    errors = contract(schema).errors(json.dumps({"a": ["y"] * 1_000}))

    assert len(errors) == 10
    assert all(len(error) < 400 for error in errors)


# --- Hostile ones ---


def doubled(levels: int) -> Json:
    """Each definition is one of two of the next, which say different things: 2 to the power of the levels."""
    definitions: Json = {f"d{levels}": STRING}
    for index in range(levels):
        inner = {"$ref": f"#/$defs/d{index + 1}"}
        definitions[f"d{index}"] = {
            "anyOf": [
                {"type": "string", "minLength": index, "anyOf": [inner]},
                {"type": "string", "maxLength": 1_000 + index, "anyOf": [inner]},
            ]
        }
    return closed({"a": {"$ref": "#/$defs/d0"}}, **{"$defs": definitions})


def fanned(levels: int, width: int) -> Json:
    """Definitions that refer to the next many times; what is said is the same each time."""
    definitions: Json = {f"d{levels}": STRING}
    for index in range(levels):
        definitions[f"d{index}"] = {"anyOf": [{"$ref": f"#/$defs/d{index + 1}"}] * width}
    return closed({"a": {"$ref": "#/$defs/d0"}}, **{"$defs": definitions})


def objects_in_unions(width: int, keys: int) -> Json:
    branches = [closed({f"k{key}": {"type": "string", "minLength": at} for key in range(keys)}) for at in range(width)]
    return closed({"a": {"anyOf": branches}})


def patterns(count: int) -> Json:
    return closed({f"p{at}": {"type": "string", "pattern": f"^\\p{{L}}{{1,19}}{at}$"} for at in range(count)})


A = "In context=('properties', 'a'),"


def refusal(schema: object) -> ApiError:
    with pytest.raises(ApiError) as refused:
        contract(schema)
    return refused.value


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        (doubled(20), "the schema is too complex: its unions multiply to"),
        (objects_in_unions(20, 240), None),
        (objects_in_unions(400, 12), None),
        (fanned(60, 30), None),
        (fanned(120, 2), None),
        (patterns(400), "the schema is too complex: its patterns take too long to compile."),
        (closed({"a": {"type": "string", "pattern": "(a{1000}){1000}"}}), "'(a{1000}){1000}' is not a 'regex'."),
        (closed({"a": {"type": "string", "pattern": "(?=a)b"}}), "'(?=a)b' is not a 'regex'."),
        (closed({"a": {"type": "string", "pattern": "(a"}}), "'(a' is not a 'regex'."),
        (closed({"a": {"type": "string", "pattern": "(a+)+$"}}), None),
        (closed({"a": {"type": "number", "minimum": "x"}}), f"{A} 'x' is not of type 'number'."),
        (closed({"a": {"type": "string", "minLength": -1}}), A),
    ],
)  # fmt: skip
def test_hostile_schemas_end_within_the_limits(schema: Json, problem: str | None) -> None:
    begun = time.thread_time()
    if problem is None:
        contract(schema)
    else:
        error = refusal(schema)
        assert error.message.startswith(f"Invalid schema for response_format 'made': {problem}")
        assert (error.status, error.param, error.code) == (400, "text.format.schema", "invalid_json_schema")

    assert time.thread_time() - begun < 6


def test_a_pattern_that_other_engines_choke_on() -> None:
    schema = closed({"a": {"type": "string", "pattern": "^(a+)+$"}})
    checker = contract(schema).checker()
    begun = time.thread_time()

    assert checker.feed('{"a":"' + "a" * 100_000 + "!")
    assert not checker.feed('"')
    assert time.thread_time() - begun < 2


def test_a_recursive_union_that_multiplies_with_every_level() -> None:
    """The library's errors of unions branch with each level; beyond the limit the first error must do."""

    def node(kind: str) -> Json:
        children = {"anyOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}, {"type": "null"}]}
        return closed({"child": children, "kind": {"type": "string", "const": kind}})

    schema = closed({"root": {"$ref": "#/$defs/a"}}, **{"$defs": {"a": node("a"), "b": node("b")}})
    value: Json | None = None
    for level in range(60):
        value = {"child": value, "kind": "x" if level == 0 else "ab"[level % 2]}
    begun = time.thread_time()

    errors = contract(schema).errors(json.dumps({"root": value}))

    assert len(errors) == 1
    assert "'x' is not allowed here." in errors[0]
    assert time.thread_time() - begun < 1


def test_text_is_bounded_in_depth_and_in_digits() -> None:
    tree = closed({"children": {"type": "array", "items": {"$ref": "#"}}})
    number = closed({"a": {"type": "number"}})

    assert f"nested deeper than {DEPTH_MAX} levels" in str(taken(tree, '{"children":[' * 60)[2])
    assert "does not begin a number" in str(taken(number, '{"a":' + "1" * (NUMBER_CHARS_MAX + 1))[2])
    assert taken(number, '{"a":' + "1" * NUMBER_CHARS_MAX + "}")[1]
