"""Images and files that requests point at, fetched and read: ``engine.ports.world.Attachments``.

Must not know what the model does with them.
"""

import asyncio
import base64
import binascii
import mimetypes
import re
from collections import OrderedDict
from urllib.parse import unquote_to_bytes

from antiphon.documents import DocumentError, text_of
from antiphon.fetching import Fetched, Fetcher, FetchError
from antiphon.protocol.errors import ApiError, invalid

_PDF, _PDF_MAGIC, _UNKNOWN = "application/pdf", b"%PDF-", "application/octet-stream"
#: Readers of PDF look for its mark in so many bytes.
PDF_HEAD_BYTES = 1024
_MEDIA_TYPE = re.compile(r"(?P<kind>[\w.+-]+/[\w.+-]+)(?P<charset>;charset=[\w-]+)?")
#: Image types that models take, by their first bytes.
_IMAGES = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif", b"RIFF": "image/webp"}


class FetchedAttachments:
    """Everything goes through the one ``Fetcher``; documents are read in a thread."""

    def __init__(self, fetcher: Fetcher, document_max_chars: int, cache_bytes: int = 0) -> None:
        self._fetcher = fetcher
        self._max_chars = document_max_chars
        self._cache_bytes = cache_bytes
        self._cached: OrderedDict[str, Fetched] = OrderedDict()
        self._cached_bytes = 0

    async def image(self, url: str, param: str) -> str:
        if url.startswith("data:"):
            kind, data = _parse_data_url(url, param)
            if not kind.startswith("image/"):
                raise invalid(f"Invalid image data in '{param}': expected an image, but got '{kind}'.", param)
            if not data:
                raise invalid(f"Invalid image data in '{param}': it is empty.", param, "empty_image_file")
            return url
        data = (await self._fetch(url, param, "failed_to_download_image", ("image/*",)))[0]
        kind = next((name for magic, name in _IMAGES.items() if data.startswith(magic)), "")
        if not kind:
            message = f"The file at the URL in '{param}' is no PNG, JPEG, GIF or WebP image."
            raise invalid(message, param, "unsupported_image_media_type")
        return f"data:{kind};base64,{base64.b64encode(data).decode()}"

    async def text(self, url: str | None, data: str | None, filename: str | None, param: str) -> str:
        kind: str | None = None
        if url is not None:
            body, kind, found = await self._fetch(url, f"{param}.file_url", "failed_to_download_file")
            filename = filename or found
        elif data is not None and data.startswith("data:"):
            kind, body = _parse_data_url(data, f"{param}.file_data")
        else:
            body = _from_base64(data or "", f"{param}.file_data")
        try:
            document = await asyncio.to_thread(
                text_of, body, filename=filename, content_type=kind, max_chars=self._max_chars
            )
        except DocumentError as error:
            raise invalid(f"Cannot read the file in '{param}': {error}", param, "invalid_file") from None
        return document.text + ("\n[The file goes on.]" if document.truncated else "")

    async def file(self, url: str, param: str) -> tuple[str, str]:
        body, kind, name = await self._fetch(url, param, "failed_to_download_file")
        kind = _kind_of(body, kind, name)
        name = name or f"file{mimetypes.guess_extension(kind.partition(';')[0]) or ''}"
        return name, f"data:{kind};base64,{base64.b64encode(body).decode()}"

    async def _fetch(
        self, url: str, param: str, code: str, accept: tuple[str, ...] = ()
    ) -> tuple[bytes, str, str | None]:
        fetched = self._cached.get(url)
        if fetched is None:
            try:
                fetched = await self._fetcher.get(url, accept=accept)
            except FetchError as error:
                raise invalid(f"Cannot fetch the URL in '{param}': {error}", param, code) from None
            self._keep(url, fetched)
        return fetched.body, fetched.content_type_header, fetched.filename

    def _keep(self, url: str, fetched: Fetched) -> None:
        """Each turn of a chain sees the images of the earlier ones; they are not fetched again each time."""
        if len(fetched.body) > self._cache_bytes or url in self._cached:
            return
        self._cached[url] = fetched
        self._cached_bytes += len(fetched.body)
        while self._cached_bytes > self._cache_bytes:
            _, oldest = self._cached.popitem(last=False)
            self._cached_bytes -= len(oldest.body)


def _kind_of(body: bytes, told: str, filename: str | None) -> str:
    """The media type of a file: servers may tell none, and may answer with a page where a PDF was."""
    if _PDF_MAGIC in body[:PDF_HEAD_BYTES]:
        return _PDF
    found = _MEDIA_TYPE.match(re.sub(r"[\s\"]", "", told.lower()))
    kind = found["kind"] if found else _UNKNOWN
    if kind == _UNKNOWN:
        kind = mimetypes.guess_type(filename or "")[0] or _UNKNOWN
    if kind == _PDF:
        return _UNKNOWN
    return kind + (found["charset"] or "" if found else "")


def _parse_data_url(url: str, param: str) -> tuple[str, bytes]:
    head, comma, data = url[5:].partition(",")
    if not comma:
        raise invalid(f"Invalid data URL in '{param}'.", param, "invalid_base64_image")
    if head.endswith(";base64"):
        return head.removesuffix(";base64") or "text/plain", _from_base64(data, param)
    return head or "text/plain", unquote_to_bytes(data)


def _from_base64(text: str, param: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ApiError(400, f"Invalid base64 in '{param}'.", code="invalid_base64", param=param) from None
