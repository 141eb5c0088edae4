"""The upstream behind the dialect: one call is one exchange, retried only before the first token."""

from collections.abc import Awaitable, Sequence
from functools import partial
from typing import Any, Unpack

from antiphon.engine.computing import computed
from antiphon.engine.ports.upstreams import Capabilities, Feed, ModelInfo, ModelRequest, Stop, UpstreamError
from antiphon.engine.ports.world import Clock
from antiphon.upstreams.calling import Answer, Shape
from antiphon.upstreams.chat_completions.continuing import Continuation
from antiphon.upstreams.chat_completions.counting import counted, has_images
from antiphon.upstreams.chat_completions.failures import refuses_thinking
from antiphon.upstreams.chat_completions.options import Options
from antiphon.upstreams.chat_completions.request import encode, form_of
from antiphon.upstreams.chat_completions.servers import LLAMACPP, Properties, enforces, forces, goes_on
from antiphon.upstreams.chat_completions.stream import Reply
from antiphon.upstreams.dialect import Dialect, Settings
from antiphon.upstreams.http import Body
from antiphon.upstreams.listing import Listed, ModelList, infos

#: What OpenAI's models take as files.
PDF = ("application/pdf",)


class ChatCompletions(Dialect[Options]):
    """Any server that speaks chat completions.  ``server``: which one it is, where its list of models does not tell."""

    default = Options()

    def __init__(
        self, base_url: str, clock: Clock, *, server: str | None = None, **settings: Unpack[Settings[Options]]
    ) -> None:
        super().__init__(base_url, clock, **settings)
        #: Who owns which model, and who owns all of them, as the list of models says.
        self._owners: dict[str, str] = {}
        self._owner = server
        #: The windows of models as their list tells them, and that of all others as the server does.
        self._windows: dict[str, int] = {}
        self._window: int | None = None

    def capabilities(self, model: str) -> Capabilities:
        options, server = self.options_for(model), self._server(model)
        openai = options.openai_parameters
        files = options.files if options.files is not None else PDF if openai else ()
        return Capabilities(
            images=options.images,
            context=options.context or self._window or self._windows.get(model),
            files=tuple(files),
            verbosity=openai,
            prefill=_given(options.prefill, goes_on(server, model)),
            strict_text=_given(options.strict, openai or enforces(server)),
            strict_functions=_given(options.strict, openai),
            forced_calls=_given(options.forced_calls, openai or forces(server)),
        )

    def _server(self, model: str) -> str | None:
        return self._owners.get(model, self._owner)

    async def run(self, request: ModelRequest, feed: Feed) -> Stop:
        """One model call, again after a passing failure as long as nothing was said."""
        thinking = True

        def call() -> Awaitable[Stop]:
            return self._call(request, feed, thinking=thinking)

        def mends(error: UpstreamError) -> bool:
            nonlocal thinking
            if not (thinking and request.prefix is not None and refuses_thinking(error)):
                return False
            thinking = False
            return True

        return await self._caller.patiently(call, mends)

    async def _call(self, request: ModelRequest, feed: Feed, *, thinking: bool) -> Stop:
        options = self.options_for(request.model)
        prefilled = request.prefix is not None
        stream = bool(request.request.stream or request.request.background or prefilled)
        wording = partial(self._worded, request, stream=stream, thinking=thinking)
        body, shape = await computed(wording, items=len(request.items))
        reply = Reply("off" if prefilled else options.think, request.tools)
        answer = Answer(feed, reply, stream=stream, shape=shape)
        return await self._caller.ask("/chat/completions", body, answer)

    def _worded(self, request: ModelRequest, *, stream: bool, thinking: bool) -> tuple[Body, Shape | None]:
        """What is sent, and what shapes the reply."""
        form = self._form(request, stream=stream, thinking=thinking)
        return Body(encode(form)), self._shape(request, form)

    def _form(self, request: ModelRequest, *, stream: bool, thinking: bool) -> dict[str, Any]:
        """The members of the body."""
        return form_of(request, self.options_for(request.model), stream=stream, thinking=thinking)

    def _shape(self, request: ModelRequest, form: dict[str, Any]) -> Shape | None:
        """What makes of the reply what was asked for, where the server does not tell it as such."""
        if request.prefix is None:
            return None
        return Continuation(form["messages"][-1]["content"], self._server(request.model)).take

    async def count(self, request: ModelRequest) -> int | None:
        if has_images(request.items):
            return None
        forming = partial(form_of, request, self.options_for(request.model), stream=False)
        form = await computed(forming, items=len(request.items))
        return await self._caller.counting(counted(self._server(request.model), form, self._caller.post))

    async def models(self) -> list[ModelInfo]:
        listed = await self._caller.listed("/models", ModelList, instance=self._instance)
        self._learn(listed.data or ())
        self._window = await self._window_of_all() if self._owner == LLAMACPP else None
        return infos(listed, self.owner)

    async def _window_of_all(self) -> int | None:
        """llama.cpp has one model, of whose window its list may tell no more than what the model was trained with."""
        try:
            told = await self._caller.listed("/props", Properties, from_root=True)
        except UpstreamError:  # it need not show them
            return None
        return told.default_generation_settings.n_ctx or None

    def _learn(self, listed: Sequence[Listed]) -> None:
        """A server whose models all have one owner is that one, also for names that it does not list."""
        self._owners = {model.id: model.owned_by or "" for model in listed}
        self._windows = {model.id: model.context for model in listed if model.context is not None}
        owners = set(self._owners.values())
        self._owner = owners.pop() if len(owners) == 1 else None


def _given(option: bool | None, known: bool) -> bool:
    """What the operator says, or what is known."""
    return known if option is None else option
