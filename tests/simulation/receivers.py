"""Who hears of the ends of runs: webhook endpoints, and the server behind them that is slow, fails or is not there.

Must not know how the server under test works.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from random import Random

import msgspec
from tests.simulation.database import Database
from tests.simulation.ledger import Ledger
from tests.simulation.weather import Weather

from antiphon.engine.ports.stores import RunName
from antiphon.engine.webhooks import Endpoint, Undelivered
from antiphon.protocol.webhooks import EVENT_TYPES
from antiphon.runs.signing import SigningSecrets, new_secret
from antiphon.sealing import Sealer

URL = "https://receiver.example/"


async def subscribe(database: Database, seal: Sealer, project: str) -> None:
    """An endpoint that hears of everything."""
    secrets = SigningSecrets(new_secret()).sealed(seal, project)
    made = Endpoint("we_1", "all", URL, EVENT_TYPES, secrets, 1, 1)
    assert await database.webhooks.create(project, made, 1)


class Receiver:
    """``engine.webhooks.Post`` of one node; what arrives is noted in the ledger, whatever the node hears of it."""

    def __init__(self, random: Random, ledger: Ledger, weather: Weather, project: str) -> None:
        self._random = random
        self._ledger = ledger
        self._weather = weather
        self._project = project

    def check(self, url: str) -> None:
        raise AssertionError(url)

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], *, static: bool) -> int:
        event = msgspec.json.decode(body)
        await asyncio.sleep(self._random.random() * 0.1)
        dice = self._random.random()
        if dice < self._weather.unreachable:
            raise Undelivered("The simulated receiver was not to be reached.")
        name = RunName(self._project, event["data"]["id"])
        self._ledger.told(name, headers["webhook-id"], event["type"].removeprefix("response."))
        if dice < 2 * self._weather.unreachable:
            raise Undelivered("The simulated receiver broke off.")
        if dice < 3 * self._weather.unreachable:
            return 500
        return 200
