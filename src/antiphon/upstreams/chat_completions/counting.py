"""Counts a prompt's tokens by the server's own tokenizer and chat template.

Must not know of sockets.  None wherever the server cannot say it.
"""

from collections.abc import Awaitable, Sequence
from typing import Any, Protocol

import msgspec

from antiphon.engine.ports.upstreams import ContextItem, UpstreamError
from antiphon.upstreams.chat_completions.servers import LLAMACPP, VLLM, has_own_form

#: Members of a request that shape vLLM's prompt, as its tokenizer's endpoint names them too.
_SHAPING = (
    "model",
    "messages",
    "tools",
    "add_generation_prompt",
    "continue_final_message",
    "chat_template",
    "chat_template_kwargs",
)


class Ask(Protocol):
    """Posts a body; the reply's, or None where there is no such path.  Raises ``UpstreamError``."""

    def __call__(self, path: str, body: bytes, *, from_root: bool) -> Awaitable[bytes | None]: ...


class _Told(msgspec.Struct):
    """What the endpoints say: of the three, each its own."""

    input_tokens: int | None = None
    prompt: str | None = None
    tokens: list[int] | None = None


async def counted(server: str | None, form: dict[str, Any], ask: Ask) -> int | None:
    """The tokens of the prompt that a body with these members makes."""
    if server == LLAMACPP:
        return await _by_llama_cpp(form, ask)
    if server == VLLM and not has_own_form(server, form["model"]):
        return _length(await _post(ask, "/tokenize", _shape(form), from_root=True))
    return None


def has_images(items: Sequence[ContextItem]) -> bool:
    """An image's tokens are not the tokenizer's: it sees a placeholder."""
    return any(b'"input_image"' in bytes(raw) for item in items for raw in (item.view.content, item.view.output))


def _shape(form: dict[str, Any]) -> dict[str, Any]:
    shape = {name: form[name] for name in _SHAPING if name in form}
    if "reasoning_effort" in form:  # the template sees it
        effort = {"reasoning_effort": form["reasoning_effort"]}
        shape["chat_template_kwargs"] = effort | (shape.get("chat_template_kwargs") or {})
    return shape


async def _by_llama_cpp(form: dict[str, Any], ask: Ask) -> int | None:
    """In one step, or with versions that do not know it in two."""
    told = await _post(ask, "/chat/completions/input_tokens", form)
    if told is not None:
        return told.input_tokens
    told = await _post(ask, "/apply-template", form, from_root=True)
    if told is None or told.prompt is None:
        return None
    content = {"model": form["model"], "content": told.prompt, "add_special": True, "parse_special": True}
    return _length(await _post(ask, "/tokenize", content, from_root=True))


async def _post(ask: Ask, path: str, members: dict[str, Any], *, from_root: bool = False) -> _Told | None:
    reply = await ask(path, msgspec.json.encode(members), from_root=from_root)
    try:
        return None if reply is None else msgspec.json.decode(reply, type=_Told)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamError(f"The upstream sent a malformed count of tokens: {error}.") from None


def _length(told: _Told | None) -> int | None:
    return None if told is None or told.tokens is None else len(told.tokens)
