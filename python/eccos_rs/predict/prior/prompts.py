"""Input tokens from what was counted: records say what was sent, which is often more than the text shown.

System texts, templates and examples go along with a query that the router sees without them. A budget is
spent in totals, so the fit meets the total of the counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eccos_rs.predict.onboarding import kernel_ridge, kernel_rows
from eccos_rs.predict.shared import PROMPT_STD, SINGLE_PROMPT_STD

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["PromptFit", "fit_prompts"]

PRIOR_QUERIES = 2.0
"""Queries that the estimate from the text weighs."""
SLOPE_QUERIES = 8
"""From so many counts on tokens per token of the text are fitted, not only what comes on top."""
KIND_QUERIES, MOST_QUERIES, KIND_WORTH = 40, 800, 0.2
"""Fewest counts, the most (the newest), and the share of the squared error on left-out ones that it must
save, for reading off the embedding what kind of query is sent with how much beside it."""


@dataclass(frozen=True, eq=False)
class PromptFit:
    """What turns estimates from the text into what is sent.

    Attributes
    ----------
    base, slope : float
        Tokens on top, and per token that was estimated.
    std : float
        Standard deviation of ln of the total of a batch of this traffic.
    vectors : ndarray of float32, shape (n, D), or None
        Queries whose kinds are told apart.
    dual : ndarray, shape (n,), or None
        Their weights, tokens.
    reach : tuple of float
        The least and the most that a kind adds.
    """

    base: float
    slope: float
    std: float
    vectors: NDArray[np.float32] | None = None
    dual: Array | None = None
    reach: tuple[float, float] = (0.0, 0.0)

    def __call__(self, estimate: Array, embedding: NDArray[np.float32] | None) -> NDArray[np.float64]:
        """Return input tokens, (N,), of queries with these estimates, (N,), and unit vectors, (N, D)."""
        tokens = self.base + self.slope * np.asarray(estimate, dtype=np.float64)
        if self.vectors is not None and self.dual is not None and embedding is not None:
            tokens = tokens + np.clip(kernel_rows(embedding, self.vectors) @ self.dual, *self.reach)
        return np.maximum(tokens, 1.0)


def fit_prompts(
    counted: Array, estimate: Array, embedding: NDArray[np.float32], prior_std: float
) -> PromptFit | None:
    """Fit what was sent on what was estimated.

    Parameters
    ----------
    counted, estimate : ndarray, shape (n,)
        Input tokens of queries as counted, and as estimated from the text.
    embedding : ndarray of float32, shape (n, D)
        Unit vectors; D may be 0.
    prior_std : float
        Standard deviation of ln of the estimated total before any count.

    Returns
    -------
    PromptFit or None
        None where nothing was counted.
    """
    count = len(counted)
    if not count:
        return None
    slope = _slope(counted, estimate) if count >= SLOPE_QUERIES else 1.0
    base = float(np.mean(counted) - slope * np.mean(estimate))
    if base < 0.0:
        base, slope = 0.0, float(np.sum(counted) / max(float(np.sum(estimate)), 1.0))
    left = counted - base - slope * estimate
    vectors, dual, out, reach = _kinds(left, embedding)
    share = count / (count + PRIOR_QUERIES)
    mean = max(float(np.mean(counted)), 1.0)
    single = float(np.sum(np.square(out))) / mean**2 + SLOPE_QUERIES * SINGLE_PROMPT_STD**2
    noise = single / (count + SLOPE_QUERIES) / count
    std = float(np.sqrt(((1.0 - share) * prior_std) ** 2 + share**2 * noise + PROMPT_STD**2))
    return PromptFit(
        share * base, 1.0 + share * (slope - 1.0), std, vectors, dual, (share * reach[0], share * reach[1])
    )


def _slope(counted: Array, estimate: Array) -> float:
    """Return tokens per estimated token, by relative errors: a short query matters as much as a long one."""
    weight = 1.0 / np.maximum(counted, 8.0)
    x = np.column_stack([estimate, np.ones(len(counted))]) * weight[:, None]
    # As if `PRIOR_QUERIES` more had been counted as estimated.
    pull = PRIOR_QUERIES * float(np.mean(np.square(x[:, 0])))
    normal = x.T @ x + np.diag([pull, 1e-9])
    slope = float(np.linalg.solve(normal, x.T @ (counted * weight) + np.array([pull, 0.0]))[0])
    return max(slope, 0.0)


def _kinds(
    left: Array, embedding: NDArray[np.float32]
) -> tuple[NDArray[np.float32] | None, Array | None, Array, tuple[float, float]]:
    """Return what tells kinds apart, what it leaves of queries that are left out, and the kinds' range."""
    newest = slice(max(len(left) - MOST_QUERIES, 0), None)
    vectors, some = embedding[newest], left[newest]
    if len(some) < KIND_QUERIES or not vectors.shape[1]:
        return None, None, left, (0.0, 0.0)
    dual, out = kernel_ridge(kernel_rows(vectors, vectors), some)
    if np.mean(np.square(out)) > (1.0 - KIND_WORTH) * np.mean(np.square(some)):
        return None, None, left, (0.0, 0.0)
    return vectors, dual, out * np.sqrt(len(left) / len(out)), (float(some.min()), float(some.max()))
