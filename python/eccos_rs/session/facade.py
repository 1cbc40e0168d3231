"""Routing a stream: micro-batches decided jointly at one shadow price of quality, against live workload."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from eccos_rs.domain.query import Query
from eccos_rs.errors import EccosError, NoModelError, Overloaded, StoreError
from eccos_rs.session.checks import checked_limits, checked_number, checked_policy, checked_prediction
from eccos_rs.session.control.clock import WallClock
from eccos_rs.session.control.dual import DualController
from eccos_rs.session.control.pacing import make_pacer
from eccos_rs.session.conversations import Conversations
from eccos_rs.session.home import Home
from eccos_rs.session.learning import Learner
from eccos_rs.session.ledger import Ledger
from eccos_rs.session.limits.opening import open_limits
from eccos_rs.session.recorder import Recorder, saved_state
from eccos_rs.session.scheduler.arrival import Arrivals
from eccos_rs.session.scheduler.loop import Scheduler, SchedulerEvents
from eccos_rs.session.scheduler.prediction import PredictionWorker
from eccos_rs.session.settlement import Settlement
from eccos_rs.session.sharing import join
from eccos_rs.session.stats import SessionStats
from eccos_rs.session.store.opening import open_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping
    from os import PathLike

    from eccos_rs.predict.protocol import Prediction
    from eccos_rs.routing.policy import Policy
    from eccos_rs.routing.router import Router
    from eccos_rs.session.control.pacing import Pacer
    from eccos_rs.session.control.tracking import Alarm
    from eccos_rs.session.conversations import Turn
    from eccos_rs.session.lease import FeedbackReceipt, Lease, LeaseReport
    from eccos_rs.session.limits.base import RateLimiter
    from eccos_rs.session.limits.shared import OnStoreLoss
    from eccos_rs.session.request import Costing, PendingRequest
    from eccos_rs.session.store.base import Judged, Store

__all__ = ["Session"]


class Session:
    """Routes a stream of queries to a pool whose workload is live.

    Queries that arrive within a moment of each other are decided jointly, at one shadow price of quality that
    is controlled so that the mean over the stream keeps the policy's promise. A lease holds a model's slot
    until it is released; no more run at once, or start within a minute, than a model's limits allow. It
    belongs to one event loop; `SyncSession` is the session for threads.

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
        path (an SQLite file, made when it is not there), ``redis://host:port/db``. Sessions on one file, or
        on one server, share limits and budget; without a store a session counts for itself.
    limits : RateLimiter, optional
        In place of the one that goes with the store.
    pacer : Pacer, optional
        In place of one that spreads the policy's budget evenly over its period.
    on_store_loss : {"local-share", "refuse"}
        While shared limits cannot be reached: keep to this session's share of each, or grant nothing.
    window : float
        Seconds that a query lingers for others, at most; when queries are too rare for it, none.
    max_batch : int
        Queries decided together, at most.
    max_waiting : int
        Queries in the session without a model, at most; beyond, `Overloaded`.
    learn : bool
        Update the predictor's retrieval index with feedback.
    stickiness : float
        Seconds for which a conversation's cache is taken to live where the pool does not say (see
        `Query.session`); 0: conversations are not known.
    on_alarm : callable, optional
        Called with an `Alarm` when a promise that binds drifts, and when it holds again.

    Raises
    ------
    StoreError
        The store is damaged or of another program. (One that cannot be written only refuses feedback.)
    PolicyError
        The policy has a budget without a period.

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
        on_store_loss: OnStoreLoss = "local-share",
        window: float = 0.002,
        max_batch: int = 256,
        max_waiting: int = 100_000,
        learn: bool = True,
        stickiness: float = 300.0,
        on_alarm: Callable[[Alarm], None] | None = None,
    ) -> None:
        self.router = router
        self.pool = router.pool
        self.policy = router.policy if policy is None else policy
        self._max_waiting = int(checked_number("max_waiting", max_waiting))
        self._home = Home()
        self._clock = self._home.clock
        checked_policy(self.policy, self.pool)
        stickiness = checked_number("stickiness", stickiness)
        self.conversations = Conversations(self.pool, stickiness, clock=self._clock)
        sizes = checked_number("window", window), int(checked_number("max_batch", max_batch)) or 1
        wall = WallClock(self._clock)
        self._pacer = pacer = make_pacer(self.policy, wall) if pacer is None else pacer
        self._store = open_store(store, clock=wall)
        if limits is None:
            limits = open_limits(store, self.pool, self.policy, on_loss=on_store_loss)
        self._limits = checked_limits(limits, self.pool)
        price, arrivals = saved_state(self._store, list(self.policy.goal))
        if pacer is not None and arrivals is not None:
            pacer.expect(arrivals)
        controller = DualController(self.policy, len(self.pool), pacer, price)
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
        self._scheduler.window.loop = self._home.loop
        self._predictions = PredictionWorker(router, self._scheduler.predicted)
        if self._learns and self._store.durable:
            self._predictions.submit(self._learn_again)
        self._arrivals = Arrivals(self.pool, self.policy, self._clock)
        self._sharing = join(
            limits, self.pool.names, controller, self._ledger.tracker, pacer, clock=self._clock
        )
        self._start_sharing()
        self._recorder = Recorder(
            self._store,
            wall,
            controller,
            pacer,
            sharing=self._sharing is not None,
            on_loop=self._home.call,
            on_tick=self._watch,
        )
        self._settlement = Settlement(
            self.pool,
            limits,
            self._ledger,
            self._recorder,
            self._store,
            clock=self._clock,
            on_loop=self._home.call,
            is_ours=lambda: not self.closed and self._home.is_this_process,
            settled=self._freed,
            judged=self._judged,
        )
        self._drained: asyncio.Event | None = None
        self.closing = self.closed = False

    def _learn_again(self) -> None:
        """Add what earlier sessions on the store were told to the index; before the first prediction."""
        with suppress(StoreError):  # which is in the log already
            self._learner.learn(self._store.judged())

    def _start_sharing(self) -> None:
        if self._sharing is not None and self._home.loop is not None:
            self._sharing.start(self._home.loop)

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
        turn: Turn | None = None,
    ) -> Lease:
        """Choose a model for a query and take a slot of it.

        A turn of a conversation stays with its model, while its cache may live and it can be had now, in the
        middle of a tool loop, and where the price of cached input is not known. Otherwise what the caches
        hold, and what a move makes later turns cost, stand in the cost of each model.

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
        turn : Turn, optional
            Of a conversation; by default that of `Query.session`. `costing` takes its place.

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
        query, exclude = Query.of(query), (exclude,) if isinstance(exclude, str) else tuple(exclude)
        turn = self.conversations.turn(query) if turn is None and costing is None else turn
        known = None if prediction is None else checked_prediction(prediction, self.pool)
        grant = partial(self._grant, prediction=known, max_cost=max_cost, costing=costing or turn)
        lease = None
        if turn is not None and turn.last is not None and turn.stays(query, exclude, self.pool):
            with suppress(NoModelError, Overloaded):
                lease = await grant(replace(query, models=(turn.last,)), timeout=0.0)
        if lease is None or lease.deferred:
            lease = await grant(query, exclude=exclude, timeout=timeout)
        lease.turn = turn
        return lease

    async def _grant(
        self,
        query: Query,
        *,
        prediction: Prediction | None,
        max_cost: float | None,
        timeout: float | None,
        costing: Costing | None,
        exclude: Iterable[str] = (),
    ) -> Lease:
        request = self._arrive(query, exclude, max_cost, timeout, costing)
        if prediction is None:
            self._predictions.put(request)
        else:
            self._scheduler.put(request, prediction)
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
        if self._home.enter():
            self._scheduler.window.loop = self._home.loop
            self._start_sharing()
        if len(self._scheduler) + self._predictions.pending >= self._max_waiting:
            self._scheduler.outcomes["refused"] += 1
            raise Overloaded(
                f"{self._max_waiting:,} queries are waiting already",
                retry_after=self._scheduler.retry_after(-1),
            )
        self._recorder.follow_wall()
        if self._recorder.shared:
            self._recorder.soon(self._home.loop)
        return self._arrivals.request(query, exclude, max_cost, timeout, costing=costing)

    # What the scheduler says, and what holders of leases do.

    def _admitted(self, queries: int) -> None:
        if self._pacer is not None:
            self._pacer.arrive(queries)
        if self._sharing is not None:
            self._sharing.admitted(queries)

    def _granted(self, lease: Lease, request: PendingRequest) -> None:
        self._ledger.granted(lease)
        self._recorder.granted(lease, request, self._learns)

    def _released(self, lease: Lease, report: LeaseReport) -> FeedbackReceipt:
        if not report.dropped:
            self._home.check_process()
        return self._settlement.released(lease, report)

    def _freed(self) -> None:
        self._recorder.soon(self._home.loop)
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
        await self._settlement.judge(lease_id, checked_number("quality", quality, most=1.0))

    def _judged(self, judged: Judged) -> None:
        self._ledger.judged(judged)
        self._watch()
        if self._learns:
            self._predictions.submit(lambda: self._learner.learn([judged]))

    def stats(self) -> SessionStats:
        """Return a snapshot: workload, prices, promised and realised quality, spend, overhead, alarms."""
        if self._recorder.shared and not self.closing:
            self._home.call(self._recorder.soon, self._home.loop)  # others spend while nothing happens here
        (p50, p99), store = self._scheduler.overhead.quantiles(), self._store
        return SessionStats(
            waiting=len(self._scheduler) + self._predictions.pending,
            overhead_p50=p50,
            overhead_p99=p99,
            store="failing" if store.fault is not None else "ok" if store.durable else "none",
            store_errors=store.errors,
            store_dropped=store.dropped,
            limits=self._limits.state,
            limit_losses=self._limits.losses,
            **(self._ledger.snapshot(self._limits.models) | self._scheduler.outcomes),
        )

    def note(self, name: str, value: str) -> None:
        """Keep a small fact in the store under a name, with the next write of spend and prices."""
        self._recorder.notes[name] = value
        self._home.call(self._recorder.soon, self._home.loop)

    def notes(self) -> dict[str, str]:
        """Return what the store keeps by name; waits for it. StoreError: it cannot be read."""
        return self._store.state()

    def down(self, model: str) -> None:
        """Give a model nothing more until `up`; what it does now goes on. PoolError: not in the pool."""
        self._limits.set_up(self.pool.index(model), False)

    def up(self, model: str) -> None:
        """Let a model take queries again. PoolError: not in the pool."""
        self._limits.set_up(self.pool.index(model), True)
        self._scheduler.window.soon()

    # The end.

    def _settle_down(self) -> None:
        if self._drained is None or len(self._scheduler) or self._predictions.pending:
            return
        if not any(model.in_flight for model in self._limits.own):
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
        if self._sharing is not None:
            self._sharing.stop()
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
