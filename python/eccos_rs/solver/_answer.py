"""What the solver answers: plain frozen data, read-only arrays."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from eccos_rs.domain.renamed import attribute
from eccos_rs.solver._frozen import Frozen

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eccos_rs.solver._duals import Duals
    from eccos_rs.solver.chance_proof import Chance
    from eccos_rs.solver.diagnosis import Diagnosis, Repair

    Floats = NDArray[np.float64]
    Indices = NDArray[np.int32]


class Status(StrEnum):
    """What the caller holds."""

    OPTIMAL = "optimal"
    """Feasible, and the gap is at most the tolerance."""
    FEASIBLE = "feasible"
    """Feasible; the gap is known and larger than the tolerance."""
    QUALITY_UNREACHABLE = "quality_unreachable"
    """The capacities hold; the highest mean quality that they allow."""
    BUDGET_UNREACHABLE = "budget_unreachable"
    """The capacities hold; the cheapest assignment that they allow."""
    ROW_UNREACHABLE = "row_unreachable"
    """The capacities hold, and the promise or the budget; no assignment keeps every side row, proven."""
    OVERLOADED = "overloaded"
    """Capacity below demand, proven: everything that fits is assigned, the rest is deferred (-1)."""
    UNDECIDED = "undecided"
    """Nothing that meets every limit was found, nor proven not to exist; the nearest that was found."""


@dataclass(frozen=True, eq=False)
class Alternatives(Frozen):
    """For each query its second choice, and the change of price that would flip it.

    Attributes
    ----------
    model : (N,) int32
        The second choice at the prices of the solution; -1 where there is none.
    price_change : (N,) float64
        US dollars by which the second choice would have to be cheaper for this query (or the chosen model
        dearer) before the query switches, the prices of quality and capacity as they are. Negative: the query
        already stands away from its own best choice so that a limit holds. Infinite where there is none.
    """

    model: Indices
    price_change: Floats


@dataclass(frozen=True, eq=False, repr=False)
class Assignment(Frozen):
    """One model for every query, with the proof of how good that is.

    Attributes
    ----------
    status : Status
        What is held; see `Status`.
    model : (N,) int32
        Index into the pool; -1 = deferred.
    goal : {"min_quality", "budget", "quality_value"}
        What was asked for, as `assign` and `Policy` call it.
    cost : float
        Total in US dollars.
    quality : float
        Mean over the assigned queries; NaN when there is none.
    criterion : {"cost", "quality", "value"}
        What was optimised: total cost for `min_quality`, mean quality for `budget`, cost minus value for
        `quality_value`. When the goal is out of reach, what comes nearest to it: quality instead of cost, or
        cost instead of quality.
    objective : float
        The figure of the criterion: US dollars or mean quality.
    bound : float
        What no assignment of the same queries can beat, in the unit of `objective`.
    dual_bound : float
        What `duals` alone prove; `bound` is tighter when branch and bound has improved on it.
    gap : float
        |objective - bound| / |bound|.
    quality_price : float
        US dollars for one more unit of mean quality (infinite where no money buys more).
    capacity_price : (M,) or (R, M) float64
        US dollars for one more unit of each capacity.
    pool_price : (P,) float64
        US dollars for one more unit of each pooled capacity.
    row_price : (K,) float64
        US dollars for one more unit of each side row's limit: of the mean where it limits that.
    duals : Duals
        The multipliers as the bound needs them.
    violation : float
        By how much the requirement is missed: mean quality, or US dollars; 0 when it is met.
    seconds : float
        Wall-clock time of the call.
    diagnosis : Diagnosis | None
        Why the problem cannot be met as asked, as data, and the cheapest repair.
    steps, nodes, passes : int
        Simplex steps, branch-and-bound nodes, passes over all queries.
    interrupted : bool
        A time limit ended the solve.
    proven : bool
        Nothing is better by more than a relative 1e-9: the multipliers say so, or a complete search.
    alternatives : Alternatives | None
        When asked for.
    charges : (C,) float64
        US dollars for each overage, then for each commitment; they are part of `cost`.
    chance : Chance | None
        With `quality_std` or `load_std`: what is guaranteed, and the programs that prove the bound.
    """

    status: Status
    model: Indices
    goal: str
    cost: float
    quality: float
    criterion: str
    objective: float
    bound: float
    dual_bound: float
    gap: float
    quality_price: float
    capacity_price: Floats
    duals: Duals
    violation: float
    seconds: float
    diagnosis: Diagnosis | None = None
    steps: int = 0
    nodes: int = 0
    passes: int = 0
    interrupted: bool = False
    proven: bool = False
    alternatives: Alternatives | None = None
    pool_price: Floats = field(default_factory=lambda: np.zeros(0))
    row_price: Floats = field(default_factory=lambda: np.zeros(0))
    charges: Floats = field(default_factory=lambda: np.zeros(0))
    chance: Chance | None = None

    mode = attribute("mode", "goal", {"min_quality": "quality", "budget": "budget", "quality_value": "price"})
    aim = attribute("aim", "criterion")

    @property
    def deferred(self) -> NDArray[np.intp]:
        """Indices of the queries without a model."""
        return np.flatnonzero(self.model < 0)

    @property
    def explanation(self) -> str | None:
        """Why the problem cannot be met as asked, in words and numbers, and the cheapest repair."""
        return None if self.diagnosis is None else self.diagnosis.text()

    @property
    def reasons(self) -> tuple[str, ...]:
        """The same as names.

        `capacity_short`, `quality_above_best`, `quality_above_capacities`, `budget_below_cheapest`,
        `budget_below_capacities`, `group_quality`, `group_budget`, `row_above`, `row_below`,
        `no_whole_assignment`, `not_found`, `not_placed`.
        """
        return () if self.diagnosis is None else tuple(cause.name for cause in self.diagnosis.causes)

    @property
    def repair(self) -> Repair | None:
        """The cheapest repair as numbers."""
        return None if self.diagnosis is None else self.diagnosis.repair

    def __repr__(self) -> str:
        return (
            f"Assignment({self.status}: {self._size()}, cost ${self.cost:.6g}, quality {self.quality:.4f}, "
            f"gap {self.gap:.1e}, {self.seconds * 1e3:.3g} ms)"
        )

    def _size(self) -> str:
        n, left = len(self.model), len(self.deferred)
        return f"{n} quer{'y' if n == 1 else 'ies'}" + (f", {left} deferred" if left else "")

    def _repr_html_(self) -> str:
        rows = [
            ("status", str(self.status)),
            ("queries", self._size()),
            ("total cost", f"${self.cost:.6g}"),
            ("mean quality", f"{self.quality:.4f}"),
            ("bound", f"{self.bound:.6g}"),
            ("gap", f"{self.gap:.1e}"),
            ("price of quality", f"${self.quality_price:.4g} for one more unit of the mean"),
            ("time", f"{self.seconds * 1e3:.3g} ms"),
        ]
        if self.explanation:
            rows.append(("why", self.explanation))
        body = "".join(f"<tr><th>{name}</th><td>{escape(value)}</td></tr>" for name, value in rows)
        return f"<table>{body}</table>"
