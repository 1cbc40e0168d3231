"""Input validation of the solver: dtypes and shapes are made plain here, values are checked by the core.

Everything is refused with a sentence that names the argument, what was got and what was wanted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import numpy as np

from eccos_rs.errors import ProblemError
from eccos_rs.solver import limits
from eccos_rs.solver._numbers import Array, double, flags, real, shaped, whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from eccos_rs.solver.limits import Commitment, Overage, PooledCapacity, RowKind, SideRow


class Arrays(TypedDict):
    """What `_core` takes as the problem; see `rust/eccos-py/src/arrays.rs`."""

    shape: tuple[int, int, int]
    cost: Array
    quality: Array
    goal: tuple[str, float]
    load: Array | None
    capacity: NDArray[np.float64] | None
    pools: list[tuple[NDArray[np.uint8], int, float]]
    pool_names: list[str]
    rows: list[tuple[Array, NDArray[np.uint8] | None, bool, bool, float]]
    row_names: list[str]
    priced: list[tuple[NDArray[np.uint8], int, bool, float, float]]
    charges: list[int]
    allowed: NDArray[np.uint8] | None
    query_floor: NDArray[np.float64] | None
    priority: NDArray[np.int64] | None
    group: NDArray[np.uint32] | None
    group_min_quality: NDArray[np.float64] | None
    group_budget: NDArray[np.float64] | None
    defer_unroutable: bool


def _loads(value: ArrayLike | None, n: int, m: int) -> tuple[Array | None, int]:
    """Return the load and R."""
    if value is None:
        return None, 1
    load = real("load", value)
    if load.ndim == 2:
        shaped("load", load, (n, m), "queries x models")
        return load, 1
    if load.ndim != 3 or load.shape[1:] != (n, m) or load.shape[0] == 0:
        raise ProblemError(
            f"load has shape {load.shape}, wanted {(n, m)} (queries x models) "
            f"or (R, {n}, {m}) (resources x queries x models) with R >= 1"
        )
    return load, load.shape[0]


def _capacities(value: ArrayLike | None, r: int, m: int) -> NDArray[np.float64] | None:
    if value is None:
        return None
    capacity = double("capacity", value, "real numbers, infinity for none")
    if capacity.shape != (r, m) and (r != 1 or capacity.shape != (m,)):
        shapes = f"{(m,)} (one per model)" if r == 1 else f"{(r, m)} (resources x models, as load)"
        raise ProblemError(f"capacity has shape {capacity.shape}, wanted {shapes}")
    return capacity


def _floors(value: ArrayLike | None, n: int) -> NDArray[np.float64] | None:
    if value is None:
        return None
    floor = double("query_floor", value)
    if floor.ndim == 0:
        return np.full(n, floor)
    shaped("query_floor", floor, (n,), "one per query, or one number for all")
    return floor


def _groups(value: ArrayLike | None, n: int) -> NDArray[np.uint32] | None:
    if value is None:
        return None
    group = whole("group", value, np.uint32)
    shaped("group", group, (n,), "one per query")
    return group


def _group_limits(name: str, value: ArrayLike | None) -> NDArray[np.float64] | None:
    if value is None:
        return None
    limits = double(name, value, "real numbers, NaN for none")
    if limits.ndim != 1:
        raise ProblemError(f"{name} has shape {limits.shape}, wanted one dimension (one number per group)")
    return limits


def number(name: str, value: object, wanted: str = "a number") -> float:
    """Make a float of anything that is one."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ProblemError(f"{name} is {value!r}, wanted {wanted}") from None


def goal(min_quality: float | None, budget: float | None, quality_value: float | None) -> tuple[str, float]:
    """Say which of the three is asked for, as `(name, limit)`."""
    given = [
        (name, value)
        for name, value in (
            ("min_quality", min_quality),
            ("budget", budget),
            ("quality_value", quality_value),
        )
        if value is not None
    ]
    if len(given) != 1:
        got = " and ".join(name for name, _ in given) or "none"
        raise ProblemError(f"got {got}, wanted exactly one of min_quality, budget and quality_value")
    name, value = given[0]
    return name, number(name, value)


def one_of(name: str, value: object, choices: Sequence[str]) -> None:
    """Refuse a word that is none of the choices."""
    if value not in choices:
        raise ProblemError(f"{name} is {value!r}, wanted {' or '.join(map(repr, choices))}")


def problem(
    cost: ArrayLike,
    quality: ArrayLike,
    asked: tuple[str, float],
    *,
    load: ArrayLike | None = None,
    capacity: ArrayLike | None = None,
    pools: Sequence[PooledCapacity] | None = None,
    rows: Sequence[SideRow | RowKind] | None = None,
    overage: Sequence[Overage] | None = None,
    minimum: Sequence[Commitment] | None = None,
    allowed: ArrayLike | None = None,
    query_floor: ArrayLike | None = None,
    priority: ArrayLike | None = None,
    group: ArrayLike | None = None,
    group_min_quality: ArrayLike | None = None,
    group_budget: ArrayLike | None = None,
    unroutable: str = "raise",
) -> Arrays:
    """Make everything a caller passes ready to be borrowed by the core."""
    if unroutable != "raise":
        one_of("unroutable", unroutable, ("raise", "defer"))
    cost = real("cost", cost)
    if cost.ndim != 2:
        raise ProblemError(f"cost has shape {cost.shape}, wanted two dimensions (queries x models)")
    quality = real("quality", quality)
    if quality.shape != cost.shape:
        raise ProblemError(
            f"quality has shape {quality.shape}, wanted {cost.shape} as cost (queries x models)"
        )
    n, m = cost.shape
    loads, r = _loads(load, n, m)
    shared = limits.pools(pools, m, r)
    side = limits.rows(rows, limits.ProblemFigures(cost, quality, loads))
    charged = limits.priced(overage, minimum, m, r)
    if charged and asked[0] == "budget":
        given = "overage" if overage else "minimum"
        raise ProblemError(f"{given} was given with budget, wanted it with min_quality or quality_value")
    ranks = None if priority is None else whole("priority", priority, np.int64)
    if ranks is not None:
        shaped("priority", ranks, (n,), "one per query")
    return {
        "shape": (n, m, r),
        "cost": cost,
        "quality": quality,
        "goal": asked,
        "load": loads,
        "capacity": _capacities(capacity, r, m),
        "pools": [(pool.models, pool.resource, pool.capacity) for pool in shared],
        "pool_names": [pool.name for pool in shared],
        "rows": [(row.values, row.members, row.at_least, row.mean, row.limit) for row in side],
        "row_names": [row.name for row in side],
        "priced": [each[:5] for each in charged],
        "charges": [each.charge for each in charged],
        "allowed": None if allowed is None else flags("allowed", allowed, (n, m), "queries x models"),
        "query_floor": _floors(query_floor, n),
        "priority": ranks,
        "group": _groups(group, n),
        "group_min_quality": _group_limits("group_min_quality", group_min_quality),
        "group_budget": _group_limits("group_budget", group_budget),
        "defer_unroutable": unroutable == "defer",
    }


class Effort(TypedDict):
    """What `_core` takes as options."""

    tolerance: float
    time_limit: float | None
    node_limit: int | None
    threads: int | None
    warm_start: tuple[str, float, tuple[Array, Array, Array, Array, Array, Array]] | None


def effort(tolerance: float, time_limit: float | None, node_limit: int | None, threads: int | None) -> Effort:
    """Check how hard to try."""
    tolerance = number("tolerance", tolerance)
    if not 0.0 <= tolerance < np.inf:
        raise ProblemError(f"tolerance is {tolerance}, wanted a finite number >= 0")
    if time_limit is not None:
        time_limit = number("time_limit", time_limit, "seconds")
        if not time_limit >= 0.0:
            raise ProblemError(f"time_limit is {time_limit}, wanted seconds >= 0")
        time_limit = None if time_limit > 1e9 else time_limit
    return {
        "tolerance": tolerance,
        "time_limit": time_limit,
        "node_limit": None if node_limit is None else count("node_limit", node_limit, 0),
        "threads": None if threads is None else count("threads", threads, 1),
        "warm_start": None,
    }


def count(name: str, value: object, least: int) -> int:
    """Make a whole number of at least so much."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise ProblemError(f"{name} is {value!r}, wanted a whole number >= {least}")
    if value < least:
        raise ProblemError(f"{name} is {value}, wanted a whole number >= {least}")
    return min(int(value), 2**62)
