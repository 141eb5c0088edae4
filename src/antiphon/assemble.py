"""The only module that knows all parts: configuration in, running application out."""

import asyncio
import hashlib
import logging
import os
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from antiphon import __version__
from antiphon.attachments import FetchedAttachments
from antiphon.clock import SystemClock
from antiphon.config import Config, ConfigError, UpstreamConfig, WebhookConfig
from antiphon.coordinators.local import LocalCoordinator
from antiphon.engine.coordination import Coordinator
from antiphon.engine.ports.stores import Store
from antiphon.engine.ports.tools import Tool
from antiphon.engine.ports.upstreams import Upstream
from antiphon.engine.ports.world import Clock
from antiphon.engine.turns import Limits
from antiphon.engine.webhooks import Endpoint
from antiphon.fetching import Fetcher, FetchError
from antiphon.posting import Poster
from antiphon.prompts import Prompts
from antiphon.protocol.errors import ApiError
from antiphon.protocol.webhooks import EVENT_TYPES, checked
from antiphon.runs import outbox, recovery, settings
from antiphon.runs.running import Runs
from antiphon.runs.signing import SigningSecrets, signer
from antiphon.sealing import Sealing
from antiphon.stores.sqlite import SqliteStore
from antiphon.tools import hosted_tools
from antiphon.upstreams import messages, pool, responses
from antiphon.upstreams.catalog import Catalog, Entry
from antiphon.upstreams.chat_completions import ChatCompletions, Options
from antiphon.upstreams.dialect import NAMELESS
from antiphon.upstreams.discovery import Found, discover
from antiphon.upstreams.embedded import disk, naming, sizing
from antiphon.upstreams.embedded.upstream import Embedded
from antiphon.upstreams.http import Timeouts
from antiphon.upstreams.scripted import ScriptedUpstream
from antiphon.web.access import DEFAULT_PROJECT, Access, Key, is_loopback
from antiphon.web.api.compact import Compact
from antiphon.web.api.conversations import Conversations
from antiphon.web.api.health import Health
from antiphon.web.api.input_tokens import InputTokens
from antiphon.web.api.models import ModelList
from antiphon.web.api.openapi import OpenApi
from antiphon.web.api.responses import Responses
from antiphon.web.api.webhook_endpoints import WebhookEndpoints
from antiphon.web.app import App, Route
from antiphon.web.delivery import Delivery
from antiphon.web.settings import WebSettings
from antiphon.web.websocket import WebSockets

if TYPE_CHECKING:
    from antiphon.stores.postgres import Settings as PostgresSettings

logger = logging.getLogger("antiphon")

S = TypeVar("S", settings.Settings, outbox.Settings, WebSettings, sizing.Settings)

Spoken = TypeVar("Spoken", Options, responses.Options, messages.Options)

#: How long the stop waits for a database that is away, for each of two steps.
STOP_SECONDS = 10.0
#: The bundled model.
DEMO_MODEL = "antiphon-demo"
EMBEDDED = "embedded"


async def look_around(config: Config) -> list[Found]:
    """The engines that run on this machine, where the configuration leaves it to us to find one."""
    if not config.discover or config.upstreams or config.models:
        return []
    own = config.port if is_loopback(config.host) else None
    return await discover([port for port in config.discover_ports if port != own], config.discover_seconds)


def using(config: Config, found: Sequence[Found]) -> Config:
    """The configuration with the engines that were found as its upstreams.

    Every name that nobody knows means the first model of the first engine that has one, unless the operator decided.
    """
    usable = [one for one in found if not one.wants_key]
    if not usable:
        return config
    models = [model for one in usable for model in one.models]
    catch_all = models[0] if models else _only_model(config)
    return msgspec.structs.replace(
        config,
        upstreams=[UpstreamConfig(url=one.base_url, name=one.name) for one in usable],
        aliases=({"*": catch_all} if catch_all else {}) | config.aliases,
    )


class Server:
    """Everything of one process, put together.

    ``tools`` take the place of those that are shipped, and what ``wrap_store`` makes of the store that of the store.
    """

    def __init__(
        self,
        config: Config,
        *,
        tools: Mapping[str, Tool] | None = None,
        wrap_store: Callable[[Store], Store] | None = None,
    ) -> None:
        check_exposure(config)
        self.config = config
        self.clock = SystemClock()
        self.instance = secrets.token_hex(8)
        #: The model that every unknown name means because it is the only one; None: the operator decided.
        self.catch_all = _only_model(config)
        self.catalog = _catalog(config, self.clock, self.instance, self.catch_all)
        store, self._open_store = _store(config)
        self.store = store if wrap_store is None else wrap_store(store)
        self.coordinator = _coordinator(config, self.clock)
        self.fetcher = Fetcher(
            allowed_hosts=config.fetch_allowed_hosts,
            ports=config.fetch_ports,
            max_bytes=config.fetch_max_bytes,
            timeout_seconds=config.fetch_seconds,
        )
        self.sealing = Sealing()
        self.poster = _poster(config)
        self.deliverer = outbox.Deliverer(
            self.store.webhooks, self.poster, self.sealing, self.clock, _pick(config, outbox.Settings)
        )
        attachments = FetchedAttachments(self.fetcher, config.document_max_chars, config.fetch_cache_bytes)
        hosted = hosted_tools(self.clock, scripted=config.scripted_tools) if tools is None else tools
        self.runs = Runs(
            self.store,
            self.catalog,
            hosted,
            attachments,
            self.clock,
            self.coordinator,
            self.sealing,
            _pick(config, settings.Settings),
            on_ended=self.deliverer.ended,
        )
        self.prompts = Prompts(
            Path(config.prompts_folder) if config.prompts_folder else None, rendered_max_bytes=config.body_max_bytes
        )
        web = _pick(config, WebSettings)
        delivery = Delivery(self.runs, web)
        self.responses = Responses(self.runs, self.store, delivery, web, self.prompts)
        self.websockets = WebSockets(self.runs, delivery, self.clock, web, self.prompts)
        self.app = self._app()
        self._sweepers: list[asyncio.Task[None]] = []

    def _app(self) -> App:
        config = self.config
        access = Access(
            keys=_keys(config),
            hosts=config.allowed_hosts,
            origins=config.cors_origins,
            open_host=not is_loopback(config.host),
        )
        sockets = {"/v1/responses": self.websockets.converse}
        return App(self._routes(), access, self.clock, self.start, self.stop, sockets)

    def _routes(self) -> list[Route]:
        """Every endpoint, in one place."""
        tokens = InputTokens(self.runs, self.config.body_max_bytes, self.prompts)
        compact = Compact(self.runs, self.clock, self.config.body_max_bytes)
        conversations = Conversations(self.store, self.clock, self.config.body_max_bytes)
        webhooks = WebhookEndpoints(
            self.store, self.deliverer, self.poster, self.sealing, self.clock,
            self.config.webhook_endpoints_max, self.config.body_max_bytes,
        )  # fmt: skip
        default = self.config.default_model or self.catalog.aliases.get("*", "")
        models = ModelList(self.catalog, self.instance, default)
        health = Health(self.store, self.catalog, self.catalog.conditions)
        about = OpenApi()
        routes = [
            Route("POST", "/v1/responses", self.responses.create),
            Route("POST", "/v1/responses/input_tokens", tokens.count),
            Route("POST", "/v1/responses/compact", compact.create),
            Route("GET", "/v1/responses", self.responses.upgrade),
            Route("GET", "/v1/responses/{response_id}", self.responses.retrieve),
            Route("DELETE", "/v1/responses/{response_id}", self.responses.delete),
            Route("POST", "/v1/responses/{response_id}/cancel", self.responses.cancel),
            Route("GET", "/v1/responses/{response_id}/input_items", self.responses.input_items),
            Route("POST", "/v1/conversations", conversations.create),
            Route("GET", "/v1/conversations/{conversation_id}", conversations.retrieve),
            Route("POST", "/v1/conversations/{conversation_id}", conversations.update),
            Route("DELETE", "/v1/conversations/{conversation_id}", conversations.delete),
            Route("POST", "/v1/conversations/{conversation_id}/items", conversations.add),
            Route("GET", "/v1/conversations/{conversation_id}/items", conversations.items),
            Route("GET", "/v1/conversations/{conversation_id}/items/{item_id}", conversations.item),
            Route("DELETE", "/v1/conversations/{conversation_id}/items/{item_id}", conversations.remove),
            Route("POST", "/v1/webhook_endpoints", webhooks.create),
            Route("GET", "/v1/webhook_endpoints", webhooks.all),
            Route("GET", "/v1/webhook_endpoints/{webhook_endpoint_id}", webhooks.retrieve),
            Route("POST", "/v1/webhook_endpoints/{webhook_endpoint_id}", webhooks.update),
            Route("DELETE", "/v1/webhook_endpoints/{webhook_endpoint_id}", webhooks.delete),
            Route("POST", "/v1/webhook_endpoints/{webhook_endpoint_id}/rotate_secret", webhooks.rotate),
            Route("POST", "/v1/webhook_endpoints/{webhook_endpoint_id}/test", webhooks.test),
            Route("GET", "/v1/webhook_event_types", webhooks.event_types),
            Route("GET", "/v1/models", models.all),
            Route("GET", "/v1/models/{model:path}", models.one),
            Route("GET", "/health", health.live, open=True),
            Route("GET", "/ready", health.ready, open=True),
            Route("GET", "/openapi.json", about.show, open=True),
        ]
        about.describe(routes, __version__)
        return routes

    async def start(self) -> None:
        """Opens the store, takes up what an earlier process left, then begins to sweep."""
        await self._open_store()
        self.prompts.check()
        await self.sealing.load(self.config.encryption_keys, self.store)
        self.responses.obfuscation_key = self.sealing.derive("obfuscation")
        await self.store.webhooks.configure(_static_endpoints(self.config, self.sealing, self.clock))
        if await self.store.unfinished():
            await self.catalog.refresh()  # what the models can do decides how a run goes on
        if not self.coordinator.shared:
            await recovery.recover(self.store, self.coordinator)
        await self.runs.start()
        self.deliverer.start()
        loop = asyncio.get_running_loop()
        sweeping = recovery.sweep(self.store, self.clock, self.config.expire_every_seconds)
        self._sweepers.append(loop.create_task(sweeping))
        if self.coordinator.shared:
            watching = recovery.watch(self.store, self.coordinator, self.config.bus_watch_seconds)
            self._sweepers.append(loop.create_task(watching))

    async def hand_over(self) -> None:
        """Gives background runs to other nodes, where there can be any, while open streams may still go on."""
        await _in_time(self.runs.hand_over(), "background runs could not be handed over; other nodes take them over")

    async def stop(self) -> None:
        """Ends runs, upstreams and the store, in this order."""
        for sweeper in self._sweepers:
            sweeper.cancel()
        await asyncio.gather(*self._sweepers, return_exceptions=True)
        await _in_time(self.runs.close(), "background runs could not be handed back; the next start takes them over")
        await _in_time(self.deliverer.close(), "webhook deliveries are tried again when their claims end")
        await self.coordinator.close()
        await self.catalog.close()
        await self.fetcher.close()
        await self.poster.close()
        await _in_time(self.store.close(), "the database is away; what was not acknowledged is not written")


async def _in_time(closing: Awaitable[None], otherwise: str) -> None:
    """A stop has an end: whoever stops the process would kill it otherwise, and nothing acknowledged depends on it."""
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await closing
    except TimeoutError:
        logger.warning("%s", otherwise)


def _pick(config: Config, kind: type[S]) -> S:
    """The settings that a part wants, by their names."""
    names = [field.name for field in msgspec.structs.fields(kind)]
    values: dict[str, Any] = {name: getattr(config, name) for name in names if hasattr(config, name)}
    if "limits" in names:
        values["limits"] = Limits(
            config.model_calls_max, config.tool_seconds, config.attachments_max, config.repeat_interrupted_calls
        )
    return kind(**values)


def _store(config: Config) -> tuple[Store, Callable[[], Awaitable[None]]]:
    """The store, and what is to be awaited before it is used."""
    url = config.database_url()
    if url is not None:
        return _postgres(config, url)
    path = config.database_path()
    try:
        return SqliteStore(path), _nothing
    except (OSError, ValueError) as error:
        raise ConfigError(f"database: cannot open {path}: {error}.") from None


async def _nothing() -> None:
    pass


def _coordinator(config: Config, clock: Clock) -> Coordinator:
    """Who works on which background run: this process alone, or all nodes on the bus."""
    if config.bus is None:
        return LocalCoordinator(clock)
    if config.database_url() is None:
        raise ConfigError("bus: several nodes need a database that they share; give --database postgresql://...")
    try:
        from antiphon.coordinators import nats
    except ImportError:
        raise ConfigError("bus: NATS needs a client that is not installed; pip install 'antiphon[nats]'.") from None
    unknown = sorted(set(config.tier_weights) - set(nats.TIERS))
    if unknown:
        raise ConfigError(f"tier_weights: there is no tier '{unknown[0]}', but {', '.join(nats.TIERS)}.")
    return nats.NatsCoordinator(
        nats.Settings(
            config.bus,
            bus_name=config.bus_name,
            bus_credentials=config.bus_credentials,
            bus_replicas=config.bus_replicas,
            bus_lease_seconds=config.bus_lease_seconds,
            tier_weights=config.tier_weights,
            runs_max=config.runs_max,
        )
    )


def postgres_settings(config: Config, url: str) -> "PostgresSettings":
    """How PostgreSQL is spoken to.  Raises ``ConfigError`` where its driver is not installed."""
    try:
        from antiphon.stores.postgres import Settings
    except ImportError:
        message = "database: PostgreSQL needs a driver that is not installed; pip install 'antiphon[postgres]'."
        raise ConfigError(message) from None
    return Settings(
        url,
        connections=config.database_connections,
        connect_seconds=config.database_connect_seconds,
        statement_seconds=config.database_statement_seconds,
        read_seconds=config.database_read_seconds,
        write_seconds=config.database_write_seconds,
    )


def _postgres(config: Config, url: str) -> tuple[Store, Callable[[], Awaitable[None]]]:
    settings = postgres_settings(config, url)
    from antiphon.stores.postgres import PostgresStore

    try:
        store = PostgresStore(settings)
    except ValueError as error:
        raise ConfigError(f"database: {error}.") from None
    return store, store.open


def _poster(config: Config) -> Poster:
    """The way to webhook endpoints.  Those of the operator may be private; nothing else becomes reachable by that."""
    clients = Fetcher(
        allowed_hosts=config.fetch_allowed_hosts, ports=config.fetch_ports, timeout_seconds=config.webhook_seconds
    )
    operators = Fetcher(
        allowed_hosts=[_host_rule(webhook) for webhook in config.webhooks],
        ports=config.fetch_ports,
        timeout_seconds=config.webhook_seconds,
    )
    for webhook in config.webhooks:
        try:
            operators.check(webhook.url)
            signer(webhook.secret or "")
            checked(webhook.events or EVENT_TYPES)
        except (FetchError, ApiError, ValueError) as error:
            raise ConfigError(f"webhooks: {webhook.label}: {error}") from None
    return Poster(clients, operators)


def _host_rule(webhook: WebhookConfig) -> str:
    """An entry of an allow-list for nothing but the host and port of this URL."""
    try:
        parts = urlsplit(webhook.url)
        port = parts.port or (80 if parts.scheme == "http" else 443)
    except ValueError:
        raise ConfigError(f"webhooks: {webhook.label} is not a URL.") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"webhooks: {webhook.label} is not an http or https URL.")
    return f"[{parts.hostname}]:{port}" if ":" in parts.hostname else f"{parts.hostname}:{port}"


def _static_endpoints(config: Config, sealing: Sealing, clock: Clock) -> list[tuple[str, Endpoint]]:
    """The operator's webhooks, each once for each project that it hears of."""
    known = dict.fromkeys(key.project for key in _keys(config)) or {DEFAULT_PROJECT: None}
    now = int(clock.now())
    made: dict[str, tuple[str, Endpoint]] = {}
    for webhook in config.webhooks:
        for project in [webhook.project] if webhook.project else known:
            id = "we_" + hashlib.sha256(f"{project} {webhook.url}".encode()).hexdigest()[:28]
            if id in made:
                raise ValueError(f"webhooks: {webhook.label} is given twice.")
            secrets = SigningSecrets(webhook.secret or "").sealed(sealing, project)
            types = tuple(webhook.events or EVENT_TYPES)
            made[id] = (project, Endpoint(id, "configured", webhook.url, types, secrets, now, now))
    return list(made.values())


def _keys(config: Config) -> list[Key]:
    try:
        return [Key.of(text) for text in config.api_keys]
    except ValueError as error:
        raise ConfigError(f"api_keys: {error}.") from None


def check_exposure(config: Config) -> None:
    """Beyond loopback nobody is let in without a key (design section 7)."""
    if not is_loopback(config.host) and not config.api_keys:
        raise ConfigError(f"api_keys: listening on {config.host} needs at least one key; give --api-key.")


def catalog_of(config: Config, clock: Clock, instance: str = "") -> Catalog:
    """What a server of this configuration offers, for whoever wants to know without one."""
    return _catalog(config, clock, instance, _only_model(config))


def _catalog(config: Config, clock: Clock, instance: str, catch_all: str | None) -> Catalog:
    entries = upstream_entries(config, clock, instance)
    names = [entry.name for entry in entries]
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise ConfigError(f"upstreams: the name '{double}' is given twice.")
    aliases = dict(config.aliases)
    for upstream in config.upstreams:
        aliases |= upstream.aliases
    if catch_all is not None:
        aliases["*"] = catch_all
    # Last: a configured upstream that serves a model of the same name wins.
    entries += _embedded(config, clock)
    return Catalog(entries, aliases, clock, config.models_refresh_seconds)


def upstream_entries(config: Config, clock: Clock, instance: str = "") -> list[Entry]:
    """The configured upstreams, each under its name.  Raises ``ConfigError``."""
    return [_entry(upstream, config, clock, instance) for upstream in config.upstreams]


def _only_model(config: Config) -> str | None:
    """The bundled model, where there is no other: clients then need not know its name."""
    alone = not config.upstreams and not config.models and "*" not in config.aliases
    return DEMO_MODEL if alone and _bundled(config) else None


def _bundled(config: Config) -> dict[str, Path]:
    """The file of the bundled model under its name, where it is offered and there."""
    file = bundled_file() if config.demo_model else None
    return {DEMO_MODEL: file} if file is not None else {}


def model_files(config: Config) -> dict[str, Path]:
    """The files of the embedded engine under their names: those given by path, those by name, and the bundled one."""
    on_disk = [text for text in config.models if not _is_path(text)]
    known = disk.on_disk(Path.home(), os.environ) if on_disk else []
    try:
        files = naming.named(text for text in config.models if _is_path(text))
    except ValueError as error:
        raise ConfigError(f"models: {error}") from None
    for text in on_disk:
        model = disk.find(text, known)
        if model is None:
            raise ConfigError(f"models: '{text}' is neither a file nor among the names that `antiphon models` lists.")
        if model.name in files:
            raise ConfigError(f"models: the name '{model.name}' is given twice.")
        files[model.name] = model.path
    return _bundled(config) | files


def bundled_file() -> Path | None:
    """The file of the bundled model, where it came along."""
    file = Path(str(resources.files("antiphon") / "models" / f"{DEMO_MODEL}.gguf"))
    return file if file.is_file() else None


def _is_path(text: str) -> bool:
    """Names of models may have slashes too, so that a path is what ends like one or is there."""
    return text.lower().endswith(".gguf") or naming.expanded(text).exists()


def _embedded(config: Config, clock: Clock) -> list[Entry]:
    files = model_files(config)
    timeouts = Timeouts(config.connect_seconds, config.first_byte_seconds, config.idle_seconds)
    return [Entry(EMBEDDED, Embedded(files, clock, _pick(config, sizing.Settings), timeouts))] if files else []


def _entry(upstream: UpstreamConfig, config: Config, clock: Clock, instance: str) -> Entry:
    if upstream.dialect == "scripted":
        return Entry(upstream.name or "scripted", ScriptedUpstream(), upstream.models)
    servers = [_server(url, upstream, config, clock, instance) for url in upstream.addresses]
    made: Upstream = servers[0]
    if upstream.is_pool:
        kept = {name: getattr(upstream, name) for name in pool.Settings.__struct_fields__ if hasattr(upstream, name)}
        settings = pool.Settings(**kept, retries=config.retries)
        made = pool.Pool(upstream.name, servers, clock, settings, label=upstream.label)
    return Entry(upstream.label, made, upstream.models, upstream.name or NAMELESS)


def _server(url: str, upstream: UpstreamConfig, config: Config, clock: Clock, instance: str) -> pool.Server:
    """One server of an upstream; in a pool it is the pool that tries again."""
    if _is_itself(url, config):
        raise ConfigError(f"upstreams: {upstream.label} is this server itself; it cannot be its own upstream.")
    timeouts = Timeouts(config.connect_seconds, config.first_byte_seconds, config.idle_seconds)
    try:
        return _spoken_to(upstream)(
            url, clock, name=upstream.name, label=upstream.label, key=upstream.key, timeouts=timeouts,
            retries=config.retries, pooled=upstream.is_pool, instance=instance, ca_file=upstream.ca_file,
        )  # fmt: skip
    except ValueError as error:
        raise ConfigError(f"upstreams: {error}.") from None


def _spoken_to(upstream: UpstreamConfig) -> Callable[..., pool.Server]:
    """What speaks the upstream's dialect, with the options of its models."""
    if upstream.dialect == "responses":
        return partial(responses.Responses, options=_options(upstream, responses.Options))
    if upstream.dialect == "messages":
        return partial(messages.Messages, options=_options(upstream, messages.Options))
    return partial(ChatCompletions, options=_options(upstream, Options))


def _is_itself(url: str, config: Config) -> bool:
    try:
        parts = urlsplit(url)
        at_own_port = parts.port == config.port
    except ValueError:
        return False  # told when the upstream is made
    return at_own_port and is_loopback(parts.hostname or "") and is_loopback(config.host)


def _options(upstream: UpstreamConfig, kind: type[Spoken]) -> dict[str, Spoken]:
    try:
        return {pattern: msgspec.convert(options, kind) for pattern, options in upstream.options.items()}
    except msgspec.ValidationError as error:
        raise ConfigError(f"upstreams: options of {upstream.label}: {error}.") from None
