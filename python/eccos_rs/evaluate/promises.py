"""Whether what was promised came true: expectation, single batches, and the margin that keeps those."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from eccos_rs.evaluate.curves import Estimate, Resamples, summarise

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from eccos_rs.evaluate.harness import HeldOutSet
    from eccos_rs.evaluate.methods.base import Predictions
    from eccos_rs.evaluate.settings import Setting
    from eccos_rs.routing.promise import Margin
    from eccos_rs.solver.assignment import Assignment

__all__ = ["PROMISES", "Chosen", "Guarantee", "Promise", "chosen_pairs", "keep_promises", "keep_with_margin"]

#: Mean qualities that are promised.
PROMISES = (0.66, 0.68, 0.70, 0.72, 0.74)
#: Batches that a promise is made for. The data are shuffled anew as often as that takes; batches of different
#: shuffles share queries, so more adds little.
BATCHES = 60


@dataclass(frozen=True)
class Promise:
    """One promise in one setting.

    Attributes
    ----------
    predictor : str
        Whose forecasts were used.
    setting : str
        Name of the setting.
    promised : float
        Mean quality that each batch was to have in expectation.
    predicted, realised : float
        Mean over all batches, of the pairs that were chosen.
    difference : Estimate
        Realised minus predicted, over the batches that could be promised.
    unreachable : float
        Share of the batches whose limits allow no such mean, by the forecasts; they are in no other figure.
    broken : float
        Share of the batches whose realised mean lay below the promise. Half, when forecasts are right.
    shortfall, worst : float
        Mean and largest distance below the promise, over the broken batches.
    over_capacity : float
        Share of the batches in which some model got more than it may take.
    cost : float
        Mean US dollars per query.
    batches : int
        Number of batches promised.
    """

    predictor: str
    setting: str
    promised: float
    predicted: float
    realised: float
    difference: Estimate
    unreachable: float
    broken: float
    shortfall: float
    worst: float
    over_capacity: float
    cost: float
    batches: int


@dataclass(frozen=True)
class Guarantee:
    """A promise made for each single batch, with a confidence.

    Attributes
    ----------
    predictor, setting : str
        As in `Promise`.
    promised, confidence : float
        The mean quality, and how often it was to be kept.
    kept, kept_without : float
        Share of the batches that kept it, with the margin and without one.
    refused : float
        Share of the batches for which it was not promised at all; `kept` is of the others.
    points : float
        Mean margin, in quality.
    cost_ratio : float
        Realised cost with the margin over that without.
    batches : int
        Number of batches.
    """

    predictor: str
    setting: str
    promised: float
    confidence: float
    kept: float
    kept_without: float
    refused: float
    points: float
    cost_ratio: float
    batches: int


@dataclass(frozen=True, eq=False)
class Chosen:
    """Forecast and outcome of the pairs chosen under all `PROMISES`, pooled."""

    forecast: npt.NDArray[np.float64]
    outcome: npt.NDArray[np.float64]


def _solve(
    predictions: Predictions, rows: npt.NDArray[np.int64], capacity: npt.NDArray[np.float64], promised: float,
    confidence: float | None = None,
) -> tuple[Assignment, Margin | None]:  # fmt: skip
    """Solve one batch as the router would: the same code, fed with arrays."""
    from eccos_rs.routing.policy import Policy
    from eccos_rs.routing.problem import Problem
    from eccos_rs.routing.promise import solve

    cost, quality = predictions.cost[rows], predictions.quality[rows]
    problem = Problem(
        cost=cost, quality=quality, output_tokens=np.ones_like(cost),
        input_tokens=np.zeros(len(cost), dtype=np.int64), allowed=np.ones(cost.shape,
        dtype=np.bool_),
        load=None, capacity=capacity if np.isfinite(capacity).any() else None, priority=None, group=None,
        groups=(),
        unroutable={},
    )  # fmt: skip
    assignment, _, margin = solve(problem, Policy(min_quality=promised, confidence=confidence))
    return assignment, margin


def _batches(
    test_set: HeldOutSet, setting: Setting, count: int
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]]:
    """Yield rows and capacities of at least `count` batches, in whole shuffles."""
    served = repeat = 0
    while served < count:
        for rows in test_set.deal(setting, repeat):
            served += 1
            yield rows, setting.capacity(len(rows), test_set.strength)
        if setting.size is None:
            return
        repeat += 1


def keep_promises(
    predictions: Predictions, setting: Setting, test_set: HeldOutSet, resamples: Resamples, *,
    promises: Sequence[float] = PROMISES, batches: int = BATCHES,
) -> list[Promise]:  # fmt: skip
    """Promise a mean quality in expectation and look at what came of it.

    Parameters
    ----------
    predictions : Predictions
        Forecasts.
    setting : Setting
        Limits and batches.
    test_set : HeldOutSet
        The judged queries.
    resamples : Resamples
        For the intervals.
    promises : sequence of float
        Mean qualities.
    batches : int
        How many at least; the queries are dealt anew as often as that takes.
    """
    return [
        _keep(predictions, setting, test_set, resamples, promised=promised, batches=batches)
        for promised in promises
    ]


def _keep(
    predictions: Predictions,
    setting: Setting,
    test_set: HeldOutSet,
    resamples: Resamples,
    *,
    promised: float,
    batches: int,
) -> Promise:
    from eccos_rs.solver.assignment import Status

    n = len(test_set.table)
    count, predicted, realised, cost = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n)
    short: list[float] = []
    asked = over = 0
    for rows, capacity in _batches(test_set, setting, batches):
        assignment, _ = _solve(predictions, rows, capacity, promised)
        asked += 1
        over += bool((np.bincount(assignment.model, minlength=len(capacity)) > capacity).any())
        if assignment.status is Status.QUALITY_UNREACHABLE:
            continue
        outcome = test_set.table.quality[rows, assignment.model]
        count[rows] += 1
        predicted[rows] += predictions.quality[rows, assignment.model]
        realised[rows] += outcome
        cost[rows] += test_set.table.cost[rows, assignment.model]
        short.append(promised - float(outcome.mean(dtype=np.float64)))
    missed = np.asarray([each for each in short if each > 1e-9])
    served = float(count.sum())
    nothing = Estimate(float("nan"), float("nan"), float("nan"))
    return Promise(
        predictions.name, setting.name, promised,
        predicted=float(predicted.sum() / served) if served else float("nan"),
        realised=float(realised.sum() / served) if served else float("nan"),
        difference=summarise(resamples.mean((realised - predicted)[None], count)[:, 0]) if served else
        nothing,
        unreachable=1 - len(short) / asked,
        broken=len(missed) / len(short) if short else float("nan"),
        shortfall=float(missed.mean()) if missed.size else 0.0,
        worst=float(missed.max()) if missed.size else 0.0,
        over_capacity=over / asked,
        cost=float(cost.sum() / served) if served else float("nan"),
        batches=len(short),
    )  # fmt: skip


def keep_with_margin(
    predictions: Predictions, setting: Setting, test_set: HeldOutSet, *, promised: float = 0.70,
    confidence: float = 0.95, batches: int = 200,
) -> Guarantee:  # fmt: skip
    """Promise a mean quality for each batch, with the router's own margin, and count those that kept it."""
    kept, plain, points, spent, usual = [], [], [], 0.0, 0.0
    made = 0
    for rows, capacity in _batches(test_set, setting, batches):
        made += 1
        assignment, margin = _solve(predictions, rows, capacity, promised, confidence)
        if margin is None or not margin.kept:
            continue
        without, _ = _solve(predictions, rows, capacity, promised)
        kept.append(test_set.table.quality[rows, assignment.model].mean(dtype=np.float64) >= promised - 1e-9)
        plain.append(test_set.table.quality[rows, without.model].mean(dtype=np.float64) >= promised - 1e-9)
        points.append(margin.points)
        spent += float(test_set.table.cost[rows, assignment.model].sum())
        usual += float(test_set.table.cost[rows, without.model].sum())
    nan = float("nan")
    return Guarantee(
        predictions.name, setting.name, promised, confidence,
        kept=float(np.mean(kept)) if kept else nan,
        kept_without=float(np.mean(plain)) if plain else nan,
        refused=1 - len(kept) / made,
        points=float(np.mean(points)) if points else nan,
        cost_ratio=spent / usual if usual else nan,
        batches=made,
    )  # fmt: skip


def chosen_pairs(
    predictions: Predictions, setting: Setting, test_set: HeldOutSet, batches: int = 24
) -> Chosen:
    """Collect the pairs that are chosen under all promises: where optimism would show first."""
    forecast, outcome = [], []
    for promised in PROMISES:
        for rows, capacity in _batches(test_set, setting, batches):
            assignment, _ = _solve(predictions, rows, capacity, promised)
            forecast.append(predictions.quality[rows, assignment.model].astype(np.float64))
            outcome.append(test_set.table.quality[rows, assignment.model].astype(np.float64))
    return Chosen(np.concatenate(forecast), np.concatenate(outcome))
