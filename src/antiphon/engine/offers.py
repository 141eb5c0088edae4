"""What a model is offered to call.  Must not know how any of it is run."""

import msgspec

from antiphon.engine.ports.tools import Tool
from antiphon.protocol.tools import Tool as Declaration


class Hosted(msgspec.Struct, frozen=True):
    """A function that the model sees and this server answers."""

    tool: Tool
    declaration: Declaration


class Offer(msgspec.Struct):
    """A function or custom tool of the model; ``declaration`` is how it sees it, ``source`` how a client wrote it."""

    declaration: Declaration
    source: Declaration
    hosted: Hosted | None = None
    #: It is loaded by a tool search, and ``hidden`` until then.
    deferred: bool = False
    hidden: bool = False
