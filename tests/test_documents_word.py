"""Word files into text, and archives that were made to do harm."""

import io
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable

import docx
import pytest
from tests.made_files import PLAIN_DOCX, WORD_NAMESPACE, WORD_TYPE, made_docx, read, repacked, with_body

from antiphon.documents import Broken, Document, Encrypted, NoText, TooLarge, archives


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
    spaced = with_body(
        "<w:p><w:r><w:t>start</w:t></w:r></w:p>" + "<w:p/>" * 1000 + "<w:p><w:r><w:t>end</w:t></w:r></w:p>"
    )
    assert read(spaced, max_chars=100) == Document("start", "docx", True)
    assert read(spaced, max_chars=1100).text.endswith("end")


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
        f'<!DOCTYPE x [<!ENTITY l0 "ha"><!ENTITY f SYSTEM "file:///etc/passwd">'
        f"{laughs}]><w:document {WORD_NAMESPACE}><w:body><w:p><w:r><w:t>&f;&l9;</w:t></w:r></w:p></w:body></w:document>"
    )
    with pytest.raises(Broken, match="document type"):
        read(repacked(PLAIN_DOCX, {"word/document.xml": bomb.encode(encoding)}))


def test_no_entity_is_resolved_even_if_a_document_type_slips_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_DOCTYPES", ())
    document = (
        '<!DOCTYPE x [<!ENTITY in "inner"><!ENTITY out SYSTEM "file:///etc/passwd">]>'
        f"<w:document {WORD_NAMESPACE}><w:body><w:p><w:r><w:t>a&in;b</w:t><w:t>c&out;d</w:t></w:r></w:p></w:body>"
        "</w:document>"
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
    huge = b"<!-- " + bytes(40_000_000) + b" -->"
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
        return read(repacked(PLAIN_DOCX, {f"word/media/{number}.bmp": bytes(90_000_000) for number in range(count)}))

    assert attempt(2).text == "hello"
    with pytest.raises(TooLarge, match="unfolds to more"):
        attempt(3)


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
    body = repacked(PLAIN_DOCX, {"word/document.xml": document + bytes(60_000_000)})
    body = lying(body, "word/document.xml", len(document))
    assert peak_of(lambda: zipfile.ZipFile(io.BytesIO(body)).read("word/document.xml")) > 50_000_000
    found: list[Document] = []
    assert peak_of(lambda: found.append(read(body))) < 20_000_000
    assert found[0].text == "hello"


def test_too_many_parts_are_refused() -> None:
    def archive(count: int) -> bytes:
        return repacked(PLAIN_DOCX, {f"word/{number}": b"" for number in range(count)}, zipfile.ZIP_STORED)

    large = bytearray(archive(66_000))  # a zip64
    struct.pack_into("<I", large, large.rfind(b"PK\x05\x06") + 12, 16)  # whose old directory plays it down
    for body in (archive(archives.MAX_ENTRIES), archive(25_000), bytes(large)):

        def attempt(body: bytes = body) -> None:
            with pytest.raises(TooLarge, match="too many parts"):
                read(body)

        assert peak_of(attempt) < 4_000_000


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
