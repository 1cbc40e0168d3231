"""The loop of a session: who came, who waits, who may go now."""

from __future__ import annotations

import heapq
import math
import secrets
from typing import TYPE_CHECKING

from eccos_rs.errors import NoModelError, Overloaded
from eccos_rs.predict.protocol import Prediction
from eccos_rs.session.deciding import Decider, Intake
from eccos_rs.session.lease import Lease
from eccos_rs.session.pacing import Rate
from eccos_rs.session.stats import Overhead
from eccos_rs.session.waiting import Waiter, WaitingRoom

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from eccos_rs.routing.policy import Policy
    from eccos_rs.routing.pool import Pool
    from eccos_rs.session.accounts import Accounts
    from eccos_rs.session.facade import Session
    from eccos_rs.session.limits import Limits

__all__ = ["Engine"]

_TIMER = 1e-3
"""Seconds that a timer of an event loop takes at least."""


class Engine:
    """Collects arrivals into micro-batches, decides them, and keeps those that must wait.

    Parameters
    ----------
    session : Session
        Whose leases it makes.
    limits : Limits
    accounts : Accounts
        Entered with every lease.
    clock : callable
        Seconds that never run backwards.
    window : float
        Seconds that a query waits for company, at most.
    max_batch : int
    keep_embeddings : bool
        Whether journalled leases carry their query's embedding.
    """

    def __init__(
        self,
        session: Session,
        limits: Limits,
        accounts: Accounts,
        clock: Callable[[], float],
        *,
        window: float,
        max_batch: int,
        keep_embeddings: bool,
    ) -> None:
        self._session = session
        self._pool: Pool = session.pool
        self._policy: Policy = session.policy
        self._limits = limits
        self._accounts = accounts
        self._steering = accounts.steering
        self._clock = clock
        self._window = window
        self._max_batch = max_batch
        self._keep_embeddings = keep_embeddings
        self._intake = Intake(self._pool, self._policy, limits, self._steering.history)
        self._decider = Decider(limits, self._policy)
        self._given: list[tuple[Waiter, Prediction]] = []
        self._waiting = WaitingRoom()
        self._deadlines: list[tuple[float, tuple[int, int], Waiter]] = []
        self._rate = Rate(5.0)
        self._flushing: asyncio.Handle | None = None
        self._latest = self._until = -math.inf  # of the micro-batch: the last arrival, the end of the window
        self._waking: asyncio.TimerHandle | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.overhead = Overhead()
        self.outcomes = {"deferred": 0, "refused": 0, "cancelled": 0}

    def __len__(self) -> int:
        return self._waiting.waiting + len(self._given)

    def freed(self) -> None:
        """Decide soon, now that a slot is free, when somebody waits for one."""
        if self._waiting.waiting and self._flushing is None:
            self.schedule(0.0)

    # Who came.

    def put(self, waiter: Waiter, prediction: Prediction) -> None:
        """Take a query whose prediction was given, into the micro-batch that is being collected."""
        self._given.append((waiter, prediction))
        self._latest = waiter.arrived
        self.schedule()

    def predicted(self, waiters: list[Waiter], prediction: Prediction | Exception) -> None:
        """Take queries that were predicted together, or could not be."""
        if isinstance(prediction, Exception):
            for waiter in waiters:
                self._fail(waiter, prediction)
            return
        self._admit(waiters, [prediction], self._clock())
        self.schedule(0.0)

    def abandon(self, waiter: Waiter) -> None:
        """Forget a query whose caller has gone; what was granted meanwhile goes back."""
        self.outcomes["cancelled"] += 1
        outcome = waiter.outcome
        if outcome.done() and not outcome.cancelled() and outcome.exception() is None:
            outcome.result().cancel()
        else:
            self._waiting.leave(waiter)

    def schedule(self, delay: float | None = None) -> None:
        """Decide soon: after `delay` seconds, by default when the window ends or nobody comes any more.

        A window is only waited for when company can be expected in it; what arrives in one turn of the loop
        is decided together all the same.
        """
        full = len(self._given) >= self._max_batch
        if self._flushing is not None:
            if not full and delay is None:
                return
            self._flushing.cancel()
        if self.loop is None or self.loop.is_closed():
            return
        if delay is None:
            now = self._clock()
            self._until = now + self._window
            delay = 0.0 if full else self._company(now)
            if delay > 0:
                self._wait_for_company(delay)
                return
        if delay > 0:
            self._flushing = self.loop.call_later(delay, self._flush)
        else:
            self._flushing = self.loop.call_soon(self._flush)

    def _company(self, now: float) -> float:
        """Return the seconds without an arrival after which none is to be expected; 0: none is even now."""
        rate = self._rate.per_second(now)
        if rate * self._window < 1.0:
            return 0.0
        # Arrivals by chance leave a gap of four means in one case of fifty: the burst is over.
        return min(4.0 / rate, self._window)

    def _wait_for_company(self, seconds: float) -> None:
        assert self.loop is not None  # schedule() has looked
        # A timer of the loop takes a millisecond at least; what is shorter is one more turn of the loop.
        if seconds < _TIMER:
            self._flushing = self.loop.call_soon(self._end_window, len(self._given))
        else:
            self._flushing = self.loop.call_later(seconds, self._end_window)

    def _end_window(self, seen: int | None = None) -> None:
        """Decide, unless others came meanwhile and the window allows to see whether more do."""
        now = self._clock()
        if seen is None:
            left = min(self._latest + self._company(now), self._until) - now
        else:
            left = min(_TIMER / 2, self._until - now) if len(self._given) > seen else 0.0
        if left > 0:
            self._wait_for_company(left)
        else:
            self._flush()

    def _admit(self, waiters: list[Waiter], parts: list[Prediction], now: float) -> None:
        try:
            # The router may have learned of another model; the session keeps the pool it began with.
            parts = [part.select(self._pool.names) for part in parts]
            prediction = parts[0] if len(parts) == 1 else Prediction.concatenate(parts)
            refused = self._intake.take(waiters, prediction, now)
        except Exception as error:
            for waiter in waiters:
                self._fail(waiter, error)
            return
        self._rate.add(len(waiters), now)
        if self._accounts.pacer is not None:
            self._accounts.pacer.arrive(len(waiters))
        for waiter, reason in refused:
            if self._policy.unroutable == "defer" and isinstance(reason, NoModelError):
                self._defer(waiter, now, None)
            else:
                self._fail(waiter, reason)
        for waiter in waiters:
            if waiter.alive:
                self._waiting.add(waiter)
                if waiter.deadline < math.inf:
                    heapq.heappush(self._deadlines, (waiter.deadline, waiter.order, waiter))

    # Who may go.

    def _flush(self) -> None:
        self._flushing = None
        now = self._clock()
        given, self._given = self._given[: self._max_batch], self._given[self._max_batch :]
        given = [each for each in given if each[0].alive]
        if given:
            self._admit([waiter for waiter, _ in given], [prediction for _, prediction in given], now)
        more = self._serve(now)
        self._expire(now)
        if more or self._given:
            self.schedule(0.0)
        else:
            self._rearm(now)
        self._session._settle_down()

    def _serve(self, now: float) -> bool:
        """Grant what fits; say whether more may fit, after other callbacks had their turn."""
        closed = granted = 0
        while len(self._waiting):
            if granted >= self._max_batch:
                return True
            rooms = self._limits.room(now)
            open_models = sum(1 << at for at, room in enumerate(rooms) if room >= 1 and not closed >> at & 1)
            room = sum(room for at, room in enumerate(rooms) if open_models >> at & 1)
            batch = self._waiting.take(min(self._max_batch, room), open_models) if open_models else []
            if not batch:
                return False
            try:
                done, still_closed = self._decide(batch, closed, now)
            except Exception as error:
                # Nobody may wait for an answer that never comes: those who were in it are told, others go on.
                for waiter in batch:
                    self._fail(waiter, error)
                done, still_closed = len(batch), closed
            if not done and still_closed == closed:
                return False
            granted, closed = granted + done, still_closed
        return False

    def _decide(self, batch: list[Waiter], closed: int, now: float) -> tuple[int, int]:
        steering = self._steering
        if steering.due(now):
            steering.steer(self._limits, now, self._rate.per_second(now))
        price = steering.price or 0.0
        premium = steering.premium(self._limits)
        chosen, runner, quality, closed = self._decider.decide(
            batch, price=price, premium=premium, bias=self._accounts.tracker.bias, now=now, closed=closed
        )
        ids = secrets.token_hex(12 * len(batch))
        premiums = premium.tolist()
        decided = self._clock()
        granted, left = 0, []
        for row, waiter in enumerate(batch):
            if math.isnan(waiter.considered):
                waiter.considered = decided
                self.overhead.add(decided - waiter.arrived)
            at = chosen[row]
            if waiter.outcome.done():
                self._waiting.leave(waiter)
                granted += 1  # cancelled: its place is free
            elif at < 0 or not self._limits.models[at].fits(waiter.tokens[at], now):
                left.append(waiter)
            else:
                granted += 1
                lease = Lease(
                    self._session,
                    waiter,
                    id=ids[24 * row : 24 * row + 24],
                    granted=decided,
                    index=at,
                    runner=runner[row] if runner[row] != at else -1,
                    bucket=self._limits.models[at].take(waiter.tokens[at], now),
                    expected=float(quality[row, at]),
                    prices=(price, premiums[at]),
                )
                self._waiting.leave(waiter)
                self._accounts.granted(lease, self._keep_embeddings)
                waiter.outcome.set_result(lease)
        self._waiting.put_back(left)
        return granted, closed

    # Who waits no longer.

    def _expire(self, now: float) -> None:
        while self._deadlines and (self._deadlines[0][0] <= now or not self._deadlines[0][2].alive):
            waiter = heapq.heappop(self._deadlines)[2]
            if not waiter.alive:
                continue
            retry = self.retry_after(waiter.mask, waiter)
            if self._policy.overload == "defer":
                self._defer(waiter, now, retry)
            else:
                waited = now - waiter.predicted
                self._fail(
                    waiter,
                    Overloaded(
                        f"no model is free after {waited:.3g} s of waiting; try again in {retry:.3g} s",
                        retry_after=retry,
                    ),
                )
        if len(self._deadlines) > 64 + 2 * len(self._waiting):
            self._deadlines = [each for each in self._deadlines if each[2].alive]
            heapq.heapify(self._deadlines)

    def retry_after(self, mask: int, waiter: Waiter | None = None) -> float:
        """Estimate the seconds after which one of the masked models (-1: any) takes a query again."""
        now = self._clock()
        waits = [
            model.seconds_until(0 if waiter is None else waiter.tokens[at], now)
            for at, model in enumerate(self._limits.models)
            if mask >> at & 1
        ]
        # A slot that comes free goes to those who waited before.
        return min(max(min(waits, default=1.0), 0.001), 3600.0)

    def refuse_all(self, why: str, others: Sequence[Waiter] = ()) -> None:
        """Turn away everybody who waits, and these others."""
        everybody = [*self._waiting.drain(), *(waiter for waiter, _ in self._given), *others]
        self._given.clear()
        for waiter in everybody:
            self._fail(waiter, Overloaded(why))

    def _fail(self, waiter: Waiter, error: Exception) -> None:
        self._waiting.leave(waiter)
        if not waiter.outcome.done():
            self.outcomes["refused"] += 1
            waiter.outcome.set_exception(error)

    def _defer(self, waiter: Waiter, now: float, retry_after: float | None) -> None:
        self._waiting.leave(waiter)
        if not waiter.outcome.done():
            self.outcomes["deferred"] += 1
            waiter.outcome.set_result(
                Lease(self._session, waiter, id=secrets.token_hex(12), granted=now, retry_after=retry_after)
            )

    def _rearm(self, now: float) -> None:
        """Wake up when the next deadline comes or a window lets go of something."""
        if self._waking is not None:
            self._waking.cancel()
            self._waking = None
        if not len(self._waiting) or self.loop is None:
            return
        wait = self._limits.next_change(now)
        if self._deadlines:
            wait = min(wait, max(self._deadlines[0][0] - now, 0.0))
        if wait < math.inf:
            self._waking = self.loop.call_later(max(wait, 1e-3), self.schedule, 0.0)

    def stop(self) -> None:
        """Cancel the timers."""
        for handle in (self._flushing, self._waking):
            if handle is not None:
                handle.cancel()
