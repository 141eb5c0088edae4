"""A model request as the body of ``POST /chat/completions``.

Must not know of sockets.  Pure: the same request gives the same bytes, so that prefix caches hit.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from antiphon.engine.ports.upstreams import ContextItem, ModelRequest
from antiphon.protocol.items import ANSWERS, Item, Part, text_of_raw
from antiphon.protocol.requests import CreateResponse
from antiphon.protocol.tools import Tool
from antiphon.upstreams.agent_messages import as_message
from antiphon.upstreams.chat_completions.options import Options
from antiphon.upstreams.custom_tools import arguments_of, description_of, parameters_of
from antiphon.upstreams.efforts import clamped

encode = msgspec.json.encode

Message = dict[str, Any]

#: What servers with a parameter for it know.
EFFORTS = ("none", "low", "medium", "high")


def form_of(asked: ModelRequest, options: Options, *, stream: bool, thinking: bool = True) -> dict[str, Any]:
    """The members of the body; with ``thinking`` False the chat template is told that the model does not think."""
    request = asked.request
    body: dict[str, Any] = {"model": asked.model, "messages": messages(asked, options), "stream": stream}
    if stream:
        body["stream_options"] = {"include_usage": True}
    given = _sampling(request, options) | (_openai_parameters(request) if options.openai_parameters else {})
    body |= {name: value for name, value in given.items() if value is not None}
    body |= _tools(asked)
    body |= _format(request)
    if asked.prefix is not None:
        # vLLM and llama.cpp alike; where llama.cpp does not know the two it goes on with a last assistant message.
        body |= {"continue_final_message": True, "add_generation_prompt": False}
    body |= options.extra_body
    if not thinking:
        body["chat_template_kwargs"] = {**(body.get("chat_template_kwargs") or {}), "enable_thinking": False}
    return body


def _sampling(request: CreateResponse, options: Options) -> dict[str, Any]:
    return {
        options.max_tokens_field: request.max_output_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "presence_penalty": request.presence_penalty,
        "frequency_penalty": request.frequency_penalty,
        "logprobs": True if request.wants_logprobs else None,
        "top_logprobs": request.top_logprobs if request.wants_logprobs else None,
        "reasoning_effort": _effort(request, options),
        "user": request.user,
    }


def _effort(request: CreateResponse, options: Options) -> str | None:
    """OpenAI tells itself what a model does not know; other servers refuse the whole request."""
    known = options.efforts if options.efforts is not None else () if options.openai_parameters else EFFORTS
    return clamped(request.reasoning.effort if request.reasoning else None, known)


def _openai_parameters(request: CreateResponse) -> dict[str, Any]:
    """What other servers may refuse."""
    return {
        "verbosity": request.text.verbosity if request.text else None,
        "service_tier": request.service_tier,
        "prompt_cache_key": request.prompt_cache_key,
        "safety_identifier": request.safety_identifier,
    }


# --- Tools and format ---


def _tools(asked: ModelRequest) -> dict[str, Any]:
    choice = asked.choice
    offered = [tool for tool in asked.tools if choice.type != "allowed_tools" or tool.name in choice.names]
    # With "none" the model is to call nothing: not offering is the form that every server honours.
    if not offered or choice.mode == "none":
        return {}
    body: dict[str, Any] = {"tools": [_function(tool) for tool in offered]}
    if choice.mode == "required" and asked.force_choice:
        named = choice.type == "function"
        body["tool_choice"] = {"type": "function", "function": {"name": choice.names[0]}} if named else "required"
    if asked.request.parallel_tool_calls is not None:
        body["parallel_tool_calls"] = asked.request.parallel_tool_calls
    return body


def _function(tool: Tool) -> dict[str, Any]:
    """The dialect has functions only: a custom tool is one with a single string."""
    function: dict[str, Any] = {"name": tool.name}
    if tool.type == "custom":
        if description := description_of(tool):
            function["description"] = description
        return {"type": "function", "function": {**function, "parameters": parameters_of(tool)}}
    if tool.description:
        function["description"] = tool.description
    if bytes(tool.parameters) != b"null":
        function["parameters"] = tool.parameters
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _format(request: CreateResponse) -> dict[str, Any]:
    form = request.text.format if request.text else None
    if form is None or form.type == "text":
        return {}
    if form.type == "json_object":
        return {"response_format": {"type": "json_object"}}
    schema: dict[str, Any] = {"name": form.name, "schema": form.schema}
    if form.description is not None:
        schema["description"] = form.description
    if form.strict is not None:
        schema["strict"] = form.strict
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


# --- Messages ---


def messages(asked: ModelRequest, options: Options) -> list[Message]:
    """Instructions first, then the items (reference 3.1); leading system messages are one, since many templates
    refuse a second."""
    built = _Builder(options)
    if asked.request.instructions:
        built.instruct("system", asked.request.instructions)
    for item in asked.items:
        built.add(item)
    if asked.prefix is not None:
        built.go_on(asked.prefix, asked.items)
    return _merge_head(built.finished(), all_of_them=options.fold_system)


def _merge_head(built: list[Message], *, all_of_them: bool) -> list[Message]:
    """Leading system messages as one, or all of them."""
    head: list[Message] = []
    rest: list[Message] = []
    for message in built:
        leads = message["role"] == "system" and isinstance(message["content"], str) and (all_of_them or not rest)
        (head if leads else rest).append(message)
    if not head:
        return rest
    return [{"role": "system", "content": "\n\n".join(message["content"] for message in head)}, *rest]


class _Builder:
    """Puts items together to messages: text, reasoning and calls of one turn share an assistant message."""

    def __init__(self, options: Options) -> None:
        self.messages: list[Message] = []
        self._options = options
        self._shown: list[Part] = []
        self._instructions: set[str | bytes] = set()
        #: Calls whose outputs are to come, and messages that wait for them: the dialect wants the outputs next.
        self._open: set[str | None] = set()
        self._held: list[Item] = []

    def add(self, item: ContextItem) -> None:
        view = as_message(item.view)
        handler = _HANDLERS.get(view.kind)
        if handler is None:
            return
        if self._open and view.kind == "message" and not self._goes_on(view):
            self._held.append(view)
            return
        if view.kind not in ANSWERS and not self._open:
            self._show_files()
        handler(self, view)

    def _goes_on(self, item: Item) -> bool:
        """It joins the message that has the open calls."""
        return item.role == "assistant" and bool(self.messages) and self.messages[-1]["role"] == "assistant"

    def _release(self) -> None:
        if self._held:
            self._show_files()
        for item in self._held:
            self.message(item)
        self._held = []

    def finished(self) -> list[Message]:
        """All messages; one of the assistant has calls or text, if only an empty one."""
        self._release()
        self._show_files()
        for message in self.messages:
            if message["role"] == "assistant" and message["content"] is None and "tool_calls" not in message:
                message["content"] = ""
        return self.messages

    def message(self, item: Item) -> None:
        content = text_of_raw(item.content)
        if item.role == "assistant":
            message = self._assistant()
            message["content"] = _join(message["content"], _plain(content))
            return
        shown = content if isinstance(content, str) else _parts(content)
        if item.role == "user":
            self.messages.append({"role": "user", "content": shown})
        else:
            self.instruct(self._options.developer_role if item.role == "developer" else "system", shown)

    def instruct(self, role: str, content: str | list[Message]) -> None:
        """Instructions once: clients that continue a response send theirs again with every turn."""
        key = content if isinstance(content, str) else encode(content)
        if key not in self._instructions:
            self._instructions.add(key)
            self.messages.append({"role": role, "content": content})

    def reasoning(self, item: Item) -> None:
        if self._options.replay_reasoning:
            self._think(item)

    def _think(self, item: Item) -> None:
        text = _plain(text_of_raw(item.content)) or _plain(text_of_raw(item.summary))
        if text:
            self._assistant(fresh=True)["reasoning_content"] = text

    def go_on(self, prefix: str, items: Sequence[ContextItem]) -> None:
        """The reply that was cut comes last, with what the model thought just before it: that is no earlier turn's."""
        self._release()
        self._show_files()
        if items and items[-1].view.kind == "reasoning" and not self._options.replay_reasoning:
            self._think(items[-1].view)
        message = self._assistant()
        message["content"] = _join(message["content"], prefix)

    def call(self, item: Item) -> None:
        self._call(item, item.arguments or "{}")

    def custom_call(self, item: Item) -> None:
        """A call of a custom tool, as what the tool is shown as."""
        text = item.input if isinstance(item.input, str) else encode(item.input).decode()
        self._call(item, arguments_of(text))

    def _call(self, item: Item, arguments: str) -> None:
        calls = self._assistant().setdefault("tool_calls", [])
        function = {"name": item.name, "arguments": arguments}
        calls.append({"id": item.call_id, "type": "function", "function": function})
        self._open.add(item.call_id)

    def output(self, item: Item) -> None:
        content = text_of_raw(item.output)
        text = content if isinstance(content, str) else _plain(content)
        self.messages.append({"role": "tool", "tool_call_id": item.call_id, "content": text})
        if not isinstance(content, str):
            self._shown += [part for part in content if part.type in _NO_TEXT]
        self._open.discard(item.call_id)
        if not self._open:
            self._release()

    def _show_files(self) -> None:
        """The dialect's tool messages hold text only; images and files follow as the user's, all of a turn at once."""
        if self._shown:
            self.messages.append({"role": "user", "content": _parts(self._shown)})
            self._shown = []

    def _assistant(self, *, fresh: bool = False) -> Message:
        last = self.messages[-1] if self.messages else None
        if last is None or last["role"] != "assistant" or (fresh and last.keys() & {"tool_calls", "reasoning_content"}):
            last = {"role": "assistant", "content": None}
            self.messages.append(last)
        return last


_HANDLERS = {
    "message": _Builder.message,
    "reasoning": _Builder.reasoning,
    "function_call": _Builder.call,
    "function_call_output": _Builder.output,
    "custom_tool_call": _Builder.custom_call,
    "custom_tool_call_output": _Builder.output,
}


def _plain(content: str | list[Part]) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part.text or part.refusal or "" for part in content if part.type not in _NO_TEXT)


_NO_TEXT = ("input_image", "input_file")


def _join(before: str | None, text: str) -> str:
    return f"{before}\n{text}" if before else text


def _parts(parts: Sequence[Part]) -> str | list[Message]:
    """A plain string where there is only text: older servers take nothing else."""
    if all(part.type not in _NO_TEXT for part in parts):
        return _plain(list(parts))
    return [_part(part) for part in parts]


def _part(part: Part) -> Message:
    if part.type == "input_image":
        image: dict[str, Any] = {"url": part.image_url}
        if part.detail in ("low", "high", "auto"):
            image["detail"] = part.detail
        return {"type": "image_url", "image_url": image}
    if part.type == "input_file":
        file = {"filename": part.filename, "file_data": part.file_data}
        return {"type": "file", "file": {name: value for name, value in file.items() if value is not None}}
    return {"type": "text", "text": part.text or ""}
