"""The labels of the known queries, packed so that one gather and one product read them all.

What comes out is `neighbours.estimate_from_neighbours` to the last digit that float32 has; a test says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eccos_rs.predict.neighbours import NeighbourEstimate, NeighbourSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["LabelTable", "neighbour_weights", "shrink"]

# Columns of the packed table, M wide each: success, whether known; ln tokens, its square, whether known.
PARTS = 5
# Rows gathered at once: 512 queries x 128 neighbours x 30 columns are 8 MB.
_SLICE = 512


class LabelTable:
    """Success and length of n known queries for M models, either of which may be unknown.

    Parameters
    ----------
    success : ndarray, shape (n, M)
        In [0, 1]; NaN where not observed.
    log_tokens : ndarray, shape (n, M)
        ln(1 + output tokens); NaN where not observed.
    spare : int
        Rows that may be added.
    """

    def __init__(self, success: NDArray[np.float32], log_tokens: NDArray[np.float32], spare: int = 0) -> None:
        rows, self.models = success.shape
        seen, counted = np.isfinite(success), np.isfinite(log_tokens)
        lengths = np.where(counted, log_tokens, 0.0)
        parts = (np.where(seen, success, 0.0), seen, lengths, np.square(lengths), counted)
        self.packed = np.zeros((rows + spare, PARTS * self.models), dtype=np.float32)
        self.packed[:rows] = np.concatenate(parts, axis=1)

    def clear(self, row: int) -> None:
        """Forget what is known of a row."""
        self.packed[row] = 0.0

    def set_success(self, row: int, model: int, quality: float) -> None:
        """Say how well a model answered a known query."""
        self.packed[row, [model, self.models + model]] = quality, 1.0

    def set_length(self, row: int, model: int, log_tokens: float) -> None:
        """Say how long its answer was."""
        columns = [part * self.models + model for part in (2, 3, 4)]
        self.packed[row, columns] = log_tokens, log_tokens**2, 1.0

    def sums(self, weight: NDArray[np.float32], index: NDArray[np.int64]) -> NDArray[np.float32]:
        """Add up the packed labels of the neighbours (N, K) by their weights (N, K): (N, 5 M)."""
        out = np.empty((len(index), self.packed.shape[1]), dtype=np.float32)
        for start in range(0, len(index), _SLICE):
            part = slice(start, start + _SLICE)
            np.matmul(weight[part, None, :], self.packed[index[part]], out=out[part, None, :])
        return out


def neighbour_weights(similarity: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """Return exp((similarity - best) / temperature), (N, K), for neighbours in order, nearest first."""
    away = similarity - similarity[:, :1]
    return np.asarray(np.exp(away / np.float32(temperature)), dtype=np.float32)


def shrink(
    sums: NDArray[np.float32],
    best: NDArray[np.float32],
    settings: NeighbourSettings,
    priors: Mapping[str, NDArray[np.float32]],
) -> NeighbourEstimate:
    """Turn weighted sums of packed labels into an estimate; see `estimate_from_neighbours`.

    Parameters
    ----------
    sums : ndarray, shape (N, 5 M)
        From `LabelTable.sums`.
    best : ndarray, shape (N,)
        Similarity of the nearest neighbour.
    settings, priors
        As there.
    """
    success, seen, length, square, counted = np.split(sums, PARTS, axis=1)
    rows, length_rows = settings.prior_rows, settings.length_prior_rows
    mean, std = priors["prior_length_mean"], priors["prior_length_std"]
    estimate = (success + rows * priors["prior_success"]) / (seen + rows)
    total = counted + length_rows
    length = (length + length_rows * mean) / total
    second = (square + length_rows * (np.square(std) + np.square(mean))) / total
    spread = np.sqrt(np.maximum(second - np.square(length), 1e-4))
    return NeighbourEstimate(
        *(np.asarray(each, dtype=np.float32) for each in (estimate, length, spread, best))
    )
