"""Pending requests: first come first served among equals, priorities first, no head-of-line blocking."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eccos_rs.session.request import PendingRequest

__all__ = ["RequestQueue"]


class RequestQueue:
    """Requests in queues by the set of models that may take them.

    Queues by set of models avoid head-of-line blocking by a request that only a full model may take, and
    finding the next n costs O(n) however many wait.
    """

    def __init__(self) -> None:
        self._queues: dict[int, list[tuple[tuple[int, int], PendingRequest]]] = {}
        self._held = 0
        self.waiting = 0

    def __len__(self) -> int:
        return self.waiting

    def add(self, request: PendingRequest) -> None:
        """Put a request at its place."""
        heapq.heappush(self._queues.setdefault(request.mask, []), (request.order, request))
        self._held += 1
        self.waiting += 1
        request.queued = True

    def remove(self, request: PendingRequest) -> None:
        """Forget a request that is served, refused or cancelled."""
        if not request.alive:
            return
        request.alive = False
        if not request.queued:
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

    def _head(self, mask: int) -> tuple[tuple[int, int], PendingRequest] | None:
        queue = self._queues[mask]
        while queue and not queue[0][1].alive:
            heapq.heappop(queue)
            self._held -= 1
        if queue:
            return queue[0]
        del self._queues[mask]
        return None

    def take(self, most: float, open_models: int) -> list[PendingRequest]:
        """Take out the first requests, at most `most`, that one of the open models may serve.

        Parameters
        ----------
        most : float
            How many; inf for all.
        open_models : int
            Bit j is set when model j has free capacity.

        Returns
        -------
        list of PendingRequest
            In the order of the queue. They are served with `remove`, or put back with `put_back`.
        """
        heads: list[tuple[tuple[int, int], int]] = []
        for mask in list(self._queues):
            if mask & open_models and (head := self._head(mask)) is not None:
                heads.append((head[0], mask))
        heapq.heapify(heads)
        taken: list[PendingRequest] = []
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

    def put_back(self, requests: Sequence[PendingRequest]) -> None:
        """Put requests that were taken but not served back at their old places."""
        for request in requests:
            if request.alive:
                heapq.heappush(self._queues.setdefault(request.mask, []), (request.order, request))
                self._held += 1

    def drain(self) -> list[PendingRequest]:
        """Take out all requests, in no order."""
        pending = [request for queue in self._queues.values() for _, request in queue if request.alive]
        self._queues.clear()
        self._held = 0
        return pending
