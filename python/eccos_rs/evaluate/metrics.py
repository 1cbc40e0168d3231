"""The field's measures of a router, each with its definition."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from eccos_rs.domain.metrics import Reliability, auc, brier, ece, reliability
from eccos_rs.errors import InputError
from eccos_rs.evaluate.curves import cost_at, hull, quality_at

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "Reliability",
    "aiq",
    "apgr",
    "auc",
    "brier",
    "cpt",
    "ece",
    "ece_floor",
    "pareto_distance",
    "reliability",
]

Floats = npt.NDArray[np.float64]


def aiq(quality: Floats, cost: Floats, low: float, high: float) -> float:
    """Average improvement in quality (RouterBench): the mean height of the hull between two costs.

    The area under the non-decreasing convex hull of the points, divided by the cost range. Beyond its last
    point the hull is continued level; NaN when the hull begins above `low`.

    Parameters
    ----------
    quality, cost : ndarray, shape (D,)
        Points of the curve.
    low, high : float
        US dollars per query, the same range for all routers compared.

    Examples
    --------
    >>> round(aiq(np.array([0.4, 0.8]), np.array([1.0, 3.0]), 1.0, 3.0), 6)
    0.6
    """
    if np.isnan(low) or np.isnan(high):
        return float("nan")
    if not high > low:
        raise InputError(f"high: got {high}, wanted more than low ({low})")
    best, spent = hull(quality, cost)
    if spent[0] > low * (1 + 1e-9):
        return float("nan")
    inner = spent[(spent > low) & (spent < high)]
    grid = np.concatenate([[low], inner, [high]])
    height = quality_at(best, spent, grid)
    return float(np.sum(np.diff(grid) * (height[1:] + height[:-1]) / 2) / (high - low))


def apgr(quality: Floats, cost: Floats, weak: tuple[float, float], strong: tuple[float, float]) -> float:
    """Average performance gap recovered (RouteLLM), over 100 equal steps of cost, weak to strong model.

    The gap recovered is (quality - weak) / (strong - weak). RouteLLM averages over shares of strong calls;
    with
    two models that is the same axis, with more only cost is.

    Parameters
    ----------
    quality, cost : ndarray, shape (D,)
        Points of the curve.
    weak, strong : (quality, cost)
        Of the two single models.

    Returns
    -------
    float
        0 is the weak model, 1 the strong one; above 1 is possible. NaN without a gap, or when the curve
        begins
        above the weak model's cost by more than one step.
    """
    gap, extra = strong[0] - weak[0], strong[1] - weak[1]
    if gap <= 0 or extra <= 0:
        return float("nan")
    budgets = weak[1] + extra * np.arange(1, 101) / 100
    reached = quality_at(quality, cost, budgets)
    return float(np.mean((reached - weak[0]) / gap))


def cpt(
    quality: Floats,
    strong_share: Floats,
    weak: float,
    strong: float,
    levels: Sequence[float] = (0.5, 0.8, 0.95),
) -> list[float]:
    """Call-performance threshold (RouteLLM): the share of strong-model calls that recovers x % of the gap.

    Parameters
    ----------
    quality, strong_share : ndarray, shape (D,)
        Mean quality and share of strong calls at each operating point.
    weak, strong : float
        Quality of the two single models.
    levels : sequence of float
        Parts of the gap.

    Returns
    -------
    list of float
        In [0, 1]; infinity where the level is never reached.

    Examples
    --------
    >>> shares = cpt(np.array([0.5, 0.8, 1.0]), np.array([0.0, 0.2, 1.0]), 0.5, 1.0, [0.6, 0.8])
    >>> [round(share, 6) for share in shares]
    [0.2, 0.6]
    """
    if strong <= weak:
        return [float("nan")] * len(levels)
    wanted = [weak + level * (strong - weak) for level in levels]
    return [float(x) for x in cost_at(quality, strong_share, wanted)]


def pareto_distance(quality: Floats, cost: Floats, frontier: Floats, budgets: Floats) -> float:
    """Mean distance below the frontier of all routers, in quality, over equal steps of cost.

    Parameters
    ----------
    quality, cost : ndarray, shape (D,)
        Points of the curve.
    frontier, budgets : ndarray, shape (K,)
        The best quality that any router reaches for each budget (US dollars per query).

    Returns
    -------
    float
        0 lies on the frontier everywhere; NaN for a router that reaches none of the budgets.
    """
    gap = frontier - quality_at(quality, cost, budgets)
    return float(np.nanmean(gap)) if np.isfinite(gap).any() else float("nan")


def ece_floor(forecast: npt.ArrayLike, bins: int = 15, draws: int = 50, seed: int = 0) -> float:
    """Return the calibration error that perfect forecasts would show, from the coin flips alone.

    Outcomes are drawn with just the probabilities that were forecast. With few queries this is not small:
    1,600
    coins in 15 bins give about 0.035.
    """
    p = np.asarray(forecast, dtype=np.float64).ravel()
    rng = np.random.default_rng(seed)
    return float(np.mean([ece(p, rng.random(p.size) < p, bins) for _ in range(draws)]))
