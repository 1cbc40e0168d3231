"""The retrieval index grows with every judged answer."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.online.journal import unpack_embedding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eccos_rs.online.journal import Judged

__all__ = ["Learner"]

logger = logging.getLogger("eccos_rs.online")


class Learner:
    """Teaches a predictor what came of its predictions, when it can be taught.

    Parameters
    ----------
    predictor : Predictor
        One with ``add(embedding, quality, output_tokens)`` learns: arrays of shape (n, D), (n, M) and (n, M),
        columns in the order of its models, NaN where nothing is known.
    """

    def __init__(self, predictor: Any) -> None:
        self._add = getattr(predictor, "add", None)
        self._models: tuple[str, ...] = predictor.models
        self.learned = 0

    @property
    def able(self) -> bool:
        """Whether the predictor learns."""
        return callable(self._add)

    def learn(self, judged: Sequence[Judged]) -> None:
        """Add answers to the index; those whose query was not embedded are passed over."""
        rows = [(each, unpack_embedding(each.lease.embedding)) for each in judged]
        known = [
            (each, vector)
            for each, vector in rows
            if vector is not None and each.first and each.lease.model in self._models
        ]
        if not known or self._add is None:
            return
        quality = np.full((len(known), len(self._models)), np.nan, dtype=np.float32)
        tokens = quality.copy()
        for row, (each, _) in enumerate(known):
            column = self._models.index(each.lease.model)
            quality[row, column] = each.quality
            tokens[row, column] = math.nan if each.real_tokens is None else each.real_tokens
        try:
            self._add(np.stack([vector for _, vector in known]), quality, tokens)
        except Exception:
            # The feedback itself is safe in the store; serving goes on with what was known before.
            logger.exception("the retrieval index did not take %d judged answers", len(known))
            return
        self.learned += len(known)
