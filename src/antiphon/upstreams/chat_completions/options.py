"""What an operator tells of a model behind this dialect."""

from typing import Any

import msgspec


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Per-model options, as the configuration file spells them."""

    #: The model takes images.
    images: bool = True
    #: ``<think>`` blocks in the text are reasoning: "off", "tags", or "open" (the template has opened the block).
    think: str = "off"
    #: Earlier reasoning is sent back as ``reasoning_content``.
    replay_reasoning: bool = False
    #: The role that developer messages get; most templates know no "developer".
    developer_role: str = "system"
    #: How the upstream calls the limit of output tokens.
    max_tokens_field: str = "max_tokens"
    #: Members added to every request body.
    extra_body: dict[str, Any] = {}
