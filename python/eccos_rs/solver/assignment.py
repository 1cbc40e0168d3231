"""The solver alone: numpy in, numpy out, in the manner of `scipy.optimize`."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs import _core
from eccos_rs.domain.renamed import renamed
from eccos_rs.errors import Overloaded, ProblemError
from eccos_rs.solver import _arrays, _chance, _uncertain
from eccos_rs.solver._answer import (
    Alternatives,
    Assignment,
    Status,
)
from eccos_rs.solver._duals import Duals
from eccos_rs.solver.certificate import Certificate, CheckedClaim, certify
from eccos_rs.solver.chance_proof import Chance
from eccos_rs.solver.diagnosis import Diagnosis, Names, Repair, Shortfall
from eccos_rs.solver.limits import Commitment, Overage, PooledCapacity, SideRow
from eccos_rs.solver.tradeoff import Frontier, frontier

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from eccos_rs.solver._arrays import Arrays
    from eccos_rs.solver.limits import RowKind

__all__ = [
    "Alternatives",
    "Assignment",
    "Certificate",
    "Chance",
    "CheckedClaim",
    "Commitment",
    "Duals",
    "Frontier",
    "Overage",
    "PooledCapacity",
    "Repair",
    "SideRow",
    "Status",
    "assign",
    "certify",
    "frontier",
]

_STATUS = {str(status): status for status in Status}


def assign(
    cost: ArrayLike,
    quality: ArrayLike,
    *,
    min_quality: float | None = None,
    budget: float | None = None,
    quality_value: float | None = None,
    load: ArrayLike | None = None,
    capacity: ArrayLike | None = None,
    pools: Sequence[PooledCapacity] | None = None,
    rows: Sequence[SideRow | RowKind] | None = None,
    overage: Sequence[Overage] | None = None,
    minimum: Sequence[Commitment] | None = None,
    quality_std: ArrayLike | None = None,
    load_std: ArrayLike | None = None,
    confidence: float | None = None,
    allowed: ArrayLike | None = None,
    query_floor: ArrayLike | None = None,
    priority: ArrayLike | None = None,
    group: ArrayLike | None = None,
    group_min_quality: ArrayLike | None = None,
    group_budget: ArrayLike | None = None,
    overload: str = "defer",
    unroutable: str = "raise",
    tolerance: float = 1e-4,
    time_limit: float | None = None,
    node_limit: int | None = None,
    threads: int | None = None,
    warm_start: Assignment | None = None,
    alternatives: bool = False,
) -> Assignment:
    """Assign every query to one model at least cost, within a quality promise and capacities.

    Exactly one of `min_quality`, `budget` and `quality_value` says what is wanted.

    Parameters
    ----------
    cost : (N, M) array_like
        US dollars for query i answered by model j; finite, >= 0. float32 and float64 are read as they lie;
        other dtypes and arrays that are not C-contiguous are copied once.
    quality : (N, M) array_like
        Probability in [0, 1] that model j answers query i well.
    min_quality : float, optional
        Minimise the total cost with a mean quality of at least this.
    budget : float, optional
        Maximise the mean quality with a total cost of at most this, in US dollars.
    quality_value : float, optional
        Minimise cost minus this many US dollars for each well answered query.
    load : (N, M) or (R, N, M) array_like, optional
        Use of each of R limited resources; >= 0. Default: every query is one request.
    capacity : (M,) or (R, M) array_like, optional
        Limits of the load; >= 0, infinity for none. Default: none.
    pools : sequence of PooledCapacity, optional
        Capacities that several models share, beside their own.
    rows : sequence of SideRow, optional
        Limits on sums or means of other figures, over all queries or some; or kinds of limits that come to
        one, such as `ModelShare`.
    overage : sequence of Overage, optional
        Prices on loads beyond what is included; part of the cost. Not with `budget`.
    minimum : sequence of Commitment, optional
        Loads that are paid whether they are used or not; what is not used is part of the cost. Not with
        `budget`.
    quality_std, load_std : (N, M) array_like, of the shape of load, optional
        Standard deviations of `quality` and of `load`, independent from pair to pair.
    confidence : float, optional
        In [0.5, 1), with one of the two above: `min_quality` is to hold of the realised mean, and every
        capacity and pool of the realised load, with this probability each (normal sums).
    allowed : (N, M) array_like of bool, optional
        Pairs that may be chosen. Cost, quality and load of a forbidden pair may be anything, NaN too.
    query_floor : float or (N,) array_like, optional
        Least quality of the very pair chosen for each query; NaN for none.
    priority : (N,) array_like of int, optional
        Who is served first when not everything fits: higher first, then lower index.
    group : (N,) array_like of int, optional
        Group (tenant) of each query, 0..G-1, for the next two.
    group_min_quality, group_budget : (G,) array_like, optional
        Each group's own least mean quality, and its highest total cost in US dollars; NaN for none.
    overload : {"defer", "raise"}
        When the capacities hold fewer queries than there are: leave the rest without a model, or raise.
    unroutable : {"raise", "defer"}
        What to do with a query that no model may take.
    tolerance : float
        Relative gap at which an answer counts as optimal. 0 asks for branch and bound until the best is
        proven or a limit is reached: for small batches.
    time_limit : float, optional
        Seconds; then the best so far is returned with its gap.
    node_limit : int, optional
        Branch-and-bound nodes.
    threads : int, optional
        For large problems; the answer does not depend on it. Default: chosen by size.
    warm_start : Assignment, optional
        The answer to a similar problem, to start from its prices.
    alternatives : bool
        Also report each query's second choice and the change of price that would flip it.

    Returns
    -------
    Assignment
        A problem that cannot be met as asked is an answer too: see `Assignment.status` and `.explanation`.

    Raises
    ------
    ProblemError
        An argument is malformed, or a query has no model (and `unroutable` is "raise"). It is a `ValueError`.
    Overloaded
        Not everything fits and `overload` is "raise".

    Notes
    -----
    The GIL is released while the solver runs, so the arrays must not be written meanwhile. Ctrl-C ends
    a long solve. The same input gives the same bytes, at any number of threads.

    Examples
    --------
    Two queries, a cheap and a strong model. The promise is met at least cost by sending the harder one to the
    strong model:

    >>> from eccos_rs import assign
    >>> found = assign([[0.001, 0.01], [0.001, 0.01]], [[0.9, 0.95], [0.4, 0.9]], min_quality=0.9)
    >>> found.model
    array([0, 1], dtype=int32)
    >>> found.status, round(found.cost, 3), round(found.quality, 2)
    (<Status.OPTIMAL: 'optimal'>, 0.011, 0.9)
    """
    start = perf_counter()
    if overload != "defer":
        _arrays.one_of("overload", overload, ("defer", "raise"))
    asked = _arrays.goal(min_quality, budget, quality_value)
    problem = _arrays.problem(
        cost,
        quality,
        asked,
        load=load,
        capacity=capacity,
        pools=pools,
        rows=rows,
        overage=overage,
        minimum=minimum,
        allowed=allowed,
        query_floor=query_floor,
        priority=priority,
        group=group,
        group_min_quality=group_min_quality,
        group_budget=group_budget,
        unroutable=unroutable,
    )
    effort = _arrays.effort(tolerance, time_limit, node_limit, threads)
    if warm_start is not None:
        effort["warm_start"] = _warm(warm_start, asked[0])
    unsure = _uncertain.uncertain(problem, quality_std, load_std, confidence)
    chance: Chance | None = None
    if unsure is None:
        raw = _core.assign(problem, effort, alternatives)
    else:
        raw, chance = _chance.solve(problem, unsure, effort, alternatives=alternatives)
    raw["chance"] = chance
    if overload == "raise" and raw["status"] == "overloaded":
        diagnosis = _diagnosis(raw, problem)
        raise Overloaded("the capacities are below the demand" if diagnosis is None else diagnosis.text())
    return _assignment(raw, asked[0], problem, start)


def _warm(earlier: Assignment, goal: str) -> Any:
    """Take the multipliers of an earlier answer; the core leaves out those of another criterion."""
    if not isinstance(earlier, Assignment):
        raise ProblemError(f"warm_start is a {type(earlier).__name__}, wanted an Assignment")
    if earlier.goal != goal:
        return None
    duals = earlier.duals
    return (
        earlier.criterion,
        duals.requirement,
        (duals.capacity, duals.pool, duals.group_quality, duals.group_budget, duals.row, duals.priced),
    )


def _diagnosis(raw: dict[str, Any], problem: Arrays) -> Diagnosis | None:
    """Take what stands in the way and its repair from the core's answer."""
    if raw["reasons"] is None:
        return None
    causes = tuple(Shortfall(name, dict(numbers)) for name, numbers in raw["reasons"])
    names = Names(pools=tuple(problem["pool_names"]), rows=tuple(problem["row_names"]))
    return Diagnosis(causes, _repair(raw["repair"], problem), names)


def _repair(changes: tuple[Any, ...], problem: Arrays) -> Repair:
    """Make arrays of the changes, which the core lists one by one."""
    _, m, r = problem["shape"]
    floor, budget, raised, pooled, moved = changes
    more = more_pooled = limits = None
    if raised:
        more = np.zeros((r, m))
        for resource, model, by in raised:
            more[resource, model] = by
        more = more if r > 1 else more[0]
    if pooled:
        more_pooled = np.zeros(len(problem["pools"]))
        for pool, by in pooled:
            more_pooled[pool] = by
    if moved:
        limits = np.array([limit for *_, limit in problem["rows"]])
        for row, to in moved:
            limits[row] = to
    return Repair(floor, budget, more, more_pooled, limits)


def _assignment(raw: dict[str, Any], goal: str, problem: Arrays, start: float) -> Assignment:
    """Make the answer of the core's dictionary, whose other keys are the names of the fields."""
    _, m, r = problem["shape"]
    requirement, (capacity, pool, group_quality, group_budget, row, priced) = raw["duals"]
    if r > 1:
        capacity = capacity.reshape(r, m)
        raw["capacity_price"] = raw["capacity_price"].reshape(r, m)
    if raw["alternatives"] is not None:
        second, margin = raw["alternatives"]
        if raw["criterion"] == "quality":
            # The margin counts quality, and `requirement` is the quality that a dollar buys.
            with np.errstate(divide="ignore", invalid="ignore"):
                margin = margin / requirement
        raw["alternatives"] = Alternatives(second, margin)
    raw["status"] = _STATUS[raw["status"]]
    raw["goal"] = goal
    raw["duals"] = Duals.of(
        {
            "requirement": requirement,
            "capacity": capacity,
            "pool": pool,
            "row": row,
            "priced": priced,
            "group_quality": group_quality,
            "group_budget": group_budget,
        }
    )
    charge = raw.pop("charge")
    raw["charges"] = np.bincount(problem["charges"], charge) if len(charge) else charge
    raw["diagnosis"] = _diagnosis(raw, problem)
    del raw["reasons"], raw["repair"]
    raw["seconds"] = perf_counter() - start
    return Assignment.of(raw)


def __getattr__(name: str) -> Any:
    """Give what was renamed under its old name."""
    return renamed(__name__, name, {"Claim": CheckedClaim})
