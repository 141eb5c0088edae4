"""Every model of every upstream, under the names that clients use.

Rules: design decision 5.  Aliases map names, ``*`` catches the rest; the same name at two upstreams is the first's,
and ``upstream/model`` always works.  An alias of several models means the first that can be asked, the others stand by.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import msgspec

from antiphon.engine.ports.upstreams import Condition, ModelInfo, Route, Upstream, UpstreamError
from antiphon.engine.ports.world import Clock
from antiphon.protocol.errors import ApiError, model_not_found, quoted
from antiphon.upstreams.pool import Pool

logger = logging.getLogger("antiphon.upstreams")

#: An upstream that was down is not asked for its models more often than this.
ASK_AGAIN_SECONDS = 1.0


class Entry(msgspec.Struct):
    """An upstream under its name.  ``models``: exact names or patterns; empty means what discovery finds.

    ``owner``: whom clients are told that its models belong to; None: to it.
    """

    name: str
    upstream: Upstream
    models: Sequence[str] = ()
    owner: str | None = None

    def listed(self, model: str) -> ModelInfo:
        """What is known of a model that the upstream did not list."""
        return ModelInfo(model, 0, self.owner or self.name)


class Catalog:
    """``engine.ports.upstreams.Models`` over a list of upstreams, asked again after ``refresh_seconds``."""

    def __init__(
        self,
        entries: Sequence[Entry],
        aliases: Mapping[str, str | Sequence[str]],
        clock: Clock,
        refresh_seconds: float = 30,
    ) -> None:
        self._entries = list(entries)
        self._aliases = {name: (told,) if isinstance(told, str) else tuple(told) for name, told in aliases.items()}
        self._clock = clock
        self._refresh_seconds = refresh_seconds
        self._found: dict[str, dict[str, ModelInfo]] = {}
        self._failures: dict[str, UpstreamError] = {}
        self._asked_at: float | None = None
        self._asking: asyncio.Task[None] | None = None

    @property
    def failures(self) -> Mapping[str, str]:
        """Upstreams that could not be asked at the last look, with the reason, for operators."""
        return {name: error.detail for name, error in self._failures.items()}

    @property
    def aliases(self) -> Mapping[str, str]:
        """The first model of each alias."""
        return {name: models[0] for name, models in self._aliases.items()}

    def conditions(self) -> Mapping[str, Condition]:
        """How the servers are behind those upstreams that have several, by name."""
        return {one.name: one.upstream.condition() for one in self._entries if isinstance(one.upstream, Pool)}

    async def route(self, name: str) -> Route:
        found = self._find(name)
        if found is None:
            await self.refresh(only_after_seconds=self._refresh_seconds)
            found = self._find(name) or self._catch_all(name)
        if found is None and self._failures:
            await self.refresh(only_after_seconds=ASK_AGAIN_SECONDS)  # what was down may be back
            found = self._find(name) or self._catch_all(name)
        if found is None and self._failures:
            # The model may be at an upstream that is down: that is no reason to say that it does not exist.
            what = "; ".join(error.message for error in self._failures.values())
            message = f"The model `{quoted(name)}` was not found, and not every upstream could be asked: {what}"
            raise ApiError(
                503, message, type="server_error", code="model_not_found", headers=(("x-should-retry", "true"),)
            )
        if found is None:
            raise model_not_found(name)
        return found

    def _find(self, name: str) -> Route | None:
        names = self._aliases.get(name)
        if names is None or len(names) == 1:
            return self._find_model(names[0] if names else name)
        found = [route for route in map(self._find_model, names) if route is not None]
        found.sort(key=lambda route: not _can_be_asked(route))
        return found[0]._replace(fallbacks=tuple(found[1:])) if found else None

    def _find_model(self, name: str) -> Route | None:
        prefixed = self._find_prefixed(name)
        for entry in self._entries:
            # A pattern for every name does not take `upstream/model` from the upstream that it means.
            if self._serves(entry, name, exactly=prefixed is not None):
                return self._route(entry, name)
        return prefixed

    def _find_prefixed(self, name: str) -> Route | None:
        for entry in self._entries:
            rest = name.removeprefix(f"{entry.name}/")
            if rest != name and self._serves(entry, rest):
                return self._route(entry, rest)
        return None

    def _route(self, entry: Entry, name: str) -> Route:
        known = self._found.get(entry.name, {}).get(name)
        return Route(entry.upstream, name, known or entry.listed(name))

    def _catch_all(self, name: str) -> Route | None:
        """``*`` is for names that nobody knows; an alias whose model is missing is no such name."""
        return self._find("*") if "*" in self._aliases and name not in self._aliases else None

    def _serves(self, entry: Entry, name: str, *, exactly: bool = False) -> bool:
        if not entry.models:
            return name in self._found.get(entry.name, ())
        return name in entry.models or (not exactly and any(fnmatchcase(name, pattern) for pattern in entry.models))

    async def all(self) -> list[ModelInfo]:
        await self.refresh(only_after_seconds=self._refresh_seconds)
        by_id: dict[str, ModelInfo] = {}
        for entry in self._entries:
            for model in self._listed(entry):
                by_id.setdefault(model.id, model)
        for alias, target in self.aliases.items():
            if alias != "*" and alias not in by_id:
                known = by_id.get(target)
                by_id[alias] = ModelInfo(alias, known.created if known else 0, known.owned_by if known else "antiphon")
        return sorted(by_id.values(), key=lambda model: model.id)

    def _listed(self, entry: Entry) -> list[ModelInfo]:
        found = self._found.get(entry.name, {})
        if not entry.models:
            return list(found.values())
        exact = [entry.listed(name) for name in entry.models if name not in found and not _is_pattern(name)]
        return exact + [model for model in found.values() if self._serves(entry, model.id)]

    async def refresh(self, *, only_after_seconds: float = 0) -> None:
        """Asks every upstream for its models, all at once; callers at the same time share one look."""
        if self._asked_at is not None and self._clock.now() - self._asked_at < only_after_seconds:
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
            self._found[entry.name] = {model.id: model for model in await entry.upstream.models()}
            self._failures.pop(entry.name, None)
        except UpstreamError as error:
            if entry.name not in self._failures:
                logger.warning("upstream %s: %s", entry.name, error.detail)
            self._failures[entry.name] = error

    async def close(self) -> None:
        """Closes every upstream."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])
        await asyncio.gather(*(entry.upstream.close() for entry in self._entries))


def _can_be_asked(route: Route) -> bool:
    return not isinstance(route.upstream, Pool) or route.upstream.available(route.model)


def _is_pattern(name: str) -> bool:
    return any(character in name for character in "*?[")
