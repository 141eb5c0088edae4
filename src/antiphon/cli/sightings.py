"""What was found on this machine, told to people: engines that run, and keys that could be used."""

from collections.abc import Iterator, Mapping, Sequence

from antiphon.config import PRESETS, Config
from antiphon.upstreams.discovery import Found


def sightings(config: Config, found: Sequence[Found], environment: Mapping[str, str]) -> list[str]:
    """One phrase for each; none where the operator has said what is to be used."""
    if config.upstreams or config.models:
        return []
    told = [engine(one) for one in found]
    if not told and config.discover and config.discover_ports:
        told = [f"no engine at the ports {', '.join(map(str, config.discover_ports))} of this machine"]
    return told + list(_keys(environment))


def engine(found: Found) -> str:
    """One engine, where it is and what it has."""
    what = f"{found.title} {found.version}".rstrip() + f" at {found.url}"
    if found.wants_key:
        return f"{what}, which wants its key: --upstream {found.base_url} --upstream-key KEY"
    count = len(found.models)
    return f"{what}, " + ("with no model that it named" if not count else f"with {count} model{'s' * (count > 1)}")


def _keys(environment: Mapping[str, str]) -> Iterator[str]:
    for name, preset in PRESETS.items():
        if environment.get(preset["key_env"]):
            yield f"{preset['key_env']} in the environment, which is used only with --upstream {name}"
