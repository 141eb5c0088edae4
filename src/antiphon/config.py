"""Every setting once: name, type, default, sentence.  Help and docs are made from it.

Sources, the later one wins: defaults, the TOML file, the environment, the command line.
"""

import math
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeAlias
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta
from platformdirs import user_data_path, user_state_path


class ConfigError(Exception):
    """A wrong setting, told in one sentence that names it."""


#: A model, or several of which the first that can be asked is meant.
Alias: TypeAlias = str | Annotated[list[Annotated[str, Meta(min_length=1)]], Meta(min_length=1)]


class UpstreamConfig(msgspec.Struct, forbid_unknown_fields=True):
    """One ``[[upstreams]]`` table of the configuration file."""

    url: Annotated[str, Meta(description="Base URL, with its version: `http://127.0.0.1:8000/v1`.")] = ""
    urls: Annotated[
        list[str], Meta(description="Base URLs of several servers that are one upstream, instead of `url`.")
    ] = []
    name: Annotated[
        str,
        Meta(
            description="Its name in `NAME/model`, default the URL's host and port, and in what clients are told of "
            "it, default `upstream`."
        ),
    ] = ""
    dialect: Annotated[
        str,
        Meta(
            pattern="^(chat_completions|responses|messages|scripted)$",
            description="How it is spoken to: `chat_completions`, `responses` (a Responses server), `messages` "
            "(Anthropic), or `scripted`, a fake that echoes, without a URL.",
        ),
    ] = "chat_completions"
    key: Annotated[str | None, Meta(description="Its API key; better name a variable with `key_env`.")] = None
    key_env: Annotated[str | None, Meta(description="Environment variable that holds its API key.")] = None
    ca_file: Annotated[
        str | None, Meta(description="PEM file of certificates to trust for it besides the system's.")
    ] = None
    models: Annotated[
        list[str], Meta(description="Model names that it serves, exact or with wildcards; empty: ask it.")
    ] = []
    aliases: Annotated[
        dict[str, Alias], Meta(description="Further names: `NAME = MODEL`, or a list of which the first is asked.")
    ] = {}
    max_concurrent: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="Most model calls at once at each of its servers; further ones wait in a line. None: any."),
    ] = None
    queue_max: Annotated[
        int, Meta(ge=0, description="Most foreground requests that wait in that line; more are 429.")
    ] = 256
    queue_seconds: Annotated[float, Meta(gt=0, description="How long a foreground request waits in it.")] = 60.0
    breaker_failures: Annotated[
        int, Meta(ge=1, description="Failures in a row after which one of its servers is left out.")
    ] = 3
    breaker_seconds: Annotated[
        float, Meta(gt=0, description="How long, where no look at its health ever went well.")
    ] = 10.0
    health_path: Annotated[
        str, Meta(description="Where a server that is left out is asked, from its root: `/health`; empty: its models.")
    ] = ""
    health_seconds: Annotated[float, Meta(gt=0, description="How often it is asked.")] = 2.0
    options: Annotated[
        dict[str, dict[str, Any]], Meta(description="Options per model pattern, see the table of model options.")
    ] = {}

    @property
    def label(self) -> str:
        """How operators are told of it: by its name or host; its URL may hold secrets."""
        try:
            return self.name or urlsplit(self.addresses[0]).netloc.rpartition("@")[2]
        except (ValueError, IndexError):
            return ""

    @property
    def addresses(self) -> list[str]:
        """The base URLs of its servers."""
        return self.urls or [self.url]

    @property
    def is_pool(self) -> bool:
        """Whether there is anything to decide between its server and those who ask it."""
        return bool(self.urls) or self.max_concurrent is not None

    def check(self) -> None:
        """Raises ``ConfigError`` for what contradicts itself."""
        if self.url and self.urls:
            raise ConfigError(f"upstreams: {self.label} has both url and urls.")
        double = next((url for url in self.urls if self.urls.count(url) > 1), None)
        if double is not None:
            raise ConfigError(f"upstreams: {self.label} has the same URL twice in urls.")
        if self.dialect == "scripted" and self.is_pool:
            raise ConfigError(f"upstreams: {self.name or 'scripted'} is a fake: no urls, no max_concurrent.")
        if self.health_path and not self.health_path.startswith("/"):
            raise ConfigError(f"upstreams: the health_path of {self.label} does not begin with '/'.")
        if self.health_path and not (self.health_path.isascii() and self.health_path.isprintable()):
            raise ConfigError(f"upstreams: the health_path of {self.label} has characters that a URL cannot have.")


class WebhookConfig(msgspec.Struct, forbid_unknown_fields=True):
    """One ``[[webhooks]]`` table of the configuration file."""

    url: Annotated[str, Meta(min_length=1, description="Where events are posted to; it may be a private host.")]
    events: Annotated[
        list[str], Meta(description="Event types to hear of, as `response.completed`; empty: all that there are.")
    ] = []
    secret: Annotated[
        str | None, Meta(description="Signing secret, `whsec_...`; better name a variable with `secret_env`.")
    ] = None
    secret_env: Annotated[
        str, Meta(description="Environment variable that holds it; default: `ANTIPHON_WEBHOOK_SECRET`.")
    ] = ""
    project: Annotated[str, Meta(description="The project whose runs it hears of; empty: all that have keys.")] = ""

    @property
    def label(self) -> str:
        """How messages name it: by its host; the rest of its URL may be secret."""
        try:
            return urlsplit(self.url).netloc.rpartition("@")[2] or "a webhook"
        except ValueError:
            return "a webhook"


#: Upstreams that can be given by a name alone; their keys are taken from where their own clients look for them.
PRESETS = {
    "openai": {"url": "https://api.openai.com/v1", "dialect": "responses", "key_env": "OPENAI_API_KEY"},
    "anthropic": {"url": "https://api.anthropic.com/v1", "dialect": "messages", "key_env": "ANTHROPIC_API_KEY"},
}


class Config(msgspec.Struct, forbid_unknown_fields=True):
    """All settings."""

    host: Annotated[str, Meta(description="Address to listen on; beyond loopback, keys are required.")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="Port to listen on; 0 takes a free one.")] = 8600
    database: Annotated[
        str,
        Meta(
            description="A path, `sqlite:///PATH`, `:memory:` or `postgresql://USER:PASSWORD@HOST/NAME`; "
            "default: a file in the user data directory."
        ),
    ] = ""
    database_connections: Annotated[
        int, Meta(ge=1, description="Most connections that read from PostgreSQL; two more write.")
    ] = 8
    database_connect_seconds: Annotated[
        float, Meta(gt=0, description="Longest wait for a connection to PostgreSQL.")
    ] = 5.0
    database_statement_seconds: Annotated[
        float, Meta(gt=0, description="Longest run of one statement in PostgreSQL.")
    ] = 10.0
    database_read_seconds: Annotated[
        float, Meta(gt=0, description="How long a request waits for PostgreSQL to come back before it is a 503.")
    ] = 5.0
    database_write_seconds: Annotated[
        float, Meta(gt=0, description="How long a response waits to be stored while PostgreSQL is away.")
    ] = 30.0
    bus: Annotated[
        str | None,
        Meta(
            description="NATS servers, `nats://HOST:4222`, over which any number of nodes share background responses."
        ),
    ] = None
    bus_name: Annotated[
        str,
        Meta(pattern="^[A-Za-z0-9_-]{1,32}$", description="What everything of this installation is called on the bus."),
    ] = "antiphon"
    bus_credentials: Annotated[str | None, Meta(description="File with credentials for NATS (`.creds`).")] = None
    bus_replicas: Annotated[
        int, Meta(ge=1, le=5, description="Servers of the NATS cluster that keep the queue each.")
    ] = 1
    bus_lease_seconds: Annotated[
        float,
        Meta(ge=0.5, le=60, description="How long a node may be silent before others take its background responses."),
    ] = 2.0
    bus_watch_seconds: Annotated[
        float, Meta(ge=0.5, le=3600, description="How often the database is asked for responses that the bus has lost.")
    ] = 5.0
    tier_weights: Annotated[
        dict[str, Annotated[int, Meta(ge=1, le=1000)]],
        Meta(description="How often `priority`, `default` and `flex` come first where all wait, `TIER=WEIGHT`."),
    ] = msgspec.field(default_factory=lambda: {"priority": 8, "default": 4, "flex": 1})
    runs_max: Annotated[
        int, Meta(ge=1, le=100_000, description="Background responses that a node with a bus works on at once.")
    ] = 256
    project_runs_max: Annotated[
        int,
        Meta(ge=0, description="Background responses of one project at once, over all nodes of a bus; 0: no limit."),
    ] = 0
    upstreams: Annotated[
        list[UpstreamConfig],
        Meta(
            description="Servers that run models, by their base URLs, several of one upstream with spaces between; or "
            "`openai`, `anthropic`."
        ),
    ] = []
    upstream_key: Annotated[str | None, Meta(description="API key for upstreams that have none of their own.")] = None
    discover: Annotated[
        bool, Meta(description="Look for engines on this machine when neither upstreams nor models are given.")
    ] = True
    discover_ports: Annotated[
        list[Annotated[int, Meta(ge=1, le=65535)]],
        Meta(description="Ports of this machine where engines are looked for."),
    ] = msgspec.field(default_factory=lambda: [11434, 8000, 8080, 1234])
    discover_seconds: Annotated[float, Meta(gt=0, description="Longest wait for engines that are looked for.")] = 0.3
    models: Annotated[
        list[str],
        Meta(description="GGUF files to serve with the embedded engine, by path or by a name from `antiphon models`."),
    ] = []
    aliases: Annotated[
        dict[str, Alias],
        Meta(
            description="Further names for models, `NAME=MODEL`; the name `*` catches every other. Where a name has "
            "several models, the later ones are its fallbacks."
        ),
    ] = {}
    api_keys: Annotated[
        list[str], Meta(description="Keys that clients must send, `KEY` or `PROJECT=KEY`; none: open on loopback.")
    ] = []
    default_model: Annotated[str | None, Meta(description="The model of requests that name none.")] = None
    demo_model: Annotated[bool, Meta(description="Offer the bundled model `antiphon-demo`.")] = True
    allowed_hosts: Annotated[list[str], Meta(description="Host names served besides loopback.")] = []
    cors_origins: Annotated[list[str], Meta(description="Origins whose pages may call the server; `*` for all.")] = []
    fetch_allowed_hosts: Annotated[
        list[str], Meta(description="Private hosts or networks that URLs in requests may name.")
    ] = []
    fetch_ports: Annotated[
        list[int], Meta(description="Ports at which public hosts may be fetched from; none: all.")
    ] = msgspec.field(default_factory=lambda: [80, 443])
    fetch_max_bytes: Annotated[int, Meta(ge=1, description="Largest file fetched for a request.")] = 20 << 20
    fetch_cache_bytes: Annotated[
        int, Meta(ge=0, description="Memory for fetched images and files, which later turns of a chain need again.")
    ] = 64 << 20
    fetch_seconds: Annotated[float, Meta(gt=0, description="Longest wait for a file.")] = 20.0
    attachments_max: Annotated[int, Meta(ge=0, description="Most images and files in one context.")] = 100
    document_max_chars: Annotated[int, Meta(ge=1, description="Most text taken from one file.")] = 1_000_000
    body_max_bytes: Annotated[int, Meta(ge=1024, description="Largest request body.")] = 64 << 20
    run_buffer_bytes: Annotated[
        int,
        Meta(ge=4096, description="Most bytes unsent to one client, or not yet stored, before the upstream is paused."),
    ] = 1 << 20
    client_stall_seconds: Annotated[float, Meta(gt=0, description="How long such a client may not read at all.")] = 60.0
    keepalive_seconds: Annotated[float, Meta(gt=0, description="Quiet time of a stream before a keep-alive.")] = 15.0
    websockets_max: Annotated[int, Meta(ge=0, description="Most WebSockets open at once; 0: none are served.")] = 1000
    websocket_seconds: Annotated[
        float, Meta(gt=0, description="How long a WebSocket may be used; then it ends behind the response on its way.")
    ] = 3600.0
    websocket_idle_seconds: Annotated[
        float, Meta(gt=0, description="How long a WebSocket may be open without a response on its way.")
    ] = 3600.0
    websocket_memory_bytes: Annotated[
        int,
        Meta(ge=0, description="Memory of one WebSocket for the items of its newest response with `store: false`."),
    ] = 32 << 20
    websocket_compression: Annotated[
        bool, Meta(description="Compress the messages of WebSockets whose clients offer it.")
    ] = False
    first_event_seconds: Annotated[
        float, Meta(ge=0, description="How long a stream waits for its upstream to accept before it begins anyway.")
    ] = 1.0
    webhooks: Annotated[
        list[WebhookConfig],
        Meta(description="URLs that are told when background responses end, besides what projects set up themselves."),
    ] = msgspec.field(default_factory=list)
    webhook_endpoints_max: Annotated[int, Meta(ge=0, description="Most webhook endpoints of one project.")] = 50
    webhook_seconds: Annotated[float, Meta(gt=0, description="Longest wait for a webhook endpoint's reply.")] = 15.0
    webhook_deliveries_max: Annotated[
        int, Meta(ge=1, description="Most deliveries to webhook endpoints at once; to the same one it is a few.")
    ] = 64
    webhook_retry_hours: Annotated[
        float, Meta(ge=0, description="For how long a webhook event is tried again; then it is given up.")
    ] = 72.0
    webhook_dead_days: Annotated[
        float, Meta(ge=0, description="Days that webhook events are kept that were given up.")
    ] = 7.0
    response_days: Annotated[int, Meta(ge=0, description="Days that stored responses are kept; 0: for ever.")] = 30
    unstored_seconds: Annotated[
        int, Meta(ge=0, description="How long a background response with `store: false` can be fetched.")
    ] = 600
    idempotency_hours: Annotated[
        int, Meta(ge=1, description="Hours for which an `Idempotency-Key` is remembered, while its response is stored.")
    ] = 24
    expire_every_seconds: Annotated[
        float, Meta(gt=0, description="How often expired responses are removed and logs packed.")
    ] = 60.0
    background_unstored: Annotated[
        str, Meta(pattern="^(accept|refuse)$", description="`background` with `store: false`: `accept` or `refuse`.")
    ] = "accept"
    repeat_interrupted_calls: Annotated[
        bool, Meta(description="After a crash, make an interrupted hosted call again even if it has effects.")
    ] = False
    encryption_keys: Annotated[
        list[str],
        Meta(
            description="Keys that seal encrypted content, at least 32 characters each: the first seals, all open; "
            "none: one is made and kept in the database."
        ),
    ] = msgspec.field(default_factory=list)
    obfuscation_default: Annotated[
        bool, Meta(description="Pad the deltas of streams whose clients do not say whether they want it.")
    ] = False
    prompts_folder: Annotated[
        str | None, Meta(description="Folder of prompt templates, `ID.json` or `ID/VERSION.json`.")
    ] = None
    strict_tools: Annotated[bool, Meta(description="Refuse requests with any tool that cannot be run here.")] = False
    scripted_tools: Annotated[
        bool, Meta(description="Offer the fake hosted tool `antiphon:scripted`, for tests of clients.")
    ] = False
    model_calls_max: Annotated[int, Meta(ge=1, description="Most model calls of one run.")] = 64
    tool_seconds: Annotated[float, Meta(gt=0, description="Longest run of one hosted tool call.")] = 300.0
    connect_seconds: Annotated[float, Meta(gt=0, description="Longest wait for a connection to an upstream.")] = 5.0
    first_byte_seconds: Annotated[float, Meta(gt=0, description="Longest wait for an upstream's reply to begin.")] = (
        600.0
    )
    idle_seconds: Annotated[float, Meta(gt=0, description="Longest silence within an upstream's reply.")] = 120.0
    retries: Annotated[int, Meta(ge=0, le=10, description="Further tries before an upstream's first token.")] = 2
    models_refresh_seconds: Annotated[float, Meta(gt=0, description="How long lists of models are believed.")] = 30.0
    engine_threads: Annotated[
        int, Meta(ge=0, description="Threads of the embedded engine; 0: one for small models, else all cores.")
    ] = 0
    engine_slots: Annotated[int, Meta(ge=1, description="Generations at once in the embedded engine.")] = 4
    engine_context: Annotated[
        int,
        Meta(
            ge=0,
            description="Context tokens per generation in the embedded engine; 0: the model's own, at most 32768, and "
            "less where all slots together would take over a quarter of memory.",
        ),
    ] = 0
    engine_waiting: Annotated[
        int, Meta(ge=1, description="Requests that may wait for a slot of an embedded model; more are refused.")
    ] = 256
    engine_cache_mib: Annotated[
        int, Meta(ge=0, description="Memory for prompts of earlier turns, per embedded model.")
    ] = 1024
    engine_load_seconds: Annotated[float, Meta(gt=0, description="Longest wait for an embedded model to load.")] = 300.0
    engine_idle_seconds: Annotated[
        float, Meta(gt=0, description="An embedded model unused for so long is unloaded.")
    ] = 900.0
    shutdown_seconds: Annotated[float, Meta(ge=0, description="How long open streams may go on when stopping.")] = 10.0
    loop: Annotated[
        str, Meta(pattern="^(auto|uvloop|asyncio)$", description="Event loop: `auto`, `uvloop` or `asyncio`.")
    ] = "auto"
    log_level: Annotated[
        str, Meta(pattern="^(debug|info|warning|error)$", description="`debug`, `info`, `warning` or `error`.")
    ] = "info"

    def database_url(self) -> str | None:
        """The URL of a PostgreSQL database; None when the state is SQLite's."""
        schemes = ("postgresql://", "postgresql+asyncpg://", "postgres://")
        return self.database if self.database.startswith(schemes) else None

    def database_path(self) -> Path | None:
        """The file of state; None: in memory.  Raises ``ConfigError``."""
        text = self.database
        if text in (":memory:", "sqlite://", "sqlite:///:memory:"):
            return None
        if text.startswith("sqlite:///"):
            text = text.removeprefix("sqlite:///")
        elif "://" in text:
            scheme = text.partition("://")[0]
            raise ConfigError(
                f"database: '{scheme}://' is not supported; give a path, sqlite:///PATH, :memory: or postgresql://HOST/NAME."
            )
        try:
            return Path(text).expanduser() if text else user_data_path("antiphon") / "antiphon.db"
        except RuntimeError:
            raise ConfigError(f"database: there is no home folder for {text}.") from None


def state_folder() -> Path:
    """Where commands keep what they remember from one time to the next."""
    return user_state_path("antiphon")


_FIELDS = {field.name: field for field in msgspec.structs.fields(Config)}


def fields() -> Mapping[str, msgspec.structs.FieldInfo]:
    """All settings by name, in order."""
    return _FIELDS


def describe(field: msgspec.structs.FieldInfo) -> str:
    """The sentence of a setting."""
    meta = _meta(field.type)
    return (meta.description or "") if meta is not None else ""


def _meta(kind: Any) -> Meta | None:
    return next((extra for extra in getattr(kind, "__metadata__", ()) if isinstance(extra, Meta)), None)


def bare(kind: Any) -> Any:
    """The type of a setting without its sentence."""
    return kind.__origin__ if hasattr(kind, "__metadata__") else kind


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return f"ANTIPHON_{name.upper()}"


def option(name: str) -> str:
    """The option of a setting on the command line; what may be repeated is named in the singular."""
    return "--" + _SINGULAR.get(name, name.replace("_", "-"))


_SINGULAR = {
    "upstreams": "upstream",
    "models": "model",
    "aliases": "alias",
    "api_keys": "api-key",
    "webhooks": "webhook",
    "tier_weights": "tier-weight",
}
#: Settings that are maps, and how their entries are given as text.
_MAPS = {"aliases": "NAME=MODEL", "tier_weights": "TIER=WEIGHT"}


def takes_many(field: msgspec.structs.FieldInfo) -> bool:
    """Whether the setting is a list or a map."""
    return any(kind in str(bare(field.type)) for kind in ("list", "dict"))


def default_of(field: msgspec.structs.FieldInfo) -> Any:
    """The default value of a setting."""
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default


def load(path: Path | None, environment: Mapping[str, str], given: Mapping[str, Any]) -> Config:
    """All sources put together.  Raises ``ConfigError``."""
    values = {name: value for name, (value, _) in sources(path, environment, given).items()}
    unknown = next((name for name in values if name not in _FIELDS), None)
    if unknown is not None:
        raise ConfigError(f"{unknown}: there is no such setting.")
    config = Config(**{name: _convert(name, value) for name, value in values.items()})
    return _with_keys(config, environment)


def sources(path: Path | None, environment: Mapping[str, str], given: Mapping[str, Any]) -> dict[str, tuple[Any, str]]:
    """Every value that is given anywhere, as it stands there, and where that is.  Raises ``ConfigError``."""
    values: dict[str, tuple[Any, str]] = {}
    if path is not None:
        values |= {name: (value, str(path)) for name, value in _from_file(path).items()}
    for name in _FIELDS:
        text = environment.get(variable(name))
        if text:
            values[name] = (_listed(name, text), variable(name))
    for name, value in given.items():
        if value is not None and value != ():
            values[name] = (value, option(name) if name in _FIELDS else name)
    return values


def shown(config: Config, name: str) -> str:
    """The value of a setting for people to read, without what is secret in it."""
    value = getattr(config, name)
    if name in _SECRETS:
        count = len(value) if isinstance(value, list) else int(bool(value))
        return f"{count} hidden" if count else ""
    if name == "upstreams":
        return ", ".join(upstream.label for upstream in value)
    if name == "webhooks":
        return ", ".join(webhook.label for webhook in value)
    if name == "database" and "://" in value:
        before, at, after = value.rpartition("@")
        scheme, _, login = before.partition("://")
        return f"{scheme}://{login.partition(':')[0]}{at}{after.partition('?')[0]}" if at else value.partition("?")[0]
    if isinstance(value, dict):
        pairs = [(key, one) for key, told in value.items() for one in ([told] if isinstance(told, str) else told)]
        return ", ".join(f"{key}={one}" for key, one in pairs)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


_SECRETS = frozenset({"upstream_key", "api_keys", "encryption_keys"})


def _from_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"config: cannot read {path}: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"config: {path} is not valid TOML: {error}.") from None


def _listed(name: str, text: str) -> Any:
    return [part.strip() for part in text.split(",") if part.strip()] if takes_many(_FIELDS[name]) else text


def _convert(name: str, value: Any) -> Any:
    if isinstance(value, list | tuple):
        if name == "upstreams":
            value = [_upstream(entry) if isinstance(entry, str) else entry for entry in value]
        elif name == "webhooks":
            value = [{"url": entry} if isinstance(entry, str) else entry for entry in value]
        elif name == "aliases":
            value = _grouped(_pair(name, entry) for entry in value)
        elif name in _MAPS:
            value = dict(_pair(name, entry) for entry in value)
        else:
            value = list(value)
    try:
        converted = msgspec.convert(value, _FIELDS[name].type, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{name}: {error}.") from None
    if isinstance(converted, float) and not math.isfinite(converted):
        raise ConfigError(f"{name}: Expected a finite number.")
    return converted


def _upstream(text: str) -> dict[str, Any]:
    if text in PRESETS:
        return {"name": text, **PRESETS[text]}
    urls = text.split()
    return {"urls": urls} if len(urls) > 1 else {"url": text}


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, str | list[str]]:
    """A name that is given several times has several models."""
    grouped: dict[str, list[str]] = {}
    for name, model in pairs:
        grouped.setdefault(name, []).append(model)
    return {name: models[0] if len(models) == 1 else models for name, models in grouped.items()}


def _pair(name: str, entry: Any) -> tuple[str, str]:
    left, equals, right = str(entry).partition("=")
    if not (left and equals and right):
        raise ConfigError(f"{name}: '{entry}' is not of the form {_MAPS[name]}.")
    return left, right


def _with_keys(config: Config, environment: Mapping[str, str]) -> Config:
    """Each upstream checked; its key and each webhook's secret, from the place that it names."""
    for upstream in config.upstreams:
        upstream.check()
        if upstream.key_env is not None:
            upstream.key = environment.get(upstream.key_env)
            if upstream.key is None:
                raise ConfigError(f"upstreams: the variable {upstream.key_env} for {upstream.label} is not set.")
        upstream.key = upstream.key or config.upstream_key
    for webhook in config.webhooks:
        named = webhook.secret_env or variable("webhook_secret")
        webhook.secret = webhook.secret or environment.get(named)
        if not webhook.secret:
            raise ConfigError(f"webhooks: the variable {named} for {webhook.label} is not set.")
    return config
