"""Every small problem against brute force, and every answer against its own certificate."""

from __future__ import annotations

from typing import Any

import pytest

from eccos_rs import assign, certify
from tests.helpers import small
from tests.helpers.judging import agrees_with_brute_force

SEEDS = 40
BLOCKS = 30


def described(problem: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in problem.items() if name not in ("cost", "quality")}


@pytest.mark.parametrize("block", range(BLOCKS))
def test_brute_force_agrees(block: int) -> None:
    for seed in range(block * SEEDS, (block + 1) * SEEDS):
        agrees_with_brute_force(small.draw(seed), seed)


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
