"""Which server speaks the dialect, where that is known: what some can do is in no standard.

Pure.  Servers name themselves as the owner of their models.
"""

import msgspec

VLLM, LLAMACPP = "vllm", "llamacpp"


class Generation(msgspec.Struct):
    """What llama.cpp generates with; ``n_ctx`` is the window of a slot, in tokens."""

    n_ctx: int | None = None


class Properties(msgspec.Struct):
    """``GET /props`` of llama.cpp."""

    default_generation_settings: Generation = msgspec.field(default_factory=Generation)


def has_own_form(server: str | None, model: str) -> bool:
    """vLLM renders the prompts of gpt-oss without the chat template: it can neither go on with a reply nor count."""
    return server == VLLM and "gpt-oss" in model.lower().replace("_", "-")


def goes_on(server: str | None, model: str) -> bool:
    """Whether it goes on with a reply that was cut."""
    return server in (VLLM, LLAMACPP) and not has_own_form(server, model)


def enforces(server: str | None) -> bool:
    """Whether its grammars keep a reply to ``response_format``."""
    return server in (VLLM, LLAMACPP)


def forces(server: str | None) -> bool:
    """Whether it makes the calls that ``tool_choice`` demands; llama.cpp lets the model talk instead."""
    return server == VLLM
