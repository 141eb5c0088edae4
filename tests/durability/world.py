"""A database, its servers one after another, the model, and everybody who follows runs; and the figures of it all."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from tests.durability.following import Followed, Followers, How
from tests.durability.judging import Ledger, Verdict, judge
from tests.durability.plans import Plan, Step
from tests.durability.processes import Child, listening, milliseconds, python, within
from tests.durability.server import PACKED, Orders

READY = "Ready on "
#: How long a run may take from its last disturbance to its end.
RUN_SECONDS = 45
GROW_SECONDS = 20
SETTINGS: dict[str, Any] = {
    "shutdown_seconds": 1,
    "keepalive_seconds": 5,
    "database_connections": 4,
    # Logs are packed while everything else goes on.
    "expire_every_seconds": 0.3,
}


class Model:
    """The model server in its own process, and the door for tests."""

    def __init__(self) -> None:
        self._child = Child(python("tests.durability.model_server"))
        self._session: aiohttp.ClientSession | None = None
        self.url = ""

    async def start(self) -> None:
        await self._child.start()
        self.url = await self._child.line("http://")
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60))

    async def _call(self, method: str, path: str) -> Any:
        assert self._session is not None
        async with self._session.request(method, f"{self.url}/control{path}") as reply:
            reply.raise_for_status()
            return await reply.json()

    async def asked(self, run: Followed, times: int) -> None:
        """Returns once there were so many model calls of the run."""
        await self._call("GET", f"/attempts/{run.name}/{times}")

    async def open(self, gate: str) -> None:
        await self._call("POST", f"/gates/{gate}/open")

    async def faults(self) -> list[str]:
        """What the model was shown and should not have been."""
        told: list[str] = await self._call("GET", "/faults")
        return told

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
        await self._child.close()


class World:
    """One database.  At most one server listens at each of its places."""

    def __init__(self, database: str, folder: Path, node: Path, places: int = 1) -> None:
        self.database = database
        self._ledger_path = folder / "ledger.jsonl"
        self.ledger = Ledger(self._ledger_path)
        self.model = Model()
        self.followers = Followers(node)
        self.listeners: list[socket.socket] = [listening() for _ in range(places)]
        self.servers: list[Child] = []
        self.kills: list[float] = []
        self._names = itertools.count()

    # --- Its processes ---

    @property
    def urls(self) -> list[str]:
        return [f"http://127.0.0.1:{listener.getsockname()[1]}" for listener in self.listeners]

    async def open(self, *, idle_ms: int | None = None) -> None:
        await asyncio.gather(self.model.start(), self.followers.start(*self.urls, idle_ms=idle_ms))

    async def server(self, kill_at: str | None = None, count: int = 1, *, place: int = 0, ready: bool = False,
                     **settings: Any) -> Child:  # fmt: skip
        """Starts a server; who connects before it listens is served once it does."""
        models = {"models": ["words", "prefilled"], "options": {"prefilled": {"prefill": True}}}
        upstream = {"url": f"{self.model.url}/v1", "name": "model", **models}
        given = {"database": self.database, "upstreams": [upstream], **SETTINGS, **settings}
        listener = self.listeners[place].fileno()
        orders = Orders(listener, str(self._ledger_path), given, kill_at, count)
        variables = {"DURABILITY": msgspec.json.encode(orders).decode()}
        server = Child(python("tests.durability.server"), heard="stderr", variables=variables, files=[listener])
        await server.start()
        self.servers.append(server)
        if ready:
            await server.line(READY)
        return server

    async def kill(self, server: Child) -> None:
        """kill -9, from outside."""
        server.signal(signal.SIGKILL)
        await self.killed(server)

    async def killed(self, server: Child, seconds: float = 20) -> None:
        """Returns once a server that was told to kill itself, or was killed, is gone."""
        code = await server.ended(seconds)
        assert code == -signal.SIGKILL, f"exit code {code}: " + "\n".join(server.lines[-40:])
        self.kills.append(milliseconds())

    async def terminate(self, server: Child) -> None:
        """Asks it to stop, as a service manager would."""
        server.signal(signal.SIGTERM)
        code = await server.ended()
        assert code == 0, f"exit code {code}: " + "\n".join(server.lines[-40:])

    async def close(self) -> None:
        for server in self.servers:
            await server.close()
        await self.followers.close()
        await self.model.close()
        for listener in self.listeners:
            listener.close()

    # --- Its runs ---

    @property
    def runs(self) -> list[Followed]:
        return list(self.followers.runs.values())

    def run(self, *steps: Step, how: How = "stream", model: str = "words", previous: Followed | None = None,
            server: int = 0, **limits: Any) -> Followed:  # fmt: skip
        """Asks for a run of these steps; nobody waits for it."""
        plan = Plan(f"r{next(self._names)}", list(steps), **limits)
        before = previous.id if previous is not None else None
        return self.followers.create(plan, how=how, model=model, previous=before, server=server)

    async def acknowledged(self, *runs: Followed) -> None:
        """Returns once each of these runs has an id that somebody was told."""
        await self.followers.until(lambda: all(run.id or run.refused for run in runs), GROW_SECONDS, "answers")
        refused = [f"{run.name}: {run.refused}" for run in runs if run.refused]
        assert not refused, refused

    async def taken_up(self, server: Child, *runs: Followed) -> None:
        """Returns once a server works on these runs, which others left."""
        for run in runs:
            await server.line(f"{run.id} is taken up")

    async def grown(self, runs: Sequence[Followed], events: int = 1) -> None:
        """Returns once each of the runs has grown by so many events from now on, or has ended."""
        before = {run.name: run.last for run in runs}

        def all_grown() -> bool:
            return all(not run.open or run.how == "poll" or run.last >= before[run.name] + events for run in runs)

        await self.followers.until(all_grown, GROW_SECONDS, f"growth of {[run.name for run in runs if run.open]}")

    async def got_on(self, server: Child, older: Sequence[Followed]) -> None:
        """Returns once every run has events of this server's, or has ended; `older` are those that others began.

        To grow is not enough: a follower may be told only now what an earlier server had written.
        """

        def got_on(run: Followed, claimed: dict[str, int]) -> bool:
            if not run.open or run.how == "poll":
                return True
            return run.last > claimed[run.id] if run.id in claimed else run not in older and run.last >= 0

        def all_got_on() -> bool:
            mine = [claim for claim in self.ledger.claims() if claim["process"] == server.pid]
            claimed = {claim["run"]: claim["last"] for claim in mine}
            return all(got_on(run, claimed) for run in self.runs)

        await self.followers.until(all_got_on, GROW_SECONDS, "new events of every run")

    async def told(self, run: Followed, number: int) -> None:
        """Returns once the run's follower has the event with this number."""
        await self.followers.until(lambda: run.last >= number, GROW_SECONDS, f"event {number} of {run.name}")

    async def ended(self, *runs: Followed) -> None:
        """Returns once these runs have ended, or all."""
        waiting = runs or self.runs
        await self.followers.until(lambda: not any(run.open for run in waiting), RUN_SECONDS, "the end of all runs")

    async def verdict(self, place: int = 0) -> Verdict:
        """Waits for the end of all runs and says what became of them, as it is read at a place."""
        await self.ended()
        await self.check(place)
        verdict = judge(self.runs, self.ledger.lines)
        return verdict._replace(problems=verdict.problems + await self.model.faults())

    async def check(self, place: int = 0) -> None:
        """Has the followers compare what can be read at a place with what they saw."""
        await self.followers.check([run for run in self.runs if run.acknowledged], place)

    async def packed(self) -> None:
        """A server starts, packs the logs of all that has ended, and is killed."""
        await self.killed(await self.server(PACKED))

    # --- Figures ---

    def claims(self, run: Followed) -> list[int]:
        """Which attempt each takeover of the run was."""
        return [claim["attempt"] for claim in self.ledger.claims() if claim["run"] == run.id]

    def recoveries(self) -> list[float]:
        """For each run and each kill that cut it: milliseconds until a follower had its next event."""
        by_id = {run.id: run for run in self.runs if run.acknowledged}
        found = []
        for claim in self.ledger.claims():
            run, killed = by_id.get(claim["run"]), [at for at in self.kills if at < claim["at"]]
            if run is None or not killed:
                continue
            later = [at for at in self.kills if at > claim["at"]]
            new = [growth.at for growth in run.growths if growth.last > claim["last"] and growth.opened > killed[-1]]
            if new and (not later or new[0] < later[0]):
                found.append(new[0] - killed[-1])
        return found


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


@contextlib.asynccontextmanager
async def opened(database: str, folder: Path, node: Path, places: int = 1, **how: Any) -> AsyncIterator[World]:
    world = World(database, folder, node, places)
    try:
        await world.open(**how)
        yield world
    finally:
        await within(60, "the end of all processes", world.close())
