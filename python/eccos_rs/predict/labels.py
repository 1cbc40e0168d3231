"""The labels of the known queries, packed so that one pass over the neighbours reads them all.

What comes out is `neighbours.estimate_from_neighbours` to the last digit that float32 has; a test says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eccos_rs import _core
from eccos_rs.predict.neighbours import NeighbourEstimate, NeighbourSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["LabelTable", "shrink"]

# Columns of the packed table, M wide each: success, whether known; ln tokens, its square, whether known.
PARTS = 5


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

    def sums(
        self, similarity: NDArray[np.float32], index: NDArray[np.int64], temperature: float
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Add up the packed labels of neighbours, each weighed by exp((similarity - best) / temperature).

        Parameters
        ----------
        similarity, index : ndarray, shape (N, K)
            Of the neighbours, nearest first.
        temperature : float

        Returns
        -------
        sums : ndarray of float32, shape (N, 5 M)
        best : ndarray of float32, shape (N,)
            Similarity of the nearest.
        """
        shape = (*index.shape, self.packed.shape[1])
        return _core.neighbour_sums(self.packed, similarity, index, shape, temperature)


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
