"""From a policy to the solver's goal: relative promises, and the margin of a promise for one batch."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.solver.assignment import Assignment, Status, assign

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eccos_rs.routing.policy import Policy
    from eccos_rs.routing.problem import Problem

__all__ = ["Margin", "lower_bound", "solve"]

_ENOUGH = 1e-5
"""A margin is not refined below this, in units of mean quality."""

_ROUNDS = 10


@dataclass(frozen=True, slots=True)
class Margin:
    """What it takes to promise a quality for this very batch.

    Attributes
    ----------
    confidence : float
        The probability with which the batch's realised mean success reaches what was promised.
    points : float
        How far the predicted mean lies above `lower_bound`, in units of mean quality.
    lower_bound : float
        What the realised mean success reaches with that probability.
    cost : float
        US dollars that the margin adds to promising the expectation alone.
    kept : bool
        Whether `lower_bound` reaches the promise.

    Notes
    -----
    The bound is ``mean p - z sqrt(mean p (1 - p) / n)``, the normal bound on a mean of n independent coin
    flips with the predicted probabilities p. It assumes that the probabilities are calibrated for the pairs
    that were chosen and that the queries succeed independently given them. An error of single
    probabilities that is independent of the others adds nothing: a flip with an uncertain probability of
    mean p has the same variance p (1 - p). An error that all of them share (a drift of the traffic, an
    unseen task) is not covered; nor is the normal bound good below some thirty queries.
    """

    confidence: float
    points: float
    lower_bound: float
    cost: float
    kept: bool


def lower_bound(quality: NDArray[np.float64], confidence: float) -> float:
    """Return what the realised mean reaches with this confidence; see `Margin`."""
    spread = math.sqrt(float(np.mean(quality * (1 - quality))) / len(quality))
    return float(np.mean(quality)) - NormalDist().inv_cdf(confidence) * spread


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

    def chosen_quality(self, assignment: Assignment) -> NDArray[np.float64]:
        rows = np.flatnonzero(assignment.model >= 0)
        return self.problem.quality[rows, assignment.model[rows]].astype(np.float64)


def _with_margin(batch: _Batch, promised: float, confidence: float) -> tuple[Assignment, Margin]:
    """Raise the goal until its lower bound reaches the promise, and no further than needed.

    The margin depends on the probabilities of the pairs that are chosen, and those on the margin. The
    dependence is weak (the slope is about z / sqrt(n)), so a few rounds of substitution settle it.
    """
    plain = batch.attempt("min_quality", promised)
    best, points, answer = None, 0.0, plain
    for _ in range(_ROUNDS):
        quality = batch.chosen_quality(answer)
        if not len(quality):
            return plain, Margin(confidence, 0.0, promised, 0.0, kept=True)
        bound = lower_bound(quality, confidence)
        spread = float(quality.mean()) - bound
        kept = bound >= promised - 1e-12
        if kept and (best is None or answer.cost < best[0].cost):
            best = answer, Margin(confidence, spread, bound, answer.cost - plain.cost, kept=True)
        if kept and bound - promised <= _ENOUGH:
            break
        if not kept and answer.status is Status.QUALITY_UNREACHABLE and points <= spread:
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
    """Give the highest mean quality there is, and say that the promise is beyond it."""
    answer = batch.attempt("min_quality", 1.0)
    quality = batch.chosen_quality(answer)
    bound = lower_bound(quality, confidence)
    spread = float(quality.mean()) - bound
    kept = bound >= promised - 1e-12
    margin = Margin(confidence, spread, bound, answer.cost - plain.cost, kept=kept)
    if kept:
        return answer, margin
    why = (
        f"a mean of {promised:.4f} cannot be promised for this batch of {len(quality)} with {confidence:.0%} "
        f"confidence: the highest predicted mean is {quality.mean():.4f}, of which chance alone may take "
        f"{spread:.4f}; what can be promised is {bound:.4f}"
    )
    status = answer.status if answer.status is Status.OVERLOADED else Status.QUALITY_UNREACHABLE
    return replace(answer, status=status, violation=max(0.0, promised - bound), explanation=why), margin
