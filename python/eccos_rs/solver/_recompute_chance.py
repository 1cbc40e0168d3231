"""The arithmetic behind `certify` where limits hold with a confidence.

Each piece is a linear program: with the chord of the root in place of the root, its multipliers prove a bound
for every assignment whose spreads lie in its box, and the boxes cover all spreads that there can be.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from eccos_rs import _core
from eccos_rs.solver._recompute import ROUNDING, Recomputed
from eccos_rs.solver.chance_proof import covers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from eccos_rs.solver._answer import Assignment
    from eccos_rs.solver._data import Data
    from eccos_rs.solver._duals import Duals
    from eccos_rs.solver._recompute import Verdict
    from eccos_rs.solver._uncertain import Uncertain, UncertainLimit
    from eccos_rs.solver.chance_proof import Chance, Piece

    Floats = NDArray[np.float64]


class _Said(NamedTuple):
    """What the arithmetic reads of an answer, for a piece."""

    model: NDArray[np.int32]
    criterion: str
    duals: Duals


class RecomputedChance(Recomputed):
    """The figures of an assignment under uncertainty, and the verdicts over its claims."""

    def __init__(self, data: Data, answer: Assignment, unsure: Uncertain) -> None:
        super().__init__(data, answer)
        assert answer.chance is not None  # the caller has looked
        self.chance: Chance = answer.chance
        self.unsure = unsure
        self.spread = np.array([np.sqrt(self._taken(unsure.variance(each)).sum()) for each in unsure.limits])
        lost = sum(
            unsure.kappa * float(spread)
            for limit, spread in zip(unsure.limits, self.spread, strict=True)
            if limit.resource is None
        )
        self.sure = float((self.total - lost) / len(self.served)) if len(self.served) else float("nan")

    @property
    def missed(self) -> float:
        """By how much the requirement is missed with the confidence."""
        if self.data.goal != "min_quality" or not len(self.served):
            return super().missed
        short = float(self.data.limit - self.sure)
        return short if short > ROUNDING else 0.0

    @property
    def objective(self) -> float:
        """In the unit of the answer: the guaranteed mean where a promise is out of reach."""
        return self.sure if self.given_up and self.data.goal == "min_quality" else super().objective

    def feasible(self) -> Iterator[Verdict]:
        """Judge what the answer says of its spreads, and that every limit holds with the confidence."""
        yield from super().feasible()
        ok = np.allclose(self.spread, self.chance.spread, rtol=ROUNDING, atol=0)
        yield "spreads", ok, f"said {self.chance.spread.tolist()}, found {self.spread.tolist()}"
        ok = bool(np.isnan(self.sure) or abs(self.sure - self.chance.quality) <= ROUNDING)
        yield "guaranteed quality", ok, f"said {self.chance.quality!r}, found {self.sure!r}"
        slack = 1.0 + _core.LOAD_TOLERANCE * max(1, len(self.served))
        most = 0.0
        for limit, spread in zip(self.unsure.limits, self.spread, strict=True):
            if limit.resource is not None:
                used = self.used[limit.resource, limit.columns].sum() + self.unsure.kappa * spread
                most = max(most, float(used - self._capacity(limit) * slack))
        yield "capacities with the confidence", most <= 0, f"largest excess {most:.6g}"
        if not len(self.served):
            return
        served = self.unsure.take(self.served)
        low, high = _range(self._some(), served)
        yield "boxes", covers(low, high, self.chance.pieces), f"{len(self.chance.pieces)} cover all spreads"

    def _capacity(self, limit: UncertainLimit) -> float:
        if limit.pool is not None:
            return self.data.pools[limit.pool][2]
        return float(self.data.capacity[limit.resource, limit.columns][0])

    def _some(self) -> Data:
        return replace(self.data, may=self.data.may[self.served], load=self.data.load[:, self.served])

    @cached_property
    def bounds(self) -> list[tuple[Piece, float, float]]:
        """What the multipliers of each piece prove, and what rounding of that is relative to."""
        found = []
        for piece in self.chance.pieces:
            data = self._piece(piece)
            # The pools' own loads have no capacities of models.
            capacity = np.zeros(data.capacity.shape)
            capacity[: len(self.data.capacity)] = piece.duals.capacity.reshape(self.data.capacity.shape)
            duals = replace(piece.duals, capacity=capacity)
            part = Recomputed(data, _Said(self.answer.model, piece.criterion, duals))  # type: ignore[arg-type]
            bound = part.bound
            if piece.criterion != self.stated and self.data.goal == "min_quality":
                bound -= self._lost(piece)
            found.append((piece, float(bound), float(part.parts)))
        return found

    @property
    def stated(self) -> str:
        """What was to be optimised."""
        return {"min_quality": "cost", "budget": "quality", "quality_value": "value"}[self.data.goal]

    def _lost(self, piece: Piece) -> float:
        """Return the constant of the promise's chord, for each query."""
        constant = _chord(piece)[1]
        named = [limit.resource is None for limit in self.unsure.limits]
        return self.unsure.kappa * float(constant[named].sum()) / max(len(self.served), 1)

    def _piece(self, piece: Piece) -> Data:
        """Return the linear problem of a piece."""
        data, kappa = self.data, self.unsure.kappa
        slope, constant = _chord(piece)
        quality, limit = data.quality, data.limit
        load, capacity, pools = data.load.copy(), data.capacity.copy(), list(data.pools)
        extra = []
        for at, each in enumerate(self.unsure.limits):
            more = kappa * slope[at] * self.unsure.variance(each)
            if each.resource is None:
                quality = quality - more
                limit = limit + kappa * constant[at] / max(len(self.served), 1)
            elif each.pool is None:
                load[each.resource] += more
                capacity[each.resource, each.columns] -= kappa * constant[at]
            else:
                extra.append(data.load[each.resource] + more)
                models, _, most = pools[each.pool]
                pools[each.pool] = (models, len(load) + len(extra) - 1, most - kappa * constant[at])
        rows = (len(extra), data.capacity.shape[1])
        return replace(
            data,
            quality=quality,
            limit=limit,
            load=np.concatenate([load, np.array(extra).reshape(len(extra), *load.shape[1:])]),
            capacity=np.concatenate([capacity, np.full(rows, np.inf)]),
            pools=tuple(pools),
        )

    @property
    def _best(self) -> list[tuple[Piece, float, float]]:
        """The pieces that may hold an assignment, with their bounds in the unit of the answer."""
        criterion = self.criterion
        return [each for each in self.bounds if each[0].criterion == criterion]

    @cached_property
    def bound(self) -> float:
        """What the pieces prove together, in the unit of the answer."""
        if not len(self.served):
            return 0.0
        bounds = [bound for _, bound, _ in self._best]
        if not bounds:
            return {"quality": 1.0, "cost": 0.0}.get(self.criterion, -self.data.limit * len(self.served))
        if self.given_up and self.data.goal == "min_quality" and len(bounds) < len(self.bounds):
            return 1.0
        return max(bounds) if self.criterion == "quality" else min(bounds)

    @cached_property
    def parts(self) -> float:
        """What the rounding of the bound is relative to."""
        return max((parts for *_, parts in self.bounds), default=0.0)

    def better_than_bound(self) -> bool | None:
        """Nothing is enumerated: a piece that holds no assignment rests on the search."""
        return None

    @property
    def proven_unreachable(self) -> bool:
        """True when no piece can hold an assignment that keeps the promise."""
        apart = {"group_budget", "row_above", "row_below"} & set(self.answer.reasons)
        if self.data.goal != "min_quality" or apart:
            return True
        # A complete search over whole assignments is not recomputed.
        searched = "no_whole_assignment" in self.answer.reasons
        return all(
            bool(
                piece.criterion != self.stated
                and (searched or piece.criterion != "quality" or bound < self.data.limit + ROUNDING)
            )
            for piece, bound, _ in self.bounds
        )


def _chord(piece: Piece) -> tuple[Floats, Floats]:
    total = piece.low + piece.high
    slope = np.where(total > 0, 1.0 / np.where(total > 0, total, 1.0), 0.0)
    return slope, piece.low * piece.high * slope


def _range(data: Data, unsure: Uncertain) -> tuple[Floats, Floats]:
    """Return spreads that no assignment of these queries is below or above."""
    low, high = [], []
    for limit in unsure.limits:
        variance = np.where(data.may, unsure.variance(limit), np.nan)
        least, most = np.nanmin(variance, axis=1), np.nanmax(variance, axis=1)
        low.append(np.sqrt(least.sum()))
        if limit.resource is not None:
            room = (
                data.pools[limit.pool][2]
                if limit.pool is not None
                else data.capacity[limit.resource, limit.columns][0]
            )
            load = np.where(data.may & limit.columns, data.load[limit.resource], np.inf).min(axis=1)
            some = np.flatnonzero(np.isfinite(load))
            kept, left = float(most[some][load[some] == 0].sum()), float(room)
            some = some[load[some] > 0]
            for i in some[np.argsort(-most[some] / load[some], kind="stable")]:
                kept += min(max(left / load[i], 0.0), 1.0) * most[i]
                left -= load[i]
            high.append(np.sqrt(kept))
        else:
            high.append(np.sqrt(most.sum()))
    return np.array(low), np.array(high)
