"""``engine.ports.upstreams.Upstream`` over GGUF files: one engine for each."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import msgspec

from antiphon.engine.ports.upstreams import Capabilities, Feed, ModelInfo, ModelRequest, Stop, UpstreamError
from antiphon.engine.ports.world import Clock
from antiphon.protocol.requests import CreateResponse
from antiphon.upstreams.embedded.engine import Engine
from antiphon.upstreams.embedded.sizing import Settings
from antiphon.upstreams.http import Timeouts

OWNER = "embedded"
_CAPABILITIES = Capabilities(images=False, prefill=True, strict_text=True, forced_calls=True)


class Embedded:
    """Models in files, by name; nothing is loaded before it is asked for."""

    def __init__(
        self,
        files: Mapping[str, Path],
        clock: Clock,
        settings: Settings = Settings(),  # noqa: B008 - frozen
        timeouts: Timeouts = Timeouts(),  # noqa: B008 - frozen
    ) -> None:
        self._files = dict(files)
        self._engines = {name: Engine(name, path, clock, settings, timeouts) for name, path in files.items()}

    async def run(self, request: ModelRequest, feed: Feed) -> Stop:
        return await self._engine(request.model).run(request, feed)

    async def count(self, request: ModelRequest) -> int | None:
        """Loads the model like a run."""
        return await self._engine(request.model).count(request)

    async def load(self, model: str) -> None:
        """Loads a model before anybody asks it.  Raises ``UpstreamError``."""
        await self._engine(model).load()

    def _engine(self, model: str) -> Engine:
        engine = self._engines.get(model)
        if engine is None:
            message = f"The embedded engine has no model `{model}`."
            raise UpstreamError(message, status=404, code="model_not_found")
        return engine

    async def models(self) -> list[ModelInfo]:
        """All files, loaded or not; ``created`` is when the file was last written."""
        for engine in self._engines.values():
            await engine.measure()
        return [
            ModelInfo(name, _written(path), OWNER, self._engines[name].context) for name, path in self._files.items()
        ]

    def loaded(self) -> dict[str, int]:
        """The process ids of the models that are loaded now."""
        return {name: engine.pid for name, engine in self._engines.items() if engine.pid is not None}

    def capabilities(self, model: str) -> Capabilities:
        engine = self._engines.get(model)
        return _CAPABILITIES if engine is None else msgspec.structs.replace(_CAPABILITIES, context=engine.context)

    def unheeded(self, request: CreateResponse, model: str) -> list[str]:  # noqa: ARG002 - the port's signature
        return []

    async def close(self) -> None:
        await asyncio.gather(*(engine.close() for engine in self._engines.values()))


def _written(path: Path) -> int:
    try:
        return int(path.stat().st_mtime)
    except OSError:
        return 0
