"""Engines that already run on this machine, at the ports where engines usually are.

Only loopback is asked.  An engine is recognised by an endpoint that is its own, so that some other server at such a
port is not taken for one.  Must not know what is done with what was found.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from antiphon.engine.ports.upstreams import UpstreamError
from antiphon.upstreams.http import Body, HttpClient, Timeouts, Whole

#: What is read of a reply at the most: llama.cpp sends its chat template along.
ANSWER_MAX = 4 << 20
#: Families of Ollama's that make embeddings and cannot answer.
_ENCODERS = ("bert",)


class Found(msgspec.Struct, frozen=True):
    """An engine that runs here.

    ``models`` are those that can answer, in the order in which they are to be preferred; empty where it did not say
    in time.  ``wants_key``: it can be used only by whoever has its key.
    """

    name: str
    title: str
    port: int
    version: str = ""
    models: tuple[str, ...] = ()
    wants_key: bool = False

    @property
    def url(self) -> str:
        return _url(self.port)

    @property
    def base_url(self) -> str:
        """Where it speaks as OpenAI does."""
        return f"{self.url}/v1"


async def discover(ports: Sequence[int], seconds: float) -> list[Found]:
    """What answers at these ports within so many seconds, in their order, each under a name of its own."""
    deadline = asyncio.get_running_loop().time() + seconds
    at_ports = await asyncio.gather(*(_at(port, deadline, seconds) for port in dict.fromkeys(ports)))
    found = [one for one in at_ports if one is not None]
    names = [one.name for one in found]
    return [
        msgspec.structs.replace(one, name=f"{one.name}-{one.port}") if one.name in names[:place] else one
        for place, one in enumerate(found)
    ]


async def _at(port: int, deadline: float, seconds: float) -> Found | None:
    server = _Server(port, deadline, seconds)
    try:
        if not await server.answers():
            return None
        seen = await asyncio.gather(*(engine.recognise(server.ask) for engine in _ENGINES))
    finally:
        server.close()
    for engine, said in zip(_ENGINES, seen, strict=True):
        if said is not None:
            return Found(engine.name, engine.title, port, said.version, said.models, said.wants_key)
    return None


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


# --- Asking ---


class _Answer(NamedTuple):
    """What came in time; status 0 where nothing did."""

    status: int = 0
    headers: Mapping[str, str] = {}
    #: The JSON object, or an empty one.
    body: Mapping[str, Any] = {}


_Ask = Callable[[str], Awaitable[_Answer]]


class _Short(Whole):
    def data(self, chunk: bytes) -> None:
        super().data(chunk)
        if len(self.body) > ANSWER_MAX:
            raise UpstreamError("The answer is too large.")


class _Server:
    """Whatever listens at a port."""

    def __init__(self, port: int, deadline: float, seconds: float) -> None:
        self._port = port
        self._deadline = deadline
        self._client = HttpClient(_url(port), Timeouts(seconds, seconds, seconds))

    async def answers(self) -> bool:
        """Whether it can be connected to and says anything in HTTP."""
        return (await self.ask("/health")).status != 0

    async def ask(self, path: str) -> _Answer:
        short = _Short()
        try:
            async with asyncio.timeout_at(self._deadline):
                await self._client.send("GET", path, {"accept": "application/json"}, Body(), short)
        except (UpstreamError, TimeoutError):
            return _Answer()
        try:
            body = msgspec.json.decode(bytes(short.body))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            body = None
        return _Answer(short.status, short.headers, body if isinstance(body, dict) else {})

    def close(self) -> None:
        self._client.close()


# --- Recognising ---


class _Seen(NamedTuple):
    version: str = ""
    models: tuple[str, ...] = ()
    wants_key: bool = False


async def _ollama(ask: _Ask) -> _Seen | None:
    """https://docs.ollama.com/api: ``/api/version``; ``/api/tags`` lists the newest first."""
    told, tags = await asyncio.gather(ask("/api/version"), ask("/api/tags"))
    version = told.body.get("version")
    if told.status != 200 or not isinstance(version, str) or not (tags.status == 0 or "models" in tags.body):
        return None
    return _Seen(version, tuple(_names(tags.body.get("models"), "name", _speaks)))


def _speaks(model: Mapping[str, Any]) -> bool:
    details = model.get("details")
    family = details.get("family") if isinstance(details, dict) else None
    return not (isinstance(family, str) and family.endswith(_ENCODERS))


async def _llamacpp(ask: _Ask) -> _Seen | None:
    """``/props`` is behind the key where there is one; the list of models and the name of the server never are."""
    props, listed = await asyncio.gather(ask("/props"), ask("/v1/models"))
    if "default_generation_settings" not in props.body and "llama.cpp" not in props.headers.get("server", ""):
        return None
    version = props.body.get("build_info")
    models = tuple(_names(listed.body.get("data"), "id"))
    return _Seen(version if isinstance(version, str) else "", models, props.status == 401)


async def _vllm(ask: _Ask) -> _Seen | None:
    """``/version`` alone is too common a path: it is vLLM where the models are, too."""
    told, listed = await asyncio.gather(ask("/version"), ask("/v1/models"))
    version = told.body.get("version")
    if told.status != 200 or not isinstance(version, str):
        return None
    if listed.status == 401 and listed.body.get("error") == "Unauthorized":
        return _Seen(version, wants_key=True)
    models = tuple(_names(listed.body.get("data"), "id", lambda model: model.get("owned_by") == "vllm"))
    return _Seen(version, models) if models else None


async def _lm_studio(ask: _Ask) -> _Seen | None:
    """https://lmstudio.ai/docs/api/rest-api: ``/api/v0/models`` says of what kind each is, and which are loaded."""
    listed = await ask("/api/v0/models")
    models = listed.body.get("data")
    if listed.status != 200 or not isinstance(models, list):
        return None
    if not all(isinstance(model, dict) and "type" in model and "state" in model for model in models):
        return None
    models = sorted(models, key=lambda model: model["state"] != "loaded")
    return _Seen(models=tuple(_names(models, "id", lambda model: model["type"] in ("llm", "vlm"))))


def _names(listed: Any, key: str, wanted: Callable[[Mapping[str, Any]], bool] = lambda _: True) -> Iterator[str]:
    for model in listed if isinstance(listed, list) else ():
        if isinstance(model, dict) and isinstance(model.get(key), str) and wanted(model):
            yield model[key]


class _Engine(NamedTuple):
    name: str
    title: str
    recognise: Callable[[_Ask], Awaitable[_Seen | None]]


#: Engines, those first that others imitate least.
_ENGINES = (
    _Engine("llama.cpp", "llama.cpp", _llamacpp),
    _Engine("vllm", "vLLM", _vllm),
    _Engine("lmstudio", "LM Studio", _lm_studio),
    _Engine("ollama", "Ollama", _ollama),
)
