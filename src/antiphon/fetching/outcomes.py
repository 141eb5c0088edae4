"""What comes of fetching a URL: its content, or an error with a sentence for the client."""

from dataclasses import dataclass


class FetchError(Exception):
    """A URL could not be fetched. `message` is one sentence for the client; it holds neither addresses nor the URL."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class BadUrl(FetchError):
    """The URL itself is malformed or of a kind that is never fetched."""


class Forbidden(FetchError):
    """The URL, or one that it redirects to, leads to a host, address or port that requests may not name."""


class TooLarge(FetchError):
    """The content is larger than the limit, as declared or as received."""


class TimedOut(FetchError):
    """The content did not arrive in time."""


class Unavailable(FetchError):
    """The host does not exist, does not answer, answers with an error status, or breaks off."""


class WrongType(FetchError):
    """The content is of a type that the caller did not ask for."""


@dataclass(frozen=True)
class Fetched:
    """What a URL led to.

    `url` is the last hop's, without a fragment. `content_type` is lower case and without parameters,
    `application/octet-stream` if the server named none; `content_type_header` is what it sent, with the charset.
    `filename` is a bare name without folders, from Content-Disposition or else the path. `body` is decoded.
    """

    url: str
    content_type: str
    content_type_header: str
    filename: str | None
    body: bytes


def forbidden(host: str) -> Forbidden:
    """No such host is fetched from."""
    return Forbidden(f"The host {host!r} cannot be fetched from: it is not a public host at a usual port.")
