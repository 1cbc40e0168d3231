"""What the nearest labelled queries say: weighted, shrunk towards the prior, gaps in the labels allowed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["NeighbourEstimate", "NeighbourSettings", "estimate_from_neighbours"]


@dataclass(frozen=True)
class NeighbourSettings:
    """How labels of neighbours are weighed.

    Attributes
    ----------
    neighbours : int
        How many are looked at.
    temperature : float
        A neighbour weighs exp((similarity - best) / temperature). Small is sharp.
    prior_rows : float
        Weight of the prior, in neighbours at the best similarity, for success and for the spread of lengths.
    length_prior_rows : float
        The same for the mean log length.
    """

    neighbours: int = 64
    temperature: float = 0.1
    prior_rows: float = 1.0
    length_prior_rows: float = 0.5

    def __post_init__(self) -> None:
        if self.neighbours < 1:
            raise InputError(f"neighbours: got {self.neighbours}, wanted 1 or more")
        for name in ("temperature", "prior_rows", "length_prior_rows"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise InputError(f"{name}: got {getattr(self, name)}, wanted a positive number")

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> NeighbourSettings:
        """Read them from the ``[retrieval]`` table of a bundle; other keys are left alone."""
        return cls(
            neighbours=int(table["neighbours"]),
            temperature=float(table["temperature"]),
            prior_rows=float(table["prior_rows"]),
            length_prior_rows=float(table.get("length_prior_rows", table["prior_rows"])),
        )


@dataclass(frozen=True, eq=False)
class NeighbourEstimate:
    """An estimate for N queries and M models.

    Attributes
    ----------
    success : ndarray of float32, shape (N, M)
        Probability, within (0, 1).
    length_mean, length_std : ndarray of float32, shape (N, M)
        Of ln(1 + output tokens).
    similarity : ndarray of float32, shape (N,)
        Of the nearest neighbour.
    """

    success: NDArray[np.float32]
    length_mean: NDArray[np.float32]
    length_std: NDArray[np.float32]
    similarity: NDArray[np.float32]


def estimate_from_neighbours(
    similarity: NDArray[np.floating[Any]],
    success: NDArray[np.floating[Any]],
    log_tokens: NDArray[np.floating[Any]],
    index: NDArray[np.integer[Any]],
    settings: NeighbourSettings,
    *,
    prior_success: NDArray[np.floating[Any]],
    prior_length_mean: NDArray[np.floating[Any]],
    prior_length_std: NDArray[np.floating[Any]],
) -> NeighbourEstimate:
    """Average the labels of the nearest queries.

    Parameters
    ----------
    similarity : ndarray, shape (N, K)
        Cosine similarity of the neighbours, in any order; -inf marks a neighbour that is not there.
    success : ndarray, shape (n, M)
        Success of each labelled query, in [0, 1]; NaN where it was not observed.
    log_tokens : ndarray, shape (n, M)
        ln(1 + output tokens); NaN where it was not observed.
    index : ndarray of int, shape (N, K)
        Rows of the neighbours in `success` and `log_tokens`.
    settings : NeighbourSettings
        Weights; `settings.neighbours` is the caller's affair.
    prior_success, prior_length_mean, prior_length_std : ndarray, shape (M,)
        What to believe without any neighbour.

    Returns
    -------
    NeighbourEstimate

    Notes
    -----
    With labels y and weights w the estimate is (sum w y + r p) / (sum w + r), r being `prior_rows` and p the
    prior, so it is never 0 or 1 unless the prior is.
    """
    similarity = np.asarray(similarity, dtype=np.float32)
    best = similarity.max(axis=1, initial=-np.inf)
    with np.errstate(invalid="ignore"):
        weight = np.exp((similarity - best[:, None]) / np.float32(settings.temperature))
    weight = np.where(np.isfinite(similarity), weight, np.float32(0.0))

    _, mean = _weighted_mean(weight, success, index, settings.prior_rows, prior_success)
    length_total, length = _weighted_mean(
        weight, log_tokens, index, settings.length_prior_rows, prior_length_mean
    )
    # Around the shrunk mean: the spread includes the disagreement between neighbours and prior.
    seen = np.isfinite(log_tokens)
    squares = np.where(seen, np.square(log_tokens, dtype=np.float32), np.float32(0.0))
    rows = settings.length_prior_rows
    second = _weighted_sum(weight, squares, index)
    prior_second = np.square(prior_length_std) + np.square(prior_length_mean)
    variance = (second + rows * prior_second) / (length_total + rows) - np.square(length)
    return NeighbourEstimate(
        success=mean.astype(np.float32),
        length_mean=length.astype(np.float32),
        length_std=np.sqrt(np.maximum(variance, 1e-4)).astype(np.float32),
        similarity=best.astype(np.float32),
    )


def _weighted_sum(
    weight: NDArray[np.float32], values: NDArray[np.floating[Any]], index: NDArray[np.integer[Any]]
) -> NDArray[np.float32]:
    """Sum over neighbours of weight times value: (N, K), (n, M) -> (N, M)."""
    gathered = values.astype(np.float32, copy=False)[index]
    return np.asarray(np.matmul(weight[:, None, :], gathered)[:, 0, :], dtype=np.float32)


def _weighted_mean(
    weight: NDArray[np.float32],
    values: NDArray[np.floating[Any]],
    index: NDArray[np.integer[Any]],
    prior_rows: float,
    prior: NDArray[np.floating[Any]],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the weight that was observed and the shrunk mean, each (N, M)."""
    seen = np.isfinite(values)
    if seen.all():
        total = np.broadcast_to(weight.sum(axis=1, keepdims=True), (len(weight), values.shape[1]))
        summed = _weighted_sum(weight, values, index)
    else:
        total = _weighted_sum(weight, seen.astype(np.float32), index)
        summed = _weighted_sum(weight, np.where(seen, values, 0.0), index)
    mean = (summed + prior_rows * prior) / (total + prior_rows)
    return np.asarray(total, dtype=np.float32), np.asarray(mean, dtype=np.float32)
