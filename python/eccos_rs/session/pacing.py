"""Money over time: what was spent in this period, and what may be spent on the next query."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eccos_rs.errors import PolicyError

if TYPE_CHECKING:
    from collections.abc import Callable

    from eccos_rs.routing.policy import Policy

__all__ = ["Pace", "Pacer", "Rate", "WallClock", "period_of"]

_BURST = 0.02
"""Share of the budget that the spend may be ahead of the even pace before it is slowed down for that."""

_CATCH_UP = 8
"""A spend further ahead is brought back within so great a part of the period (an eighth)."""

_SURGES = (5.0, 60.0)
"""Memories, in seconds, of the rates that tell a surge from the traffic of the recent past."""

_SETTLED = 200.0
"""Leases over which real costs are compared with predicted ones."""

_SECONDS = {"hour": 3600.0, "day": 86400.0, "month": 30 * 86400.0}


class WallClock:
    """Time of day that does not jump: read once, carried on by a clock that only runs forward.

    Parameters
    ----------
    monotonic : callable
        Seconds that never run backwards.
    wall : float
        Seconds since 1970 (UTC) at the moment of construction.
    """

    __slots__ = ("_monotonic", "_offset")

    def __init__(self, monotonic: Callable[[], float], wall: float) -> None:
        self._monotonic = monotonic
        self._offset = wall - monotonic()

    def __call__(self) -> float:
        """Return seconds since 1970, UTC."""
        return self._monotonic() + self._offset


def period_of(per: str, now: float) -> tuple[float, float]:
    """Return the beginning and the end of the UTC hour, day or month that holds `now`.

    Examples
    --------
    >>> period_of("hour", 7250.0)
    (7200.0, 10800.0)
    """
    start = dt.datetime.fromtimestamp(now, dt.UTC).replace(minute=0, second=0, microsecond=0)
    if per == "hour":
        end = start + dt.timedelta(hours=1)
    elif per == "day":
        start = start.replace(hour=0)
        end = start + dt.timedelta(days=1)
    else:
        start = start.replace(hour=0, day=1)
        end = (start + dt.timedelta(days=32)).replace(day=1)
    return start.timestamp(), end.timestamp()


@dataclass(frozen=True, slots=True)
class Pace:
    """Where the money stands.

    Attributes
    ----------
    budget : float
        US dollars for the period.
    spent : float
        US dollars settled in this period, by every session on the same store.
    reserved : float
        US dollars predicted for what runs now.
    on_pace : float
        US dollars that an even spend since the first query of the period would have reached by now.
    started, ends : float
        The period, in seconds since 1970.
    """

    budget: float
    spent: float
    reserved: float
    on_pace: float
    started: float
    ends: float

    @property
    def remaining(self) -> float:
        """US dollars left, what runs now taken off; negative when overspent."""
        return self.budget - self.spent - self.reserved


class Pacer:
    """Spreads a budget over its period.

    The allowance for a query is what may be spent in a second, divided by the queries of a second: as money
    runs low the allowance shrinks, the price of quality with it, and cheaper models take over one query after
    another. What may be spent in a second is what remains, spread evenly over the rest of the period; less,
    while the spend is ahead of the even pace by more than a fiftieth of the budget. A surge counts as soon as
    it is more than chance. Real costs that keep to a multiple of the predicted ones are reckoned with.

    Parameters
    ----------
    budget : float
        US dollars per period.
    per : {"hour", "day", "month"}
        UTC periods.
    clock : callable
        Seconds since 1970.
    """

    def __init__(self, budget: float, per: str, clock: Callable[[], float]) -> None:
        self.budget = budget
        self.per = per
        self.reserved = 0.0
        self.spent_here = 0.0  # by this session, this period
        self.spent_elsewhere = 0.0  # by others on the store, and by this one before a restart
        self._clock = clock
        self._rate = Rate(_SECONDS[per] / 24)
        self._surges = [Rate(memory) for memory in _SURGES if memory < _SECONDS[per] / 24]
        self._real = self._foreseen = 0.0  # costs of the last leases
        self._count = 0.0
        self.started, self.ends = period_of(per, clock())
        self._opened = clock()  # when spending could first begin in this period
        self._spent_before = 0.0

    @classmethod
    def of(cls, policy: Policy, clock: Callable[[], float]) -> Pacer | None:
        """Return the pacer of a policy with a budget, None for any other."""
        if policy.budget is None:
            return None
        if policy.per is None:
            raise PolicyError(
                'a session spends without end, so its budget needs a period: per="hour", "day" or "month"; '
                "got none"
            )
        return cls(policy.budget, policy.per, clock)

    def resume(self, started: float, spent: float) -> None:
        """Take what the store knows was spent by others in the period that began at `started`."""
        self.roll()
        if started == self.started:
            if self.spent_elsewhere == 0.0 and self.spent_here == 0.0:
                self._spent_before = spent
            self.spent_elsewhere = spent

    def roll(self) -> bool:
        """Begin a new period when the old one is over; say whether it was."""
        now = self._clock()
        if now < self.ends:
            return False
        self.started, self.ends = period_of(self.per, now)
        self._opened = self.started
        self.spent_here = self.spent_elsewhere = self._spent_before = 0.0
        return True

    @property
    def arrivals_per_second(self) -> float:
        """Queries a second, over the recent past."""
        return self._rate.per_second(self._clock())

    def expect(self, arrivals_per_second: float) -> None:
        """Begin with a rate that an earlier session has seen, until enough of this one's own is known."""
        self._rate.expect(arrivals_per_second)

    def arrive(self, queries: int) -> None:
        """Count queries that were decided."""
        now = self._clock()
        for rate in (self._rate, *self._surges):
            rate.add(queries, now)

    def reserve(self, cost: float) -> None:
        """Set aside the predicted cost of a query that begins."""
        self.reserved += cost

    def settle(self, reserved: float, cost: float, *, failed: bool = False) -> None:
        """Spend the real cost of a query that has ended, and free what was set aside for it."""
        self.reserved = max(self.reserved - reserved, 0.0)
        self.spent_here += cost
        if not failed:
            keep = 1.0 - 1.0 / _SETTLED
            self._real = self._real * keep + cost
            self._foreseen = self._foreseen * keep + reserved
            self._count = self._count * keep + 1.0

    @property
    def dearness(self) -> float:
        """Real cost as a multiple of the predicted one, over the last leases, drawn towards 1 while few."""
        if self._foreseen <= 0.0:
            return 1.0
        prior = 20.0 * self._foreseen / self._count
        return min(max((self._real + prior) / (self._foreseen + prior), 0.1), 10.0)

    @property
    def committed(self) -> float:
        """US dollars of the period that are spent, or expected of what runs."""
        return self.spent_here + self.spent_elsewhere + self.reserved * self.dearness

    def allowance(self) -> float:
        """US dollars that the next query may be predicted to cost in the mean; 0 when nothing is left."""
        now = self._clock()
        left = max(self.ends - now, 1.0)
        remaining = max(self.budget - self.committed, 0.0)
        ahead = self.committed - self._on_pace(now) - _BURST * self.budget
        a_second = remaining / left - max(ahead, 0.0) * _CATCH_UP / (self.ends - self.started)
        surge = max((rate.at_least(now) for rate in self._surges), default=0.0)
        queries = max(self._rate.per_second(now), surge, 1.0 / left)
        return max(a_second, 0.0) / queries / self.dearness

    def _on_pace(self, now: float) -> float:
        share = (now - self._opened) / max(self.ends - self._opened, 1.0)
        return self._spent_before + (self.budget - self._spent_before) * min(max(share, 0.0), 1.0)

    def pace(self) -> Pace:
        """Return where the money stands now."""
        now = self._clock()
        return Pace(
            budget=self.budget,
            spent=self.spent_here + self.spent_elsewhere,
            reserved=self.reserved,
            on_pace=self._on_pace(now),
            started=self.started,
            ends=self.ends,
        )


class Rate:
    """Arrivals a second, forgotten exponentially.

    Parameters
    ----------
    memory : float
        Seconds after which an arrival counts half.
    """

    __slots__ = ("_count", "_last", "_memory", "_time")

    def __init__(self, memory: float) -> None:
        self._memory = memory
        self._count = 0.0
        self._time = 0.0
        self._last: float | None = None

    def expect(self, per_second: float) -> None:
        """Begin as if one memory had passed at this rate."""
        self._time = self._memory
        self._count = per_second * self._time

    def add(self, count: int, now: float) -> None:
        """Count arrivals."""
        self._fade(now)
        self._count += count

    def per_second(self, now: float) -> float:
        """Return the rate."""
        self._fade(now)
        # One arrival more and one second more than seen: neither 0 nor infinite at the start.
        return (self._count + 1.0) / (self._time + 1.0)

    def at_least(self, now: float) -> float:
        """Return a rate that is exceeded for certain: two standard deviations below what was seen."""
        self._fade(now)
        return max(self._count - 2.0 * math.sqrt(self._count), 0.0) / (self._time + 1.0)

    def _fade(self, now: float) -> None:
        if self._last is None:
            self._last = now
        passed = max(now - self._last, 0.0)
        self._last = max(now, self._last)
        keep = 0.5 ** (passed / self._memory)
        self._count *= keep
        self._time = self._time * keep + passed
