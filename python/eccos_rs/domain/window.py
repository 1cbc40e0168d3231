"""How much of a limit per minute is used: a sliding window."""

from __future__ import annotations

import math
from collections import OrderedDict

__all__ = ["MINUTE", "TIME_SLOTS", "Window"]

MINUTE = 60.0
"""Seconds over which providers count requests and tokens."""

TIME_SLOTS = 240
"""Per window: a use is forgotten at most 1/240 of the window too late, never too early."""


class Window:
    """How much was used during the last `span` seconds, against a limit.

    Uses are kept in time slots of a 240th of the span. A time slot is forgotten when its *youngest* use may
    be older than the span, so that no span of that length ever holds more than the limit admits.

    Parameters
    ----------
    limit : int
        Units (requests or tokens) in any `span`.
    span : float
        Seconds.
    """

    __slots__ = ("_grain", "_now", "_slots", "limit", "used")

    def __init__(self, limit: int, span: float = MINUTE) -> None:
        self.limit = limit
        self.used = 0
        self._grain = span / TIME_SLOTS
        self._slots: OrderedDict[int, int] = OrderedDict()
        self._now = 0

    def _advance(self, now: float) -> None:
        # A time that runs backwards must not resurrect or reorder time slots: it counts as standing still.
        self._now = max(self._now, math.floor(now / self._grain))
        while self._slots:
            time_slot = next(iter(self._slots))
            if time_slot + TIME_SLOTS + 1 > self._now:
                break
            self.used -= self._slots.pop(time_slot)

    def free(self, now: float) -> int:
        """Units that may be used now; never below 0."""
        self._advance(now)
        return max(self.limit - self.used, 0)

    def add(self, amount: int, now: float) -> int:
        """Use `amount` units now and return the time slot they are in, for `settle`."""
        self._advance(now)
        self._slots[self._now] = self._slots.get(self._now, 0) + amount
        self.used += amount
        return self._now

    def settle(self, time_slot: int, difference: int, now: float) -> None:
        """Correct an earlier use by `difference` units (what was really used less what was reserved).

        When the earlier use has left the window, what was used beyond it counts as used now.
        """
        self._advance(now)
        if time_slot in self._slots:
            difference = max(difference, -self._slots[time_slot])
            self._slots[time_slot] += difference
            self.used += difference
        elif difference > 0:
            self.add(difference, now)

    def seconds_until(self, amount: int, now: float) -> float:
        """Seconds until `amount` units fit: 0 when they do now, inf when they never do."""
        if amount > self.limit:
            return math.inf
        self._advance(now)
        excess = self.used + amount - self.limit
        for time_slot, held in self._slots.items():
            if excess <= 0:
                break
            excess -= held
            if excess <= 0:
                return max((time_slot + TIME_SLOTS + 1) * self._grain - now, 0.0)
        return 0.0
