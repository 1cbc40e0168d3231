"""Routing a stream: micro-batches decided jointly at one shadow price of quality, against live workload."""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
import warnings
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Self

from eccos_rs.domain.pricing import model_cost
from eccos_rs.errors import EccosError, Overloaded, StoreError
from eccos_rs.routing.query import Query
from eccos_rs.session.checks import (
    checked_number,
    checked_policy,
    checked_prediction,
    checked_timeout,
    model_mask,
)
from eccos_rs.session.control.clock import WallClock
from eccos_rs.session.control.dual import DualController
from eccos_rs.session.control.pacing import make_pacer
from eccos_rs.session.learning import Learner
from eccos_rs.session.lease import FeedbackReceipt, LeaseReport
from eccos_rs.session.ledger import Ledger
from eccos_rs.session.limits.local import LocalLimiter
from eccos_rs.session.recorder import Recorder, saved_state
from eccos_rs.session.request import Costing, PendingRequest
from eccos_rs.session.scheduler.loop import Scheduler, SchedulerEvents
from eccos_rs.session.scheduler.prediction import PredictionWorker
from eccos_rs.session.stats import SessionStats
from eccos_rs.session.store.opening import open_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping
    from concurrent.futures import Future
    from os import PathLike

    from eccos_rs.predict.protocol import Prediction
    from eccos_rs.routing.policy import Policy
    from eccos_rs.routing.router import Router
    from eccos_rs.session.control.pacing import Pacer
    from eccos_rs.session.control.tracking import Alarm
    from eccos_rs.session.lease import Lease
    from eccos_rs.session.limits.base import RateLimiter
    from eccos_rs.session.store.base import Judged, Store

__all__ = ["Session"]


class Session:
    """Routes a stream of queries to a pool whose workload is live.

    Queries that arrive within a moment of each other are decided jointly, at one shadow price of quality that
    is controlled so that the mean over the stream keeps the policy's promise. A lease holds a model's slot
    until it is released; no more run at once, or start within a minute, than a model's limits allow.

    Parameters
    ----------
    router : Router
        Pool, predictor and, unless given here, policy.
    policy : Policy, optional
        A budget needs ``per``. `Policy.overload` and `Policy.wait` say what happens when nothing fits:
        ``"defer"`` waits (at most `wait` seconds, then the lease is a deferred one); ``"raise"`` waits at
        most `wait` seconds (none given: not at all), then raises `Overloaded` with the time to come back.
    store : URL, path or Store, optional
        Where feedback, spend and prices are kept: ``memory://`` (the default), ``sqlite:///path`` or a plain
        path (an SQLite file, made when it is not there).
    limits : RateLimiter, optional
        In place of one that counts slots and windows for this session alone.
    pacer : Pacer, optional
        In place of one that spreads the policy's budget evenly over its period.
    window : float
        Seconds that a query lingers for others, at most; when queries are too rare for it, none.
    max_batch : int
        Queries decided together, at most.
    max_waiting : int
        Queries in the session without a model, at most; beyond, `Overloaded`.
    learn : bool
        Teach the predictor's retrieval index from feedback.
    on_alarm : callable, optional
        Called with an `Alarm` when a promise that binds drifts, and when it holds again.

    Raises
    ------
    StoreError
        The store is damaged or of another program. (One that cannot be written only refuses feedback.)
    PolicyError
        The policy has a budget without a period.

    Notes
    -----
    A session belongs to one event loop; `SyncSession` is its face for threads. It counts slots and windows
    for itself: processes that share limits each take their part; a budget is shared through the store.

    Examples
    --------
    >>> async def answer(session, query):
    ...     async with session.lease(query) as lease:
    ...         return await call(lease.llm.endpoint, query)
    """

    def __init__(
        self,
        router: Router,
        *,
        policy: Policy | None = None,
        store: str | PathLike[str] | Store | None = None,
        limits: RateLimiter | None = None,
        pacer: Pacer | None = None,
        window: float = 0.002,
        max_batch: int = 256,
        max_waiting: int = 100_000,
        learn: bool = True,
        on_alarm: Callable[[Alarm], None] | None = None,
    ) -> None:
        self.router = router
        self.pool = router.pool
        self.policy = router.policy if policy is None else policy
        self._max_waiting = int(checked_number("max_waiting", max_waiting))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.get_ident()
        with suppress(RuntimeError):
            self._loop = asyncio.get_running_loop()
        self._clock = time.monotonic if self._loop is None else self._loop.time
        self._pid = os.getpid()
        checked_policy(self.policy, self.pool)
        sizes = checked_number("window", window), int(checked_number("max_batch", max_batch)) or 1
        wall = WallClock(self._clock)
        pacer = make_pacer(self.policy, wall) if pacer is None else pacer
        self._limits = LocalLimiter(self.pool, self.policy.capacity) if limits is None else limits
        self._store = open_store(store, clock=wall)
        price, arrivals = saved_state(self._store, list(self.policy.goal))
        if pacer is not None and arrivals is not None:
            pacer.expect(arrivals)
        controller = DualController(self.policy, len(self.pool), pacer, price)
        self._pacer = pacer
        self._ledger = Ledger(self.pool, controller, pacer, on_alarm)
        self._learner = Learner(router.predictor)
        self._learns = learn and self._learner.able
        events = SchedulerEvents(self._admitted, self._granted, self._released, self._settle_down)
        self._scheduler = Scheduler(
            self.pool,
            self.policy,
            self._limits,
            controller,
            bias=self._ledger.tracker.bias,
            clock=self._clock,
            events=events,
            window=sizes[0],
            max_batch=sizes[1],
        )
        self._scheduler.window.loop = self._loop
        self._predictions = PredictionWorker(router, self._scheduler.predicted)
        if self._learns and self._store.durable:
            self._predictions.submit(self._learn_again)
        self._arrivals = 0
        self._recorder = Recorder(
            self._store, wall, controller, pacer, on_loop=self._on_loop, on_tick=self._watch
        )
        self._drained: asyncio.Event | None = None
        self.closing = self.closed = False

    def _learn_again(self) -> None:
        """Add what earlier sessions on the store were told to the index; before the first prediction."""
        with suppress(StoreError):  # which is in the log already
            self._learner.learn(self._store.judged())

    def _watch(self) -> None:
        self._ledger.check(self._limits.models)

    # Acquiring a model.

    async def acquire(
        self,
        query: str | Query | Mapping[str, Any] | list[Mapping[str, Any]],
        *,
        prediction: Prediction | None = None,
        exclude: Iterable[str] = (),
        max_cost: float | None = None,
        timeout: float | None = None,
        costing: Costing | None = None,
    ) -> Lease:
        """Choose a model for a query and take a slot of it.

        Parameters
        ----------
        query : str, chat, mapping or Query
        prediction : Prediction, optional
            Of this one query; else the router's predictor makes it.
        exclude : iterable of str
            Models not to be chosen: those that just failed.
        max_cost : float, optional
            US dollars that the query may be predicted to cost.
        timeout : float, optional
            Seconds to wait for a free model, in place of the policy's `wait`. What fits at once is granted
            whatever the timeout is.
        costing : Costing, optional
            What the query costs at each model, where that is not its tokens at their prices.

        Returns
        -------
        Lease
            Deferred (its `model` is None) when the policy defers what does not fit in time.

        Raises
        ------
        Overloaded
            Nothing fits in time, and the policy does not defer; ``retry_after`` says when it may.
        NoModelError
            No model may ever take it, and the policy does not defer such queries.
        QueryError, InputError, PoolError
            An argument is malformed.
        EccosError
            The session is closed.
        """
        known = None if prediction is None else checked_prediction(prediction, self.pool)
        request = self._arrive(Query.of(query), exclude, max_cost, timeout, costing)
        if known is None:
            self._predictions.put(request)
        else:
            self._scheduler.put(request, known)
        try:
            lease: Lease = await request.outcome
        except asyncio.CancelledError:
            self._scheduler.abandon(request)
            self._settle_down()
            raise
        # A lease refers to its request, which must not keep alive a lease that its holder has dropped.
        del request.outcome
        return lease

    @asynccontextmanager
    async def lease(
        self, query: str | Query | Mapping[str, Any] | list[Mapping[str, Any]], **options: Any
    ) -> AsyncIterator[Lease]:
        """Acquire a lease for a block, and release it on every way out of it.

        Call ``lease.release(...)`` inside to report what happened; a block left by an exception (or by
        cancellation) counts as failed. Takes what `acquire` takes.
        """
        lease = await self.acquire(query, **options)
        try:
            yield lease
        except BaseException:
            lease.release(failed=True)
            raise
        lease.release()

    def _arrive(
        self,
        query: Query,
        exclude: Iterable[str],
        max_cost: float | None,
        timeout: float | None,
        costing: Costing | None,
    ) -> PendingRequest:
        if self.closing:
            raise EccosError("the session is closed; it takes no more queries")
        self._check_process()
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None:
                raise EccosError("the session belongs to another event loop; use SyncSession from threads")
            self._loop = self._scheduler.window.loop = loop
            self._thread = threading.get_ident()
        if len(self._scheduler) + self._predictions.pending >= self._max_waiting:
            self._scheduler.outcomes["refused"] += 1
            raise Overloaded(
                f"{self._max_waiting:,} queries are waiting already",
                retry_after=self._scheduler.retry_after(-1),
            )
        for name in query.models or ():
            self.pool.columns(name)
        now = self._clock()
        self._arrivals += 1
        self._recorder.follow_wall()
        if self._recorder.shared:
            self._recorder.soon(loop)
        return PendingRequest(
            query,
            loop.create_future(),
            self.pool,
            arrived=now,
            deadline=now + self._patience(timeout),
            excluded=model_mask(exclude, self.pool),
            max_cost=math.inf if max_cost is None else checked_number("max_cost", max_cost),
            order=(-query.priority, self._arrivals),
            costing=costing,
        )

    def _patience(self, timeout: float | None) -> float:
        if timeout is not None:
            return checked_timeout(timeout)
        if self.policy.wait is not None:
            return self.policy.wait
        return math.inf if self.policy.overload == "defer" else 0.0

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise EccosError(
                f"this session belongs to process {self._pid}, and this is process {os.getpid()}: each "
                "process needs a session of its own (make it after the fork)"
            )

    # What the scheduler says, and what holders of leases do.

    def _admitted(self, queries: int) -> None:
        if self._pacer is not None:
            self._pacer.arrive(queries)

    def _granted(self, lease: Lease, request: PendingRequest) -> None:
        self._ledger.granted(lease)
        self._recorder.granted(lease, request, self._learns)

    def _released(self, lease: Lease, report: LeaseReport) -> FeedbackReceipt:
        """Release a lease's slot whatever else is wrong, then take the report; from any thread."""
        if report.dropped:
            return self._dropped(lease, report)
        self._check_process()
        if report.cancelled:
            self._on_loop(self._cancel, lease)
            return FeedbackReceipt()
        try:
            tokens = _checked("output_tokens", report.output_tokens)
            paid = _checked("cost", report.cost)
            quality = _checked("quality", report.quality, most=1.0)
        except EccosError:
            self._on_loop(self._settle, lease, None, None, LeaseReport(failed=True, blamed=report.blamed))
            raise
        self._on_loop(self._settle, lease, tokens, paid, report)
        return FeedbackReceipt() if quality is None else self._judge(lease.id, quality)

    def _dropped(self, lease: Lease, report: LeaseReport) -> FeedbackReceipt:
        # After a fork the copy of a lease in the child is nobody's: the parent holds the slot.
        if not self.closed and os.getpid() == self._pid:
            message = f"{lease!r} was dropped without release"
            self._on_loop(self._settle, lease, None, None, report)
            warnings.warn(message, ResourceWarning, source=lease, stacklevel=3)
        return FeedbackReceipt()

    def _on_loop(self, call: Callable[..., None], *arguments: Any) -> None:
        if self._loop is None or self._loop.is_closed() or threading.get_ident() == self._thread:
            call(*arguments)
        else:
            with suppress(RuntimeError):  # the loop was closed meanwhile: nobody counts any more
                self._loop.call_soon_threadsafe(call, *arguments)

    def _cancel(self, lease: Lease) -> None:
        assert lease.grant is not None  # a deferred lease has nothing to release
        self._limits.cancel(lease.grant, self._clock())
        self._ledger.settled(lease, 0.0, 0.0, failed=True, blamed=False)
        self._recorder.settled(lease, 0.0, 0.0, True)
        self._scheduler.freed()
        self._settle_down()

    def _settle(self, lease: Lease, tokens: float | None, cost: float | None, report: LeaseReport) -> None:
        failed, grant = report.failed, lease.grant
        assert grant is not None  # a deferred lease has nothing to release
        now, llm = self._clock(), self.pool[grant.model]
        real = 0.0 if failed and tokens is None else tokens
        if cost is None and real is not None:
            prompt = 0 if failed and tokens is None else lease.input_tokens
            cost = model_cost(llm, prompt, real)
        used = (
            grant.tokens if real is None else grant.tokens + math.ceil(real) - math.ceil(lease.output_tokens)
        )
        self._limits.settle(grant, used, now - lease.granted, now)
        paid = lease.cost if cost is None else cost
        self._ledger.settled(lease, tokens, paid, failed=failed, blamed=report.blamed)
        self._recorder.settled(lease, tokens, paid, failed)
        self._recorder.soon(self._loop)
        self._scheduler.freed()
        self._settle_down()

    async def feedback(self, lease_id: str, quality: float) -> None:
        """Report how good an answer was, during its lease or long after; a second time corrects the first.

        Parameters
        ----------
        lease_id : str
            `Lease.id`.
        quality : float
            In [0, 1].

        Raises
        ------
        StoreError
            The store did not take it. (When this returns, it is on the disk.)
        InputError
            The quality is out of range, or no such lease is known.
        """
        await self._judge(lease_id, checked_number("quality", quality, most=1.0))

    def _judge(self, lease_id: str, quality: float) -> FeedbackReceipt:
        answer = self._store.feedback(lease_id, quality)
        if answer.done() and answer.exception() is None:
            self._on_loop(self._judged, answer.result())
            return FeedbackReceipt()
        answer.add_done_callback(self._written)
        return FeedbackReceipt(answer)

    def _written(self, future: Future[Judged]) -> None:
        if future.exception() is None:
            self._on_loop(self._judged, future.result())

    def _judged(self, judged: Judged) -> None:
        self._ledger.judged(judged)
        self._watch()
        if self._learns:
            self._predictions.submit(lambda: self._learner.learn([judged]))

    def stats(self) -> SessionStats:
        """Return a snapshot: workload, prices, promised and realised quality, spend, overhead, alarms."""
        if self._recorder.shared and not self.closing:
            self._on_loop(self._recorder.soon, self._loop)  # others spend while nothing happens here
        p50, p99 = self._scheduler.overhead.quantiles()
        store = self._store
        state = "failing" if store.fault is not None else "ok" if store.durable else "none"
        return SessionStats(
            waiting=len(self._scheduler) + self._predictions.pending,
            overhead_p50=p50,
            overhead_p99=p99,
            store=state,
            store_errors=store.errors,
            store_dropped=store.dropped,
            **(self._ledger.snapshot(self._limits.models) | self._scheduler.outcomes),
        )

    def down(self, model: str) -> None:
        """Give a model nothing more until `up`; what it does now goes on. PoolError: not in the pool."""
        self._limits.set_up(self.pool.index(model), False)

    def up(self, model: str) -> None:
        """Let a model take queries again. PoolError: not in the pool."""
        self._limits.set_up(self.pool.index(model), True)
        self._scheduler.window.soon()

    # The end.

    def _busy(self) -> bool:
        in_flight = sum(model.in_flight for model in self._limits.models)
        return bool(in_flight or len(self._scheduler) or self._predictions.pending)

    def _settle_down(self) -> None:
        if self._drained is not None and not self._busy():
            self._drained.set()

    async def close(self, timeout: float | None = 30.0) -> None:
        """Take no more queries, serve those that wait, wait for the leases, and close the store.

        Parameters
        ----------
        timeout : float, optional
            Seconds after which whoever still waits is refused and leases that are out are waited for no
            more; None waits as long as it takes.
        """
        if self.closing:
            return
        self.closing = True
        self._drained = asyncio.Event()
        self._settle_down()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._drained.wait(), timeout)
        self._scheduler.refuse_all("the session closes", self._predictions.close())
        self._scheduler.stop()
        self._recorder.stop()
        await asyncio.to_thread(self._predictions.join)
        await self._limits.close()
        self._recorder.save()
        await asyncio.to_thread(self._store.close)
        self.closed = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        await self.close(30.0 if kind is None else 0.0)

    def __repr__(self) -> str:
        goal, value = self.policy.goal
        state = "closed" if self.closed else "closing" if self.closing else "open"
        return f"Session({', '.join(self.pool.names)}; {goal}={value:g}; {state})"


def _checked(name: str, value: float | None, most: float = math.inf) -> float | None:
    return None if value is None else checked_number(name, value, most)
