"""Every small problem against brute force, and every answer against its own certificate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from eccos_rs import Status, assign, certify
from tests.helpers import reference, small

SEEDS = 40
BLOCKS = 30


def described(problem: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in problem.items() if name not in ("cost", "quality")}


@pytest.mark.parametrize("block", range(BLOCKS))
def test_brute_force_agrees(block: int) -> None:
    for seed in range(block * SEEDS, (block + 1) * SEEDS):
        problem = small.draw(seed)
        exact = assign(**problem, tolerance=0.0)
        quick = assign(**problem)
        for answer, tolerance in ((exact, 0.0), (quick, 1e-4)):
            proof = certify(
                problem["cost"], problem["quality"], answer, **described(problem), tolerance=tolerance
            )
            assert proof, (seed, proof)
        best = reference.brute_force(reference.rows(**problem))
        met = (Status.OPTIMAL, Status.FEASIBLE)
        if best is None:
            assert exact.status not in met, (seed, exact)
            assert exact.explanation, seed
            assert quick.status not in met, (seed, quick)
            continue
        assert exact.status == Status.OPTIMAL, (seed, exact, exact.explanation)
        rows = reference.rows(**problem)
        found = reference.value(rows, exact.model)
        # `slack` lets both sides overstep a limit by rounding; what that is worth is far below this.
        room = 1e-7 * max(abs(best[0]), float(np.abs(rows.p[rows.may]).max()))
        assert abs(found - best[0]) <= room, (seed, found, best)
        assert quick.status in met, (seed, quick, quick.explanation)
        unit = -1.0 / len(quick.model) if "budget" in problem else 1.0
        assert quick.bound / unit <= best[0] + room, (seed, quick.bound / unit, best)


@pytest.mark.parametrize(
    "seed",
    [
        # No rounding of the relaxation is accepted, but the assignment of most quality keeps the promise: its
        # bound must be one for the cost, not for the quality.
        1198,
        # The same where the extreme is the least cost, and it keeps the budget.
        1522,
        1940,
    ],
)
def test_regressions(seed: int) -> None:
    problem = small.draw_family(seed)
    for effort in ({}, {"tolerance": 0.0, "node_limit": 300}):
        found = assign(**problem, **effort)
        proof = certify(assignment=found, **problem, tolerance=effort.get("tolerance", 1e-4))
        assert proof, proof
