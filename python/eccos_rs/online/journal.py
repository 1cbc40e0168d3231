"""What must not be forgotten: leases, feedback, spend and prices, in SQLite.

One writer thread commits whatever has come in since its last commit (a group commit, flushed to the disk), so
that a thousand feedbacks a second cost a few dozen flushes and no caller's loop ever waits for a disk.
Several sessions, in this process or in others, may share a store.
"""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eccos_rs.errors import InputError, StoreError
from eccos_rs.online.schema import open_store

if TYPE_CHECKING:
    from os import PathLike

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Journal", "Judged", "LeaseRow"]

logger = logging.getLogger("eccos_rs.online")

_MOST_PENDING = 100_000
"""Leases that wait for a store that does not take them; beyond, the oldest are given up."""

_BATCH = 5_000

_COMPANY = 0.05
"""Seconds that a decision, which nobody waits for, waits to be committed with others."""


@dataclass(frozen=True, slots=True)
class LeaseRow:
    """A decision, as it is journalled.

    Attributes
    ----------
    id, model : str
    at : float
        Seconds since 1970.
    predicted, expected : float
        Success as the predictor gave it, and corrected.
    output_tokens, cost : float
        Predicted tokens and US dollars.
    embedding : bytes or None
        float16, of the query.
    """

    id: str
    model: str
    at: float
    predicted: float
    expected: float
    output_tokens: float
    cost: float
    embedding: bytes | None


@dataclass(frozen=True, slots=True)
class Judged:
    """A lease with its feedback.

    Attributes
    ----------
    lease : LeaseRow
    quality : float
    real_tokens : float or None
    first : bool
        False when this corrects an earlier feedback.
    previous : float or None
        The quality that it corrects.
    """

    lease: LeaseRow
    quality: float
    real_tokens: float | None
    first: bool
    previous: float | None


Task = Callable[[sqlite3.Connection], Any]


class Journal:
    """The store of a session.

    Parameters
    ----------
    path : path
        Made when it is not there.
    keep : float
        Seconds after which leases and their feedback may be forgotten.
    clock : callable
        Seconds since 1970.

    Raises
    ------
    StoreError
        The file is damaged, is no store of ours, or is of a newer release. A store that cannot be *written*
        raises nothing: serving goes on, and feedback is refused until it can be.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        keep: float = 90 * 86400.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path = Path(path)
        self.writer = uuid.uuid4().hex
        self.errors = 0
        self.dropped = 0
        self.fault: str | None = None
        self._clock = clock
        self._keep = keep
        self._spend: dict[tuple[float, str], float] = {}
        self._state: dict[str, str] = {}
        self._tasks: queue.SimpleQueue[tuple[Task | None, Future[Any] | None]] = queue.SimpleQueue()
        self._late: list[Task] = []
        self._connection = open_store(self.path, self._fail)
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="eccos-journal", daemon=True)
        self._thread.start()

    # What callers say; from any thread, never blocking.

    def lease(self, row: LeaseRow) -> None:
        """Journal a decision, soon."""
        self._tasks.put((lambda db: _insert_lease(db, row), None))

    def settle(self, lease: str, tokens: float | None, cost: float, failed: bool) -> None:
        """Journal what a lease really took, soon."""
        self._tasks.put((lambda db: _settle(db, lease, tokens, cost, failed), None))

    def spend(self, period: float, usd: float, state: dict[str, str]) -> None:
        """Journal this session's total spend of a period and its prices, soon.

        Totals rather than differences: whatever was lost on the way, the next one is right again.
        """

        def write(db: sqlite3.Connection) -> None:
            db.execute(
                "INSERT INTO spend VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET usd = excluded.usd",
                (period, self.writer, usd),
            )
            db.executemany(
                "INSERT INTO state VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
                list(state.items()),
            )

        self._tasks.put((write, None))

    def feedback(self, lease: str, quality: float) -> Future[Judged]:
        """Journal a judgement; the future is done when it is on the disk.

        Its exception is an `InputError` for a lease nobody knows and a `StoreError` when it was not written.
        """
        future: Future[Judged] = Future()
        if self._closed:
            future.set_exception(StoreError(f"feedback on {lease!r}: the store {self.path} is closed"))
        else:
            self._tasks.put((lambda db: _judge(db, lease, quality, self._clock()), future))
        return future

    def spent_elsewhere(self, period: float) -> Future[float]:
        """Ask what all other sessions have spent in a period, in US dollars."""
        return self._ask(
            lambda db: db.execute(
                "SELECT coalesce(sum(usd), 0) FROM spend WHERE period = ? AND writer != ?",
                (period, self.writer),
            ).fetchone()[0]
        )

    def state(self) -> dict[str, str]:
        """Read the prices and other small things that a restart goes on with."""
        return dict(self._ask(lambda db: db.execute("SELECT name, value FROM state").fetchall()).result())

    def judged(self) -> list[Judged]:
        """Read all feedback, oldest first."""
        return list(self._ask(lambda db: list(_all_judged(db))).result())

    def flush(self) -> None:
        """Wait until everything said so far is on the disk.

        Raises
        ------
        StoreError
            It could not be written.
        """
        self._ask(lambda db: None).result()

    def close(self) -> None:
        """Write what is pending and close the file."""
        if not self._closed:
            self._closed = True
            self._tasks.put((None, None))
            self._thread.join()

    def _ask(self, task: Task) -> Future[Any]:
        future: Future[Any] = Future()
        self._tasks.put((task, future))
        return future

    # What the writer does; on its own thread.

    def _run(self) -> None:
        open_ = True
        while open_:
            batch = self._collect()
            if batch[-1][0] is None:
                batch.pop()
                open_ = False
            self._commit(batch)
        self._prune()
        if self._connection is not None:
            self._connection.close()

    def _collect(self) -> list[tuple[Task | None, Future[Any] | None]]:
        """Wait for something to write, and take all there is; what nobody waits for may wait for company."""
        batch = [self._tasks.get()]
        until = time.monotonic() + _COMPANY
        while len(batch) < _BATCH and batch[-1][0] is not None:
            waited_for = batch[-1][1] is not None
            until = 0.0 if waited_for else until
            try:
                batch.append(self._tasks.get(timeout=max(until - time.monotonic(), 0.0)))
            except queue.Empty:
                break
        return batch

    def _commit(self, batch: list[tuple[Task | None, Future[Any] | None]]) -> None:
        """Run tasks in one transaction; answer only once it is on the disk."""
        answers: list[tuple[Future[Any], Any, InputError | None]] = []
        late, self._late = self._late, []
        tasks = [*((task, None) for task in late), *batch]
        try:
            db = self._open()
            db.execute("BEGIN IMMEDIATE")
            for task, future in tasks:
                assert task is not None  # the end mark was taken off
                answer: Any = None
                unknown: InputError | None = None
                try:
                    answer = task(db)
                except InputError as error:
                    unknown = error
                if future is not None:
                    answers.append((future, answer, unknown))
            db.execute("COMMIT")
        except sqlite3.Error as error:
            self._failed(error, tasks)
            return
        if self.fault is not None:
            logger.warning("the store %s takes feedback again", self.path)
            self.fault = None
        for asked, given, refusal in answers:
            if refusal is not None:
                asked.set_exception(refusal)
            else:
                asked.set_result(given)

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = open_store(self.path, self._fail)
        if self._connection is None:
            raise sqlite3.OperationalError(self.fault or "cannot be opened")
        return self._connection

    def _failed(self, error: sqlite3.Error, tasks: list[tuple[Task | None, Future[Any] | None]]) -> None:
        if self._connection is not None and self._connection.in_transaction:
            try:
                self._connection.rollback()
            except sqlite3.Error:
                self._connection.close()
                self._connection = None
        self._fail(str(error))
        message = f"the store {self.path} did not take it: {error}"
        for task, future in tasks:
            if future is not None:
                future.set_exception(StoreError(message))
            elif task is not None:
                self._late.append(task)
        if len(self._late) > _MOST_PENDING:
            self.dropped += len(self._late) - _MOST_PENDING
            del self._late[:-_MOST_PENDING]

    def _fail(self, reason: str) -> None:
        self.errors += 1
        if self.fault is None:
            logger.error(
                "the store %s cannot be written (%s): feedback is refused until it can", self.path, reason
            )
        self.fault = reason

    def _prune(self) -> None:
        if self._connection is None:
            return
        oldest = self._clock() - self._keep
        try:
            with self._connection as db:
                db.execute(
                    "DELETE FROM feedback WHERE lease IN (SELECT id FROM lease WHERE at < ?)", (oldest,)
                )
                db.execute("DELETE FROM lease WHERE at < ?", (oldest,))
                db.execute("DELETE FROM spend WHERE period < ?", (oldest,))
        except sqlite3.Error as error:
            self._fail(str(error))


_LEASE = "id, model, at, predicted, expected, output_tokens, cost, embedding"


def _insert_lease(db: sqlite3.Connection, row: LeaseRow) -> None:
    db.execute(
        f"INSERT OR IGNORE INTO lease ({_LEASE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            row.id,
            row.model,
            row.at,
            row.predicted,
            row.expected,
            row.output_tokens,
            row.cost,
            row.embedding,
        ),
    )


def _settle(db: sqlite3.Connection, lease: str, tokens: float | None, cost: float, failed: bool) -> None:
    db.execute(
        "UPDATE lease SET real_tokens = ?, real_cost = ?, failed = ? WHERE id = ?",
        (tokens, cost, failed, lease),
    )


def _judge(db: sqlite3.Connection, lease: str, quality: float, now: float) -> Judged:
    row = db.execute(f"SELECT {_LEASE}, real_tokens FROM lease WHERE id = ?", (lease,)).fetchone()
    if row is None:
        raise InputError(
            f"lease_id: no lease {lease!r} in this store; wanted the id of a lease it has granted"
        )
    earlier = db.execute("SELECT quality FROM feedback WHERE lease = ?", (lease,)).fetchone()
    db.execute(
        "INSERT INTO feedback VALUES (?, ?, ?) "
        "ON CONFLICT DO UPDATE SET quality = excluded.quality, at = excluded.at",
        (lease, quality, now),
    )
    previous = None if earlier is None else earlier[0]
    return Judged(LeaseRow(*row[:8]), quality, row[8], earlier is None, previous)


def _all_judged(db: sqlite3.Connection) -> Iterator[Judged]:
    columns = ", ".join(f"lease.{name}" for name in _LEASE.split(", "))
    rows = db.execute(
        f"SELECT {columns}, lease.real_tokens, feedback.quality FROM feedback "
        "JOIN lease ON lease.id = feedback.lease ORDER BY feedback.at, feedback.rowid"
    )
    for row in rows:
        yield Judged(LeaseRow(*row[:8]), row[9], row[8], True, None)


def pack_embedding(vector: NDArray[np.float32] | None) -> bytes | None:
    """Return a unit vector as float16 bytes: half a percent of an angle, half the room."""
    return None if vector is None else vector.astype("float16").tobytes()


def unpack_embedding(packed: bytes | None) -> NDArray[np.float32] | None:
    """Return the vector that `pack_embedding` packed."""
    import numpy as np

    return None if packed is None else np.frombuffer(packed, dtype=np.float16).astype(np.float32)
