"""What an operator asks first, kept while the gateway runs: savings, times, errors, history, decisions."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

import eccos_rs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from eccos_rs.pools.pool import LLM
    from eccos_rs.session import Lease
    from eccos_rs.session.stats import ModelStats, SessionStats

__all__ = ["SAMPLE_SECONDS", "StatusBoard"]

_SAMPLES = 360
SAMPLE_SECONDS = 10.0
"""Seconds between two points of the history: an hour is kept."""

_DECISIONS = 40
_TIMES = 512


@dataclass
class _ModelTimes:
    first: deque[float] = field(default_factory=lambda: deque(maxlen=_TIMES))
    whole: deque[float] = field(default_factory=lambda: deque(maxlen=_TIMES))
    errors: Counter[str] = field(default_factory=Counter)


class StatusBoard:
    """The figures behind the page at /, beside those of the session.

    Parameters
    ----------
    pool : sequence of LLM
    policy : str
        In words.
    baseline : str, optional
        A model: what everything would have cost there is shown beside what it did cost.
    clock : callable
        Seconds since 1970.
    """

    def __init__(
        self,
        pool: Sequence[LLM],
        policy: str,
        baseline: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._pool = pool
        self._policy = policy
        self._baseline = baseline
        self._clock = clock
        self._started = clock()
        self._times = {llm.name: _ModelTimes() for llm in pool}
        self._forecasts = np.zeros(len(pool))
        self._elsewhere = np.zeros(len(pool))
        self._spent = 0.0
        self._counted = 0
        self._history: deque[dict[str, float | None]] = deque(maxlen=_SAMPLES)
        self._decisions: deque[dict[str, Any]] = deque(maxlen=_DECISIONS)

    def follow(self, earlier: StatusBoard) -> None:
        """Go on with the history, the decisions and the age of the board of another pool."""
        self._history, self._decisions = earlier._history, earlier._decisions
        self._started = earlier._started

    def decided(self, lease: Lease, how: str) -> None:
        """Remember a decision with its reason; texts are not kept."""
        self._decisions.appendleft(
            {
                "at": self._clock(),
                "model": lease.model,
                "conversation": how,
                "predicted": lease.predicted_quality,
                "cost": lease.cost,
                "reason": lease.reason,
            }
        )

    def answered(self, lease: Lease, cost: float | None, first: float, whole: float) -> None:
        """Count an answer: its times, and what it would have cost at each model.

        That is forecast, and scaled by how far the forecast of the model that answered was off.
        """
        assert lease.model is not None  # only a lease that holds a model can have an answer
        times = self._times[lease.model]
        times.first.append(first)
        times.whole.append(whole)
        real = lease.cost if cost is None else cost
        scale = real / lease.cost if lease.cost > 0 else 1.0
        self._elsewhere += np.array(lease.costs) * scale
        self._forecasts += np.array(lease.forecasts)
        self._spent += real
        self._counted += 1

    def failed(self, model: str, reason: str) -> None:
        """Count a failure by its reason."""
        self._times[model].errors[reason] += 1

    def sample(self, stats: SessionStats, per_second: float) -> None:
        """Add a point to the history."""
        pace = stats.pace
        self._history.append(
            {
                "at": self._clock(),
                "per_second": per_second,
                "spent": pace.spent if pace else stats.spend,
                "on_pace": pace.on_pace if pace else None,
                "predicted": _known(stats.predicted_quality),
                "realised": _known(stats.realised_quality),
            }
        )

    def figures(self, stats: SessionStats) -> dict[str, Any]:
        """Return plain JSON values; None stands for "not known yet"."""
        return {
            "version": eccos_rs.__version__,
            "uptime": self._clock() - self._started,
            "policy": self._policy,
            "savings": self.savings(),
            "alarms": [{"name": alarm.constraint, "message": alarm.message} for alarm in stats.alarms],
            "quality_interval": _interval(stats.realised_quality, stats.feedback),
            "history": list(self._history),
            "decisions": list(self._decisions),
            "model_details": {model.name: self._details(model) for model in stats.models},
        }

    def savings(self) -> list[dict[str, Any]]:
        """Return what everything would have cost at the strongest model, and at the baseline."""
        if not self._counted:
            return []
        strongest = self._pool[int(self._forecasts.argmax())].name
        names = dict.fromkeys([strongest, *([self._baseline] if self._baseline else [])])
        rows = []
        for name in names:
            at = next(i for i, llm in enumerate(self._pool) if llm.name == name)
            there = float(self._elsewhere[at])
            rows.append(
                {
                    "everything_to": name,
                    "cost": there,
                    "spent": self._spent,
                    "saved": 1 - self._spent / there if there > 0 else None,
                    "quality": float(self._forecasts[at]) / self._counted,
                }
            )
        return rows

    def _details(self, model: ModelStats) -> dict[str, Any]:
        times = self._times[model.name]
        errors = times.errors
        known = {"status_429", "status_5xx", "timeout"}
        return {
            "ttft_p50": _quantile(times.first, 0.5),
            "ttft_p95": _quantile(times.first, 0.95),
            "duration_p50": _quantile(times.whole, 0.5),
            "duration_p95": _quantile(times.whole, 0.95),
            "errors_429": errors["status_429"],
            "errors_5xx": errors["status_5xx"],
            "timeouts": errors["timeout"],
            "errors_other": sum(count for reason, count in errors.items() if reason not in known),
            "interval": _interval(model.record.realised_quality, model.record.feedback),
            "requests_used": model.requests_used,
            "requests_per_minute": model.requests_per_minute,
            "tokens_used": model.tokens_used,
            "tokens_per_minute": model.tokens_per_minute,
        }


def _quantile(seconds: deque[float], share: float) -> float | None:
    return float(np.quantile(np.fromiter(seconds, float), share)) if seconds else None


def _interval(mean: float, count: int) -> list[float] | None:
    """Return Wilson's 95 % interval of a share."""
    if not count or not math.isfinite(mean):
        return None
    z = 1.96
    middle = (mean + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(mean * (1 - mean) / count + z * z / (4 * count * count))
    return [max(middle - half, 0.0), min(middle + half, 1.0)]


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
