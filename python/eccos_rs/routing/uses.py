"""What a plan uses of the limits that are neither a model's own nor the goal, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from eccos_rs.routing.problem import Problem
    from eccos_rs.solver.assignment import Assignment
    from eccos_rs.solver.limits import Commitment, Overage, PooledCapacity, SideRow

__all__ = ["LimitUse", "charges", "limit_uses", "use_words"]


@dataclass(frozen=True, slots=True)
class LimitUse:
    """What a plan uses of one limit.

    Attributes
    ----------
    name : str
    kind : {"shared", "side", "overage", "minimum"}
        A capacity that models share, a side limit, use beyond what is included, a commitment.
    used : float
        Requests, tokens, or the figure of a side limit: its sum, or its mean.
    limit : float
        What it may be at most (side limits with `at_least`: at least), what is included, or committed.
    at_least : bool
    price : float or None
        US dollars for one more unit of the limit, as the plan weighs it; None where no money buys more, and
        with a budget.
    charge : float
        US dollars in the plan's cost for use beyond what is included, or for what is not used.
    """

    name: str
    kind: Literal["shared", "side", "overage", "minimum"]
    used: float
    limit: float
    at_least: bool = False
    price: float | None = 0.0
    charge: float = 0.0


def limit_uses(problem: Problem, answer: Assignment) -> tuple[LimitUse, ...]:
    """Return what an answer uses of each shared capacity, side limit, overage and commitment."""
    uses = _uses(problem, answer)
    if answer.goal != "budget":
        return tuple(replace(use, price=None) if use.price == np.inf else use for use in uses)
    return tuple(replace(use, price=None) for use in uses)


def _uses(problem: Problem, answer: Assignment) -> Iterator[LimitUse]:
    rows = np.flatnonzero(answer.model >= 0)
    models = answer.model[rows]
    for pool, price in zip(problem.pools, answer.pool_price.tolist(), strict=True):
        yield LimitUse(pool.name, "shared", _load(problem, pool, rows, models), pool.capacity, price=price)
    for row, price in zip(problem.rows, answer.row_price.tolist(), strict=True):
        yield _side(row, price, rows, models)
    priced: tuple[Overage | Commitment, ...] = (*problem.overage, *problem.minimum)
    first = np.cumsum([0, *(len(each.tiers) for each in problem.overage), *(1 for _ in problem.minimum)])
    for at, (each, charge) in enumerate(zip(priced, answer.charges.tolist(), strict=True)):
        price = float(answer.duals.priced[first[at] : first[at + 1]].sum())
        used = _load(problem, each, rows, models)
        if at < len(problem.overage):
            included = float(each.tiers[0][0])  # type: ignore[union-attr]  # an overage
            yield LimitUse(each.name, "overage", used, included, price=price, charge=charge)
        else:
            committed = float(each.load)  # type: ignore[union-attr]  # a commitment
            yield LimitUse(each.name, "minimum", used, committed, price=price, charge=charge)


def _load(
    problem: Problem,
    over: PooledCapacity | Overage | Commitment,
    rows: NDArray[np.intp],
    models: NDArray[np.int32] | NDArray[np.int64],
) -> float:
    own = np.isin(models, np.asarray(over.models))
    if problem.load is None:
        return float(own.sum())
    return float(problem.load[over.resource, rows[own], models[own]].sum())


def _side(row: SideRow, price: float, rows: NDArray[np.intp], models: NDArray[np.int32]) -> LimitUse:
    counted = np.ones(len(rows), bool) if row.members is None else np.asarray(row.members, bool)[rows]
    figures = np.asarray(row.values, np.float64)[rows[counted], models[counted]]
    used = float(figures.sum()) if not row.mean else float(figures.mean()) if len(figures) else 0.0
    limit = row.at_least if row.at_most is None else row.at_most
    assert limit is not None  # a row has one of both
    return LimitUse(row.name, "side", used, float(limit), at_least=row.at_most is None, price=price)


def charges(problem: Problem, model: NDArray[np.int64]) -> float:
    """Return the US dollars of overages and commitments where queries go to these models, (N,)."""
    rows = np.flatnonzero(model >= 0)
    total = 0.0
    for each in problem.overage:
        used, last = _load(problem, each, rows, model[rows]), 0.0
        for level, price in each.tiers:
            total += max(used - level, 0.0) * (price - last)
            last = price
    for least in problem.minimum:
        total += max(least.load - _load(problem, least, rows, model[rows]), 0.0) * least.price
    return total


def use_words(use: LimitUse, money: Callable[[float], str]) -> str:
    """Say what is used of a limit, with sums of money as `money` writes them."""
    used, limit = f"{use.used:,.6g}", f"{use.limit:,.6g}"
    worth = f"; one unit more is worth {money(use.price)}" if use.price else ""
    if use.kind == "overage":
        beyond = max(use.used - use.limit, 0.0)
        words = (
            f"{used}, of which {beyond:,.6g} beyond the {limit} that are included, for {money(use.charge)}"
        )
        return words if beyond else f"{used} of the {limit} that are included"
    if use.kind == "minimum":
        left = max(use.limit - use.used, 0.0)
        words = f"{used} of the {limit} committed to; {left:,.6g} unused are paid with {money(use.charge)}"
        return words if left else f"{used}, all of the {limit} committed to"
    return f"{used} of {'at least' if use.at_least else 'at most'} {limit}{worth}"
