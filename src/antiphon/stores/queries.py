"""Loads named queries: ``-- name: x`` begins one, the lines after it are its text."""

from functools import lru_cache
from importlib.resources import files


class Queries:
    """The named queries of one .sql file of a package."""

    def __init__(self, package: str, name: str) -> None:
        text = files(package).joinpath(name).read_text("utf-8")
        self._queries = {
            title.strip(): body.strip().rstrip(";")
            for title, _, body in (part.partition("\n") for part in text.split("-- name: ")[1:])
        }

    def __getitem__(self, name: str) -> str:
        return self._queries[name]

    @lru_cache(maxsize=256)  # noqa: B019 - one instance per process and database
    def rows(self, name: str, count: int, width: int) -> str:
        """The query with ``count`` rows of ``width`` placeholders."""
        row = "(" + ",".join("?" * width) + ")"
        return self[name].replace("{rows}", ",".join([row] * count))


def migrations(package: str) -> list[tuple[int, str]]:
    """The numbered migrations of a store, in order."""
    found = [entry for entry in files(package).joinpath("migrations").iterdir() if entry.name.endswith(".sql")]
    return sorted((int(entry.name[:4]), entry.read_text("utf-8")) for entry in found)
