"""Arrivals: from what a caller asks to a pending request."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from eccos_rs.session.checks import checked_number, checked_timeout, model_mask
from eccos_rs.session.request import PendingRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from eccos_rs.domain.query import Query
    from eccos_rs.pools.pool import Pool
    from eccos_rs.routing.policy import Policy
    from eccos_rs.session.request import Costing

__all__ = ["Arrivals"]


class Arrivals:
    """Makes pending requests, in the order of their arrival.

    Parameters
    ----------
    pool : Pool
    policy : Policy
        Its `wait` and `overload` say how long a request may wait.
    clock : callable
        Seconds that never run backwards.
    """

    def __init__(self, pool: Pool, policy: Policy, clock: Callable[[], float]) -> None:
        self._pool = pool
        self._policy = policy
        self._clock = clock
        self._count = 0

    def request(
        self,
        query: Query,
        exclude: Iterable[str],
        max_cost: float | None,
        timeout: float | None,
        *,
        costing: Costing | None = None,
    ) -> PendingRequest:
        """Return a request of the running loop; see `Session.acquire` for what raises."""
        for name in query.models or ():
            self._pool.columns(name)
        now = self._clock()
        self._count += 1
        return PendingRequest(
            query,
            asyncio.get_running_loop().create_future(),
            self._pool,
            arrived=now,
            deadline=now + self._patience(timeout),
            excluded=model_mask(exclude, self._pool),
            max_cost=math.inf if max_cost is None else checked_number("max_cost", max_cost),
            order=(-query.priority, self._count),
            costing=costing,
        )

    def _patience(self, timeout: float | None) -> float:
        """Return the seconds that a request may wait for a free model."""
        if timeout is not None:
            return checked_timeout(timeout)
        if self._policy.wait is not None:
            return self._policy.wait
        return math.inf if self._policy.overload == "defer" else 0.0
