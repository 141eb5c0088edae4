"""The clients that ``antiphon launch`` knows: each is told where the server is without touching the user's own files.

One entry for each, in one place.  Must not know how a server is reached or a program is run.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec


class Target(NamedTuple):
    """What a client is to talk to.  ``catalog``: the server's models as coding agents want them described."""

    base_url: str
    key: str
    model: str
    catalog: bytes


class Setup(NamedTuple):
    """What tells a client so: arguments before the user's, variables, and files in a folder that is made for them.

    In all of them ``FOLDER`` stands for that folder.
    """

    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = {}
    files: Mapping[str, str] = {}


class Client(NamedTuple):
    """``keeps``: its folder stays for the next time, since it holds what the client itself writes.

    ``names_model``: it has to be told of a model.
    """

    name: str
    what: str
    install: str
    setup: Callable[[Target], Setup]
    keeps: bool = False
    names_model: bool = True


FOLDER = "{folder}"


def _codex(target: Target) -> Setup:
    """``docs/clients/codex.md``; the values of ``-c`` are TOML, of which JSON's strings are a part."""
    settings = {
        "model": target.model,
        "model_provider": "antiphon",
        "model_providers.antiphon.name": "Antiphon",
        "model_providers.antiphon.base_url": target.base_url,
        "model_providers.antiphon.env_key": "ANTIPHON_API_KEY",
        "model_providers.antiphon.wire_api": "responses",
        "model_catalog_json": f"{FOLDER}/models.json",
    }
    arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={json.dumps(value)}")]
    return Setup(tuple(arguments), {"ANTIPHON_API_KEY": target.key}, {"models.json": target.catalog.decode()})


class _Described(msgspec.Struct):
    slug: str = ""
    context_window: int | None = None


class _Catalog(msgspec.Struct):
    models: list[_Described] = []


def _opencode(target: Target) -> Setup:
    """``docs/clients/opencode.md``; what stands in this variable goes over what stands in the user's files."""
    model: dict[str, Any] = {"name": target.model}
    described = msgspec.json.decode(target.catalog, type=_Catalog).models
    window = next((one.context_window for one in described if one.slug == target.model), None)
    if window:
        model["limit"] = {"context": window, "output": min(window // 4, 16384)}
    options = {"baseURL": target.base_url, "apiKey": "{env:ANTIPHON_API_KEY}"}
    provider = {"npm": "@ai-sdk/openai", "name": "Antiphon", "options": options, "models": {target.model: model}}
    name = f"antiphon/{target.model}"
    config = {"model": name, "small_model": name, "provider": {"antiphon": provider}}
    return Setup((), {"ANTIPHON_API_KEY": target.key, "OPENCODE_CONFIG_CONTENT": json.dumps(config)})


def _llm(target: Target) -> Setup:
    """``docs/clients/llm.md``; its folder is one of its own, and so are the logs in it."""
    model = {
        "model_id": "antiphon",
        "model_name": target.model,
        "api_base": target.base_url,
        "api_key_name": "antiphon",
        "responses": True,
        "supports_schema": True,
        "supports_tools": True,
    }
    files = {
        "extra-openai-models.yaml": json.dumps([model]),  # JSON is YAML, too
        "keys.json": json.dumps({"antiphon": target.key}),
        "default_model.txt": "antiphon",
    }
    return Setup((), {"LLM_USER_PATH": FOLDER}, files)


def _any(target: Target) -> Setup:
    return Setup((), {"OPENAI_BASE_URL": target.base_url, "OPENAI_API_KEY": target.key})


CLIENTS = (
    Client("codex", "OpenAI's coding agent", "npm install -g @openai/codex", _codex),
    Client("opencode", "a coding agent", "npm install -g opencode-ai", _opencode),
    Client("llm", "prompts from the shell, with logs", "pip install llm", _llm, keeps=True),
)
#: A program of the user's own, named by its command: whatever is built on an official SDK needs no more.
ANY = Client("run", "COMMAND: any program that uses an OpenAI SDK", "", _any, names_model=False)


def find(name: str) -> Client | None:
    """The client of this name."""
    return next((client for client in (*CLIENTS, ANY) if client.name == name), None)


def settled(setup: Setup, folder: Path) -> Setup:
    """With the folder's path where it is to stand."""
    put = str(folder)
    return Setup(
        tuple(argument.replace(FOLDER, put) for argument in setup.arguments),
        {name: value.replace(FOLDER, put) for name, value in setup.environment.items()},
        setup.files,
    )
