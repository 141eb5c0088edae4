"""``antiphon doctor``: what is configured, what of it works, what is missing."""

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import msgspec

from antiphon.cli.checks import Finding, findings
from antiphon.cli.options import text
from antiphon.cli.serving import setting_options
from antiphon.cli.tables import columns, plain
from antiphon.config import Config, ConfigError, load, shown, sources

_MARKS = {"ok": "ok", "note": "--", "wrong": "WRONG"}


@click.command()
@click.option("--config", "config_path", type=click.Path(path_type=Path), help="TOML file with settings.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@setting_options
def doctor(config_path: Path | None, as_json: bool, **given: Any) -> None:
    """Say what is configured, what of it works, and what is missing.

    Takes the options of `antiphon serve`.  The exit status is 1 when something that is configured does not work.
    """
    try:
        config = load(config_path, os.environ, given)
        origins = {name: origin for name, (_, origin) in sources(config_path, os.environ, given).items()}
    except ConfigError as error:
        config, origins = None, {}
        found = [Finding("configuration", "wrong", str(error))]
    if config is not None:
        found = asyncio.run(_found(config, aloud=not as_json, origins=origins))
    elif not as_json:
        _tell(found[0])
    if as_json:
        click.echo(msgspec.json.encode(_document(config, origins, found)).decode())
    sys.exit(1 if any(one.state == "wrong" for one in found) else 0)


async def _found(config: Config, *, aloud: bool, origins: Mapping[str, str]) -> list[Finding]:
    """Told as they come, since some take a while."""
    if aloud:
        click.echo("\n".join(_configuration(config, origins)))
    found = []
    async for one in findings(config, os.environ):
        found.append(one)
        if aloud:
            _tell(one)
    return found


def _configuration(config: Config, origins: Mapping[str, str]) -> list[str]:
    rows = [(name, shown(config, name), f"({origin})") for name, origin in origins.items()]
    told = ["Settings, where they are not the defaults:", "", *(columns(rows) if rows else ["  none"])]
    return [*told, "", "Checks:", ""]


def _tell(one: Finding) -> None:
    click.echo(plain(f"  {_MARKS[one.state]:<6} {one.subject:<9} {one.says}"))


def _document(config: Config | None, origins: Mapping[str, str], found: list[Finding]) -> dict[str, Any]:
    """Names of files may be no UTF-8, which JSON has to be."""
    settings = {} if config is None else {
        name: {"value": text(shown(config, name)), "from": text(origin)} for name, origin in origins.items()
    }  # fmt: skip
    told = [msgspec.structs.replace(one, says=text(one.says)) for one in found]
    return {"healthy": all(one.state != "wrong" for one in found), "settings": settings, "findings": told}
