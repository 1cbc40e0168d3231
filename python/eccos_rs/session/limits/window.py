"""The load of one model: concurrency slots, and requests and tokens per minute as sliding windows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from eccos_rs.domain.window import MINUTE, TIME_SLOTS, Window

if TYPE_CHECKING:
    from eccos_rs.domain.llm import LLM, Limit

__all__ = ["MINUTE", "TIME_SLOTS", "ModelLoad", "SharedWindow", "Window"]


class SharedWindow(Window):
    """The uses of a window by all sessions, as of the last reply."""

    __slots__ = ("_span",)

    def __init__(self, limit: int, span: float) -> None:
        super().__init__(limit, span)
        self._span = span

    def free(self, now: float) -> int:
        """Units that may be used by anyone, as far as is known."""
        return max(self.limit - self.used, 0)

    def seconds_until(self, amount: int, now: float) -> float:
        """Seconds until so many units may be free, as far as can be told."""
        if amount > self.limit:
            return math.inf
        excess = self.used + amount - self.limit
        # When the others' uses leave the window is not known here; they are taken to be spread evenly.
        return 0.0 if excess <= 0 else max(self._span * excess / max(self.used, 1), 0.05)


class ModelLoad:
    """The workload of one model, or of a limit over several: what runs, what was used, what it may take.

    Attributes
    ----------
    slots : int or None
        Requests that may run at once.
    in_flight : int
        Requests that run now.
    up : bool
        False while the model takes nothing (a circuit breaker holds it out).
    requests, tokens : Window or None
        The provider's limits per minute.
    seconds : float
        Moving average of how long a request holds its slot; 0 before the first.
    """

    __slots__ = ("in_flight", "name", "requests", "seconds", "slots", "tokens", "up")

    def __init__(self, llm: LLM | Limit, slots: int | None = None, span: float = MINUTE) -> None:
        self.name = llm.name
        limits = [limit for limit in (llm.slots, slots) if limit is not None]
        self.slots: int | None = min(limits) if limits else None
        self.in_flight = 0
        self.up = True
        rpm, tpm = llm.requests_per_minute, llm.tokens_per_minute
        self.requests = None if rpm is None else Window(math.floor(rpm), span)
        self.tokens = None if tpm is None else Window(math.floor(tpm), span)
        self.seconds = 0.0

    @property
    def most_tokens(self) -> float:
        """The largest request that it can ever take, in tokens; -1 when it takes none."""
        if self.slots == 0:
            return -1.0
        return math.inf if self.tokens is None else float(self.tokens.limit)

    def free(self, now: float) -> float:
        """Return the requests that may start now, tokens aside; inf when nothing limits them."""
        if not self.up:
            return 0
        free = math.inf if self.slots is None else max(self.slots - self.in_flight, 0)
        return free if self.requests is None else min(free, self.requests.free(now))

    def fits(self, tokens: int, now: float) -> bool:
        """Say whether a request of so many tokens may start now."""
        return self.free(now) >= 1 and (self.tokens is None or self.tokens.free(now) >= tokens)

    def take(self, tokens: int, now: float) -> int:
        """Take a slot, a request and the predicted tokens; return the time slot (-1: no window)."""
        self.in_flight += 1
        time_slot = -1 if self.requests is None else self.requests.add(1, now)
        return time_slot if self.tokens is None else self.tokens.add(tokens, now)

    def cancel(self, time_slot: int, tokens: int, now: float) -> None:
        """Take back what `take` took, as if it had never been."""
        self.in_flight -= 1
        if self.requests is not None:
            self.requests.settle(time_slot, -1, now)
        if self.tokens is not None:
            self.tokens.settle(time_slot, -tokens, now)

    def release(self, time_slot: int, difference: int, held: float, now: float) -> None:
        """Release a slot after `held` seconds; `difference` is real less predicted tokens."""
        self.in_flight -= 1
        if self.tokens is not None and difference:
            self.tokens.settle(time_slot, difference, now)
        self.seconds += (held - self.seconds) * (0.05 if self.seconds else 1.0)

    def seconds_until(self, tokens: int, now: float) -> float:
        """Estimate the seconds until a request of so many tokens fits; inf when it never will."""
        wait = 0.0
        if not self.up:
            wait = 1.0  # nobody knows when it comes back; a breaker tries again within seconds
        if self.slots is not None and self.in_flight >= self.slots:
            wait = max(wait, (self.seconds or 1.0) / max(self.slots, 1)) if self.slots else math.inf
        if self.requests is not None:
            wait = max(wait, self.requests.seconds_until(1, now))
        if self.tokens is not None:
            wait = max(wait, self.tokens.seconds_until(tokens, now))
        return wait
