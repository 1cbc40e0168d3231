"""A store that ends with its process: the last leases, for feedback that comes soon."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future
from typing import TYPE_CHECKING

from eccos_rs.errors import InputError, StoreError
from eccos_rs.session.store.base import Judged, Served, unknown_lease

if TYPE_CHECKING:
    from eccos_rs.session.store.base import LeaseRow

__all__ = ["MemoryStore"]

_REMEMBERED = 10_000
"""Leases that feedback may still come to."""


class _Known:
    """A lease, what it really took, and its feedback."""

    __slots__ = ("at", "quality", "real_cost", "real_tokens", "row")

    def __init__(self, row: LeaseRow) -> None:
        self.row = row
        self.real_tokens: float | None = None
        self.real_cost: float | None = None
        self.quality: float | None = None
        self.at = 0


class MemoryStore:
    """Remembers the last 10,000 leases; nothing outlives the process.

    Parameters
    ----------
    remembered : int
        Leases that are kept.
    """

    url = "memory://"
    durable = False
    fault = None
    errors = 0
    dropped = 0

    def __init__(self, remembered: int = _REMEMBERED) -> None:
        self._remembered = remembered
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._state: dict[str, str] = {}
        self._judged = 0
        self._lock = threading.Lock()
        self._closed = False

    def lease(self, row: LeaseRow) -> None:
        """Remember a decision; the oldest is forgotten for it."""
        self._known[row.id] = _Known(row)
        if len(self._known) > self._remembered:
            self._known.popitem(last=False)

    def settle(self, lease: str, tokens: float | None, cost: float, failed: bool) -> None:
        """Remember the tokens that a lease really took."""
        known = self._known.get(lease)
        if known is not None:
            known.real_tokens, known.real_cost = tokens, cost

    def feedback(self, lease: str, quality: float) -> Future[Judged]:
        """Remember a judgement; the future is done at once."""
        future: Future[Judged] = Future()
        with self._lock:
            known = self._known.get(lease)
            if self._closed:
                future.set_exception(StoreError(f"feedback on {lease!r}: the store {self.url} is closed"))
            elif known is None:
                where = f"among the last {self._remembered:,}, and none older is known in memory"
                future.set_exception(InputError(unknown_lease(lease, where)))
            else:
                self._judged += 1
                previous, known.quality, known.at = known.quality, quality, self._judged
                future.set_result(Judged(known.row, quality, known.real_tokens, previous is None, previous))
        return future

    def judged(self) -> list[Judged]:
        """Return all feedback, the oldest first."""
        with self._lock:
            rows = sorted((each.at, each) for each in self._known.values() if each.quality is not None)
        return [
            Judged(each.row, each.quality, each.real_tokens, True, None)
            for _, each in rows
            if each.quality is not None
        ]

    def served(self) -> list[Served]:
        """Return the decisions that are remembered, the oldest first."""
        with self._lock:
            known = list(self._known.values())
        served = [
            Served(row.model, row.at, row.expected, row.cost, each.real_cost, each.quality)
            for each in known
            for row in (each.row,)
        ]
        return sorted(served, key=lambda each: each.at)

    def spend(self, period: float, usd: float, state: dict[str, str]) -> None:
        """Remember the state; nobody else asks for the spend."""
        self._state.update(state)

    def spent_elsewhere(self, period: float) -> Future[float]:
        """Return 0: nobody else uses this store."""
        future: Future[float] = Future()
        future.set_result(0.0)
        return future

    def state(self) -> dict[str, str]:
        """Return the state."""
        return dict(self._state)

    def flush(self) -> None:
        """Nothing is pending."""

    def close(self) -> None:
        """Take no more feedback."""
        self._closed = True
