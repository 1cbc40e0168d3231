"""Leases, feedback, spend and prices in an SQLite file.

One writer thread commits whatever has come in since its last commit (a group commit, flushed to the disk), so
that a thousand feedbacks per second cost a few dozen flushes and no caller's loop ever waits for a disk.
Several sessions, in this process or in others, may share a store.
"""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
import time
import uuid
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eccos_rs.errors import InputError, StoreError
from eccos_rs.session.store.pruning import Pruner
from eccos_rs.session.store.rows import all_judged, all_served, insert_lease, judge_lease, settle_lease
from eccos_rs.session.store.schema import FileGoneError, FileIdentity, open_database

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike

    from eccos_rs.session.store.base import Judged, LeaseRow, Served

__all__ = ["SqliteStore"]

logger = logging.getLogger("eccos_rs.session")

_MOST_PENDING = 100_000
"""Leases that wait for a store that does not take them; beyond, the oldest are given up."""

_BATCH = 5_000

_LINGER = 0.05
"""Seconds that a decision, which nobody waits for, waits to be committed with others."""


@dataclass(frozen=True, slots=True)
class _Task:
    """Something to do in the store: `run` takes the connection; None ends the writer."""

    run: Callable[[sqlite3.Connection], Any] | None
    future: Future[Any] | None = None
    writes: bool = True


_WAKE = _Task(None, writes=False)
"""Tells the writer that decisions have come in."""


class SqliteStore:
    """A store in a file; durable when a commit returns.

    Parameters
    ----------
    path : path
        Made when it is not there.
    keep : float
        Seconds after which leases and their feedback may be forgotten.
    clock : callable
        Seconds since 1970.
    monotonic : callable
        Seconds that never run backwards.

    Raises
    ------
    StoreError
        The file is damaged, is no store of ours, or is of a newer release. A store that cannot be *written*
        raises nothing: serving goes on, and feedback is refused until it can be.
    """

    durable = True

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        keep: float = 90 * 86400.0,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = Path(path)
        self.url = str(path)
        self.writer = uuid.uuid4().hex
        self.errors = 0
        self.dropped = 0
        self.fault: str | None = None
        self._clock = clock
        self._pruner = Pruner(keep, clock, monotonic)
        self._tasks: queue.SimpleQueue[_Task] = queue.SimpleQueue()
        self._soon: deque[_Task] = deque()
        self._woken = False
        self._late: list[_Task] = []
        self._connection = open_database(self.path, self._fail)
        self._identity = FileIdentity(self.path)
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="eccos-store", daemon=True)
        self._thread.start()

    # What callers say; from any thread, never blocking.

    def lease(self, row: LeaseRow) -> None:
        """Write a decision, soon."""
        self._later(lambda db: insert_lease(db, row))

    def settle(self, lease: str, tokens: float | None, cost: float, failed: bool) -> None:
        """Write what a lease really took, soon."""
        self._later(lambda db: settle_lease(db, lease, tokens, cost, failed))

    def spend(self, period: float, usd: float, state: dict[str, str]) -> None:
        """Write this session's total spend of a period and its state, soon.

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

        self._later(write)

    def feedback(self, lease: str, quality: float) -> Future[Judged]:
        """Write a judgement; the future is done when it is on the disk.

        Its exception is an `InputError` for a lease nobody knows and a `StoreError` when it was not written.
        """
        future: Future[Judged] = Future()
        if self._closed:
            future.set_exception(StoreError(f"feedback on {lease!r}: the store {self.path} is closed"))
        else:
            self._tasks.put(_Task(lambda db: judge_lease(db, lease, quality, self._clock()), future))
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
        return list(self._ask(lambda db: list(all_judged(db))).result())

    def served(self) -> list[Served]:
        """Read all decisions with what became of them, the oldest first."""
        return list(self._ask(all_served).result())

    def flush(self) -> None:
        """Wait until everything said so far is on the disk.

        Raises
        ------
        StoreError
            It could not be written.
        """
        self._ask(lambda db: None, writes=True).result()

    def close(self) -> None:
        """Write what is pending and close the file."""
        if not self._closed:
            self._closed = True
            self._tasks.put(_Task(None))
            self._thread.join()

    def _later(self, run: Callable[[sqlite3.Connection], Any]) -> None:
        self._soon.append(_Task(run))
        # Waking the writer for every decision would cost each of them a change of threads.
        if not self._woken:
            self._woken = True
            self._tasks.put(_WAKE)

    def _ask(self, run: Callable[[sqlite3.Connection], Any], writes: bool = False) -> Future[Any]:
        future: Future[Any] = Future()
        self._tasks.put(_Task(run, future, writes))
        return future

    # What the writer does; on its own thread.

    def _run(self) -> None:
        open_ = True
        while open_:
            asked = self._collect()
            if asked and asked[-1].run is None:
                asked.pop()
                open_ = False
            self._woken = False
            soon = [self._soon.popleft() for _ in range(len(self._soon))]
            late, self._late = self._late, []
            self._prune()
            # Decisions first: what is asked may be about them.
            self._commit([*late, *soon, *(task for task in asked if task.writes)])
            self._answer([task for task in asked if not task.writes])
        if self._connection is not None:
            self._connection.close()

    def _collect(self) -> list[_Task]:
        """Wait for a question, or until decisions have had time to gather; return what is asked."""
        asked: list[_Task] = []
        wait = self._pruner.seconds_until_due()
        while len(asked) < _BATCH:
            try:
                task = self._tasks.get(timeout=wait)
            except queue.Empty:
                break
            if task is _WAKE:
                wait = _LINGER if not asked else 0.0
                continue
            asked.append(task)
            wait = 0.0
            if task.run is None:
                break
        return asked

    def _commit(self, tasks: list[_Task]) -> None:
        """Run tasks in one transaction; answer only once it is on the disk."""
        if not tasks:
            return
        answers: list[tuple[Future[Any], Any, InputError | None]] = []
        try:
            db = self._open()
            db.execute("BEGIN IMMEDIATE")
            for task in tasks:
                answer, unknown = _try(task, db)
                if task.future is not None:
                    answers.append((task.future, answer, unknown))
            db.execute("COMMIT")
            self._identity.check()
        except Exception as error:
            # Whatever it was, the writer lives on and the callers are told.
            self._failed(error, tasks)
            return
        if self.fault is not None:
            logger.warning("the store %s takes feedback again", self.path)
            self.fault = None
        for future, answer, unknown in answers:
            _tell(future, answer, unknown)

    def _answer(self, tasks: list[_Task]) -> None:
        """Answer questions, which a store that cannot be written may still do."""
        for task in tasks:
            assert task.future is not None  # nobody reads for nobody
            try:
                answer, _ = _try(task, self._open())
            except Exception as error:
                _tell(task.future, None, StoreError(f"the store {self.path} cannot be read: {error}"))
            else:
                _tell(task.future, answer, None)

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = open_database(self.path, self._fail)
            self._identity = FileIdentity(self.path)
        if self._connection is None:
            raise sqlite3.OperationalError(self.fault or "cannot be opened")
        return self._connection

    def _failed(self, error: Exception, tasks: list[_Task]) -> None:
        if self._connection is not None and self._connection.in_transaction:
            try:
                self._connection.rollback()
            except sqlite3.Error:
                self._reopen()
        if isinstance(error, FileGoneError) or _is_read_only(error):
            self._reopen()
        self._fail(str(error))
        message = f"the store {self.path} did not take it: {error}"
        for task in tasks:
            if task.future is not None:
                _tell(task.future, None, StoreError(message))
        self._late = [task for task in tasks if task.future is None]
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

    def _reopen(self) -> None:
        """Open the file anew at the next task."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _prune(self) -> None:
        if self._connection is None or self._pruner.seconds_until_due() > 0.0:
            return
        try:
            self._pruner.run(self._connection)
        except sqlite3.Error as error:
            self._pruner.postpone()
            self._failed(error, [])


def _is_read_only(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_READONLY


def _tell(future: Future[Any], answer: Any, error: Exception | None) -> None:
    if not future.set_running_or_notify_cancel():
        return  # who asked does not wait any more
    if error is None:
        future.set_result(answer)
    else:
        future.set_exception(error)


def _try(task: _Task, db: sqlite3.Connection) -> tuple[Any, InputError | None]:
    assert task.run is not None  # the end mark was taken off
    try:
        return task.run(db), None
    except InputError as unknown:
        return None, unknown
