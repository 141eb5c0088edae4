"""Files into text: every kind that is read, and every kind that is not."""

import contextlib
import io
import random
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.made_files import PLAIN_DOCX, WORD_TYPE, made_pdf, read, repacked, sealed_pdf

import antiphon.documents
from antiphon.documents import (
    Broken,
    Busy,
    Document,
    DocumentError,
    Encrypted,
    NoText,
    TooLarge,
    Unsupported,
    html,
    pdf,
)

# PDF


def test_a_pdf_is_read_page_by_page() -> None:
    got = read(
        made_pdf("First page,\nsecond line", "", "Third: na\u00efve caf\u00e9 \u2013 \u20ac"),
        "a.pdf",
        "application/pdf",
    )
    assert got == Document("First page,\nsecond line\n\nThird: na\u00efve caf\u00e9 \u2013 \u20ac", "pdf", False, 3)


@pytest.mark.parametrize(
    ("name", "content_type"), [(None, None), ("a.txt", "text/plain"), ("a.docx", WORD_TYPE), ("a", "image/png")]
)
def test_the_bytes_of_a_pdf_outweigh_what_it_is_called(name: str | None, content_type: str | None) -> None:
    assert read(made_pdf("hello"), name, content_type) == Document("hello", "pdf", False, 1)


def test_a_pdf_may_have_something_before_its_header_if_it_is_called_one() -> None:
    body = b"\r\nleading junk\n" + made_pdf("hello")
    assert read(body, "a.pdf").text == "hello"
    assert read(b"See %PDF-1.4 for the header", "a.txt").kind == "text"


def test_a_pdf_is_read_no_further_than_wanted() -> None:
    got = read(made_pdf(*(f"page {number}" for number in range(50))), max_chars=25)
    assert (got.text, got.truncated, got.pages) == ("page 0\n\npage 1\n\npage 2\n\np", True, 50)
    whole = read(made_pdf("page 0", "page 1"), max_chars=14)
    assert (whole.text, whole.truncated) == ("page 0\n\npage 1", False)


def test_a_pdf_of_more_pages_than_are_read_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf, "MAX_PAGES", 2)
    got = read(made_pdf("one", "two", "three"))
    assert (got.text, got.truncated, got.pages) == ("one\n\ntwo", True, 3)
    monkeypatch.setattr(pdf, "MAX_SECONDS", -1.0)
    with pytest.raises(NoText):
        read(made_pdf("one"))


def test_a_pdf_with_a_password_is_refused_and_one_without_is_opened() -> None:
    with pytest.raises(Encrypted, match="protected by a password"):
        read(sealed_pdf("secret", b"hunter2"), "a.pdf")
    assert read(sealed_pdf("for all to read", b""), "a.pdf").text == "for all to read"


def test_a_pdf_without_text_says_so() -> None:
    with pytest.raises(NoText, match="scan"):
        read(made_pdf("", ""), "scan.pdf", "application/pdf")


@pytest.mark.parametrize("body", [b"%PDF-1.7\n", b"%PDF-1.7\n" + bytes(1000), b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n"])
def test_a_damaged_pdf_is_refused(body: bytes) -> None:
    with pytest.raises(Broken, match="PDF file is damaged"):
        read(body)


def test_a_damaged_page_does_not_take_the_others_with_it() -> None:
    body = made_pdf("one", "two", "three").replace(b"[4 0 R 6 0 R 8 0 R]", b"[4 0 R 7 0 R 8 0 R]")
    got = read(body)
    assert "one" in got.text
    assert "three" in got.text
    assert "two" not in got.text


def test_a_file_that_is_only_called_a_pdf_is_refused() -> None:
    for name, content_type in [("a.pdf", None), ("a.pdf", "text/plain"), (None, "application/pdf")]:
        with pytest.raises(Broken, match="called a pdf file but is not one"):
            read(b"just text", name, content_type)


def test_many_threads_read_pdfs_at_once() -> None:
    bodies = [made_pdf(*(f"document {number} page {page}" for page in range(5))) for number in range(24)]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(read, bodies, timeout=60))
    for number, got in enumerate(found):
        assert got.text == "\n\n".join(f"document {number} page {page}" for page in range(5))


def test_a_pdf_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf, "WAIT_SECONDS", 0.05)
    with pdf._pdfium_turn, pytest.raises(Busy):
        read(made_pdf("hello"))
    assert read(made_pdf("hello")).text == "hello"


# What is not read


@pytest.mark.parametrize(
    ("body", "label"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "an image"),
        (b"\xff\xd8\xff\xe0" + bytes(50), "an image"),
        (b"GIF89a" + bytes(50), "an image"),
        (b"RIFF\x24\0\0\0WEBPVP8 ", "an image"),
        (b"\0\0\0\x1cftypheic" + bytes(50), "an image or video"),
        (b"\0\0\0\x1cftypisom" + bytes(50), "an image or video"),
        (b"OggS" + bytes(50), "sound"),
        (b"ID3\x04" + bytes(50), "sound"),
        (b"\x1f\x8b\x08" + bytes(50), "an archive"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(50), "an archive"),
        (b"Rar!\x1a\x07\x01" + bytes(50), "an archive"),
        (b"\x7fELF" + bytes(50), "a program"),
        (b"SQLite format 3\0" + bytes(50), "a database"),
        (b"{\\rtf1 hello}", "RTF"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(50), "an old or password-protected Office file"),
        (repacked(PLAIN_DOCX, {"word/document.xml": b"x"}).replace(b"word/", b"xlxx/"), "an archive"),
    ],
)
def test_other_kinds_are_refused_by_their_bytes(body: bytes, label: str) -> None:
    for name, content_type in [(None, None), ("a.txt", "text/plain"), ("a.pdf", "application/pdf")]:
        with pytest.raises(Unsupported, match=f"The file is {label}.*PDF, docx, and text"):
            read(body, name, content_type)


@pytest.mark.parametrize(
    ("folder", "label"),
    [("xl/workbook.xml", "a spreadsheet"), ("ppt/presentation.xml", "a presentation"), ("a", "an archive")],
)
def test_other_packages_are_refused_by_what_is_in_them(folder: str, label: str) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("[Content_Types].xml", "<x/>")
        archive.writestr(folder, "<x/>")
    with pytest.raises(Unsupported, match=f"The file is {label}"):
        read(out.getvalue(), "a.docx", WORD_TYPE)


def test_an_empty_archive_is_an_archive_and_half_of_one_is_damaged() -> None:
    with pytest.raises(Unsupported):
        read(b"PK\x05\x06" + bytes(18))
    for body in (PLAIN_DOCX[: len(PLAIN_DOCX) // 2], PLAIN_DOCX[:-1], b"PK\x03\x04", b"PK\x05\x06"):
        with pytest.raises(Broken, match="damaged archive"):
            read(body)


@pytest.mark.parametrize(
    "content_type", ["image/png", "IMAGE/X-ICON", "audio/mpeg", "video/mp4; codecs=x", "font/woff2"]
)
def test_other_kinds_are_refused_by_their_type(content_type: str) -> None:
    with pytest.raises(Unsupported, match="of type"):
        read(b"looks like text", None, content_type)


@pytest.mark.parametrize(
    "body",
    [
        b"a" * 1000 + b"\0",
        b"a\0b\0c",
        bytes(range(256)) * 10,
        random.Random(1).randbytes(5000),
        b"\x01\x02\x03 text with controls",
    ],
)
def test_binary_of_no_known_kind_is_refused(body: bytes) -> None:
    for name in (None, "a.txt", "a.bin"):
        with pytest.raises(Unsupported, match="binary"):
            read(body, name, "text/plain" if name == "a.txt" else None)


@pytest.mark.parametrize("body", [b"", b" \r\n\t ", b"\xef\xbb\xbf"])
def test_an_empty_file_is_refused(body: bytes) -> None:
    with pytest.raises(NoText):
        read(body, "a.txt")
    with pytest.raises(NoText):
        read(body[:0], "a.pdf")


def test_too_large_a_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(antiphon.documents, "MAX_BODY_BYTES", 10)
    assert read(b"x" * 10).text == "x" * 10
    with pytest.raises(TooLarge, match="larger than 10 bytes"):
        read(b"x" * 11)


# Text


@pytest.mark.parametrize(
    ("name", "content_type", "kind"),
    [
        ("a.md", None, "markdown"),
        ("A.MD", "application/octet-stream", "markdown"),
        ("a.md", "text/plain", "markdown"),
        (None, "text/markdown; charset=utf-8", "markdown"),
        ("a.csv", "application/vnd.ms-excel", "csv"),
        ("a", "text/csv", "csv"),
        ("a.json", "application/json", "json"),
        ("a.txt", "application/ld+json", "json"),
        ("a", "application/atom+xml", "xml"),
        ("a.svg", "image/svg+xml", "xml"),
        ("main.py", "text/x-python", "code"),
        ("main.ts", "video/mp2t", "code"),
        ("main.ts", None, "code"),
        ("run.sh", "application/x-sh", "code"),
        ("notes", None, "text"),
        (None, None, "text"),
        ("a.unknown", "application/unknown", "text"),
        ("notes.txt", "text/plain", "text"),
    ],
)
def test_text_is_passed_on_as_it_is(name: str | None, content_type: str | None, kind: str) -> None:
    text = '\n# h\r\n{"a": "<b>\t\u00e4"}\n'
    assert read(text.encode(), name, content_type) == Document(text, kind, False, None)


def test_a_stray_nul_late_in_a_text_is_left_out() -> None:
    assert read(b"x" * 70_000 + b"\0y").text == "x" * 70_000 + "y"


def test_text_is_cut_at_the_limit() -> None:
    assert read("\u00e4".encode() * 10, max_chars=10) == Document("\u00e4" * 10, "text", False)
    assert read("\u00e4".encode() * 11, max_chars=10) == Document("\u00e4" * 10, "text", True)


@pytest.mark.parametrize(
    ("text", "encoding", "charset"),
    [
        ("gr\u00fc\u00df \u4f60\u597d \U0001f600", "utf-8", None),
        ("gr\u00fc\u00df", "utf-8-sig", None),
        ("gr\u00fc\u00df", "utf-16", None),
        ("gr\u00fc\u00df", "utf-32", None),
        ("gr\u00fc\u00df", "utf-16-le", "utf-16le"),
        ("gr\u00fc\u00df \u201eso\u201c 5 \u20ac", "cp1252", None),
        ("gr\u00fc\u00df \u201eso\u201c 5 \u20ac", "cp1252", "ISO-8859-1"),
        ("gr\u00fc\u00df", "utf-8", "iso-8859-1"),
        ("gr\u00fc\u00df", "utf-8", "us-ascii"),
        ("\u041f\u0440\u0438\u0432\u0435\u0442", "cp1251", "windows-1251"),
        ("\u041f\u0440\u0438\u0432\u0435\u0442", "koi8-r", '"KOI8-R"'),
        ("\u65e5\u672c\u8a9e", "shift_jis", "Shift_JIS"),
        ("\u65e5\u672c\u8a9e", "iso2022_jp", "ISO-2022-JP"),
        ("\u4f60\u597d", "gb18030", "GB18030"),
        ("gr\u00fc\u00df", "utf-8", "no-such-charset"),
        ("cafe", "utf-8", "utf-7"),
        ("+AGE-b \\x41", "utf-8", "unicode_escape"),
        ("a" * 40, "utf-8", "idna"),
    ],
)
def test_the_charset_is_found(text: str, encoding: str, charset: str | None) -> None:
    content_type = f"text/plain; charset={charset}" if charset else None
    assert read(text.encode(encoding), "a.txt", content_type).text == text


def test_bytes_that_fit_no_charset_are_still_read() -> None:
    assert read(b"caf\xe9 \x81 " + b"x" * 100, "a.txt").text.startswith("caf\u00e9 \x81 x")


# HTML


def test_html_gives_what_a_reader_sees() -> None:
    page = b"""<!doctype html><html><head><meta charset="windows-1251"><title>T &amp; t</title><style>p {}</style>
    <script>if (a < b) evil()</script></head><body><!-- no --><h1>Head</h1>tail<p>one
       two <b>bo</b>ld<br>next</p><ul><li>a<li>b</ul>
    <table><tr><td>1<td>2</tr><tr><td>3</td><td>4</td></tr></table>
    <pre>  keep\n   this</pre>after<noscript>no</noscript> &lt;end&gt; \xcf\xf0\xe8<svg><text>no</text></svg></body>"""
    expected = "T & t\n\nHead\ntail\none two bold\nnext\n\n- a\n\n- b\n\n1\t2\n\n3\t4\n\n  keep\n   this\nafter <end> "
    expected += "\u041f\u0440\u0438"
    assert read(page, "a.html") == Document(expected, "html", False, None)
    assert read(page, None, "text/html").text == expected
    assert read(page, "a.txt", "text/plain").text.startswith("<!doctype")


@pytest.mark.parametrize("page", [b"<html></html>", b"<script>x</script>", b"<!-- x -->", b"<p> </p>"])
def test_html_without_text_says_so(page: bytes) -> None:
    with pytest.raises(NoText):
        read(page, "a.html")


def test_the_charset_of_the_header_outweighs_that_of_the_page() -> None:
    page = '<meta charset="koi8-r">\u041f\u0440\u0438'.encode("cp1251")
    assert read(page, None, "text/html; charset=windows-1251").text == "\u041f\u0440\u0438"


def test_html_is_cut_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(b"<p>12345</p>", "a.html", max_chars=5) == Document("12345", "html", False)
    assert read(b"<p>123456</p>", "a.html", max_chars=5) == Document("12345", "html", True)
    assert read(b"start" + b"<p></p>" * 100 + b"end", "a.html", max_chars=10) == Document("start", "html", True)
    monkeypatch.setattr(html, "MAX_CHARS", 10)
    assert read(b"<p>1234567890", "a.html") == Document("1234567", "html", True)


@pytest.mark.parametrize(
    "page",
    [
        b"seen" + b"<div>" * 50_000 + b"</p>" * 500_000,
        b"seen" + b"<svg>" * 100_000 + b"</b>" * 500_000,
        b"seen<a " + b" ".join(b"a%d=1" % number for number in range(300_000)) + b">",
        b"seen<pre>" + b" " * 4_000_000 + b"x",
        b"seen<!--" * 300_000,
    ],
    ids=["deep", "deep-unseen", "attributes", "spaces", "comments"],
)
@pytest.mark.timeout(20)
def test_html_made_to_take_long_does_not(page: bytes) -> None:
    assert read(page, "a.html", max_chars=100).text.startswith("seen")


def test_html_opens_nothing() -> None:
    page = b'<!DOCTYPE html [<!ENTITY f SYSTEM "file:///etc/passwd">]><p>a&f;b<iframe src="file:///etc/passwd">'
    assert "root" not in read(page, "a.html").text


# Anything


@pytest.mark.parametrize("kind", ["pdf", "docx", "html", "json"])
def test_damaged_bytes_give_text_or_a_document_error(kind: str) -> None:
    sound = {
        "pdf": made_pdf("one\ntwo", "three"),
        "docx": PLAIN_DOCX,
        "html": b"<html><body><p>one<ul><li>two</ul><pre>three</pre></body></html>",
        "json": b'{"a": [1, 2, 3]}',
    }[kind]
    dice, read_well = random.Random(kind), 0
    for _ in range(150):
        body = bytearray(sound)
        for _ in range(dice.choice((1, 2, 10))):
            start = dice.randrange(len(body) + 1)
            body[start : start + dice.choice((0, 1, 1, 20))] = dice.randbytes(dice.choice((0, 1, 1, 4)))
        with contextlib.suppress(DocumentError):
            read(bytes(body), f"a.{kind}")
            read_well += 1
    assert 0 < read_well < 150
