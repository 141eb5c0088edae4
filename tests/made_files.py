"""Files made for tests: PDF byte by byte, docx by python-docx or part by part."""

import hashlib
import io
import struct
import zipfile
from collections.abc import Callable, Sequence

import docx

from antiphon.documents import Document, text_of

WORD_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


def read(body: bytes, name: str | None = None, content_type: str | None = None, max_chars: int = 1_000_000) -> Document:
    return text_of(body, filename=name, content_type=content_type, max_chars=max_chars)


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


WORD_NAMESPACE = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


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
        f'{WORD_NAMESPACE} xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"'
        ' xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'
    )
    document = f"<?xml version='1.0' encoding='UTF-8'?><w:document {names}><w:body>{xml}</w:body></w:document>"
    return repacked(PLAIN_DOCX, {"word/document.xml": document.encode()})


PLAIN_DOCX = made_docx(lambda document: document.add_paragraph("hello"))
