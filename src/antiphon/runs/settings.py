"""What an operator may change about runs."""

import msgspec

from antiphon.engine.turns import Limits


class Settings(msgspec.Struct, frozen=True):
    """Every time is in seconds unless its name says otherwise."""

    default_model: str | None = None
    strict_tools: bool = False
    background_unstored: str = "accept"
    first_event_seconds: float = 1.0
    response_days: int = 30
    unstored_seconds: int = 600
    idempotency_hours: int = 24
    flush_seconds: float = 0.02
    #: Between two tries to store what a background run came to: at first, and at the longest.
    store_retry_seconds: float = 0.5
    store_retry_longest_seconds: float = 30.0
    #: Events of one background run that may wait to be stored, in bytes; then its upstream is paused.
    run_buffer_bytes: int = 1 << 20
    #: Takeovers of a background run without a new event between them; then it fails (docs/log.md, I10).
    takeovers_max: int = 3
    #: Background runs of one project that are worked on at once, by all nodes of a bus; 0: no limit.
    project_runs_max: int = 0
    limits: Limits = Limits()
