"""The upstream behind the dialect: state is kept here, so that every call brings its whole input."""

from collections.abc import Awaitable
from functools import partial

import msgspec

from antiphon.engine.computing import computed
from antiphon.engine.ports.upstreams import Capabilities, Feed, ModelInfo, ModelRequest, Stop, UpstreamError
from antiphon.upstreams.calling import Answer
from antiphon.upstreams.dialect import Dialect
from antiphon.upstreams.http import Body
from antiphon.upstreams.listing import ModelList, infos
from antiphon.upstreams.responses.options import Options
from antiphon.upstreams.responses.request import counted, form_of, has_sealed, wants_stream
from antiphon.upstreams.responses.stream import Reply

encode = msgspec.json.encode


class Responses(Dialect[Options]):
    """Any server with a Responses API.  Its name stands in the encrypted content that it makes: no other gets that."""

    default = Options()

    @property
    def _maker(self) -> str:
        return f"responses/{self.label}"

    def capabilities(self, model: str) -> Capabilities:
        options = self.options_for(model)
        return Capabilities(
            images=options.images,
            context=options.context,
            files=tuple(options.files),
            verbosity=True,
            reasoning=True,
            cache_retention=True,
            strict_text=True,
            strict_functions=True,
            strict_inputs=True,
            forced_calls=options.forced_calls,
            foreign_tools=tuple(options.hosted_tools),
            foreign_items=True,
        )

    async def run(self, request: ModelRequest, feed: Feed) -> Stop:
        """One model call, again after a passing failure as long as nothing was said.

        Reasoning that the upstream cannot verify (any more) is left out of a second try.
        """
        sealed = True

        def call() -> Awaitable[Stop]:
            return self._call(request, feed, sealed=sealed)

        def mends(error: UpstreamError) -> bool:
            nonlocal sealed
            if not (sealed and _refuses_sealed(error) and has_sealed(request.items)):
                return False
            sealed = False
            return True

        return await self._caller.patiently(call, mends)

    async def _call(self, request: ModelRequest, feed: Feed, *, sealed: bool) -> Stop:
        stream = wants_stream(request)
        form = partial(form_of, request, self.options_for(request.model), self._maker, stream=stream, sealed=sealed)
        body = await computed(lambda: Body(encode(form())), items=len(request.items))
        answer = Answer(feed, Reply(self._maker, request.tools), stream=stream, own_params=True)
        return await self._caller.ask("/responses", body, answer)

    async def count(self, request: ModelRequest) -> int | None:
        form = partial(form_of, request, self.options_for(request.model), self._maker, stream=False)
        body = await computed(lambda: encode(counted(form())), items=len(request.items))
        return await self._caller.input_tokens("/responses/input_tokens", body)

    async def models(self) -> list[ModelInfo]:
        return infos(await self._caller.listed("/models", ModelList, instance=self._instance), self.owner)


def _refuses_sealed(error: UpstreamError) -> bool:
    """OpenAI has a code for it, its proxies only the words (reference 10)."""
    said = "encrypted content" in error.message.lower() and "could not be verified" in error.message
    return error.status == 400 and (error.code == "invalid_encrypted_content" or said)
