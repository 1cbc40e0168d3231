"""Old rows leave an SQLite store while it is in use, and never because a clock was wrong."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

__all__ = ["Pruner"]

_EVERY = 3600.0
"""Seconds between two prunings."""

_CHUNK = 2_000
"""Leases deleted per transaction: other writers must not wait for long."""

_UNUSED = 86400.0
"""Seconds that a store is believed to have been out of use, at most, when it is opened again."""

_STORE_TIME = "store_time"


class Pruner:
    """Deletes what is older than `keep`, by a time that advances no faster than real time.

    The time of day may be wrong: a machine that starts in 2038 would find every row too old. So the store
    keeps a time of its own. It advances with a clock that only runs forward while a process uses the store,
    by at most a day for the time between two processes, and it never passes the time of day.

    Parameters
    ----------
    keep : float
        Seconds after which leases and their feedback are deleted.
    clock : callable
        Seconds since 1970.
    monotonic : callable
        Seconds that never run backwards.
    """

    def __init__(
        self, keep: float, clock: Callable[[], float], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._keep = keep
        self._clock = clock
        self._monotonic = monotonic
        self._store_time: float | None = None
        self._read = monotonic()
        self._next = self._read  # soon after opening: the process may never live for an hour

    def seconds_until_due(self) -> float:
        """Return the seconds until `run` has something to do; 0 when it has now."""
        return max(self._next - self._monotonic(), 0.0)

    def postpone(self) -> None:
        """Try again later: the store cannot be written now."""
        self._next = self._monotonic() + _EVERY

    def run(self, db: sqlite3.Connection) -> None:
        """Delete one chunk of old rows, in one transaction; `seconds_until_due` says when to go on."""
        db.execute("BEGIN IMMEDIATE")
        oldest = self._advance(db) - self._keep
        ids = db.execute("SELECT id FROM lease WHERE at < ? LIMIT ?", (oldest, _CHUNK)).fetchall()
        db.executemany("DELETE FROM feedback WHERE lease = ?", ids)
        db.executemany("DELETE FROM lease WHERE id = ?", ids)
        db.execute("DELETE FROM spend WHERE period < ?", (oldest,))
        db.execute(
            "INSERT INTO state VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
            (_STORE_TIME, repr(self._store_time)),
        )
        db.execute("COMMIT")
        if len(ids) < _CHUNK:
            self._next = self._monotonic() + _EVERY

    def _advance(self, db: sqlite3.Connection) -> float:
        now, read = self._clock(), self._monotonic()
        passed = read - self._read
        if self._store_time is None:
            found = db.execute("SELECT value FROM state WHERE name = ?", (_STORE_TIME,)).fetchone()
            newest = db.execute("SELECT max(at) FROM lease").fetchone()[0]
            known = float(found[0]) if found else now if newest is None else float(newest)
            passed += _UNUSED
        else:
            known = self._store_time
        self._read = read
        self._store_time = min(known + passed, now)
        return self._store_time
