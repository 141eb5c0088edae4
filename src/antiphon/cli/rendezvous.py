"""Where the processes that share a database find its server: a file beside it that only this user can read.

Locks say what the file is worth.  Exclusively it is locked by who starts or ends a server; shared by a server and by
those who use it; where nobody locks it, what stands in it is old.  Must not know how a server is started or asked.
"""

import contextlib
import fcntl
import os
import stat
from pathlib import Path

import msgspec

NOTE_MAX = 4096


class Note(msgspec.Struct, frozen=True):
    """Where the server is.  ``key``: one that it made for this user; None: those that are configured."""

    base_url: str
    key: str | None = None


class Rendezvous:
    """The file, open.  Raises ``OSError`` where there can be none, or somebody else could have written it."""

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(database.name + ".server")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        self._handle = os.open(self._path, flags, 0o600)
        told = os.fstat(self._handle)
        if not stat.S_ISREG(told.st_mode) or told.st_uid != os.geteuid() or told.st_mode & 0o077:
            self.close()
            raise PermissionError(1, "it is not a file that this user alone can read", str(self._path))

    def claim(self) -> bool:
        """Whether this process is the one now that starts the server, or ends it.

        A shared lock stays, which a try for the other one gives up (flock(2)).
        """
        if self._lock(fcntl.LOCK_EX):
            return True
        self._lock(fcntl.LOCK_SH)
        return False

    def join(self) -> Note | None:
        """The server's note, which keeps it from ending; None while one is being started or ended."""
        if not self._lock(fcntl.LOCK_SH):
            return None
        try:
            return msgspec.json.decode(os.pread(self._handle, NOTE_MAX, 0), type=Note)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None

    def tell(self, note: Note) -> None:
        """The server is there."""
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, msgspec.json.encode(note), 0)
        self._lock(fcntl.LOCK_SH)

    def withdraw(self) -> None:
        """The server is there no more."""
        with contextlib.suppress(OSError):
            if self._is_there():
                self._path.unlink()
        self.close()

    def close(self) -> None:
        os.close(self._handle)

    def _lock(self, kind: int) -> bool:
        try:
            fcntl.flock(self._handle, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return self._is_there()

    def _is_there(self) -> bool:
        """Who ends a server removes the file: a lock on what was removed says nothing."""
        try:
            return os.path.samestat(self._path.stat(), os.fstat(self._handle))
        except OSError:
            return False
