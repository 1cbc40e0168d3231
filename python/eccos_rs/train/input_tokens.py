"""From texts to the input tokens that are paid for: what was sent is often more than what the router sees.

Records count what a provider counted: system texts, templates, examples that went along. A router sees the
text. So tokens are fitted as a slope on the text plus an overhead of each dataset (or route), which at run
time is read off the embedding; the fit meets the total, because a budget is spent in totals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]

__all__ = ["fit_input_tokens"]

#: Overheads that differ by less than this share of the mean count are one.
ALIKE = 0.05
#: A dataset of fewer queries has no overhead of its own.
LEAST_ROWS = 20
#: Weight of the zero overhead in the regression on embeddings, in queries.
RIDGE = 0.1
#: A model's own count within this share of the common one is the common one.
SAME_COUNT = 0.005


def fit_input_tokens(
    pieces: Floats,
    characters: Floats,
    tokens: Floats,
    *,
    dataset: Sequence[str] = (),
    embedding: NDArray[np.float32] | None = None,
    by_model: Floats | None = None,
) -> dict[str, Any]:
    """Fit tokens as a provider counts them on word pieces and characters, so that their total is met.

    Parameters
    ----------
    pieces, characters : ndarray, shape (N,)
        Of each text, uncut.
    tokens : ndarray, shape (N,)
        Input tokens as the data have them.
    dataset : sequence of str, length N, optional
        Each with an overhead of its own.
    embedding : ndarray of float32, shape (N, E), optional
        Unit vectors that the overhead of an unknown text is read off; without them it is the mean one.
    by_model : ndarray, shape (N, M), optional
        Tokens as each model counted them; NaN where unknown.

    Returns
    -------
    dict
        For `eccos_rs.predict.tokenize.InputTokenEstimate`: ``intercept``, ``per_piece``, ``per_character``;
        with overheads that differ also ``overhead`` (one weight per dimension) and ``overhead_range``; with
        models that count differently ``model_factor``.
    """
    wanted = np.asarray(tokens, dtype=np.float64)
    group = _groups(dataset, len(wanted))
    slopes = _slopes(pieces, characters, wanted, group)
    left = wanted - np.column_stack([pieces, characters]) @ slopes
    mean = float(left.mean())
    found: dict[str, Any] = {"intercept": mean, "per_piece": slopes[0], "per_character": slopes[1]}
    overheads = np.array([left[group == each].mean() for each in np.unique(group)])
    estimate = wanted - left + mean
    if embedding is not None and np.ptp(overheads) > ALIKE * max(float(wanted.mean()), 1.0):
        spread = overheads[np.searchsorted(np.unique(group), group)] - mean
        weights, bias = _ridge(embedding, spread)
        reach = (float(overheads.min() - mean) - bias, float(overheads.max() - mean) - bias)
        read = np.clip(embedding.astype(np.float64) @ weights, *reach)
        found |= {"overhead": weights, "overhead_range": reach}
        # What the regression leaves of the total goes to all alike.
        found["intercept"] = mean - float(read.mean())
        estimate = estimate + read - read.mean()
    if by_model is not None:
        factor = _factors(by_model, estimate)
        if np.abs(factor - 1.0).max() > SAME_COUNT:
            found["model_factor"] = factor
    return {name: _rounded(value) for name, value in found.items()}


def _rounded(value: Any) -> float | list[float]:
    if np.ndim(value):
        return [round(float(each), 6) for each in value]
    return round(float(value), 6)


def _groups(dataset: Sequence[str], rows: int) -> NDArray[np.int64]:
    """Return a number per row; datasets of few queries share one."""
    if not len(dataset):
        return np.zeros(rows, dtype=np.int64)
    _, group, count = np.unique(
        np.array(dataset, dtype=object).astype(str), return_inverse=True, return_counts=True
    )
    return np.where(count[group] >= LEAST_ROWS, group + 1, 0).astype(np.int64)


def _slopes(
    pieces: Floats, characters: Floats, wanted: NDArray[np.float64], group: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return tokens per word piece and per character, from what differs within a dataset."""
    from scipy.optimize import nnls

    kinds = np.unique(group)
    inputs = np.column_stack([pieces, characters, *(group == kind for kind in kinds)]).astype(np.float64)
    # Relative errors: a short query's count matters as much as a long one's.
    weight = 1.0 / np.maximum(wanted, 8.0)
    found, _ = nnls(inputs * weight[:, None], wanted * weight)
    return np.asarray(found[:2], dtype=np.float64)


def _ridge(embedding: NDArray[np.float32], spread: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Regress overheads on unit vectors; returns weights (E,) and what is said of all alike."""
    middle = embedding.mean(axis=0, dtype=np.float64)
    x = embedding - middle
    weights = np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ (spread - spread.mean()))
    return np.asarray(weights, dtype=np.float64), float(spread.mean() - middle @ weights)


def _factors(by_model: Floats, estimate: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each model's total over what is estimated for the same queries, (M,)."""
    seen = np.isfinite(by_model)
    total = np.where(seen, by_model, 0.0).sum(axis=0)
    expected = np.where(seen, np.maximum(estimate, 1.0)[:, None], 0.0).sum(axis=0)
    return np.asarray(np.where(expected > 0, total / np.maximum(expected, 1.0), 1.0), dtype=np.float64)
