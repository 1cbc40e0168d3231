"""Limits that hold with a confidence, and the linear limits that stand for them.

With independent pairs of standard deviation `s`, a limit on `sum a x` that is to hold with a confidence is

    sum a x  +  kappa sqrt(sum s^2 x)  <=  b        (a promise: with the signs of a and b turned)

and between two spreads `l <= sqrt(sum s^2 x) <= h` the root lies above its chord, which is linear:

    sqrt(V)  >=  (V + l h) / (l + h)

With `l = h` the chord is a tangent, which lies above the root: whatever keeps that limit keeps the true one.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from eccos_rs.errors import ProblemError
from eccos_rs.solver import _numbers as numbers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eccos_rs.solver._arrays import Arrays

    Floats = NDArray[np.float64]


class UncertainLimit(NamedTuple):
    """One uncertain limit: the promise (no resource), a capacity, or a pool (its number)."""

    resource: int | None
    columns: NDArray[np.bool_]
    pool: int | None
    name: str


class Uncertain(NamedTuple):
    """The uncertain limits of a problem: `kappa`, variances of quality (N, M) and of load (R, N, M)."""

    confidence: float
    kappa: float
    quality: Floats | None
    load: Floats | None
    limits: tuple[UncertainLimit, ...]

    def variance(self, limit: UncertainLimit) -> Floats:
        """Return the variance that each pair adds to a limit, (N, M)."""
        if limit.resource is None:
            assert self.quality is not None  # only then is there such a limit
            return self.quality
        assert self.load is not None
        return cast("Floats", self.load[limit.resource] * limit.columns)

    def spreads(self, model: NDArray[Any]) -> Floats:
        """Return the standard deviation of every limit's sum under an assignment."""
        served = np.flatnonzero(model >= 0)
        found = [self.variance(limit)[served, model[served]].sum() for limit in self.limits]
        return np.sqrt(np.array(found, dtype=np.float64))

    def range(self, problem: Arrays) -> tuple[Floats, Floats]:
        """Return spreads that no assignment of all queries is below or above: least and largest variances.

        Of a capacity no more variance can come than from the queries that bring most of it for their load.
        """
        may = allowed_pairs(problem)
        ends = []
        for limit in self.limits:
            variance = self.variance(limit)
            least = np.where(may, variance, np.inf).min(axis=1, initial=np.inf)
            most = np.where(may, variance, 0.0).max(axis=1, initial=0.0)
            if limit.resource is not None:
                most = _within(problem, limit, may & limit.columns, most)
            ends.append((least[np.isfinite(least)].sum(), most.sum()))
        low, high = np.sqrt(np.array(ends, dtype=np.float64).reshape(-1, 2)).T
        # Sums in another order may differ by their rounding.
        return low * (1 - 1e-9), np.maximum(high, low) * (1 + 1e-9)

    def take(self, rows: NDArray[np.intp]) -> Uncertain:
        """Return the same over some of the queries."""
        return self._replace(
            quality=None if self.quality is None else self.quality[rows],
            load=None if self.load is None else self.load[:, rows],
        )


def _within(problem: Arrays, limit: UncertainLimit, may: NDArray[np.bool_], variance: Floats) -> Floats:
    """Return the variances that fit into a capacity at most: the densest first, the last one in part."""
    n, m, r = problem["shape"]
    load, capacity = problem["load"], problem["capacity"]
    assert load is not None  # without loads there is no such limit
    own = np.where(may, load.reshape(r, n, m)[limit.resource], np.inf).min(axis=1, initial=np.inf)
    if limit.pool is not None:
        room = problem["pools"][limit.pool][2]
    else:
        assert capacity is not None
        room = float(capacity.reshape(r, m)[limit.resource, limit.columns.argmax()])
    with np.errstate(divide="ignore", invalid="ignore"):
        density = np.where(own > 0, variance / own, np.inf)
    order = np.argsort(-density, kind="stable")
    left = room - np.concatenate([[0.0], np.cumsum(own[order])])[:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(own[order] > 0, np.clip(left / own[order], 0.0, 1.0), 1.0)
    return np.asarray(variance[order] * np.nan_to_num(share))


def chord(low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """Return slope and constant of the chord of the root over the variance (equal ends: of the tangent)."""
    total = low + high
    slope = np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)
    return slope, low * high * slope


def uncertain(
    problem: Arrays, quality_std: object, load_std: object, confidence: float | None
) -> Uncertain | None:
    """Check what is known of the spread; None when nothing is."""
    if quality_std is None and load_std is None:
        if confidence is not None:
            raise ProblemError("confidence was given without quality_std or load_std, wanted one of them too")
        return None
    if confidence is None:
        given = "quality_std" if quality_std is not None else "load_std"
        raise ProblemError(f"{given} was given without confidence, wanted both")
    if problem["priced"]:
        raise ProblemError("confidence was given with overage or minimum, wanted one of them")
    level = _level(confidence)
    n, m, r = problem["shape"]
    may = allowed_pairs(problem)
    limits: list[UncertainLimit] = []
    spread = load_spread = None
    if quality_std is not None:
        if problem["goal"][0] != "min_quality":
            raise ProblemError(
                "quality_std was given without min_quality, the promise that it makes uncertain"
            )
        if problem["group_min_quality"] is not None:
            raise ProblemError("quality_std was given with group_min_quality, wanted one of them")
        spread = _variance("quality_std", quality_std, (n, m), may)
        limits.append(UncertainLimit(None, np.ones(m, bool), None, "min_quality"))
    if load_std is not None:
        if problem["load"] is None:
            raise ProblemError("load_std was given without load, wanted both")
        shape = problem["load"].shape
        load_spread = _variance("load_std", load_std, shape, may).reshape(r, n, m)
        limits += _load_limits(problem)
    return Uncertain(level, NormalDist().inv_cdf(level), spread, load_spread, tuple(limits))


def _load_limits(problem: Arrays) -> list[UncertainLimit]:
    _, m, r = problem["shape"]
    limits = []
    if problem["capacity"] is not None:
        for resource, column in np.argwhere(np.isfinite(problem["capacity"].reshape(r, m))).tolist():
            place = f"{column}" if r == 1 else f"{resource}, {column}"
            limits.append(UncertainLimit(resource, np.arange(m) == column, None, f"capacity[{place}]"))
    for at, (models, resource, most) in enumerate(problem["pools"]):
        if np.isfinite(most):
            limits.append(UncertainLimit(resource, models.astype(bool), at, problem["pool_names"][at]))
    return limits


def _level(confidence: object) -> float:
    try:
        level = float(confidence)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        level = float("nan")
    if not 0.5 <= level < 1.0:
        raise ProblemError(f"confidence is {confidence!r}, wanted a number in [0.5, 1)")
    return level


def _variance(name: str, given: object, shape: tuple[int, ...], may: NDArray[np.bool_]) -> Floats:
    values = numbers.real(name, given).astype(np.float64)
    numbers.shaped(name, values, shape, "as the means that it belongs to")
    wrong = np.argwhere(~((values >= 0) & (values < 1e150)) & np.broadcast_to(may, shape))
    if len(wrong):
        at = tuple(wrong[0].tolist())
        raise ProblemError(f"{name}{list(at)} is {values[at]}, wanted a finite number >= 0")
    return np.square(np.where(may, values, 0.0))


def allowed_pairs(problem: Arrays) -> NDArray[np.bool_]:
    """Return the pairs that mask and floors leave, (N, M)."""
    n, m, _ = problem["shape"]
    may = np.ones((n, m), bool) if problem["allowed"] is None else problem["allowed"].astype(bool)
    floor = problem["query_floor"]
    return may if floor is None else may & ~(problem["quality"] < floor[:, None])


def plain(problem: Arrays, rows: NDArray[np.intp]) -> Arrays:
    """Return some of the queries, floors made part of the mask: the core will see another quality."""
    may = allowed_pairs(problem)[rows]
    n, m, r = len(rows), *problem["shape"][1:]

    def some(name: str) -> Any:
        values = problem[name]  # type: ignore[literal-required]
        return None if values is None else np.ascontiguousarray(values[rows])

    load = problem["load"]
    taken = dict(problem)
    taken |= {name: some(name) for name in ("cost", "priority", "group")}
    taken |= {
        "shape": (n, m, r),
        "quality": np.where(may, some("quality"), 0.0).astype(np.float64),
        "load": None
        if load is None
        else np.where(may, load.reshape(r, -1, m)[:, rows], 0.0).astype(np.float64),
        "allowed": np.ascontiguousarray(may).view(np.uint8),
        "query_floor": None,
        "rows": [
            (
                np.ascontiguousarray(values[rows]),
                None if members is None else np.ascontiguousarray(members[rows]),
                *rest,
            )
            for values, members, *rest in problem["rows"]
        ],
    }
    return cast("Arrays", taken)


def linear(problem: Arrays, unsure: Uncertain, low: Floats, high: Floats) -> tuple[Arrays, float]:
    """Return the plain problem with the chords of a box in place of the roots, and how qualities were moved.

    The core takes qualities in [0, 1]: `q` is handed over as `(q + shift) / (1 + shift)`.
    """
    n, m, r = problem["shape"]
    made = dict(problem)
    slope, constant = chord(low, high)
    slope, constant = unsure.kappa * slope, unsure.kappa * constant
    shift = 0.0
    load = problem["load"]
    extra: list[Floats] = []
    capacity = None if problem["capacity"] is None else problem["capacity"].reshape(r, m).copy()
    pools = list(problem["pools"])
    if unsure.load is not None and load is not None:
        load = load.copy()
    for k, limit in enumerate(unsure.limits):
        more = slope[k] * unsure.variance(limit)
        if limit.resource is None:
            worth = problem["quality"] - more
            shift = max(0.0, -float(worth.min(initial=0.0)))
            wanted = problem["goal"][1] + constant[k] / n
            made["quality"] = (worth + shift) / (1.0 + shift)
            made["goal"] = ("min_quality", min(max((wanted + shift) / (1.0 + shift), 0.0), 1.0))
        elif limit.pool is None:
            assert load is not None and capacity is not None  # noqa: PT018 - of one and the same limit
            load[limit.resource] += more
            at = int(limit.columns.argmax())
            capacity[limit.resource, at] = max(capacity[limit.resource, at] - constant[k], 0.0)
        else:
            assert problem["load"] is not None
            extra.append(problem["load"][limit.resource] + more)
            models, _, most = pools[limit.pool]
            pools[limit.pool] = (models, r + len(extra) - 1, max(most - constant[k], 0.0))
    if load is not None and extra:
        load = np.concatenate([load, np.stack(extra)])
        if capacity is not None:
            capacity = np.concatenate([capacity, np.full((len(extra), m), np.inf)])
    made |= {"shape": (n, m, r + len(extra)), "load": load, "capacity": capacity, "pools": pools}
    return cast("Arrays", made), shift
