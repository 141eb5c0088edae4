"""Word files (docx): the text of the document's body.

python-docx opens the package and finds the document in it. The text is taken from its element tree and not from its
paragraph objects, which pass over content controls, tracked insertions and text boxes.
"""

import io
from collections.abc import Iterator

import docx
from docx.opc.exceptions import OpcError
from lxml import etree  # type: ignore[import-untyped]

from antiphon.documents.archives import repacked
from antiphon.documents.document import Broken, Reading, Source, joined

_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_TEXTS = frozenset({f"{_WORD}t", "{http://schemas.openxmlformats.org/officeDocument/2006/math}t"})
_SIGNS = {f"{_WORD}tab": "\t", f"{_WORD}br": "\n", f"{_WORD}cr": "\n", f"{_WORD}noBreakHyphen": "-"}
_NOT_SHOWN = frozenset(
    {
        *(f"{_WORD}{name}" for name in ("del", "moveFrom", "pPr", "rPr", "sectPr", "tblPr", "sdtPr")),
        # The second copy of every text box, for programs that do not know the first's namespace.
        "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback",
    }
)
_DAMAGES = (OpcError, etree.LxmlError, KeyError, ValueError, AttributeError, TypeError, IndexError)


def read_word(source: Source) -> Reading:
    """The text of the document's body: paragraphs a line each, table rows a line each with cells apart by ` | `.

    Deleted and moved text, field codes, headers, footers, notes and comments are left out.
    """
    package = repacked(source.body)
    try:
        document = docx.Document(io.BytesIO(package))
        text, cut = joined(_blocks(document.element.body), "\n", source.max_chars)
    except _DAMAGES as error:
        raise Broken("The docx file is damaged, or of a variant that is not read.") from error
    return Reading(text.strip("\n"), cut=cut)


def _blocks(parent: etree._Element) -> Iterator[str]:
    """Paragraphs and table rows in document order, also those inside content controls and tracked insertions."""
    for child in parent:
        if child.tag == f"{_WORD}p":
            yield "".join(_runs(child))
        elif child.tag == f"{_WORD}tr":
            yield " | ".join(_cells(child))
        elif child.tag not in _NOT_SHOWN:
            yield from _blocks(child)


def _cells(row: etree._Element) -> Iterator[str]:
    for child in row:
        if child.tag == f"{_WORD}tc":
            yield " ".join(" ".join(_blocks(child)).split())
        elif child.tag not in _NOT_SHOWN:
            yield from _cells(child)


def _runs(parent: etree._Element) -> Iterator[str]:
    for child in parent:
        if child.tag in _TEXTS:
            yield child.text or ""
        elif child.tag in _SIGNS:
            yield _SIGNS[child.tag]
        elif child.tag not in _NOT_SHOWN:
            yield "\n" if child.tag == f"{_WORD}p" else ""  # a paragraph in a text box
            yield from _runs(child)
