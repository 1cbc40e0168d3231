"""Live workload: concurrency slots, and requests and tokens per minute as sliding windows."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eccos_rs.routing.pool import LLM

__all__ = ["MINUTE", "Limits", "ModelLimits", "Window"]

MINUTE = 60.0
"""Seconds over which providers count requests and tokens."""

_BUCKETS = 240  # to a window: a use is forgotten at most 1/240 of the window too late, never too early


class Window:
    """How much was used during the last `span` seconds, against a limit.

    Uses are kept in buckets of a 240th of the span. A bucket is forgotten when its *youngest* use may be
    older than the span, so that no span of that length ever holds more than the limit admits.

    Parameters
    ----------
    limit : int
        Units (requests or tokens) in any `span`.
    span : float
        Seconds.
    """

    __slots__ = ("_buckets", "_grain", "_now", "limit", "used")

    def __init__(self, limit: int, span: float = MINUTE) -> None:
        self.limit = limit
        self.used = 0
        self._grain = span / _BUCKETS
        self._buckets: OrderedDict[int, int] = OrderedDict()
        self._now = 0

    def _advance(self, now: float) -> None:
        # A time that runs backwards must not resurrect or reorder buckets: it counts as standing still.
        self._now = max(self._now, math.floor(now / self._grain))
        while self._buckets:
            bucket = next(iter(self._buckets))
            if bucket + _BUCKETS + 1 > self._now:
                break
            self.used -= self._buckets.pop(bucket)

    def room(self, now: float) -> int:
        """Units that may be used now; never below 0."""
        self._advance(now)
        return max(self.limit - self.used, 0)

    def add(self, amount: int, now: float) -> int:
        """Use `amount` units now and return the bucket they are in, for `settle`."""
        self._advance(now)
        self._buckets[self._now] = self._buckets.get(self._now, 0) + amount
        self.used += amount
        return self._now

    def settle(self, bucket: int, difference: int, now: float) -> None:
        """Correct an earlier use by `difference` units (what was really used less what was reserved).

        When the earlier use has left the window, what was used beyond it counts as used now.
        """
        self._advance(now)
        if bucket in self._buckets:
            difference = max(difference, -self._buckets[bucket])
            self._buckets[bucket] += difference
            self.used += difference
        elif difference > 0:
            self.add(difference, now)

    def seconds_until(self, amount: int, now: float) -> float:
        """Seconds until `amount` units fit: 0 when they do now, inf when they never do."""
        if amount > self.limit:
            return math.inf
        self._advance(now)
        excess = self.used + amount - self.limit
        for bucket, held in self._buckets.items():
            if excess <= 0:
                break
            excess -= held
            if excess <= 0:
                return max((bucket + _BUCKETS + 1) * self._grain - now, 0.0)
        return 0.0


class ModelLimits:
    """The workload of one model: what runs, what was used this minute, what it may take.

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

    def __init__(self, llm: LLM, slots: int | None = None, span: float = MINUTE) -> None:
        self.name = llm.name
        limits = [limit for limit in (llm.slots, slots) if limit is not None]
        self.slots: int | None = min(limits) if limits else None
        self.in_flight = 0
        self.up = True
        rpm, tpm = llm.requests_per_minute, llm.tokens_per_minute
        self.requests = None if rpm is None else Window(math.floor(rpm), span)
        self.tokens = None if tpm is None else Window(math.floor(tpm), span)
        self.seconds = 0.0

    def room(self, now: float) -> float:
        """Return the requests that may start now, tokens aside; inf when nothing limits them."""
        if not self.up:
            return 0
        room = math.inf if self.slots is None else max(self.slots - self.in_flight, 0)
        return room if self.requests is None else min(room, self.requests.room(now))

    def fits(self, tokens: int, now: float) -> bool:
        """Say whether a request of so many tokens may start now."""
        return self.room(now) >= 1 and (self.tokens is None or self.tokens.room(now) >= tokens)

    def take(self, tokens: int, now: float) -> int:
        """Take a slot, a request and the predicted tokens; return the bucket (-1: no window)."""
        self.in_flight += 1
        bucket = -1 if self.requests is None else self.requests.add(1, now)
        return bucket if self.tokens is None else self.tokens.add(tokens, now)

    def undo(self, bucket: int, tokens: int, now: float) -> None:
        """Take back what `take` took, as if it had never been."""
        self.in_flight -= 1
        if self.requests is not None:
            self.requests.settle(bucket, -1, now)
        if self.tokens is not None:
            self.tokens.settle(bucket, -tokens, now)

    def give_back(self, bucket: int, difference: int, held: float, now: float) -> None:
        """Give the slot back after `held` seconds; `difference` is real less predicted tokens."""
        self.in_flight -= 1
        if self.tokens is not None and difference:
            self.tokens.settle(bucket, difference, now)
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


class Limits:
    """The live workload of a pool, in the order of its models.

    Parameters
    ----------
    llms : sequence of LLM
    capacity : mapping of str to float, optional
        Slots that a policy allows a model; the smaller of this and the model's own slots holds.
    span : float
        Seconds of the sliding windows.
    """

    def __init__(
        self, llms: Sequence[LLM], capacity: Mapping[str, float] | None = None, span: float = MINUTE
    ) -> None:
        caps = {} if capacity is None else {k: math.floor(v) for k, v in capacity.items() if v < math.inf}
        self.models = [ModelLimits(llm, caps.get(llm.name), span) for llm in llms]
        self.counts_tokens = any(model.tokens is not None for model in self.models)
        self.unlimited = all(
            model.slots is None and model.requests is None and model.tokens is None for model in self.models
        )

    def room(self, now: float) -> list[float]:
        """Return the requests each model may start now; a model without a token left may start none."""
        return [
            0 if model.tokens is not None and model.tokens.room(now) < 1 else model.room(now)
            for model in self.models
        ]

    def token_room(self, now: float) -> list[float]:
        """Return the tokens each model may take now; inf without a limit."""
        return [math.inf if m.tokens is None else m.tokens.room(now) for m in self.models]

    def token_limits(self) -> list[float]:
        """Return the tokens each model may take in a whole window; inf without a limit."""
        return [math.inf if m.tokens is None else m.tokens.limit for m in self.models]

    def next_change(self, now: float) -> float:
        """Return the seconds until a window lets go of something; inf when none holds any."""
        waits = [math.inf]
        for model in self.models:
            for window in (model.requests, model.tokens):
                if window is not None and window.used > 0 and model.up:
                    waits.append(window.seconds_until(min(window.room(now) + 1, window.limit), now))
        return min((wait for wait in waits if wait > 0), default=math.inf)
