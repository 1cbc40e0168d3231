"""A budget spread evenly over its period: what the next query may cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eccos_rs.errors import PolicyError
from eccos_rs.session.control.clock import Rate
from eccos_rs.session.control.pace import Pace, Pacer, PaceShare, budget_period

if TYPE_CHECKING:
    from collections.abc import Callable

    from eccos_rs.routing.policy import Policy

__all__ = ["EvenPacer", "Pace", "PaceShare", "Pacer", "budget_period", "make_pacer"]

_SLACK = 0.005
"""Share of the even pace that the spend may be off it before it is corrected for that."""

_CORRECTION_GAIN = 4
"""A spend off the pace is brought back within this fraction of the time since spending began (a quarter)."""

_FASTEST = 10.0
"""Seconds within which a spend is brought back, at least."""

_SLOWEST = 8
"""Fraction of the period within which a spend is brought back, at most (an eighth)."""

_QUERIES = 20.0
"""Queries over which a spend is brought back, at least: one expensive query must not starve the next."""

_CATCH_UP = 0.25
"""Share of the even pace by which a spend that is behind may be faster: no burst follows a lull."""

_SURGES = (5.0, 60.0)
"""Memories, in seconds, of the rates that tell a surge from the traffic of the recent past."""

_SETTLED = 200.0
"""Leases over which real costs are compared with predicted ones."""

_SECONDS = {"hour": 3600.0, "day": 86400.0, "month": 30 * 86400.0}


def make_pacer(policy: Policy, clock: Callable[[], float]) -> EvenPacer | None:
    """Return the pacer of a policy with a budget, None for any other.

    Raises
    ------
    PolicyError
        The budget has no period.
    """
    if policy.budget is None:
        return None
    if policy.per is None:
        raise PolicyError(
            'a session spends without end, so its budget needs a period: per="hour", "day" or "month"; '
            "got none"
        )
    return EvenPacer(policy.budget, policy.per, clock)


class EvenPacer:
    """Spreads a budget over its period.

    The allowance for a query is what may be spent per second, divided by the queries per second: as money
    runs low the allowance shrinks, the shadow price of quality with it, and cheaper models take over one
    query after another. What may be spent per second is what remains, spread evenly over the rest of the
    period; less, while the spend is ahead of the even pace, and a little more, while it is behind. A surge
    counts as soon as it is more than chance. The ratio of real to predicted costs is corrected for.

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
        self._reserved_elsewhere = 0.0
        self._earlier: dict[float, float] = {}  # spent by this session, by period that it has left
        self._totals = [
            0.0,
            0.0,
            0.0,
            0.0,
        ]  # arrivals, settled, real and predicted US dollars, since the start
        self._others: PaceShare | None = None
        self._clock = clock
        self._rate = Rate(_SECONDS[per] / 24)
        self._surges = [Rate(memory) for memory in _SURGES if memory < _SECONDS[per] / 24]
        self._real = self._predicted = 0.0  # costs of the last leases
        self._count = 0.0
        self.started, self.ends = budget_period(per, clock())
        self._opened = clock()  # when spending could first begin in this period
        self._spent_before = self._resumed = 0.0

    def resume(self, started: float, spent: float) -> None:
        """Take what the store knows was spent by others in the period that began at `started`."""
        self.roll()
        if started == self.started:
            if self.spent_elsewhere == 0.0 and self.spent_here == 0.0:
                self._spent_before = self._resumed = spent
            self.spent_elsewhere = spent

    def roll(self) -> bool:
        """Begin a new period when the old one is over; say whether it was."""
        now = self._clock()
        if self.started <= now < self.ends:
            return False
        self._earlier[self.started] = self.spent_here
        self.started, self.ends = budget_period(self.per, now)
        # A clock that was set back comes to a period which this session has spent in before.
        self.spent_here = self._earlier.pop(self.started, 0.0)
        self._opened = self.started
        self.spent_elsewhere = self._spent_before = self._reserved_elsewhere = self._resumed = 0.0
        return True

    @property
    def arrivals_per_second(self) -> float:
        """Queries per second, over the recent past."""
        return self._rate.per_second(self._clock())

    def expect(self, arrivals_per_second: float) -> None:
        """Begin with a rate that an earlier session has seen, until enough of this one's own is known."""
        self._rate.expect(arrivals_per_second)

    def arrive(self, queries: int) -> None:
        """Count queries that were decided."""
        now = self._clock()
        for rate in (self._rate, *self._surges):
            rate.add(queries, now)
        self._totals[0] += queries

    def reserve(self, cost: float) -> None:
        """Set aside the predicted cost of a query that begins."""
        self.reserved += cost

    def settle(self, reserved: float, cost: float, *, failed: bool = False) -> None:
        """Spend the real cost of a query that has ended, and free what was set aside for it."""
        self.reserved = max(self.reserved - reserved, 0.0)
        self.spent_here += cost
        if not failed:
            self._compare(1.0, cost, reserved)
            for at, amount in enumerate((1.0, cost, reserved), start=1):
                self._totals[at] += amount

    def _compare(self, leases: float, real: float, predicted: float) -> None:
        keep = (1.0 - 1.0 / _SETTLED) ** leases
        self._real = self._real * keep + real
        self._predicted = self._predicted * keep + predicted
        self._count = self._count * keep + leases

    @property
    def cost_ratio(self) -> float:
        """Real cost over predicted cost, of the last leases; drawn towards 1 while they are few."""
        if self._predicted <= 0.0:
            return 1.0
        prior = 20.0 * self._predicted / self._count
        return min(max((self._real + prior) / (self._predicted + prior), 0.1), 10.0)

    @property
    def committed(self) -> float:
        """US dollars of the period that are spent, or expected of what runs."""
        reserved = self.reserved + self._reserved_elsewhere
        return self.spent_here + self.spent_elsewhere + reserved * self.cost_ratio

    def allowance(self) -> float:
        """US dollars that the next query may be predicted to cost in the mean; 0 when nothing is left."""
        now = self._clock()
        left = max(self.ends - now, 1.0)
        remaining = max(self.budget - self.committed, 0.0)
        surge = max((rate.at_least(now) for rate in self._surges), default=0.0)
        queries = max(self._rate.per_second(now), surge, 1.0 / left)
        per_second = remaining / left - self._correction(now, queries)
        return max(per_second, 0.0) / queries / self.cost_ratio

    def _correction(self, now: float, queries: float) -> float:
        """Return the US dollars per second by which the spend must be slower (negative: may be faster)."""
        on_pace = self._on_pace(now)
        off = self.committed - on_pace
        excess = max(abs(off) - _SLACK * on_pace, 0.0)
        within = max((now - self._opened) / _CORRECTION_GAIN, _FASTEST, _QUERIES / queries)
        slower = excess / min(within, (self.ends - self.started) / _SLOWEST)
        if off >= 0:
            return slower
        return -min(slower, _CATCH_UP * self.budget / max(self.ends - self._opened, 1.0))

    def _on_pace(self, now: float) -> float:
        share = (now - self._opened) / max(self.ends - self._opened, 1.0)
        return self._spent_before + (self.budget - self._spent_before) * min(max(share, 0.0), 1.0)

    def pace(self) -> Pace:
        """Return where the money stands now."""
        now = self._clock()
        return Pace(
            budget=self.budget,
            spent=self.spent_here + self.spent_elsewhere,
            reserved=self.reserved + self._reserved_elsewhere,
            on_pace=self._on_pace(now),
            started=self.started,
            ends=self.ends,
        )

    def share(self) -> PaceShare:
        """Return what this session has done to the budget."""
        arrivals, settled, real, predicted = self._totals
        return PaceShare(
            self.started, self._opened, self._spent_before, self.spent_here, self.reserved,
            arrivals, settled, real, predicted,
        )  # fmt: skip

    def take_elsewhere(self, others: PaceShare) -> None:
        """Take the sum of what all others that share the budget have done to it."""
        self.roll()
        if others.started == self.started:
            # The store knows of spend that a state which was lost does not.
            self.spent_elsewhere = max(others.spent, self._resumed)
            self._reserved_elsewhere = others.reserved
            if others.opened < self._opened:
                self._opened, self._spent_before = others.opened, others.before
        last, self._others = self._others, others
        if last is None:
            return
        # Sums shrink when a session ends; what it did before is known already.
        arrivals = others.arrivals - last.arrivals
        if arrivals > 0:
            now = self._clock()
            for rate in (self._rate, *self._surges):
                rate.add(arrivals, now)
        settled = others.settled - last.settled
        if settled > 0:
            self._compare(
                settled, max(others.real - last.real, 0.0), max(others.predicted - last.predicted, 0.0)
            )
