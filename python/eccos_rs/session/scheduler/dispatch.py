"""Dispatch: a micro-batch is assigned jointly, at the stream's prices, to the capacity that is free."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from eccos_rs.solver.assignment import Assignment, assign
from eccos_rs.solver.limits import PooledCapacity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from eccos_rs.routing.policy import Policy
    from eccos_rs.session.limits.base import RateLimiter, SharedRoom
    from eccos_rs.session.request import PendingRequest

__all__ = ["Decision", "Dispatcher"]

logger = logging.getLogger("eccos_rs.session")


class Decision(NamedTuple):
    """What is decided of a micro-batch of N requests.

    Attributes
    ----------
    chosen, runner : list of int
        Index of the model, and of the next best one; -1 for none.
    quality : ndarray of float64, shape (N, M)
        Corrected by feedback, in [0, 1].
    closed : int
        Bit j is set when nobody may go to model j in this round: a request in front waits there for tokens.
    failed : dict of int to Exception
        Requests that cannot be decided, with the reason.
    """

    chosen: list[int]
    runner: list[int]
    quality: NDArray[np.float64]
    closed: int
    failed: dict[int, Exception]


class Dispatcher:
    """Assigns a micro-batch jointly, at the stream's prices, to what is free now.

    Parameters
    ----------
    limits : RateLimiter
    policy : Policy
    """

    def __init__(self, limits: RateLimiter, policy: Policy) -> None:
        self._limits = limits
        self._policy = policy
        self._warm: Assignment | None = None

    def decide(
        self,
        batch: Sequence[PendingRequest],
        *,
        price: float,
        premium: NDArray[np.float64],
        bias: Sequence[float],
        now: float,
        closed: int,
    ) -> Decision:
        """Choose a model for each request, or none for now.

        Parameters
        ----------
        batch : sequence of PendingRequest
            In the order of the queue.
        price : float
            US dollars per success.
        premium : ndarray of float64, shape (M,)
            US dollars added to the cost of each model, for its capacity.
        bias : sequence of float, one per model
            Added to its predicted quality.
        now : float
        closed : int
            Bit j is set when nobody may go to model j in this round.
        """
        try:
            return self._decide(batch, price=price, premium=premium, bias=bias, now=now, closed=closed)
        except Exception as error:
            if len(batch) == 1:
                return Decision([-1], [-1], np.zeros((1, len(premium))), closed, {0: error})
        # One request that cannot be decided fails alone: each is decided by itself. Those that want the same
        # slot are told apart by the limiter, and the second one goes back to the queue.
        logger.exception(
            "a micro-batch of %d could not be decided; each request is decided alone", len(batch)
        )
        parts = []
        for request in batch:
            parts.append(
                self.decide([request], price=price, premium=premium, bias=bias, now=now, closed=closed)
            )
            closed = parts[-1].closed
        return Decision(
            [part.chosen[0] for part in parts],
            [part.runner[0] for part in parts],
            np.concatenate([part.quality for part in parts]),
            closed,
            {row: part.failed[0] for row, part in enumerate(parts) if part.failed},
        )

    def _decide(
        self,
        batch: Sequence[PendingRequest],
        *,
        price: float,
        premium: NDArray[np.float64],
        bias: Sequence[float],
        now: float,
        closed: int,
    ) -> Decision:
        free = self._limits.free(now)
        is_open = np.array([count >= 1 and not closed >> at & 1 for at, count in enumerate(free)])
        quality = np.array([request.quality for request in batch], dtype=np.float64)
        if any(bias):
            quality = np.clip(quality + bias, 0.0, 1.0)
        allowed = np.array([request.allowed for request in batch]) & is_open
        if self._limits.counts_tokens:
            closed = self._reserve_for_head(batch, allowed, closed, now)
        rows = np.flatnonzero(allowed.any(axis=1))
        if not len(rows):
            nobody = [-1] * len(batch)
            return Decision(nobody, nobody, quality, closed, {})
        cost = np.array([request.cost for request in batch]) + premium
        for row, request in enumerate(batch):
            if request.surcharge is not None:
                cost[row] += request.surcharge
        if len(rows) == len(batch):
            found = self._assign(
                batch, cost=cost, quality=quality, allowed=allowed, free=free, price=price, now=now
            )
            others = found.alternatives
            runner = found.model if others is None else others.model
            return Decision(found.model.tolist(), runner.tolist(), quality, closed, {})
        some = [batch[row] for row in rows.tolist()]
        found = self._assign(
            some,
            cost=cost[rows],
            quality=quality[rows],
            allowed=allowed[rows],
            free=free,
            price=price,
            now=now,
        )
        chosen, second = np.full((2, len(batch)), -1, dtype=np.int64)
        chosen[rows] = found.model
        if found.alternatives is not None:
            second[rows] = found.alternatives.model
        return Decision(chosen.tolist(), second.tolist(), quality, closed, {})

    def _assign(
        self,
        batch: Sequence[PendingRequest],
        *,
        cost: NDArray[np.float64],
        quality: NDArray[np.float64],
        allowed: NDArray[np.bool_],
        free: list[float],
        price: float,
        now: float,
    ) -> Assignment:
        load = capacity = None
        shared = self._limits.shared(now)
        if self._limits.counts_tokens:
            load = np.ones((2, *cost.shape))
            load[1] = [request.tokens for request in batch]
            capacity = np.array([free, self._limits.free_tokens(now)], dtype=np.float64)
        elif min(free) < len(batch) or any(room.requests < len(batch) for room in shared):
            capacity = np.array(free, dtype=np.float64)
        self._warm = assign(
            cost,
            quality,
            quality_value=price,
            load=load,
            capacity=capacity,
            pools=None if capacity is None else self._pools(shared),
            allowed=None if allowed.all() else allowed,
            warm_start=self._warm if capacity is not None and self._same_shape(capacity) else None,
            alternatives=True,
            tolerance=self._policy.tolerance,
            time_limit=self._policy.time_limit,
        )
        return self._warm

    def _pools(self, shared: Sequence[SharedRoom]) -> list[PooledCapacity]:
        resources = 2 if self._limits.counts_tokens else 1
        return [
            PooledCapacity(room.models, (room.requests, room.tokens)[resource], resource)
            for room in shared
            for resource in range(resources)
        ]

    def _same_shape(self, capacity: NDArray[np.float64]) -> bool:
        return self._warm is not None and self._warm.duals.capacity.shape == capacity.shape

    def _reserve_for_head(
        self, batch: Sequence[PendingRequest], allowed: NDArray[np.bool_], closed: int, now: float
    ) -> int:
        """Close models to those behind a request that waits there for more tokens than are free now.

        Without this, small queries would use up what comes free and a large one would wait for ever.
        """
        free, shared = self._limits.free_tokens(now), self._limits.shared(now)
        for row, request in enumerate(batch):
            short = 0
            for at in np.flatnonzero(allowed[row]).tolist():
                if closed >> at & 1 or request.tokens[at] > free[at]:
                    allowed[row, at] = False
                    short |= 1 << at
                    for room in shared:
                        # Nor may those behind it use up the limit by way of another model.
                        if at in room.models and request.tokens[at] > room.tokens:
                            short |= sum(1 << other for other in room.models)
            if not allowed[row].any():
                closed |= short
        return closed
