"""Endpoints of one model: equal columns are solved as one and dealt out again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from eccos_rs import Status, assign, certify
from tests.helpers import problems


def endpoints(n: int, weights: str, parts: list[float]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Pair a problem of six models with one in which model 2 stands once for each part of its capacity."""
    made = problems.make(n, 6, seed=4, weights=weights)
    one = {"cost": made.cost, "quality": made.quality, **made.keywords}
    again = [*range(6), *[2] * (len(parts) - 1)]
    two = {**one, "cost": one["cost"][:, again], "quality": one["quality"][:, again]}
    if one.get("load") is not None:
        two["load"] = one["load"][..., again]
    capacity = np.asarray(one["capacity"], dtype=np.float64)
    one["capacity"], two["capacity"] = capacity, capacity[..., again].copy()
    for column, part in zip([2, *range(6, 5 + len(parts))], parts, strict=True):
        two["capacity"][..., column] = np.floor(part * capacity[..., 2])
    one["capacity"][..., 2] = two["capacity"][..., [2, *range(6, 5 + len(parts))]].sum(axis=-1)
    return one, two


@pytest.mark.parametrize("weights", ["unit", "tokens"])
@pytest.mark.parametrize(
    "parts", [[0.5, 0.5], [0.1, 0.3, 0.6], [0.2, np.inf]], ids=["halves", "three", "open"]
)
def test_endpoints_cost_what_their_model_costs(weights: str, parts: list[float]) -> None:
    one, two = endpoints(20_000, weights, parts)
    alone, found = assign(**one), assign(**two)
    assert found.status is Status.OPTIMAL
    assert (found.cost, found.bound) == (alone.cost, alone.bound)
    proof = certify(assignment=found, **two)
    assert proof, proof
    merged = np.where(found.model >= 6, 2, found.model)
    assert (merged == alone.model).all()


def test_identical_models_are_proven() -> None:
    """Interchangeable columns have as many equal assignments as there are ways to deal them out."""
    made = problems.make(400, 10, "coldup", seed=1)
    found = assign(made.cost, made.quality, **made.keywords, tolerance=0.0)
    assert found.proven
    assert certify(made.cost, made.quality, found, **made.keywords, tolerance=0.0)
