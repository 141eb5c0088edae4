"""What several commands have in common: options, and failures told in one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from antiphon.config import ConfigError
from antiphon.engine.ports.upstreams import UpstreamError

config_option = click.option(
    "--config", "config_path", type=click.Path(path_type=Path), help="TOML file with settings."
)
base_url_option = click.option(
    "--base-url", envvar="ANTIPHON_BASE_URL", help="A running server, as http://127.0.0.1:8600/v1."
)
key_option = click.option("--api-key", envvar="ANTIPHON_API_KEY", help="Its key, where it wants one.")


@contextmanager
def sentences() -> Iterator[None]:
    """What can go wrong without being our fault ends the command with one sentence and status 1."""
    try:
        yield
    except ConfigError as error:
        raise click.ClickException(str(error)) from None
    except UpstreamError as error:
        raise click.ClickException(error.detail) from None
