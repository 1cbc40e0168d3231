"""Realised quality against realised cost: the curve of a swept router, and what is read off it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from eccos_rs.errors import InputError

__all__ = ["Curve", "Estimate", "Resamples", "cost_at", "hull", "quality_at", "summarise"]

Floats = npt.NDArray[np.float64]


class Estimate(NamedTuple):
    """A figure with the bounds of its 95 % bootstrap interval; NaN where it is not defined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Resamples:
    """B paired bootstrap draws of N queries: every router is judged on the same draws.

    Attributes
    ----------
    weights : ndarray of float32, shape (B, N)
        How often each query was drawn. The first row is all ones: the data as they are.
    """

    weights: npt.NDArray[np.float32]

    @classmethod
    def draw(cls, queries: int, count: int, seed: int) -> Resamples:
        """Draw `count` times `queries` queries with replacement.

        Raises
        ------
        InputError
            If there is no query, or `count` is negative.
        """
        if queries < 1 or count < 0:
            raise InputError(f"resamples: got {queries} queries, {count} draws; wanted 1 or more, 0 or more")
        rng = np.random.default_rng(seed)
        weights = np.ones((count + 1, queries), dtype=np.float32)
        for row in weights[1:]:
            row[:] = np.bincount(rng.integers(queries, size=queries), minlength=queries)
        return cls(weights)

    def mean(self, total: npt.NDArray[np.floating], count: npt.NDArray[np.floating]) -> Floats:
        """Mean per served query in each draw.

        Parameters
        ----------
        total : ndarray, shape (D, N)
            Sums over the times each query was served.
        count : ndarray, shape (N,)
            How often each was.

        Returns
        -------
        ndarray of float64, shape (B, D)
        """
        served = self.weights.astype(np.float64) @ count
        # A draw without any served query has no mean; with more than a handful of queries it does not happen.
        served[served == 0] = np.nan
        sums: Floats = self.weights.astype(np.float64) @ total.T.astype(np.float64)
        return sums / served[:, None]


@dataclass(frozen=True, eq=False)
class Curve:
    """What a router did at D operating points, per query.

    Attributes
    ----------
    name : str
        The router.
    quality, cost : ndarray of float64, shape (D, N)
        Realised quality and US dollars, summed over the times that each query was served.
    count : ndarray of float64, shape (N,)
        How often each query was served at each position.
    share : ndarray of float64, shape (D, M)
        Share of the queries that each model got.
    """

    name: str
    quality: Floats
    cost: Floats
    count: Floats
    share: Floats

    @property
    def swept(self) -> bool:
        """Whether it has more than one position."""
        return len(self.quality) > 1

    def means(self, resamples: Resamples) -> tuple[Floats, Floats]:
        """Mean quality and mean cost, each (B, D)."""
        return resamples.mean(self.quality, self.count), resamples.mean(self.cost, self.count)


def _ordered(quality: Floats, cost: Floats) -> tuple[Floats, Floats]:
    """Sort by cost and let quality never fall: who may spend more may also spend less."""
    order = np.lexsort((quality, cost))
    return np.maximum.accumulate(quality[order]), cost[order]


def quality_at(quality: Floats, cost: Floats, budget: npt.ArrayLike) -> Floats:
    """Quality reached for a mean cost.

    Between two operating points it is linear: part of the queries at one, the rest at the other.

    Parameters
    ----------
    quality, cost : ndarray, shape (D,)
        The curve's points, in any order.
    budget : array_like
        Mean US dollars per query.

    Returns
    -------
    ndarray
        NaN below the least cost of the curve; above its highest, the best it does.

    Examples
    --------
    >>> quality_at(np.array([0.5, 0.9]), np.array([1.0, 3.0]), [0.5, 2.0, 9.0])
    array([nan, 0.7, 0.9])
    """
    best, spent = _ordered(quality, cost)
    wanted = np.asarray(budget, dtype=np.float64)
    # A budget that equals the least cost up to rounding is reached.
    wanted = np.where(np.isclose(wanted, spent[0], rtol=1e-9, atol=0.0), spent[0], wanted)
    return np.asarray(np.interp(wanted, spent, best, left=np.nan))


def cost_at(quality: Floats, cost: Floats, wanted: npt.ArrayLike) -> Floats:
    """Least mean cost that reaches a quality; infinity where the curve never does.

    Examples
    --------
    >>> cost_at(np.array([0.5, 0.9]), np.array([1.0, 3.0]), [0.4, 0.7, 0.95])
    array([ 1.,  2., inf])
    """
    best, spent = _ordered(quality, cost)
    # The first of several points of one quality is the cheapest; np.interp needs rising abscissae.
    first = np.concatenate([[True], np.diff(best) > 0])
    return np.asarray(np.interp(np.asarray(wanted), best[first], spent[first], left=spent[0], right=np.inf))


def hull(quality: Floats, cost: Floats) -> tuple[Floats, Floats]:
    """Return the non-decreasing upper convex hull: what mixing any two positions at random can reach.

    Examples
    --------
    >>> hull(np.array([0.5, 0.55, 0.9, 0.8]), np.array([1.0, 2.0, 3.0, 4.0]))
    (array([0.5, 0.9]), array([1., 3.]))
    """
    best, spent = _ordered(quality, cost)
    points: list[tuple[float, float]] = []
    for x, y in zip(spent.tolist(), best.tolist(), strict=True):
        if points and y <= points[-1][1]:
            continue
        if points and x == points[-1][0]:
            points.pop()
        while len(points) > 1 and _under(points[-2], points[-1], (x, y)):
            points.pop()
        points.append((x, y))
    return np.array([y for _, y in points]), np.array([x for x, _ in points])


def _under(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    """Whether b lies on or under the line from a to c."""
    return (b[1] - a[1]) * (c[0] - a[0]) <= (c[1] - a[1]) * (b[0] - a[0])


def summarise(draws: npt.NDArray[np.floating]) -> Estimate:
    """Turn B draws, the first of them the data as they are, into a figure with its 95 % interval.

    Draws in which the figure is not defined (NaN) are left out; more than a tenth of those, and there is no
    interval. Infinity is a value like any other: what is never reached in many draws has no finite bound.
    """
    draws = np.asarray(draws, dtype=np.float64)
    value, rest = float(draws[0]), draws[1:]
    rest = rest[~np.isnan(rest)]
    if np.isnan(value) or len(rest) < 0.9 * (len(draws) - 1) or not len(rest):
        return Estimate(value, float("nan"), float("nan"))
    low, high = np.quantile(rest, [0.025, 0.975], method="inverted_cdf")
    return Estimate(value, float(low), float(high))
