"""What people use today for the same problem; building its model is not timed.

An anchor is built once for an instance; what that returns solves, and gives the model of each query (None
where the method solves the relaxation alone) with the objective that it claims.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from tests.helpers import outside, reference

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tests.helpers.problems import Instance

SECONDS = 120.0
"""How long an anchor may take."""

Result = tuple["NDArray[np.int64] | None", float]
Solve = Callable[[], Result]


def _rows(instance: Instance) -> reference.Rows:
    return reference.rows(instance.cost, instance.quality, **instance.keywords)


def scipy_milp(instance: Instance) -> Solve:
    """`scipy.optimize.milp` (HiGHS) to a relative gap of 1e-4, costs scaled to 1."""
    s = outside.matrices(_rows(instance))
    limits = [LinearConstraint(s.E, 1.0, 1.0), LinearConstraint(s.A, -np.inf, s.b)]

    def solve() -> Result:
        found = milp(
            s.p,
            constraints=limits,
            bounds=Bounds(0.0, 1.0),
            integrality=np.ones(len(s.p)),
            options={"mip_rel_gap": 1e-4, "time_limit": SECONDS},
        )
        model = np.full(len(instance.cost), -1, np.int64)
        chosen = found.x > 0.5
        model[s.pair[0][chosen]] = s.pair[1][chosen]
        return model, float(found.fun) * s.scale

    return solve


def _highs(instance: Instance, method: str) -> Solve:
    # This is scipy's HiGHS, whose checks of the input are in the time: about 2 ms.
    from scipy.optimize import linprog

    s = outside.matrices(_rows(instance))
    ones = np.ones(s.E.shape[0])

    def solve() -> Result:
        found = linprog(s.p, s.A, s.b, s.E, ones, method=method, options={"time_limit": SECONDS})
        return None, float(found.fun) * s.scale if found.status == 0 else float("nan")

    return solve


def highs_simplex(instance: Instance) -> Solve:
    """HiGHS' dual simplex on the relaxation."""
    return _highs(instance, "highs-ds")


def highs_ipm(instance: Instance) -> Solve:
    """HiGHS' interior point method on the relaxation, with crossover."""
    return _highs(instance, "highs-ipm")


def _linear_solver(instance: Instance, name: str) -> Solve:
    from ortools.linear_solver import pywraplp

    s = outside.matrices(_rows(instance))
    solver = pywraplp.Solver.CreateSolver(name)
    solver.set_time_limit(round(1e3 * SECONDS))
    x = [solver.NumVar(0.0, solver.infinity(), "") for _ in s.p]
    goal = solver.Objective()
    for variable, price in zip(x, s.p, strict=True):
        goal.SetCoefficient(variable, float(price))
    for matrix, low, high in ((s.E, np.ones(s.E.shape[0]), np.ones(s.E.shape[0])), (s.A, None, s.b)):
        for k in range(matrix.shape[0]):
            row = solver.Constraint(-solver.infinity() if low is None else float(low[k]), float(high[k]))
            for at in range(matrix.indptr[k], matrix.indptr[k + 1]):
                row.SetCoefficient(x[matrix.indices[at]], float(matrix.data[at]))

    def solve() -> Result:
        status = solver.Solve()
        if status != solver.OPTIMAL:
            return None, float("nan")
        return None, goal.Value() * s.scale

    return solve


def ortools_glop(instance: Instance) -> Solve:
    """OR-tools' simplex on the relaxation."""
    return _linear_solver(instance, "GLOP")


def ortools_pdlp(instance: Instance) -> Solve:
    """OR-tools' first-order method on the relaxation, at its own tolerance of 1e-6."""
    return _linear_solver(instance, "PDLP")


def ortools_cp_sat(instance: Instance) -> Solve:
    """OR-tools' CP-SAT with one worker, costs and qualities as whole numbers."""
    from ortools.sat.python import cp_model

    n, m = instance.cost.shape
    unit = float(instance.cost.mean()) * 1e-6
    cost = np.rint(instance.cost / unit).astype(np.int64)
    quality = np.floor(instance.quality * 2.0**20).astype(np.int64)
    made = cp_model.CpModel()
    x = [[made.new_bool_var("") for _ in range(m)] for _ in range(n)]
    for row in x:
        made.add_exactly_one(row)
    flat = [v for row in x for v in row]
    made.add(
        cp_model.LinearExpr.weighted_sum(flat, quality.ravel())
        >= int(np.ceil(instance.min_quality * n * 2**20))
    )
    for j in np.flatnonzero(np.isfinite(instance.capacity)):
        made.add(cp_model.LinearExpr.sum([row[j] for row in x]) <= int(instance.capacity[j]))
    made.minimize(cp_model.LinearExpr.weighted_sum(flat, cost.ravel()))

    def solve() -> Result:
        solver = cp_model.CpSolver()
        solver.parameters.num_workers = 1
        solver.parameters.relative_gap_limit = 1e-4
        solver.parameters.max_time_in_seconds = SECONDS
        if solver.solve(made) not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            return None, float("nan")
        model = np.array([[solver.boolean_value(v) for v in row] for row in x]).argmax(axis=1)
        return model, solver.objective_value * unit

    return solve


def ortools_flow(instance: Instance) -> Solve:
    """OR-tools' min-cost flow: the capacities hold, the promise of quality cannot be said."""
    score = instance.cost.astype(float)
    unit = float(score.mean()) * 1e-6

    def solve() -> Result:
        _, total, model = outside.min_cost_flow(score, instance.capacity, unit)
        return model, total

    return solve


def pulp_cbc(instance: Instance) -> Solve:
    """PuLP and CBC in the manner of AIOS: a binary for each pair, raw dollars; here with capacity rows."""
    import pulp

    n, m = instance.cost.shape
    cost, quality = instance.cost.tolist(), instance.quality.tolist()
    made = pulp.LpProblem("routing", pulp.LpMinimize)
    x = [[pulp.LpVariable(f"x_{i}_{j}", cat="Binary") for j in range(m)] for i in range(n)]
    made += pulp.lpSum(cost[i][j] * x[i][j] for i in range(n) for j in range(m))
    for i in range(n):
        made += pulp.lpSum(x[i]) == 1
    made += (
        pulp.lpSum(quality[i][j] * x[i][j] for i in range(n) for j in range(m)) >= instance.min_quality * n
    )
    for j in np.flatnonzero(np.isfinite(instance.capacity)):
        made += pulp.lpSum(x[i][j] for i in range(n)) <= instance.capacity[j]
    solver = pulp.PULP_CBC_CMD(msg=False, timeLimit=SECONDS)

    def solve() -> Result:
        made.solve(solver)
        if pulp.LpStatus[made.status] != "Optimal":
            return None, float("nan")
        values = np.array([[v.value() for v in row] for row in x])
        return values.argmax(axis=1), pulp.value(made.objective)

    return solve


def numpy_subgradient(instance: Instance) -> Solve:
    """300 subgradient steps on the prices in numpy, then a greedy repair of capacities and quality."""
    c, a = instance.cost.astype(np.float64), instance.quality.astype(np.float64)
    scale = float(c.mean())
    c /= scale
    limit, floor = instance.capacity, float(instance.min_quality or 0.0)

    def solve() -> Result:
        price, load_price = _climb(c, a, limit, floor)
        model = _repair(c, a, limit, floor, c - price * a + load_price)
        if model is None:
            return None, float("nan")
        return model, float(c[np.arange(len(c)), model].sum()) * scale

    return solve


def _climb(
    c: NDArray[np.float64], a: NDArray[np.float64], limit: NDArray[np.float64], floor: float, steps: int = 300
) -> tuple[float, NDArray[np.float64]]:
    """Best prices of `steps` subgradient steps, each 2 % shorter than the last (tuned to do well here)."""
    n, m = c.shape
    i = np.arange(n)
    price, load_price = 0.0, np.zeros(m)
    best, at = -np.inf, (price, load_price)
    spread = float((c.max(axis=1) - c.min(axis=1)).mean())
    width = max(float((a.max(axis=1) - a.min(axis=1)).mean()), 1e-9)
    for step in range(steps):
        score = c - price * a + load_price
        pick = score.argmin(axis=1)
        short = floor * n - a[i, pick].sum()
        over = np.bincount(pick, minlength=m) - limit
        value = score[i, pick].sum() + price * floor * n - load_price @ limit
        if value > best:
            best, at = value, (price, load_price.copy())
        length = 2.0 * 0.98**step
        price = max(0.0, price + length * spread / width * short / (width * n))
        load_price = np.maximum(0.0, load_price + length * spread * over / n)
    return at


def _repair(
    c: NDArray[np.float64],
    a: NDArray[np.float64],
    limit: NDArray[np.float64],
    floor: float,
    score: NDArray[np.float64],
) -> NDArray[np.int64] | None:
    """Serve those first who would lose most; then buy the quality that is missing where it is cheapest."""
    n, m = c.shape
    ranked = np.argsort(score, axis=1)
    rows = np.arange(n)
    regret = score[rows, ranked[:, 1]] - score[rows, ranked[:, 0]] if m > 1 else np.zeros(n)
    room = limit.copy()
    model = np.full(n, -1, np.int64)
    for i in np.argsort(-regret):
        for j in ranked[i]:
            if room[j] >= 1:
                model[i], room[j] = j, room[j] - 1
                break
        else:
            return None
    missing = floor * n - a[rows, model].sum()
    if missing <= 0:
        return model
    gain = a - a[rows, model][:, None]
    rate = np.where(gain > 1e-12, (c - c[rows, model][:, None]) / np.maximum(gain, 1e-12), np.inf)
    for flat in np.argsort(rate, axis=None):
        i, j = divmod(int(flat), m)
        more = a[i, j] - a[i, model[i]]
        if not np.isfinite(rate[i, j]) or missing <= 0:
            break
        if more > 0 and room[j] >= 1:
            room[model[i]] += 1
            room[j] -= 1
            model[i], missing = j, missing - more
    return model if missing <= 0 else None


# Solved a second time these start from the answer they have, so each solve needs a new build.
ONE_SHOT = ("GLOP", "PDLP")

ANCHORS: dict[str, Callable[[Any], Solve]] = {
    "scipy milp": scipy_milp,
    "HiGHS simplex": highs_simplex,
    "HiGHS IPM": highs_ipm,
    "GLOP": ortools_glop,
    "PDLP": ortools_pdlp,
    "CP-SAT": ortools_cp_sat,
    "min-cost flow": ortools_flow,
    "PuLP + CBC": pulp_cbc,
    "numpy subgradient": numpy_subgradient,
}
