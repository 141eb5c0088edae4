"""Text files: from bytes in any charset to text."""

import codecs
import re

from antiphon.documents.document import SUPPORTED, Reading, Source, Unsupported

_BOMS = (  # UTF-32 first: its little-endian mark begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Python knows encodings that are no charsets (idna, punycode, unicode_escape), some of them slow on made-up input.
# Only these labels are looked up, also because Python remembers every name that it was ever asked for.
_LABEL = re.compile(
    r"utf-?(?:8|16|32)(?:-?[bl]e)?|(?:us-)?ascii|iso-?8859-\d\d?|latin-?\d|windows-125\d|cp\d{3,4}|koi8-[ru]|macintosh"
    r"|shift-jis|sjis|euc-(?:jp|kr)|iso-2022-(?:jp|kr)|gb2312|gbk|gb18030|big5(?:-hkscs)?"
)
_SINGLE_BYTE = re.compile(r"(?:ascii|iso8859-\d+|cp(?:125\d|437|850|852|866|874)|koi8-[rtu]|mac-\w+)\Z")
_MULTI_BYTE = re.compile(r"(?:utf-(?:8|16|32)(?:-[bl]e)?|shift_jis\w*|cp932|cp949|euc_\w+|iso2022_\w+|gb\w+|big5\w*)\Z")
_CONTROLS = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n\r\f\v\x1b\x85"}
_SAMPLE_CHARS = 65536


def read_text(source: Source) -> Reading:
    """The file as it is, decoded; `Unsupported` if it turns out to be binary."""
    text = decoded(source.body, source.charset)
    sample = text[:_SAMPLE_CHARS]
    if "\0" in sample or len(sample) - len(sample.translate(_CONTROLS)) > len(sample) // 50:
        raise Unsupported(f"The file is binary, of no known kind; {SUPPORTED}.")
    return Reading(text)


def decoded(body: bytes, charset: str) -> str:
    """`body` by its byte order mark, else as UTF-8 or the charset it claims, else as Windows-1252 or Latin-1."""
    for mark, encoding in _BOMS:
        if body.startswith(mark):
            return body.decode(encoding, "replace")
    for encoding in _candidates(charset):
        try:
            return body.decode(encoding)
        except UnicodeDecodeError:
            continue
    return body.decode("latin-1")


def _candidates(charset: str) -> tuple[str, ...]:
    # Servers put `iso-8859-1` on what they know nothing of, so UTF-8, which hardly fits by chance, goes before it.
    try:
        label = charset.lower().replace("_", "-")
        name = codecs.lookup(label).name if _LABEL.fullmatch(label) else ""
    except LookupError:
        name = ""
    if _MULTI_BYTE.match(name):
        return (name, "utf-8", "cp1252")
    # What calls itself Latin-1 is, by the WHATWG's Encoding Standard, Windows-1252.
    return ("utf-8", name, "cp1252") if _SINGLE_BYTE.match(name) and name != "iso8859-1" else ("utf-8", "cp1252")
