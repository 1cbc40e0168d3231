"""Routing a stream: micro-batches decided jointly at one price of quality, against live workload."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Self

from eccos_rs.domain.pricing import model_cost
from eccos_rs.errors import EccosError, Overloaded, StoreError
from eccos_rs.routing.query import Query
from eccos_rs.session.accounts import Accounts
from eccos_rs.session.checks import (
    checked_number,
    checked_policy,
    checked_prediction,
    checked_timeout,
    mask_of,
)
from eccos_rs.session.engine import Engine
from eccos_rs.session.forecasting import Forecaster
from eccos_rs.session.journal import Journal
from eccos_rs.session.learning import Learner
from eccos_rs.session.lease import Acknowledgement, Lease
from eccos_rs.session.limits import Limits
from eccos_rs.session.pacing import WallClock
from eccos_rs.session.rows import Judged
from eccos_rs.session.saving import Saver
from eccos_rs.session.stats import SessionStats
from eccos_rs.session.waiting import Waiter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping
    from concurrent.futures import Future
    from os import PathLike

    from eccos_rs.predict.protocol import Prediction
    from eccos_rs.routing.policy import Policy
    from eccos_rs.routing.router import Router
    from eccos_rs.session.feedback import Alarm

__all__ = ["Session"]


class Session:
    """Routes a stream of queries to a pool whose workload is live.

    Queries that arrive within a moment of each other are decided jointly, at one price of quality that is
    carried on and steered so that the mean over the stream keeps the policy's promise. A lease holds a
    model's slot until it is released; no more run at once, or start within a minute, than a model's limits
    allow.

    Parameters
    ----------
    router : Router
        Pool, predictor and, unless given here, policy.
    policy : Policy, optional
        A budget needs ``per``. `Policy.overload` and `Policy.wait` say what happens when nothing fits:
        ``"defer"`` waits (at most `wait` seconds, then the lease is a deferred one); ``"raise"`` waits at
        most `wait` seconds (none given: not at all), then raises `Overloaded` with the time to come back.
    store : path, optional
        SQLite file for feedback, spend and prices; made when it is not there, shared between processes.
    window : float
        Seconds that a query waits for company, at most; when queries are too rare for it, none.
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
        store: str | PathLike[str] | None = None,
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
        checked_policy(self.policy, self.pool)
        self._limits = Limits(self.pool, self.policy.capacity)
        wall = WallClock(self._clock, time.time())
        self._journal = None if store is None else Journal(store, clock=wall)
        self._accounts = Accounts(self.pool, self.policy, wall, self._journal, on_alarm)
        self._learner = Learner(router.predictor)
        self._learns = learn and self._learner.able
        self._engine = Engine(
            self, self._limits, self._accounts, self._clock,
            window=checked_number("window", window),
            max_batch=int(checked_number("max_batch", max_batch)) or 1,
            keep_embeddings=self._learns,
        )  # fmt: skip
        self._engine.loop = self._loop
        self._forecaster = Forecaster(router, self._engine.predicted)
        if self._learns and self._journal is not None:
            self._forecaster.submit(self._learn_again)
        self._arrivals = 0
        self._saver = Saver(self._accounts, self._limits, self._on_loop)
        self._drained: asyncio.Event | None = None
        self.closing = self.closed = False

    def _learn_again(self) -> None:
        """Teach the index what earlier sessions on the store were told; before the first prediction."""
        with suppress(StoreError):  # which is in the log already
            self._learner.learn(self._journal.judged() if self._journal is not None else ())

    # Asking for a model.

    async def acquire(
        self,
        query: str | Query | Mapping[str, Any] | list[Mapping[str, Any]],
        *,
        prediction: Prediction | None = None,
        exclude: Iterable[str] = (),
        max_cost: float | None = None,
        timeout: float | None = None,
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
        waiter = self._arrive(Query.of(query), exclude, max_cost, timeout)
        if known is None:
            self._forecaster.put(waiter)
        else:
            self._engine.put(waiter, known)
        try:
            lease: Lease = await waiter.outcome
        except asyncio.CancelledError:
            self._engine.abandon(waiter)
            self._settle_down()
            raise
        # The books remember the waiter; they must not keep a lease alive that its holder has dropped.
        del waiter.outcome
        return lease

    @asynccontextmanager
    async def lease(
        self, query: str | Query | Mapping[str, Any] | list[Mapping[str, Any]], **options: Any
    ) -> AsyncIterator[Lease]:
        """Acquire a lease for a block, and give it back on every way out of it.

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
        self, query: Query, exclude: Iterable[str], max_cost: float | None, timeout: float | None
    ) -> Waiter:
        if self.closing:
            raise EccosError("the session is closed; it takes no more queries")
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None:
                raise EccosError("the session belongs to another event loop; use SyncSession from threads")
            self._loop = self._engine.loop = loop
            self._thread = threading.get_ident()
        if len(self._engine) + self._forecaster.pending >= self._max_waiting:
            self._engine.outcomes["refused"] += 1
            raise Overloaded(
                f"{self._max_waiting:,} queries are waiting already", retry_after=self._engine.retry_after(-1)
            )
        for name in query.models or ():
            self.pool.columns(name)
        now = self._clock()
        self._arrivals += 1
        if self._accounts.shared:
            self._saver.soon(loop)
        return Waiter(
            query,
            loop.create_future(),
            self.pool,
            arrived=now,
            deadline=now + self._patience(timeout),
            excluded=mask_of(exclude, self.pool),
            max_cost=math.inf if max_cost is None else checked_number("max_cost", max_cost),
            order=(-query.priority, self._arrivals),
        )

    def _patience(self, timeout: float | None) -> float:
        if timeout is not None:
            return checked_timeout(timeout)
        if self.policy.wait is not None:
            return self.policy.wait
        return math.inf if self.policy.overload == "defer" else 0.0

    def _release(
        self,
        lease: Lease,
        output_tokens: float | None,
        quality: float | None,
        cost: float | None,
        *,
        failed: bool,
        blamed: bool,
    ) -> Acknowledgement:
        """Give a lease's slot back whatever else is wrong, then report; from any thread."""
        try:
            tokens = None if output_tokens is None else checked_number("output_tokens", output_tokens)
            paid = None if cost is None else checked_number("cost", cost)
            judgement = None if quality is None else checked_number("quality", quality, most=1.0)
        except EccosError:
            self._on_loop(self._settle, lease, None, None, True, blamed)
            raise
        self._on_loop(self._settle, lease, tokens, paid, failed, blamed)
        return Acknowledgement() if judgement is None else self._judge(lease.id, judgement)

    def _on_loop(self, call: Callable[..., None], *arguments: Any) -> None:
        if self._loop is None or self._loop.is_closed() or threading.get_ident() == self._thread:
            call(*arguments)
        else:
            with suppress(RuntimeError):  # the loop was closed meanwhile: nobody counts any more
                self._loop.call_soon_threadsafe(call, *arguments)

    def _cancel(self, lease: Lease) -> None:
        self._on_loop(self._undo, lease)

    def _undo(self, lease: Lease) -> None:
        tokens = lease._waiter.tokens[lease.index]
        self._limits.models[lease.index].undo(lease.bucket, tokens, self._clock())
        self._accounts.settled(lease, 0.0, 0.0, failed=True, blamed=False)
        self._engine.freed()
        self._settle_down()

    def _settle(
        self, lease: Lease, tokens: float | None, cost: float | None, failed: bool, blamed: bool
    ) -> None:
        now = self._clock()
        at, llm = lease.index, self.pool[lease.index]
        real = 0.0 if failed and tokens is None else tokens
        if cost is None and real is not None:
            prompt = 0 if failed and tokens is None else lease.input_tokens
            cost = model_cost(llm, prompt, real)
        difference = 0 if real is None else math.ceil(real) - math.ceil(lease.output_tokens)
        self._limits.models[at].give_back(lease.bucket, difference, now - lease.granted, now)
        self._accounts.settled(
            lease, tokens, lease.cost if cost is None else cost, failed=failed, blamed=blamed
        )
        self._saver.soon(self._loop)
        self._engine.freed()
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

    def _judge(self, lease_id: str, quality: float) -> Acknowledgement:
        answer = self._accounts.judge(lease_id, quality)
        if isinstance(answer, Judged):
            self._on_loop(self._judged, answer)
            return Acknowledgement()
        answer.add_done_callback(self._written)
        return Acknowledgement(answer)

    def _written(self, future: Future[Judged]) -> None:
        if future.exception() is None:
            self._on_loop(self._judged, future.result())

    def _judged(self, judged: Judged) -> None:
        self._accounts.judged(judged)
        self._accounts.check(self._limits)
        if self._learns:
            self._forecaster.submit(lambda: self._learner.learn([judged]))

    def stats(self) -> SessionStats:
        """Return a snapshot: workload, prices, promised and realised quality, spend, overhead, alarms."""
        if self._accounts.shared and not self.closing:
            self._on_loop(self._saver.soon, self._loop)  # others spend while nothing happens here
        p50, p99 = self._engine.overhead.quantiles()
        return SessionStats(
            waiting=len(self._engine) + self._forecaster.pending,
            overhead_p50=p50,
            overhead_p99=p99,
            **(self._accounts.snapshot(self._limits) | self._engine.outcomes),
        )

    def down(self, model: str) -> None:
        """Give a model nothing more until `up`; what it does now goes on. PoolError: not in the pool."""
        self._limits.models[self.pool.index(model)].up = False

    def up(self, model: str) -> None:
        """Let a model take queries again. PoolError: not in the pool."""
        self._limits.models[self.pool.index(model)].up = True
        self._engine.schedule(0.0)

    # Writing down, and ending.

    def _busy(self) -> bool:
        in_flight = sum(model.in_flight for model in self._limits.models)
        return bool(in_flight or len(self._engine) or self._forecaster.pending)

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
        self._engine.refuse_all("the session closes", self._forecaster.close())
        self._engine.stop()
        self._saver.stop()
        await asyncio.to_thread(self._forecaster.join)
        if self._journal is not None:
            self._accounts.save()
            await asyncio.to_thread(self._journal.close)
        self.closed = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        await self.close(30.0 if kind is None else 0.0)

    def __repr__(self) -> str:
        goal, value = self.policy.goal
        state = "closed" if self.closed else "closing" if self.closing else "open"
        return f"Session({', '.join(self.pool.names)}; {goal}={value:g}; {state})"
