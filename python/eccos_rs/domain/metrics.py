"""How good forecasts of success are: the measures that training, evaluation and onboarding share."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from eccos_rs.errors import InputError

Floats = npt.NDArray[np.float64]

__all__ = ["Reliability", "auc", "brier", "ece", "reliability"]


class Reliability(NamedTuple):
    """Forecasts in bins of equal mass: mean forecast, share that came true, size of the bin."""

    forecast: Floats
    outcome: Floats
    size: npt.NDArray[np.int64]


def reliability(forecast: npt.ArrayLike, outcome: npt.ArrayLike, bins: int = 15) -> Reliability:
    """Sort by forecast and cut into `bins` parts of equal size (as many as there are forecasts, if fewer).

    Raises
    ------
    InputError
        If the two are not of one length, or empty.
    """
    p = np.asarray(forecast, dtype=np.float64).ravel()
    y = np.asarray(outcome, dtype=np.float64).ravel()
    if p.shape != y.shape or not p.size:
        raise InputError(
            f"forecast: got {p.size} against {y.size} outcomes, wanted one each and at least one"
        )
    order = np.argsort(p, kind="stable")
    edges = np.linspace(0, p.size, min(bins, p.size) + 1).astype(np.int64)
    starts, counts = edges[:-1], np.diff(edges)
    return Reliability(
        np.add.reduceat(p[order], starts) / counts, np.add.reduceat(y[order], starts) / counts, counts
    )


def ece(forecast: npt.ArrayLike, outcome: npt.ArrayLike, bins: int = 15) -> float:
    """Return the expected calibration error: mean |forecast - outcome| over bins of equal mass.

    Examples
    --------
    >>> round(ece([0.2, 0.2, 0.8, 0.8], [0, 0, 1, 1], bins=2), 3)
    0.2
    """
    mean, share, count = reliability(forecast, outcome, bins)
    return float(np.average(np.abs(mean - share), weights=count))


def brier(forecast: npt.ArrayLike, outcome: npt.ArrayLike) -> float:
    """Mean squared error of the forecast probability."""
    return float(np.mean((np.asarray(forecast, np.float64) - np.asarray(outcome, np.float64)) ** 2))


def auc(forecast: npt.ArrayLike, outcome: npt.ArrayLike) -> float:
    """Chance that a success was forecast higher than a failure, ties by half; NaN with one class only.

    Quality between 0 and 1 counts as success from 0.5.
    """
    p = np.asarray(forecast, dtype=np.float64).ravel()
    good = np.asarray(outcome, dtype=np.float64).ravel() >= 0.5
    wins, losses = int(good.sum()), int((~good).sum())
    if not wins or not losses:
        return float("nan")
    _, group, count = np.unique(p, return_inverse=True, return_counts=True)
    middle = np.cumsum(count) - (count - 1) / 2
    return float((middle[group][good].sum() - wins * (wins + 1) / 2) / (wins * losses))
