"""The frontier against separate solves of the relaxation."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from eccos_rs.errors import ProblemError
from eccos_rs.solver.assignment import Frontier, assign, frontier
from tests.helpers import outside, problems, reference


def limits(instance: problems.Instance) -> dict[str, Any]:
    return {k: v for k, v in instance.keywords.items() if k not in ("min_quality", "budget")}


CASES = [
    (30, 4, "base", {}),
    (30, 4, "base", {"load": float("inf")}),
    (30, 4, "base", {"load": 1.0}),
    (40, 5, "base", {"weights": "tokens", "load": 1.3}),
    (40, 6, "base", {"forbid": 0.4}),
    (30, 4, "knn16", {}),
    (30, 4, "coldup", {}),
    (40, 4, "rowdup", {}),
    (30, 4, "constcost", {}),
    (30, 4, "allzero", {}),
    (30, 4, "constq", {}),
    (30, 4, "dominated", {}),
    (30, 4, "binq", {}),
    (30, 4, "outlier", {}),
    (1, 4, "base", {"load": float("inf")}),
    (30, 1, "base", {"load": float("inf")}),
]


@pytest.mark.parametrize(("n", "m", "kind", "how"), CASES, ids=str)
def test_the_curve_is_the_optimum_of_the_relaxation_at_every_floor(
    n: int, m: int, kind: str, how: dict[str, Any]
) -> None:
    instance = problems.make(n, m, kind, seed=2, **how)
    curve = frontier(instance.cost, instance.quality, **limits(instance))
    assert curve.complete
    low, high = curve.quality[0], curve.quality[-1]
    for share in (0.0, 0.13, 0.5, 0.87, 0.999):
        floor = low + share * (high - low)
        rows = reference.rows(instance.cost, instance.quality, min_quality=floor, **limits(instance))
        best = outside.highs_lp(rows)
        assert best is not None
        assert float(curve.cost_at(floor)) == pytest.approx(best, rel=1e-5, abs=1e-9 * rows.p.max() * n)
    if high < 0.999:
        above = reference.rows(instance.cost, instance.quality, min_quality=high + 1e-4, **limits(instance))
        assert outside.highs_lp(above) is None


@pytest.mark.parametrize("seed", range(5))
def test_it_is_increasing_convex_and_priced(seed: int) -> None:
    instance = problems.make(200, 8, seed=seed, load=(1.0, 1.3, np.inf)[seed % 3])
    curve = frontier(instance.cost, instance.quality, **limits(instance))
    assert (np.diff(curve.quality) > 0).all()
    assert (np.diff(curve.cost) >= 0).all()
    slopes = np.diff(curve.cost) / np.diff(curve.quality)
    np.testing.assert_allclose(curve.price[1:], slopes, rtol=1e-3, atol=1e-6 * slopes.max())
    assert (np.diff(curve.price) >= -1e-9 * curve.price.max()).all()
    assert curve.price[0] == 0.0


def test_its_ends_are_the_cheapest_and_the_best() -> None:
    instance = problems.make(100, 6, seed=1)
    curve = frontier(instance.cost, instance.quality)
    cost, quality = instance.cost.astype(float), instance.quality.astype(float)
    assert curve.cost[0] == pytest.approx(cost.min(axis=1).sum(), rel=1e-9)
    assert curve.quality[0] == pytest.approx(quality[np.arange(100), cost.argmin(axis=1)].mean(), rel=1e-9)
    assert curve.quality[-1] == pytest.approx(quality.max(axis=1).mean(), rel=1e-9)
    assert curve.cost[-1] == pytest.approx(cost[np.arange(100), quality.argmax(axis=1)].sum(), rel=1e-9)


def test_assign_lies_on_it_within_its_gap() -> None:
    instance = problems.make(400, 6, seed=3)
    curve = frontier(instance.cost, instance.quality, **limits(instance))
    for floor in np.linspace(curve.quality[0], curve.quality[-1], 9)[1:-1]:
        found = assign(instance.cost, instance.quality, min_quality=float(floor), **limits(instance))
        assert found.dual_bound == pytest.approx(float(curve.cost_at(floor)), rel=1e-6)
        assert found.cost >= float(curve.cost_at(floor)) * (1 - 1e-8)
        budget = assign(instance.cost, instance.quality, budget=found.cost, **limits(instance))
        assert budget.dual_bound == pytest.approx(float(curve.quality_at(found.cost)), rel=1e-6)


def test_few_points_are_points_of_the_curve() -> None:
    instance = problems.make(200, 6, seed=3)
    full = frontier(instance.cost, instance.quality)
    few = frontier(instance.cost, instance.quality, max_points=10)
    assert 2 <= len(few) <= 10 < len(full)
    assert (few.quality[[0, -1]] == full.quality[[0, -1]]).all()
    np.testing.assert_allclose(few.cost, full.cost_at(few.quality), rtol=1e-9)


def test_outside_the_curve() -> None:
    curve = frontier([[1.0, 9.0], [1.0, 9.0]], [[0.9, 1.0], [0.4, 0.8]])
    assert float(curve.cost_at(0.95)) == np.inf
    assert float(curve.cost_at(0.1)) == 2.0
    assert np.isnan(curve.quality_at(1.0))
    assert float(curve.quality_at(99.0)) == pytest.approx(0.9)
    np.testing.assert_allclose(curve.cost_at([0.65, 0.75]), [2.0, 6.0])


def test_it_is_an_object_like_the_answer() -> None:
    curve = frontier([[1.0, 9.0], [1.0, 9.0]], [[0.9, 1.0], [0.4, 0.8]])
    assert repr(curve) == "Frontier(3 breakpoints, quality 0.6500 to 0.9000, cost $2 to $18)"
    again = pickle.loads(pickle.dumps(curve))
    assert isinstance(again, Frontier)
    np.testing.assert_array_equal(again.cost, curve.cost)
    with pytest.raises(ValueError, match="read-only"):
        again.cost[0] = 1.0


def test_malformed() -> None:
    with pytest.raises(ProblemError, match="max_points is 1, wanted a whole number >= 2"):
        frontier([[1.0]], [[0.5]], max_points=1)
    with pytest.raises(ProblemError, match="quality has shape"):
        frontier([[1.0]], [[0.5, 0.6]])


def test_an_overload_leaves_the_curve_of_those_who_are_served() -> None:
    curve = frontier([[1.0, 4.0]] * 3, [[0.5, 0.7]] * 3, capacity=[1.0, 1.0])
    assert (curve.quality.tolist(), curve.cost.tolist()) == (pytest.approx([0.6]), pytest.approx([5.0]))
