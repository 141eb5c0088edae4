"""The workloads that have nginx as their yardstick: what is asked, and the alternated runs.

Knows the Responses API; not how figures are printed.
"""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from bench.client import Load
from bench.recording import Caller
from bench.stand import Sample, Side, Stand
from bench.upstream import behaviour

STORED_RESPONSES = 200  # how many stored responses the reading workloads go through in turn


@dataclass(frozen=True)
class Options:
    """What the command line can change. `tokens_per_write` is the flood's; `repeated_bytes` the chain's."""

    rounds: int = 3
    seconds: float = 8.0
    store: bool = True
    background: bool = False
    tokens_per_write: int = 1
    turns: int = 1000
    repeated_bytes: int = 0


@dataclass(frozen=True)
class Workload:
    """`reads` is the path after /v1/responses/ID for workloads that read what was stored; None: they create."""

    model: str
    connections: int
    requests: int
    unit: str = "token"
    stream: bool = True
    reads: str | None = None
    input_items: int = 1


def table(options: Options) -> dict[str, Workload]:
    """The workloads by name."""
    paced = f"bench-t{round(78.125 * options.seconds)}-r78.125-c1"
    slow = f"bench-t{round(20 * options.seconds)}-r20-c1"
    bursts = f"bench-t{round(800 * options.seconds)}-r100-c8"
    whole = "bench-t16-r0-c16"
    return {
        "paced": Workload(paced, 64, 64),
        "slow": Workload(slow, 20, 20),
        "wide": Workload(slow, 1000, 1000),
        "bursts": Workload(bursts, 32, 32),
        "flood": Workload(f"bench-t256-r0-c{options.tokens_per_write}", 32, 512),
        "create": Workload(whole, 32, 3000, "request", stream=False),
        "create-stream": Workload("bench-t5-r0-c1", 16, 3000, "request"),
        "retrieve": Workload(whole, 16, 6000, "request", stream=False, reads=""),
        "input_items": Workload(whole, 16, 6000, "request", False, "/input_items?limit=20", 20),
    }


@dataclass
class Figures:
    """One side's figures, one per round. `pace`: the median stream's duration over the ideal, in paced workloads."""

    cpu_us_per_unit: list[float] = field(default_factory=list)
    units_per_second: list[float] = field(default_factory=list)
    client_reads_per_unit: list[float] = field(default_factory=list)
    median_seconds: list[float] = field(default_factory=list)
    pace: list[float] = field(default_factory=list)
    upstream_busy: list[float] = field(default_factory=list)
    client_busy: list[float] = field(default_factory=list)


@dataclass
class Comparison:
    workload: str
    unit: str
    antiphon: Figures = field(default_factory=Figures)
    nginx: Figures = field(default_factory=Figures)
    ratios: list[float] = field(default_factory=list)


def input_message(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def request_body(work: Workload, options: Options) -> dict[str, Any]:
    said = "Say something."
    body: dict[str, Any] = {"model": work.model, "input": said, "stream": work.stream, "store": options.store}
    if work.input_items > 1:
        body["input"] = [input_message(f"{said} ({i})") for i in range(work.input_items)]
    if work.reads is not None:
        body["store"] = True
    elif options.background and work.stream:
        body["background"] = True
    return body


def compare(stand: Stand, name: str, options: Options) -> Comparison:
    """Runs the load against Antiphon and nginx in turn. Raises RuntimeError when a reply failed or was not whole."""
    work = table(options)[name]
    body = request_body(work, options)
    load, replayed, recorded_bytes = prepare(stand, name, work, body)
    sides = [(stand.antiphon, load)] + ([(stand.nginx, replayed)] if stand.nginx else [])
    if is_flood(work):
        for side, its_load in sides:
            stand.measure(side, msgspec.structs.replace(its_load, requests=min(200, work.requests)))
    comparison = Comparison(name, work.unit)
    for _ in range(options.rounds):
        note(comparison.antiphon, work, stand.antiphon, stand.measure(stand.antiphon, load))
        if stand.nginx:
            sample = stand.measure(stand.nginx, replayed)
            note(comparison.nginx, work, stand.nginx, sample)
            if sample.result.body_bytes != recorded_bytes * work.requests:
                raise RuntimeError(f"nginx sent {sample.result.body_bytes} bytes, not {recorded_bytes} a reply")
            comparison.ratios.append(comparison.antiphon.cpu_us_per_unit[-1] / comparison.nginx.cpu_us_per_unit[-1])
    return comparison


def prepare(stand: Stand, name: str, work: Workload, body: dict[str, Any]) -> tuple[Load, Load, int]:
    """Antiphon's load, nginx's, and the bytes of the one reply that was recorded for nginx to forward."""
    caller = Caller(stand.antiphon.port)
    load = Load(
        port=stand.antiphon.port,
        paths=["/v1/responses"],
        body=msgspec.json.encode(body).decode(),
        connections=work.connections,
        requests=work.requests,
        end_mark='response.completed"' if work.stream else "",
        deadline_seconds=300,
    )
    if work.reads is None:
        reply = caller.call("POST", "/v1/responses", body)
    else:
        made = [msgspec.json.decode(caller.call("POST", "/v1/responses", body).body) for _ in range(STORED_RESPONSES)]
        paths = [f"/v1/responses/{response['id']}{work.reads}" for response in made]
        load = msgspec.structs.replace(load, method="GET", body="", paths=paths)
        reply = caller.call("GET", load.paths[0])
    caller.close()
    recording = reply.recorded()
    if work.stream and len(recording.tokens) != expected_tokens(work):
        raise RuntimeError(f"the recorded stream has {len(recording.tokens)} token events: {reply.body[-1000:]!r}")
    recorded_as = work.model if work.stream else name
    stand.save(recorded_as, recording)
    replayed = msgspec.structs.replace(load, method="GET", paths=[f"/replay/{recorded_as}"], body="")
    replayed.port = stand.nginx.port if stand.nginx else 0
    return load, replayed, len(reply.body)


def expected_tokens(work: Workload) -> int:
    """Token events in one reply."""
    how = behaviour(work.model)
    return how.tokens if how and work.stream else 0


def is_flood(work: Workload) -> bool:
    how = behaviour(work.model)
    return how is not None and not how.interval_seconds


def note(figures: Figures, work: Workload, side: Side, sample: Sample) -> None:
    """Adds one round's figures. Raises RuntimeError when token events are missing."""
    result, expected = sample.result, expected_tokens(work) * work.requests
    if result.tokens != expected:
        raise RuntimeError(f"{side.name} sent {result.tokens} token events, not {expected}")
    units = expected if work.unit == "token" else work.requests
    figures.cpu_us_per_unit.append(sample.cpu_seconds / units * 1e6)
    figures.units_per_second.append(units / result.seconds)
    figures.client_reads_per_unit.append(result.reads / units)
    figures.upstream_busy.append(sample.upstream_cpu_seconds / result.seconds)
    figures.client_busy.append(result.cpu_seconds / result.seconds)
    middle = sorted(result.durations)[len(result.durations) // 2]
    figures.median_seconds.append(middle)
    how = behaviour(work.model)
    if how and how.interval_seconds and work.reads is None:
        writes = -(-how.tokens // how.tokens_per_write)
        figures.pace.append(middle / ((writes + 0.5) * how.interval_seconds))
