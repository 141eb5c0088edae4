"""Errors that only servers of this dialect make; what all have in common stands in ``upstreams.failures``."""

from antiphon.engine.ports.upstreams import UpstreamError
from antiphon.upstreams.failures import failure_of

__all__ = ["failure_of", "refuses_thinking"]


def refuses_thinking(error: UpstreamError) -> bool:
    """llama.cpp before 2026-05 goes on with a reply only where the chat template is told that the model does not think.

    https://github.com/ggml-org/llama.cpp/issues/21889
    """
    return error.status == 400 and "prefill is incompatible with enable_thinking" in error.message
