"""One assignment over shards that are never in memory together: prices from a sample, exact passes by price.

Every row takes the model of least *reduced* cost at given prices; only rows near a tie can change when the
prices move a little. So a sample gives prices and how uncertain they are, a pass over all shards decides
the rows far from any tie and lists the others, and the list is solved exactly against what the decided rows
leave. Decided rows and list together are a feasible assignment of all rows; the sum of the least reduced
costs bounds what any could reach.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.bulk.passes import (
    DecisionPrices,
    Goal,
    LocalPasses,
    Passes,
    Rows,
    Shard,
    Sums,
    limits_value,
    objective,
    relative_gap,
)
from eccos_rs.bulk.room import Room
from eccos_rs.errors import InputError
from eccos_rs.solver.assignment import assign

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from eccos_rs.solver.assignment import Assignment

__all__ = ["JointAnswer", "solve_shards"]

SAMPLE = 100_000
LISTED = 200_000
"""Rows near a tie that are solved exactly; more are thinned at random."""

PARTS = 16
"""Disjoint parts of the sample whose prices say how uncertain the sample's are."""

PASSES = 8
GAP = 1e-7

_UNREACHED = ("quality_unreachable", "budget_unreachable", "overloaded", "infeasible")


@dataclass(frozen=True, slots=True)
class JointAnswer:
    """An assignment of all rows, as prices and the rows that are settled one by one.

    Attributes
    ----------
    status : str
        As of `Assignment`.
    goal : Goal
        As it was applied: a relative quality has become a mean.
    prices : DecisionPrices
        A row that is not settled takes its model of least reduced cost at these.
    settled : list of (ndarray, ndarray)
        For each shard: row numbers, and their models.
    rows, deferred : int
        Rows with a model, and those that no model may take.
    cost, quality : float
        US dollars of all, mean predicted success.
    bound, gap : float
        What no assignment can beat, in the unit of the objective (total cost, or mean quality with a budget),
        and the relative distance to it.
    counts : ndarray, shape (M,)
    passes : int
    margin : float
        Points of mean quality that the confidence adds.
    bounds : list of float
        For each shard its part of the dual value at `bound_prices`: anyone can compute one again.
    bound_prices : DecisionPrices
    """

    status: str
    goal: Goal
    prices: DecisionPrices
    settled: list[tuple[NDArray[np.int64], NDArray[np.int64]]]
    rows: int
    deferred: int
    cost: float
    quality: float
    bound: float
    gap: float
    counts: NDArray[np.float64]
    passes: int
    margin: float = 0.0
    bounds: list[float] = field(default_factory=list)
    bound_prices: DecisionPrices | None = None


def solve_shards(
    shards: Sequence[Shard] | Passes,
    goal: Goal,
    *,
    capacity: NDArray[np.float64] | Room | None = None,
    confidence: float | None = None,
    sample: int = SAMPLE,
    listed: int = LISTED,
    seed: int = 0,
) -> JointAnswer:
    """Assign the rows of all shards together.

    Parameters
    ----------
    shards : sequence of Shard, or Passes
        The latter makes the passes elsewhere (see `eccos_rs.integrations.ray`).
    goal : Goal
    capacity : ndarray of float64, shape (M,), or Room, optional
        Rows that each model may take, and several together.
    confidence : float, optional
        With a mean quality: keep it for these very rows with this probability.
    sample, listed : int
        Rows of the sample, and rows near a tie that are solved exactly.
    seed : int
        Same shards and seed, same answer.

    Raises
    ------
    InputError
        The capacities hold fewer rows than there are.
    """
    room = Room.of(capacity)
    passes: Passes = LocalPasses(shards) if isinstance(shards, list | tuple) else shards  # type: ignore[assignment]
    if confidence is None or goal.kind != "min_quality":
        return _Solve(passes, goal, room, (sample, listed, seed)).run()
    answer, margin, promised = None, 0.0, goal.value
    for _ in range(4):
        raised = replace(goal, value=min(1.0, promised + margin))
        answer = _Solve(passes, raised, room, (sample, listed, seed)).run()
        spread = float(np.sqrt(answer_variance(passes, answer) / max(answer.rows, 1)))
        needed = NormalDist().inv_cdf(confidence) * spread / float(np.sqrt(max(answer.rows, 1)))
        if margin >= needed:
            break
        margin = needed * 1.001
    assert answer is not None  # the loop ran
    return replace(answer, margin=margin)


def answer_variance(passes: Passes, answer: JointAnswer) -> float:
    """Return the mean of q (1 - q) over the rows as the prices decide them."""
    none = np.zeros((1 + len(answer.prices.places),) * 2)
    sums = passes.sums(answer.goal, answer.prices, none, 1.0, False)
    return sum(each.variance for each in sums) / max(sum(each.rows for each in sums), 1)


class _Solve:
    """One solve: the prices of the sample, then passes until the gap is closed."""

    def __init__(
        self,
        passes: Passes,
        goal: Goal,
        room: Room | None,
        sizes: tuple[int, int, int],
        nearest: bool = False,
    ) -> None:
        self.passes, self.goal, self.room = passes, goal, room
        self.sizes, self.nearest = sizes, nearest
        self.sample_rows, self.most, self.seed = sizes

    def run(self) -> JointAnswer:
        """Return the best assignment that the passes found."""
        models, total = self.passes.size()
        if self.room is not None and self.room.most < total:
            raise InputError(
                f"capacity: the models hold {self.room.most:,.0f} of {total:,} rows; raise a limit, "
                "or route fewer rows"
            )
        prices, covariance, drawn = self._from_sample(models, total)
        best: JointAnswer | None = None
        bound, at_bound, parts = -np.inf, prices, [0.0]
        share = 1.0
        for number in range(1, PASSES + 1):
            sums = self.passes.sums(self.goal, prices, covariance, share, True)
            dual = sum(each.dual for each in sums) - limits_value(self.goal, prices, self.room, total)
            if dual > bound:
                bound, at_bound, parts = dual, prices, [each.dual for each in sums]
            near = sum(each.near for each in sums)
            handed = sum(len(each.listed) for each in sums)
            if handed > 2 * self.most:
                # Too many to solve at once: again, and only a share of them is handed over.
                share = self.most / near
                continue
            part = handed / near if near else 1.0
            found = self._settle(sums, total, part)
            if found is None:
                covariance, share = covariance * 16.0, 1.0
                continue
            if part == 1.0:
                answer = self._answer(sums, found, prices, total, number)
                if best is None or self._objective(answer) < self._objective(best):
                    best = answer
                gap = relative_gap(self._objective(best), bound)
                best = replace(
                    best, bound=self._bound(bound, total), gap=gap, bounds=parts, bound_prices=at_bound,
                    passes=number, status="optimal" if gap <= 1e-4 else "feasible",
                )  # fmt: skip
                if gap <= GAP or not near:
                    return best
            prices = self._prices(found) if found is not True else prices
            narrower = 2.0 * (near / max(total, 1)) * np.sqrt(drawn / max(handed, 1))
            covariance, share = covariance * min(1.0, narrower) ** 2, 1.0
        if best is None:
            return self._out_of_reach(models, total)
        return best

    def _from_sample(self, models: int, total: int) -> tuple[DecisionPrices, NDArray[np.float64], int]:
        rows = Rows.joined(self.passes.sample(self.sample_rows / max(total, 1), self.seed))
        if self.goal.kind == "quality_value" and self.room is None:
            return DecisionPrices(self.goal.value, np.zeros(models)), np.zeros((1 + models,) * 2), len(rows)
        found = self._assign(rows, len(rows) / max(total, 1))
        prices = self._prices(found)
        if len(rows) >= total:
            # All rows are here: all are settled one by one.
            return prices, np.diag(np.full(1 + models, 1e18)), len(rows)
        mixed = np.random.default_rng(self.seed).permutation(len(rows))
        spread = []
        for part in np.array_split(mixed, PARTS):
            if len(part):
                each = self._prices(self._assign(rows.take(part), len(part) / max(total, 1)))
                spread.append([each.goal, *each.places])
        covariance = np.atleast_2d(np.cov(np.array(spread).T)) / PARTS
        # A price that no part saw move is not known for certain.
        covariance[0, 0] = max(covariance[0, 0], (1e-3 * prices.goal) ** 2)
        if self.goal.kind == "quality_value":
            covariance[0, :] = covariance[:, 0] = 0.0
        return prices, covariance, len(rows)

    def _prices(self, found: Assignment) -> DecisionPrices:
        places = np.asarray(found.duals.capacity, dtype=np.float64).reshape(-1)
        places = np.where(np.isfinite(places), places, 0.0)
        pools = np.where(np.isfinite(found.duals.pool), found.duals.pool, 0.0)
        if self.room is not None:
            places = places + self.room.spread(pools)
        return DecisionPrices(float(found.duals.requirement), places, pools)

    def _assign(self, rows: Rows, share: float) -> Assignment:
        """Solve a share of all rows for the same share of every limit."""
        value = self.goal.value * share if self.goal.kind == "budget" else self.goal.value
        return self._solver(rows, value, None if self.room is None else self.room.share(share))

    def _solver(self, rows: Rows, value: float, room: Room | None) -> Assignment:
        limits: dict[str, Any] = {self.goal.kind: value, **({} if room is None else room.options())}
        return assign(
            rows.cost, rows.quality, tolerance=1e-9, unroutable="defer",
            allowed=None if rows.allowed.all() else rows.allowed, **limits,
        )  # fmt: skip

    def _settle(self, sums: list[Sums], total: int, part: float) -> Any:
        """Solve the listed rows against what the decided ones leave; None when that cannot be."""
        listed = [each.content for each in sums if each.content is not None and len(each.content)]
        if not listed:
            return True if self._holds(sums, total) else None
        rows = Rows.joined(listed)
        value = self.goal.value
        if self.goal.kind == "min_quality":
            left = (self.goal.value * total - sum(each.quality for each in sums)) * part
            value = max(left, 0.0) / len(rows)
            if value > 1.0:
                return None
        elif self.goal.kind == "budget":
            value = (self.goal.value - sum(each.cost for each in sums)) * part
            if value < 0:
                return None
        room = None
        if self.room is not None:
            room = self.room.left(_counts(sums))
            if room is None:
                return None
            room = room if part == 1.0 else room.share(part)
        found = self._solver(rows, value, room)
        return None if str(found.status) in _UNREACHED or (found.model < 0).any() else found

    def _holds(self, sums: list[Sums], total: int) -> bool:
        if self.goal.kind == "min_quality":
            kept = sum(each.quality for each in sums) >= self.goal.value * total - 1e-9 * total
        elif self.goal.kind == "budget":
            kept = sum(each.cost for each in sums) <= self.goal.value * (1 + 1e-12)
        else:
            kept = True
        return kept and (self.room is None or self.room.holds(_counts(sums)))

    def _answer(
        self, sums: list[Sums], found: Any, prices: DecisionPrices, total: int, passes: int
    ) -> JointAnswer:
        cost, quality = sum(each.cost for each in sums), sum(each.quality for each in sums)
        counts = _counts(sums)
        settled, start = [], 0
        for each in sums:
            size = len(each.listed)
            model = np.zeros(0, dtype=np.int64) if found is True else found.model[start : start + size]
            settled.append((each.listed, model.astype(np.int64)))
            start += size
            if size and each.content is not None:
                at = np.arange(size)
                cost += float(each.content.cost[at, model].sum())
                quality += float(each.content.quality[at, model].astype(np.float64).sum())
                counts = counts + np.bincount(model, minlength=len(counts))
        return JointAnswer(
            "feasible", self.goal, prices, settled, total, 0, cost, quality / max(total, 1), np.nan, np.inf,
            counts, passes,
        )  # fmt: skip

    def _objective(self, answer: JointAnswer) -> float:
        return objective(self.goal, answer.cost, answer.quality * answer.rows)

    def _bound(self, dual: float, total: int) -> float:
        return -dual / max(total, 1) if self.goal.kind == "budget" else dual

    def _out_of_reach(self, models: int, total: int) -> JointAnswer:
        """Return the nearest there is: the highest quality, or the least cost, within the capacities."""
        if self.nearest:
            raise InputError(
                f"capacity: no way to place all of {total:,} rows was found where the models may take them; "
                "raise a limit, or route fewer rows"
            )
        kind: Any = "budget" if self.goal.kind == "min_quality" else "min_quality"
        limit = 1e300 if kind == "budget" else 0.0
        solve = _Solve(self.passes, Goal(kind, limit), self.room, self.sizes, nearest=True)
        status = "quality_unreachable" if kind == "budget" else "budget_unreachable"
        return replace(solve.run(), status=status)


def _counts(sums: Sequence[Sums]) -> NDArray[np.float64]:
    """Return the decided rows at each model, (M,)."""
    return np.asarray(np.sum([each.counts for each in sums], axis=0), dtype=np.float64)
