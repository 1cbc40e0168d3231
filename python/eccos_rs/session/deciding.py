"""From arrivals to waiters, and from waiters to models: the two steps of a micro-batch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from eccos_rs.errors import InputError, NoModelError
from eccos_rs.routing.problem import build_problem
from eccos_rs.solver.assignment import Assignment, assign

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from eccos_rs.predict.protocol import Prediction
    from eccos_rs.routing.policy import Policy
    from eccos_rs.routing.pool import Pool
    from eccos_rs.session.limits import Limits
    from eccos_rs.session.steering import History
    from eccos_rs.session.waiting import Waiter

__all__ = ["Decider", "Intake", "decode_mask"]


def decode_mask(mask: int, pool: Pool) -> list[str]:
    """Return the names behind a mask of models."""
    return [llm.name for at, llm in enumerate(pool) if mask >> at & 1]


class Intake:
    """Turns predicted queries into waiters that know which models may take them.

    Parameters
    ----------
    pool : Pool
    policy : Policy
    limits : Limits
    history : History
        Is told of every query that came in.
    """

    def __init__(self, pool: Pool, policy: Policy, limits: Limits, history: History) -> None:
        self._pool = pool
        self._policy = policy.replace(unroutable="defer", capacity=None)
        self._counts_tokens = limits.counts_tokens
        self._history = history
        self._no_tokens = (0,) * len(pool)
        # What no waiting will ever change: a model without slots, an answer longer than a whole minute's.
        self._never = sum(1 << at for at, model in enumerate(limits.models) if model.slots == 0)
        self._token_limits = np.array(limits.token_limits())

    def take(
        self, waiters: Sequence[Waiter], prediction: Prediction, now: float
    ) -> list[tuple[Waiter, Exception]]:
        """Fill the waiters in, row by row of the prediction.

        Parameters
        ----------
        waiters : sequence of Waiter
            N of them.
        prediction : Prediction
            N rows, columns in the order of the pool.
        now : float

        Returns
        -------
        list of (Waiter, Exception)
            Those that no model may take, or whose prediction is malformed, with the reason.
        """
        refused: list[tuple[Waiter, Exception]] = []
        sound = _sound_rows(prediction)
        if not sound.all():
            for row in np.flatnonzero(~sound).tolist():
                refused.append((waiters[row], InputError(_malformed(prediction, row))))
            rows = np.flatnonzero(sound)
            waiters, prediction = [waiters[row] for row in rows.tolist()], prediction.rows(rows)
            if not waiters:
                return refused
        problem = build_problem(self._pool, prediction, [w.query for w in waiters], self._policy)
        tokens = np.ceil(problem.output_tokens + problem.input_tokens[:, None])
        allowed = problem.allowed
        self._rule_out(waiters, allowed, problem.cost, tokens)
        usable = allowed.any(axis=1)
        if usable.any():
            self._history.add(problem.cost[usable], problem.quality[usable], tokens[usable], allowed[usable])
        packed = np.packbits(allowed, axis=1, bitorder="little")
        reserved = tokens.astype(np.int64).tolist() if self._counts_tokens else None
        inputs = problem.input_tokens.tolist()
        embedding = prediction.embedding
        for row, waiter in enumerate(waiters):
            waiter.mask = int.from_bytes(packed[row].tobytes(), "little")
            waiter.cost = problem.cost[row]
            waiter.quality = problem.quality[row]
            waiter.output_tokens = problem.output_tokens[row]
            waiter.allowed = allowed[row]
            waiter.tokens = self._no_tokens if reserved is None else reserved[row]
            waiter.input_tokens = inputs[row]
            waiter.embedding = None if embedding is None else embedding[row]
            waiter.predicted = now
            if not waiter.mask:
                reason = problem.unroutable.get(row) or self._why_none(waiter)
                name = "" if waiter.query.id is None else f" {waiter.query.id!r}"
                refused.append((waiter, NoModelError(f"no model may take query{name}: {reason}")))
        return refused

    def _rule_out(
        self,
        waiters: Sequence[Waiter],
        allowed: NDArray[np.bool_],
        cost: NDArray[np.float64],
        tokens: NDArray[np.float64],
    ) -> None:
        if self._counts_tokens:
            allowed &= tokens <= self._token_limits
        for row, waiter in enumerate(waiters):
            excluded = waiter.excluded | self._never
            if excluded:
                allowed[row] &= [not excluded >> at & 1 for at in range(len(self._pool))]
            if waiter.max_cost < math.inf:
                allowed[row] &= cost[row] <= waiter.max_cost

    def _why_none(self, waiter: Waiter) -> str:
        reasons = []
        if waiter.excluded:
            reasons.append(f"excluded are {', '.join(decode_mask(waiter.excluded, self._pool))}")
        if waiter.max_cost < math.inf:
            reasons.append(
                f"the cheapest costs ${float(waiter.cost.min()):.6g}, above ${waiter.max_cost:.6g}"
            )
        if self._never:
            reasons.append(f"without a slot are {', '.join(decode_mask(self._never, self._pool))}")
        if self._counts_tokens:
            reasons.append("its tokens are more than some models take in a whole minute")
        return "; ".join(reasons)


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


class Decider:
    """Assigns a micro-batch jointly, at the stream's prices, to what is free now."""

    def __init__(self, limits: Limits, policy: Policy) -> None:
        self._limits = limits
        self._policy = policy
        self._warm: Assignment | None = None

    def decide(
        self,
        batch: Sequence[Waiter],
        *,
        price: float,
        premium: NDArray[np.float64],
        bias: Sequence[float],
        now: float,
        closed: int,
    ) -> tuple[list[int], list[int], NDArray[np.float64], int]:
        """Choose a model for each waiter, or none for now.

        Parameters
        ----------
        batch : sequence of Waiter
            In the order of the queue.
        price : float
            US dollars for one more success.
        premium : ndarray of float64, shape (M,)
            US dollars added to the cost of each model, for its capacity.
        bias : sequence of float, one a model
            Added to its predicted quality.
        now : float
        closed : int
            Bit j is set when nobody may go to model j in this round.

        Returns
        -------
        chosen, runner : list of int
            Index of the model, -1 for none.
        quality : ndarray of float64, shape (N, M)
            Corrected by `bias`, in [0, 1].
        closed : int
            With the models that somebody in front waits for until enough tokens are free.
        """
        rooms = self._limits.room(now)
        is_open = np.array([room >= 1 and not closed >> at & 1 for at, room in enumerate(rooms)])
        quality = np.array([waiter.quality for waiter in batch], dtype=np.float64)
        if any(bias):
            quality = np.clip(quality + bias, 0.0, 1.0)
        allowed = np.array([waiter.allowed for waiter in batch]) & is_open
        if self._limits.counts_tokens:
            closed = self._keep_places(batch, allowed, closed, now)
        rows = np.flatnonzero(allowed.any(axis=1))
        if not len(rows):
            nobody = [-1] * len(batch)
            return nobody, nobody, quality, closed
        cost = np.array([waiter.cost for waiter in batch]) + premium
        if len(rows) == len(batch):
            found = self._assign(
                batch, cost=cost, quality=quality, allowed=allowed, rooms=rooms, price=price, now=now
            )
            others = found.alternatives
            runner = found.model if others is None else others.model
            return found.model.tolist(), runner.tolist(), quality, closed
        some = [batch[row] for row in rows.tolist()]
        found = self._assign(
            some,
            cost=cost[rows],
            quality=quality[rows],
            allowed=allowed[rows],
            rooms=rooms,
            price=price,
            now=now,
        )
        chosen, second = np.full((2, len(batch)), -1, dtype=np.int64)
        chosen[rows] = found.model
        if found.alternatives is not None:
            second[rows] = found.alternatives.model
        return chosen.tolist(), second.tolist(), quality, closed

    def _assign(
        self,
        batch: Sequence[Waiter],
        *,
        cost: NDArray[np.float64],
        quality: NDArray[np.float64],
        allowed: NDArray[np.bool_],
        rooms: list[float],
        price: float,
        now: float,
    ) -> Assignment:
        load = capacity = None
        if self._limits.counts_tokens:
            load = np.ones((2, *cost.shape))
            load[1] = [waiter.tokens for waiter in batch]
            capacity = np.array([rooms, self._limits.token_room(now)], dtype=np.float64)
        elif min(rooms) < len(batch):
            capacity = np.array(rooms, dtype=np.float64)
        self._warm = assign(
            cost,
            quality,
            quality_value=price,
            load=load,
            capacity=capacity,
            allowed=None if allowed.all() else allowed,
            warm_start=self._warm if capacity is not None and self._same_rows(capacity) else None,
            alternatives=True,
            tolerance=self._policy.tolerance,
            time_limit=self._policy.time_limit,
        )
        return self._warm

    def _same_rows(self, capacity: NDArray[np.float64]) -> bool:
        return self._warm is not None and self._warm.duals.capacity.shape == capacity.shape

    def _keep_places(
        self, batch: Sequence[Waiter], allowed: NDArray[np.bool_], closed: int, now: float
    ) -> int:
        """Take models away from those behind somebody who waits there for more tokens than are free now.

        Without this, small queries would use up what comes free and a large one would wait for ever.
        """
        free = self._limits.token_room(now)
        for row, waiter in enumerate(batch):
            short = 0
            for at in np.flatnonzero(allowed[row]).tolist():
                if closed >> at & 1 or waiter.tokens[at] > free[at]:
                    allowed[row, at] = False
                    short |= 1 << at
            if not allowed[row].any():
                closed |= short
        return closed
