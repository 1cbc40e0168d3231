"""What a log has counted: lengths that need no forecast, and what they say of the other models'."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from eccos_rs.domain.pricing import model_cost
from eccos_rs.pools.columns import find_column
from eccos_rs.predict.prior.learned import LearnedPredictor, ModelOutcome
from eccos_rs.start.usage import Used

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from eccos_rs.pools.pool import Pool
    from eccos_rs.routing.router import Router
    from eccos_rs.start.log import Entry, Log

__all__ = ["Measured", "measured_costs", "sum_counts", "update_lengths"]

MOST_LEARNED = 1_000
"""So many requests are learned from, spread over the log: a model's level is settled by then."""


class Measured(NamedTuple):
    """What was counted of one model of the pool.

    Parameters
    ----------
    used : Used
        Answers and their tokens.
    cost : float
        US dollars for them at the pool's prices, all input at its full price.
    """

    used: Used
    cost: float


def sum_counts(entries: Sequence[Entry], pool: Pool) -> dict[str, Measured]:
    """Return what a log counts of each model of the pool; of those that it does not name, nothing."""
    total: dict[str, Measured] = {}
    for entry in entries:
        for at, used in _columns(entry, pool):
            held = total.get(pool.names[at], Measured(Used(), 0.0))
            cost = used.answers * model_cost(pool[at], *used.means)
            total[pool.names[at]] = Measured(held.used + used, held.cost + cost)
    return total


def measured_costs(entries: Sequence[Entry], pool: Pool) -> NDArray[np.float64]:
    """Return US dollars of one answer to each request, (N, M); NaN where the log counts none."""
    cost = np.full((len(entries), len(pool)), np.nan)
    for row, entry in enumerate(entries):
        for at, used in _columns(entry, pool):
            cost[row, at] = model_cost(pool[at], *used.means)
    return cost


def update_lengths(router: Router, log: Log) -> None:
    """Let a router learn the lengths that a log counts: of its models, and by ratio of the others."""
    pool = router.pool
    counted = [entry for entry in log.entries if _columns(entry, pool)]
    step = max(len(counted) / MOST_LEARNED, 1.0)
    queries, outcomes = [], []
    for entry in (counted[int(at * step)] for at in range(min(len(counted), MOST_LEARNED))):
        for at, used in _columns(entry, pool):
            sent, answer = used.means
            queries.append(entry.query)
            outcomes.append(ModelOutcome(pool.names[at], float("nan"), answer, input_tokens=sent))
    if outcomes:
        base = router.predictor
        learned = base.copy() if isinstance(base, LearnedPredictor) else LearnedPredictor(base)
        learned.learn(queries, outcomes)
        router.predictor = learned


def _columns(entry: Entry, pool: Pool) -> list[tuple[int, Used]]:
    found = ((find_column(name, pool), used) for name, used in entry.used.items())
    return [(at, used) for at, used in found if at >= 0]
