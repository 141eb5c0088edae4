"""Moves the write-ahead log into the database file, and sees to it that deleted content is in neither.

``secure_delete`` overwrites rows where they stood.  But when SQLite spreads the rows of neighbouring pages anew it
leaves copies of those that moved in the unused middle of a page, where they outlive their row.  Pages with such copies
are written through a file system of our own that blanks the middle, which no reader ever looks at
(https://www.sqlite.org/fileformat2.html#b_tree_pages).
Must not know what the tables mean.
"""

import contextlib
from pathlib import Path

import apsw

from antiphon.stores.sqlite.database import connect

#: Pages in the log above which it is moved when the writer has nothing else to do, and above which it is in any case.
IDLE_PAGES = 1000
BUSY_PAGES = 4000
#: How long a reader is waited for before the erasing is put off; the writer does nothing else meanwhile.
BUSY_MILLISECONDS = 50

#: Types of b-tree pages and the size of their headers (file format 1.6).
_HEADERS = {2: 12, 5: 12, 10: 8, 13: 8}
_TABLE_LEAF = 13
_FILE_HEADER_BYTES = 100
_LOG_HEADER_BYTES = 32
_FRAME_HEADER_BYTES = 24
#: From this many pages on (128 GiB) overflow pages can look like tree pages: they begin with a page number.
_PAGES_MAX = 2 << 24


def unused(page: bytes, start: int = 0) -> tuple[int, int]:
    """Where the unused middle of a b-tree page begins and ends; equal where there is none or it is no such page."""
    header = _HEADERS.get(page[start])
    if header is None:
        return 0, 0
    first = start + header + 2 * int.from_bytes(page[start + 3 : start + 5], "big")
    end = int.from_bytes(page[start + 5 : start + 7], "big") or 65536
    return (first, end) if first < end <= len(page) else (0, 0)


def blanked(page: bytes, start: int = 0) -> bytes:
    """The page with zeros in its unused middle."""
    first, end = unused(page, start)
    if page.count(0, first, end) == end - first:
        return page
    return page[:first] + bytes(end - first) + page[end:]


def has_leftovers(log: bytes, page_size: int) -> bool:
    """Whether a row's page in the write-ahead log holds bytes that belong to no row."""
    for offset in range(_LOG_HEADER_BYTES + _FRAME_HEADER_BYTES, len(log), _FRAME_HEADER_BYTES + page_size):
        if log[offset] == _TABLE_LEAF:
            first, end = unused(log[offset : offset + page_size])
            if log.count(0, offset + first, offset + end) != end - first:
                return True
    return False


class _BlankingFile(apsw.VFSFile):
    """The database file; each write of it is one page."""

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - apsw's name
        super().xWrite(blanked(data, 0 if offset else _FILE_HEADER_BYTES), offset)


class _BlankingVfs(apsw.VFS):
    NAME = "antiphon-blanking"

    def __init__(self) -> None:
        super().__init__(self.NAME, "", iVersion=3)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        if flags[0] & apsw.SQLITE_OPEN_MAIN_DB:
            return _BlankingFile("", name, flags)
        return super().xOpen(name, flags)


_vfs = _BlankingVfs()


class Checkpoints:
    """The only maker of checkpoints of one database.  On the writer's thread, outside its transactions."""

    def __init__(self, path: Path, writing: apsw.Connection) -> None:
        self._log = path.with_name(path.name + "-wal")
        self._straight = connect(str(path))
        self._blanking = connect(str(path), vfs=_BlankingVfs.NAME)
        for connection in (self._straight, self._blanking):
            connection.set_busy_timeout(BUSY_MILLISECONDS)
        self._page_size = self._pragma("page_size")
        self._maps = self._pragma("auto_vacuum") != 0
        self._pages = 0
        writing.set_wal_hook(self._grown)

    def _pragma(self, name: str) -> int:
        value = self._straight.pragma(name)
        assert isinstance(value, int)
        return value

    def _grown(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self._pages = pages
        return apsw.SQLITE_OK

    def due(self, *, idle: bool) -> bool:
        """Whether the log has grown long enough."""
        return self._pages >= (IDLE_PAGES if idle else BUSY_PAGES)

    def move(self) -> None:
        """Moves what no reader stands in the way of; the log is then written from its start again."""
        self._pages = 0  # the next commit tells how many there still are
        self._checkpoint(apsw.SQLITE_CHECKPOINT_PASSIVE)

    def erase(self) -> bool:
        """Moves everything and empties the log; False when somebody stood in the way."""
        return self._checkpoint(apsw.SQLITE_CHECKPOINT_TRUNCATE)

    def _checkpoint(self, mode: int) -> bool:
        """Blanking costs a call into Python for each page, so it is done only where there is something to blank."""
        connection = self._straight
        if self._recognises_pages() and has_leftovers(self._log.read_bytes(), self._page_size):
            connection = self._blanking
        with contextlib.suppress(apsw.BusyError):
            connection.wal_checkpoint(mode=mode)
            return True
        return False

    def _recognises_pages(self) -> bool:
        """Pages of trees are told from others by their first byte, which is sure only in these bounds."""
        return not self._maps and self._pragma("page_count") < _PAGES_MAX

    def close(self) -> None:
        """Called last, so that SQLite's own last checkpoint goes through here."""
        self._straight.close()
        self._blanking.close()
