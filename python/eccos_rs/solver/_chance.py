"""From a search over spreads to an answer: status, bound and gap, and why a promise is out of reach."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs import _core
from eccos_rs.solver import _uncertain
from eccos_rs.solver._chance_search import APART, Search
from eccos_rs.solver.chance_proof import Chance

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eccos_rs.solver._arrays import Arrays, Effort
    from eccos_rs.solver._chance_search import Node, Raw
    from eccos_rs.solver._uncertain import Uncertain


def solve(problem: Arrays, unsure: Uncertain, effort: Effort, *, alternatives: bool) -> tuple[Raw, Chance]:
    """Solve a problem with uncertain limits: an answer as the core gives it, and what it says of itself."""
    # The problem without uncertainty: every value is looked at, and nothing can cost less.
    certain = _core.assign(problem, effort | {"warm_start": None}, alternatives)
    rows = np.flatnonzero(_uncertain.allowed_pairs(problem).any(axis=1))
    if not len(rows):
        names = tuple(limit.name for limit in unsure.limits)
        return certain, Chance(unsure.confidence, float("nan"), names, np.zeros(len(names)), ())
    return _Answer(problem, unsure, effort, rows, alternatives).found()


_PROVEN = 1e-9
"""Relative gap up to which nothing better can be told apart."""


class _Answer:
    """From a search over some of the queries to the answer for all."""

    def __init__(
        self,
        problem: Arrays,
        unsure: Uncertain,
        effort: Effort,
        rows: NDArray[np.intp],
        alternatives: bool,
    ) -> None:
        self.problem, self.unsure, self.effort, self.rows = problem, unsure, effort, rows
        self.alternatives = alternatives
        sub = _uncertain.plain(problem, rows)
        self.search = Search(sub, unsure.take(rows), effort, alternatives=alternatives)
        low, high = self.search.unsure.range(sub)
        self.began = perf_counter()
        self.nodes = self.search.run(low, high)
        self.root_spread = self.search.spread_at(self.nodes[0].model, high)

    def found(self, deferring: bool = True) -> tuple[Raw, Chance]:
        """Return the best assignment, or what comes nearest to what was asked."""
        search = self.search
        if search.best is not None:
            _, raw, shift = search.best
            return self.answer(raw, shift, [])
        empty = all(node.key == np.inf for node in self.nodes)
        short = empty and all(node.raw["status"] == "overloaded" for node in self.nodes)
        if search.goal == "min_quality" and not short:
            nearest = search.nearest(self.root_spread)
            sure = -1.0 if nearest is None else search.guaranteed(nearest[0]["model"])
            cut_short = search.interrupted and not empty
            if nearest is not None and cut_short and sure >= search.wanted - _core.REQUIREMENT_TOLERANCE:
                # The search was cut short before it came to this one.
                raw, shift = nearest
                return self.answer(raw | {"criterion": "cost", "reasons": None}, shift, [])
            if nearest is not None:
                return self.answer(*nearest, self.reasons(nearest[0], empty), proven=empty)
        raw, shift = search.solve(self.root_spread, self.root_spread, None)
        if not (raw["model"] < 0).any():
            return self.answer(raw, shift, self.reasons(raw, empty), proven=empty)
        served = self.rows[raw["model"] >= 0]
        reasons, repair = raw["reasons"], raw["repair"]
        if len(served) and deferring:
            rest = _Answer(self.problem, self.unsure, self.effort, served, self.alternatives)
            raw, chance = rest.found(deferring=False)
            reasons = [*reasons, *(raw["reasons"] or [])]
        else:
            raw, chance = self.answer(raw, shift, [])
        status = "overloaded" if short else "undecided"
        if not short:
            reasons = [
                ("not_placed", numbers) if name == "capacity_short" else (name, numbers)
                for name, numbers in reasons
            ]
        return raw | {"status": status, "reasons": reasons, "repair": repair}, chance

    def reasons(self, raw: Raw, empty: bool) -> list[tuple[str, list[tuple[str, float]]]]:
        """Say why what was asked is out of reach."""
        search = self.search
        apart = [each for each in raw["reasons"] or () if each[0].startswith(APART)]
        if search.goal != "min_quality" or apart:
            return apart or list(raw["reasons"] or [])
        numbers = {
            "wanted": search.wanted,
            "attainable": search.guaranteed(raw["model"]),
            "confidence": self.unsure.confidence,
        }
        if empty:
            whole = any(
                name == "no_whole_assignment" for node in self.nodes for name, _ in node.raw["reasons"] or ()
            )
            searched: list[Any] = [("no_whole_assignment", [])] if whole else []
            return [("quality_above_confident", list(numbers.items())), *searched]
        return [("not_found", [("seconds", perf_counter() - self.began)])]

    def answer(
        self, raw: Raw, shift: float, reasons: list[Any], *, proven: bool = True
    ) -> tuple[Raw, Chance]:
        """Return an assignment of the searched queries as the answer for all."""
        search, nodes = self.search, self.nodes
        model = raw["model"]
        served = np.flatnonzero(model >= 0)
        given_up = bool(reasons) and search.goal == "min_quality"
        criterion = "quality" if given_up else raw["criterion"]
        cost = float(search.problem["cost"][served, model[served]].sum(dtype=np.float64))
        total = float(search.problem["quality"][served, model[served]].sum())
        mean = total / len(served) if len(served) else float("nan")
        sure = search.guaranteed(model)
        value = {"cost": cost, "quality": sure if given_up else mean, "value": cost - search.wanted * total}[
            criterion
        ]
        bound, dual_bound = self.bounds(given_up, criterion) if len(served) else (0.0, 0.0)
        value = value if len(served) else 0.0
        gap = _gap(value, bound)
        duals = search.duals(raw, shift)
        status = raw["status"]
        if not reasons:
            status = "optimal" if gap <= self.effort["tolerance"] else "feasible"
        elif not proven:
            status = "undecided"
        elif given_up:
            status = "row_unreachable" if any("row" in name for name, _ in reasons) else "budget_unreachable"
            status = status if sure >= search.wanted - _core.REQUIREMENT_TOLERANCE else "quality_unreachable"
        short = search.wanted - sure
        missed = {
            "min_quality": short if short > _core.REQUIREMENT_TOLERANCE else 0.0,
            "budget": max(cost - search.wanted, 0.0) if reasons else 0.0,
            "quality_value": 0.0,
        }
        _, m, r = self.problem["shape"]
        sums = duals.capacity, duals.pool, duals.group_quality, duals.group_budget, duals.row, duals.priced
        short_of = missed[search.goal] > 0
        repair: tuple[Any, ...] = (
            sure if given_up and short_of else None,
            cost if search.goal == "budget" and short_of else None,
            [],
            [],
            [],
        )
        made = raw | {
            "status": status,
            "model": self.spread(model, -1, np.int32),
            "cost": cost,
            "quality": mean,
            "criterion": criterion,
            "objective": value,
            "bound": bound,
            "dual_bound": dual_bound,
            "gap": gap,
            "capacity_price": raw["capacity_price"][: r * m],
            "duals": (duals.requirement, sums),
            "violation": missed[search.goal],
            "reasons": reasons or None,
            "repair": repair if reasons else None,
            "proven": gap <= _PROVEN and not reasons,
            "interrupted": search.interrupted,
            **search.totals,
        }
        if search.goal == "min_quality":
            made["quality_price"] = duals.requirement * len(served)
        if raw["alternatives"] is not None:
            second, margin = raw["alternatives"]
            made["alternatives"] = self.spread(second, -1, np.int32), self.spread(margin, np.inf, np.float64)
        return made, search.chance(model, nodes)

    def bounds(self, given_up: bool, criterion: str) -> tuple[float, float]:
        """Return what nothing can beat, and what the prices of the boxes alone prove of that."""
        search = self.search
        if given_up:
            most = [self.most(node) for node in self.nodes]
            return max(most), max(most)
        if criterion != search.criterion:
            return (0.0, 0.0) if criterion == "cost" else (1.0, 1.0)
        inside = [node for node in self.nodes if node.key < np.inf]
        if not inside:  # what lies outside of every box cannot be
            inside = self.nodes
            bounds = [node.piece.bound for node in inside]
            least = max(bounds) if search.sign < 0 else min(bounds)
            return least, least
        key = min(node.key for node in inside)
        proven = min(search.sign * node.piece.bound for node in inside)
        return search.sign * key, search.sign * min(proven, key)

    def most(self, node: Node) -> float:
        """Return what no guaranteed mean in a box is above; 1 where the box is not known to be empty."""
        if node.key < np.inf or node.piece.criterion != "quality":
            return 1.0
        _, constant = _uncertain.chord(node.low, node.high)
        named = [limit.resource is None for limit in self.unsure.limits]
        lost = self.unsure.kappa * float(constant[named].sum()) / len(self.rows)
        return min(node.piece.bound - lost, 1.0)

    def spread(self, values: NDArray[Any], empty: float, dtype: type) -> NDArray[Any]:
        """Return figures of the searched queries among all, the others empty."""
        everyone: NDArray[Any] = np.full(self.problem["shape"][0], empty, dtype)
        everyone[self.rows] = values
        return everyone


def _gap(value: float, bound: float) -> float:
    distance = abs(value - bound)
    if distance <= 1e-14 * max(abs(value), abs(bound)):
        return 0.0
    return distance / abs(bound) if bound else float("inf")
