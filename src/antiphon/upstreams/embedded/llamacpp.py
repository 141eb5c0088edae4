"""The engine's server as a dialect: chat completions, with calls that are forced for certain."""

from typing import Any, Unpack

from antiphon.engine.ports.upstreams import ModelRequest
from antiphon.engine.ports.world import Clock
from antiphon.upstreams.calling import Shape
from antiphon.upstreams.chat_completions import ChatCompletions, Options
from antiphon.upstreams.chat_completions.servers import LLAMACPP
from antiphon.upstreams.dialect import Settings
from antiphon.upstreams.embedded.forced import CallReader, forced, is_forced


class LlamaCpp(ChatCompletions):
    """``shows_tools``: the model's chat template does."""

    def __init__(
        self, base_url: str, clock: Clock, *, shows_tools: bool, **settings: Unpack[Settings[Options]]
    ) -> None:
        super().__init__(base_url, clock, server=LLAMACPP, **settings)
        self._shows_tools = shows_tools

    def _form(self, request: ModelRequest, *, stream: bool, thinking: bool) -> dict[str, Any]:
        form = super()._form(request, stream=stream, thinking=thinking)
        return forced(form, shows_tools=self._shows_tools) if is_forced(form) else form

    def _shape(self, request: ModelRequest, form: dict[str, Any]) -> Shape | None:
        return CallReader(request.tools).take if "grammar" in form else super()._shape(request, form)
