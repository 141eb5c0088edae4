"""PDF files, by pdfium.

What pdfium may do inside one page (memory, time) cannot be bounded from here: between pages there is a limit of time,
and there is one of waiting for the library, which serves one thread at a time.
"""

import threading
import time
from contextlib import closing

import pypdfium2
from pypdfium2 import raw as pdfium

from antiphon.documents.document import Broken, Busy, Encrypted, Reading, Source

MAX_PAGES = 5000
MAX_SECONDS = 60.0
WAIT_SECONDS = 120.0

_pdfium_turn = threading.Lock()  # pdfium is not safe to enter from two threads, not even for two documents


def read_pdf(source: Source) -> Reading:
    """The text of the pages in their order, until enough is read or the limits are met."""
    if not _pdfium_turn.acquire(timeout=WAIT_SECONDS):
        raise Busy("The server is busy with other PDF files; try again later.")
    try:
        with closing(pypdfium2.PdfDocument(source.body)) as document:
            return _pages(document, source.max_chars)
    except pypdfium2.PdfiumError as error:
        if error.err_code in (pdfium.FPDF_ERR_PASSWORD, pdfium.FPDF_ERR_SECURITY):
            raise Encrypted("The PDF file is protected by a password.") from error
        raise Broken("The PDF file is damaged.") from error
    finally:
        _pdfium_turn.release()


def _pages(document: pypdfium2.PdfDocument, max_chars: int) -> Reading:
    count, length, pages = len(document), 0, []
    end = time.monotonic() + MAX_SECONDS
    for index in range(min(count, MAX_PAGES)):
        if length > max_chars or time.monotonic() > end:
            break
        pages.append(_page(document, index))
        length += len(pages[-1]) + 2
    return Reading("\n\n".join(page for page in pages if page), pages=count, cut=len(pages) < count)


def _page(document: pypdfium2.PdfDocument, index: int) -> str:
    try:
        with closing(document[index]) as page, closing(page.get_textpage()) as textpage:
            text: str = textpage.get_text_bounded()
    except pypdfium2.PdfiumError:
        return ""  # one damaged page does not take the others with it
    return text.replace("\r\n", "\n").strip()
