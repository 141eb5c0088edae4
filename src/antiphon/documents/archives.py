"""Zip archives made by strangers: opened, counted and inflated within limits."""

import io
import struct
import zipfile
import zlib

from antiphon.documents.document import Broken, Encrypted, TooLarge

MAX_ENTRIES = 4000
MAX_DIRECTORY_BYTES = 1024 * 1024
MAX_UNCOMPRESSED_BYTES = 256 * 1024 * 1024
MAX_XML_BYTES = 16 * 1024 * 1024  # as a tree it may take thirty times that

# OPC (ECMA-376, part 2) allows no document type in a part, so none is let near a parser. Were there one: python-docx
# parses with resolve_entities off, lxml opens no network and loads no DTD, and libxml2 caps how far entities grow.
_DOCTYPES = tuple("<!DOCTYPE".encode(encoding) for encoding in ("utf-8", "utf-16-le", "utf-16-be"))
_DAMAGES = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, struct.error, ValueError)


def opened_zip(body: bytes) -> zipfile.ZipFile:
    """The archive, once its directory is known to be small: `zipfile` makes an object of every entry that it lists."""
    end = body.rfind(b"PK\x05\x06", -(65535 + 22))
    size = struct.unpack_from("<I", body, end + 12)[0] if 0 <= end <= len(body) - 22 else None
    if size is None:
        raise Broken("The file is a damaged archive.")
    if size > MAX_DIRECTORY_BYTES or body[max(end - 20, 0) : end].startswith(b"PK\x06\x07"):
        raise TooLarge("The file is an archive of too many parts.")
    try:
        return zipfile.ZipFile(io.BytesIO(body))
    except _DAMAGES as error:
        raise Broken("The file is a damaged archive.") from error


def repacked(body: bytes) -> bytes:
    """The package with its XML parts uncompressed and counted, its pictures and the like emptied, its inner links gone.

    python-docx inflates whole parts, and `zipfile` believes the size an entry claims only after it has inflated it; so
    neither is shown anything whose size has not been seen. Without the links of the document itself it loads no styles,
    which the text does not need, and does not stumble over links to parts that are missing, which Word forgives.
    """
    out, left = io.BytesIO(), MAX_XML_BYTES
    with opened_zip(body) as source, zipfile.ZipFile(out, "w") as clean:
        for entry in _checked_entries(source):
            if entry.filename.endswith(".rels") and entry.filename != "_rels/.rels":
                continue
            part = _inflated(source, entry, left) if entry.filename.endswith((".xml", ".rels")) else b""
            left -= len(part)
            clean.writestr(entry.filename, part)
    return out.getvalue()


def _checked_entries(source: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    entries = source.infolist()
    if len(entries) > MAX_ENTRIES:
        raise TooLarge("The docx file has too many parts.")
    if sum(entry.file_size for entry in entries) > MAX_UNCOMPRESSED_BYTES:
        raise TooLarge(f"The docx file unfolds to more than {MAX_UNCOMPRESSED_BYTES} bytes.")
    if any(entry.flag_bits & 1 for entry in entries):
        raise Encrypted("The docx file is protected by a password.")
    if len({entry.filename for entry in entries}) < len(entries):
        raise Broken("The docx file holds parts of the same name.")
    if any(entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for entry in entries):
        raise Broken("The docx file is compressed in a way that docx does not allow.")
    return entries


def _inflated(source: zipfile.ZipFile, entry: zipfile.ZipInfo, limit: int) -> bytes:
    part = bytearray()
    try:
        with source.open(entry) as stream:
            while chunk := stream.read(65536):
                part += chunk
                if len(part) > limit:
                    raise TooLarge(f"The text of the docx file is larger than {MAX_XML_BYTES} bytes.")
    except _DAMAGES as error:
        raise Broken("The docx file is damaged.") from error
    if any(doctype in part for doctype in _DOCTYPES):
        raise Broken("The docx file holds a document type, which docx does not allow.")
    return bytes(part)
