"""What an operator tells of a model behind this dialect."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Per-model options, as the configuration file spells them."""

    images: Annotated[bool, Meta(description="The model takes images.")] = True
    files: Annotated[
        list[str],
        Meta(
            description="Media types (patterns) of files that the model takes as they are, of others the text.  "
            "The API knows PDF and plain text."
        ),
    ] = msgspec.field(default_factory=lambda: ["application/pdf"])
    max_tokens: Annotated[
        int, Meta(ge=1, description="The limit of output tokens, which this API demands, of requests without one.")
    ] = 32_000
    thinking: Annotated[
        str,
        Meta(
            pattern="^(adaptive|budget|off)$",
            description="How `reasoning.effort` is told: `adaptive`, as a `budget` to older models, or `off`.",
        ),
    ] = "adaptive"
    efforts: Annotated[
        list[str], Meta(description="Efforts that the model knows; the next lower one stands for any other.")
    ] = msgspec.field(default_factory=lambda: ["low", "medium", "high", "max"])
    prefill: Annotated[
        bool,
        Meta(
            description="The model goes on in place with a reply that a crash has cut; Claude did before version 4.6."
        ),
    ] = False
    structured_outputs: Annotated[
        bool, Meta(description="The model's output is bound to schemas that the request calls strict.")
    ] = True
    cache: Annotated[bool, Meta(description="The prompt is marked so that the next turn finds it cached.")] = True
    version: Annotated[str, Meta(description="The header `anthropic-version`.")] = "2023-06-01"
    beta: Annotated[list[str], Meta(description="What the header `anthropic-beta` names.")] = []
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
