"""Shared limits of the processes of one host: a small SQLite file beside the store."""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections import defaultdict
from typing import TYPE_CHECKING

from eccos_rs.errors import StoreError
from eccos_rs.session.limits.exchange import LimiterReply, ModelUse
from eccos_rs.session.limits.window import MINUTE, TIME_SLOTS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from eccos_rs.session.limits.exchange import Message, ModelLimit

__all__ = ["SqliteBackend"]

_TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS replica (
    id TEXT PRIMARY KEY, deadline REAL NOT NULL, published TEXT, period TEXT NOT NULL, reserved REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lease (
    id TEXT PRIMARY KEY, replica TEXT NOT NULL, model TEXT NOT NULL, tokens INTEGER NOT NULL,
    slot INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS load (
    model TEXT PRIMARY KEY, in_flight INTEGER NOT NULL, requests INTEGER NOT NULL, tokens INTEGER NOT NULL,
    limits TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS used (
    model TEXT NOT NULL, slot INTEGER NOT NULL, requests INTEGER NOT NULL, tokens INTEGER NOT NULL,
    PRIMARY KEY (model, slot)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spend (
    period TEXT NOT NULL, replica TEXT NOT NULL, usd REAL NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (period, replica)
) WITHOUT ROWID;
"""

_LEASE_TIME = 3.0
"""Seconds without a sign of life after which a session's slots are released."""

_KEEP_SPEND = 70 * 86400.0
"""Seconds after which the spend of a period is of no interest."""

_LOST = "lost:"
"""Before the name of a session that was killed: what it had reserved counts as spent."""


class SqliteBackend:
    """Counts limits in a file that the processes of one host share.

    The file is not flushed to the disk at every commit: it must survive a process that is killed, and nothing
    in it outlives a minute but the spend, which the store keeps too.

    Parameters
    ----------
    path : Path
        Made when it is not there.
    limits : sequence of ModelLimit
    span : float
        Seconds of the sliding windows.
    clock : callable
        Seconds that never run backwards and are the same for all processes of the host.
    """

    def __init__(
        self,
        path: Path,
        limits: Sequence[ModelLimit],
        *,
        span: float = MINUTE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = str(path)
        self._path = path
        self._limits = limits
        self._grain = span / TIME_SLOTS
        self._clock = clock
        self._db: sqlite3.Connection | None = None

    def run_name(self) -> str:
        """Return the same name always: a file has no server that restarts."""
        try:
            self._open()
        except sqlite3.Error as error:
            raise StoreError(f"the shared limits at {self.url} cannot be opened: {error}") from error
        return ""

    def _open(self) -> sqlite3.Connection:
        if self._db is not None and self._path.exists():
            return self._db
        self.close()
        db = sqlite3.connect(self._path, timeout=2.0, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.executescript(_TABLES)
        self._db = db
        return db

    def close(self) -> None:
        """Close the file."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def exchange(self, message: Message) -> LimiterReply:
        """Do what a message says in one transaction; StoreError: the file cannot be used."""
        try:
            db = self._open()
            db.execute("BEGIN IMMEDIATE")
            try:
                reply = _Exchange(db, self._limits, self._grain, self._clock()).run(message)
            except BaseException:
                db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")
        except sqlite3.Error as error:
            self.close()
            raise StoreError(f"the shared limits at {self.url} cannot be used: {error}") from error
        return reply


class _Exchange:
    """One message in one transaction."""

    def __init__(
        self, db: sqlite3.Connection, limits: Sequence[ModelLimit], grain: float, now: float
    ) -> None:
        self._db = db
        self._limits = limits
        self._now = now
        self._slot = int(now / grain)
        # What changes, by model: in flight, requests, tokens.
        self._change: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
        self._uses: dict[str, list[int]] = {}

    def run(self, message: Message) -> LimiterReply:
        epoch = self._epoch()
        self._reap()
        db = self._db
        known = db.execute("SELECT 1 FROM replica WHERE id = ?", (message.replica,)).fetchone() is not None
        if message.leaving:
            self._release(message)
            self._leave(message.replica)
            self._write()
            return LimiterReply(epoch, True)
        if message.held is None and (not known or message.epoch != epoch):
            return LimiterReply(epoch, False)
        db.execute(
            "INSERT INTO replica VALUES (?, ?, NULL, '', 0) "
            "ON CONFLICT DO UPDATE SET deadline = excluded.deadline",
            (message.replica, self._now + _LEASE_TIME),
        )
        reply = LimiterReply(epoch, True)
        self._load(reply)
        if message.held is not None:
            self._register(message, lost=message.epoch != epoch)
        self._release(message)
        reply.granted = [self._claim(message.replica, *claim) for claim in message.claims]
        self._write()
        reply.uses = [
            ModelUse(*self._uses[limit.name]) if limit.name in self._uses else ModelUse(0, 0, 0)
            for limit in self._limits
        ]
        reply.replicas = db.execute("SELECT count(*) FROM replica").fetchone()[0]
        if message.publication is not None:
            self._publish(message, reply)
        return reply

    def _epoch(self) -> str:
        db = self._db
        found = dict(db.execute("SELECT name, value FROM meta").fetchall())
        if int(found.get("slot", 0)) > self._slot:
            self._restarted()
        db.execute("INSERT OR REPLACE INTO meta VALUES ('slot', ?)", (str(self._slot),))
        if "epoch" in found:
            return str(found["epoch"])
        epoch = uuid.uuid4().hex
        db.execute("INSERT INTO meta VALUES ('epoch', ?)", (epoch,))
        return epoch

    def _restarted(self) -> None:
        """Begin with a clock that began anew with the host: nobody is alive, all uses count as of now."""
        db = self._db
        sums = db.execute("SELECT model, sum(requests), sum(tokens) FROM used GROUP BY model").fetchall()
        db.execute("DELETE FROM used")
        db.executemany(f"INSERT INTO used VALUES (?, {self._slot}, ?, ?)", sums)
        db.execute("UPDATE replica SET deadline = -1")

    def _reap(self) -> None:
        dead = self._db.execute("SELECT id FROM replica WHERE deadline < ?", (self._now,)).fetchall()
        for (replica,) in dead:
            self._db.execute(
                "INSERT OR REPLACE INTO spend SELECT period, ?, reserved, ? FROM replica "
                "WHERE id = ? AND reserved > 0",
                (_LOST + replica, time.time(), replica),
            )
            self._leave(replica)

    def _leave(self, replica: str) -> None:
        for (model,) in self._db.execute("SELECT model FROM lease WHERE replica = ?", (replica,)).fetchall():
            self._change[model][0] -= 1
        self._db.execute("DELETE FROM lease WHERE replica = ?", (replica,))
        self._db.execute("DELETE FROM replica WHERE id = ?", (replica,))

    def _load(self, reply: LimiterReply) -> None:
        """Read what is used of every limited model, without what has left its window."""
        db, oldest = self._db, self._slot - TIME_SLOTS
        left = db.execute(
            "DELETE FROM used WHERE slot < ? RETURNING model, requests, tokens", (oldest,)
        ).fetchall()
        for model, requests, tokens in left:
            self._change[model][1] -= requests
            self._change[model][2] -= tokens
        rows = db.execute("SELECT model, in_flight, requests, tokens, limits FROM load").fetchall()
        known = {row[0]: row for row in rows}
        for limit in self._limits:
            row = known.get(limit.name)
            stated = repr(limit[1:])
            if row is None or row[4] != stated:
                if row is not None:
                    reply.differing = limit.name
                db.execute(
                    "INSERT INTO load VALUES (?, 0, 0, 0, ?) "
                    "ON CONFLICT DO UPDATE SET limits = excluded.limits",
                    (limit.name, stated),
                )
            change = self._change[limit.name]
            held = (0, 0, 0) if row is None else row[1:4]
            self._uses[limit.name] = [max(a + b, 0) for a, b in zip(held, change, strict=True)]

    def _count(self, model: str, in_flight: int, requests: int, tokens: int, slot: int) -> None:
        for at, amount in enumerate((in_flight, requests, tokens)):
            self._change[model][at] += amount
            if model in self._uses:
                self._uses[model][at] += amount
        if requests or tokens:
            self._db.execute(
                "INSERT INTO used VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
                "requests = requests + excluded.requests, tokens = tokens + excluded.tokens",
                (model, slot, requests, tokens),
            )

    def _register(self, message: Message, lost: bool) -> None:
        db, replica = self._db, message.replica
        db.execute("DELETE FROM spend WHERE replica = ?", (_LOST + replica,))
        listed = {held.id: held for held in message.held or ()}
        rows = db.execute("SELECT id, model FROM lease WHERE replica = ?", (replica,)).fetchall()
        for lease, model in rows:
            if lease not in listed:
                self._count(model, -1, 0, 0, self._slot)
                db.execute("DELETE FROM lease WHERE id = ?", (lease,))
        known = {lease for lease, _ in rows}
        for lease, held in listed.items():
            if lease not in known:
                self._take(replica, lease, self._limits[held.model].name, held.tokens)
        more = message.used if lost and message.epoch is not None else message.unseen
        for limit, (requests, tokens) in zip(self._limits, more, strict=False):
            self._count(limit.name, 0, requests, tokens, self._slot)

    def _take(self, replica: str, lease: str, model: str, tokens: int) -> None:
        self._count(model, 1, 0, 0, self._slot)
        self._db.execute(
            "INSERT INTO lease VALUES (?, ?, ?, ?, ?)", (lease, replica, model, tokens, self._slot)
        )

    def _release(self, message: Message) -> None:
        for lease, tokens in message.settled:
            self._settle(lease, tokens, 0)
        for lease in message.cancelled:
            self._settle(lease, 0, -1)

    def _settle(self, lease: str, tokens: int, requests: int) -> None:
        row = self._db.execute(
            "DELETE FROM lease WHERE id = ? RETURNING model, tokens, slot", (lease,)
        ).fetchone()
        if row is None:
            return  # released before, or by the reaper
        model, reserved, slot = row
        difference = tokens - reserved
        if slot < self._slot - TIME_SLOTS:  # its use has left the window: a surplus counts as used now
            slot, requests, difference = self._slot, 0, max(difference, 0)
        self._count(model, -1, requests, difference, slot)

    def _claim(self, replica: str, lease: str, model: int, tokens: int) -> bool:
        limit = self._limits[model]
        used = self._uses[limit.name]
        for most, use, amount in zip(limit[1:], used, (1, 1, tokens), strict=True):
            if most is not None and use + amount > most:
                return False
        self._take(replica, lease, limit.name, tokens)
        self._count(limit.name, 0, 1, tokens, self._slot)
        return True

    def _write(self) -> None:
        self._db.executemany(
            "UPDATE load SET in_flight = max(in_flight + ?, 0), requests = max(requests + ?, 0), "
            "tokens = max(tokens + ?, 0) WHERE model = ?",
            [(*change, model) for model, change in self._change.items() if any(change)],
        )

    def _publish(self, message: Message, reply: LimiterReply) -> None:
        db, said = self._db, message.publication
        assert said is not None  # the caller has looked
        db.execute(
            "UPDATE replica SET published = ?, period = ?, reserved = ? WHERE id = ?",
            (said.row, said.period, said.reserved, message.replica),
        )
        others = db.execute(
            "SELECT published FROM replica WHERE id != ? AND published IS NOT NULL", (message.replica,)
        )
        reply.others = [row[0] for row in others.fetchall()]
        if not said.period:
            return
        now = time.time()
        db.execute(
            "INSERT OR REPLACE INTO spend VALUES (?, ?, ?, ?)",
            (said.period, message.replica, said.spent, now),
        )
        reply.spent = db.execute(
            "SELECT coalesce(sum(usd), 0) FROM spend WHERE period = ? AND replica != ?",
            (said.period, message.replica),
        ).fetchone()[0]
        if message.held is not None:
            db.execute("DELETE FROM spend WHERE at < ?", (now - _KEEP_SPEND,))
