"""What several commands have in common: options, and failures told in one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from antiphon.cli.tables import plain
from antiphon.config import ConfigError
from antiphon.engine.ports.upstreams import UpstreamError

config_option = click.option(
    "--config", "config_path", type=click.Path(path_type=Path), help="TOML file with settings."
)
base_url_option = click.option(
    "--base-url", envvar="ANTIPHON_BASE_URL", help="A running server, as http://127.0.0.1:8600/v1."
)
key_option = click.option("--api-key", envvar="ANTIPHON_API_KEY", help="Its key, where it wants one.")


def text(written: str) -> str:
    """The type of what a person wrote: bytes that are no UTF-8 are replaced, as in what is piped in."""
    return written.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


@contextmanager
def sentences() -> Iterator[None]:
    """What can go wrong without being our fault ends the command with one sentence and status 1."""
    try:
        yield
    except ConfigError as error:
        raise click.ClickException(plain(str(error))) from None
    except UpstreamError as error:
        raise click.ClickException(plain(error.detail)) from None
    except BrokenPipeError:
        raise  # click's own affair
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise click.ClickException(plain(f"{where}{error.strerror or error}.")) from None
