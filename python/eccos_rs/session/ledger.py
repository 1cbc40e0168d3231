"""The ledger of a session: decisions, spend, promises kept, feedback. It does no I/O."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from eccos_rs.session.control.ground import GroundTracker
from eccos_rs.session.control.tracking import Drift, Tracker
from eccos_rs.session.stats import ModelStats

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from eccos_rs.pools.pool import Pool
    from eccos_rs.session.control.dual import DualController
    from eccos_rs.session.control.pacing import Pacer
    from eccos_rs.session.control.tracking import Alarm
    from eccos_rs.session.lease import Lease
    from eccos_rs.session.limits.window import ModelLoad
    from eccos_rs.session.store.base import Judged

__all__ = ["Ledger"]


class Ledger:
    """Counts what a session has decided, spent and heard, and watches what binds.

    Parameters
    ----------
    pool : Pool
    controller : DualController
        Told of every decision and judgement.
    pacer : Pacer, optional
        Of a budget.
    on_alarm : callable, optional
        Called with an `Alarm` when a promise that binds drifts, and when it holds again.
    """

    def __init__(
        self,
        pool: Pool,
        controller: DualController,
        pacer: Pacer | None,
        on_alarm: Callable[[Alarm], None] | None,
    ) -> None:
        self._pool = pool
        self._controller = controller
        self._pacer = pacer
        self._drift = Drift(on_alarm)
        self._decisions = [0] * len(pool)
        self._failures = [0] * len(pool)
        self._spend = [0.0] * len(pool)
        self._expected_quality = 0.0
        self._feedback = 0
        self._ground = GroundTracker()
        self.tracker = Tracker(len(pool))

    @property
    def spend(self) -> float:
        """US dollars settled."""
        return sum(self._spend)

    def granted(self, lease: Lease) -> None:
        """Enter a lease."""
        self._decisions[lease.index] += 1
        self._expected_quality += lease.expected
        self._ground.add(lease.similarity)
        self._controller.count(lease.expected)
        if self._pacer is not None:
            self._pacer.reserve(lease.cost)

    def settled(self, lease: Lease, tokens: float | None, cost: float, *, failed: bool, blamed: bool) -> None:
        """Enter what a lease really took; a failure is counted where the model is `blamed` for it."""
        at, predicted = lease.index, lease.cost
        self._spend[at] += cost
        if self._pacer is not None:
            self._pacer.roll()
            self._pacer.settle(predicted, cost, failed=failed)
        if failed:
            self._failures[at] += blamed
            self._decisions[at] -= 1
            self._expected_quality -= lease.expected
            self._controller.count(-lease.expected, -1)
        else:
            self.tracker.settled(at, (lease.output_tokens, predicted), (tokens, cost))

    def judged(self, judged: Judged) -> None:
        """Correct predictions by feedback that is durable."""
        row = judged.lease
        if row.model not in self._pool.names:
            return  # judged after its model has left the pool
        expected = row.expected if judged.previous is None else judged.previous
        self._controller.judged(expected, judged.quality)
        if judged.first:
            self._feedback += 1
            self.tracker.judged(self._pool.index(row.model), row.predicted, judged.quality)

    def check(self, models: Sequence[ModelLoad]) -> None:
        """Look for drift of what binds."""
        if not math.isnan(self._controller.promised):
            weight, _, realised = self.tracker.overall()
            self._drift.quality(self._controller.promised, weight, realised)
        if self._pacer is not None:
            self._pacer.roll()
            pace = self._pacer.pace()
            self._drift.budget(pace.budget, pace.on_pace, pace.spent)
        bound = [model.tokens is not None for model in models]
        if any(bound):
            self._drift.tokens(self._pool.names, bound, self.tracker)

    def snapshot(self, models: Sequence[ModelLoad]) -> dict[str, Any]:
        """Return what `SessionStats` says of the ledger."""
        controller, pacer = self._controller, self._pacer
        if pacer is not None:
            pacer.roll()
        decisions = sum(self._decisions)
        return {
            "models": self._model_stats(models),
            "decisions": decisions,
            "failures": sum(self._failures),
            "quality_price": math.nan if controller.price is None else controller.price,
            "promised_quality": controller.promised,
            "predicted_quality": self._expected_quality / decisions if decisions else math.nan,
            "realised_quality": self.tracker.overall()[2],
            "feedback": self._feedback,
            "spend": self.spend,
            "pace": None if pacer is None else pacer.pace(),
            "ground": self._ground.snapshot(),
            "alarms": tuple(self._drift.active.values()),
            "alarms_raised": self._drift.raised,
        }

    def _model_stats(self, models: Sequence[ModelLoad]) -> tuple[ModelStats, ...]:
        rows = []
        for at, (llm, model) in enumerate(zip(self._pool, models, strict=True)):
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
                    slot_price=float(self._controller.slot_price[at]),
                    decisions=self._decisions[at],
                    failures=self._failures[at],
                    spend=self._spend[at],
                    record=self.tracker.record(at),
                )
            )
        return tuple(rows)
