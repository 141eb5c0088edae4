"""What an open but quiet stream costs in memory. Knows the request that opens one; nothing of the server's inside."""

import time
from dataclasses import dataclass

import msgspec

from bench.client import Load
from bench.processes import cpu_seconds, resident_bytes
from bench.stand import Stand
from bench.workloads import Options

MODEL = "bench-t8-r0.02-c1"
STREAMS = 1000
SETTLE_SECONDS = 3.0


@dataclass
class Idle:
    streams: int
    base_bytes: int
    bytes_per_stream: float
    cpu_seconds_per_stream: float


def run_idle(stand: Stand, options: Options) -> Idle:
    """Opens the streams, waits until they are quiet, and divides what memory grew by their number."""
    side = stand.antiphon
    body = {"model": MODEL, "input": "Say something.", "stream": True, "store": options.store}
    text = msgspec.json.encode(body).decode()
    load = Load(port=side.port, paths=["/v1/responses"], body=text, connections=STREAMS, requests=STREAMS, hold=True)
    with stand.held(msgspec.structs.replace(load, connections=50, requests=50)):  # what is loaded once counts as base
        time.sleep(SETTLE_SECONDS)
    time.sleep(SETTLE_SECONDS)
    before, cpu_before = resident_bytes(side.child.pid), cpu_seconds(side.child.pid)
    with stand.held(load):
        time.sleep(SETTLE_SECONDS)
        grown = resident_bytes(side.child.pid) - before
        cpu = cpu_seconds(side.child.pid) - cpu_before
    return Idle(STREAMS, before, grown / STREAMS, cpu / STREAMS)


def idle_table(idle: Idle) -> str:
    return (
        f"idle: {idle.streams} open quiet streams: {idle.bytes_per_stream / 1000:.1f} kB each "
        f"on top of {idle.base_bytes / 1e6:.0f} MB; opening one cost {idle.cpu_seconds_per_stream * 1e6:.0f} us CPU"
    )
