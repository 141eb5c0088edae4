"""The Response object: statuses, usage, and the shell that every snapshot of it is spliced from.

Must not know how a response comes about.  Shapes: responses-api reference, section 2.
"""

import msgspec

TERMINAL = frozenset({"completed", "failed", "incomplete", "cancelled"})
UNFINISHED = frozenset({"queued", "in_progress"})


class InputDetails(msgspec.Struct, gc=False):
    cached_tokens: int = 0
    cache_write_tokens: int = 0


class OutputDetails(msgspec.Struct, gc=False):
    reasoning_tokens: int = 0


class Usage(msgspec.Struct, omit_defaults=False, gc=False):
    """Tokens of all model calls of one run; both detail objects are mandatory (reference 2.3)."""

    input_tokens: int = 0
    input_tokens_details: InputDetails = msgspec.field(default_factory=InputDetails)
    output_tokens: int = 0
    output_tokens_details: OutputDetails = msgspec.field(default_factory=OutputDetails)
    total_tokens: int = 0
    estimated: bool | msgspec.UnsetType = msgspec.UNSET

    def plus(self, other: "Usage") -> "Usage":
        """The sum over two model calls (design decision 13)."""
        mine, theirs = self.input_tokens_details, other.input_tokens_details
        reasoning = self.output_tokens_details.reasoning_tokens + other.output_tokens_details.reasoning_tokens
        return Usage(
            self.input_tokens + other.input_tokens,
            InputDetails(
                mine.cached_tokens + theirs.cached_tokens, mine.cache_write_tokens + theirs.cache_write_tokens
            ),
            self.output_tokens + other.output_tokens,
            OutputDetails(reasoning),
            self.total_tokens + other.total_tokens,
            True if self.estimated is True or other.estimated is True else msgspec.UNSET,
        )


class ResponseError(msgspec.Struct, gc=False):
    """``response.error``; the list of codes is open (reference 2.5)."""

    code: str
    message: str


class Outcome(msgspec.Struct, gc=False):
    """What a response came to: everything in it that its request does not decide, but for the output items."""

    status: str = "in_progress"
    completed_at: int | None = None
    error: ResponseError | None = None
    incomplete_reason: str | None = None
    usage: Usage | None = None


class Shell(msgspec.Struct):
    """The part of a Response that its request decides, as JSON members, encoded once.

    ``small`` holds the short members, ``large`` the big ones by name (tools, instructions, text), which the
    store keeps once per project.  Both are spliced into events, rows and replies without decoding.
    """

    id: str
    created_at: int
    background: bool
    small: bytes
    large: dict[str, bytes] = {}
    tail: bytes = b""

    def __post_init__(self) -> None:
        members = [self.small, *(b'"%b":%b' % (name.encode(), value) for name, value in self.large.items())]
        self.tail = b",".join(part for part in members if part)

    def snapshot(self, outcome: Outcome, output: bytes = b"[]") -> bytes:
        """The whole Response as JSON bytes; ``output`` is the JSON array of its items."""
        details = {"reason": outcome.incomplete_reason} if outcome.incomplete_reason else None
        return (
            b'{"id":"%b","object":"response","created_at":%d,"status":"%b","background":%b,"completed_at":%b,'
            b'"error":%b,"incomplete_details":%b,"output":%b,"usage":%b,%b}'
        ) % (
            self.id.encode(),
            self.created_at,
            outcome.status.encode(),
            b"true" if self.background else b"false",
            b"null" if outcome.completed_at is None else b"%d" % outcome.completed_at,
            msgspec.json.encode(outcome.error),
            msgspec.json.encode(details),
            output,
            msgspec.json.encode(outcome.usage),
            self.tail,
        )
