"""Who waits: first come first served among equals, priorities first, nobody behind a door that is not his."""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from eccos_rs.routing.pool import Pool
    from eccos_rs.routing.query import Query

__all__ = ["Waiter", "WaitingRoom"]


class Waiter:
    """A query from its arrival until it is served, refused or cancelled.

    Attributes
    ----------
    query : Query
    outcome : asyncio.Future
        Takes a lease or an exception.
    arrived, deadline : float
        On the session's clock; the deadline is inf for none.
    excluded : int
        Bit j is set when the caller will not have model j.
    max_cost : float
        US dollars above which a model is ruled out.
    order : tuple of (int, int)
        Priority (negated) and arrival: the place in the queue.
    alive, queued : bool
        Not yet served, refused or cancelled; and known to a `WaitingRoom`.
    mask : int
        Bit j is set when model j may take it. This and the following are there once it is predicted.
    cost, quality, output_tokens, allowed : ndarray, shape (M,)
        Predicted US dollars, success, output tokens; and the pairs that may be chosen.
    tokens : sequence of int, one a model
        Tokens reserved from a limit per minute: the prompt's and the predicted output's.
    predicted : float
        When the prediction was there.
    considered : float
        When it was first decided about; NaN before.
    embedding : ndarray of float32, shape (D,), or None
        For the index that learns from feedback.
    """

    __slots__ = (
        "alive", "allowed", "arrived", "considered", "cost", "deadline", "embedding", "excluded",
        "input_tokens", "mask", "max_cost", "order", "outcome", "output_tokens", "pool", "predicted",
        "quality", "query", "queued", "tokens",
    )  # fmt: skip

    mask: int
    cost: NDArray[np.float64]
    quality: NDArray[np.float32]
    output_tokens: NDArray[np.float64]
    allowed: NDArray[np.bool_]
    tokens: Sequence[int]
    predicted: float
    embedding: NDArray[np.float32] | None
    input_tokens: int

    def __init__(
        self,
        query: Query,
        outcome: asyncio.Future[Any],
        pool: Pool,
        *,
        arrived: float,
        deadline: float,
        excluded: int,
        max_cost: float,
        order: tuple[int, int],
    ) -> None:
        self.query = query
        self.outcome = outcome
        self.pool = pool
        self.arrived = arrived
        self.deadline = deadline
        self.excluded = excluded
        self.max_cost = max_cost
        self.order = order
        self.considered = math.nan
        self.alive = True
        self.queued = False


class WaitingRoom:
    """Waiters in queues by the set of models that may take them.

    Queues by set of models keep one that only a full model may take from standing in the way of others,
    and finding the next n costs O(n) however many wait.
    """

    def __init__(self) -> None:
        self._queues: dict[int, list[tuple[tuple[int, int], Waiter]]] = {}
        self._held = 0
        self.waiting = 0

    def __len__(self) -> int:
        return self.waiting

    def add(self, waiter: Waiter) -> None:
        """Put a waiter at its place."""
        heapq.heappush(self._queues.setdefault(waiter.mask, []), (waiter.order, waiter))
        self._held += 1
        self.waiting += 1
        waiter.queued = True

    def leave(self, waiter: Waiter) -> None:
        """Forget a waiter that is served, refused or cancelled."""
        if not waiter.alive:
            return
        waiter.alive = False
        if not waiter.queued:
            return
        self.waiting -= 1
        # The dead stay in their heaps until they come up, or until they outnumber the living.
        if self._held > 64 and self._held > 2 * self.waiting:
            self._sweep()

    def _sweep(self) -> None:
        for mask, queue in list(self._queues.items()):
            queue[:] = [item for item in queue if item[1].alive]
            heapq.heapify(queue)
            if not queue:
                del self._queues[mask]
        self._held = sum(map(len, self._queues.values()))

    def _head(self, mask: int) -> tuple[tuple[int, int], Waiter] | None:
        queue = self._queues[mask]
        while queue and not queue[0][1].alive:
            heapq.heappop(queue)
            self._held -= 1
        if queue:
            return queue[0]
        del self._queues[mask]
        return None

    def take(self, most: float, open_models: int) -> list[Waiter]:
        """Take out the first waiters, at most `most`, that one of the open models may serve.

        Parameters
        ----------
        most : float
            How many; inf for all.
        open_models : int
            Bit j is set when model j has room.

        Returns
        -------
        list of Waiter
            In the order of the queue. They are served with `leave`, or put back with `put_back`.
        """
        heads: list[tuple[tuple[int, int], int]] = []
        for mask in list(self._queues):
            if mask & open_models and (head := self._head(mask)) is not None:
                heads.append((head[0], mask))
        heapq.heapify(heads)
        taken: list[Waiter] = []
        while heads and len(taken) < most:
            _, mask = heads[0]
            taken.append(heapq.heappop(self._queues[mask])[1])
            self._held -= 1
            following = self._head(mask)
            if following is None:
                heapq.heappop(heads)
            else:
                heapq.heapreplace(heads, (following[0], mask))
        return taken

    def put_back(self, waiters: Sequence[Waiter]) -> None:
        """Put waiters that were taken but not served back at their old places."""
        for waiter in waiters:
            if waiter.alive:
                heapq.heappush(self._queues.setdefault(waiter.mask, []), (waiter.order, waiter))
                self._held += 1

    def drain(self) -> list[Waiter]:
        """Take everybody out, in no order."""
        everybody = [waiter for queue in self._queues.values() for _, waiter in queue if waiter.alive]
        self._queues.clear()
        self._held = 0
        return everybody
