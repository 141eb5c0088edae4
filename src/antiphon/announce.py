"""What the start prints: where the server is, what it found, how to call it.

Must not know how the server works.
"""

from collections.abc import Mapping, Sequence

from antiphon import __version__

#: Names shown at the start; the rest is counted.
SHOWN_MAX = 12


def lines(
    *,
    base_url: str,
    models: Sequence[str],
    aliases: Mapping[str, str],
    failures: Mapping[str, str],
    keys: bool,
    found: Sequence[str] = (),
) -> list[str]:
    """The announcement, line by line; the last one is the ready message.  ``found``: what was seen on this machine."""
    key = "YOUR_KEY" if keys else "any-value"
    told = [f"Antiphon {__version__}", "", f"  base URL   {base_url}"]
    told += [f"  found      {what}" for what in found]
    told += [f"  models     {_models(models)}"]
    told += [f"  alias      {_alias(name)} -> {model}" for name, model in aliases.items()]
    told += [f"  no answer  {name}: {why}" for name, why in failures.items()]
    told += ["", "Try it:", "", *_curl(base_url, key, aliases, models)]
    told += ["", "With the official SDKs (JavaScript, Python) and everything built on them:", ""]
    told += [f"  export OPENAI_BASE_URL={base_url} OPENAI_API_KEY={key}"]
    told += ["", f"Ready on {base_url} (Ctrl-C stops)"]
    return told


def _models(models: Sequence[str]) -> str:
    if not models:
        return "none yet; give --upstream URL or --model FILE.gguf"
    more = f" and {len(models) - SHOWN_MAX} more" if len(models) > SHOWN_MAX else ""
    return ", ".join(models[:SHOWN_MAX]) + more


def _alias(name: str) -> str:
    return "every other name" if name == "*" else name


def _curl(base_url: str, key: str, aliases: Mapping[str, str], models: Sequence[str]) -> list[str]:
    model = "gpt-4.1" if "*" in aliases else (models[0] if models else "MODEL")
    return [
        f"  curl {base_url}/responses -H 'content-type: application/json' -H 'authorization: Bearer {key}' \\",
        f"""    -d '{{"model": "{model}", "input": "Tell me a three sentence bedtime story about a unicorn."}}'""",
    ]
