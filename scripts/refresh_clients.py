"""Raises the pins of the clients in tests/clients (those named, or all) to the newest versions and runs their tests.

A client that still works keeps its new pins; one that broke gets its old ones back, and the end of its tests' output
is shown.  Exit status 1 when any broke.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLIENTS = ROOT / "tests/clients"
PINS = ("requirements.txt", "package.json", "package-lock.json")
PYTHON = ROOT / ".venv/bin/python"
SHOWN_LINES = 60


def run(*command: str | Path, folder: Path = ROOT) -> str:
    """What the command printed.  Raises CalledProcessError."""
    ci = {**os.environ, "CI": "true", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    return subprocess.run(
        command, cwd=folder, env=ci, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
    ).stdout


def raise_python(folder: Path) -> None:
    """Resolves `requirements.in` anew, in an environment that is thrown away."""
    with tempfile.TemporaryDirectory() as home:
        run(PYTHON, "-m", "venv", "--without-pip", home)
        pip = (PYTHON, "-m", "pip", "--python", f"{home}/bin/python")
        run(*pip, "install", "--quiet", "-r", folder / "requirements.in")
        pins = [line for line in run(*pip, "list", "--format", "freeze").splitlines() if "==" in line]
        (folder / "requirements.txt").write_text("\n".join(pins) + "\n", "utf-8")


def raise_javascript(folder: Path) -> None:
    """Asks for the newest of every package that `package.json` names."""
    wanted = json.loads((folder / "package.json").read_text("utf-8"))["dependencies"]
    newest = [f"{name}@latest" for name in wanted]
    run(ROOT / "scripts/npm", "install", "--save-exact", "--no-audit", "--no-fund", *newest, folder=folder)


def refreshed(folder: Path) -> bool:
    """Whether the client works with its newest versions; if not, its pins are as they were."""
    before = {name: (folder / name).read_text("utf-8") for name in PINS if (folder / name).exists()}
    try:
        if "requirements.txt" in before:
            raise_python(folder)
        if "package.json" in before:
            raise_javascript(folder)
        tell_changes(folder, before)
        run(ROOT / "scripts/setup-clients", folder.name)
        run(PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests_of(folder.name))
    except subprocess.CalledProcessError as failure:
        print("\n".join(failure.stdout.splitlines()[-SHOWN_LINES:]))
        for name, text in before.items():
            (folder / name).write_text(text, "utf-8")
        run(ROOT / "scripts/setup-clients", folder.name)
        return False
    return True


def tell_changes(folder: Path, before: dict[str, str]) -> None:
    for name in PINS[:2]:
        if name in before:
            old, new = before[name].splitlines(), (folder / name).read_text("utf-8").splitlines()
            changed = [f"- {line}" for line in old if line not in new] + [
                f"+ {line}" for line in new if line not in old
            ]
            print("\n".join(changed) or "nothing newer")


def tests_of(client: str) -> list[str]:
    """The client's own tests, and those of its page."""
    module = f"tests/clients/test_{client.replace('-', '_')}.py"
    return [module, "tests/clients/test_pages.py", "-k", f"{client.replace('-', '_')} or {client}"]


def main() -> int:
    names = sys.argv[1:] or sorted(file.parent.name for pins in PINS[::2] for file in CLIENTS.glob(f"*/{pins}"))
    broken = []
    for name in names:
        print(f"--- {name}")
        if not refreshed(CLIENTS / name):
            broken.append(name)
    run(PYTHON, "scripts/generate_docs.py")
    print(f"broke, and keep their old pins: {', '.join(broken)}" if broken else "all work with their newest versions")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
