"""What every answer of the solver is held to, whatever limits the problem has."""

from __future__ import annotations

from typing import Any

import numpy as np

from eccos_rs import Assignment, Status, assign, certify
from tests.helpers import reference

MET = (Status.OPTIMAL, Status.FEASIBLE)


def judged(problem: dict[str, Any], answer: Assignment, tolerance: float = 1e-4) -> None:
    """Every claim holds, and so does every pool, counted here."""
    proof = certify(assignment=answer, **problem, tolerance=tolerance)
    assert proof, (problem, answer, proof)
    n, m = np.shape(problem["cost"])
    served = np.flatnonzero(answer.model >= 0)
    load = np.asarray(problem.get("load", np.ones((1, n, m))), float).reshape(-1, n, m)
    for pool in problem.get("pools", ()):
        inside = served[np.isin(answer.model[served], pool.models)]
        used = load[pool.resource, inside, answer.model[inside]].sum()
        assert used <= pool.capacity * (1 + 1e-12), (pool, used)


def agrees_with_brute_force(problem: dict[str, Any], seed: int) -> None:
    """The exact answer is the best there is, the quick one is met when there is one, and its bound is one."""
    exact, quick = assign(**problem, tolerance=0.0), assign(**problem)
    judged(problem, exact, 0.0)
    judged(problem, quick)
    rows = reference.rows(**problem)
    best = reference.brute_force(rows)
    if best is None:
        assert exact.status not in MET, (seed, exact)
        assert exact.explanation, seed
        assert quick.status not in MET, (seed, quick)
        return
    assert exact.status == Status.OPTIMAL, (seed, exact, exact.explanation)
    # Both sides may overstep a limit by rounding; what that is worth is far below this.
    room = 1e-7 * max(abs(best[0]), float(np.abs(rows.p[rows.may]).max()))
    assert abs(reference.value(rows, exact.model) - best[0]) <= room, (seed, best)
    assert quick.status in MET, (seed, quick, quick.explanation)
    unit = -1.0 / len(quick.model) if "budget" in problem else 1.0
    assert quick.bound / unit <= best[0] + room, (seed, quick.bound / unit, best)
