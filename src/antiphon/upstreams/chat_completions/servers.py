"""Which server speaks the dialect, where that is known: what some can do is in no standard.

Pure.  Servers name themselves as the owner of their models.
"""

VLLM, LLAMACPP = "vllm", "llamacpp"


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
