"""Names that models see: unambiguous, short, reversible, and the same whatever comes later."""

from __future__ import annotations

import random
import re

import pytest

from antiphon.engine.naming import NAME_MAX, Names

FLAT = re.compile(r"[A-Za-z0-9_-]{1,64}")


@pytest.mark.parametrize(
    ("namespace", "name", "flat"),
    [
        (None, "look", "look"),
        ("crm", "list", "crm__list"),
        ("multi_agent_v1", "spawn_agent", "multi_agent_v1__spawn_agent"),
        ("mcp__files__", "read", "mcp__files__read"),
        ("", "tool_search", "tool_search"),
        (None, "x" * 64, "x" * 64),
    ],
)
def test_names_are_plain_where_they_can_be(namespace: str | None, name: str, flat: str) -> None:
    assert Names().give(namespace, name) == flat
    assert Names().of(namespace, name) == flat


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a", "b__c"), ("a__b", "c")),
        ((None, "a__b"), ("a", "b")),
        (("a_", "b"), ("a", "b")),
        (("n" * 80, "a"), ("n" * 80, "b")),
        (("n" * 80, "x" * 80), ("n" * 81, "x" * 80)),
        (("a.b", "c"), ("a_b", "c")),
        (("é", "c"), ("ü", "c")),
        (("", "tool_search"), (None, "tool_search")),
    ],
)
def test_names_that_would_be_the_same_are_told_apart(
    one: tuple[str | None, str], other: tuple[str | None, str]
) -> None:
    names = Names()

    assert names.give(*one) != names.give(*other)


def test_the_end_of_a_long_name_is_kept() -> None:
    flat = Names().give("a_very_long_namespace_of_some_server_that_nobody_can_shorten", "create_calendar_event")

    assert len(flat) <= NAME_MAX
    assert "__create_calendar_event_" in flat


def test_a_call_whose_namespace_was_lost_is_of_the_only_tool_of_that_name() -> None:
    names = Names()
    names.give("crm", "list")
    assert names.of(None, "list") == "crm__list"

    names.give("shop", "list")
    assert names.of(None, "list") == "list"


def test_a_call_in_the_namespace_of_its_own_name_is_of_a_tool_without_one() -> None:
    names = Names()
    assert names.of("list", "list") == "list"
    names.give(None, "list")
    assert names.of("list", "list") == "list"

    names.give("list", "list")
    assert names.of("list", "list") == "list__list"


def test_asking_for_a_name_does_not_give_it() -> None:
    names = Names()
    names.of("crm", "list")

    assert "crm__list" not in names
    assert names.give(None, "crm__list") == "crm__list"
    assert names.of("crm", "list") != "crm__list"


def word(dice: random.Random) -> str:
    length = dice.choice([1, 1, 2, 3, 30, 63, 64, 65, 128])
    alphabet = dice.choice(["ab_", "a_", "abc.-/", "é日_", "\ud83e a"])
    return "".join(dice.choice(alphabet) for _ in range(length))


@pytest.mark.parametrize("seed", range(100))
def test_any_names_are_flattened_one_to_one(seed: int) -> None:
    dice = random.Random(seed)
    owners = {(dice.choice([None, word(dice), "a", "a_"]), word(dice)) for _ in range(200)}
    names, again = Names(), Names()
    given = {}
    for owner in sorted(owners, key=repr):
        given[owner] = names.give(*owner)
        assert names.give(*owner) == given[owner]

    assert all(FLAT.fullmatch(flat) for flat in given.values())
    assert len(set(given.values())) == len(owners), "every name has one owner"
    # Whoever asks in the same order gets the same names, and what comes later changes none of them.
    assert {owner: again.give(*owner) for owner in sorted(owners, key=repr)} == given
    assert {owner: names.of(*owner) for owner in owners} == given
