"""Items put together to messages: the user's and the assistant's turns by turns, instructions apart.

Pure.  Must not know of parameters.  What the API demands: the user begins and ends, and the results of a message's
calls come next, first of all and all at once.
"""

from collections.abc import Sequence
from typing import Any

from antiphon.engine.ports.upstreams import ContextItem
from antiphon.protocol.items import ANSWERS, Item, Part, text_of_raw
from antiphon.upstreams.agent_messages import as_message
from antiphon.upstreams.custom_tools import arguments_of
from antiphon.upstreams.messages.blocks import Block, CallIds, blocks_of, text_block, tool_input
from antiphon.upstreams.opaque import unwrapped

Message = dict[str, Any]

#: What the user says where the API wants him to and he has not.
BEGIN, GO_ON = "Begin.", "Go on."
#: A block of reasoning, as the API wants it back unchanged.
THINKING = ("thinking", "redacted_thinking")


class Conversation:
    """The messages of a context.  ``maker`` is who signed the thoughts that go back; None: none do."""

    def __init__(self, maker: str | None) -> None:
        self.messages: list[Message] = []
        self.system: list[str] = []
        self._maker = maker
        self._ids = CallIds()
        #: Calls whose results are to come, results that have, and messages that wait for the rest.
        self._open: set[str | None] = set()
        self._results: list[Block] = []
        self._held: list[Item] = []

    def take(self, items: Sequence[ContextItem]) -> None:
        """All items of the context, in order."""
        for item in items:
            view = as_message(item.view)
            handler = _HANDLERS.get(view.kind)
            if handler is not None:
                handler(self, view)

    def instruct(self, text: str) -> None:
        """Instructions once: clients that continue a response send theirs again with every turn."""
        if text.strip() and text not in self.system:
            self.system.append(text)

    def end(self, prefix: str | None = None) -> None:
        """The user has the first word and the last, but for a reply that is to be gone on with."""
        self._answer()
        if not self.messages or self.messages[0]["role"] != "user":
            self.messages.insert(0, {"role": "user", "content": text_block(BEGIN)})
        if prefix is not None:
            self._say("assistant", text_block(prefix))
        elif self.messages[-1]["role"] != "user":
            self._say("user", text_block(GO_ON))

    @property
    def thinks_before_calls(self) -> bool:
        """Whether results follow a turn that began without a thought, which a model with a budget does not take."""
        if len(self.messages) < 2 or self.messages[-1]["content"][0]["type"] != "tool_result":
            return True
        before = self.messages[-2]
        return before["role"] == "assistant" and before["content"][0]["type"] in THINKING

    # --- Items ---

    def _message(self, item: Item) -> None:
        content = text_of_raw(item.content)
        if item.role in ("system", "developer"):
            self.instruct(_plain(content))
        elif item.role == "assistant":
            self._comment(text_block(_plain(content)))
        elif self._open:
            self._held.append(item)
        else:
            self._say("user", blocks_of(content))

    def _reasoning(self, item: Item) -> None:
        thought = unwrapped(self._maker, item.encrypted_content, dict[str, Any]) if self._maker is not None else None
        if thought is not None and thought.get("type") in THINKING:
            self._say("assistant", [thought])

    def _function_call(self, item: Item) -> None:
        self._call(item, item.arguments if isinstance(item.arguments, str) else "")

    def _custom_call(self, item: Item) -> None:
        """A call of a custom tool, as what the tool is shown as."""
        self._call(item, arguments_of(item.input if isinstance(item.input, str) else ""))

    def _call(self, item: Item, arguments: str) -> None:
        block: Block = {"type": "tool_use", "id": self._ids.begin(item.call_id), "name": item.name}
        block["input"] = tool_input(arguments)
        self._say("assistant", [block])
        self._open.add(item.call_id)

    def _output(self, item: Item) -> None:
        block: Block = {"type": "tool_result", "tool_use_id": self._ids.of(item.call_id)}
        content = text_of_raw(item.output)
        shown = blocks_of(content)
        if shown:
            block["content"] = content if isinstance(content, str) else shown
        self._results.append(block)
        self._open.discard(item.call_id)
        if not self._open:
            self._answer()

    # --- Messages ---

    def _answer(self) -> None:
        """All results are here: they come first, then what was said meanwhile."""
        results, self._results = self._results, []
        self._say("user", results)
        held, self._held = self._held, []
        self._open.clear()
        for item in held:
            self._message(item)

    def _comment(self, blocks: list[Block]) -> None:
        """What the assistant says; before its calls while those are open, since their results come next."""
        if not self._open or not blocks:
            self._say("assistant", blocks)
            return
        content = self.messages[-1]["content"]
        first = next(index for index, block in enumerate(content) if block["type"] == "tool_use")
        content[first:first] = blocks

    def _say(self, role: str, blocks: list[Block]) -> None:
        """Messages of the same role are one."""
        if not blocks:
            return
        if self.messages and self.messages[-1]["role"] == role:
            self.messages[-1]["content"] += blocks
        else:
            self.messages.append({"role": role, "content": list(blocks)})


_HANDLERS = {
    "message": Conversation._message,
    "reasoning": Conversation._reasoning,
    "function_call": Conversation._function_call,
    "custom_tool_call": Conversation._custom_call,
    **dict.fromkeys(ANSWERS, Conversation._output),
}


def _plain(content: str | list[Part]) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part.text or part.refusal or "" for part in content)
