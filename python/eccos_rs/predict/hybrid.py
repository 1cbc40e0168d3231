"""Heads and neighbours blended, then calibrated: the predictor used unless another is asked for."""

from __future__ import annotations

from eccos_rs.predict.trained import BundlePredictor

__all__ = ["HybridPredictor"]


class HybridPredictor(BundlePredictor):
    """A blend, in log odds for success and in log tokens for length, of the heads and the neighbours."""

    kind = "hybrid"
