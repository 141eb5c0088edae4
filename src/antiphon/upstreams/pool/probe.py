"""A feed that tells when the first word has come: a server on probation is not left waiting for the end of a reply."""

from collections.abc import Callable, Sequence

from antiphon.engine.deltas import Delta
from antiphon.engine.ports.upstreams import Feed


class Probe:
    """``heard`` is called once, before the first word is handed on."""

    def __init__(self, feed: Feed, heard: Callable[[], None]) -> None:
        self._feed = feed
        self._heard: Callable[[], None] | None = heard

    def __call__(self, deltas: Sequence[Delta]) -> None:
        if deltas and self._heard is not None:
            self._heard()
            self._heard = None
        self._feed(deltas)

    def on_pressure(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self._feed.on_pressure(pause, resume)
