"""The shape of the code: which way imports point, how long things may be, and where everything is caught."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "src/antiphon"
FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))

#: What each part may import of the others.  Parts that stand beside one another do not know one another.
MAY_IMPORT: dict[str, set[str]] = {
    "__init__": set(),
    "protocol": set(),
    "engine": {"protocol"},
    "upstreams": {"protocol", "engine"},
    "tools": {"protocol", "engine"},
    "stores": {"protocol", "engine"},
    "coordinators": {"protocol", "engine"},
    "runs": {"protocol", "engine"},
    "web": {"protocol", "engine", "runs"},
    # Leaves: each is one ability that `assemble` hands to whoever asks for it by a port.
    "addresses": set(),
    "clock": set(),
    "config": set(),
    "documents": set(),
    "sealing": set(),
    "prompts": {"protocol"},
    "fetching": {"addresses"},
    "attachments": {"protocol", "documents", "fetching"},
    "posting": {"engine", "fetching"},
    "announce": {"__init__"},
}
#: Only these know more: `assemble` all parts, and what starts it.
STARTERS = {"assemble", "cli", "__main__"}

#: Libraries that one place alone may know.
HOMES = {
    "aiohttp": ("fetching/",),
    "apsw": ("stores/sqlite/",),
    "asyncpg": ("stores/postgres/",),
    "click": ("cli/",),
    "cryptography": ("sealing.py",),
    "docx": ("documents/",),
    "httptools": ("upstreams/http.py",),
    "jsonschema_rs": ("engine/contracts.py",),
    "llguidance": ("engine/grammars.py",),
    "nats": ("coordinators/nats/",),
    "platformdirs": ("config.py",),
    "pypdfium2": ("documents/",),
    "standardwebhooks": ("runs/signing.py",),
    "uvicorn": ("cli/", "web/transport.py", "web/frames.py"),
    "uvloop": ("cli/",),
    "websockets": ("web/frames.py",),
    "xllamacpp": ("upstreams/embedded/",),
}
#: Those that few servers ever need: loaded with the first file or URL that does.
LATE = ("aiohttp", "docx", "lxml", "pypdfium2")

#: Modules that catch everything: the two boundaries, of which the feed and the takeover are parts (they are a run's
#: task before it runs and while an upstream reads), and writers that hand a failure to whoever waits for the write.
CATCHERS = {
    "runs/execution.py",
    "runs/run.py",
    "runs/takeover.py",
    "web/app.py",
    "stores/sqlite/writer.py",
    "stores/postgres/lanes.py",
    "stores/postgres/connections.py",
}

FUNCTION_MAX, FUNCTION_MEDIAN_MAX, FILE_MAX = 70, 10, 600
UNTELLING = re.compile(r"(^|/)(utils?|helpers?|managers?|common|misc|base\d*)(/|\.py$)")


@cache
def tree(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text("utf-8"))


@cache
def nodes(file: str) -> list[ast.AST]:
    return list(ast.walk(tree(file)))


def part_of(module: str) -> str:
    """The part that a module belongs to, by its name without `antiphon.`."""
    return module.partition(".")[0] or "__init__"


def module_of(file: str) -> str:
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@cache
def imports(file: str) -> list[tuple[str, bool]]:
    """Every imported module in full, and whether it is one of ours."""
    found = []
    for node in nodes(file):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: relative import"
            assert node.module is not None
            names = [node.module]
            if node.module == "antiphon" or (ROOT / node.module.removeprefix("antiphon.").replace(".", "/")).is_dir():
                names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            ours = name == "antiphon" or name.startswith("antiphon.")
            found.append((name.removeprefix("antiphon").removeprefix("."), ours))
    return found


def functions(file: str) -> Iterator[tuple[str, int]]:
    for node in nodes(file):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - node.lineno + 1


def test_imports_point_one_way() -> None:
    for file in FILES:
        part = part_of(module_of(file))
        if part in STARTERS:
            continue
        known = {part_of(name) for name, ours in imports(file) if ours}
        known = {"__init__" if name.startswith("__") else name for name in known}
        assert part in MAY_IMPORT, f"{part} is a new part: say what it may import"
        assert known - {part} <= MAY_IMPORT[part], file


@pytest.mark.parametrize(
    ("parts", "shared"), [("stores", {"queries", "rows"}), ("tools", set()), ("coordinators", set())]
)
def test_siblings_do_not_import_one_another(parts: str, shared: set[str]) -> None:
    """A new store or tool is one place; what they share is said here."""
    for file in FILES:
        own = module_of(file).split(".")
        if own[0] != parts or len(own) < 2:
            continue
        others = {name.split(".")[1] for name, ours in imports(file) if ours and name.startswith(f"{parts}.")}
        assert others - {own[1]} <= shared, file


def test_libraries_are_known_where_they_are_at_home() -> None:
    for file in FILES:
        for name, ours in imports(file):
            homes = None if ours else HOMES.get(name.partition(".")[0])
            assert homes is None or file.startswith(homes), f"{file} imports {name}"


def test_no_ring_of_modules() -> None:
    modules = {module_of(file): file for file in FILES}
    edges = {
        module: {known for known in _known(file, set(modules)) if known != module} for module, file in modules.items()
    }
    while free := [module for module, known in edges.items() if not known & edges.keys()]:
        for module in free:
            del edges[module]

    assert not edges, f"these import one another: {sorted(edges)}"


def _known(file: str, modules: set[str]) -> Iterator[str]:
    for name, ours in imports(file):
        if ours:
            yield name if name in modules else name.rpartition(".")[0]


def test_every_module_says_what_it_is_for() -> None:
    assert [file for file in FILES if len(ast.get_docstring(tree(file)) or "") < 20] == []


def test_names_tell_what_is_inside() -> None:
    assert [file for file in FILES if UNTELLING.search(file)] == []


def test_nothing_is_too_long() -> None:
    lines = {file: len((ROOT / file).read_text("utf-8").splitlines()) for file in FILES}
    lengths = {f"{file}:{name}": length for file in FILES for name, length in functions(file)}

    assert {name: length for name, length in lengths.items() if length > FUNCTION_MAX} == {}
    assert {file: count for file, count in lines.items() if count > FILE_MAX} == {}


def test_most_functions_are_short() -> None:
    lengths = [length for file in FILES for _, length in functions(file)]

    assert statistics.median(lengths) <= FUNCTION_MEDIAN_MAX


def test_everything_is_caught_at_the_boundaries_alone() -> None:
    """What is caught only to be raised again is not caught."""
    catching = {
        file
        for file in FILES
        for node in nodes(file)
        if isinstance(node, ast.ExceptHandler) and _catches_all(node) and not _raises_again(node)
    }

    assert catching <= CATCHERS


def _catches_all(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(isinstance(one, ast.Name) and one.id in ("Exception", "BaseException") for one in caught)


def _raises_again(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def test_there_is_something_to_look_at() -> None:
    assert len(FILES) > 50
    assert set(CATCHERS) - {"stores/postgres/lanes.py", "stores/postgres/connections.py"} <= set(FILES)


def test_a_start_loads_no_library_that_may_never_be_needed() -> None:
    """They would cost every process 20 MB and a fifth of a second."""
    listing = "import antiphon.cli.commands, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True).stdout.split()
    assert "antiphon.assemble" in loaded
    assert not set(LATE) & set(loaded)
