"""Ridge logistic regression by Newton's method, in numpy alone: a router that meets a new model needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["fit_logistic"]


def fit_logistic(
    inputs: NDArray[np.floating[Any]],
    outcome: NDArray[np.floating[Any]],
    *,
    ridge: ArrayLike = 1.0,
    centre: ArrayLike = 0.0,
    offset: NDArray[np.floating[Any]] | None = None,
    steps: int = 50,
) -> NDArray[np.float64]:
    """Fit log odds that are linear in the inputs.

    Parameters
    ----------
    inputs : ndarray, shape (N, D)
        A column of ones stands for the intercept, where one is wanted.
    outcome : ndarray, shape (N,)
        In [0, 1]; a share counts as that share of a success.
    ridge : float or array-like, shape (D,)
        How strongly each coefficient is pulled to its `centre`: the inverse variance of a normal prior.
    centre : float or array-like, shape (D,)
        Where the coefficients are pulled.
    offset : ndarray, shape (N,), optional
        Added to the log odds as it is.
    steps : int
        The most Newton steps.

    Returns
    -------
    ndarray of float64, shape (D,)
        The coefficients of greatest posterior density. With a positive `ridge` they are finite for every
        outcome, all successes included.
    """
    x = np.asarray(inputs, dtype=np.float64)
    y = np.asarray(outcome, dtype=np.float64)
    pull = np.broadcast_to(np.asarray(ridge, dtype=np.float64), x.shape[1:])
    goal = np.broadcast_to(np.asarray(centre, dtype=np.float64), x.shape[1:])
    start = np.zeros(len(x)) if offset is None else np.asarray(offset, dtype=np.float64)

    def objective(beta: NDArray[np.float64]) -> float:
        z = start + x @ beta
        return float(np.sum(np.logaddexp(0.0, z) - y * z) + 0.5 * np.sum(pull * (beta - goal) ** 2))

    beta = goal.copy()
    value = objective(beta)
    for _ in range(steps):
        p = 0.5 * (1.0 + np.tanh(0.5 * (start + x @ beta)))
        gradient = x.T @ (p - y) + pull * (beta - goal)
        curvature = (x * (p * (1.0 - p))[:, None]).T @ x + np.diag(pull + 1e-9)
        move = np.linalg.solve(curvature, gradient)
        size = 1.0
        # Newton may overshoot far from the optimum; the objective is convex, so halving always ends.
        while (tried := objective(beta - size * move)) > value and size > 1e-6:
            size *= 0.5
        gained, value = value - tried, min(value, tried)
        beta = beta - size * move
        if gained < 1e-10 * max(1.0, abs(value)):
            break
    return beta
