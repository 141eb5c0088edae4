"""Opens the database file: private, claimed by one process, brought to the newest schema.

Must not know what the tables mean.
"""

import contextlib
import fcntl
import os
from pathlib import Path
from typing import NamedTuple

import apsw

from antiphon.stores.queries import migrations

PACKAGE = "antiphon.stores.sqlite"
#: How long a lock of another process (a backup, a shell) is waited for.
BUSY_MILLISECONDS = 5000

_PRAGMAS = (
    "journal_mode=WAL",
    "secure_delete=ON",
    "temp_store=MEMORY",  # sorting must not write what people said to a temporary file
    "foreign_keys=OFF",
    "cache_size=-16000",
    "wal_autocheckpoint=0",
)


class Claim:
    """One process at a time: the writer counts in memory, and the start settles runs that nobody works on any more.

    The lock is on a file of its own, since closing any handle of the database file would drop SQLite's locks on it.
    """

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._handle)
            raise ValueError(f"{path} is in use by another process") from None

    def close(self) -> None:
        """Lets the next process in."""
        os.close(self._handle)


class Inspection(NamedTuple):
    """What can be seen of a database without changing it."""

    version: int
    newest: int
    file_bytes: int
    in_use: bool


def inspect(path: Path) -> Inspection:
    """Reads the file and nothing else.  Raises ``ValueError`` when it cannot be read or is no database."""
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            connection.set_busy_timeout(BUSY_MILLISECONDS)
            version = connection.pragma("user_version")
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        finally:
            connection.close()
    except apsw.Error as error:
        raise ValueError(f"{path} cannot be opened: {error}") from None
    return Inspection(int(str(version)), migrations(PACKAGE)[-1][0], path.stat().st_size, _is_claimed(path))


def _is_claimed(path: Path) -> bool:
    try:
        with path.with_name(path.name + ".lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def create_private(path: Path) -> None:
    """The file holds what people said: its owner alone may read it.  SQLite gives its side files the same mode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def connect(path: str, *, vfs: str | None = None) -> apsw.Connection:
    """A connection as the store uses it; checkpoints are made by ``checkpoints`` alone.

    Raises ``ValueError`` when the file cannot be opened or is no database.
    """
    try:
        connection = apsw.Connection(path, vfs=vfs, statementcachesize=256)
        connection.set_busy_timeout(BUSY_MILLISECONDS)
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}").fetchall()
    except apsw.Error as error:
        raise ValueError(f"{path} cannot be opened: {error}") from None
    return connection


def migrate(connection: apsw.Connection) -> None:
    """Applies what the database does not have yet.  Raises ``ValueError`` when a newer release wrote it."""
    version = connection.pragma("user_version")
    assert isinstance(version, int)
    known = migrations(PACKAGE)
    if version > known[-1][0]:
        raise ValueError(
            f"the database was written by a newer release (schema {version}, this one knows {known[-1][0]})"
        )
    for number, text in known:
        if number > version:
            connection.execute(f"BEGIN; {text}; PRAGMA user_version={number}; COMMIT").fetchall()
