"""``antiphon launch``: starts a client that is already told where the server is."""

import asyncio
import logging
import os
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from antiphon.cli.clients import ANY, CLIENTS, Client, Setup, Target, find, settled
from antiphon.cli.hosting import Reached, reached
from antiphon.cli.logs import FORMAT, log_to
from antiphon.cli.options import base_url_option, config_option, key_option, sentences, text
from antiphon.cli.statuses import NOT_FOUND
from antiphon.cli.tables import columns, plain
from antiphon.config import Config, ConfigError, load, state_folder

#: Sent where the server wants no key, since clients want one.
ANY_KEY = "any-value"


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("-m", "--model", type=text, help="The model; default: the server's.")
@config_option
@base_url_option
@key_option
@click.argument("name", metavar="[CLIENT]", required=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def launch(
    model: str | None,
    config_path: Path | None,
    base_url: str | None,
    api_key: str | None,
    name: str | None,
    arguments: tuple[str, ...],
) -> None:
    """Start a client that is configured for this server.  Without CLIENT: list those that are known.

    A running server is used where there is one, else one is started until the client ends.  Your own files are left
    alone; what was set instead is said.  ARGUMENTS go to the client, and its exit status is ours.
    """
    if name is None:
        click.echo("\n".join(_known()))
        return
    with sentences():
        client, program, rest = _program(name, arguments)
        config = load(config_path, os.environ, {})
        # Ctrl-C is the client's, which runs in the same terminal; it gets one, whatever happens to it here.
        signal.signal(signal.SIGINT, lambda *_: None)
        sys.exit(asyncio.run(_launched(client, [program, *rest], config, base_url, api_key, model)))


def _known() -> list[str]:
    rows = [(client.name, client.what, shutil.which(client.name) or client.install) for client in CLIENTS]
    return ["antiphon launch CLIENT [ARGUMENTS]", "", *columns([*rows, (ANY.name, ANY.what, "")])]


def _program(name: str, arguments: tuple[str, ...]) -> tuple[Client, str, list[str]]:
    """The client, where its program is, and what is said to it."""
    client = find(name)
    if client is None:
        known = ", ".join(one.name for one in (*CLIENTS, ANY))
        raise ConfigError(f"launch: '{name}' is not known; known are {known}.")
    if client is ANY and not arguments:
        raise ConfigError("launch: say which program to run.")
    command, *rest = arguments if client is ANY else (name, *arguments)
    program = shutil.which(command)
    if program is None:
        how = f": {client.install}" if client.install else "."
        click.echo(f"Error: {command} is not installed{how}", err=True)
        sys.exit(NOT_FOUND)
    return client, program, rest


async def _launched(
    client: Client, command: list[str], config: Config, base_url: str | None, key: str | None, model: str | None
) -> int:
    with _log() as log:
        async with reached(config, base_url, key) as server:
            remote = server.remote
            model = model or (server.offer.choice() if client.names_model else "")
            target = Target(remote.base_url, remote.key or ANY_KEY, model, await remote.catalog())
            with _folder(client) as folder:
                setup = settled(client.setup(target), folder)
                for file, text in setup.files.items():
                    _write(folder / file, text)
                _say(client, command, target, setup, server, log)
                status = await _run([command[0], *setup.arguments, *command[1:]], setup)
            signal.signal(signal.SIGINT, signal.default_int_handler)  # the terminal is ours again
            return status


@contextmanager
def _log() -> Iterator[Path]:
    """A server of our own writes there: the terminal is the client's."""
    file = state_folder() / "launch.log"
    file.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(file, mode="w", encoding="utf-8")
    log_to("INFO", handler, f"%(asctime)s {FORMAT}")
    try:
        yield file
    finally:
        handler.close()


@contextmanager
def _folder(client: Client) -> Iterator[Path]:
    if client.keeps:
        folder = state_folder() / client.name
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="antiphon-") as name:
        yield Path(name)


def _write(path: Path, text: str) -> None:
    """Keys may stand in it."""
    path.touch(mode=0o600)
    path.write_text(text, "utf-8")


def _say(client: Client, command: list[str], target: Target, setup: Setup, server: Reached, log: Path) -> None:
    where = f"started for it, which logs to {log}" if server.here else "running already"
    told = [f"{client.name}: {f'{target.model} at ' * bool(target.model)}{target.base_url} ({where})"]
    told += [f"  {name}={_hidden(value, target.key)}" for name, value in setup.environment.items()]
    if setup.arguments:
        told.append(f"  {shlex.join([Path(command[0]).name, *setup.arguments])}")
    click.echo("\n".join(map(plain, told)), err=True)


def _hidden(value: str, key: str) -> str:
    return value if key == ANY_KEY else value.replace(key, "(the key)")


async def _run(command: list[str], setup: Setup) -> int:
    """The client's status, or what a shell would make of the signal that ended it."""
    child = await asyncio.create_subprocess_exec(*command, env={**os.environ, **setup.environment})
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, child.terminate)
    status = await child.wait()
    loop.remove_signal_handler(signal.SIGTERM)
    return status if status >= 0 else 128 - status
