"""Exact answers to limits that hold with a confidence: one search over the spreads of those limits.

Every spread lies in a known range. Over a box of spreads the chords give a linear program whose bound holds
for all assignments in the box; the tangent at the spread of what it finds gives an assignment that keeps the
true limits. The box of least bound is split at that spread until the gap is closed. Every program is an
ordinary one, started from the prices of the box it came from.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from itertools import count
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs import _core
from eccos_rs.solver import _uncertain
from eccos_rs.solver._duals import Duals
from eccos_rs.solver.chance_proof import Chance, Piece

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eccos_rs.solver._arrays import Arrays, Effort
    from eccos_rs.solver._uncertain import Uncertain

    Floats = NDArray[np.float64]
    Raw = dict[str, Any]

_CRITERIA = {"min_quality": "cost", "budget": "quality", "quality_value": "value"}
_MET = ("optimal", "feasible")
_EMPTY = ("quality_unreachable", "budget_unreachable", "row_unreachable", "overloaded")
APART = ("row_", "group_")
"""Reasons that are none of the promise's."""
_SOLVES, _LEAST_SOLVES, _PAIRS, _EXACT_SOLVES = 64, 10, 2_000_000, 600
"""Programs with the default tolerance: as many as have so many pairs together; with tolerance 0."""
_EXACT_NODES = 200_000
"""Branch-and-bound nodes of all programs together with tolerance 0, as for one program of the core."""
_WORTH = 0.1
"""A box is split while that may take this share of the gap away; the rest is what whole queries cost."""
_TANGENTS = 4
_LEAST = 0.02
"""A tangent at a spread of 0 would close what has none yet: at least this share of the largest spread."""
_EDGE = 0.05
"""A split leaves each side at least this share of the box."""
_FLAT = 1e-12


@dataclass
class Node:
    """A box with what its program came to."""

    low: Floats
    high: Floats
    key: float
    piece: Piece
    raw: Raw
    model: NDArray[Any]
    prices: Floats


class Search:
    """The search over one plain problem, all of whose queries are to be served."""

    def __init__(self, problem: Arrays, unsure: Uncertain, effort: Effort, *, alternatives: bool) -> None:
        self.problem, self.unsure, self.effort = problem, unsure, effort
        self.alternatives = alternatives
        self.goal, self.wanted = problem["goal"]
        self.criterion = _CRITERIA[self.goal]
        self.sign = -1.0 if self.criterion == "quality" else 1.0
        self.end = np.inf if effort["time_limit"] is None else perf_counter() + effort["time_limit"]
        pairs = max(problem["shape"][0] * problem["shape"][1], 1)
        few = min(max(_PAIRS // pairs, _LEAST_SOLVES), _SOLVES)
        self.solves = _EXACT_SOLVES if effort["tolerance"] == 0 else few
        given = effort["node_limit"]
        self.nodes = _EXACT_NODES if given is None and effort["tolerance"] == 0 else given
        self.totals = {"steps": 0, "nodes": 0, "passes": 0}
        self.best: tuple[float, Raw, float] | None = None
        self.interrupted = False

    # What an assignment comes to.

    def key(self, model: NDArray[Any]) -> float:
        """Return the objective of an assignment of all queries, to be made small."""
        rows = np.arange(len(model))
        cost = float(self.problem["cost"][rows, model].sum(dtype=np.float64))
        quality = float(self.problem["quality"][rows, model].sum())
        if self.criterion == "quality":
            return -quality / len(model)
        return cost - (self.wanted * quality if self.criterion == "value" else 0.0)

    def guaranteed(self, model: NDArray[Any]) -> float:
        """Return the mean quality that is exceeded with the confidence."""
        served = np.flatnonzero(model >= 0)
        total = float(self.problem["quality"][served, model[served]].sum())
        for limit, spread in zip(self.unsure.limits, self.unsure.spreads(model), strict=True):
            if limit.resource is None:
                total -= self.unsure.kappa * float(spread)
        return total / len(served) if len(served) else float("nan")

    def loads_hold(self, model: NDArray[Any]) -> bool:
        """Say whether every uncertain capacity holds."""
        served = np.flatnonzero(model >= 0)
        slack = 1.0 + _core.LOAD_TOLERANCE * max(len(served), 1)
        _, m, r = self.problem["shape"]
        for limit, spread in zip(self.unsure.limits, self.unsure.spreads(model), strict=True):
            if limit.resource is None:
                continue
            load = self.problem["load"]
            assert load is not None
            used = float((load[limit.resource] * limit.columns)[served, model[served]].sum())
            if limit.pool is None:
                capacity = self.problem["capacity"]
                assert capacity is not None
                most = float(capacity.reshape(r, m)[limit.resource, limit.columns.argmax()])
            else:
                most = self.problem["pools"][limit.pool][2]
            if used + self.unsure.kappa * float(spread) > most * slack:
                return False
        return True

    def kept(self, model: NDArray[Any]) -> bool:
        """Say whether an assignment of all queries keeps every uncertain limit."""
        promised = self.unsure.quality is not None
        short = promised and self.guaranteed(model) < self.wanted - _core.REQUIREMENT_TOLERANCE
        return not short and self.loads_hold(model)

    def offer(self, raw: Raw, shift: float) -> None:
        """Take what a program found when it keeps the true limits and is the best so far."""
        model = raw["model"]
        if raw["status"] not in _MET or (model < 0).any() or not self.kept(model):
            return
        key = self.key(model)
        if self.best is None or key < self.best[0]:
            self.best = key, raw, shift

    # Programs.

    def solve(
        self, low: Floats, high: Floats, warm: Raw | None, goal: float | None = None
    ) -> tuple[Raw, float]:
        """Solve the program of a box (of a tangent, where its ends are equal)."""
        program, shift = _uncertain.linear(self.problem, self.unsure, low, high)
        if goal is not None:
            program["goal"] = ("min_quality", goal)
        effort = self.effort.copy()
        left = self.end - perf_counter()
        effort["time_limit"] = None if left == np.inf else max(left, 0.0)
        effort["warm_start"] = None
        if self.nodes is not None:
            effort["node_limit"] = max(self.nodes - self.totals["nodes"], 0)
        if warm is not None and warm["criterion"] == self.criterion:
            requirement, duals = warm["duals"]
            effort["warm_start"] = (warm["criterion"], requirement, duals)
        raw = _core.assign(program, effort, self.alternatives)
        self.solves -= 1
        for name in self.totals:
            self.totals[name] += raw[name]
        self.interrupted |= raw["interrupted"]
        self.offer(raw, shift)
        return raw, shift

    def over(self) -> bool:
        """Say whether programs or time are used up."""
        return self.solves <= 0 or perf_counter() >= self.end

    def duals(self, raw: Raw, shift: float) -> Duals:
        """Return the multipliers in units of the problem."""
        _, m, r = self.problem["shape"]
        requirement, (capacity, pool, group_quality, group_budget, row, priced) = raw["duals"]
        # With quality as the criterion the unit of the objective is what was divided by 1 + shift.
        unit = 1.0 + shift if raw["criterion"] == "quality" and self.criterion != "quality" else 1.0
        capacity = capacity[: r * m] * unit
        return Duals(
            requirement / (1.0 + shift) if self.goal == "min_quality" else requirement,
            capacity.reshape(r, m) if r > 1 else capacity,
            group_quality * unit,
            group_budget * unit,
            pool * unit,
            row * unit,
            priced,
        )

    def node(self, low: Floats, high: Floats, parent: Node | None) -> Node:
        """Return a box with its bound, which is at least that of the box around it."""
        raw, shift = self.solve(low, high, None if parent is None else parent.raw)
        duals = self.duals(raw, shift)
        given_up = raw["criterion"] != self.criterion
        proven = raw["dual_bound"]
        if given_up and self.goal == "min_quality":
            proven = proven * (1.0 + shift) - shift
        piece, key = Piece(low, high, raw["criterion"], duals, float(proven)), np.inf
        if raw["status"] not in _EMPTY:
            key = -np.inf if given_up else self.sign * raw["bound"]
            known = self.nothing(duals) if parent is None else parent.piece
            if given_up or (parent is not None and key < parent.key):
                piece = Piece(low, high, known.criterion, known.duals, known.bound)
                key = self.sign * known.bound if parent is None else parent.key
        return Node(low, high, key, piece, raw, raw["model"], self.prices(duals))

    def nothing(self, like: Duals) -> Piece:
        """Return a piece without prices, and what holds without any."""
        zero = Duals(*(0.0 * getattr(like, name) for name in Duals.__dataclass_fields__))
        n = self.problem["shape"][0]
        bound = {"cost": 0.0, "quality": 1.0, "value": -self.wanted * n}[self.criterion]
        empty = np.zeros(len(self.unsure.limits))
        return Piece(empty, empty, self.criterion, zero, bound)

    def prices(self, duals: Duals) -> Floats:
        """Return the multiplier of each uncertain limit."""
        _, m, r = self.problem["shape"]
        capacity = duals.capacity.reshape(r, m)
        found = []
        for limit in self.unsure.limits:
            if limit.resource is None:
                found.append(duals.requirement)
            elif limit.pool is None:
                found.append(float(capacity[limit.resource, limit.columns.argmax()]))
            else:
                found.append(float(duals.pool[limit.pool]))
        return np.array(found, dtype=np.float64)

    # The search.

    def run(self, low: Floats, high: Floats) -> list[Node]:
        """Search a box; return the boxes that it was split into."""
        order = count()
        root = self.node(low, high, None)
        self.tangents(root)
        heap, done = [(root.key, next(order), root)], []
        while heap:
            key, _, node = heapq.heappop(heap)
            if key == np.inf or self.closed(key) or self.over():
                done.append(node)
                if key < np.inf:
                    done += [rest for *_, rest in heap]
                    break
                continue
            at = self.where(node)
            if at is None:
                done.append(node)
                continue
            for child in self.halves(node, at):
                self.tangents(child)
                heapq.heappush(heap, (child.key, next(order), child))
        return done

    def closed(self, key: float) -> bool:
        """Say whether the best is near enough to a bound."""
        if self.best is None:
            return False
        distance = self.best[0] - key
        return distance <= max(self.effort["tolerance"] * abs(key), 1e-12 * abs(self.best[0]))

    def tangents(self, node: Node) -> None:
        """Look for assignments that keep the true limits near what a box's program found."""
        if node.key == np.inf or (self.best is not None and self.closed(node.key)):
            return
        raw = node.raw
        spread = self.spread_at(raw["model"], node.high)
        for _ in range(_TANGENTS):
            before = None if self.best is None else self.best[0]
            if self.over() or (
                raw["status"] in _MET and (raw["model"] >= 0).all() and self.kept(raw["model"])
            ):
                return
            raw, _ = self.solve(spread, spread, raw)
            last, spread = spread, self.spread_at(raw["model"], node.high)
            if before is not None and self.best is not None and self.best[0] >= before:
                return
            if np.allclose(last, spread, rtol=1e-6):
                return

    def spread_at(self, model: NDArray[Any], high: Floats) -> Floats:
        """Return where a tangent is laid."""
        return np.asarray(np.maximum(self.unsure.spreads(model), _LEAST * high))

    def where(self, node: Node) -> tuple[int, float] | None:
        """Return the limit whose chord is furthest from the root for its price, and where to split."""
        low, high = node.low, node.high
        slope, constant = _uncertain.chord(low, high)
        spread = np.clip(self.unsure.spreads(node.model), low, high)
        error = spread - (slope * np.square(spread) + constant)
        # The furthest that it can be, where what was found says nothing of it.
        widest = np.square(high - low) / np.maximum(8.0 * high, 1e-300)
        # While nothing was found, every limit may be what stands in the way.
        sought = self.best is None or not node.prices.any()
        weight = 1.0 / np.maximum(high, 1e-300) if sought else node.prices
        score = weight * np.maximum(error, 1e-3 * widest)
        at = int(score.argmax())
        wide = high - low
        if wide[at] <= _FLAT * max(high[at], 1e-300) or score[at] <= 0.0:
            return None
        if self.best is not None and self.effort["tolerance"] > 0 and not sought:
            # Under a budget the best counts means, the prices sums.
            unit = self.unsure.kappa / (len(node.model) if self.criterion == "quality" else 1.0)
            if unit * float(score.sum()) < _WORTH * (self.best[0] - node.key):
                return None
        edge = _EDGE * wide[at]
        return at, float(np.clip(spread[at], low[at] + edge, high[at] - edge))

    def halves(self, node: Node, split: tuple[int, float]) -> list[Node]:
        """Split a box."""
        at, where = split
        below, above = node.high.copy(), node.low.copy()
        below[at] = above[at] = where
        return [self.node(node.low, below, node), self.node(above, node.high, node)]

    def nearest(self, spread: Floats) -> tuple[Raw, float] | None:
        """Return what has the highest guaranteed mean quality found, where a promise is out of reach."""
        best: tuple[float, Raw, float] | None = None
        for _ in range(_TANGENTS):
            raw, shift = self.solve(spread, spread, None, goal=1.0)
            model = raw["model"]
            apart = any(name.startswith(APART) for name, _ in raw["reasons"] or ())
            if (model >= 0).all() and not apart and self.loads_hold(model):
                quality = self.guaranteed(model)
                if best is not None and quality <= best[0]:
                    break
                best = quality, raw, shift
            spread = self.spread_at(model, spread)
        return None if best is None else best[1:]

    def chance(self, model: NDArray[Any], nodes: list[Node]) -> Chance:
        """Return what an assignment says of itself."""
        return Chance(
            self.unsure.confidence,
            self.guaranteed(model),
            tuple(limit.name for limit in self.unsure.limits),
            self.unsure.spreads(model),
            tuple(node.piece for node in nodes),
        )
