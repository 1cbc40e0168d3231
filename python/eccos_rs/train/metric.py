"""Which queries are near each other: once by what they are about, once by how they are written.

The sentence embedding is trained to forget form, which a layer below it still holds. Neighbours are found by
the one and the kernel regression compares by the other, each together with counts of word pieces: two views
that err apart, so that their blend is better than the blend of two forecasts from one and the same view.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eccos_rs.train.encoder import WIDTH
from eccos_rs.train.heads import Standardise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

__all__ = ["DIMENSION", "Metric"]

#: Length of the vectors that are searched; further principal components only cost time.
DIMENSION = 256
#: Weights of the low layer's mean, of the sentence embedding and of the text features.
NEIGHBOUR_PARTS = (0.0, 1.0, 0.3)
KERNEL_PARTS = (1.0, 0.0, 0.3)
#: Components are divided by this power of their standard deviation: 0 leaves them, 1 whitens.
WHITENING = 0.15


@dataclass(frozen=True, eq=False)
class Metric:
    """Standardised states for the heads, unit vectors for the neighbours and for the kernel regression.

    Attributes
    ----------
    standardise : Standardise
        Of the states, (N, I).
    projection : ndarray of float32, shape (I, E)
        From standardised states to the space that is searched.
    kernel_projection : ndarray of float32, shape (I, E)
        From the same to the space in which the kernel regression compares.
    """

    standardise: Standardise
    projection: Floats
    kernel_projection: Floats

    @classmethod
    def of(cls, states: Floats) -> Metric:
        """Fit it to states (N, I): low layer, sentence embedding, text features."""
        standardise = Standardise.of(states)
        x = standardise(states).astype(np.float64)
        covariance = x.T @ x / len(x)
        projections = [_projection(covariance, parts) for parts in (NEIGHBOUR_PARTS, KERNEL_PARTS)]
        return cls(standardise, *projections)

    def embed(self, states: Floats) -> Floats:
        """Return unit vectors of shape (N, E); the graph does the same."""
        vectors = self.standardise(states) @ self.projection
        size = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return np.asarray(vectors / size, dtype=np.float32)


def _projection(covariance: NDArray[np.float64], parts: tuple[float, float, float]) -> Floats:
    """Weigh the parts of the states, keep the principal components and even them out a little."""
    sizes = (WIDTH, WIDTH, len(covariance) - 2 * WIDTH)
    scale = np.repeat([part / np.sqrt(size) for part, size in zip(parts, sizes, strict=True)], sizes)
    values, vectors = np.linalg.eigh(scale[:, None] * covariance * scale)
    kept = np.argsort(-values, kind="stable")[: min(DIMENSION, len(values))]
    spread = np.sqrt(np.maximum(values[kept], 1e-9))
    return np.asarray(scale[:, None] * vectors[:, kept] / spread**WHITENING, dtype=np.float32)
