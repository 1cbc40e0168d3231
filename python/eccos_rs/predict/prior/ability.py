"""A model as a handful of numbers: published means and token counts, laid over the curves of the text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eccos_rs.predict.prior.curves import GRID, benchmark_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from eccos_rs.predict.prior.curves import Curves, Reading

    Array = NDArray[np.float64]

__all__ = ["Ability", "Known", "curve_weights", "lay_over", "matching_shift"]

SLOPE = 0.95
"""The median of the slopes of other models (0.88 to 1.03); from 0.7 up at most 0.001 Brier is lost."""
CATEGORY_SHARE = 0.8
"""Share of a category's published deviation that is believed."""
_LEAST_ROWS = 4
_EDGE = 0.02
_WIDTH, _PULL = 1.5, 0.05
_FAR, _STEPS, _CLOSE = 15.0, 60, 1e-9


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of one model before any label, by category of the curves.

    Attributes
    ----------
    level : ndarray, shape (K,)
        Mean success on the benchmark that each category belongs to, (0, 1).
    success : ndarray, shape (K,)
        Mean success in the category itself; NaN where it is not published.
    tokens : ndarray, shape (K,)
        Mean output tokens on that benchmark; NaN where unknown.
    mean_tokens : float or None
        Mean output tokens of one answer, over whatever; for benchmarks without a count of their own.
    """

    level: Array
    success: Array
    tokens: Array
    mean_tokens: float | None = None


@dataclass(frozen=True, eq=False)
class Ability:
    """A model laid over curves: log odds and tokens are linear in what the text says, by category.

    Attributes
    ----------
    weights : ndarray, shape (K, G)
        On the curves.
    offset : ndarray, shape (K,)
        Added to the log odds.
    tokens : ndarray, shape (K,)
        Tokens of an answer whose length is the usual one, 1.
    mean : float
        Mean log odds over the reference.
    """

    weights: Array
    offset: Array
    tokens: Array
    mean: float

    def log_odds(self, reading: Reading) -> Array:
        """Return the log odds of success, (N,)."""
        by_curve = np.einsum("nk,kg,ng->n", reading.membership, self.weights, reading.curves, optimize=True)
        return np.asarray(by_curve + reading.membership @ self.offset)

    def output_tokens(self, reading: Reading) -> Array:
        """Return the expected output tokens, (N,)."""
        return np.asarray((reading.membership @ self.tokens) * np.exp(reading.length))


def lay_over(curves: Curves, known: Known, usual_tokens: float = 1.3) -> Ability:
    """Make a model's forecasts meet its published means on the reference.

    Parameters
    ----------
    curves : Curves
    known : Known
    usual_tokens : float
        Tokens of a model that nothing is known of, as a multiple of exp(length).

    Returns
    -------
    Ability
    """
    reading, category = curves.reference.reading, curves.reference.category
    stands_for = curves.reference.weight
    benchmark = benchmark_indices(curves.categories)
    weights = np.zeros((len(curves.categories), len(GRID)))
    offset = np.zeros(len(curves.categories))
    for number in range(benchmark.max() + 1):
        mine = benchmark == number
        rows = mine[category]
        level = float(np.clip(known.level[mine][0], 0.005, 0.995))
        weights[mine] = SLOPE * curve_weights(np.log(level / (1.0 - level)))
        if not rows.any():
            offset[mine] = (1.0 - SLOPE) * np.log(level / (1.0 - level))
            continue
        z = reading.curves[rows] @ weights[mine][0]
        offset[mine] = matching_shift(z, level, stands_for[rows])
        z += offset[mine][0]
        for at in np.flatnonzero(mine & np.isfinite(known.success)):
            own = category[rows] == at
            if own.sum() >= _LEAST_ROWS:
                goal = float(np.clip(known.success[at], _EDGE, 1.0 - _EDGE))
                offset[at] += CATEGORY_SHARE * matching_shift(z[own], goal)
    made = Ability(weights, offset, _tokens(curves, known, benchmark, usual_tokens), 0.0)
    # Memberships are shares, so what was set by true categories is off a little: once more, by benchmark.
    z = made.log_odds(reading)
    for number in range(benchmark.max() + 1):
        mine = benchmark == number
        rows = mine[category]
        if rows.any():
            level = float(np.clip(known.level[mine][0], 0.005, 0.995))
            offset[mine] += matching_shift(z[rows], level, stands_for[rows])
    mean = float(np.average(made.log_odds(reading), weights=stands_for))
    return Ability(weights, offset, made.tokens, mean)


def _tokens(curves: Curves, known: Known, benchmark: NDArray[np.int64], usual: float) -> Array:
    """Return tokens as multiples of exp(length), (K,)."""
    factor = np.full(len(benchmark), np.nan)
    grown, stands_for = np.exp(curves.reference.reading.length), curves.reference.weight
    for number in range(benchmark.max() + 1):
        mine = benchmark == number
        rows = mine[curves.reference.category]
        if rows.any() and np.isfinite(known.tokens[mine][0]):
            factor[mine] = known.tokens[mine][0] / np.average(grown[rows], weights=stands_for[rows])
    if np.isfinite(factor).any():
        rest = float(np.exp(np.nanmean(np.log(factor))))
    elif known.mean_tokens is not None:
        rest = known.mean_tokens / float(np.average(grown, weights=stands_for))
    else:
        rest = usual
    return np.where(np.isfinite(factor), factor, rest)


def benchmark_indices(categories: tuple[str, ...]) -> NDArray[np.int64]:
    """Return the number of the benchmark that each category belongs to."""
    names = [benchmark_name(name) for name in categories]
    order: Mapping[str, int] = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([order[name] for name in names], dtype=np.int64)


def curve_weights(strength: float) -> Array:
    """Return weights over the curves of `GRID` that make the curve of another strength: a local line."""
    away = GRID - strength
    count = np.exp(-0.5 * (away / _WIDTH) ** 2) + 1e-3
    line = np.column_stack([np.ones(len(GRID)), away])
    pull = np.diag([1e-6, _PULL])
    return np.asarray(np.linalg.solve(line.T @ (count[:, None] * line) + pull, line.T * count)[0])


def matching_shift(z: Array, goal: float, weight: Array | None = None) -> float:
    """Return what to add to log odds so that the mean probability is `goal`.

    By Newton's method, and by halving where a step leaves what is known to hold the answer.
    """
    low, high, shift = -_FAR, _FAR, 0.0
    for _ in range(_STEPS):
        p = 0.5 * (1.0 + np.tanh(0.5 * (z + shift)))
        gap = float(np.average(p, weights=weight)) - goal
        if abs(gap) < _CLOSE:
            break
        low, high = (shift, high) if gap < 0.0 else (low, shift)
        slope = float(np.average(p * (1.0 - p), weights=weight))
        following = shift - gap / max(slope, 1e-12)
        shift = following if low < following < high else 0.5 * (low + high)
    return shift
