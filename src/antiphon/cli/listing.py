"""``antiphon models``: what is served, and what lies on this disk and could be."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from antiphon.assemble import catalog_of, look_around, using
from antiphon.cli.options import base_url_option, config_option, key_option, sentences
from antiphon.cli.remote import Offer, Remote
from antiphon.cli.tables import columns, plain, size
from antiphon.clock import SystemClock
from antiphon.config import Config, load
from antiphon.upstreams.embedded.disk import OnDisk, is_whole, on_disk


@click.command()
@config_option
@base_url_option
@key_option
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def models(config_path: Path | None, base_url: str | None, api_key: str | None, as_json: bool) -> None:
    """List the models that are served, and those on this disk that could be.

    Without --base-url: what `antiphon serve` would serve.  Files that were cut are left out.
    """
    failures: Mapping[str, str] = {}
    lying: list[OnDisk] = []
    with sentences():
        if base_url is not None:
            offer = asyncio.run(_offered(base_url, api_key))
        else:
            offer, failures = asyncio.run(_would_be_offered(load(config_path, os.environ, {})))
            lying = [one for one in on_disk(Path.home(), os.environ) if is_whole(one)]
        if as_json:
            click.echo(msgspec.json.encode(_document(offer, lying, failures), enc_hook=str).decode())
        else:
            click.echo("\n".join(_page(offer, lying, failures, base_url)))


async def _offered(base_url: str, key: str | None) -> Offer:
    remote = Remote(base_url, key)
    try:
        return await remote.offer()
    finally:
        remote.close()


async def _would_be_offered(config: Config) -> tuple[Offer, Mapping[str, str]]:
    config = using(config, await look_around(config))
    catalog = catalog_of(config, SystemClock())
    try:
        listed = await catalog.all()
    finally:
        await catalog.close()
    return Offer(listed, config.default_model or catalog.aliases.get("*", "")), dict(catalog.failures)


def _document(offer: Offer, lying: Sequence[OnDisk], failures: Mapping[str, str]) -> dict[str, Any]:
    return {
        "served": [{"id": model.id, "owned_by": model.owned_by} for model in offer.models],
        "default": offer.default or None,
        "on_disk": lying,
        "failures": failures,
    }


def _page(offer: Offer, lying: Sequence[OnDisk], failures: Mapping[str, str], base_url: str | None) -> list[str]:
    told = [f"Served at {base_url}:" if base_url else "Served by `antiphon serve`:", ""]
    rows = [(one.id, one.owned_by, "names that nobody knows" * (one.id == offer.default)) for one in offer.models]
    told += columns(rows) if rows else ["  nothing"]
    told += [plain(f"  no answer from {name}: {why}") for name, why in failures.items()]
    if base_url is None:
        told += ["", "On this disk; `antiphon serve --model NAME` serves one:", ""]
        heads = ("NAME", "SIZE", "PARAMETERS", "QUANTIZATION", "FROM")
        lines = [(one.name, size(one.size), one.parameters, one.quantization, one.owner) for one in lying]
        told += columns([heads, *lines]) if lines else ["  nothing from Ollama, LM Studio, Hugging Face or llama.cpp"]
    return told
