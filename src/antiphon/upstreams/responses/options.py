"""What an operator tells of a model behind this dialect."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Per-model options, as the configuration file spells them."""

    images: Annotated[bool, Meta(description="The model takes images.")] = True
    files: Annotated[
        list[str],
        Meta(description="Media types (patterns) of files that the model takes as they are, of others the text."),
    ] = msgspec.field(default_factory=lambda: ["*"])
    encrypted_reasoning: Annotated[
        bool, Meta(description="`reasoning.encrypted_content` is asked for, so that reasoning can be sent back.")
    ] = True
    replay_reasoning: Annotated[
        bool, Meta(description="Earlier reasoning that is not encrypted is sent back as well; OpenAI refuses it.")
    ] = False
    efforts: Annotated[
        list[str],
        Meta(
            description="Efforts of reasoning that the model knows; the next lower one stands for any other.  Empty: "
            "all are passed on."
        ),
    ] = []
    hosted_tools: Annotated[
        list[str],
        Meta(
            description="Patterns of the types of tools that it has itself, as `web_search`, `mcp` or `shell`: they "
            "are declared to it as they come, unless this server has them.  Empty: they are left out."
        ),
    ] = msgspec.field(default_factory=lambda: ["*"])
    forced_calls: Annotated[
        bool,
        Meta(
            description="Its side makes the calls that `tool_choice` demands; otherwise what is said before them is "
            "held back, and a reply without them asked for again."
        ),
    ] = True
    context: Annotated[
        int | None,
        Meta(description="Tokens that fit the model's window, prompt and reply together; unset: nobody knows."),
    ] = None
    extra_body: Annotated[dict[str, Any], Meta(description="Members added to every request body.")] = {}
