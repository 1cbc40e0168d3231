"""The admission, batching and dispatch loop of a session; the only owner of what changes per request."""

from __future__ import annotations

import heapq
import logging
import math
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eccos_rs.errors import NoModelError, Overloaded
from eccos_rs.predict.protocol import Prediction
from eccos_rs.session.lease import Lease
from eccos_rs.session.limits.base import Claim
from eccos_rs.session.scheduler.admission import Admission
from eccos_rs.session.scheduler.batching import BatchingWindow
from eccos_rs.session.scheduler.dispatch import Dispatcher
from eccos_rs.session.scheduler.queue import RequestQueue
from eccos_rs.session.stats import Overhead

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from eccos_rs.pools.pool import Pool
    from eccos_rs.routing.policy import Policy
    from eccos_rs.session.control.dual import DualController
    from eccos_rs.session.lease import FeedbackReceipt, LeaseReport
    from eccos_rs.session.limits.base import Grant, RateLimiter
    from eccos_rs.session.request import PendingRequest
    from eccos_rs.session.scheduler.dispatch import Decision

__all__ = ["Scheduler", "SchedulerEvents"]

logger = logging.getLogger("eccos_rs.session")


@dataclass(frozen=True, slots=True)
class SchedulerEvents:
    """What a scheduler tells its session, on the event loop.

    Attributes
    ----------
    admitted : callable
        Takes the number of queries that came in.
    granted : callable
        Takes a lease that was granted, and what was predicted of its request.
    released : callable
        Takes a lease and the report of its holder; from any thread.
    settled : callable
        Called after every micro-batch.
    """

    admitted: Callable[[int], None]
    granted: Callable[[Lease, PendingRequest], None]
    released: Callable[[Lease, LeaseReport], FeedbackReceipt]
    settled: Callable[[], None]


@dataclass(slots=True)
class _Reservation:
    """A micro-batch for whose slots the limiter was asked."""

    rows: list[int]
    requests: list[PendingRequest]
    decision: Decision
    prices: tuple[float, list[float]]
    decided: float
    granted: int = 0
    delayed: bool = False


class Scheduler:
    """Collects arrivals into micro-batches, decides them, and keeps those that must wait.

    Parameters
    ----------
    pool : Pool
    policy : Policy
    limits : RateLimiter
    controller : DualController
    bias : sequence of float, one per model
        Added to its predicted quality; read at every decision.
    clock : callable
        Seconds that never run backwards.
    events : SchedulerEvents
    window : float
        Seconds that a query lingers for others, at most.
    max_batch : int
    """

    def __init__(
        self,
        pool: Pool,
        policy: Policy,
        limits: RateLimiter,
        controller: DualController,
        *,
        bias: Sequence[float],
        clock: Callable[[], float],
        events: SchedulerEvents,
        window: float,
        max_batch: int,
    ) -> None:
        self._names = pool.names
        self._policy = policy
        self._limits = limits
        self._controller = controller
        self._bias = bias
        self._clock = clock
        self._events = events
        self._max_batch = max_batch
        self._admission = Admission(pool, policy, limits, controller.history)
        self._dispatcher = Dispatcher(limits, policy)
        self._given: list[tuple[PendingRequest, Prediction]] = []
        self._queue = RequestQueue()
        self._reservation: _Reservation | None = None
        self._deadlines: list[tuple[float, tuple[int, int], PendingRequest]] = []
        self._waking: asyncio.TimerHandle | None = None
        self.window = BatchingWindow(
            self._flush, lambda: len(self._given), clock, window=window, max_batch=max_batch
        )
        self.overhead = Overhead()
        self.outcomes = {"deferred": 0, "refused": 0, "cancelled": 0}

    def __len__(self) -> int:
        return self._queue.waiting + len(self._given)

    def freed(self) -> None:
        """Decide soon, now that a slot is free, when a request waits for one."""
        if self._queue.waiting and not self.window.pending:
            self.window.soon()

    # Arrivals.

    def put(self, request: PendingRequest, prediction: Prediction) -> None:
        """Take a query whose prediction was given, into the micro-batch that is being collected."""
        self._given.append((request, prediction))
        self.window.arrived(request.arrived)

    def predicted(self, requests: list[PendingRequest], prediction: Prediction | Exception) -> None:
        """Take queries that were predicted together, or could not be."""
        if isinstance(prediction, Exception):
            for request in requests:
                self._fail(request, prediction)
            return
        self._admit(requests, [prediction], self._clock())
        self.window.soon()

    def abandon(self, request: PendingRequest) -> None:
        """Forget a query whose caller has gone; what was granted meanwhile is released."""
        self.outcomes["cancelled"] += 1
        outcome = request.outcome
        if outcome.done() and not outcome.cancelled() and outcome.exception() is None:
            outcome.result().cancel()
        else:
            self._queue.remove(request)

    def _admit(self, requests: list[PendingRequest], parts: list[Prediction], now: float) -> None:
        try:
            # The router may have learned of another model; the session keeps the pool it began with.
            parts = [part.select(self._names) for part in parts]
            prediction = parts[0] if len(parts) == 1 else Prediction.concatenate(parts)
            refused = self._admission.take(requests, prediction, now)
        except Exception as error:
            self._admit_alone(requests, parts, now, error)
            return
        self.window.rate.add(len(requests), now)
        self._events.admitted(len(requests))
        for request, reason in refused:
            if self._policy.unroutable == "defer" and isinstance(reason, NoModelError):
                self._defer(request, now, None)
            else:
                self._fail(request, reason)
        for request in requests:
            if request.alive:
                self._queue.add(request)
                if request.deadline < math.inf:
                    heapq.heappush(self._deadlines, (request.deadline, request.order, request))

    def _admit_alone(
        self, requests: list[PendingRequest], parts: list[Prediction], now: float, error: Exception
    ) -> None:
        """Find the request whose prediction does not fit the others: it fails alone."""
        if len(parts) == 1:
            for request in requests:
                self._fail(request, error)
            return
        for request, part in zip(requests, parts, strict=True):
            self._admit([request], [part], now)

    # Decisions.

    def _flush(self) -> None:
        if self._reservation is not None:
            return  # what was collected is decided when the limiter has answered
        now = self._clock()
        given, self._given = self._given[: self._max_batch], self._given[self._max_batch :]
        given = [each for each in given if each[0].alive]
        if given:
            self._admit([request for request, _ in given], [prediction for _, prediction in given], now)
        more = self._serve(now)
        self._expire(now)
        if self._reservation is None:
            if more or self._given:
                self.window.soon()
            else:
                self._rearm(now)
        self._events.settled()

    def _serve(self, now: float) -> bool:
        """Grant what fits; say whether more may fit, after other callbacks had their turn."""
        closed = granted = 0
        while len(self._queue):
            if granted >= self._max_batch:
                return True
            free = self._limits.free(now)
            open_models = sum(1 << at for at, count in enumerate(free) if count >= 1 and not closed >> at & 1)
            room = sum(count for at, count in enumerate(free) if open_models >> at & 1)
            batch = self._queue.take(min(self._max_batch, room), open_models) if open_models else []
            if not batch:
                return False
            done, still_closed = self._decide(batch, closed, now)
            if self._reservation is not None or (not done and still_closed == closed):
                return False
            granted, closed = granted + done, still_closed
        return False

    def _decide(self, batch: list[PendingRequest], closed: int, now: float) -> tuple[int, int]:
        """Decide a micro-batch; return how many have left the queue, and the models that are closed."""
        controller = self._controller
        if controller.due(now):
            self._update_prices(now)
        price = controller.price or 0.0
        premium = controller.premium(self._limits.models)
        decision = self._dispatcher.decide(
            batch, price=price, premium=premium, bias=self._bias, now=now, closed=closed
        )
        ids = secrets.token_hex(12 * len(batch))
        decided = self._clock()
        reservation = _Reservation([], [], decision, (price, premium.tolist()), decided)
        claims, left, done = [], [], 0
        for row, request in enumerate(batch):
            if math.isnan(request.considered):
                request.considered = decided
                self.overhead.add(decided - request.arrived)
            at = decision.chosen[row]
            if row in decision.failed:
                self._fail(request, decision.failed[row])
                done += 1
            elif request.outcome.done():
                self._queue.remove(request)  # cancelled
                done += 1
            elif at < 0:
                left.append(request)
            else:
                reservation.rows.append(row)
                reservation.requests.append(request)
                claims.append(self._claim(ids[24 * row : 24 * row + 24], request, at))
        self._queue.put_back(left)
        if claims:
            self._reservation = reservation
            self._limits.reserve(claims, now, self._deliver)
            reservation.delayed = self._reservation is not None
        return done + reservation.granted, decision.closed

    def _update_prices(self, now: float) -> None:
        rate = self.window.rate.per_second(now) + self._limits.arrivals_elsewhere
        try:
            self._controller.update(now, self._limits.models, rate)
        except Exception:
            # One poisoned row of the history must not fail every decision from now on.
            logger.exception("the prices cannot be computed from the recent past, which is forgotten")
            self._controller.reset()

    def _claim(self, lease: str, request: PendingRequest, at: int) -> Claim:
        return Claim(lease, (at,), (request.tokens[at],), (float(request.cost[at]),))

    def _deliver(self, grants: list[Grant | None]) -> None:
        """Turn grants into leases; what the limiter did not grant goes back to its place in the queue."""
        reservation = self._reservation
        assert reservation is not None  # one reservation at a time
        self._reservation = None
        left = []
        for row, request, grant in zip(reservation.rows, reservation.requests, grants, strict=True):
            if grant is None:
                left.append(request)
            else:
                reservation.granted += 1
                self._grant(reservation, row, request, grant)
        self._queue.put_back(left)
        if reservation.delayed:
            self._flush()

    def _grant(self, reservation: _Reservation, row: int, request: PendingRequest, grant: Grant) -> None:
        self._queue.remove(request)
        now = self._clock() if reservation.delayed else reservation.decided
        if request.outcome.done():  # cancelled, or refused, while the limiter was asked
            self._limits.cancel(grant, now)
            return
        decision, at = reservation.decision, grant.model
        price, premiums = reservation.prices
        runner = decision.runner[row]
        lease = Lease(
            request,
            id=grant.id,
            granted=now,
            on_release=self._events.released,
            grant=grant,
            runner=-1 if runner == at else runner,
            expected=float(decision.quality[row, at]),
            prices=(price, premiums[at]),
        )
        self._events.granted(lease, request)
        request.outcome.set_result(lease)

    # The end of waiting.

    def _expire(self, now: float) -> None:
        asked = () if self._reservation is None else set(map(id, self._reservation.requests))
        kept = []
        while self._deadlines and (self._deadlines[0][0] <= now or not self._deadlines[0][2].alive):
            entry = heapq.heappop(self._deadlines)
            request = entry[2]
            if not request.alive:
                continue
            if id(request) in asked:
                kept.append(entry)  # the limiter's answer decides
                continue
            retry = self.retry_after(request.mask, request)
            if self._policy.overload == "defer":
                self._defer(request, now, retry)
            else:
                waited = now - request.predicted
                self._fail(
                    request,
                    Overloaded(
                        f"no model is free after {waited:.3g} s of waiting; try again in {retry:.3g} s",
                        retry_after=retry,
                    ),
                )
        for entry in kept:
            heapq.heappush(self._deadlines, entry)
        if len(self._deadlines) > 64 + 2 * len(self._queue):
            self._deadlines = [each for each in self._deadlines if each[2].alive]
            heapq.heapify(self._deadlines)

    def retry_after(self, mask: int, request: PendingRequest | None = None) -> float:
        """Estimate the seconds after which one of the masked models (-1: any) takes a query again."""
        now = self._clock()
        waits = [
            self._limits.seconds_until(at, 0 if request is None else request.tokens[at], now)
            for at in range(len(self._limits.models))
            if mask >> at & 1
        ]
        # A slot that comes free goes to those who waited before.
        return min(max(min(waits, default=1.0), 0.001), 3600.0)

    def refuse_all(self, why: str, others: Sequence[PendingRequest] = ()) -> None:
        """Refuse all pending requests, and these others."""
        asked = [] if self._reservation is None else self._reservation.requests
        pending = [*self._queue.drain(), *asked, *(request for request, _ in self._given), *others]
        self._given.clear()
        for request in pending:
            self._fail(request, Overloaded(why))

    def _fail(self, request: PendingRequest, error: Exception) -> None:
        self._queue.remove(request)
        if not request.outcome.done():
            self.outcomes["refused"] += 1
            request.outcome.set_exception(error)

    def _defer(self, request: PendingRequest, now: float, retry_after: float | None) -> None:
        self._queue.remove(request)
        if not request.outcome.done():
            self.outcomes["deferred"] += 1
            lease = Lease(request, id=secrets.token_hex(12), granted=now, retry_after=retry_after)
            request.outcome.set_result(lease)

    def _rearm(self, now: float) -> None:
        """Wake up at the next deadline, or when the limiter expects a change."""
        if self._waking is not None:
            self._waking.cancel()
            self._waking = None
        if not len(self._queue) or self.window.loop is None:
            return
        wait = self._limits.next_change(now)
        if self._deadlines:
            wait = min(wait, max(self._deadlines[0][0] - now, 0.0))
        if wait < math.inf:
            self._waking = self.window.loop.call_later(max(wait, 1e-3), self.window.soon)

    def stop(self) -> None:
        """Cancel the timers."""
        self.window.stop()
        if self._waking is not None:
            self._waking.cancel()
