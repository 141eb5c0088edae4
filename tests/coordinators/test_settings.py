"""What the settings of the bus say, and what is refused."""

from __future__ import annotations

import pytest

from antiphon.assemble import Server
from antiphon.clock import SystemClock
from antiphon.config import Config, ConfigError, load
from antiphon.coordinators.nats.settings import Subjects, tier_of
from antiphon.engine.ports.stores import RunName

BUS = "nats://127.0.0.1:4222"


def test_several_nodes_want_a_database_that_they_share() -> None:
    for database in ("", ":memory:", "/tmp/state.db"):
        with pytest.raises(ConfigError, match="bus: several nodes need a database that they share"):
            Server(Config(bus=BUS, database=database, demo_model=False))


def test_weights_are_given_by_tier() -> None:
    config = load(None, {"ANTIPHON_TIER_WEIGHTS": "priority=5, flex=2"}, {"bus": BUS})
    assert config.tier_weights == {"priority": 5, "flex": 2}
    assert load(None, {}, {"tier_weights": ("default=7",)}).tier_weights == {"default": 7}
    for wrong in ("priority", "priority=0", "priority=many"):
        with pytest.raises(ConfigError, match="tier_weights"):
            load(None, {}, {"tier_weights": (wrong,)})
    with pytest.raises(ConfigError, match="there is no tier 'urgent'"):
        Server(Config(bus=BUS, database="postgresql://x/y", tier_weights={"urgent": 2}, demo_model=False))


@pytest.mark.parametrize("name", ["", "a.b", "a b", "x" * 33, "*"])
def test_names_of_a_bus_are_parts_of_subjects(name: str) -> None:
    with pytest.raises(ConfigError, match="bus_name"):
        load(None, {}, {"bus_name": name})


def test_every_tier_has_a_queue() -> None:
    tiers = {asked: tier_of(asked) for asked in (None, "auto", "default", "scale", "fast", "priority", "flex")}
    assert {asked for asked, tier in tiers.items() if tier != "default"} == {"priority", "flex"}


def test_subjects_hold_any_project_and_name_one_run() -> None:
    subjects = Subjects("bus")
    response = SystemClock().new_id("resp_")
    runs = [RunName(project, response) for project in ("a", "b", "a.b", "*", ">", "ü ", "")]
    offers = {subjects.offer(run, "flex") for run in runs}

    assert len(offers) == len(runs)
    for offer in offers:
        assert offer.startswith("bus.runs.flex.")
        assert offer.count(".") == 4
        assert not set(offer) & set("*> ")
