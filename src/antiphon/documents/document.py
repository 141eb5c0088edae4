"""What a reader of files is given and gives back, and how it fails. It knows no format."""

from collections.abc import Iterable
from dataclasses import dataclass

SUPPORTED = "PDF, docx, and text such as Markdown, CSV, JSON, HTML and source code can be read"


class DocumentError(Exception):
    """A file could not be turned into text. `message` is one sentence for the client."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Unsupported(DocumentError):
    """The file is of a kind that holds no text or that is not read."""


class Encrypted(DocumentError):
    """The file needs a password."""


class Broken(DocumentError):
    """The file is not what it says it is, or damaged."""


class NoText(DocumentError):
    """The file is sound and has no text in it."""


class TooLarge(DocumentError):
    """The file is larger, or unfolds to more, than is read."""


class Busy(DocumentError):
    """Other PDFs took too long for this one to have its turn."""


@dataclass(frozen=True)
class Source:
    """A file's bytes, the charset that its content type names (empty if none), and how many characters are wanted."""

    body: bytes
    charset: str
    max_chars: int


@dataclass(frozen=True)
class Reading:
    """What a reader found: all text or, if `cut`, its beginning; `pages` where the format has them."""

    text: str
    pages: int | None = None
    cut: bool = False


def joined(pieces: Iterable[str], separator: str, max_chars: int) -> tuple[str, bool]:
    """The pieces as one text, and whether some were left out because the ones before were `max_chars` long."""
    taken: list[str] = []
    length = 0
    for piece in pieces:
        if length > max_chars:
            return separator.join(taken), True
        taken.append(piece)
        length += len(piece) + len(separator)
    return separator.join(taken), False
