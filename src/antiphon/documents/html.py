"""HTML files: the text that a page shows. Nothing is fetched, no script is run."""

import re

from lxml import etree  # type: ignore[import-untyped]

from antiphon.documents.document import Broken, Reading, Source
from antiphon.documents.plain import decoded

_UNSEEN = frozenset({"script", "style", "noscript", "template", "svg", "iframe", "object", "canvas"})
_BLOCKS = frozenset(
    {
        *("html", "title", "body", "header", "footer", "main", "nav", "aside", "article", "section", "address"),
        *("div", "p", "pre", "blockquote", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "figure", "figcaption"),
        *("ul", "ol", "li", "dl", "dt", "dd", "details", "summary", "dialog", "form", "fieldset", "option"),
        *("table", "caption", "thead", "tbody", "tfoot", "tr"),
    }
)
_META_CHARSET = re.compile(rb"charset\s*=\s*[\"']?([A-Za-z0-9_.:-]{1,40})", re.IGNORECASE)
_SPACES = re.compile(r"[ \t\n\r\f]+")
_BLANK_LINES = re.compile(r"\n{3,}")

MAX_CHARS = 4 * 1024 * 1024
MAX_DEPTH = 1024
_STEP_CHARS = 8192  # what the parser goes on to read after it was told to stop


def read_html(source: Source) -> Reading:
    """The text a reader of the page would see, blocks on lines of their own, table cells apart by tabs."""
    named = _META_CHARSET.search(source.body[:2048])
    page = decoded(source.body, source.charset or (named[1].decode("ascii") if named else "")).replace("\0", "")
    shown = page[:MAX_CHARS]
    # Much of what is seen is white space that goes away again, hence more than is wanted.
    seen = _Seen(source.max_chars * 4)
    # No tree is built: libxml2's takes fifty times the size of `<p>`, and minutes for a tag of many attributes.
    # It reads no DTD for HTML and opens nothing.
    parser = etree.HTMLParser(target=seen, encoding="utf-8", no_network=True, huge_tree=True)
    try:
        for start in range(0, len(shown), _STEP_CHARS):
            parser.feed(shown[start : start + _STEP_CHARS].encode("utf-8", "replace"))
        parser.close()
    except _Enough:
        pass
    except etree.XMLSyntaxError as error:
        raise Broken("The HTML file cannot be read.") from error
    lines = "\n".join(line.rstrip() for line in "".join(seen.pieces).split("\n"))
    return Reading(_BLANK_LINES.sub("\n\n", lines).strip("\n"), cut=seen.full or len(page) > len(shown))


class _Enough(Exception):
    """Nothing more is to be read."""


class _Seen:
    """What of a page is seen, told by the parser tag by tag, until there is enough or it is too deep.

    Depth is limited because libxml2 looks through all open tags for the one that an end tag closes.
    """

    def __init__(self, max_chars: int) -> None:
        self.pieces: list[str] = []
        self.full = False
        self._left = max_chars
        self._depth = 0
        self._unseen = 0
        self._verbatim = 0

    def start(self, tag: str, _: object) -> None:
        self._depth += 1
        self._check()
        self._unseen += tag in _UNSEEN
        self._verbatim += tag == "pre"
        if not self._unseen:
            self._add("\n" if tag in _BLOCKS or tag == "br" else "")
            self._add("- " if tag == "li" else "")

    def end(self, tag: str) -> None:
        self._depth -= 1
        self._unseen -= tag in _UNSEEN
        self._verbatim -= tag == "pre"
        if not self._unseen:
            self._add("\n" if tag in _BLOCKS else "\t" if tag in ("td", "th") else "")

    def data(self, text: str) -> None:
        if not self._unseen:
            self._add(text if self._verbatim else _SPACES.sub(" ", text))

    def _check(self) -> None:
        if self._left < 0 or self._depth > MAX_DEPTH:
            self.full = True
            raise _Enough

    def _add(self, piece: str) -> None:
        self._check()
        self._left -= len(piece)
        if piece:
            self.pieces.append(piece)

    def comment(self, text: str) -> None:
        """Not seen."""

    def pi(self, target: str, text: str | None = None) -> None:
        """Not seen."""

    def close(self) -> None:
        """All has been told."""
