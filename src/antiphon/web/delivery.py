"""Brings the events of runs to clients, live or from the log.

Must not know what a client is connected by.
"""

from typing import Any

from antiphon.protocol.responses import Shell
from antiphon.runs.log import LiveLog
from antiphon.runs.run import Run
from antiphon.runs.running import Runs
from antiphon.web.reading import EventReader, Outlet
from antiphon.web.settings import WebSettings


class Delivery:
    """The readers of one server's runs."""

    def __init__(self, runs: Runs, settings: WebSettings) -> None:
        self._runs = runs
        self._settings = settings

    def _reader(self, outlet: Outlet, shell: Shell, **options: Any) -> EventReader:
        return EventReader(
            outlet,
            shell,
            keepalive_seconds=self._settings.keepalive_seconds,
            stall_seconds=self._settings.client_stall_seconds,
            **options,
        )

    async def live(self, run: Run, outlet: Outlet) -> None:
        """Every event of a foreground run as it is made; clients that read slowly pause its upstream."""
        assert isinstance(run.log, LiveLog)
        reader = self._reader(outlet, run.draft.shell, on_full=run.log.adapt, on_room=run.log.adapt)
        try:
            run.log.attach(reader)
            await reader.finished()
        finally:
            reader.stop()

    async def logged(self, project: str, shell: Shell, outlet: Outlet, *, after: int = -1) -> None:
        """Every event of a background run behind a number, from its log."""
        reader = self._reader(outlet, shell, after=after)
        following = None
        try:
            outlet.flow.on_gone = reader.stop
            if outlet.flow.gone:
                return
            following = self._runs.follow(project, shell.id, reader)
            following.add_done_callback(lambda _: reader.stop())
            await reader.finished()
        finally:
            reader.stop()
            if following is not None and not following.done():
                following.cancel()
        if following.done():
            following.result()  # raises what went wrong in it
