"""The one client for URLs that a request names: images, files, and whatever else is fetched on a client's word.

Such a URL is an attacker's choice of where this server connects to. So each hop is taken apart, its host resolved once,
every address judged by `addresses`, and the connection made to a judged address: aiohttp asks the resolver given to it
and connects to what that returns, so there is no second lookup for a name to change its mind in. Redirects are followed
here, hop by hop, never by aiohttp. It must not know the web layer, the stores or the engine; its errors carry a
sentence that may be shown to the client, and the caller decides what they become.
"""

from antiphon.fetching.fetcher import Fetcher
from antiphon.fetching.outcomes import (
    BadUrl,
    Fetched,
    FetchError,
    Forbidden,
    TimedOut,
    TooLarge,
    Unavailable,
    WrongType,
)

__all__ = (
    "BadUrl",
    "FetchError",
    "Fetched",
    "Fetcher",
    "Forbidden",
    "TimedOut",
    "TooLarge",
    "Unavailable",
    "WrongType",
)
