"""Files into text, for models that take no files.

`text_of` is a plain function that computes: callers run it in a thread. It must not know requests, stores or the
network. The bytes are strangers': every reader has limits, nothing is written to disk, and nothing outside the file is
looked up. A parser written in C is not a sandbox, though: whoever serves people they do not trust also limits the
memory of the process.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from antiphon.documents.document import (
    Broken,
    Busy,
    DocumentError,
    Encrypted,
    NoText,
    Reading,
    Source,
    TooLarge,
    Unsupported,
)
from antiphon.documents.kinds import kind_of
from antiphon.documents.plain import read_text

__all__ = (
    "Broken",
    "Busy",
    "Document",
    "DocumentError",
    "Encrypted",
    "NoText",
    "TooLarge",
    "Unsupported",
    "text_of",
)

MAX_BODY_BYTES = 64 * 1024 * 1024

_CHARSET = re.compile(r"charset\s*=\s*[\"']?([A-Za-z0-9_.:-]{1,40})", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class Document:
    """A file's text.

    `kind` is one of pdf, docx, html, markdown, csv, json, xml, code, text. `truncated` says that text was left out,
    because of `max_chars` or of the limits of this module. `pages` is the number of pages of a PDF, else None.
    """

    text: str
    kind: str
    truncated: bool
    pages: int | None = None


def text_of(body: bytes, *, filename: str | None, content_type: str | None, max_chars: int) -> Document:
    """The text in `body`, at most `max_chars` characters of it.

    What the file is follows from its first bytes, then from `content_type` (parameters allowed, the charset is used),
    then from the extension of `filename`. Raises a `DocumentError`.
    """
    if len(body) > MAX_BODY_BYTES:
        raise TooLarge(f"The file is larger than {MAX_BODY_BYTES} bytes.")
    if not body or body.isspace():
        raise NoText("The file is empty.")
    kind = kind_of(body, filename, content_type)
    charset = _CHARSET.search(content_type or "")
    found = _reader(kind)(Source(body, charset[1] if charset else "", max_chars))
    text = found.text.replace("\0", "")  # NUL is no text, and not every database can store it
    if not text or text.isspace():
        raise NoText(f"The file holds no text{' (a scan, perhaps)' if kind == 'pdf' else ''}.")
    return Document(text[:max_chars], kind, found.cut or len(text) > max_chars, found.pages)


def _reader(kind: str) -> Callable[[Source], Reading]:
    """Each loads its library with the first file that needs it."""
    if kind == "pdf":
        from antiphon.documents.pdf import read_pdf

        return read_pdf
    if kind == "docx":
        from antiphon.documents.word import read_word

        return read_word
    if kind == "html":
        from antiphon.documents.html import read_html

        return read_html
    return read_text
