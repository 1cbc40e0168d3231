"""Solvers from elsewhere on the same rows: HiGHS (as scipy ships it) and OR-tools' min-cost flow."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import csr_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tests.helpers.reference import Rows


class Matrices(NamedTuple):
    """`min p x` with `A x <= b`, `E x = 1`; a variable for each pair that may be chosen, all near 1."""

    p: NDArray[np.float64]
    A: csr_array
    b: NDArray[np.float64]
    E: csr_array
    pair: tuple[NDArray[np.intp], NDArray[np.intp]]
    scale: float


def matrices(problem: Rows) -> Matrices:
    """Write the rows as sparse matrices; costs and rows are scaled, or absolute tolerances would decide."""
    i, j = np.nonzero(problem.may)
    p = problem.p[i, j]
    scale = float(np.abs(p).mean()) or 1.0
    size = np.array([float(np.abs(G[i, j]).mean()) or 1.0 for G in problem.G])
    size = np.maximum(size, np.abs(problem.h) * 1e-6)
    A = csr_array(problem.G[:, i, j] / size[:, None])
    E = csr_array((np.ones(len(i)), (i, np.arange(len(i)))), shape=(problem.p.shape[0], len(i)))
    return Matrices(p / scale, A, (problem.h + problem.slack) / size, E, (i, j), scale)


def highs_lp(problem: Rows) -> float | None:
    """The optimum of the relaxation, None when it is infeasible."""
    s = matrices(problem)
    b = s.b if s.A.shape[0] else None
    found = linprog(s.p, s.A if b is not None else None, b, s.E, np.ones(s.E.shape[0]), method="highs")
    if found.status == 2:
        return None
    assert found.status == 0, found.message
    return float(found.fun) * s.scale


def highs_milp(
    problem: Rows, gap: float = 0.0, time_limit: float = 60.0
) -> tuple[float, NDArray[np.int64]] | None:
    """The integer optimum and its assignment, None when there is none."""
    s = matrices(problem)
    limits = [LinearConstraint(s.E, 1.0, 1.0)]
    if s.A.shape[0]:
        limits.append(LinearConstraint(s.A, -np.inf, s.b))
    found = milp(
        s.p,
        constraints=limits,
        bounds=Bounds(0.0, 1.0),
        integrality=np.ones(len(s.p)),
        options={"mip_rel_gap": gap, "time_limit": time_limit},
    )
    if found.status == 2:
        return None
    assert found.status == 0, found.message
    model = np.full(problem.p.shape[0], -1, np.int64)
    chosen = found.x > 0.5
    model[s.pair[0][chosen]] = s.pair[1][chosen]
    return float(found.fun) * s.scale, model


def min_cost_flow(
    score: NDArray[np.float64], capacity: NDArray[np.float64], unit: float
) -> tuple[int, float, NDArray[np.int64]]:
    """Serve as many queries as fit at the least total score, counted in whole units (unit loads).

    Returns how many are served, the total, and the model of each query (-1 when it is not served).
    """
    from ortools.graph.python import min_cost_flow as flow

    n, m = score.shape
    i, j = np.nonzero(np.isfinite(score))
    whole = np.rint(score[i, j] / unit).astype(np.int64)
    source, sink = n + m, n + m + 1
    room = np.minimum(capacity, n).astype(np.int64)
    tail = np.concatenate([np.full(n, source), i, np.arange(n, n + m)])
    head = np.concatenate([np.arange(n), n + j, np.full(m, sink)])
    most = np.concatenate([np.ones(n, np.int64), np.ones(len(i), np.int64), room])
    price = np.concatenate([np.zeros(n, np.int64), whole, np.zeros(m, np.int64)])
    solver = flow.SimpleMinCostFlow()
    arcs = solver.add_arcs_with_capacity_and_unit_cost(tail, head, most, price)
    solver.set_nodes_supplies(np.array([source, sink]), np.array([n, -n]))
    assert solver.solve_max_flow_with_min_cost() == solver.OPTIMAL
    used = solver.flows(arcs)[n : n + len(i)] > 0
    model = np.full(n, -1, np.int64)
    model[i[used]] = j[used]
    return int(used.sum()), float(score[i[used], j[used]].sum()), model
