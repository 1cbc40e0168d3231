"""Predictions beside the event loop: queries that arrive while one batch is predicted are in the next."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from eccos_rs.predict.protocol import Prediction
    from eccos_rs.routing.router import Router
    from eccos_rs.session.request import PendingRequest

__all__ = ["PredictionWorker"]

Outcome = tuple["list[PendingRequest]", "Prediction | Exception"]


class PredictionWorker:
    """Predicts on one thread of its own; the predictor itself uses as many as it likes.

    Parameters
    ----------
    router : Router
    deliver : callable
        Takes requests with their prediction, or with what went wrong; on the loop.
    most : int
        Queries predicted together. A batch is as slow as its sum on a CPU: a large one delays all of them.
    """

    def __init__(
        self,
        router: Router,
        deliver: Callable[[list[PendingRequest], Prediction | Exception], None],
        most: int = 32,
    ) -> None:
        self._router = router
        self._deliver = deliver
        self._most = most
        self._queue: list[PendingRequest] = []
        self._running: asyncio.Future[list[Outcome]] | None = None
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="eccos-predict")
        self._batch: list[PendingRequest] = []
        self._closed = False
        self.pending = 0

    def put(self, request: PendingRequest) -> None:
        """Predict a query as soon as the thread is free."""
        self._queue.append(request)
        self.pending += 1
        if self._running is None:
            self._next()

    def submit(self, work: Callable[[], Any]) -> None:
        """Do something else with the predictor (update it), in turn with predicting; nothing once closed."""
        with suppress(RuntimeError):
            self._executor.submit(work)

    def _next(self) -> None:
        gone = [request for request in self._queue if not request.alive]
        self.pending -= len(gone)
        if gone:
            self._queue = [request for request in self._queue if request.alive]
        batch, self._queue = self._queue[: self._most], self._queue[self._most :]
        if not batch:
            self._running = None
            return
        loop = asyncio.get_running_loop()
        self._batch = batch
        self._running = loop.run_in_executor(self._executor, self._predict, batch)
        self._running.add_done_callback(self._done)

    def _predict(self, batch: list[PendingRequest]) -> list[Outcome]:
        try:
            return [(batch, self._router.predict([request.query for request in batch]))]
        except Exception as error:
            if len(batch) == 1:
                return [(batch, error)]
        # One that cannot be predicted must not take the others down with it.
        return [outcome for request in batch for outcome in self._predict([request])]

    def _done(self, future: asyncio.Future[list[Outcome]]) -> None:
        if self._closed or future.cancelled():
            return
        for requests, prediction in future.result():
            self.pending -= len(requests)
            self._deliver(requests, prediction)
        self._next()

    def close(self) -> list[PendingRequest]:
        """Take no more work; return those who will not be predicted any more.

        What the thread was given already (one batch, and outcomes to learn) is still done; see `join`.
        """
        self._closed = True
        self._executor.shutdown(wait=False)
        left = [*(self._batch if self._running is not None else ()), *self._queue]
        self.pending = 0
        return left

    def join(self) -> None:
        """Wait, blocking, until the thread has done what it was given."""
        self._executor.shutdown(wait=True)
