"""A predictor of one's own: anything that has `models` and `predict` can route.

This one goes by the length of the query alone. It is no good, but it is all that a router asks for.
"""

from collections.abc import Sequence

import numpy as np

from eccos_rs import LLM, Pool, Prediction, Query, Router


class ByLength:
    """Long questions are hard, and the small model feels it more."""

    models = ("small", "large")

    def predict(self, queries: Sequence[Query]) -> Prediction:
        """Predict every query for every model."""
        length = np.array([len(query.prompt) for query in queries], dtype=np.float64)
        hardness = np.log1p(length)[:, None] / 8 * np.array([1.0, 0.5])
        quality = np.clip(1.0 - hardness, 0.05, 0.95).astype(np.float32)
        tokens = np.repeat(50 + length[:, None] / 2, 2, axis=1).astype(np.float32)
        return Prediction(
            models=self.models,
            quality=quality,
            output_tokens=tokens,
            quality_std=np.full(quality.shape, 0.2, dtype=np.float32),
            log_tokens_std=np.full(quality.shape, 0.7, dtype=np.float32),
            input_tokens=(1 + length / 4).astype(np.int64),
        )


pool = Pool(
    [LLM("small", input_price=0.1, output_price=0.4), LLM("large", input_price=2.5, output_price=10.0)]
)
router = Router(pool, ByLength())
print(
    router.route(
        ["Hi", "What is 12 * 12?", "Compare three proofs that e is irrational. " * 10], min_quality=0.6
    )
)
