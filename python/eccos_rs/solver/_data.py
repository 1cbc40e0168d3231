"""The problem as an assignment is judged by it: everything in float64, what was left out filled in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eccos_rs.solver._arrays import Arrays

    Floats = NDArray[np.float64]


class PricedLoad(NamedTuple):
    """A price on the load of some models above a level, or (sign -1) below it."""

    models: NDArray[np.bool_]
    resource: int
    sign: float
    level: float
    price: float


class StandardRow(NamedTuple):
    """A side row as `sum of use <= limit`, or the mean over the members; signs turned for `at_least`."""

    use: Floats
    members: NDArray[np.bool_]
    mean: bool
    limit: float

    def total(self, served: NDArray[np.intp]) -> float:
        """Return the right-hand side of the sum when these queries are served."""
        return self.limit * int(self.members[served].sum()) if self.mean else self.limit


@dataclass(frozen=True)
class Data:
    """The problem in float64, forbidden pairs zeroed; `may` has the floors of the queries in it."""

    cost: Floats
    quality: Floats
    load: Floats
    capacity: Floats
    pools: tuple[tuple[NDArray[np.bool_], int, float], ...]
    rows: tuple[StandardRow, ...]
    priced: tuple[PricedLoad, ...]
    charges: tuple[int, ...]
    allowed: NDArray[np.bool_]
    may: NDArray[np.bool_]
    goal: str
    limit: float
    group: NDArray[Any]
    group_floor: Floats
    group_budget: Floats
    priority: NDArray[np.int64]
    one_each: bool
    defer_unroutable: bool


def read(raw: Arrays) -> Data:
    """Widen and fill in what was left out."""
    n, m, r = raw["shape"]
    allowed = np.ones((n, m), bool) if raw["allowed"] is None else raw["allowed"].astype(bool)
    quality = np.where(allowed, raw["quality"], 0).astype(np.float64)
    load = np.ones((r, n, m)) if raw["load"] is None else raw["load"].reshape(r, n, m).astype(np.float64)
    floor, budget = raw["group_min_quality"], raw["group_budget"]
    # Part of a request is no room.
    whole = np.floor if raw["load"] is None else np.asarray
    capacity = np.full((r, m), np.inf) if raw["capacity"] is None else whole(raw["capacity"].reshape(r, m))
    groups = max(0 if limits is None else len(limits) for limits in (floor, budget))
    return Data(
        cost=np.where(allowed, raw["cost"], 0).astype(np.float64),
        quality=quality,
        load=np.where(allowed, load, 0.0),
        capacity=capacity,
        pools=tuple(
            (models.astype(bool), resource, float(whole(limit))) for models, resource, limit in raw["pools"]
        ),
        rows=tuple(_row(allowed, row) for row in raw["rows"]),
        priced=tuple(
            PricedLoad(models.astype(bool), resource, -1.0 if below else 1.0, level, price)
            for models, resource, below, level, price in raw["priced"]
        ),
        charges=tuple(raw["charges"]),
        allowed=allowed,
        may=allowed if raw["query_floor"] is None else allowed & ~(quality < raw["query_floor"][:, None]),
        goal=raw["goal"][0],
        limit=raw["goal"][1],
        group=np.zeros(n, np.uint32) if raw["group"] is None else raw["group"],
        group_floor=np.full(groups, np.nan) if floor is None else floor,
        group_budget=np.full(groups, np.nan) if budget is None else budget,
        priority=np.zeros(n, np.int64) if raw["priority"] is None else raw["priority"],
        one_each=raw["load"] is None,
        defer_unroutable=raw["defer_unroutable"],
    )


def _row(
    allowed: NDArray[np.bool_], row: tuple[NDArray[Any], NDArray[np.uint8] | None, bool, bool, float]
) -> StandardRow:
    values, members, at_least, mean, limit = row
    inside = np.ones(len(allowed), bool) if members is None else members.astype(bool)
    sign = -1.0 if at_least else 1.0
    use = np.where(allowed & inside[:, None], values, 0).astype(np.float64)
    return StandardRow(sign * use, inside, mean, sign * limit)
