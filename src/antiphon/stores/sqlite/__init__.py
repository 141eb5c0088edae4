"""The SQLite store: one file, one process, one writer thread with group commit."""

from antiphon.stores.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
