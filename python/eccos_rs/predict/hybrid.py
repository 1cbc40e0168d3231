"""Heads and neighbours blended, then calibrated: the predictor used unless another is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eccos_rs.predict.calibration import blend
from eccos_rs.predict.trained import BundlePredictor, head_scores, neighbour_scores

if TYPE_CHECKING:
    from eccos_rs.predict.calibration import Scores
    from eccos_rs.predict.encoder import Encoded
    from eccos_rs.predict.neighbours import NeighbourEstimate

__all__ = ["HybridPredictor"]


class HybridPredictor(BundlePredictor):
    """A blend, in log odds for success and in log tokens for length, of the heads and the neighbours."""

    kind = "hybrid"

    def _scores(self, encoded: Encoded, estimate: NeighbourEstimate | None) -> Scores:
        assert estimate is not None  # uses_neighbours
        return blend(
            head_scores(encoded),
            neighbour_scores(estimate),
            success_weight=self._calibration.success_weight,
            length_weight=self._calibration.length_weight,
        )
