"""What Prometheus reads and what the page shows: the session's figures and the gateway's own."""

from __future__ import annotations

import math
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eccos_rs.serve.board import StatusBoard
    from eccos_rs.serve.breaker import Breakers
    from eccos_rs.serve.keys import Keys
    from eccos_rs.session import Session
    from eccos_rs.session.stats import ModelStats, SessionStats

__all__ = ["Metrics", "page_figures"]

_OVERHEAD = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_ANSWER = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


class Metrics:
    """The registry of one gateway.

    Parameters
    ----------
    session : Session
        Asked for its figures whenever Prometheus asks.
    breakers : Breakers
        Which models are out.
    board : StatusBoard
        What the page shows beside them.
    keys : Keys
        What each has spent.
    """

    def __init__(self, session: Session, breakers: Breakers, board: StatusBoard, keys: Keys) -> None:
        self.board = board
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "eccos_requests", "Chat completions by model and HTTP status.", ["model", "status"],
            registry=self.registry,
        )  # fmt: skip
        self.fallbacks = Counter(
            "eccos_fallbacks", "Attempts given up before the first byte, by model and reason.",
            ["model", "reason"], registry=self.registry,
        )  # fmt: skip
        self.overhead = Histogram(
            "eccos_routing_overhead_seconds",
            "From the request's arrival to its going out, waiting for a free model included.",
            buckets=_OVERHEAD, registry=self.registry,
        )  # fmt: skip
        self.ttft = Histogram(
            "eccos_ttft_seconds", "From the request's going out to the first byte of the answer.", ["model"],
            buckets=_ANSWER, registry=self.registry,
        )  # fmt: skip
        self.duration = Histogram(
            "eccos_request_duration_seconds", "From the request's arrival to the end of the answer.",
            ["model"], buckets=_ANSWER, registry=self.registry,
        )  # fmt: skip
        self.tokens = Counter(
            "eccos_tokens", "Tokens as the endpoints counted them.", ["model", "direction"],
            registry=self.registry,
        )  # fmt: skip
        self.broken_streams = Counter(
            "eccos_broken_streams", "Answers that ended early, by who left.", ["model", "side"],
            registry=self.registry,
        )  # fmt: skip
        self.feedback_refused = Counter(
            "eccos_feedback_refused", "Feedback that the store did not take.", registry=self.registry
        )
        self.arrivals = RequestRate()
        self.registry.register(_SessionCollector(session, breakers, keys))

    def render(self) -> bytes:
        """Return the text that Prometheus reads."""
        return generate_latest(self.registry)


class RequestRate:
    """Requests over the last seconds."""

    def __init__(self, window: int = 5) -> None:
        self._window = window
        self._seconds: deque[list[int]] = deque(maxlen=window + 1)
        self.total = 0

    def add(self) -> None:
        """Count one."""
        now = int(time.monotonic())
        self.total += 1
        if self._seconds and self._seconds[-1][0] == now:
            self._seconds[-1][1] += 1
        else:
            self._seconds.append([now, 1])

    @property
    def per_second(self) -> float:
        """Mean over the last whole seconds."""
        now = int(time.monotonic())
        seen = sum(count for second, count in self._seconds if now - self._window <= second < now)
        return seen / self._window


class _SessionCollector:
    def __init__(self, session: Session, breakers: Breakers, keys: Keys) -> None:
        self._keys = keys
        self._session = session
        self._breakers = breakers

    def collect(self) -> Iterator[Metric]:
        stats = self._session.stats()
        yield from self._models(stats)
        yield from _totals(stats)
        spend = CounterMetricFamily("eccos_key_spend_dollars", "Spend by client key.", labels=["key"])
        for name, dollars in self._keys.spend().items():
            spend.add_metric([name], dollars)
        yield spend
        left = GaugeMetricFamily("eccos_key_budget_left_dollars", "Of each key's period.", labels=["key"])
        for name, dollars in self._keys.left().items():
            left.add_metric([name], dollars)
        yield left

    def _models(self, stats: SessionStats) -> Iterator[Metric]:
        gauges = (
            ("eccos_inflight_requests", "Requests that run.", lambda m: m.in_flight),
            ("eccos_slots", "Requests that may run at once.", lambda m: m.slots),
            ("eccos_model_up", "1 while the model is in the pool.", lambda m: float(m.up)),
            ("eccos_capacity_price_dollars", "What one more slot is worth.", lambda m: m.slot_price),
            ("eccos_tokens_per_minute_used", "Of the sliding window.", lambda m: m.tokens_used),
            ("eccos_requests_per_minute_used", "Of the sliding window.", lambda m: m.requests_used),
            (
                "eccos_predicted_quality", "Mean over the judged answers, as predicted.",
                lambda m: m.record.predicted_quality,
            ),
            ("eccos_realised_quality", "Mean over the judged answers.", lambda m: m.record.realised_quality),
            (
                "eccos_predicted_output_tokens", "Mean over the settled answers, as predicted.",
                lambda m: m.record.predicted_tokens,
            ),
            (
                "eccos_realised_output_tokens", "Mean over the settled answers.",
                lambda m: m.record.realised_tokens,
            ),
        )  # fmt: skip
        for name, text, value in gauges:
            family = GaugeMetricFamily(name, text, labels=["model"])
            for model in stats.models:
                got = value(model)
                if got is not None and math.isfinite(got):
                    family.add_metric([model.name], float(got))
            yield family
        counters = (
            ("eccos_decisions", "Queries given to the model.", lambda m: m.decisions),
            ("eccos_model_failures", "Leases released as failed.", lambda m: m.failures),
            ("eccos_cost_dollars", "Settled spend.", lambda m: m.spend),
            ("eccos_breaker_trips", "Times taken out of the pool.", lambda m: self._breakers.trips(m.name)),
        )
        for name, text, value in counters:
            counter = CounterMetricFamily(name, text, labels=["model"])
            for model in stats.models:
                counter.add_metric([model.name], float(value(model)))
            yield counter


def _totals(stats: SessionStats) -> Iterator[Metric]:
    gauges = (
        ("eccos_waiting_requests", "Queries without a model yet.", stats.waiting),
        ("eccos_quality_price_dollars", "What one more success is worth.", stats.quality_price),
        ("eccos_promised_quality", "Mean asked of the stream.", stats.promised_quality),
        ("eccos_stream_predicted_quality", "Mean over all decisions.", stats.predicted_quality),
        ("eccos_stream_realised_quality", "Mean over the judged answers.", stats.realised_quality),
        ("eccos_familiar_share", "Recent queries that are like known ground.", stats.ground.familiar),
        ("eccos_alarms", "Alarms of drift that are on.", len(stats.alarms)),
        ("eccos_limits_lost", "1 while shared limits cannot be reached.", _lost(stats)),
        ("eccos_store_failing", "1 while the store takes nothing.", float(stats.store == "failing")),
        ("eccos_budget_dollars", "For the period.", stats.pace.budget if stats.pace else math.nan),
        ("eccos_budget_spent_dollars", "In the period.", stats.pace.spent if stats.pace else math.nan),
    )
    for name, text, value in gauges:
        if math.isfinite(value):
            yield GaugeMetricFamily(name, text, value=float(value))
    counters = (
        ("eccos_deferred", "Queries for which nothing fitted in time.", stats.deferred),
        ("eccos_refused", "Queries refused at once.", stats.refused),
        ("eccos_cancelled", "Queries whose caller left before the decision.", stats.cancelled),
        ("eccos_alarms_raised", "Alarms of drift since the start.", stats.alarms_raised),
        ("eccos_limit_losses", "Times that shared limits could not be reached.", stats.limit_losses),
        ("eccos_store_errors", "Failed commits of the store.", stats.store_errors),
        ("eccos_store_dropped", "Decisions that the store never took.", stats.store_dropped),
    )
    for name, text, value in counters:
        yield CounterMetricFamily(name, text, value=float(value))
    ground = CounterMetricFamily(
        "eccos_queries_by_ground", "Decided queries that are like known ground, or not.", labels=["ground"]
    )
    ground.add_metric(["known"], stats.ground.known)
    ground.add_metric(["unlike"], stats.ground.unlike)
    yield ground


def _lost(stats: SessionStats) -> float:
    return float(stats.limits not in ("local", "shared"))


def page_figures(stats: SessionStats, metrics: Metrics, breakers: Breakers) -> dict[str, Any]:
    """Return what the page at / shows, as plain JSON values; None stands for "not known yet"."""
    pace = stats.pace
    return {
        "state": _state(stats),
        "requests": metrics.arrivals.total,
        "requests_per_second": metrics.arrivals.per_second,
        "in_flight": stats.in_flight,
        "waiting": stats.waiting,
        "quality": {
            "promised": _known(stats.promised_quality),
            "predicted": _known(stats.predicted_quality),
            "realised": _known(stats.realised_quality),
            "feedback": stats.feedback,
        },
        "spend": {
            "spent": pace.spent if pace else stats.spend,
            "budget": pace.budget if pace else None,
            "on_pace": pace.on_pace if pace else None,
        },
        "ground": {
            "familiar": _known(stats.ground.familiar),
            "recent": stats.ground.recent,
            "warning": stats.ground.warning,
        },
        "overhead": {"p50": _known(stats.overhead_p50), "p99": _known(stats.overhead_p99)},
        "models": [_page_row(model, stats.decisions, breakers.trips(model.name)) for model in stats.models],
        **metrics.board.figures(stats),
    }


def _page_row(model: ModelStats, decisions: int, trips: int) -> dict[str, Any]:
    return {
        "name": model.name,
        "out": not model.up,
        "share": model.decisions / decisions if decisions else 0.0,
        "in_flight": model.in_flight,
        "slots": model.slots,
        "capacity_price": model.slot_price,
        "predicted": _known(model.record.predicted_quality),
        "realised": _known(model.record.realised_quality),
        "spent": model.spend,
        "failed": model.failures,
        "trips": trips,
    }


def _state(stats: SessionStats) -> str:
    if _lost(stats):
        return f"serving; the shared limits are lost ({stats.limits})"
    if stats.store == "failing":
        return "serving; the store takes no feedback"
    if stats.alarms:
        return f"serving; {len(stats.alarms)} alarm{'s' if len(stats.alarms) > 1 else ''} of drift"
    return "serving"


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
