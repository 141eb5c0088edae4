"""``antiphon serve``: the server of one process, until a signal comes."""

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import uvicorn

from antiphon import announce
from antiphon.assemble import Server, look_around, using
from antiphon.cli.logs import log_to
from antiphon.cli.rendezvous import Note, Rendezvous
from antiphon.cli.sightings import sightings
from antiphon.cli.tables import plain
from antiphon.config import Config, ConfigError, bare, describe, fields, load, option, takes_many
from antiphon.web import frames
from antiphon.web.transport import PushProtocol

#: Objects that may be made before a collection, and collections of each generation before the next one's.
_COLLECT_AFTER = (20_000, 20, 20)


def setting_options(command: Any) -> Any:
    """One option per setting, made from ``config``."""
    for name, field in reversed(list(fields().items())):
        flag = option(name)
        switch = f"{flag}/--no-{flag[2:]}" if bare(field.type) is bool else flag
        command = click.option(switch, name, multiple=takes_many(field), default=None, help=describe(field))(command)
    return command


@click.command()
@click.option("--config", "config_path", type=click.Path(path_type=Path), help="TOML file with settings.")
@setting_options
def serve(config_path: Path | None, **given: Any) -> None:
    """Start the server."""
    try:
        config = load(config_path, os.environ, given)
        log_to(config.log_level)
        with listen(config) as listener, _place(config) as place:
            found = asyncio.run(look_around(config))
            run(config, Server(using(config, found)), listener, sightings(config, found, os.environ), place)
    except ConfigError as error:
        raise click.ClickException(plain(str(error))) from None


def listen(config: Config) -> socket.socket:
    """The address of the configuration.  Raises ``ConfigError`` when it is taken."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((config.host, config.port))
    except OSError as error:
        listener.close()
        message = f"port: cannot listen on {config.host}:{config.port}: {error.strerror}; choose another with --port."
        raise ConfigError(message) from None
    return listener


@contextlib.contextmanager
def _place(config: Config) -> Iterator[Rendezvous | None]:
    """Where commands will look for the server; None where there is no such place, or somebody else has it."""
    path = None if config.database_url() is not None else config.database_path()
    try:
        place = None if path is None else Rendezvous(path)
    except OSError:
        place = None  # the server works without
    if place is None or not place.claim():
        yield None
        return
    try:
        yield place
    finally:
        place.withdraw()


def run(
    config: Config,
    server: Server,
    listener: socket.socket,
    found: Sequence[str] = (),
    place: Rendezvous | None = None,
) -> None:
    """Serves until a signal comes.  ``found``: what the announcement says of this machine."""
    settings = web_settings(config, server)
    web = _Announced(settings, server, listener.getsockname()[1], found, place)
    # uvicorn raises the signal again once it has stopped; a server that was asked to stop and did has not failed.
    for stopping in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stopping, lambda *_: None)
    web.run(sockets=[listener])
    sys.exit(0 if web.started else 1)


def web_settings(config: Config, server: Server) -> uvicorn.Config:
    """How the server is held, whoever holds it."""
    return uvicorn.Config(
        server.app,
        loop=_loop(config.loop),
        http=PushProtocol,
        **frames.options(
            message_max=config.body_max_bytes,
            ping_seconds=config.keepalive_seconds,
            compression=config.websocket_compression,
        ),
        lifespan="on",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=int(config.shutdown_seconds),
        timeout_keep_alive=75,
    )


def _reachable(host: str) -> str:
    """The host as this machine reaches it: every address means loopback, too."""
    host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - it is compared
    return f"[{host}]" if ":" in host else host


def _loop(name: str) -> Any:
    if name == "auto":
        try:
            import uvloop  # noqa: F401 - optional by platform
        except ImportError:
            return "asyncio"
        return "uvloop"
    return name


def _spare_collections() -> None:
    """What the start made lives as long as the process: no collection is to walk over it, nor every few requests."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)


class _Announced(uvicorn.Server):
    """Says when it is ready, and what can be asked of it."""

    def __init__(
        self, settings: uvicorn.Config, server: Server, port: int, found: Sequence[str], place: Rendezvous | None
    ) -> None:
        super().__init__(settings)
        self._place = place
        self._server = server
        self._port = port
        self._found = found

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.should_exit:
            if self._place is not None:
                self._place.tell(Note(f"http://{_reachable(self._server.config.host)}:{self._port}/v1"))
            await self._announce()
            _spare_collections()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Background runs go to other nodes at once, while open streams may go on here for a while."""
        handing_over = asyncio.get_running_loop().create_task(self._server.hand_over())
        await super().shutdown(sockets)
        await asyncio.wait([handing_over])

    def handle_exit(self, sig: int, frame: Any) -> None:
        first = not self.should_exit
        super().handle_exit(sig, frame)
        if first:
            # Whoever read the log may be gone; that must not keep the server from stopping.
            with contextlib.suppress(OSError):
                click.echo(f"Stopping; open streams may go on for {self._server.config.shutdown_seconds:g} s", err=True)

    async def _announce(self) -> None:
        catalog, config = self._server.catalog, self._server.config
        models = [model.id for model in await catalog.all() if model.id not in catalog.aliases]
        host = f"[{config.host}]" if ":" in config.host else config.host
        told = announce.lines(
            base_url=f"http://{host}:{self._port}/v1",
            models=models,
            aliases=catalog.aliases,
            failures=catalog.failures,
            keys=bool(config.api_keys),
            found=self._found,
        )
        click.echo("\n".join(map(plain, told)), err=True)
