"""The command line.  Here is only the way in, which loads nothing: Ctrl-C may come while the rest is loaded."""

import sys

from antiphon.cli.statuses import INTERRUPTED


def main() -> None:
    """Runs the command that the arguments name.  Never returns."""
    try:
        from antiphon.cli import commands

        commands.main()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
