"""The log for operators: lines without what would steer a terminal or look like another line."""

import logging
from types import TracebackType

from antiphon.cli.tables import plain

FORMAT = "%(levelname)s %(name)s: %(message)s"
_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class PlainFormatter(logging.Formatter):
    """Names of models, and what other programs say, are in the messages."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - as logging names it
        return plain(super().formatMessage(record))

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802 - as logging names it
        return "\n".join(map(plain, super().formatException(ei).split("\n")))


def log_to(level: str, handler: logging.Handler | None = None, form: str = FORMAT) -> None:
    """From ``level`` on, to ``handler``; None: to standard error."""
    handler = handler or logging.StreamHandler()
    handler.setFormatter(PlainFormatter(form))
    logging.basicConfig(level=level.upper(), handlers=[handler])
