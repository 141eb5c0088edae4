"""How large a model's window is, as far as its server says it."""

from __future__ import annotations

import json

import pytest
from tests.upstreams.gguf_files import BUNDLED
from tests.upstreams.servers import WaitlessClock, replies, reply, serving

from antiphon.clock import SystemClock
from antiphon.upstreams.chat_completions import ChatCompletions, Options
from antiphon.upstreams.embedded.sizing import Settings
from antiphon.upstreams.embedded.upstream import Embedded

LLAMACPP = reply(b'{"data":[{"id":"a","owned_by":"llamacpp","meta":{"n_ctx_train":131072}}]}')
VLLM = {"data": [{"id": "a", "owned_by": "vllm", "max_model_len": 8192}, {"id": "b", "owned_by": "vllm"}]}


@pytest.mark.parametrize(
    ("told", "model", "window"),
    [
        ([reply(json.dumps(VLLM).encode())], "a", 8192),
        ([reply(json.dumps(VLLM).encode())], "b", None),
        ([LLAMACPP, reply(b'{"default_generation_settings":{"n_ctx":4096}}')], "a", 4096),
        ([LLAMACPP, reply(b'{"default_generation_settings":{"n_ctx":4096}}')], "another", 4096),
        ([LLAMACPP, reply(b'{"default_generation_settings":{"n_ctx":0}}')], "a", 131072),
        ([LLAMACPP, reply(b"{}")], "a", 131072),
        ([LLAMACPP, reply(b"{}", "404 Not Found")], "a", 131072),
        ([reply(b'{"data":[{"id":"a","owned_by":"openai"}]}')], "a", None),
    ],
)
async def test_what_servers_tell(told: list[bytes], model: str, window: int | None) -> None:
    async with serving(replies(*told)) as server:
        upstream = ChatCompletions(server.url, WaitlessClock())
        assert upstream.capabilities(model).context is None
        await upstream.models()
        await upstream.close()

    assert upstream.capabilities(model).context == window


def test_the_operators_word_counts_more() -> None:
    upstream = ChatCompletions("http://127.0.0.1:9/v1", WaitlessClock(), options={"a": Options(context=1000)})

    assert upstream.capabilities("a").context == 1000


async def test_a_file_tells_it_before_it_is_loaded() -> None:
    engine = Embedded({"demo": BUNDLED}, SystemClock(), Settings(engine_context=1024))
    await engine.models()
    await engine.close()

    assert engine.capabilities("demo").context == 1024
    assert engine.loaded() == {}
