"""What can be known of a configuration on this machine before it is served: each check looks, and changes nothing.

Must not know how findings are printed.
"""

import asyncio
import importlib.metadata
import importlib.util
import os
import platform
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from antiphon import __version__
from antiphon.assemble import (
    DEMO_MODEL,
    bundled_file,
    check_exposure,
    look_around,
    model_files,
    postgres_settings,
    upstream_entries,
    using,
)
from antiphon.cli.remote import Remote
from antiphon.cli.serving import listen
from antiphon.cli.sightings import engine
from antiphon.cli.tables import size
from antiphon.clock import SystemClock
from antiphon.config import PRESETS, Config, ConfigError
from antiphon.engine.ports.upstreams import UpstreamError
from antiphon.prompts import Prompts, TemplateError
from antiphon.stores.sqlite import database
from antiphon.upstreams.catalog import Entry
from antiphon.upstreams.embedded.sizing import Settings as EngineSettings
from antiphon.upstreams.embedded.upstream import Embedded
from antiphon.upstreams.pool import Pool

State = Literal["ok", "note", "wrong"]
#: Longest wait for the bundled model to load: it takes a second on a machine that does nothing else.
LOAD_SECONDS = 60.0


class Finding(msgspec.Struct, frozen=True):
    """``wrong``: something that is configured does not work.  ``note``: something is not there, and need not be."""

    subject: str
    state: State
    says: str


async def findings(config: Config, environment: Mapping[str, str]) -> AsyncIterator[Finding]:
    """All checks, each as soon as it is made."""
    yield _versions()
    for extra in _extras():
        yield extra
    yield await _database(config)
    yield await _address(config)
    for setting in _settings(config):
        yield setting
    for key in _keys(config, environment):
        yield key
    async for upstream in _upstreams(config):
        yield upstream
    for model in _models(config):
        yield model
    yield await _embedded(config)


def _versions() -> Finding:
    system = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    parts = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("uvicorn", "apsw", "xllamacpp"))
    return Finding("versions", "ok", f"Antiphon {__version__}, {system}; {parts}")


def _extras() -> Iterator[Finding]:
    for module, what in (("asyncpg", "PostgreSQL: pip install 'antiphon[postgres]'"), ("uvloop", "a faster loop")):
        if importlib.util.find_spec(module) is None:
            yield Finding("extras", "note", f"{module} is not installed, which is for {what}")


# --- Database ---


async def _database(config: Config) -> Finding:
    try:
        url = config.database_url()
        says = _sqlite(config.database_path()) if url is None else await _postgres(config, url)
    except (ConfigError, ValueError) as error:
        return Finding("database", "wrong", str(error))
    return Finding("database", "ok", says)


def _sqlite(path: Path | None) -> str:
    if path is None:
        return "in memory; nothing is kept"
    if not path.exists():
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
            raise ValueError(f"{path} cannot be made: {folder} is not a folder to write in.")
        return f"{path}, which the first start makes"
    if not path.is_file():
        raise ValueError(f"{path} is no file.")
    if not os.access(path, os.W_OK):
        raise ValueError(f"{path} may not be written by this user.")
    seen = database.inspect(path)
    _check_version(seen.version, seen.newest)
    used = "; a server has it open" if seen.in_use else ""
    return f"{path}, {size(seen.file_bytes)}, schema {seen.version} of {seen.newest}{used}"


async def _postgres(config: Config, url: str) -> str:
    settings = postgres_settings(config, url)
    from antiphon.stores.postgres import schema
    from antiphon.stores.postgres.connections import shown

    try:
        version, newest = await schema.inspect(settings)
    except ValueError as error:
        raise ValueError(f"PostgreSQL at {shown(url)}: {error}") from None
    return f"PostgreSQL at {shown(url)}, schema {version} of {newest}"


def _check_version(version: int, newest: int) -> None:
    if version > newest:
        raise ValueError(f"it was written by a newer release (schema {version}, this one knows {newest}).")


# --- Address and settings ---


async def _address(config: Config) -> Finding:
    try:
        check_exposure(config)
        listen(config).close()
    except ConfigError as error:
        return await _taken(config, str(error))
    return Finding("address", "ok", f"{config.host}:{config.port or '(any free port)'} is free")


async def _taken(config: Config, why: str) -> Finding:
    """By a server of ours that runs already, which is what one would hope for, or by something else."""
    remote = Remote(f"http://127.0.0.1:{config.port}/v1")
    try:
        ours = (await remote.offer()).ours
    except UpstreamError as error:
        ours = error.status == 401
    finally:
        remote.close()
    if ours and why.startswith("port:"):
        return Finding("address", "ok", f"a server runs already at {remote.base_url}")
    return Finding("address", "wrong", why)


def _settings(config: Config) -> Iterator[Finding]:
    if config.prompts_folder:
        try:
            count = Prompts(Path(config.prompts_folder), rendered_max_bytes=config.body_max_bytes).check()
            yield Finding("prompts", "ok", f"{config.prompts_folder}, {count} files")
        except TemplateError as error:
            yield Finding("prompts", "wrong", str(error))


def _keys(config: Config, environment: Mapping[str, str]) -> Iterator[Finding]:
    """That they are there; never what they are."""
    if config.api_keys:
        yield Finding("keys", "ok", f"{len(config.api_keys)} for clients")
    for name, preset in PRESETS.items():
        variable = preset["key_env"]
        if environment.get(variable):
            used = any(upstream.key == environment[variable] for upstream in config.upstreams)
            says = "used" if used else f"used only with --upstream {name}"
            yield Finding("keys", "ok" if used else "note", f"{variable} is in the environment, {says}")


# --- Models ---


async def _upstreams(config: Config) -> AsyncIterator[Finding]:
    found = await look_around(config)
    for one in found:
        yield Finding("found", "note" if one.wants_key else "ok", engine(one))
    if not found and config.discover and not (config.upstreams or config.models):
        yield Finding("found", "note", f"no engine at the ports {', '.join(map(str, config.discover_ports))}")
    try:
        entries = upstream_entries(using(config, found), SystemClock())
    except ConfigError as error:
        yield Finding("upstream", "wrong", str(error))
        return
    for look in asyncio.as_completed([_upstream(entry) for entry in entries]):
        yield await look


async def _upstream(entry: Entry) -> Finding:
    begun = time.perf_counter()
    try:
        models = await entry.upstream.models()
    except UpstreamError as error:
        return Finding("upstream", "wrong", f"{entry.name}: {error.detail}")
    finally:
        await entry.upstream.close()
    if isinstance(entry.upstream, Pool) and entry.upstream.silent:
        return Finding("upstream", "wrong", f"{entry.name}: {' '.join(entry.upstream.silent.values())}")
    took = (time.perf_counter() - begun) * 1000
    if not models and not entry.models:
        return Finding("upstream", "wrong", f"{entry.name} answers in {took:.0f} ms and has no models")
    names = ", ".join(model.id for model in models[:4]) + (", ..." if len(models) > 4 else "")
    return Finding("upstream", "ok", f"{entry.name} answers in {took:.0f} ms, {len(models)} models: {names}")


def _models(config: Config) -> Iterator[Finding]:
    if not config.models:
        return
    try:
        for name, path in model_files(config).items():
            yield Finding("model", "ok", f"{name}: {path}, {size(path.stat().st_size)}")
    except (ConfigError, OSError) as error:
        yield Finding("model", "wrong", str(error))


async def _embedded(config: Config) -> Finding:
    """By loading the bundled model, which is small whatever else is configured."""
    file = bundled_file()
    if file is None:
        return Finding("engine", "note", "the bundled model did not come along, so that the engine was not tried")
    settings = EngineSettings(engine_slots=1, engine_load_seconds=LOAD_SECONDS)
    embedded = Embedded({DEMO_MODEL: file}, SystemClock(), settings)
    begun = time.perf_counter()
    try:
        await embedded.load(DEMO_MODEL)
    except UpstreamError as error:
        needed = config.models or (config.demo_model and not config.upstreams)
        return Finding("engine", "wrong" if needed else "note", error.detail)
    finally:
        await embedded.close()
    return Finding("engine", "ok", f"loaded {DEMO_MODEL} in {time.perf_counter() - begun:.1f} s")
