"""Time of day for budgets, and rates of arrival."""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Rate", "WallClock"]

logger = logging.getLogger("eccos_rs.session")

_STEP = 60.0
"""Seconds by which the time of day must have passed a boundary before a budget follows it there."""


class WallClock:
    """Time of day that does not jump: read once, carried on by a clock that only runs forward.

    A step of the time of day (NTP, an operator, a machine that was suspended) is followed by `follow` alone.

    Parameters
    ----------
    clock : callable
        Seconds that never run backwards: the session's clock.
    wall : callable, optional
        Seconds since 1970 (UTC), as the operating system has them now.
    monotonic : callable, optional
        Seconds that never run backwards, of the operating system; steps of `wall` are measured against it.
    """

    __slots__ = ("_clock", "_followed", "_monotonic", "_offset", "_set", "_wall")

    def __init__(
        self,
        clock: Callable[[], float],
        wall: Callable[[], float] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._wall = wall or time.time
        self._monotonic = monotonic
        now = self._wall()
        self._offset = now - clock()
        self._set = now - monotonic()
        self._followed = 0.0

    def __call__(self) -> float:
        """Return seconds since 1970, UTC."""
        return self._clock() + self._offset

    def step(self) -> float:
        """Return the seconds by which the time of day was set forward since it was last followed."""
        return self._wall() - self._monotonic() - self._set - self._followed

    def follow(self, period: Callable[[float], tuple[float, float]]) -> bool:
        """Follow the time of day into another period, when a step has taken it there by more than a minute.

        Parameters
        ----------
        period : callable
            From a time to the beginning and the end of its period.

        Returns
        -------
        bool
            Whether this clock has been set.
        """
        step = self.step()
        if abs(step) <= _STEP:
            return False
        now = self()
        begins, ends = period(now)
        if begins - _STEP < now + step < ends + _STEP:
            return False
        self._followed += step
        self._offset += step
        logger.warning(
            "the time of day was set %s by %.0f s, out of the period of the budget: the budget follows it "
            "into the period that begins at %s UTC",
            "forward" if step > 0 else "back",
            abs(step),
            time.strftime("%Y-%m-%d %H:%M", time.gmtime(period(now + step)[0])),
        )
        return True


class Rate:
    """Arrivals per second, forgotten exponentially.

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

    def add(self, count: float, now: float) -> None:
        """Count arrivals."""
        self._decay(now)
        self._count += count

    def per_second(self, now: float) -> float:
        """Return the rate."""
        self._decay(now)
        # One arrival more and one second more than seen: neither 0 nor infinite at the start.
        return (self._count + 1.0) / (self._time + 1.0)

    def at_least(self, now: float) -> float:
        """Return a rate that is exceeded for certain: two standard deviations below what was seen."""
        self._decay(now)
        return max(self._count - 2.0 * math.sqrt(self._count), 0.0) / (self._time + 1.0)

    def _decay(self, now: float) -> None:
        if self._last is None:
            self._last = now
        passed = max(now - self._last, 0.0)
        self._last = max(now, self._last)
        keep = 0.5 ** (passed / self._memory)
        self._count *= keep
        self._time = self._time * keep + passed
