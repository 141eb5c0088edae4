"""Writes the generated parts of the documentation; with ``--check`` only tells whether they are fresh.

A generated part stands between ``<!-- generated: NAME -->`` and ``<!-- end -->``.
"""

import json
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from antiphon.config import UpstreamConfig, default_of, describe, fields, option
from antiphon.upstreams import chat_completions, messages, responses

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "docs/clients/README.md")


def settings() -> str:
    """The table of all settings."""
    rows = ["| setting | on the command line | default | meaning |", "| --- | --- | --- | --- |"]
    for name, field in fields().items():
        rows.append(f"| `{name}` | `{option(name)}` | {_shown(default_of(field))} | {describe(field)} |")
    return "\n".join(rows)


def upstream_settings() -> str:
    """The members of an ``[[upstreams]]`` table."""
    rows = ["| member | default | meaning |", "| --- | --- | --- |"]
    for field in msgspec.structs.fields(UpstreamConfig):
        default = "required" if field.required else _shown(default_of(field))
        rows.append(f"| `{field.name}` | {default} | {describe(field)} |")
    return "\n".join(rows)


def model_options(kind: type[msgspec.Struct]) -> str:
    """The options of a model behind one dialect."""
    rows = ["| option | default | meaning |", "| --- | --- | --- |"]
    rows += [
        f"| `{field.name}` | {_shown(default_of(field))} | {describe(field)} |"
        for field in msgspec.structs.fields(kind)
    ]
    return "\n".join(rows)


def clients() -> str:
    """The clients that are tested: what their pages say of themselves, and the versions of their pins."""
    rows = ["| client | tested version | what is tested |", "| --- | --- | --- |"]
    for page in sorted((ROOT / "docs/clients").glob("*.md")):
        if page.stem != "README":
            title, tested = re.findall(r"^(?:# |Tested: )(.+)$", page.read_text("utf-8"), re.MULTILINE)
            rows.append(f"| [{title}]({page.name}) | {_pinned(page.stem)} | {tested} |")
    return "\n".join(rows)


def _pinned(client: str) -> str:
    """The packages that the client's tests install by name, with their versions."""
    folder = ROOT / "tests/clients" / client
    if (package := folder / "package.json").exists():
        pins = json.loads(package.read_text("utf-8"))["dependencies"]
        return ", ".join(f"{name} {version}" for name, version in pins.items())
    pins = dict(re.findall(r"^(\S+)==(\S+)$", (folder / "requirements.txt").read_text("utf-8"), re.MULTILINE))
    wanted = re.findall(r"^([\w-]+)", (folder / "requirements.in").read_text("utf-8"), re.MULTILINE)
    return ", ".join(f"{name} {pins[name]}" for name in wanted)


def _shown(value: object) -> str:
    if value in (None, "", [], {}):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


PARTS: dict[str, Callable[[], str]] = {
    "clients": clients,
    "settings": settings,
    "upstream settings": upstream_settings,
    "model options": partial(model_options, chat_completions.Options),
    "responses options": partial(model_options, responses.Options),
    "messages options": partial(model_options, messages.Options),
}


def refreshed(text: str) -> str:
    """The page with every generated part made anew."""

    def fill(match: re.Match[str]) -> str:
        return f"<!-- generated: {match[1]} -->\n{PARTS[match[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- generated: ([\w ]+) -->\n.*?<!-- end -->", fill, text, flags=re.DOTALL)


def main() -> int:
    """Exit status 1 with ``--check`` when a page is stale."""
    stale = []
    for name in PAGES:
        page = ROOT / name
        before = page.read_text("utf-8")
        after = refreshed(before)
        if after != before:
            stale.append(name)
            if "--check" not in sys.argv:
                page.write_text(after, "utf-8")
    if stale and "--check" in sys.argv:
        print(f"stale: {', '.join(stale)}; run scripts/generate_docs.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
