"""Items: what goes into a model's context and what comes out.

An item travels as its JSON bytes; ``Item`` is the view that translators and checks read.
Fields that we do not know stay in the bytes, unharmed.
"""

from typing import Any

import msgspec

NOTHING = msgspec.Raw()


class Part(msgspec.Struct, gc=False):
    """A content part of a message, a tool output or a reasoning item (reference 6.2)."""

    type: str = ""
    text: str | None = None
    refusal: str | None = None
    image_url: str | None = None
    detail: str | None = None
    file_id: str | None = None
    file_url: str | None = None
    file_data: str | None = None
    filename: str | None = None
    #: In an ``agent_message``: what a tool's argument held whose schema marks it as ``encrypted``.
    encrypted_content: str | None = None


class Item(msgspec.Struct):
    """A tolerant view of any item; which fields mean something depends on ``type`` (reference 6.1)."""

    type: str | None = None
    id: str | None = None
    role: str | None = None
    status: str | None = None
    content: msgspec.Raw = NOTHING
    call_id: str | None = None
    name: str | None = None
    namespace: str | None = None
    #: A string where a function is called, an object in some items of hosted tools.
    arguments: Any = None
    output: msgspec.Raw = NOTHING
    input: Any = None
    summary: msgspec.Raw = NOTHING
    encrypted_content: str | None = None
    phase: str | None = None
    #: Of items that bring tools along, and of a tool search.
    tools: msgspec.Raw = NOTHING
    execution: Any = None
    #: Of a configuration update.
    reasoning: msgspec.Raw = NOTHING
    text: msgspec.Raw = NOTHING

    @property
    def kind(self) -> str:
        """The type, where a typeless item with a role is a message and one with only an id a reference."""
        if self.type:
            return self.type
        return "message" if self.role else "item_reference"


decode_item = msgspec.json.Decoder(Item).decode
decode_parts = msgspec.json.Decoder(list[Part]).decode
decode_string = msgspec.json.Decoder(str).decode
decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

#: Item types that a client may send, with the prefix of the id that we give one without (reference 2.6, 6.1).
ID_PREFIXES = {
    "message": "msg_",
    "function_call": "fc_",
    "function_call_output": "fco_",
    "custom_tool_call": "ctc_",
    "custom_tool_call_output": "ctco_",
    "reasoning": "rs_",
    "agent_message": "amsg_",
    "compaction": "cmp_",
    "file_search_call": "fs_",
    "web_search_call": "ws_",
    "computer_call": "cu_",
    "computer_call_output": "cuo_",
    "code_interpreter_call": "ci_",
    "image_generation_call": "ig_",
    "local_shell_call": "lsh_",
    "local_shell_call_output": "lsho_",
    "shell_call": "sh_",
    "shell_call_output": "sho_",
    "apply_patch_call": "apc_",
    "apply_patch_call_output": "apco_",
    "mcp_call": "mcp_",
    "mcp_list_tools": "mcpl_",
    "mcp_approval_request": "mcpr_",
    "mcp_approval_response": "mcpa_",
    "tool_search_call": "tsc_",
    "tool_search_output": "tso_",
    "additional_tools": "at_",
    "configuration_update": "cfg_",
    "program": "prg_",
    "program_output": "prgo_",
}

#: A call item and the item that answers it, joined by ``call_id`` (reference 3.2.10).
ANSWERS = {"function_call_output": "function_call", "custom_tool_call_output": "custom_tool_call"}


def text_of_raw(raw: msgspec.Raw) -> str | list[Part]:
    """A field that is either a string or a list of parts (``content``, ``output``); absent or null is empty."""
    data = bytes(raw).lstrip()
    if not data or data == b"null":
        return ""
    if data[:1] == b'"':
        return decode_string(data)
    return decode_parts(data)
