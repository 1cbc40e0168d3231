"""From a policy to the solver's goal: relative promises, and the margin of a promise for one batch."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.routing.uncertainty import labels_needed, quality_std
from eccos_rs.routing.unmet import BudgetNotAssured, QualityNotAssured
from eccos_rs.solver.assignment import Assignment, Status, assign
from eccos_rs.solver.diagnosis import Diagnosis

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eccos_rs.routing.policy import Policy
    from eccos_rs.routing.problem import Problem

__all__ = ["Margin", "lower_bound", "solve"]

_ENOUGH = 1e-5
"""A margin is not refined below this, in units of mean quality; for a budget, as a part of it."""

_ROUNDS = 10


@dataclass(frozen=True, slots=True)
class Margin:
    """What it takes to promise a quality, or to keep a budget, for this very batch.

    Attributes
    ----------
    confidence : float
        The probability with which the batch keeps what was promised.
    points : float
        How far the predicted mean lies above `lower_bound`, in units of mean quality.
    lower_bound : float
        What the realised mean success reaches with that probability.
    cost : float
        US dollars that the margin adds to promising the expectation alone; for a budget, what is held back of
        it.
    kept : bool
        Whether `lower_bound` reaches the promise; for a budget, whether `upper_cost` stays within it.
    level_error : float
        The part of the uncertainty that all queries of the batch share, as a standard deviation of the mean
        quality: how well the level of each model is known, and how hard foreign traffic is.
    labels : int or None
        Labelled queries of this traffic (every model on each) that would back a promise that is not kept; 0
        for one that is kept, None where no number would.
    upper_cost : float or None
        US dollars that the realised cost stays below with that probability.

    Notes
    -----
    The bound is ``mean p - z sqrt(mean p (1 - p) / n + level_error^2)``: a normal bound on a mean of n
    independent coin flips with the predicted probabilities p, which share an error of their level; see
    `eccos_rs.routing.uncertainty`. It assumes that the probabilities are calibrated for the pairs that were
    chosen and that the queries succeed independently given them. An error of single probabilities that is
    independent of the others adds nothing: a flip with an uncertain probability of mean p has the same
    variance p (1 - p). The normal bound is not good below some thirty queries.
    """

    confidence: float
    points: float
    lower_bound: float
    cost: float
    kept: bool
    level_error: float = 0.0
    labels: int | None = 0
    upper_cost: float | None = None


def lower_bound(quality: NDArray[np.float64], confidence: float, level_error: float = 0.0) -> float:
    """Return what the realised mean reaches with this confidence; see `Margin`."""
    return float(np.mean(quality)) - NormalDist().inv_cdf(confidence) * quality_std(quality, level_error)


def solve(problem: Problem, policy: Policy) -> tuple[Assignment, float | None, Margin | None]:
    """Assign a batch under a policy.

    Parameters
    ----------
    problem : Problem
    policy : Policy

    Returns
    -------
    assignment : Assignment
        Of all queries; those that no model may take are deferred (-1).
    promised : float or None
        The mean quality that was asked for; None for a budget or a price.
    margin : Margin or None
        Where the policy has a confidence.
    """
    batch = _Batch(problem, policy)
    name, value = policy.goal
    if name == "relative_quality":
        name, value = "min_quality", value * batch.strongest_quality()
    if policy.confidence is None:
        return batch.attempt(name, value), value if name == "min_quality" else None, None
    if name == "budget":
        assignment, margin = _within_budget(batch, value, policy.confidence)
        return assignment, None, margin
    assignment, margin = _with_margin(batch, value, policy.confidence)
    return assignment, value, margin


class _Batch:
    """A problem ready to be solved for one goal after another."""

    def __init__(self, problem: Problem, policy: Policy) -> None:
        self.problem = problem
        self.options: dict[str, Any] = problem.options(policy)

    def strongest_quality(self) -> float:
        """Return the mean predicted quality of sending every query to the strongest model it may take."""
        chosen = self.problem.strongest()
        rows = np.flatnonzero(chosen >= 0)
        if not len(rows):
            return 0.0
        return float(self.problem.quality[rows, chosen[rows]].mean(dtype=np.float64))

    def attempt(self, goal: str, value: float) -> Assignment:
        return assign(self.problem.cost, self.problem.quality, **{**self.options, goal: value})

    def bounds(self, assignment: Assignment, confidence: float) -> _Bounds:
        """Say what an assignment keeps to with this confidence."""
        rows = np.flatnonzero(assignment.model >= 0)
        models = assignment.model[rows]
        quality = self.problem.quality[rows, models].astype(np.float64)
        if not len(rows):
            return _Bounds(0, 0.0, 0.0, 0.0, 0.0, 0.0)
        open_ = self.problem.uncertainty
        cost = self.problem.cost[rows, models]
        level = 0.0 if open_ is None else open_.level_error(quality, rows, models)
        most = float(cost.sum()) if open_ is None else open_.cost_bound(cost, rows, models, confidence)
        return _Bounds(
            len(rows), float(quality.mean()), lower_bound(quality, confidence, level), level,
            float(np.mean(quality * (1.0 - quality))), most,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Bounds:
    """Of the assigned queries of a batch: their number, mean quality and what it reaches, and cost."""

    count: int
    mean: float
    lower: float
    level_error: float
    coin: float
    upper_cost: float

    def margin(self, confidence: float, cost: float, *, kept: bool, labels: int | None = 0) -> Margin:
        return Margin(
            confidence, self.mean - self.lower, self.lower, cost, kept=kept, level_error=self.level_error,
            labels=labels, upper_cost=self.upper_cost,
        )  # fmt: skip


def _with_margin(batch: _Batch, promised: float, confidence: float) -> tuple[Assignment, Margin]:
    """Raise the goal until its lower bound reaches the promise, and no further than needed.

    The margin depends on the probabilities of the pairs that are chosen, and those on the margin. The
    dependence is weak (the slope is about z / sqrt(n)), so a few rounds of substitution settle it.
    """
    plain = batch.attempt("min_quality", promised)
    best, points, answer = None, 0.0, plain
    for _ in range(_ROUNDS):
        found = batch.bounds(answer, confidence)
        if not found.count:
            return plain, Margin(confidence, 0.0, promised, 0.0, kept=True)
        spread = found.mean - found.lower
        kept = found.lower >= promised - 1e-12
        if kept and (best is None or answer.cost < best[0].cost):
            best = answer, found.margin(confidence, answer.cost - plain.cost, kept=True)
        if kept and found.lower - promised <= _ENOUGH:
            break
        if not kept and answer.status in (Status.QUALITY_UNREACHABLE, Status.UNDECIDED) and points <= spread:
            break
        # Half of what is enough is added, so that the fixed point is met from the side that keeps it.
        following = spread + _ENOUGH / 2
        if abs(following - points) < _ENOUGH / 10:
            break
        points = following
        answer = batch.attempt("min_quality", min(1.0, promised + points))
    if best is not None:
        return best
    return _not_promised(batch, promised, confidence, plain)


def _not_promised(
    batch: _Batch, promised: float, confidence: float, plain: Assignment
) -> tuple[Assignment, Margin]:
    """Give the highest mean quality there is, say that the promise is beyond it and what would back it."""
    answer = batch.attempt("min_quality", 1.0)
    found = batch.bounds(answer, confidence)
    kept = found.lower >= promised - 1e-12
    cost = answer.cost - plain.cost
    if kept:
        return answer, found.margin(confidence, cost, kept=True)
    # What the labels may leave: the room above the promise, less what coin flips take.
    room = max(found.mean - promised, 0.0) / NormalDist().inv_cdf(confidence)
    left = math.sqrt(max(room**2 - found.coin / found.count, 0.0))
    labels = labels_needed(found.level_error, found.coin, left) if left > 0.0 else None
    cause = QualityNotAssured(
        promised, confidence, found.count, found.mean, found.lower, found.level_error, labels
    )
    given = (Status.OVERLOADED, Status.UNDECIDED)
    status = answer.status if answer.status in given else Status.QUALITY_UNREACHABLE
    violation = max(0.0, promised - found.lower)
    answer = replace(answer, status=status, violation=violation, diagnosis=Diagnosis((cause,)))
    return answer, found.margin(confidence, cost, kept=False, labels=labels)


def _within_budget(batch: _Batch, budget: float, confidence: float) -> tuple[Assignment, Margin]:
    """Lower the budget until what the realised cost stays below is within it, and no further than needed."""
    goal, answer, best = budget, batch.attempt("budget", budget), None
    low = 0.0
    for _ in range(_ROUNDS):
        found = batch.bounds(answer, confidence)
        kept = found.upper_cost <= budget * (1.0 + 1e-12)
        if kept:
            low = max(low, goal)
            if best is None or answer.quality > best[0].quality:
                best = answer, found
            if found.upper_cost >= budget * (1.0 - 1e-3) or goal == budget:
                break
        if answer.cost <= 0.0:
            break
        # The bound is nearly in proportion to the cost; between two tries the larger that is kept stays.
        following = answer.cost * budget / max(found.upper_cost, 1e-300)
        following = max(following, low) if not kept else min(following, budget)
        if abs(following - goal) <= _ENOUGH * budget:
            break
        goal = following
        answer = batch.attempt("budget", goal)
        if answer.status in (Status.BUDGET_UNREACHABLE, Status.UNDECIDED):
            break
    if best is not None:
        answer, found = best
        return answer, found.margin(confidence, max(budget - answer.cost, 0.0), kept=True)
    return _not_within(batch, budget, confidence)


def _not_within(batch: _Batch, budget: float, confidence: float) -> tuple[Assignment, Margin]:
    """Give the cheapest assignment there is, and say that it may cost more than the budget."""
    answer = batch.attempt("budget", 0.0)
    found = batch.bounds(answer, confidence)
    if found.upper_cost <= budget:
        # The cheapest is free or nearly so.
        return answer, found.margin(confidence, max(budget - answer.cost, 0.0), kept=True)
    cause = BudgetNotAssured(budget, confidence, found.count, answer.cost, found.upper_cost)
    status = answer.status if answer.status is Status.OVERLOADED else Status.BUDGET_UNREACHABLE
    violation = max(0.0, found.upper_cost - budget)
    answer = replace(answer, status=status, violation=violation, diagnosis=Diagnosis((cause,)))
    return answer, found.margin(confidence, 0.0, kept=False, labels=None)
