"""What an assignment's figures ought to be, in plain numpy: the arithmetic behind `certify`.

With multipliers `y >= 0` of the rows (requirement, capacities, limits of the groups), whoever found them, no
assignment of the served queries has a smaller sum of `p` than

    sum_i min_j (p[i, j] + what the rows charge for the pair)  -  sum of the multipliers times the limits

`p` is the cost, minus the quality (for a budget), or cost minus value (for a value of quality).
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs import _core
from eccos_rs.solver._answer import Status
from eccos_rs.solver._deferral import wrongly_deferred
from eccos_rs.solver._refute import Program, refute

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from eccos_rs.solver._answer import Assignment
    from eccos_rs.solver._data import Data

    Floats = NDArray[np.float64]
    Verdict = tuple[str, bool, str]

ROUNDING = _core.REQUIREMENT_TOLERANCE
"""Relative: what sums in another order, and a limit met exactly, may differ by. The solver's own number."""

_CRITERION = {"min_quality": "cost", "budget": "quality", "quality_value": "value"}
"""What each goal optimises while it can be reached."""


def _near(a: float, b: float, size: float = 0.0) -> bool:
    """Say whether two figures differ by no more than rounding; two NaN are the same figure."""
    if np.isnan(a) or np.isnan(b):
        return bool(np.isnan(a) and np.isnan(b))
    return bool(a == b or abs(a - b) <= ROUNDING * max(abs(a), abs(b), size))


class Recomputed:
    """The figures of an assignment, and the verdicts over its claims."""

    def __init__(self, data: Data, answer: Assignment) -> None:
        self.data, self.answer = data, answer
        m = data.cost.shape[1]
        model = np.asarray(answer.model, np.int64)
        self.served = np.flatnonzero((model >= 0) & (model < m))
        self.model = model[self.served]
        self.left = np.flatnonzero((model < 0) | (model >= m))
        self.cost = float(self._taken(data.cost).sum())
        self.total = float(self._taken(data.quality).sum())
        self.mean = self.total / len(self.served) if len(self.served) else float("nan")
        weights = [self._taken(load) for load in data.load]
        self.used = np.array([np.bincount(self.model, w, m) for w in weights]).reshape(data.capacity.shape)
        tiers = [
            each.price * max(each.sign * (self.used[each.resource, each.models].sum() - each.level), 0.0)
            for each in data.priced
        ]
        self.charges = np.bincount(data.charges, tiers) if tiers else np.zeros(0)
        self.cost += float(self.charges.sum())
        self.used_pools = np.array([self.used[resource, models].sum() for models, resource, _ in data.pools])

    def _taken(self, values: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(values[self.served, self.model])

    @property
    def criterion(self) -> str:
        """What was optimised; when the goal itself is out of reach, what comes nearest to it."""
        return self.answer.criterion

    @property
    def given_up(self) -> bool:
        """True when the requirement was out of reach, so that its row charges nothing."""
        return self.criterion != _CRITERION[self.data.goal]

    @property
    def objective(self) -> float:
        """In the unit of the answer."""
        if not len(self.served):
            return 0.0
        if self.criterion == "quality":
            return self.mean
        return self.cost - (self.data.limit * self.total if self.criterion == "value" else 0.0)

    @cached_property
    def price(self) -> Floats:
        """What each pair of a served query adds to what is made small, (served, M)."""
        data, rows = self.data, self.served
        signs = {"cost": (1.0, 0.0), "quality": (0.0, -1.0), "value": (1.0, -data.limit)}[self.criterion]
        return np.asarray(signs[0] * data.cost[rows] + signs[1] * data.quality[rows])

    @cached_property
    def scores(self) -> tuple[Floats, float]:
        """What each pair pays, charges of the rows included (infinite: not allowed), and the constant."""
        data, duals, rows = self.data, self.answer.duals, self.served
        cost, quality, may = data.cost[rows], data.quality[rows], data.may[rows]
        score = self.price.copy()
        fixed = 0.0
        y = 0.0 if self.given_up or data.goal == "quality_value" else duals.requirement
        if data.goal == "min_quality":
            score -= y * quality
            fixed += y * data.limit * len(rows)
        elif data.goal == "budget":
            score += y * cost
            fixed -= y * data.limit if y else 0.0
        mu = duals.capacity.reshape(data.capacity.shape)
        fixed -= float((mu[mu > 0] * data.capacity[mu > 0]).sum())
        for (models, resource, limit), shared in zip(data.pools, duals.pool, strict=True):
            if shared > 0:
                mu = mu + shared * (np.arange(len(mu))[:, None] == resource) * models
                fixed -= float(shared * limit)
        score += np.einsum("rj,rij->ij", mu, data.load[:, rows])
        for row, y in zip(data.rows, duals.row, strict=True):
            score += y * row.use[rows]
            fixed -= float(y) * row.total(rows)
        for each, y in zip(data.priced, duals.priced, strict=True):
            score += y * each.sign * data.load[each.resource, rows] * each.models
            fixed -= float(y) * each.sign * each.level
        fixed += self._charge_groups(score, cost, quality, data.group[rows])
        return np.where(may, score, np.inf), fixed

    @cached_property
    def bound(self) -> float:
        """What the multipliers prove, in the unit of the answer."""
        rows = self.served
        if not len(rows):
            return 0.0
        scores, fixed = self.scores
        value = float(scores.min(axis=1).sum()) + fixed
        # Bounds that need no multipliers: no cost is below 0, no quality above 1.
        if self.criterion == "quality":
            return min(-value / len(rows), 1.0)
        return max(value, 0.0 if self.criterion == "cost" else -self.data.limit * len(rows))

    @cached_property
    def parts(self) -> float:
        """What the rounding of the bound is relative to: its parts may cancel."""
        if not len(self.served):
            return 0.0
        scores, fixed = self.scores
        total = float(np.abs(scores.min(axis=1)).sum()) + abs(fixed)
        return 1e-3 * total / (len(self.served) if self.criterion == "quality" else 1)

    def _charge_groups(self, score: Floats, cost: Floats, quality: Floats, group: NDArray[Any]) -> float:
        """Charge each pair for its group's limits, in place; return the constant part."""
        data, duals = self.data, self.answer.duals
        fixed = 0.0
        for g, floor in enumerate(data.group_floor):
            if duals.group_quality.size and (y := float(duals.group_quality[g])) and not np.isnan(floor):
                inside = group == g
                score[inside] -= y * quality[inside]
                fixed += y * float(floor) * int(inside.sum())
        for g, budget in enumerate(data.group_budget):
            if duals.group_budget.size and (y := float(duals.group_budget[g])) and np.isfinite(budget):
                inside = group == g
                score[inside] += y * cost[inside]
                fixed -= y * float(budget)
        return fixed

    @property
    def gap(self) -> float:
        """Relative, to the bound of the answer; rounding is no gap."""
        bound = self.answer.bound
        if abs(self.objective - bound) <= 1e-14 * self.size or not len(self.served):
            return 0.0
        return abs(self.objective - bound) / abs(bound) if bound else float("inf")

    @cached_property
    def size(self) -> float:
        """What rounding is relative to; cost minus value may cancel, its parts do not."""
        if self.criterion == "value":
            return self.cost + self.data.limit * self.total
        return max(abs(self.objective), abs(self.bound))

    def feasible(self) -> Iterator[Verdict]:
        """Mask, floors, capacities, limits of the groups."""
        data = self.data
        outside = self.served[~self._taken(data.allowed).astype(bool)]
        yield "allowed pairs", not len(outside), f"{len(outside)} queries on a forbidden model"
        below = self.served[~self._taken(data.may).astype(bool)]
        yield "floors of the queries", not len(below), f"{len(below)} queries below their floor"
        # A sum of n terms is known to n ulps; requests are whole numbers and exact.
        slack = 0.0 if data.one_each else _core.LOAD_TOLERANCE * max(1, len(self.served))
        over = self.used - data.capacity * (1 + slack)
        finite = np.isfinite(data.capacity)
        most = float(over[finite].max(initial=0.0))
        yield "capacities", most <= 0, f"largest excess {most:.6g}"
        if data.pools:
            limits = np.array([limit for _, _, limit in data.pools])
            finite = np.isfinite(limits)
            most = float((self.used_pools - limits * (1 + slack))[finite].max(initial=0.0))
            yield "pooled capacities", most <= 0, f"largest excess {most:.6g}"
        if data.rows:
            missed = {"row_above", "row_below"} & set(self.answer.reasons)
            most = max(self._rows())
            yield (
                "side rows",
                most <= ROUNDING or bool(missed),
                f"largest relative excess {max(most, 0.0):.6g}",
            )
        short, dear = self._groups()
        promised = {"group_quality", "group_budget"} & set(self.answer.reasons)
        if len(data.group_floor):
            ok = short <= ROUNDING or "group_quality" in promised
            yield "quality of the groups", ok, f"largest shortfall of a mean {max(short, 0.0):.6g}"
            ok = dear <= ROUNDING or "group_budget" in promised
            yield "budgets of the groups", ok, f"largest relative excess {max(dear, 0.0):.6g}"

    def _rows(self) -> list[float]:
        """By how much each side row is overstepped, relative to its limit or the size of its parts."""
        excess = []
        for row in self.data.rows:
            used = self._taken(row.use)
            limit = row.total(self.served)
            size = max(abs(limit), float(np.abs(used).sum()))
            counted = bool(row.members[self.served].any())
            excess.append((float(used.sum()) - limit) / max(size, 1e-300) if counted else 0.0)
        return excess

    def _groups(self) -> tuple[float, float]:
        """Largest shortfall of a group's mean, and largest relative excess of a group's budget."""
        data, group = self.data, self.data.group[self.served]
        groups = len(data.group_floor)
        members = np.bincount(group, minlength=groups)[:groups]
        quality = np.bincount(group, self._taken(data.quality), groups)[:groups]
        cost = np.bincount(group, self._taken(data.cost), groups)[:groups]
        short = np.where(members > 0, data.group_floor - quality / np.maximum(members, 1), np.nan)
        dear = (cost - data.group_budget) / np.maximum(data.group_budget, 1e-300)
        return (
            float(np.nanmax(short, initial=-np.inf)) if groups else 0.0,
            float(np.nanmax(np.where(cost > 0, dear, -1.0), initial=-np.inf)) if groups else 0.0,
        )

    def sums(self) -> Iterator[Verdict]:
        """Cost, quality, objective, violation."""
        answer = self.answer
        unit = 1.0 if self.data.goal == "min_quality" else self.cost
        if self.data.priced:
            ok = bool(np.allclose(answer.charges, self.charges, rtol=ROUNDING, atol=ROUNDING * self.cost))
            yield "charges", ok, f"said {answer.charges.tolist()}, found {self.charges.tolist()}"
        for name, said, found, size in (
            ("cost", answer.cost, self.cost, self.cost),
            ("quality", answer.quality, self.mean, 1.0),
            ("objective", answer.objective, self.objective, self.size),
            ("violation", answer.violation, self.missed, unit),
        ):
            yield name, _near(said, found, size), f"said {said!r}, found {found!r}"

    @property
    def missed(self) -> float:
        """By how much the requirement is missed: mean quality or US dollars."""
        data = self.data
        if data.goal == "min_quality" and len(self.served):
            short = data.limit - self.mean
            return short if short > ROUNDING else 0.0
        if data.goal == "budget":
            over = self.cost - data.limit
            return over if over > ROUNDING * data.limit else 0.0
        return 0.0

    def proof(self) -> Iterator[Verdict]:
        """Multipliers, bounds, gap."""
        answer, duals = self.answer, self.answer.duals
        arrays = (
            duals.capacity, duals.pool, duals.group_quality, duals.group_budget, duals.row, duals.priced,
        )  # fmt: skip
        proper = duals.requirement >= 0 and all(bool((y >= 0).all()) for y in arrays)
        unlimited = ~np.isfinite(self.data.capacity)
        proper = proper and not duals.capacity.reshape(unlimited.shape)[unlimited].any()
        proper = proper and not any(
            y for (_, _, limit), y in zip(self.data.pools, duals.pool, strict=True) if np.isinf(limit)
        )
        proper = proper and all(
            bool(y <= each.price * (1 + ROUNDING))
            for each, y in zip(self.data.priced, duals.priced, strict=True)
        )
        yield (
            "multipliers",
            proper,
            "all >= 0, 0 where there is no limit, at most their prices",
        )
        sign = -1.0 if self.criterion == "quality" else 1.0
        rounding = ROUNDING * max(self.size, self.parts)
        ok = sign * (answer.dual_bound - self.bound) <= rounding
        yield "dual bound", ok, f"said {answer.dual_bound!r}, the multipliers prove {self.bound!r}"
        branched = sign * (answer.bound - answer.dual_bound) > rounding
        by = "the multipliers"
        if branched:
            better = self.better_than_bound()
            by = f"{answer.nodes} branch-and-bound nodes, "
            by += {True: "REFUTED: a better assignment exists", False: "confirmed", None: "not recomputed"}[
                better
            ]
            branched = better is True or not (answer.nodes > 0 or answer.proven)
        yield "bound", not branched, f"{answer.bound!r}, by {by}"
        ok = sign * (self.objective - answer.bound) >= -rounding
        yield "objective within the bound", ok, f"objective {self.objective!r}, bound {answer.bound!r}"
        # Both ends of the gap are known to within rounding of themselves.
        yield "gap", _near(answer.gap, self.gap, 2.0), f"said {answer.gap!r}, found {self.gap!r}"

    def better_than_bound(self) -> bool | None:
        """Enumerate what could beat the bound that branching proved; None when that is too much."""
        data, rows = self.data, self.served
        if data.priced:
            return None
        n, m = self.price.shape
        scores, _ = self.scores
        shape = data.capacity.shape
        at_model = np.eye(m)
        finite = [at for at in np.ndindex(shape) if np.isfinite(data.capacity[at])]
        use: list[Floats] = [data.load[r, rows] * at_model[j] for r, j in finite]
        limit: list[float] = [float(data.capacity[at]) for at in finite]
        for models, resource, shared in data.pools:
            if np.isfinite(shared):
                use.append(data.load[resource, rows] * models)
                limit.append(shared)
        for row in data.rows:
            limits = row.total(rows)
            use.append(row.use[rows])
            limit.append(limits + ROUNDING * max(abs(limits), float(np.abs(row.use[rows]).max(axis=1).sum())))
        if data.goal == "min_quality" and not self.given_up:
            use.append(-data.quality[rows])
            limit.append(-(data.limit - ROUNDING) * n)
        elif data.goal == "budget" and not self.given_up:
            use.append(data.cost[rows])
            limit.append(data.limit * (1 + ROUNDING))
        if len(data.group_floor) or len(data.group_budget) or n * m * max(len(use), 1) > 5_000_000:
            return None
        sign = -float(n) if self.criterion == "quality" else 1.0
        claim = sign * self.answer.bound
        claim -= 2 * ROUNDING * max(abs(claim), self.size * abs(sign))
        distance = max(claim - sign * self.bound, 0.0)
        reduced = scores - scores.min(axis=1, keepdims=True)
        rows_used = np.array(use).reshape(len(use), n, m)
        return refute(Program(self.price, reduced, rows_used, np.array(limit)), claim, distance)

    @property
    def proven_unreachable(self) -> bool:
        """True when the bound of what comes nearest shows that the requirement cannot be met."""
        answer, data = self.answer, self.data
        apart = {"group_quality", "group_budget", "row_above", "row_below", "no_whole_assignment"}
        if apart & set(answer.reasons):
            return True
        if not self.given_up:
            return False
        if data.goal == "min_quality":
            return self.bound < data.limit + ROUNDING
        return self.bound > data.limit * (1 - ROUNDING)

    def status(self, tolerance: float) -> Iterator[Verdict]:
        """Judge what the status says, and who was deferred."""
        answer, data = self.answer, self.data
        status = answer.status
        met = self.missed == 0.0 and max(*self._groups(), *self._rows()) <= ROUNDING
        unroutable = self.left[~data.may[self.left].any(axis=1)]
        deferred = np.setdiff1d(self.left, unroutable)
        checks = {
            Status.OPTIMAL: met and not len(deferred) and self.gap <= tolerance + ROUNDING,
            Status.FEASIBLE: met and not len(deferred),
            Status.QUALITY_UNREACHABLE: not met and not len(deferred) and self.proven_unreachable,
            Status.BUDGET_UNREACHABLE: not met and not len(deferred) and self.proven_unreachable,
            Status.ROW_UNREACHABLE: not met and not len(deferred) and self.proven_unreachable,
            Status.OVERLOADED: bool(len(deferred)),
            Status.UNDECIDED: not met or bool(len(deferred)),
        }
        ok = checks[status] and (not len(unroutable) or data.defer_unroutable)
        yield (
            "status",
            ok,
            f"{status}, {len(self.left)} without a model, promises {'kept' if met else 'missed'}",
        )
        if len(deferred) and data.one_each and not data.pools and status is Status.OVERLOADED:
            wrong = wrongly_deferred(data, self.used[0], self.served, self.model, deferred)
            yield "deferral", not wrong, wrong or "no deferred query could be served instead of a lower one"
