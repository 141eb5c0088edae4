"""A server for as long as a command needs one: the one that runs already, else one in this process."""

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import click
import msgspec
import uvicorn

from antiphon.assemble import Server, look_around, using
from antiphon.cli.remote import CONNECT_SECONDS, Offer, Remote
from antiphon.cli.rendezvous import Note, Rendezvous
from antiphon.cli.serving import listen, web_settings
from antiphon.config import Config, ConfigError
from antiphon.engine.ports.upstreams import UpstreamError
from antiphon.upstreams.http import Timeouts

#: How long a server that starts or ends is waited for, and how often it is looked whether it does.
MEET_SECONDS, LOOK_SECONDS = 30.0, 0.05


class Reached(NamedTuple):
    """A server that answers.  ``here``: it lives in this process and ends with the command."""

    remote: Remote
    offer: Offer
    here: bool


@asynccontextmanager
async def reached(config: Config, base_url: str | None, key: str | None) -> AsyncIterator[Reached]:
    """The server at ``base_url``; where none is given that at the configured port, else that of the same database.

    Where there is none of them it is one of our own, for as long as anybody uses it.

    Raises ``ConfigError``, ``UpstreamError`` or ``OSError``.
    """
    remote = Remote(base_url or f"http://127.0.0.1:{config.port}/v1", key or _own_key(config), _timeouts(config))
    try:
        offer = await _offer(remote, wanted=base_url is not None)
        if offer is not None:
            yield Reached(remote, offer, here=False)
            return
    finally:
        remote.close()
    async with _shared(config, key) as server:
        yield server


@asynccontextmanager
async def _shared(config: Config, key: str | None) -> AsyncIterator[Reached]:
    """The server of the same database, or one of our own that others may use."""
    path = None if config.database_url() is not None else config.database_path()
    async with AsyncExitStack() as leaving:
        place: Rendezvous | None = None
        note: Note | None = None
        if path is not None:
            place, note = await _met(path)
        if place is not None and note is not None:
            leaving.callback(place.close)
            remote = Remote(note.base_url, note.key or key or _own_key(config), _timeouts(config))
            leaving.callback(remote.close)
            offer = await _offer(remote, wanted=True)
            assert offer is not None
            yield Reached(remote, offer, here=False)
            return
        if place is not None:
            leaving.callback(place.withdraw)
        remote = await leaving.enter_async_context(hosted(config))
        offer = await remote.offer()
        if place is not None:
            place.tell(Note(remote.base_url, remote.key))
            leaving.push_async_exit(partial(_left_alone, place))
        yield Reached(remote, offer, here=True)


async def _met(database: Path) -> tuple[Rendezvous | None, Note | None]:
    """The place of a server that answers with its note, or that of one to be started here, without."""
    until = asyncio.get_running_loop().time() + MEET_SECONDS
    while True:
        place = Rendezvous(database)
        if place.claim():
            return place, None
        note = place.join()
        if note is not None and await _answers(note):
            return place, note
        place.close()
        if asyncio.get_running_loop().time() > until:
            return None, None
        await asyncio.sleep(LOOK_SECONDS)


async def _answers(note: Note) -> bool:
    remote = Remote(note.base_url, note.key)
    try:
        return (await remote.offer()).ours
    except UpstreamError as error:
        return error.status == 401
    finally:
        remote.close()


async def _left_alone(place: Rendezvous, failure: type[BaseException] | None, *_: object) -> None:
    """Returns when no other command uses the server; at once after Ctrl-C."""
    if failure is not None and not issubclass(failure, Exception):
        return
    told = False
    while not place.claim():
        if not told:
            told = True
            click.echo("\nAnother command uses this server, which ends after it; Ctrl-C ends both.", err=True)
        await asyncio.sleep(LOOK_SECONDS)


async def _offer(remote: Remote, *, wanted: bool) -> Offer | None:
    """None where nobody is, or somebody else, and nobody asked for that server by name."""
    try:
        offer = await remote.offer()
    except UpstreamError as error:
        if wanted or error.status in (401, 403):
            message = f"{remote.base_url} does not let us in: {error.detail}" if error.status == 401 else error.detail
            raise UpstreamError(message, status=error.status) from None
        return None
    return offer if wanted or offer.ours else None


def _timeouts(config: Config) -> Timeouts:
    """What may pass before a model says something is what the server allows its upstreams."""
    return Timeouts(CONNECT_SECONDS, config.first_byte_seconds, config.idle_seconds)


def _own_key(config: Config) -> str | None:
    """A key that this machine's server takes, if it is configured as we are."""
    return config.api_keys[0].rpartition("=")[2] if config.api_keys else None


@asynccontextmanager
async def hosted(config: Config) -> AsyncIterator[Remote]:
    """A server in this process, at a free port of loopback, behind a key that nobody else knows."""
    key = secrets.token_urlsafe(32)
    config = using(config, await look_around(config))
    config = msgspec.structs.replace(config, host="127.0.0.1", port=0, api_keys=[key])
    with listen(config) as listener:
        server = _Quiet(web_settings(config, Server(config)))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            ready = asyncio.create_task(server.ready.wait())
            await asyncio.wait([serving, ready], return_when=asyncio.FIRST_COMPLETED)
            ready.cancel()
            if not server.ready.is_set():
                raise ConfigError("the server could not be started; `antiphon doctor` tells what does not work.")
            remote = Remote(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", key, _timeouts(config))
            try:
                yield remote
            finally:
                remote.close()
        finally:
            server.should_exit = True
            await asyncio.wait([serving])


class _Quiet(uvicorn.Server):
    """Leaves signals to the command that it serves."""

    def __init__(self, settings: uvicorn.Config) -> None:
        super().__init__(settings)
        self.ready = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit:  # its way to say that the application has not started, and has logged why
            self.should_exit = True
        if not self.should_exit:
            self.ready.set()
