"""The routers that a router is compared with, each the best version of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from eccos_rs.errors import InputError
from eccos_rs.evaluate.methods.base import Predictions

if TYPE_CHECKING:
    from eccos_rs.evaluate.methods.base import Batch
    from eccos_rs.records import RecordTable

__all__ = [
    "PerQuery",
    "PricedPerQuery",
    "Random",
    "RoundRobin",
    "Single",
    "StrongWeak",
    "Threshold",
    "mean_predictions",
    "price_at",
]

Scores = npt.NDArray[np.float64]

# Decades of dollars per unit of quality, around the dearest model's mean cost: from where nobody pays for
# quality to where nobody minds the cost.
DECADES = (-4.5, 2.0)


def price_at(operating_point: float, predictions: Predictions) -> float:
    """Turn an operating point in [0, 1] into the price of one more good answer, in even logarithmic steps."""
    low, high = DECADES
    # Free pools have no cost to trade, any price does.
    return float((predictions.dearest or 1.0) * 10.0 ** (low + (high - low) * operating_point))


def mean_predictions(quality: npt.NDArray[np.floating], cost: npt.NDArray[np.floating]) -> Predictions:
    """Return the predictions of one who knows the models' means and nothing of the queries.

    Swept over its price and mixed between two positions, it is the best random mix of two single models
    (under
    capacities, of several): the blind mix. The means are those of the judged queries themselves, in
    hindsight, so
    the bar is set slightly too high rather than too low.
    """
    shape = quality.shape
    return Predictions(
        "blind mix",
        np.broadcast_to(np.mean(quality, axis=0), shape).astype(np.float32),
        np.broadcast_to(np.mean(cost, axis=0), shape).astype(np.float64),
    )


class Single:
    """Everything to one model."""

    operating_points = (0.0,)

    def __init__(self, name: str, column: int) -> None:
        self.name = name
        self.column = column

    def fit(self, table: RecordTable) -> None:
        """Learn nothing."""

    def choose(self, batch: Batch, operating_point: float) -> npt.NDArray[np.int64]:
        """Choose the one model."""
        return np.full(len(batch), self.column, dtype=np.int64)


class Random:
    """A model at random for each query, among those with room."""

    name = "random"
    operating_points = (0.0,)

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)

    def fit(self, table: RecordTable) -> None:
        """Learn nothing."""

    def choose(self, batch: Batch, operating_point: float) -> Scores:
        """Score by lot."""
        return self.rng.random((len(batch), len(batch.models)))


class RoundRobin:
    """The models in turn, skipping the full ones."""

    name = "round robin"
    operating_points = (0.0,)

    def fit(self, table: RecordTable) -> None:
        """Learn nothing."""

    def choose(self, batch: Batch, operating_point: float) -> Scores:
        """Score a model by how soon its turn comes."""
        n, m = len(batch), len(batch.models)
        return -((np.arange(m) - np.arange(n)[:, None]) % m).astype(np.float64)


class Threshold:
    """The cheapest model whose predicted quality reaches the operating point, else the best.

    With unweighted means over 16 neighbours it is the rule of AIOS's SmartRouting, which asks the same of the
    models that still have room.
    """

    def __init__(self, predictions: Predictions, name: str | None = None) -> None:
        self.predictions = predictions
        self.name = name or f"threshold, {predictions.name}"
        # A level between two scores acts like the upper one, so the scores' own quantiles are all there is
        # to try.
        levels = np.quantile(predictions.quality, np.linspace(0, 1, 61))
        self.operating_points: tuple[float, ...] = tuple(np.unique(np.append(levels, [0.0, 1.0])).tolist())

    def fit(self, table: RecordTable) -> None:
        """Learn nothing: the predictor is trained already."""

    def choose(self, batch: Batch, operating_point: float) -> Scores:
        """Score the good enough by cheapness above all others, and those by quality."""
        quality = self.predictions.quality[batch.rows].astype(np.float64)
        cost = self.predictions.cost[batch.rows]
        span = float(cost.max()) or 1.0
        # Equal scores are frequent (17 levels), so the cheaper goes first there too; cost / span is at most
        # 1.
        return np.where(quality >= operating_point, 2.0 - cost / span, quality - 1.0 - 1e-9 * cost / span)


class StrongWeak:
    """RouteLLM's kind: two models, the strong one where its predicted lead over the weak one is large.

    The strong model is the best on average; the weak one is whichever makes the pair's blind mix best, taken
    over
    budgets of 5, 10, 20 and 30 % of the strong model's cost. The operating point is the
    share of strong calls.
    """

    def __init__(self, predictions: Predictions, name: str | None = None) -> None:
        self.predictions = predictions
        self.name = name or f"strong/weak threshold, {predictions.name}"
        self.strong = self.weak = 0

    def fit(self, table: RecordTable) -> None:
        """Choose the two models by their means on labelled queries."""
        quality, cost = np.nanmean(table.quality, axis=0), np.nanmean(table.cost, axis=0)
        if len(table.models) < 2:
            raise InputError("strong/weak threshold: got one model, wanted at least two")
        self.strong = int(np.lexsort((cost, -quality))[0])
        others = [j for j in range(len(quality)) if j != self.strong]

        def reached(weak: int) -> float:
            extra = max(cost[self.strong] - cost[weak], 1e-300)
            parts = (np.array([0.05, 0.1, 0.2, 0.3]) * cost[self.strong] - cost[weak]) / extra
            mixed = quality[weak] + np.minimum(parts, 1.0) * (quality[self.strong] - quality[weak])
            # A weak model dearer than the whole budget reaches nothing with it.
            return float(np.where(parts >= 0, mixed, 0.0).mean())

        self.weak = max(others, key=reached)

    def choose(self, batch: Batch, operating_point: float) -> Scores:
        """Score strong first above the quantile of the lead that leaves the wanted share, else weak first."""
        lead = self.predictions.quality[:, self.strong] - self.predictions.quality[:, self.weak]
        limit = np.quantile(lead, 1.0 - operating_point) if operating_point > 0 else np.inf
        calls_strong = lead[batch.rows] >= limit
        # When both are full: whatever the predictions thinks best of the rest.
        scores = self.predictions.quality[batch.rows].astype(np.float64) - 2.0
        scores[:, self.strong] = np.where(calls_strong, 1.0, 0.0)
        scores[:, self.weak] = np.where(calls_strong, 0.0, 1.0)
        return scores


class PerQuery:
    """For each query by itself, the model with the highest quality x price - cost.

    When that is full, its next best: the fair overflow. Without limits no batch assignment can beat it.
    """

    def __init__(self, predictions: Predictions, name: str | None = None) -> None:
        self.predictions = predictions
        self.name = name or f"per query, {predictions.name}"

    def fit(self, table: RecordTable) -> None:
        """Learn nothing: the predictor is trained already."""

    def choose(self, batch: Batch, operating_point: float) -> Scores:
        """Score every model of every query."""
        price = price_at(operating_point, self.predictions)
        return (
            price * self.predictions.quality[batch.rows].astype(np.float64)
            - self.predictions.cost[batch.rows]
        )


class PricedPerQuery(PerQuery):
    """The per-query rule that also pays for room: capacity prices from the batch before.

    Each query still chooses by itself and overflows like `PerQuery`; only what it must pay for a crowded
    model
    was learned from the batch that came before, from predictions, never from outcomes. It is what a stream
    can do.
    """

    def __init__(self, predictions: Predictions, name: str | None = None) -> None:
        super().__init__(predictions, name or f"per query with capacity prices, {predictions.name}")
        self.paid: dict[tuple[float, bytes], npt.NDArray[np.float64]] = {}

    def choose(self, batch: Batch, operating_point: float) -> Scores:
        """Score with the prices of the last batch, then learn those of this one."""
        from eccos_rs.solver.assignment import assign

        scores = super().choose(batch, operating_point)
        if not np.isfinite(batch.capacity).any():
            return scores
        key = (operating_point, batch.capacity.tobytes())
        rents = self.paid.get(key)
        solved = assign(
            self.predictions.cost[batch.rows], self.predictions.quality[batch.rows],
            quality_value=price_at(operating_point, self.predictions), capacity=batch.capacity,
        )  # fmt: skip
        self.paid[key] = np.asarray(solved.capacity_price, dtype=np.float64).reshape(-1)
        return scores if rents is None else scores - rents
