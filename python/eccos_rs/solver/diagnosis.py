"""Why a problem cannot be met as asked: data first, then one sentence with the names the caller knows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from eccos_rs.solver._frozen import Frozen

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["Cause", "Diagnosis", "Names", "Repair", "Shortfall"]

_LISTED = 6
"""Capacities that a sentence lists; the rest are counted."""


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


@dataclass(frozen=True, slots=True)
class Names:
    """What the parts of a problem are called; what has no name is told by its number.

    Attributes
    ----------
    pools, rows : sequence of str
        Of the pooled capacities and of the side rows.
    models, groups, resources : sequence of str | None
        Of the columns, of the groups, and units of the resources.
    """

    pools: Sequence[str] = ()
    rows: Sequence[str] = ()
    models: Sequence[str] | None = None
    groups: Sequence[str] | None = None
    resources: Sequence[str] | None = None

    def model(self, column: int) -> str:
        """Return the name of a column."""
        return f"model {column}" if self.models is None else self.models[column]

    def group(self, number: int) -> str:
        """Return the name of a group, at the start of a sentence."""
        return f"Group {number}" if self.groups is None else f"Group {self.groups[number]!r}"

    def resource(self, number: int) -> str:
        """Return the unit of a resource, as it follows a number."""
        return f"(resource {number})" if self.resources is None else self.resources[number]


class Cause(Protocol):
    """One thing that stands in the way."""

    @property
    def name(self) -> str:
        """Its kind, stable, for programs."""

    def sentence(self, names: Names) -> str:
        """Return it in words."""


@dataclass(frozen=True, slots=True)
class Shortfall:
    """A limit of the problem that cannot be kept, with its numbers.

    Attributes
    ----------
    name : str
        One of `Assignment.reasons`.
    numbers : mapping of str to float
        What was wanted, what can be had, and which group or row it is, as the core names them.
    """

    name: str
    numbers: Mapping[str, float]

    def sentence(self, names: Names) -> str:
        """Return it in words."""
        numbers: dict[str, Any] = dict(self.numbers)
        if "group" in numbers:
            numbers["who"] = names.group(int(numbers["group"]))
        if "row" in numbers:
            numbers["who"] = names.rows[int(numbers["row"])]
        if "demand" in numbers:
            numbers["short"] = numbers["demand"] - numbers["served"]
        return _SENTENCES[self.name].format(**numbers)


_SENTENCES = {
    "capacity_short": "The capacities hold {served:.0f} of {demand:.0f} queries: {short:.0f} do not fit.",
    "quality_above_best": (
        "A mean quality of {wanted:.6g} is above {best:.6g}, the mean when every query goes to its best "
        "allowed model."
    ),
    "quality_above_capacities": (
        "A mean quality of {wanted:.6g} is above {attainable:.6g}, the most that the limits allow."
    ),
    "quality_above_confident": (
        "A mean quality of {wanted:.6g} with a confidence of {confidence:.6g} is out of reach; "
        "{attainable:.6g} can be promised with it."
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
    "group_quality": "{who} was promised a mean quality of {wanted:.6g}; it gets {got:.6g}.",
    "group_budget": "{who} was given a budget of ${wanted:.6g}; it costs ${got:.6g}.",
    "row_above": "{who} may come to {wanted:.6g} at most; it comes to {got:.6g}.",
    "row_below": "{who} was to come to {wanted:.6g} at least; it comes to {got:.6g}.",
}


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Why a problem cannot be met as asked, and the cheapest repair.

    Attributes
    ----------
    causes : tuple of Cause
        The widest first.
    repair : Repair | None
    names : Names
        Those that the arguments of `assign` carry: of pooled capacities and side rows.
    """

    causes: tuple[Cause, ...]
    repair: Repair | None = None
    names: Names = field(default_factory=Names)

    def text(
        self,
        models: Sequence[str] | None = None,
        groups: Sequence[str] | None = None,
        resources: Sequence[str] | None = None,
    ) -> str:
        """Return it in words, with the names of columns, groups and resources where they are known."""
        names = replace(self.names, models=models, groups=groups, resources=resources)
        words = [cause.sentence(names) for cause in self.causes]
        return " ".join([*words, *self._repairs(names)])

    def _repairs(self, names: Names) -> Iterator[str]:
        if self.repair is not None and (ways := list(_ways(self.repair, names))):
            yield f"Cheapest repair: {', or '.join(ways)}."
        missed = [cause for cause in self.causes if isinstance(cause, Shortfall) and "row" in cause.numbers]
        if missed:
            yield f"This assignment needs {', and '.join(_kept(cause, names) for cause in missed)}."


def _ways(repair: Repair, names: Names) -> Iterator[str]:
    if repair.min_quality is not None:
        yield f"lower min_quality to {_short(repair.min_quality, down=True)}"
    if repair.budget is not None:
        yield f"raise the budget to ${_short(repair.budget)}"
    more: list[str] = []
    if repair.capacity is not None:
        resources = np.atleast_2d(repair.capacity)
        for resource, column in np.argwhere(resources > 0):
            unit = f" {names.resource(int(resource))}" if len(resources) > 1 else ""
            more.append(f"of {names.model(int(column))} by {_short(resources[resource, column])}{unit}")
    if repair.pools is not None:
        for pool in np.flatnonzero(repair.pools > 0).tolist():
            more.append(f"of {names.pools[pool]} by {_short(repair.pools[pool])}")
    if more:
        rest = [f"and of {len(more) - _LISTED} more"] if len(more) > _LISTED else []
        yield "raise the capacity " + ", ".join([*more[:_LISTED], *rest])


def _kept(missed: Shortfall, names: Names) -> str:
    """Say with which limit of a side row the assignment would do."""
    at_least = missed.name == "row_below"
    limit = _short(missed.numbers["got"], down=at_least)
    return f"{'at_least' if at_least else 'at_most'} of {names.rows[int(missed.numbers['row'])]} at {limit}"


def _short(number: float, *, down: bool = False) -> str:
    """Write a number in six digits, rounded up or down: never to the side on which it would not be enough."""
    written = Decimal(float(number)).normalize(
        Context(prec=6, rounding=ROUND_FLOOR if down else ROUND_CEILING)
    )
    return f"{float(written):.6g}"
