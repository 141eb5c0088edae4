"""What kind of file some bytes are: by their beginning, then by the content type, then by the extension."""

from pathlib import PurePosixPath

from antiphon.documents.archives import opened_zip
from antiphon.documents.document import SUPPORTED, Broken, Unsupported

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"GIF87a", "an image"),
    (b"GIF89a", "an image"),
    (b"II*\0", "an image"),
    (b"MM\0*", "an image"),
    (b"RIFF", "an image, sound or video"),
    (b"OggS", "sound or video"),
    (b"ID3", "sound"),
    (b"fLaC", "sound"),
    (b"\x1a\x45\xdf\xa3", "a video"),
    (b"\x1f\x8b", "an archive"),
    (b"7z\xbc\xaf\x27\x1c", "an archive"),
    (b"Rar!\x1a\x07", "an archive"),
    (b"\xfd7zXZ\0", "an archive"),
    (b"\x28\xb5\x2f\xfd", "an archive"),
    (b"SQLite format 3\0", "a database"),
    (b"\x7fELF", "a program"),
    (b"{\\rtf", "RTF"),
    # OLE: doc, xls and ppt of old, and what Office makes of a docx with a password.
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old or password-protected Office file"),
)
_ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_ZIP_FOLDERS = {"word": "docx", "xl": "a spreadsheet", "ppt": "a presentation"}

_KINDS_BY_TYPE = {
    "application/pdf": "pdf",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "text/html": "html",
    "application/xhtml+xml": "html",
    "text/markdown": "markdown",
    "text/x-markdown": "markdown",
    "text/csv": "csv",
    "text/tab-separated-values": "csv",
    "application/json": "json",
    "text/json": "json",
    "application/x-ndjson": "json",
    "application/xml": "xml",
    "text/xml": "xml",
    "image/svg+xml": "xml",
    "text/css": "code",
    "text/javascript": "code",
    "application/javascript": "code",
    "application/typescript": "code",
    "application/sql": "code",
}
_EXTENSIONS = {
    "pdf": ".pdf",
    "docx": ".docx",
    "html": ".html .htm .xhtml",
    "markdown": ".md .markdown .mdx",
    "csv": ".csv .tsv",
    "json": ".json .jsonl .ndjson",
    "xml": ".xml .svg",
    "text": ".txt .log .tex .rst",
    "code": ".asm .bash .bat .c .cc .clj .cmake .cpp .cs .css .cxx .dart .dockerfile .erl .ex .exs .f90 .fs .go .gradle"
    " .graphql .groovy .h .hpp .hs .ini .ipynb .java .jl .js .jsx .kt .less .lua .m .mjs .ml .mm .nim .php .pl .proto"
    " .ps1 .py .pyi .r .rb .rs .sass .scala .scss .sh .sol .sql .svelte .swift .tcl .tf .toml .ts .tsx .v .vb .vhdl"
    " .vue .yaml .yml .zig .zsh",
}
_KINDS_BY_EXTENSION = {extension: kind for kind, extensions in _EXTENSIONS.items() for extension in extensions.split()}


def kind_of(body: bytes, filename: str | None, content_type: str | None) -> str:
    """The kind of a file that can be read; `Unsupported` or `Broken` for any other."""
    media_type = (content_type or "").partition(";")[0].strip().lower()
    declared = _kind_by_type(media_type)
    named = _KINDS_BY_EXTENSION.get(PurePosixPath(filename or "").suffix.lower())
    kind = declared if declared not in (None, "text") else named or "text"
    by_bytes = _kind_by_bytes(body, expected=kind)
    if by_bytes:
        return by_bytes
    # The usual tables call TypeScript a video, so an extension that means text outweighs that.
    is_video = media_type.startswith("video/") and not named
    if not declared and (is_video or media_type.startswith(("image/", "audio/", "font/"))):
        raise Unsupported(f"The file is of type {media_type[:100]!r}; {SUPPORTED}.")
    if kind in ("pdf", "docx"):
        raise Broken(f"The file is called a {kind} file but is not one.")
    return kind


def _kind_by_type(media_type: str) -> str | None:
    if media_type.endswith(("+json", "+xml")) and media_type not in _KINDS_BY_TYPE:
        return media_type.rpartition("+")[2]
    return _KINDS_BY_TYPE.get(media_type, "text" if media_type.startswith("text/") else None)


def _kind_by_bytes(body: bytes, expected: str) -> str | None:
    # Readers of PDF look for its header in the first kilobyte; a text may well mention one there.
    if body.startswith(b"%PDF-") or (expected == "pdf" and b"%PDF-" in body[:1024]):
        return "pdf"
    if body.startswith(_ZIP_STARTS):
        return _kind_of_zip(body)
    found = next((label for magic, label in _MAGIC if body.startswith(magic)), None)
    if body[4:8] == b"ftyp":
        found = "an image or video"
    if found:
        raise Unsupported(f"The file is {found}; {SUPPORTED}.")
    return None


def _kind_of_zip(body: bytes) -> str:
    with opened_zip(body) as archive:
        folders = {name.partition("/")[0] for name in archive.namelist()}
    found = next((kind for folder, kind in _ZIP_FOLDERS.items() if folder in folders), "an archive")
    if found != "docx":
        raise Unsupported(f"The file is {found}; {SUPPORTED}.")
    return found
