"""The command line: one module for each command.  Each calls what does the work, and prints."""

import os
import sys
from typing import Any

import click

from antiphon import __version__
from antiphon.cli.asking import ask
from antiphon.cli.diagnosis import doctor
from antiphon.cli.launching import launch
from antiphon.cli.listing import models
from antiphon.cli.serving import serve
from antiphon.cli.statuses import INTERRUPTED


class _Commands(click.Group):
    """Says nothing about Ctrl-C: who pressed it knows."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)


@click.group(cls=_Commands)
@click.version_option(__version__, prog_name="antiphon")
def main() -> None:
    """The OpenAI Responses API for any model, self-hosted."""
    _fill_streams()


def _fill_streams() -> None:
    """The number of a stream that was closed would be the next file's, which would get all that is printed."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
        stream = os.fdopen(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False)
        setattr(sys, ("stdin", "stdout", "stderr")[number], stream)
    os.close(number)


for command in (serve, ask, launch, models, doctor):
    main.add_command(command)
