"""What is promised: the goal of a batch and what to do when it cannot be met."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from numbers import Real
from types import MappingProxyType
from typing import Any, Literal

from eccos_rs.domain.validation import check_choice, check_number, did_you_mean, shown
from eccos_rs.errors import PolicyError
from eccos_rs.routing.side_limits import SideLimit
from eccos_rs.solver.limits import SideRow

__all__ = ["DEFAULT_RELATIVE_QUALITY", "GOALS", "Policy"]

GOALS = ("min_quality", "budget", "quality_value", "relative_quality")
"""The fields of which a policy has exactly one."""

DEFAULT_RELATIVE_QUALITY = 0.97
"""The goal when none is given."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What a batch is promised. Exactly one of the first four fields is the goal.

    Parameters
    ----------
    min_quality : float, optional
        Least cost with a mean predicted success of at least this, in [0, 1].
    budget : float, optional
        Highest mean success for at most this many US dollars.
    quality_value : float, optional
        US dollars that one successful answer is worth: least cost minus this times success.
    relative_quality : float, optional
        Least cost with a mean predicted success of at least this share of what sending every query to
        the strongest model is predicted to reach. With no goal given it is 0.97.
    query_floor : float, optional
        A floor in [0, 1] on every query's own predicted success; a query's own `min_quality` takes its
        place.
    confidence : float, optional
        In (0.5, 1): promise the quality, or keep the budget, for this very batch with this probability, not
        only in expectation. It costs a margin, which the plan shows.
    overload : {"defer", "raise"}
        What happens to queries beyond the capacity.
    unroutable : {"raise", "defer"}
        What happens to a query that no model may take.
    tolerance : float
        The gap to the bound at which an assignment counts as optimal.
    time_limit : float, optional
        Seconds for the solver.
    capacity : mapping of str to float, optional
        Requests that a model, or the models of a shared limit together, may take of this batch; takes the
        place of the pool's slots and requests per minute for the models and the limits it names.
    group_min_quality : mapping of str to float, optional
        Least mean predicted success of the queries of a group (see `Query.group`), beside the goal.
    group_budget : mapping of str to float, optional
        US dollars that the queries of a group may cost, beside the goal.
    rows : sequence of SideLimit or SideRow, optional
        Limits on other figures of the batch: carbon, slow answers, a second measure of quality. A `SideRow`
        holds figures of one very batch.
    per : {"hour", "day", "month"}, optional
        The period a session's `budget` is for; a single batch takes none.
    wait : float, optional
        Seconds that a session's query may wait for a free slot.

    Raises
    ------
    PolicyError
        Two goals, or a field out of its range.

    Examples
    --------
    >>> Policy().relative_quality
    0.97
    >>> Policy(min_quality=0.8).replace(budget=0.5).goal
    ('budget', 0.5)
    """

    min_quality: float | None = None
    budget: float | None = None
    quality_value: float | None = None
    relative_quality: float | None = None
    query_floor: float | None = None
    confidence: float | None = None
    overload: Literal["defer", "raise"] = "defer"
    unroutable: Literal["raise", "defer"] = "raise"
    tolerance: float = 1e-4
    time_limit: float | None = None
    capacity: Mapping[str, float] | None = None
    group_min_quality: Mapping[str, float] | None = None
    group_budget: Mapping[str, float] | None = None
    rows: Sequence[SideLimit | SideRow] | None = None
    per: Literal["hour", "day", "month"] | None = None
    wait: float | None = None

    def __post_init__(self) -> None:
        given = [name for name in GOALS if getattr(self, name) is not None]
        if len(given) > 1:
            raise PolicyError(
                f"a policy has one goal; got {' and '.join(given)}, wanted one of {', '.join(GOALS)}"
            )
        if not given:
            object.__setattr__(self, "relative_quality", DEFAULT_RELATIVE_QUALITY)
        for name in ("min_quality", "relative_quality", "query_floor"):
            _check(name, getattr(self, name), 0.0, 1.0, "lie in [0, 1]")
        for name in ("budget", "quality_value", "wait"):
            _check(name, getattr(self, name), 0.0, math.inf, "be a finite number of at least 0")
        _check("tolerance", self.tolerance, 0.0, 1.0, "lie in [0, 1]")
        _check("time_limit", self.time_limit, 0.0, math.inf, "be a positive, finite number of seconds")
        if self.time_limit == 0:
            raise PolicyError("time_limit must be a positive, finite number of seconds, got 0")
        check_choice("overload", self.overload, ("defer", "raise"), error=PolicyError)
        check_choice("unroutable", self.unroutable, ("raise", "defer"), error=PolicyError)
        if self.per is not None:
            check_choice("per", self.per, ("hour", "day", "month"), error=PolicyError)
            if self.budget is None:
                raise PolicyError(f"per={self.per!r} is the period of a budget, and no budget was given")
        self._check_confidence()
        if self.rows is not None:
            object.__setattr__(self, "rows", _checked_rows(self.rows))
        for name, most in _MAPPINGS.items():
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _checked_mapping(name, value, most))

    def _check_confidence(self) -> None:
        if self.confidence is None:
            return
        _check("confidence", self.confidence, 0.5, 1.0, "lie strictly between 0.5 and 1")
        if self.confidence in (0.5, 1):
            raise PolicyError(f"confidence must lie strictly between 0.5 and 1, got {self.confidence}")
        if self.quality_value is not None:
            raise PolicyError(
                "confidence is for a promised min_quality or relative_quality, or for a budget; got it with "
                "quality_value"
            )
        if self.budget is not None and self.per is not None:
            raise PolicyError(
                f"confidence is for the budget of a single batch; got per={self.per!r} paces it"
            )

    @property
    def goal(self) -> tuple[str, float]:
        """The name and the value of the goal."""
        return next((name, value) for name in GOALS if (value := getattr(self, name)) is not None)

    def replace(self, **changes: Any) -> Policy:
        """Return a policy with some fields changed; a new goal takes the place of the old one.

        Parameters
        ----------
        **changes
            Fields of `Policy`.

        Returns
        -------
        Policy

        Raises
        ------
        PolicyError
            A field is unknown (the near one is named) or out of range, or two goals are given.
        """
        for name in changes:
            if name not in _FIELDS:
                raise PolicyError(f"unknown policy field {name!r}{did_you_mean(name, _FIELDS)}")
        values = {name: getattr(self, name) for name in _FIELDS}
        if any(changes.get(name) is not None for name in GOALS):
            values.update(dict.fromkeys(GOALS))
        return Policy(**(values | changes))

    def __reduce__(self) -> tuple[Any, ...]:
        # A read-only view of a mapping cannot be pickled; the dict it was made of can.
        values = {name: getattr(self, name) for name in _FIELDS}
        values.update({name: dict(values[name]) for name in _MAPPINGS if values[name] is not None})
        return _rebuild, (values,)


_MAPPINGS = {"capacity": math.inf, "group_min_quality": 1.0, "group_budget": math.inf}
"""The fields that map names to numbers, each with the most a number may be."""

_FIELDS = tuple(field.name for field in fields(Policy))


def _rebuild(values: dict[str, Any]) -> Policy:
    return Policy(**values)


def _check(name: str, value: Any, least: float, most: float, wanted: str) -> None:
    if value is not None:
        check_number(name, value, error=PolicyError, least=least, most=most, wanted=wanted)


def _checked_rows(rows: Any) -> tuple[SideLimit | SideRow, ...] | None:
    if isinstance(rows, str | Mapping | SideLimit | SideRow) or not isinstance(rows, Sequence):
        raise PolicyError(f"rows must be a list of SideLimit or SideRow, got {shown(rows)}")
    for row in rows:
        if not isinstance(row, SideLimit | SideRow):
            raise PolicyError(f"rows must hold SideLimit or SideRow, got {shown(row)}")
    named = Counter(row.name for row in rows if row.name)
    for name, times in named.items():
        if times > 1:
            raise PolicyError(f"rows holds {name!r} twice")
    return tuple(rows) or None


def _checked_mapping(name: str, value: Any, most: float) -> Mapping[str, float]:
    if not isinstance(value, Mapping):
        raise PolicyError(f"{name} must map names to numbers, got {type(value).__name__}")
    for key, number in value.items():
        wrong = isinstance(number, bool) or not isinstance(number, Real) or math.isnan(number)
        if wrong or not 0 <= number <= most:
            wanted = "of at least 0" if most == math.inf else f"in [0, {most:g}]"
            raise PolicyError(f"{name} of {key!r} must be a number {wanted}, got {shown(number)}")
    return MappingProxyType(dict(value))
