"""What every upstream over HTTP has, whichever dialect it speaks: its server, its name, what is told of its models."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Generic, TypedDict, TypeVar, Unpack

from antiphon.engine.ports.world import Clock
from antiphon.protocol.requests import CreateResponse
from antiphon.upstreams.calling import Caller
from antiphon.upstreams.http import Timeouts

O = TypeVar("O")  # noqa: E741 - the options of a dialect


#: What clients are told that an upstream is called which was given no name; its host is not theirs to know.
NAMELESS = "upstream"


class Settings(TypedDict, Generic[O], total=False):
    """What an operator may say of an upstream.

    ``name`` is what clients are told that it is called, empty where it was given none, and ``label`` what tells it
    apart from all others, by default its name.  ``pooled``: it is one of several (``Caller``).  ``options`` are those
    of its models, by patterns of their names; ``instance`` is what this server tells others that it is, so that it
    does not ask itself.
    """

    name: str
    label: str
    key: str | None
    timeouts: Timeouts
    retries: int
    pooled: bool
    options: Mapping[str, O]
    instance: str
    ca_file: str | None


class Dialect(Generic[O]):
    """A server at ``base_url``, which ends with its version, as in ``/v1``.

    Raises ``ValueError`` for a URL, key or file of certificates that cannot be used.
    """

    #: The options of models of which nothing is told.
    default: O
    key_header = "authorization"
    headers: Mapping[str, str] = {}

    def __init__(self, base_url: str, clock: Clock, **settings: Unpack[Settings[O]]) -> None:
        self._caller = Caller(
            base_url,
            clock,
            name=settings.get("name", ""),
            key=settings.get("key"),
            key_header=self.key_header,
            headers=self.headers,
            timeouts=settings.get("timeouts", Timeouts()),
            retries=settings.get("retries", 2),
            pooled=settings.get("pooled", False),
            ca_file=settings.get("ca_file"),
        )
        self.base_url = self._caller.base_url
        self.label = settings.get("label", "") or settings.get("name", "")
        #: Whom its models belong to where it does not say.
        self.owner = settings.get("name", "") or NAMELESS
        self._options: Mapping[str, O] = settings.get("options", {})
        self._instance = settings.get("instance", "")

    def options_for(self, model: str) -> O:
        """The first pattern that matches wins."""
        if not self._options:
            return self.default
        return next((told for pattern, told in self._options.items() if fnmatchcase(model, pattern)), self.default)

    def unheeded(self, request: CreateResponse, model: str) -> list[str]:  # noqa: ARG002 - for dialects with gaps
        """Parameters that the dialect has no words for, as paths."""
        return []

    async def reached(self, path: str) -> None:
        """Asks whether the server is well, at a path beside the API's version.  Raises ``UpstreamError``."""
        await self._caller.reached(path)

    async def close(self) -> None:
        """Ends idle connections; busy ones end with their reply."""
        self._caller.close()
