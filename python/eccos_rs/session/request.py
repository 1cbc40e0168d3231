"""A query on its way to a model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from eccos_rs.domain.query import Query
    from eccos_rs.pools.pool import Pool

__all__ = ["Costing", "PendingRequest"]


class Costing(Protocol):
    """What a query costs at each model where more is known than its forecast: prompt caches, later turns."""

    def __call__(
        self, *, input_tokens: int, output_tokens: Sequence[float], quality: Sequence[float]
    ) -> tuple[Sequence[float], Sequence[float]]:
        """Return the cost of the query, and what is added to it in the choice alone; US dollars by model."""


class PendingRequest:
    """A query from its arrival until it is served, refused or cancelled.

    Attributes
    ----------
    query : Query
    outcome : asyncio.Future
        Takes a lease or an exception.
    arrived, deadline : float
        On the session's clock; the deadline is inf for none.
    excluded : int
        Bit j is set when the caller will not have model j.
    max_cost : float
        US dollars above which a model is ruled out.
    order : tuple of (int, int)
        Priority (negated) and arrival: the place in the queue.
    alive, queued : bool
        Not yet served, refused or cancelled; and known to a `RequestQueue`.
    mask : int
        Bit j is set when model j may take it. This and the following are there once it is predicted.
    cost, quality, output_tokens, allowed : ndarray, shape (M,)
        Predicted US dollars, success, output tokens; and the pairs that may be chosen.
    tokens : sequence of int, one per model
        Tokens reserved from a limit per minute: the prompt's and the predicted output's.
    predicted : float
        When the prediction was there.
    considered : float
        When it was first decided about; NaN before.
    embedding : ndarray of float32, shape (D,), or None
        For the index that learns from feedback.
    similarity : float or None
        Cosine similarity of the nearest query with known outcomes; None where the predictor does not say.
    costing : Costing or None
        In place of prices times tokens.
    surcharge : sequence of float or None
        US dollars by model, added to the cost in the choice alone.
    """

    __slots__ = (
        "alive",
        "allowed",
        "arrived",
        "considered",
        "cost",
        "costing",
        "deadline",
        "embedding",
        "excluded",
        "input_tokens",
        "mask",
        "max_cost",
        "order",
        "outcome",
        "output_tokens",
        "pool",
        "predicted",
        "quality",
        "query",
        "queued",
        "similarity",
        "surcharge",
        "tokens",
    )

    mask: int
    cost: NDArray[np.float64]
    quality: NDArray[np.float32]
    output_tokens: NDArray[np.float64]
    allowed: NDArray[np.bool_]
    tokens: Sequence[int]
    predicted: float
    embedding: NDArray[np.float32] | None
    similarity: float | None
    input_tokens: int

    def __init__(
        self,
        query: Query,
        outcome: asyncio.Future[Any],
        pool: Pool,
        *,
        arrived: float,
        deadline: float,
        excluded: int,
        max_cost: float,
        order: tuple[int, int],
        costing: Costing | None = None,
    ) -> None:
        self.query = query
        self.outcome = outcome
        self.pool = pool
        self.arrived = arrived
        self.deadline = deadline
        self.excluded = excluded
        self.max_cost = max_cost
        self.order = order
        self.costing = costing
        self.surcharge: Sequence[float] | None = None
        self.considered = math.nan
        self.alive = True
        self.queued = False
