"""What an operator tells of a model behind this dialect."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Per-model options, as the configuration file spells them."""

    images: Annotated[bool, Meta(description="The model takes images.")] = True
    files: Annotated[
        list[str] | None,
        Meta(
            description="Patterns of the media types of files that the model takes as they are; of others it gets the "
            "text.  Unset: PDF with `openai_parameters`, else none."
        ),
    ] = None
    think: Annotated[
        str,
        Meta(
            pattern="^(off|tags|open)$",
            description="`<think>` blocks in the text are reasoning: `off`, `tags`, or `open` where the chat template "
            "has opened the block.",
        ),
    ] = "off"
    prefill: Annotated[
        bool | None,
        Meta(
            description="The model goes on in place with a reply that a crash has cut; unset: where the upstream's "
            "list of models says that it is vLLM or llama.cpp."
        ),
    ] = None
    strict: Annotated[
        bool | None,
        Meta(
            description="Its side enforces the schemas of `strict` text and functions, so that they stream; unset: "
            "text where the list of models says that it is vLLM or llama.cpp, both with `openai_parameters`."
        ),
    ] = None
    forced_calls: Annotated[
        bool | None,
        Meta(
            description="Its side makes the calls that `tool_choice` demands, so that all else streams; "
            "unset: where the list of models says that it is vLLM, and with `openai_parameters`."
        ),
    ] = None
    replay_reasoning: Annotated[bool, Meta(description="Earlier reasoning is sent back as `reasoning_content`.")] = (
        False
    )
    developer_role: Annotated[
        str, Meta(description="The role that developer messages get; most templates know no `developer`.")
    ] = "system"
    max_tokens_field: Annotated[str, Meta(description="How the upstream calls the limit of output tokens.")] = (
        "max_tokens"
    )
    efforts: Annotated[
        list[str] | None,
        Meta(
            description="Efforts of reasoning that the model knows; the next lower one stands for any other.  Unset: "
            "`none`, `low`, `medium` and `high`, or with `openai_parameters` all."
        ),
    ] = None
    openai_parameters: Annotated[
        bool,
        Meta(
            description="`text.verbosity`, `service_tier`, `prompt_cache_key` and `safety_identifier` are passed on; "
            "for OpenAI and what knows them."
        ),
    ] = False
    fold_system: Annotated[
        bool,
        Meta(
            description="Later system messages join those at the head, for chat templates that refuse them in between."
        ),
    ] = False
    context: Annotated[
        int | None,
        Meta(
            description="Tokens that fit the model's window, prompt and reply together; unset: what vLLM or "
            "llama.cpp say themselves.",
        ),
    ] = None
    extra_body: Annotated[dict[str, Any], Meta(description="Members added to every request body.")] = {}
