"""The messages dialect: Anthropic's API, and other engines that speak it."""

from antiphon.upstreams.messages.options import Options
from antiphon.upstreams.messages.upstream import Messages

__all__ = ["Messages", "Options"]
