"""Which of two ways to use threads is faster now: measured as it goes, for the load of a machine changes."""

from __future__ import annotations

__all__ = ["ThreadingAutotuner"]

# The other arm is tried anew after so many runs, twice as many after each time that it loses.
_FIRST_TRIAL, _LAST_TRIAL = 8, 128
# How far one run moves what is remembered of the arm that is taken; of the other only the trial counts.
_SHARE = 0.3


class ThreadingAutotuner:
    """Chooses between arm 0 and arm 1 by the time that their last runs took.

    Arm 0 is taken first. A race between threads costs a measurement at most, so there is no lock.
    """

    def __init__(self) -> None:
        self._taken: list[float | None] = [None, None]
        self._runs = [0, 0]
        self._best, self._until, self._interval = 0, _FIRST_TRIAL, _FIRST_TRIAL

    def choose(self) -> int:
        """Return the arm of the next run: the faster one, or the other when it is time to try it."""
        if self._until <= 0:
            return 1 - self._best
        return self._best

    def record(self, arm: int, seconds: float) -> None:
        """Say how long a run took, for a unit of work."""
        self._runs[arm] += 1
        if self._runs[arm] == 1:
            return  # an arm's first run sets up what the others find there
        if arm != self._best:
            self._taken[arm] = seconds
            self._decide()
            return
        before = self._taken[arm]
        self._taken[arm] = seconds if before is None else before + _SHARE * (seconds - before)
        self._until -= 1

    def _decide(self) -> None:
        """After a trial: stay, and try less often, or go over."""
        ours, theirs = self._taken[self._best], self._taken[1 - self._best]
        if ours is not None and theirs is not None and theirs < ours:
            self._best, self._interval = 1 - self._best, _FIRST_TRIAL
        else:
            self._interval = min(2 * self._interval, _LAST_TRIAL)
        self._until = self._interval
