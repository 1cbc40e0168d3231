"""Kernel ridge regression on the vectors that are searched by: smooth where the network is sharp.

It is cheap to fit (one factorisation) and forecasts unseen queries better than the network; the mean of
both is steadier than either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

__all__ = ["KERNEL_MARGIN", "KernelHead", "cross_fit_kernel", "fit_kernel"]

#: A known query counts exp((cosine - 1) / REACH).
REACH = 0.3
RIDGE = 1.0
#: The regression's success is kept this far from 0 and 1 before it becomes log odds.
KERNEL_MARGIN = 0.02
#: `cross_fit_kernel` learns from at most so many rows at a time: it compares labels, for which these do.
MOST_CENTRES = 6000


@dataclass(frozen=True, eq=False)
class KernelHead:
    """A kernel regression of success and log length for M models on n known queries.

    Attributes
    ----------
    projection : ndarray of float32, shape (I, E)
        From standardised inputs to the vectors that are compared, before they are brought to unit norm.
    centres : ndarray of float32, shape (n, E)
        Unit vectors of the known queries.
    dual : ndarray of float32, shape (n, 2 M)
        Weights: M of success, M of ln(1 + tokens).
    bias : ndarray of float32, shape (2 M,)
        What is said far from everything.
    share : float
        Of this regression in the mean with the network.
    reach : float
        Of the kernel.
    """

    projection: Floats
    centres: Floats
    dual: Floats
    bias: Floats
    share: float
    reach: float = REACH

    def __call__(self, inputs: Floats) -> tuple[Floats, Floats]:
        """Return log odds of success and mean ln(1 + tokens), (N, M) each, of standardised inputs (N, I)."""
        vectors = _unit(inputs @ self.projection)
        out = _kernel(vectors, self.centres, self.reach) @ self.dual + self.bias
        success, length = np.split(out.astype(np.float32), 2, axis=1)
        success = np.clip(success, KERNEL_MARGIN, 1.0 - KERNEL_MARGIN)
        return np.log(success / (1.0 - success)), length


def fit_kernel(
    inputs: Floats, projection: Floats, success: Floats, log_tokens: Floats, share: float
) -> KernelHead:
    """Fit the regression.

    Parameters
    ----------
    inputs : ndarray of float32, shape (n, I)
        Standardised.
    projection : ndarray of float32, shape (I, E)
        See `KernelHead`.
    success, log_tokens : ndarray of float32, shape (n, M)
        Labels; NaN where a model was not asked.
    share : float
        See `KernelHead`.

    Returns
    -------
    KernelHead
    """
    vectors = _unit(inputs @ projection)
    labels = np.concatenate([success, log_tokens], axis=1)
    dual, bias = _fit(vectors, labels)
    return KernelHead(projection, vectors, dual, bias, share)


def cross_fit_kernel(
    inputs: Floats, projection: Floats, success: Floats, folds: NDArray[np.int64], seed: int = 0
) -> Floats:
    """Forecast every row from the other folds.

    Parameters
    ----------
    inputs, projection
        As for `fit_kernel`.
    success : ndarray of float32, shape (n, K)
        Labels of any number of columns; NaN where unobserved.
    folds : ndarray of int64, shape (n,)
        Number of each row's fold.
    seed : int
        Of the choice of `MOST_CENTRES` rows where there are more.

    Returns
    -------
    ndarray of float32, shape (n, K)
        Log odds.
    """
    vectors = _unit(inputs @ projection)
    out = np.empty(success.shape, dtype=np.float32)
    shuffle = np.random.default_rng(seed)
    for fold in np.unique(folds).tolist():
        asked, known = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        if len(known) > MOST_CENTRES:
            known = np.sort(shuffle.choice(known, MOST_CENTRES, replace=False))
        dual, bias = _fit(vectors[known], success[known])
        out[asked] = _kernel(vectors[asked], vectors[known], REACH) @ dual + bias
    out = np.clip(out, KERNEL_MARGIN, 1.0 - KERNEL_MARGIN)
    return np.asarray(np.log(out / (1.0 - out)), dtype=np.float32)


def _unit(vectors: Floats) -> Floats:
    size = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return np.asarray(vectors / size, dtype=np.float32)


def _fit(vectors: Floats, labels: Floats) -> tuple[Floats, Floats]:
    """Return the weights (n, K) and the means (K,) of a regression with gaps in its labels."""
    kernel = _kernel(vectors, vectors, REACH)
    labels = labels.astype(np.float64)
    seen = np.isfinite(labels)
    # A column without any label in this part: even odds.
    bias = np.where(
        seen.any(axis=0), np.where(seen, labels, 0.0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1), 0.5
    )
    dual = np.zeros(labels.shape)
    patterns, member = np.unique(seen, axis=1, return_inverse=True)
    for number, rows in enumerate(patterns.T):
        columns = np.flatnonzero(member.reshape(-1) == number)
        known = np.flatnonzero(rows)
        left = labels[np.ix_(known, columns)] - bias[columns]
        dual[np.ix_(known, columns)] = _solve(
            kernel[np.ix_(known, known)], np.asarray(left, dtype=np.float64)
        )
    return dual.astype(np.float32), bias.astype(np.float32)


def _kernel(one: Floats, two: Floats, reach: float) -> Floats:
    return np.asarray(np.exp((one @ two.T - np.float32(1.0)) / np.float32(reach)), dtype=np.float32)


def _solve(kernel: Floats, left: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.linalg import cho_factor, cho_solve

    # In float32: with this ridge the condition number stays near 10,000.
    ridged = kernel.copy()
    ridged[np.diag_indices_from(ridged)] += np.float32(RIDGE)
    factor = cho_factor(ridged, lower=True, overwrite_a=True, check_finite=False)
    return np.asarray(cho_solve(factor, left.astype(np.float32), check_finite=False), dtype=np.float64)
