"""Admission: from predicted queries to pending requests that know which models may take them."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

import numpy as np

from eccos_rs.errors import InputError, NoModelError
from eccos_rs.routing.problem import build_problem
from eccos_rs.routing.warnings import known_similarity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from eccos_rs.pools.pool import Pool
    from eccos_rs.predict.protocol import Prediction
    from eccos_rs.routing.policy import Policy
    from eccos_rs.routing.problem import Problem
    from eccos_rs.session.control.dual import History
    from eccos_rs.session.limits.base import RateLimiter
    from eccos_rs.session.request import PendingRequest

__all__ = ["Admission"]

logger = logging.getLogger("eccos_rs.session")

_MOST_TOKENS = 2.0**53
"""More cannot be counted exactly, and no limit is as large."""


def model_names(mask: int, pool: Pool) -> list[str]:
    """Return the names behind a mask of models."""
    return [llm.name for at, llm in enumerate(pool) if mask >> at & 1]


class Admission:
    """Fills pending requests in with what is predicted of them.

    Parameters
    ----------
    pool : Pool
    policy : Policy
    limits : RateLimiter
    history : History
        Is told of every query that came in.
    """

    def __init__(self, pool: Pool, policy: Policy, limits: RateLimiter, history: History) -> None:
        self._pool = pool
        self._policy = policy.replace(unroutable="defer", capacity=None)
        self._counts_tokens = limits.counts_tokens
        self._history = history
        self._no_tokens = (0,) * len(pool)
        # No waiting changes these: a model without slots, an answer longer than a whole minute's tokens.
        self._token_limits = np.array(limits.most_tokens, dtype=np.float64)
        self._never = sum(1 << at for at, most in enumerate(limits.most_tokens) if most < 0)

    def take(
        self, requests: Sequence[PendingRequest], prediction: Prediction, now: float
    ) -> list[tuple[PendingRequest, Exception]]:
        """Fill the requests in, row by row of the prediction.

        Parameters
        ----------
        requests : sequence of PendingRequest
            N of them.
        prediction : Prediction
            N rows, columns in the order of the pool.
        now : float

        Returns
        -------
        list of (PendingRequest, Exception)
            Those that no model may take, whose prediction is malformed, or that cannot be put into a problem,
            with the reason.
        """
        try:
            return self._take(requests, prediction, now)
        except Exception as error:
            if len(requests) == 1:
                return [(requests[0], error)]
        # One request that cannot be put into a problem fails alone.
        logger.exception("a micro-batch of %d could not be built; each request is built alone", len(requests))
        return [
            refused
            for row, request in enumerate(requests)
            for refused in self.take([request], prediction.rows(slice(row, row + 1)), now)
        ]

    def _take(
        self, requests: Sequence[PendingRequest], prediction: Prediction, now: float
    ) -> list[tuple[PendingRequest, Exception]]:
        refused: list[tuple[PendingRequest, Exception]] = []
        sound = _sound_rows(prediction)
        if not sound.all():
            for row in np.flatnonzero(~sound).tolist():
                refused.append((requests[row], InputError(_malformed(prediction, row))))
            rows = np.flatnonzero(sound)
            requests, prediction = [requests[row] for row in rows.tolist()], prediction.rows(rows)
            if not requests:
                return refused
        problem = build_problem(self._pool, prediction, [w.query for w in requests], self._policy)
        tokens = np.ceil(problem.output_tokens + problem.input_tokens[:, None])
        allowed = problem.allowed
        _count_conversations(requests, problem)
        self._rule_out(requests, allowed, problem.cost, tokens)
        packed = np.packbits(allowed, axis=1, bitorder="little")
        reserved = np.minimum(tokens, _MOST_TOKENS).astype(np.int64).tolist() if self._counts_tokens else None
        inputs = problem.input_tokens.tolist()
        embedding = prediction.embedding
        usable = allowed.any(axis=1) & np.isfinite(problem.cost).all(axis=1)
        if usable.any():
            self._history.add(problem.cost[usable], problem.quality[usable], tokens[usable], allowed[usable])
        for row, request in enumerate(requests):
            request.mask = int.from_bytes(packed[row].tobytes(), "little")
            request.cost = problem.cost[row]
            request.quality = problem.quality[row]
            request.output_tokens = problem.output_tokens[row]
            request.allowed = allowed[row]
            request.tokens = self._no_tokens if reserved is None else reserved[row]
            request.input_tokens = inputs[row]
            request.embedding = None if embedding is None else embedding[row]
            request.similarity = known_similarity(prediction.similarity, row)
            request.predicted = now
            if not request.mask:
                reason = problem.unroutable.get(row) or self._why_none(request)
                name = "" if request.query.id is None else f" {request.query.id!r}"
                refused.append((request, NoModelError(f"no model may take query{name}: {reason}")))
        return refused

    def _rule_out(
        self,
        requests: Sequence[PendingRequest],
        allowed: NDArray[np.bool_],
        cost: NDArray[np.float64],
        tokens: NDArray[np.float64],
    ) -> None:
        if self._counts_tokens:
            allowed &= tokens <= self._token_limits
        for row, request in enumerate(requests):
            excluded = request.excluded | self._never
            if excluded:
                allowed[row] &= [not excluded >> at & 1 for at in range(len(self._pool))]
            if request.max_cost < math.inf:
                allowed[row] &= cost[row] <= request.max_cost

    def _why_none(self, request: PendingRequest) -> str:
        reasons = []
        if request.excluded:
            reasons.append(f"excluded are {', '.join(model_names(request.excluded, self._pool))}")
        if request.max_cost < math.inf:
            reasons.append(
                f"the cheapest costs ${float(request.cost.min()):.6g}, above ${request.max_cost:.6g}"
            )
        if self._never:
            reasons.append(f"without a slot are {', '.join(model_names(self._never, self._pool))}")
        if self._counts_tokens:
            reasons.append("its tokens are more than some models take in a whole minute")
        return "; ".join(reasons)


def _count_conversations(requests: Sequence[PendingRequest], problem: Problem) -> None:
    """Put the costs of requests that bring their own into the problem."""
    for row, request in enumerate(requests):
        if request.costing is not None:
            cost, request.surcharge = request.costing(
                input_tokens=int(problem.input_tokens[row]),
                output_tokens=problem.output_tokens[row].tolist(),
                quality=problem.quality[row].tolist(),
            )
            problem.cost[row] = cost


def _sound_rows(prediction: Prediction) -> NDArray[np.bool_]:
    quality, tokens = prediction.quality, prediction.output_tokens
    # NaN fails every comparison.
    sound = (quality >= 0) & (quality <= 1) & (tokens >= 0) & (tokens < np.inf)
    rows: NDArray[np.bool_] = sound.all(axis=1) & (prediction.input_tokens >= 0)
    return rows


def _malformed(prediction: Prediction, row: int) -> str:
    return (
        f"prediction: got quality {prediction.quality[row].tolist()}, output_tokens "
        f"{prediction.output_tokens[row].tolist()}, input_tokens {int(prediction.input_tokens[row])}; "
        "wanted quality in [0, 1] and finite tokens of at least 0"
    )
