"""The batching window: when the micro-batch that is being collected is decided."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from eccos_rs.session.control.clock import Rate

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

__all__ = ["BatchingWindow"]

_TIMER = 1e-3
"""Seconds that a timer of an event loop takes at least."""


class BatchingWindow:
    """Calls `flush` when a micro-batch is complete.

    A window is only waited for when other arrivals can be expected in it; what arrives in one turn of the
    loop is decided together all the same.

    Parameters
    ----------
    flush : callable
        Decides what was collected.
    collected : callable
        Returns how many were collected.
    clock : callable
        Seconds that never run backwards.
    window : float
        Seconds that a query lingers for others, at most.
    max_batch : int
        Queries decided together, at most.
    """

    def __init__(
        self,
        flush: Callable[[], None],
        collected: Callable[[], int],
        clock: Callable[[], float],
        *,
        window: float,
        max_batch: int,
    ) -> None:
        self._flush = flush
        self._collected = collected
        self._clock = clock
        self._window = window
        self._max_batch = max_batch
        self._handle: asyncio.Handle | None = None
        self._latest = self._until = -math.inf  # the last arrival, and the end of the window
        self.rate = Rate(5.0)
        """Arrivals per second at this session."""
        self.loop: asyncio.AbstractEventLoop | None = None

    @property
    def pending(self) -> bool:
        """Whether a flush is coming."""
        return self._handle is not None

    def arrived(self, at: float) -> None:
        """Begin a window, or go on with the one that runs."""
        self._latest = at
        full = self._collected() >= self._max_batch
        if self._handle is not None and not full:
            return
        if full:
            self.soon()
            return
        now = self._clock()
        self._until = now + self._window
        self._linger(self._expected_gap(now))

    def soon(self, delay: float = 0.0) -> None:
        """Flush in the next turn of the loop, or after `delay` seconds."""
        self.stop()
        if self.loop is None or self.loop.is_closed():
            return
        if delay > 0:
            self._handle = self.loop.call_later(delay, self._end)
        else:
            self._handle = self.loop.call_soon(self._end)

    def stop(self) -> None:
        """Cancel the flush that is coming."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _end(self) -> None:
        self._handle = None
        self._flush()

    def _expected_gap(self, now: float) -> float:
        """Return the seconds without an arrival after which none is to be expected; 0: none is even now."""
        rate = self.rate.per_second(now)
        if rate * self._window < 1.0:
            return 0.0
        # Arrivals by chance leave a gap of four means in one case of fifty: the burst is over.
        return min(4.0 / rate, self._window)

    def _linger(self, seconds: float) -> None:
        if self.loop is None or self.loop.is_closed():
            return
        if seconds <= 0:
            self._handle = self.loop.call_soon(self._end)
        elif seconds < _TIMER:
            # A timer of the loop takes a millisecond at least; what is shorter is one more turn of the loop.
            self._handle = self.loop.call_soon(self._look_again, self._collected())
        else:
            self._handle = self.loop.call_later(seconds, self._look_again)

    def _look_again(self, seen: int | None = None) -> None:
        """Flush, unless others came meanwhile and the window allows to see whether more do."""
        now = self._clock()
        if seen is None:
            left = min(self._latest + self._expected_gap(now), self._until) - now
        else:
            left = min(_TIMER / 2, self._until - now) if self._collected() > seen else 0.0
        if left > 0:
            self._linger(left)
        else:
            self._end()
