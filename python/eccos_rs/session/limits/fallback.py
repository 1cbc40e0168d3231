"""What a session grants by itself while the shared limits cannot be reached: no more than its share."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from eccos_rs.session.limits.local import LocalLimiter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eccos_rs.domain.llm import LLM, Limit
    from eccos_rs.session.limits.base import Claim, Grant
    from eccos_rs.session.limits.exchange import ModelLimit, ModelUse
    from eccos_rs.session.limits.window import Window

__all__ = ["LocalShare"]

_DRAIN = 30.0
"""Seconds after which requests that ran beyond a session's share when the state was lost have ended."""


class LocalShare(LocalLimiter):
    """The load of this session alone, and a cap on it while the shared state is lost.

    Each of n sessions may use a limit's nth part. What one of them holds beyond that when the state is lost
    is part of what the others may not use yet, and none of them knows of it. So at first nobody takes more
    than it has, or half of its part of what was free when at least half of the limit was; all of its share
    once the windows have passed and the slots have drained.

    Parameters
    ----------
    llms : sequence of LLM
    capacity : mapping of str to float, optional
    limits : sequence of ModelLimit
    span : float
        Seconds of the sliding windows.
    """

    def __init__(
        self,
        llms: Sequence[LLM | Limit],
        capacity: Mapping[str, float] | None,
        limits: Sequence[ModelLimit],
        span: float,
    ) -> None:
        super().__init__(llms, capacity, span)
        self._limits = limits
        self._span = span
        self._replicas = 1
        self._lost_at: float | None = None
        self.unseen = [(0, 0)] * len(limits)

    def take(self, claim: Claim, now: float) -> int:
        """Count a slot that was granted elsewhere; return its time slot."""
        return self.models[claim.models[0]].take(claim.tokens[0], now)

    def used(self, now: float) -> list[tuple[int, int]]:
        """Return the requests and tokens of each model in the last window."""
        return [(_used(model.requests, now), _used(model.tokens, now)) for model in self.models]

    def begin(self, uses: Sequence[ModelUse], replicas: int, now: float, unsaid: Sequence[int] = ()) -> None:
        """Cap every limit: the shared state is lost, and this was known of it last.

        `unsaid` lists the models of slots released since the last message: the shared state counts them as
        this session's, so nobody else has been given them.
        """
        self._replicas = max(replicas, 1)
        self._lost_at = time.monotonic()
        self.unseen = [(0, 0)] * len(self._limits)
        for at, (model, limit, use, (requests, tokens)) in enumerate(
            zip(self.models, self._limits, uses, self.used(now), strict=True)
        ):
            if limit.slots is not None:
                own = model.in_flight + unsaid.count(at)
                model.slots = self._cap(limit.slots, use.in_flight, own)
            if model.requests is not None and limit.requests is not None:
                model.requests.limit = self._cap(limit.requests, use.requests, requests)
            if model.tokens is not None and limit.tokens is not None:
                model.tokens.limit = self._cap(limit.tokens, use.tokens, tokens)

    def _cap(self, limit: int, used: int, own: int) -> int:
        if self._replicas == 1:
            return limit
        free = limit - used
        extra = free // (2 * self._replicas) if 2 * free >= limit else 0
        return min(limit // self._replicas, own + extra)

    def relax(self) -> None:
        """Allow the whole share of what has drained since the state was lost."""
        if self._lost_at is None or self._replicas == 1:
            return
        passed = time.monotonic() - self._lost_at
        for model, limit in zip(self.models, self._limits, strict=True):
            if limit.slots is not None and passed > _DRAIN:
                model.slots = limit.slots // self._replicas
            if passed > self._span * 1.01:
                if model.requests is not None and limit.requests is not None:
                    model.requests.limit = limit.requests // self._replicas
                if model.tokens is not None and limit.tokens is not None:
                    model.tokens.limit = limit.tokens // self._replicas

    def count_unseen(self, grants: Sequence[Grant | None]) -> None:
        """Remember what was granted while the state was lost."""
        for grant in grants:
            if grant is not None:
                requests, tokens = self.unseen[grant.model]
                self.unseen[grant.model] = (requests + 1, tokens + grant.tokens)

    def end(self) -> None:
        """Lift the caps: the shared state decides again."""
        self._lost_at = None
        self.unseen = [(0, 0)] * len(self._limits)
        for model, limit in zip(self.models, self._limits, strict=True):
            model.slots = limit.slots
            if model.requests is not None and limit.requests is not None:
                model.requests.limit = limit.requests
            if model.tokens is not None and limit.tokens is not None:
                model.tokens.limit = limit.tokens


def _used(window: Window | None, now: float) -> int:
    if window is None:
        return 0
    window.free(now)  # forgets what has left the window
    return window.used
