"""The retrieval index grows with every judged answer."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from eccos_rs.session.store.base import Judged

__all__ = ["Learner"]

logger = logging.getLogger("eccos_rs.session")


class Learner:
    """Updates a predictor with the outcomes of its predictions, where it can learn.

    Parameters
    ----------
    predictor : Predictor
        One whose `retrieval` has ``add(embedding, model, quality, log_tokens)`` learns, such as the hybrid
        and the retrieval-based predictor of a bundle.
    """

    def __init__(self, predictor: Any) -> None:
        self._retrieval = getattr(predictor, "retrieval", None)
        self._column = {name: at for at, name in enumerate(predictor.models)}
        self.learned = 0

    @property
    def able(self) -> bool:
        """Whether the predictor learns."""
        return hasattr(self._retrieval, "add")

    def learn(self, judged: Iterable[Judged]) -> None:
        """Add answers to the index; one whose query was not embedded is passed over."""
        for each in judged:
            vector = each.lease.embedding
            column = self._column.get(each.lease.model)
            if vector is None or column is None or not self.able:
                continue
            log_tokens = math.nan if each.real_tokens is None else math.log1p(each.real_tokens)
            try:
                self._retrieval.add(vector, column, each.quality, log_tokens)  # type: ignore[union-attr]
            except Exception:
                # The feedback itself is safe in the store; serving goes on with what was known before. A
                # model that was added to the router later has no column there: said once, then left alone.
                logger.exception("the retrieval index did not take the answer to lease %s", each.lease.id)
                self._column.pop(each.lease.model, None)
                continue
            self.learned += 1
