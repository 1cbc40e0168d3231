"""Checks an assignment from the data alone: independent numpy in float64, nothing of the solver's code."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from eccos_rs.errors import ProblemError
from eccos_rs.solver import _arrays
from eccos_rs.solver._data import read
from eccos_rs.solver._recompute import Recomputed
from eccos_rs.solver._recompute_chance import RecomputedChance
from eccos_rs.solver._uncertain import uncertain

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from eccos_rs.solver._answer import Assignment


@dataclass(frozen=True)
class CheckedClaim:
    """One thing that an assignment says of itself.

    Attributes
    ----------
    name : str
        What is claimed.
    holds : bool
        True when the data confirms it.
    detail : str
        The figures.
    """

    name: str
    holds: bool
    detail: str

    def __bool__(self) -> bool:
        return bool(self.holds)


@dataclass(frozen=True, repr=False)
class Certificate:
    """Every claim of an assignment with its verdict; true when all of them hold.

    Attributes
    ----------
    claims : tuple of CheckedClaim
        In the order of checking.
    cost, quality : float
        Total in US dollars and mean over the assigned, recomputed.
    objective : float
        Recomputed, in the unit of `Assignment.objective`.
    bound : float
        What the reported multipliers prove, recomputed.
    gap : float
        Between the recomputed objective and the recomputed bound, or a better one proved by branching.
    load : (R, M) float64
        Use of every capacity.
    pool_load : (P,) float64
        Use of every pooled capacity.
    """

    claims: tuple[CheckedClaim, ...]
    cost: float
    quality: float
    objective: float
    bound: float
    gap: float
    load: NDArray[np.float64]
    pool_load: NDArray[np.float64]

    def __bool__(self) -> bool:
        return all(self.claims)

    @property
    def failed(self) -> tuple[CheckedClaim, ...]:
        """The claims that do not hold."""
        return tuple(claim for claim in self.claims if not claim)

    def __repr__(self) -> str:
        if self:
            return f"Certificate(all {len(self.claims)} claims hold, gap {self.gap:.1e})"
        return "Certificate(FAILED: " + "; ".join(f"{c.name}: {c.detail}" for c in self.failed) + ")"

    def _repr_html_(self) -> str:
        body = "".join(
            f"<tr><td>{'✓' if c else '✗'}</td><th>{escape(c.name)}</th><td>{escape(c.detail)}</td></tr>"
            for c in self.claims
        )
        return f"<table>{body}</table>"


def certify(
    cost: ArrayLike,
    quality: ArrayLike,
    assignment: Assignment,
    *,
    min_quality: float | None = None,
    budget: float | None = None,
    quality_value: float | None = None,
    tolerance: float = 1e-4,
    quality_std: ArrayLike | None = None,
    load_std: ArrayLike | None = None,
    confidence: float | None = None,
    **limits: Any,
) -> Certificate:
    """Recompute everything that an assignment claims, from the data it was made of.

    Parameters
    ----------
    cost, quality : (N, M) array_like
        As given to `assign`.
    assignment : Assignment
        The answer to check.
    min_quality, budget, quality_value : float, optional
        As given to `assign`: exactly one.
    tolerance : float
        As given to `assign`: the gap up to which `optimal` may be said.
    quality_std, load_std, confidence : optional
        As given to `assign`.
    **limits
        The other arguments that describe the problem, as given to `assign`: load, capacity, pools, rows,
        overage, minimum, allowed, query_floor, priority, group, group_min_quality, group_budget, unroutable.

    Returns
    -------
    Certificate
        True when every claim holds. Takes some dozen bytes of memory for each (query, model) pair.

    Raises
    ------
    ProblemError
        The problem is malformed, or the assignment belongs to a problem of another size.

    Notes
    -----
    Cost, quality, loads, mask, floors, group limits, violation and status are recomputed from
    `assignment.model`; the dual bound from `assignment.duals` alone, whatever found them, since any
    multipliers >= 0 prove a bound. What branching proves beyond that (`bound` tighter than `dual_bound`)
    cannot be recomputed from an answer; the certificate then says that the bound rests on so many nodes.

    Examples
    --------
    >>> from eccos_rs import assign, certify
    >>> problem = dict(cost=[[1.0, 9.0], [1.0, 9.0]], quality=[[0.9, 0.95], [0.4, 0.9]], min_quality=0.85)
    >>> bool(certify(assignment=assign(**problem), **problem))
    True
    """
    asked = _arrays.goal(min_quality, budget, quality_value)
    problem = _arrays.problem(cost, quality, asked, **limits)
    data = read(problem)
    unsure = uncertain(problem, quality_std, load_std, confidence)
    n, m = data.cost.shape
    if assignment.model.shape != (n,):
        raise ProblemError(f"assignment has {len(assignment.model)} queries, wanted {n} as cost")
    if unsure is None:
        found = Recomputed(data, assignment)
    elif assignment.chance is None:
        raise ProblemError("assignment was made without quality_std and load_std, wanted one made with them")
    else:
        found = RecomputedChance(data, assignment, unsure)
    claims = (
        CheckedClaim(
            "one model a query",
            bool(((assignment.model >= -1) & (assignment.model < m)).all()),
            f"indices within -1..{m - 1}",
        ),
        *(CheckedClaim(*verdict) for verdict in found.feasible()),
        *(CheckedClaim(*verdict) for verdict in found.sums()),
        *(CheckedClaim(*verdict) for verdict in found.proof()),
        *(CheckedClaim(*verdict) for verdict in found.status(tolerance)),
    )
    return Certificate(
        claims, found.cost, found.mean, found.objective, found.bound, found.gap, found.used, found.used_pools
    )
