"""Which queries are near each other: not only by what they are about, but by how they are written.

The sentence embedding alone is trained to forget form. Neighbours that also agree in the state of a lower
layer and in counts of word pieces share difficulty and answer length, not only topic, and forecast both
better.
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
PART_WEIGHTS = (0.4, 0.6, 0.3)
#: Components are divided by this power of their standard deviation: 0 leaves them, 1 whitens.
WHITENING = 0.15


@dataclass(frozen=True, eq=False)
class Metric:
    """Standardised states for the heads, unit vectors for the neighbours.

    Attributes
    ----------
    standardise : Standardise
        Of the states, (N, I).
    projection : ndarray of float32, shape (I, E)
        From standardised states to the space that is searched.
    """

    standardise: Standardise
    projection: Floats

    @classmethod
    def of(cls, states: Floats) -> Metric:
        """Fit it to states (N, I): low layer, sentence embedding, text features."""
        standardise = Standardise.of(states)
        sizes = (WIDTH, WIDTH, states.shape[1] - 2 * WIDTH)
        scale = np.repeat(
            [part / np.sqrt(size) for part, size in zip(PART_WEIGHTS, sizes, strict=True)], sizes
        )
        x = standardise(states).astype(np.float64) * scale
        values, vectors = np.linalg.eigh(x.T @ x / len(x))
        kept = np.argsort(-values, kind="stable")[: min(DIMENSION, len(values))]
        spread = np.sqrt(np.maximum(values[kept], 1e-9))
        projection = scale[:, None] * vectors[:, kept] / spread**WHITENING
        return cls(standardise, projection.astype(np.float32))

    def embed(self, states: Floats) -> Floats:
        """Return unit vectors of shape (N, E); the graph does the same."""
        vectors = self.standardise(states) @ self.projection
        size = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return np.asarray(vectors / size, dtype=np.float32)
