"""One strength per model behind all boards: the factor model that fills scores nobody published.

``logit score[model, column] = mu[column] + lam[column] * theta[model] + e``, with one sigma per column and
heavy tails: a board may have a broken entry, which must not move a model's strength. Entries of one board
share what the board measures, so they count for less than as many boards would.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Columns", "Strength", "fit_columns", "log_odds", "share", "strength"]

_TAILS = 4.0
"""Degrees of freedom of the errors: at 4, an entry 5 sigma off has a sixth of the weight of one at the
mean."""
_WITHIN_BOARD = 0.5
"""Correlation of the errors of one model's entries on one board."""
_NOISE = 0.25
"""Sigma in log odds that a column's own estimate is shrunk to, with the weight of `_NOISE_COUNT` entries."""
_NOISE_COUNT = 4.0
_HELD_OUT = 1.25
"""A column's error on models that it was not fitted on, as a multiple of the error on those that it was: so
that the 90 % interval of a left-out score covers 90 % (`tools/catalogue/check.py` prints it)."""
_SLOPE_PRIOR = 0.3
_LEAST_SLOPE = 0.3
"""A column whose models have little else in common must not end as one that tells nothing."""
_FAMILY_SD, _KIN_SD = 2.5, 0.4
"""Standard deviations of a family's strength (wide: boards of different years share few models) and within a
family."""
_ROUNDS = 60
_EDGE = 0.005


def log_odds(value: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Return the log odds of shares, kept away from 0 and 1."""
    clipped = np.clip(np.asarray(value, dtype=np.float64), _EDGE, 1 - _EDGE)
    return np.asarray(np.log(clipped / (1 - clipped)))


def share(odds: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Return the share whose log odds are given."""
    return np.asarray(1 / (1 + np.exp(-np.asarray(odds, dtype=np.float64))))


@dataclass(frozen=True, slots=True)
class Columns:
    """Intercept, slope, error of the boards' columns, float64 of shape (columns,); NaN where not fitted."""

    mu: NDArray[np.float64]
    lam: NDArray[np.float64]
    sigma: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Strength:
    """A model's strength theta and its standard deviation; over the boards' models theta has mean 0, sd 1."""

    theta: float
    sd: float


def _board_weights(board: NDArray[np.intp]) -> NDArray[np.float64]:
    _, at, count = np.unique(board, return_inverse=True, return_counts=True)
    return np.asarray(1 / (1 + (count[at] - 1) * _WITHIN_BOARD))


def strength(
    columns: Columns,
    at: NDArray[np.intp],
    y: NDArray[np.float64],
    board: NDArray[np.intp],
    *,
    prior: tuple[float, float] = (0.0, 1.0),
    extra_sd: NDArray[np.float64] | float = 0.0,
) -> Strength:
    """Return the posterior strength of one model.

    Parameters
    ----------
    columns : Columns
    at, y, board : arrays of shape (n,)
        Column, log odds and board of each of its scores.
    prior : (float, float)
        Mean and standard deviation of theta before any score.
    extra_sd : array or float
        Log odds added to a column's error: another release, another hand.
    """
    mean, sd = prior
    usable = np.isfinite(columns.lam[at])
    at, y, board = at[usable], y[usable], board[usable]
    if not len(at):
        return Strength(mean, sd)
    extra = np.broadcast_to(extra_sd, usable.shape)[usable]
    variance = columns.sigma[at] ** 2 + extra**2
    lam, base = columns.lam[at], _board_weights(board)
    theta, precision = mean, sd**-2
    robust = np.ones(len(at))
    for _ in range(12):
        weight = base * robust / variance
        precision = sd**-2 + float(np.sum(weight * lam**2))
        theta = (mean * sd**-2 + float(np.sum(weight * lam * (y - columns.mu[at])))) / precision
        residual = y - columns.mu[at] - lam * theta
        robust = (_TAILS + 1) / (_TAILS + residual**2 / variance)
    return Strength(theta, precision**-0.5)


def fit_columns(
    model: NDArray[np.intp],
    column: NDArray[np.intp],
    y: NDArray[np.float64],
    board: NDArray[np.intp],
    *,
    least: int = 5,
    family: NDArray[np.intp] | None = None,
) -> tuple[Columns, NDArray[np.float64]]:
    """Fit the columns of all boards and the strengths of all models.

    Parameters
    ----------
    model, column, board : int arrays of shape (entries,)
    y : array of shape (entries,)
        Log odds.
    least : int
        Columns with fewer models are left out; where all are, nothing tells one model from another.
    family : int array of shape (models,), optional
        Models of one family are drawn to each other: the same weights at several efforts or releases.

    Returns
    -------
    Columns, array of shape (models,)
    """
    models, n_columns = int(model.max()) + 1, int(column.max()) + 1
    family = np.arange(models) if family is None else family
    means = np.zeros(models)
    counts = np.bincount(column, minlength=n_columns)
    fitted = counts >= least
    keep = fitted[column]
    if not keep.any():
        nothing = np.full((3, n_columns), np.nan)
        return Columns(*nothing), np.zeros(models)
    model, column, y, board = model[keep], column[keep], y[keep], board[keep]
    base = _board_weights(model * (int(board.max()) + 1) + board)
    mu = _per(column, y, n_columns) / np.maximum(counts, 1)
    lam, sigma = np.full(n_columns, 0.8), np.full(n_columns, 0.5)
    robust, theta = np.ones(len(y)), np.zeros(models)
    for _ in range(_ROUNDS):
        weight = base * robust / sigma[column] ** 2
        told = _per(model, weight * lam[column] ** 2, models)
        precision = _KIN_SD**-2 + told
        theta = (
            means * _KIN_SD**-2 + _per(model, weight * lam[column] * (y - mu[column]), models)
        ) / precision
        # A model is drawn to what its own family (the same weights at other efforts) shows, the family to
        # the mean.
        sure = told / precision
        kin = _per(family, sure * theta, models) / (_per(family, sure, models) + (_KIN_SD / _FAMILY_SD) ** 2)
        means = kin[family]
        known = np.bincount(model, minlength=models) > 0
        shift, scale = (
            theta[known].mean(),
            np.sqrt((theta[known] ** 2 + 1 / precision[known]).mean() - theta[known].mean() ** 2),
        )
        theta, variance, means = (theta - shift) / scale, 1 / precision / scale**2, (means - shift) / scale
        # Each column's line by weighted ridge, the slope drawn to the mean slope.
        pull = _SLOPE_PRIOR**-2
        w, t = robust, theta[model]
        centre = float(np.median(lam[fitted]))
        sw, st = _per(column, w, n_columns), _per(column, w * t, n_columns)
        stt = _per(column, w * (t**2 + variance[model]), n_columns)
        sy, sty = _per(column, w * y, n_columns), _per(column, w * t * y, n_columns)
        noise = sigma**2
        determinant = (stt + noise * pull) * sw - st**2
        with np.errstate(invalid="ignore", divide="ignore"):
            lam = np.maximum(((sty + noise * pull * centre) * sw - st * sy) / determinant, _LEAST_SLOPE)
            mu = (sy - lam * st) / sw
        residual = y - mu[column] - lam[column] * t
        squares = _per(column, w * (residual**2 + lam[column] ** 2 * variance[model]), n_columns)
        sigma = np.sqrt((squares + _NOISE_COUNT * _NOISE**2) / (counts + _NOISE_COUNT))
        robust = (_TAILS + 1) / (_TAILS + residual**2 / sigma[column] ** 2)
    sigma = sigma * _HELD_OUT
    out = ~fitted
    for each in (mu, lam, sigma):
        each[out] = np.nan
    return Columns(mu, lam, sigma), theta


def _per(at: NDArray[np.intp], values: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    return np.bincount(at, weights=values, minlength=n).astype(np.float64)
