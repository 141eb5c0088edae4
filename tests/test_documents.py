"""Files into text: every kind that is read, every kind that is not, and files made to do harm.

All files are made here: docx by python-docx or part by part, PDF byte by byte.
"""

import contextlib
import hashlib
import io
import random
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import docx
import pytest

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
    archives,
    html,
    pdf,
    text_of,
)

WORD_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


def read(body: bytes, name: str | None = None, content_type: str | None = None, max_chars: int = 1_000_000) -> Document:
    return text_of(body, filename=name, content_type=content_type, max_chars=max_chars)


# PDF


def assembled(objects: Sequence[bytes], trailer: bytes = b"") -> bytes:
    """A PDF of these objects, numbered from 1, of which the first is the catalogue."""
    out, offsets = bytearray(b"%PDF-1.4\n"), []
    for number, content in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size = len(objects) + 1
    return (
        bytes(out)
        + b"xref\n0 %d\n0000000000 65535 f \n%strailer\n<< /Size %d /Root 1 0 R %s >>\nstartxref\n%d\n"
        % (
            size,
            table,
            size,
            trailer,
            len(out),
        )
        + b"%%EOF\n"
    )


def stream(content: bytes, entries: bytes = b"") -> bytes:
    return b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(content), entries, content)


def made_pdf(*pages: str, seal: Callable[[int, bytes], bytes] | None = None, encryption: Sequence[bytes] = ()) -> bytes:
    """A PDF with one line of text per line of each page."""
    kids = b" ".join(b"%d 0 R" % (4 + 2 * index) for index in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [%s] /Count %d >>" % (kids, len(pages)),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    for index, page in enumerate(pages):
        content = 5 + 2 * index
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R"
            b" /Resources << /Font << /F1 3 0 R >> >> >>" % content
        )
        shown = b"".join(b"(%s) Tj T*\n" % line.encode("cp1252") for line in page.splitlines())
        drawing = b"BT /F1 12 Tf 14 TL 72 720 Td\n%sET" % shown
        objects.append(stream(seal(content, drawing) if seal else drawing))
    trailer = b""
    if encryption:
        objects.append(encryption[0])
        trailer = b"/Encrypt %d 0 R /ID [<%s> <%s>]" % (len(objects), encryption[1], encryption[1])
    return assembled(objects, trailer)


def rc4(key: bytes, text: bytes) -> bytes:
    state, j = list(range(256)), 0
    for i in range(256):
        j = (j + state[i] + key[i % len(key)]) % 256
        state[i], state[j] = state[j], state[i]
    out, i, j = bytearray(), 0, 0
    for byte in text:
        i = (i + 1) % 256
        j = (j + state[i]) % 256
        state[i], state[j] = state[j], state[i]
        out.append(byte ^ state[(state[i] + state[j]) % 256])
    return bytes(out)


def sealed_pdf(text: str, password: bytes) -> bytes:
    """Encrypted by the standard handler, revision 2 (PDF 1.7, 7.6.3): owner and user have the same password."""
    padding = bytes.fromhex("28BF4E5E4E758A4164004E56FFFA01082E2E00B6D0683E802F0CA9FE6453697A")
    padded, name, permissions = (password + padding)[:32], bytes(range(16)), -4
    owner = rc4(hashlib.md5(padded).digest()[:5], padded)
    key = hashlib.md5(padded + owner + struct.pack("<i", permissions) + name).digest()[:5]
    user = rc4(key, padding)

    def seal(number: int, content: bytes) -> bytes:
        salted = key + struct.pack("<I", number)[:3] + b"\0\0"
        return rc4(hashlib.md5(salted).digest()[:10], content)

    handler = b"<< /Filter /Standard /V 1 /R 2 /P %d /O <%s> /U <%s> >>" % (
        permissions,
        owner.hex().encode(),
        user.hex().encode(),
    )
    return made_pdf(text, seal=seal, encryption=(handler, name.hex().encode()))


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


# docx

_W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def made_docx(fill: Callable[[docx.document.Document], object]) -> bytes:
    document = docx.Document()
    fill(document)
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def repacked(body: bytes, parts: dict[str, bytes | None], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """The same package with some parts replaced, added, or (None) left out."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(body)) as old, zipfile.ZipFile(out, "w", compression) as new:
        kept = {name: old.read(name) for name in old.namelist()}
        for name, content in {**kept, **parts}.items():
            if content is not None:
                new.writestr(name, content)
    return out.getvalue()


def with_body(xml: str) -> bytes:
    """A docx whose document's body is this XML."""
    names = (
        f'{_W} xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"'
        ' xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'
    )
    document = f"<?xml version='1.0' encoding='UTF-8'?><w:document {names}><w:body>{xml}</w:body></w:document>"
    return repacked(PLAIN_DOCX, {"word/document.xml": document.encode()})


PLAIN_DOCX = made_docx(lambda document: document.add_paragraph("hello"))


def test_a_docx_is_read_in_document_order() -> None:
    def fill(document: docx.document.Document) -> None:
        document.add_heading("Title", 0)
        document.add_paragraph("before\tthe table")
        table = document.add_table(rows=2, cols=2)
        for row, texts in zip(table.rows, (("Name", "Size"), ("a\nb", "1")), strict=True):
            for cell, text in zip(row.cells, texts, strict=True):
                cell.text = text
        inner = table.rows[1].cells[1].add_table(rows=1, cols=2)
        inner.rows[0].cells[0].text = "in"
        inner.rows[0].cells[1].text = "ner"
        document.add_paragraph("")
        document.add_paragraph("after", style="List Bullet").add_run(" \u00fcnic\u00f6de \U0001f600").bold = True

    got = read(made_docx(fill), "report.docx", WORD_TYPE)
    expected = "Title\nbefore\tthe table\nName | Size\na b | 1 in | ner\n\nafter \u00fcnic\u00f6de \U0001f600"
    assert got == Document(expected, "docx", False, None)


@pytest.mark.parametrize(
    ("xml", "text"),
    [
        (
            "<w:p><w:r><w:t>a</w:t><w:br/><w:t>b</w:t><w:noBreakHyphen/><w:cr/><w:tab/><w:t>c</w:t></w:r></w:p>",
            "a\nb-\n\tc",
        ),
        (
            "<w:p><w:ins><w:r><w:t>new</w:t></w:r></w:ins><w:del><w:r><w:delText>old</w:delText></w:r></w:del></w:p>",
            "new",
        ),
        (
            "<w:p><w:moveFrom><w:r><w:t>x</w:t></w:r></w:moveFrom><w:moveTo><w:r><w:t>y</w:t></w:r></w:moveTo></w:p>",
            "y",
        ),
        ("<w:sdt><w:sdtPr/><w:sdtContent><w:p><w:r><w:t>control</w:t></w:r></w:p></w:sdtContent></w:sdt>", "control"),
        (
            "<w:p><w:hyperlink><w:r><w:t>link</w:t></w:r></w:hyperlink><w:r><w:instrText>PAGE</w:instrText></w:r></w:p>",
            "link",
        ),
        ("<w:p><m:oMath><m:r><m:t>E=mc</m:t></m:r></m:oMath></w:p>", "E=mc"),
        (
            (
                "<w:p><w:r><w:t>A</w:t></w:r><mc:AlternateContent><mc:Choice><w:txbxContent><w:p><w:r><w:t>box</w:t></w:r></w:p>"
                "</w:txbxContent></mc:Choice><mc:Fallback><w:p><w:r><w:t>box</w:t></w:r></w:p></mc:Fallback>"
                "</mc:AlternateContent></w:p>"
            ),
            "A\nbox",
        ),
        (
            (
                "<w:tbl><w:tblPr/><w:sdt><w:sdtContent><w:tr><w:tc><w:p><w:r><w:t>1</w:t></w:r></w:p></w:tc>"
                "<w:sdt><w:sdtContent><w:tc><w:p><w:r><w:t>2</w:t></w:r></w:p></w:tc></w:sdtContent></w:sdt></w:tr>"
                "</w:sdtContent></w:sdt></w:tbl>"
            ),
            "1 | 2",
        ),
    ],
)
def test_nothing_that_word_shows_is_passed_over(xml: str, text: str) -> None:
    assert read(with_body(xml)).text == text


def test_a_docx_whose_links_lead_nowhere_is_read() -> None:
    with zipfile.ZipFile(io.BytesIO(PLAIN_DOCX)) as archive:
        links = archive.read("word/_rels/document.xml.rels").replace(b"theme/theme1.xml", b"../NULL")
    assert b"../NULL" in links
    body = repacked(PLAIN_DOCX, {"word/_rels/document.xml.rels": links, "word/styles.xml": None})
    assert read(body).text == "hello"


def test_the_bytes_of_a_docx_outweigh_what_it_is_called() -> None:
    assert read(PLAIN_DOCX, "a.zip", "application/zip").kind == "docx"
    assert read(PLAIN_DOCX, "a.txt", "text/plain").text == "hello"
    with pytest.raises(Broken, match="called a docx file but is not one"):
        read(b"just text", "a.docx")


def test_a_docx_is_read_no_further_than_wanted() -> None:
    body = made_docx(lambda document: [document.add_paragraph("x" * 9) for _ in range(100)])
    got = read(body, max_chars=25)
    assert (got.text, got.truncated) == ("xxxxxxxxx\nxxxxxxxxx\nxxxxx", True)
    assert not read(body, max_chars=999).truncated


def test_a_docx_of_pictures_only_has_no_text() -> None:
    with pytest.raises(NoText):
        read(made_docx(lambda document: None), "a.docx")


@pytest.mark.parametrize(
    "parts",
    [
        {"word/document.xml": b"<not closed"},
        {"word/document.xml": b""},
        {"word/document.xml": b"<html/>"},
        {"word/document.xml": None},
        {"_rels/.rels": None},
        {"_rels/.rels": b"<x/>"},
        {"[Content_Types].xml": None},
        {"[Content_Types].xml": b"<x/>"},
    ],
)
def test_a_docx_with_a_damaged_part_is_refused(parts: dict[str, bytes | None]) -> None:
    with pytest.raises((Broken, NoText)):
        read(repacked(PLAIN_DOCX, parts))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_no_document_type_reaches_a_parser(encoding: str) -> None:
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    bomb = (
        f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE x [<!ENTITY l0 "ha"><!ENTITY f SYSTEM "file:///etc/passwd">'
        f"{laughs}]><w:document {_W}><w:body><w:p><w:r><w:t>&f;&l9;</w:t></w:r></w:p></w:body></w:document>"
    )
    with pytest.raises(Broken, match="document type"):
        read(repacked(PLAIN_DOCX, {"word/document.xml": bomb.encode(encoding)}))


def test_no_entity_is_resolved_even_if_a_document_type_slips_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_DOCTYPES", ())
    document = (
        '<!DOCTYPE x [<!ENTITY in "inner"><!ENTITY out SYSTEM "file:///etc/passwd">]>'
        f"<w:document {_W}><w:body><w:p><w:r><w:t>a&in;b</w:t><w:t>c&out;d</w:t></w:r></w:p></w:body></w:document>"
    )
    text = read(repacked(PLAIN_DOCX, {"word/document.xml": document.encode()})).text
    assert "inner" not in text
    assert "root" not in text


def peak_of(attempt: Callable[[], object]) -> int:
    """The most memory that Python held while `attempt` ran."""
    tracemalloc.start()
    try:
        attempt()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_docx_that_unfolds_is_stopped_at_the_limit() -> None:
    huge = b"<!-- " + bytes(100_000_000) + b" -->"
    body = repacked(PLAIN_DOCX, {"word/document.xml": huge})
    assert len(body) < 500_000

    def attempt() -> None:
        with pytest.raises(TooLarge, match=f"larger than {archives.MAX_XML_BYTES} bytes"):
            read(body)

    assert peak_of(attempt) < 3 * archives.MAX_XML_BYTES


def test_many_parts_are_counted_together() -> None:
    part = b"<x>" + b" " * 4_000_000 + b"</x>"
    with pytest.raises(TooLarge, match="The text of the docx file"):
        read(repacked(PLAIN_DOCX, {f"word/part{number}.xml": part for number in range(10)}))


def test_pictures_are_not_unfolded_but_their_size_counts() -> None:
    def attempt(count: int) -> Document:
        return read(repacked(PLAIN_DOCX, {f"word/media/{number}.bmp": bytes(50_000_000) for number in range(count)}))

    assert attempt(2).text == "hello"
    with pytest.raises(TooLarge, match="unfolds to more"):
        attempt(6)


def lying(body: bytes, name: str, size: int) -> bytes:
    """The archive with a directory that claims `size` bytes for an entry, and the checksum that goes with the claim."""
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        honest = archive.read(name)
    out = bytearray(body)
    at = out.rfind(name.encode()) - 46
    assert out[at : at + 4] == b"PK\x01\x02"
    struct.pack_into("<I", out, at + 16, zlib.crc32(honest[:size]))
    struct.pack_into("<I", out, at + 24, size)
    return bytes(out)


def test_a_part_that_lies_about_its_size_is_not_unfolded_either() -> None:
    with zipfile.ZipFile(io.BytesIO(PLAIN_DOCX)) as archive:
        document = archive.read("word/document.xml")
    body = repacked(PLAIN_DOCX, {"word/document.xml": document + bytes(200_000_000)})
    body = lying(body, "word/document.xml", len(document))
    assert peak_of(lambda: zipfile.ZipFile(io.BytesIO(body)).read("word/document.xml")) > 150_000_000
    found: list[Document] = []
    assert peak_of(lambda: found.append(read(body))) < 20_000_000
    assert found[0].text == "hello"


def test_too_many_parts_are_refused() -> None:
    def archive(count: int) -> bytes:
        return repacked(PLAIN_DOCX, {f"word/{number}": b"" for number in range(count)}, zipfile.ZIP_STORED)

    for count in (archives.MAX_ENTRIES, 25_000, 70_000):  # the last of these is a zip64
        with pytest.raises(TooLarge, match="too many parts"):
            read(archive(count))


def test_parts_of_the_same_name_or_in_strange_compression_or_encrypted_are_refused() -> None:
    out = io.BytesIO(PLAIN_DOCX)
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(out, "a") as archive:
        archive.writestr("word/document.xml", b"<x/>")
    with pytest.raises(Broken, match="same name"):
        read(out.getvalue())
    for compression in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with pytest.raises(Broken, match="compressed in a way"):
            read(repacked(PLAIN_DOCX, {}, compression))
    encrypted = bytearray(PLAIN_DOCX)
    at = encrypted.rfind(b"word/document.xml") - 46
    encrypted[at + 8] |= 1
    with pytest.raises(Encrypted):
        read(bytes(encrypted))


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
    "body", [b"a\0b\0c", bytes(range(256)) * 10, random.Random(1).randbytes(5000), b"\x01\x02\x03 text with controls"]
)
def test_binary_of_no_known_kind_is_refused(body: bytes) -> None:
    for name in (None, "a.txt", "a.bin"):
        with pytest.raises(Unsupported, match="binary"):
            read(body, name, "text/plain" if name == "a.txt" else None)


@pytest.mark.parametrize("body", [b"", b" \r\n\t ", b"\xef\xbb\xbf"])
def test_an_empty_file_is_refused(body: bytes) -> None:
    with pytest.raises(NoText):
        read(body, "a.txt")


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


def test_html_is_cut_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(b"<p>12345</p>", "a.html", max_chars=5) == Document("12345", "html", False)
    assert read(b"<p>123456</p>", "a.html", max_chars=5) == Document("12345", "html", True)
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
