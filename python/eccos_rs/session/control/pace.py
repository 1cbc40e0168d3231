"""What a pacer is and says: the period of a budget, where the money stands, what others have spent."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import NamedTuple, Protocol

__all__ = ["Pace", "PaceShare", "Pacer", "budget_period"]


def budget_period(per: str, now: float) -> tuple[float, float]:
    """Return the beginning and the end of the UTC hour, day or month that holds `now`.

    Examples
    --------
    >>> budget_period("hour", 7250.0)
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


class PaceShare(NamedTuple):
    """What one session has done to a budget, for those that share it; sums over several sessions add up.

    Attributes
    ----------
    started : float
        The period, in seconds since 1970.
    opened, before : float
        When spending began in the period, and the US dollars already spent then: where the even pace starts.
    spent, reserved : float
        US dollars settled in the period, and predicted for what runs.
    arrivals, settled : float
        Queries decided, and leases settled, since the session began.
    real, predicted : float
        US dollars of the settled leases, since the session began.
    """

    started: float
    opened: float
    before: float
    spent: float
    reserved: float
    arrivals: float
    settled: float
    real: float
    predicted: float


class Pacer(Protocol):
    """What a session asks of the spending of its budget; `EvenPacer` is the one that is built in."""

    @property
    def budget(self) -> float:
        """US dollars per period."""
        ...

    @property
    def per(self) -> str:
        """The period: ``hour``, ``day`` or ``month``."""
        ...

    @property
    def started(self) -> float:
        """When the period began, in seconds since 1970."""
        ...

    @property
    def spent_here(self) -> float:
        """US dollars settled by this session in this period."""
        ...

    @property
    def reserved(self) -> float:
        """US dollars that answers which run are predicted to cost."""
        ...

    @property
    def committed(self) -> float:
        """US dollars of the period that are spent, or expected of what runs."""
        ...

    @property
    def arrivals_per_second(self) -> float:
        """Queries per second over the recent past, of all sessions that share the budget."""
        ...

    def expect(self, arrivals_per_second: float) -> None:
        """Begin with a rate that an earlier session has seen."""
        ...

    def roll(self) -> bool:
        """Begin a new period when the old one is over; say whether it was."""
        ...

    def arrive(self, queries: int) -> None:
        """Count queries that were decided."""
        ...

    def reserve(self, cost: float) -> None:
        """Set aside the predicted cost of a query that begins."""
        ...

    def settle(self, reserved: float, cost: float, *, failed: bool = False) -> None:
        """Spend the real cost of a query that has ended, and free what was set aside for it."""
        ...

    def allowance(self) -> float:
        """Return the US dollars that the next query may be predicted to cost in the mean."""
        ...

    def pace(self) -> Pace:
        """Return where the money stands now."""
        ...

    def resume(self, started: float, spent: float) -> None:
        """Take what others have spent in the period that began at `started`."""
        ...

    def share(self) -> PaceShare:
        """Return what this session has done to the budget."""
        ...

    def take_elsewhere(self, others: PaceShare) -> None:
        """Take the sum of what all others that share the budget have done to it."""
        ...
