"""How bad a seed is: how often what goes wrong, drawn once per seed.

Must not know what is done with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

#: Calls of the store that a run makes once or twice: they fail so many times as often.
SELDOM = frozenset({"begin", "finish", "claim", "begun", "journal", "hand_back", "delete"})
SELDOM_TIMES = 3


@dataclass
class Weather:
    """Chances are per call unless their name says otherwise; times are in virtual seconds."""

    name: str
    #: Of a call of the store.
    delay: float = 0.0
    delay_seconds: float = 0.05
    #: It reaches the database only after a long time, whatever became of its caller.
    straggle: float = 0.0
    refused: float = 0.0
    unheard: float = 0.0
    busy: float = 0.0
    crash_before: float = 0.0
    crash_after: float = 0.0
    #: Of nodes, each how often per second.
    crashes: float = 0.0
    freezes: float = 0.0
    stops: float = 0.0
    intruders: float = 0.0
    #: Of clients, per run.
    cancels: float = 0.15
    deletes: float = 0.15
    followers: int = 2
    detaches: float = 0.2
    slow: float = 0.2
    #: Of a delivery to a webhook endpoint: each of three ways to fail.
    unreachable: float = 0.0
    #: When faults end.
    seconds: float = 3.0
    #: Words between nodes that get lost or come twice.
    lost: float = 0.0
    doubled: float = 0.0

    def fault(self, random: Random, call: str) -> str:
        """What happens to a call of the store; nothing, mostly."""
        dice = random.random() / (SELDOM_TIMES if call in SELDOM else 1)
        for chance, fault in (
            (self.refused, "refused"),
            (self.busy, "busy"),
            (self.crash_before, "crash before"),
            (self.unheard, "unheard"),
            (self.crash_after, "crash after"),
        ):
            if dice < chance:
                return fault
            dice -= chance
        return ""

    def calm(self) -> None:
        """No more faults."""
        self.delay = self.straggle = self.refused = self.unheard = self.busy = 0.0
        self.crash_before = self.crash_after = 0.0
        self.crashes = self.freezes = self.stops = self.intruders = 0.0
        self.lost = self.doubled = self.unreachable = 0.0


def draw(random: Random) -> Weather:
    """Each kind of trouble is there or not, with a strength of its own."""
    kinds = [kind for kind in ("database", "crashes", "owners", "clients") if random.random() < 0.5]
    weather = Weather(" and ".join(kinds) or "still", seconds=random.choice((1.0, 2.0, 4.0)))
    if "database" in kinds:
        strength = random.random()
        weather.delay_seconds = random.choice((0.02, 0.2, 1.0))
        weather.refused = 0.2 * strength * random.random()
        weather.unheard = 0.2 * strength * random.random()
        weather.busy = 0.1 * strength * random.random()
        weather.straggle = 0.02 * strength
    if "crashes" in kinds:
        strength = random.random()
        weather.crashes = 3.0 * strength * random.random()
        weather.stops = 1.5 * strength * random.random()
        weather.crash_before = 0.1 * strength * random.random()
        weather.crash_after = 0.1 * strength * random.random()
    if "owners" in kinds:
        strength = random.random()
        weather.freezes = 2.0 * strength
        weather.intruders = 2.0 * strength
        weather.stops = max(weather.stops, strength * random.random())
        weather.straggle = max(weather.straggle, 0.04 * strength)
    if "clients" in kinds:
        weather.cancels, weather.deletes = 0.5, 0.4
        weather.detaches, weather.slow, weather.followers = 0.7, 0.6, 3
    if kinds:
        weather.delay = random.choice((0.0, 0.1, 0.3, 0.5))
        weather.lost = weather.doubled = 0.2 * random.random()
        weather.unreachable = 0.2 * random.random()
    return weather
