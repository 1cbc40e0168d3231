"""What follows a decision: money, promises kept, feedback, and what is written down of them."""

from __future__ import annotations

import json
import logging
import math
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from eccos_rs.errors import InputError, StoreError
from eccos_rs.session.feedback import Drift, Tracker
from eccos_rs.session.pacing import Pacer, period_of
from eccos_rs.session.rows import Judged, LeaseRow, pack_embedding
from eccos_rs.session.stats import ModelStats
from eccos_rs.session.steering import Steering

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from eccos_rs.routing.policy import Policy
    from eccos_rs.routing.pool import Pool
    from eccos_rs.session.feedback import Alarm
    from eccos_rs.session.journal import Journal
    from eccos_rs.session.lease import Lease
    from eccos_rs.session.limits import Limits
    from eccos_rs.session.waiting import Waiter

__all__ = ["Accounts"]

logger = logging.getLogger("eccos_rs.session")

_REMEMBERED = 10_000
"""Leases that feedback may still come to, without a store."""


@dataclass(slots=True)
class _Remembered:
    """A lease that feedback may still come to."""

    waiter: Waiter
    index: int
    expected: float
    judged: float | None = None
    real_tokens: float | None = None

    def row(self, lease: str, at: float) -> LeaseRow:
        waiter, index = self.waiter, self.index
        return LeaseRow(
            lease,
            waiter.pool[index].name,
            at,
            float(waiter.quality[index]),
            self.expected,
            float(waiter.output_tokens[index]),
            float(waiter.cost[index]),
            None,
        )


class Accounts:
    """The books of a session.

    Parameters
    ----------
    pool : Pool
    policy : Policy
    wall : callable
        Seconds since 1970.
    journal : Journal, optional
    on_alarm : callable, optional
    """

    def __init__(
        self,
        pool: Pool,
        policy: Policy,
        wall: Callable[[], float],
        journal: Journal | None,
        on_alarm: Callable[[Alarm], None] | None,
    ) -> None:
        self._pool = pool
        self._wall = wall
        self.journal = journal
        self.pacer = Pacer.of(policy, wall)
        self.tracker = Tracker(len(pool))
        self.drift = Drift(on_alarm)
        self.steering = Steering(policy, len(pool), self.pacer, self._resume(policy))
        self.decisions = [0] * len(pool)
        self.failures = [0] * len(pool)
        self.spend = [0.0] * len(pool)
        self.expected_quality = 0.0
        self.feedback = 0
        self._day = period_of("day", wall())
        self._today = 0.0
        self._recent: OrderedDict[str, _Remembered] = OrderedDict()

    def _resume(self, policy: Policy) -> float | None:
        """Go on where an earlier session on this store stopped; return its price of quality."""
        if self.journal is None:
            return None
        try:
            state = self.journal.state()
            if self.pacer is not None:
                started = self.pacer.started
                self.pacer.resume(started, self.journal.spent_elsewhere(started).result())
        except StoreError as error:
            logger.error("nothing is known of earlier sessions: %s", error)
            return None
        saved = json.loads(state.get("price", "{}"))
        price, rate = saved.get("quality_price"), saved.get("arrivals_per_second")
        if self.pacer is not None and isinstance(rate, float) and rate >= 0:
            self.pacer.expect(rate)
        known = saved.get("goal") == list(policy.goal) and isinstance(price, float) and price >= 0
        return price if known else None

    @property
    def shared(self) -> bool:
        """Whether others may spend of the same budget."""
        return self.pacer is not None and self.journal is not None

    def granted(self, lease: Lease, embedding_wanted: bool) -> None:
        """Enter a lease."""
        at = lease.index
        waiter = lease._waiter
        self.decisions[at] += 1
        self.expected_quality += lease.expected
        self.steering.count(lease.expected)
        cost = lease.cost
        if self.pacer is not None:
            self.pacer.reserve(cost)
        if self.journal is None:
            self._recent[lease.id] = _Remembered(waiter, at, lease.expected)
            if len(self._recent) > _REMEMBERED:
                self._recent.popitem(last=False)
            return
        row = _Remembered(waiter, at, lease.expected).row(lease.id, self._wall())
        embedding = pack_embedding(waiter.embedding) if embedding_wanted else None
        self.journal.lease(row if embedding is None else replace(row, embedding=embedding))

    def settled(self, lease: Lease, tokens: float | None, cost: float, *, failed: bool, blamed: bool) -> None:
        """Enter what a lease really took; a failure is counted where the model is `blamed` for it."""
        at = lease.index
        predicted = lease.cost
        self.spend[at] += cost
        if self.pacer is not None:
            self.pacer.roll()
            self.pacer.settle(predicted, cost, failed=failed)
        self._today += cost
        if failed:
            self.failures[at] += blamed
            self.decisions[at] -= 1
            self.expected_quality -= lease.expected
            self.steering.count(-lease.expected, -1)
        else:
            self.tracker.settled(at, (lease.output_tokens, predicted), (tokens, cost))
        if self.journal is not None:
            self.journal.settle(lease.id, tokens, cost, failed)
        elif (known := self._recent.get(lease.id)) is not None:
            known.real_tokens = tokens

    def judge(self, lease: str, quality: float) -> Future[Judged] | Judged:
        """Take feedback: a future while the store writes it, the row itself without a store.

        Raises
        ------
        InputError
            Without a store: the lease is unknown or too long ago.
        """
        if self.journal is not None:
            return self.journal.feedback(lease, quality)
        known = self._recent.get(lease)
        if known is None:
            raise InputError(
                f"lease_id: no lease {lease!r} among the last {_REMEMBERED:,}, and without a store none "
                "older is known"
            )
        previous, known.judged = known.judged, quality
        row = replace(known.row(lease, 0.0), embedding=pack_embedding(known.waiter.embedding))
        return Judged(row, quality, known.real_tokens, previous is None, previous)

    def judged(self, judged: Judged) -> None:
        """Learn from feedback that is durable."""
        row = judged.lease
        if row.model not in self._pool.names:
            return  # judged after its model has left the pool
        self.steering.judged(row.expected if judged.previous is None else judged.previous, judged.quality)
        if not judged.first:
            return
        self.feedback += 1
        self.tracker.judged(self._pool.index(row.model), row.predicted, judged.quality)

    def check(self, limits: Limits) -> None:
        """Look for drift of what binds."""
        if not math.isnan(self.steering.promised):
            weight, _, realised = self.tracker.overall()
            self.drift.quality(self.steering.promised, weight, realised)
        if self.pacer is not None:
            self.pacer.roll()
            pace = self.pacer.pace()
            self.drift.budget(pace.budget, pace.on_pace, pace.spent)
        bound = [model.tokens is not None for model in limits.models]
        if any(bound):
            self.drift.tokens(self._pool.names, bound, self.tracker)

    def save(self) -> Future[float] | None:
        """Write spend and price down; return what others have spent of the same budget, when there is one."""
        journal, pacer = self.journal, self.pacer
        if journal is None:
            return None
        price = self.steering.price
        state = {}
        if price is not None and math.isfinite(price):
            saved = {"goal": list(self.steering.policy.goal), "quality_price": float(price)}
            if pacer is not None:
                saved["arrivals_per_second"] = pacer.arrivals_per_second
            state["price"] = json.dumps(saved)
        if pacer is None:
            now = self._wall()
            if now >= self._day[1]:
                self._day, self._today = period_of("day", now), 0.0
            journal.spend(self._day[0], self._today, state)
            return None
        pacer.roll()
        journal.spend(pacer.started, pacer.spent_here, state)
        return journal.spent_elsewhere(pacer.started)

    def snapshot(self, limits: Limits) -> dict[str, Any]:
        """Return what `SessionStats` says of the books."""
        steering, journal, pacer = self.steering, self.journal, self.pacer
        if pacer is not None:
            pacer.roll()
        decisions = sum(self.decisions)
        return {
            "models": self._model_stats(limits),
            "decisions": decisions,
            "failures": sum(self.failures),
            "quality_price": math.nan if steering.price is None else steering.price,
            "promised_quality": steering.promised,
            "predicted_quality": self.expected_quality / decisions if decisions else math.nan,
            "realised_quality": self.tracker.overall()[2],
            "feedback": self.feedback,
            "spend": sum(self.spend),
            "pace": None if pacer is None else pacer.pace(),
            "alarms": tuple(self.drift.active.values()),
            "alarms_raised": self.drift.raised,
            "store": "none" if journal is None else "ok" if journal.fault is None else "failing",
            "store_errors": 0 if journal is None else journal.errors,
            "store_dropped": 0 if journal is None else journal.dropped,
        }

    def _model_stats(self, limits: Limits) -> tuple[ModelStats, ...]:
        rows = []
        for at, (llm, model) in enumerate(zip(self._pool, limits.models, strict=True)):
            requests, tokens = model.requests, model.tokens
            rows.append(
                ModelStats(
                    name=llm.name,
                    up=model.up,
                    in_flight=model.in_flight,
                    slots=model.slots,
                    requests_used=None if requests is None else requests.used,
                    requests_per_minute=None if requests is None else requests.limit,
                    tokens_used=None if tokens is None else tokens.used,
                    tokens_per_minute=None if tokens is None else tokens.limit,
                    slot_price=float(self.steering.slot_price[at]),
                    decisions=self.decisions[at],
                    failures=self.failures[at],
                    spend=self.spend[at],
                    record=self.tracker.record(at),
                )
            )
        return tuple(rows)
