"""Why a query has the model it has: first as data, then once as a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from eccos_rs.routing.problem import Problem
    from eccos_rs.solver.assignment import Assignment
    from eccos_rs.solver.limits import Commitment, Overage

__all__ = ["Reason", "ReasonCode", "find_reason", "reason_text"]


class ReasonCode(StrEnum):
    """The kinds of reason; stable, for programs and metrics."""

    NO_MODEL = "no_model"
    NO_CAPACITY = "no_capacity"
    ONLY_MODEL = "only_model"
    CAPACITY_TAKEN = "capacity_taken"
    LIMIT_PRICED = "limit_priced"
    NEAR_TIE = "near_tie"
    WORTH_MORE = "worth_more"
    CHEAPEST_AND_BEST = "cheapest_and_best"
    CHEAPEST_SUFFICES = "cheapest_suffices"
    CHEAPEST = "cheapest"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why one query has its model.

    Attributes
    ----------
    code : ReasonCode
    other : int or None
        Column of the model that the reason compares with.
    points : float
        Percentage points of predicted success gained or given up against it.
    cost : float
        US dollars paid beyond it.
    detail : str
        For `NO_MODEL`: why each model is ruled out; for `LIMIT_PRICED`: the limit.
    """

    code: ReasonCode
    other: int | None = None
    points: float = 0.0
    cost: float = 0.0
    detail: str = ""


def find_reason(problem: Problem, answer: Assignment, index: int) -> Reason:
    """Return why query `index` has the model that the answer gives it."""
    column = int(answer.model[index])
    if index in problem.unroutable:
        return Reason(ReasonCode.NO_MODEL, detail=problem.unroutable[index])
    if column < 0:
        return Reason(ReasonCode.NO_CAPACITY)
    open_to = np.flatnonzero(problem.allowed[index])
    if len(open_to) == 1:
        return Reason(ReasonCode.ONLY_MODEL)
    preferred = int(open_to[_reduced_cost(problem, answer, index)[open_to].argmin()])
    if preferred != column and (kept := _kept_away(problem, answer, index, preferred, column)):
        return kept
    others = answer.alternatives
    # A negative change: a limit keeps the query away from its own best choice. NaN compares false.
    if others is not None and float(others.price_change[index]) < 0:
        return Reason(ReasonCode.NEAR_TIE, int(others.model[index]))
    return _against_the_cheapest(problem, answer, index, column, open_to)


def _is_priced(problem: Problem, answer: Assignment, column: int) -> bool:
    """Say whether room at a model, of its own or shared, costs something."""
    shared = zip(problem.pools, answer.pool_price, strict=True)
    return bool(np.any(answer.capacity_price[..., column] > 0)) or any(
        price > 0 and column in np.asarray(pool.models) for pool, price in shared
    )


def _kept_away(
    problem: Problem, answer: Assignment, index: int, preferred: int, column: int
) -> Reason | None:
    """Return the limit whose price speaks for `column` against the preferred one; None: none does."""
    if _is_priced(problem, answer, preferred):
        return Reason(ReasonCode.CAPACITY_TAKEN, preferred)
    found: list[tuple[float, str]] = []
    for row, price in zip(problem.rows, answer.duals.row.tolist(), strict=True):
        more = float(np.subtract(*np.asarray(row.values)[index, [preferred, column]]))
        if row.members is None or np.asarray(row.members)[index]:
            found.append((price * (more if row.at_least is None else -more), row.name))
    prices = iter(answer.duals.priced.tolist())
    for each in problem.overage:
        price = sum(next(prices) for _ in each.tiers)
        found.append((price * _more_load(problem, each, index, preferred, column), each.name))
    for least in problem.minimum:
        found.append((-next(prices) * _more_load(problem, least, index, preferred, column), least.name))
    worth, name = max(found, default=(0.0, ""))
    return Reason(ReasonCode.LIMIT_PRICED, preferred, detail=name) if worth > 0 else None


def _more_load(
    problem: Problem, over: Overage | Commitment, index: int, preferred: int, column: int
) -> float:
    """Return by how much more of a load one model uses for a query than another does."""
    member = np.asarray(over.models)
    one, other = (
        (1.0 if problem.load is None else float(problem.load[over.resource, index, at])) * (at in member)
        for at in (preferred, column)
    )
    return one - other


def _reduced_cost(problem: Problem, answer: Assignment, index: int) -> NDArray[np.float64]:
    """Return cost minus the worth of quality for each model, the capacities left aside."""
    worth = answer.duals.requirement
    cost, quality = problem.cost[index], problem.quality[index]
    # Under a budget the multiplier is quality for a dollar, else dollars for quality.
    reduced = worth * cost - quality if answer.goal == "budget" else cost - worth * quality
    return np.asarray(reduced, dtype=np.float64)


def _against_the_cheapest(
    problem: Problem, answer: Assignment, index: int, column: int, open_to: NDArray[np.intp]
) -> Reason:
    cost, quality = problem.cost[index], 100 * problem.quality[index].astype(np.float64)
    cheapest = int(open_to[cost[open_to].argmin()])
    extra = float(cost[column] - cost[cheapest])
    if extra > 0:
        return Reason(ReasonCode.WORTH_MORE, cheapest, float(quality[column] - quality[cheapest]), extra)
    missed = float(quality[open_to].max() - quality[column])
    if missed <= 0:
        return Reason(ReasonCode.CHEAPEST_AND_BEST)
    if answer.goal == "min_quality" and answer.duals.requirement == 0:
        return Reason(ReasonCode.CHEAPEST_SUFFICES)
    return Reason(ReasonCode.CHEAPEST, points=missed)


_SENTENCES = {
    ReasonCode.NO_MODEL: "deferred: no model may take it: {detail}",
    ReasonCode.NO_CAPACITY: "deferred: the capacities hold no more",
    ReasonCode.ONLY_MODEL: "the only model it may take",
    ReasonCode.CAPACITY_TAKEN: "{other} would suit it better, but its capacity is taken",
    ReasonCode.LIMIT_PRICED: "{other} would suit it better, but for what it adds to {detail}",
    ReasonCode.NEAR_TIE: "near a tie with {other}: chosen so that the whole batch keeps its limits",
    ReasonCode.WORTH_MORE: "{points:+.1f} points over {other} for ${cost:.6f} more",
    ReasonCode.CHEAPEST_AND_BEST: "both the cheapest and the most likely to succeed",
    ReasonCode.CHEAPEST_SUFFICES: "the cheapest; the promise is kept without paying for more",
    ReasonCode.CHEAPEST: "the cheapest; another's gain of up to {points:.1f} points is not worth its price",
}


def reason_text(reason: Reason, names: Sequence[str]) -> str:
    """Return a reason as a sentence, with the names of the pool's columns."""
    other = "" if reason.other is None else names[reason.other]
    return _SENTENCES[reason.code].format(
        other=other, points=reason.points, cost=reason.cost, detail=reason.detail
    )
