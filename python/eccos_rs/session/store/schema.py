"""The file of an SQLite store: its tables, and what it takes to be opened."""

from __future__ import annotations

import os
import sqlite3
import time
from typing import TYPE_CHECKING
from urllib.parse import quote

from eccos_rs.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["FileGoneError", "FileIdentity", "open_database"]

_APPLICATION = 0x45434F53
"""Marks the file as ours ("ECOS")."""

_VERSION = 1

_TABLES = """
CREATE TABLE lease (
    id TEXT PRIMARY KEY, model TEXT NOT NULL, at REAL NOT NULL,
    predicted REAL NOT NULL, expected REAL NOT NULL, output_tokens REAL NOT NULL, cost REAL NOT NULL,
    embedding BLOB, real_tokens REAL, real_cost REAL, failed INTEGER
) WITHOUT ROWID;
CREATE TABLE feedback (lease TEXT NOT NULL UNIQUE, quality REAL NOT NULL, at REAL NOT NULL);
CREATE TABLE spend (
    period REAL NOT NULL, writer TEXT NOT NULL, usd REAL NOT NULL, PRIMARY KEY (period, writer)
);
CREATE TABLE state (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE INDEX lease_at ON lease (at);
"""

_WAIT_FOR_OTHERS = 5.0
"""Seconds to wait while another process writes."""


class FileGoneError(Exception):
    """The file of a store was deleted, moved or replaced while the store was open."""


class FileIdentity:
    """Knows which file an open store writes to, and whether it is still the one at its path.

    SQLite writes happily to a file that nobody will ever find again.

    Parameters
    ----------
    path : Path
        Of a store that has just been opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = self._look()

    def check(self) -> None:
        """Raise `FileGoneError` when the database or its write-ahead log is another file now, or none."""
        if self._known[0] is None:
            return
        for name, known, now in zip(("", "-wal"), self._known, self._look(), strict=True):
            if known is not None and now != known:
                gone = "deleted" if now is None else "replaced"
                raise FileGoneError(f"the file {self._path}{name} was {gone} while the store was open")

    def _look(self) -> tuple[tuple[int, int] | None, ...]:
        return tuple(map(_inode, (str(self._path), f"{self._path}-wal")))


def _inode(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def open_database(path: Path, cannot_write: Callable[[str], None]) -> sqlite3.Connection | None:
    """Open a store, or make it.

    Parameters
    ----------
    path : Path
    cannot_write : callable
        Told the reason when the store cannot be written.

    Returns
    -------
    sqlite3.Connection or None
        In write-ahead mode, flushed to the disk at every commit; a connection that only reads when the file
        cannot be written, None when it cannot even be opened.

    Raises
    ------
    StoreError
        The file is damaged, not ours, or of a newer release.
    """
    try:
        db = _prepared(path)
    except sqlite3.OperationalError as error:
        cannot_write(str(error))
        return _read_only(path)
    except sqlite3.DatabaseError as error:
        raise StoreError(_damaged(path, str(error))) from error
    return db


def _prepared(path: Path) -> sqlite3.Connection:
    """Open and prepare; wait while another process does the same.

    SQLite's own patience does not cover the change to a write-ahead log: who comes upon it is told at once
    that the file is busy.
    """
    give_up = time.monotonic() + _WAIT_FOR_OTHERS
    while True:
        db = _connect(f"file:{_quoted(path)}?mode=rwc")
        try:
            _prepare(db, path)
        except sqlite3.OperationalError as error:
            db.close()
            busy = getattr(error, "sqlite_errorcode", 0) & 0xFF in {
                sqlite3.SQLITE_BUSY,
                sqlite3.SQLITE_LOCKED,
            }
            if not busy or time.monotonic() > give_up:
                raise
            time.sleep(0.02)
        except BaseException:
            db.close()
            raise
        else:
            return db


def _quoted(path: Path) -> str:
    return quote(str(path.absolute()))


def _connect(uri: str) -> sqlite3.Connection:
    return sqlite3.connect(
        uri, uri=True, timeout=_WAIT_FOR_OTHERS, isolation_level=None, check_same_thread=False
    )


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    # In this order: another process may make the store just now, and tables come with their id in one commit.
    tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    application = db.execute("PRAGMA application_id").fetchone()[0]
    if application == 0 and tables == 0:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("BEGIN IMMEDIATE")
        # Somebody else may have made the tables between the look and the lock.
        if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
            for statement in _TABLES.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA application_id = {_APPLICATION}")
            db.execute(f"PRAGMA user_version = {_VERSION}")
        db.execute("COMMIT")
    elif application != _APPLICATION:
        raise StoreError(f"{path} is an SQLite file of another program; give the store a path of its own")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > _VERSION:
        raise StoreError(
            f"the store {path} has schema {version}, and this release reads up to {_VERSION}; "
            "upgrade eccos-rs, or give it another path"
        )
    found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise StoreError(_damaged(path, " ".join(found.split())))
    db.execute("PRAGMA journal_mode = WAL")
    # A commit returns when it is on the disk: what was acknowledged survives a power cut too.
    db.execute("PRAGMA synchronous = FULL")
    # A write lock, taken and let go again, says now, not at the first feedback, if nothing can be written.
    db.execute("BEGIN IMMEDIATE")
    db.execute("UPDATE state SET value = value WHERE 0")
    db.execute("COMMIT")


def _read_only(path: Path) -> sqlite3.Connection | None:
    if not path.exists():
        return None
    # Without the right to write there is no shared memory for the log either: then read the file alone.
    for uri in (f"file:{_quoted(path)}?mode=ro", f"file:{_quoted(path)}?mode=ro&immutable=1"):
        db = None
        try:
            db = _connect(uri)
            db.execute("SELECT count(*) FROM lease")
        except sqlite3.DatabaseError as error:
            if db is not None:
                db.close()
            if isinstance(error, sqlite3.OperationalError):
                continue
            raise StoreError(_damaged(path, str(error))) from error
        return db
    return None


def _damaged(path: Path, why: str) -> str:
    return (
        f"the store {path} is damaged ({why}). Move it away to begin a new one, or save what can be saved: "
        f"sqlite3 {path} .recover | sqlite3 repaired.sqlite"
    )
