"""What an operator may change about the bus, and how its subjects are named."""

import hashlib
import re

import msgspec

from antiphon.engine.ports.stores import RunName

#: The queues, the most urgent first, and what of the requests' service tiers goes where.
TIERS = ("priority", "default", "flex")


class Settings(msgspec.Struct, frozen=True):
    """The settings of the same names in ``config``."""

    bus: str
    bus_name: str = "antiphon"
    bus_credentials: str | None = None
    bus_replicas: int = 1
    bus_lease_seconds: float = 2.0
    tier_weights: dict[str, int] = msgspec.field(default_factory=dict)
    runs_max: int = 256


def tier_of(asked: str | None) -> str:
    """The queue of a request's service tier."""
    return asked if asked in TIERS else "default"


class Subjects:
    """The names of everything on the bus that belongs to one installation."""

    def __init__(self, name: str) -> None:
        self.stream = f"{name}-runs"
        self.cancelled = f"{name}.cancelled"
        self.taken = f"{name}.taken"
        self.who = f"{name}.who"
        self.all_runs = f"{name}.runs.>"
        self._name = name

    def tier(self, tier: str) -> str:
        """All runs of a tier."""
        return f"{self._name}.runs.{tier}.>"

    def offer(self, run: RunName, tier: str) -> str:
        """The one message that offers a run."""
        return f"{self._name}.runs.{tier}.{place(run)}"

    def place_in(self, subject: str) -> str:
        """The ``place`` of the run that an ``offer`` is of."""
        return ".".join(subject.split(".")[-2:])

    def live(self, run: RunName) -> str:
        """What readers of a run are told."""
        return f"{self._name}.live.{place(run)}"


def place(run: RunName) -> str:
    """A run's part of a subject: projects are named by people, so that they may hold any character."""
    return f"{_digest(run.project)}.{run.response if _PLAIN.fullmatch(run.response) else _digest(run.response)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]


_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,100}")
