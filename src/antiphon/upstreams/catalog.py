"""Every model of every upstream, under the names that clients use.

Rules: design decision 5.  Aliases map names, ``*`` catches the rest; the same name at two upstreams is the first's,
and ``upstream/model`` always works.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import msgspec

from antiphon.engine.ports import Clock, ModelInfo, Route, Upstream, UpstreamError
from antiphon.protocol.errors import ApiError, model_not_found

logger = logging.getLogger("antiphon.upstreams")


class Entry(msgspec.Struct):
    """An upstream under its name.  ``models``: exact names or patterns; empty means what discovery finds."""

    name: str
    upstream: Upstream
    models: Sequence[str] = ()


class Catalog:
    """``engine.ports.Models`` over a list of upstreams, asked again after ``refresh_seconds``."""

    def __init__(
        self, entries: Sequence[Entry], aliases: Mapping[str, str], clock: Clock, refresh_seconds: float = 30
    ) -> None:
        self._entries = list(entries)
        self._aliases = dict(aliases)
        self._clock = clock
        self._refresh_seconds = refresh_seconds
        self._found: dict[str, list[ModelInfo]] = {}
        self._failures: dict[str, str] = {}
        self._asked_at: float | None = None
        self._asking: asyncio.Task[None] | None = None

    @property
    def failures(self) -> Mapping[str, str]:
        """Upstreams that could not be asked at the last look, with the reason."""
        return self._failures

    @property
    def aliases(self) -> Mapping[str, str]:
        return self._aliases

    def add_alias(self, name: str, model: str) -> None:
        """One more name."""
        self._aliases[name] = model

    async def route(self, name: str) -> Route:
        found = self._find(name)
        if found is None:
            await self.refresh(only_if_old=self._asked_at is not None and not self._failures)
            found = self._find(name)
        if found is None and self._failures:
            # The model may be at an upstream that is down: that is no reason to say that it does not exist.
            what = "; ".join(self._failures.values())
            message = f"The model `{name}` was not found, and not every upstream could be asked: {what}"
            raise ApiError(
                503, message, type="server_error", code="model_not_found", headers=(("x-should-retry", "true"),)
            )
        if found is None:
            raise model_not_found(name)
        return found

    def _find(self, name: str) -> Route | None:
        target = self._aliases.get(name, name)
        return self._find_exact(target) or (self._find_exact(self._aliases["*"]) if "*" in self._aliases else None)

    def _find_exact(self, name: str) -> Route | None:
        for entry in self._entries:
            if self._serves(entry, name):
                return Route(entry.upstream, name)
        prefix, slash, rest = name.partition("/")
        for entry in self._entries:
            if slash and entry.name == prefix and self._serves(entry, rest):
                return Route(entry.upstream, rest)
        return None

    def _serves(self, entry: Entry, name: str) -> bool:
        if entry.models:
            return any(fnmatchcase(name, pattern) for pattern in entry.models)
        return any(model.id == name for model in self._found.get(entry.name, ()))

    async def all(self) -> list[ModelInfo]:
        await self.refresh(only_if_old=True)
        by_id: dict[str, ModelInfo] = {}
        for entry in self._entries:
            for model in self._listed(entry):
                by_id.setdefault(model.id, model)
        for alias, target in self._aliases.items():
            if alias != "*" and alias not in by_id:
                known = by_id.get(target)
                by_id[alias] = ModelInfo(alias, known.created if known else 0, known.owned_by if known else "antiphon")
        return sorted(by_id.values(), key=lambda model: model.id)

    def _listed(self, entry: Entry) -> list[ModelInfo]:
        found = self._found.get(entry.name, [])
        if not entry.models:
            return found
        exact = [ModelInfo(name, 0, entry.name) for name in entry.models if not any(c in name for c in "*?[")]
        return exact + [model for model in found if self._serves(entry, model.id)]

    async def refresh(self, *, only_if_old: bool = False) -> None:
        """Asks every upstream for its models, all at once; callers at the same time share one look."""
        now = self._clock.now()
        if only_if_old and self._asked_at is not None and now - self._asked_at < self._refresh_seconds:
            return
        if self._asking is None:
            self._asking = asyncio.get_running_loop().create_task(self._ask_all())
        await asyncio.shield(self._asking)

    async def _ask_all(self) -> None:
        try:
            await asyncio.gather(*(self._ask(entry) for entry in self._entries))
            self._asked_at = self._clock.now()
        finally:
            self._asking = None

    async def _ask(self, entry: Entry) -> None:
        try:
            self._found[entry.name] = await entry.upstream.models()
            self._failures.pop(entry.name, None)
        except UpstreamError as error:
            if entry.name not in self._failures:
                logger.warning("upstream %s: %s", entry.name, error.message)
            self._failures[entry.name] = error.message

    async def close(self) -> None:
        """Closes every upstream."""
        await asyncio.gather(*(entry.upstream.close() for entry in self._entries))
