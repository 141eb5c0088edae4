"""The Responses dialect: OpenAI's own API, and other engines that speak it."""

from antiphon.upstreams.responses.options import Options
from antiphon.upstreams.responses.upstream import Responses

__all__ = ["Options", "Responses"]
