"""What the solver answers: plain frozen data, read-only arrays."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from enum import StrEnum
from html import escape
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

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


class Frozen:
    """Arrays of a frozen dataclass are read-only, after unpickling too."""

    def __post_init__(self) -> None:
        for value in vars(self).values():
            if type(value) is np.ndarray:
                value.setflags(write=False)

    @classmethod
    def of(cls, values: dict[str, Any]) -> Self:
        """Make one of all its fields by name, in a third of the time that a frozen `__init__` takes."""
        made = cls.__new__(cls)
        made.__dict__.update(values)
        made.__post_init__()
        return made

    def __reduce__(self) -> tuple[type[Frozen], tuple[Any, ...]]:
        return type(self), tuple(getattr(self, f.name) for f in fields(self))  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Duals(Frozen):
    """Multipliers of the rows, all >= 0, in units of the objective for one more unit of the row.

    They prove the dual bound (see `docs/solver.md`) and start a later solve of a similar problem.

    Attributes
    ----------
    requirement : float
        Quality mode: US dollars for one more well answered query (the *sum* of quality). Budget mode: well
        answered queries for one more dollar. Price mode: the given price of quality.
    capacity : (M,) or (R, M) float64
        For one more unit of each capacity.
    group_quality, group_budget : (G,) float64
        For one more well answered query of the group, and for one more dollar of its budget.
    pool : (P,) float64
        For one more unit of each pooled capacity.
    row : (K,) float64
        For one more unit of the sum of each side row.
    """

    requirement: float
    capacity: Floats
    group_quality: Floats
    group_budget: Floats
    pool: Floats = field(default_factory=lambda: np.zeros(0))
    row: Floats = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True, eq=False)
class Repair(Frozen):
    """The least change of the limits that makes the problem solvable.

    Attributes
    ----------
    min_quality : float | None
        Lower the promised mean quality to this.
    budget : float | None
        Raise the budget to this, in US dollars.
    capacity : (M,) or (R, M) float64 | None
        Or raise each capacity by this much.
    pools : (P,) float64 | None
        And each pooled capacity.
    rows : (K,) float64 | None
        Limits of the side rows that this assignment keeps.
    """

    min_quality: float | None
    budget: float | None
    capacity: Floats | None
    pools: Floats | None = None
    rows: Floats | None = None


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
    mode : {"quality", "budget", "price"}
        Which limit was asked for.
    cost : float
        Total in US dollars.
    quality : float
        Mean over the assigned queries; NaN when there is none.
    aim : {"cost", "quality", "value"}
        What was optimised: total cost in quality mode, mean quality in budget mode, cost minus value in price
        mode. When the goal is out of reach, what comes nearest to it: quality instead of cost, or cost
        instead of quality.
    objective : float
        The figure of the aim: US dollars or mean quality.
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
    explanation : str | None
        Why the problem cannot be met as asked, in words and numbers, and the cheapest repair.
    reasons : tuple of str
        The same as names: `capacity_short`, `quality_above_best`, `quality_above_capacities`,
        `budget_below_cheapest`, `budget_below_capacities`, `group_quality`, `group_budget`, `row_above`,
        `row_below`,
        `no_whole_assignment`, `not_found`, `not_placed`.
    repair : Repair | None
        The cheapest repair as numbers.
    steps, nodes, passes : int
        Simplex steps, branch-and-bound nodes, passes over all queries.
    interrupted : bool
        A time limit ended the solve.
    proven : bool
        Nothing is better by more than a relative 1e-9: the multipliers say so, or a complete search.
    alternatives : Alternatives | None
        When asked for.
    """

    status: Status
    model: Indices
    mode: str
    cost: float
    quality: float
    aim: str
    objective: float
    bound: float
    dual_bound: float
    gap: float
    quality_price: float
    capacity_price: Floats
    duals: Duals
    violation: float
    seconds: float
    explanation: str | None = None
    reasons: tuple[str, ...] = ()
    repair: Repair | None = None
    steps: int = 0
    nodes: int = 0
    passes: int = 0
    interrupted: bool = False
    proven: bool = False
    alternatives: Alternatives | None = None
    pool_price: Floats = field(default_factory=lambda: np.zeros(0))
    row_price: Floats = field(default_factory=lambda: np.zeros(0))

    @property
    def deferred(self) -> NDArray[np.intp]:
        """Indices of the queries without a model."""
        return np.flatnonzero(self.model < 0)

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


_SENTENCES = {
    "capacity_short": "The capacities hold {served:.0f} of {demand:.0f} queries: {short:.0f} do not fit.",
    "quality_above_best": (
        "A mean quality of {wanted:.6g} is above {best:.6g}, the mean when every query goes to its best "
        "allowed model."
    ),
    "quality_above_capacities": (
        "A mean quality of {wanted:.6g} is above {attainable:.6g}, the most that the limits allow."
    ),
    "budget_below_cheapest": (
        "A budget of ${wanted:.6g} is below ${cheapest:.6g}, the cost when every query goes to its cheapest "
        "allowed model."
    ),
    "budget_below_capacities": (
        "A budget of ${wanted:.6g} is below ${attainable:.6g}, the least that the limits allow."
    ),
    "no_whole_assignment": "Split queries would fit the limits; no whole assignment does, which is proven.",
    "not_found": (
        "No assignment that keeps every limit was found in {seconds:.3g} s of looking; it is not proven that "
        "there is none."
    ),
    "not_placed": (
        "No way to fit all of {demand:.0f} queries into the capacities was found, {short:.0f} are left out; "
        "it is not proven that there is none."
    ),
    "group_quality": "Group {group:.0f} was promised a mean quality of {wanted:.6g}; it gets {got:.6g}.",
    "group_budget": "Group {group:.0f} was given a budget of ${wanted:.6g}; it costs ${got:.6g}.",
    "row_above": "{name} may come to {wanted:.6g} at most; it comes to {got:.6g}.",
    "row_below": "{name} was to come to {wanted:.6g} at least; it comes to {got:.6g}.",
}


def sentence(reason: str, numbers: Mapping[str, float], rows: Sequence[str]) -> str:
    """Put one reason into words; `rows` are the names of the side rows."""
    if "row" in numbers:
        return _SENTENCES[reason].format(name=rows[int(numbers["row"])], **numbers)
    if "demand" in numbers:
        numbers = {**numbers, "short": numbers["demand"] - numbers["served"]}
    return _SENTENCES[reason].format(**numbers)


def short(number: float, *, down: bool = False) -> str:
    """Write a number in six digits, rounded up or down: never to the side on which it would not be enough."""
    written = Decimal(number).normalize(Context(prec=6, rounding=ROUND_FLOOR if down else ROUND_CEILING))
    return f"{float(written):.6g}"


def repair_sentence(
    repair: Repair,
    raised: Sequence[tuple[int, int, float]],
    pooled: Sequence[tuple[str, float]],
    resources: int,
) -> str | None:
    """Put the cheapest repair into words."""
    ways = []
    if repair.min_quality is not None:
        ways.append(f"lower min_quality to {short(repair.min_quality, down=True)}")
    if repair.budget is not None:
        ways.append(f"raise the budget to ${short(repair.budget)}")
    if raised or pooled:
        of = [
            f"of model {j} by {short(by)}" + (f" (resource {r})" if resources > 1 else "")
            for r, j, by in raised
        ]
        of += [f"of {name} by {short(by)}" for name, by in pooled]
        shown = of if len(of) <= 6 else [*of[:6], f"and of {len(of) - 6} more"]
        ways.append("raise the capacity " + ", ".join(shown))
    return f"Cheapest repair: {', or '.join(ways)}." if ways else None


def row_sentence(moved: Sequence[tuple[str, bool, float]]) -> str | None:
    """Say with which limits of the side rows the assignment would do."""
    ways = [
        f"at_least of {name} at {short(to, down=True)}" if at_least else f"at_most of {name} at {short(to)}"
        for name, at_least, to in moved
    ]
    return f"This assignment needs {', and '.join(ways)}." if ways else None
