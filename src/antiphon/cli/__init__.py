"""The command line: one module for each command.  Each calls what does the work, and prints."""

import click

from antiphon import __version__
from antiphon.cli.asking import ask
from antiphon.cli.diagnosis import doctor
from antiphon.cli.launching import launch
from antiphon.cli.listing import models
from antiphon.cli.serving import serve


@click.group()
@click.version_option(__version__, prog_name="antiphon")
def main() -> None:
    """The OpenAI Responses API for any model, self-hosted."""


for command in (serve, ask, launch, models, doctor):
    main.add_command(command)
