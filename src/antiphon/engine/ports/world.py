"""The seam to the rest of the world: what is sealed, what is fetched, and what time it is."""

from typing import Protocol


class Seal(Protocol):
    """Makes content that only this server can read, bound to one project and purpose (design decision 15)."""

    def seal(self, data: bytes, *, project: str, purpose: str) -> str:
        """Raises ``ValueError`` for more than can be opened again."""

    def open(self, text: str, *, project: str, purpose: str) -> bytes | None:
        """None for what another provider has made.  Raises ``ValueError`` for what was tampered with."""


class Attachments(Protocol):
    """Turns what a request points at into what a model takes; the only way out to URLs."""

    async def image(self, url: str, param: str) -> str:
        """An image as a data URL.  Raises ``ApiError`` 400 naming ``param``."""

    async def text(self, url: str | None, data: str | None, filename: str | None, param: str) -> str:
        """A file's text.  Raises ``ApiError`` 400 naming ``param``."""

    async def file(self, url: str, param: str) -> tuple[str, str]:
        """A file's name, and the file as a data URL.  Raises ``ApiError`` 400 naming ``param``."""


class Clock(Protocol):
    """Time and names, so that a simulation can own both."""

    def now(self) -> float:
        """Seconds since the epoch."""

    def new_id(self, prefix: str) -> str:
        """A fresh id whose head is time: prefix and 28 base62 characters."""

    async def sleep(self, seconds: float) -> None:
        """Waits."""
