"""Middling problems against solvers from elsewhere, and against the method in numpy."""

from __future__ import annotations

import numpy as np
import pytest

from eccos_rs import Status, assign, certify
from tests.helpers import outside, problems, reference, small

MIDDLING = [
    (64, 6, "base", {}),
    (64, 6, "base", {"mode": "budget"}),
    (64, 6, "base", {"weights": "tokens"}),
    (64, 6, "base", {"forbid": 0.4}),
    (128, 10, "base", {"tight": 0.95}),
    (128, 10, "base", {"load": 1.0}),
    (128, 10, "base", {"shape": "zero", "mode": "budget"}),
    *((96, 6, kind, {}) for kind in problems.KINDS[1:]),
    *((60, 10, kind, {"mode": "budget", "shape": "random"}) for kind in problems.KINDS[1:]),
    (300, 4, "base", {"load": 1.05}),
    (200, 30, "base", {}),
]
NAMES = ["-".join([str(n), str(m), kind, *map(str, how.values())]) for n, m, kind, how in MIDDLING]


@pytest.mark.parametrize("seed", [3018, 3508, 18002])
def test_tight_token_loads_are_searched_again(seed: int) -> None:
    """HiGHS finds an assignment of these; depth first on the costs alone went astray."""
    problem = small.draw_family(seed)
    found = assign(**problem)
    assert found.status in (Status.OPTIMAL, Status.FEASIBLE)
    assert certify(assignment=found, **problem)


@pytest.mark.parametrize(("n", "m", "kind", "how"), MIDDLING, ids=NAMES)
def test_highs_lp_agrees_with_the_bound(n: int, m: int, kind: str, how: dict[str, object]) -> None:
    """The multipliers are best: their bound is the optimum of the relaxation."""
    for seed in (1, 2):
        instance = problems.make(n, m, kind, seed=seed, **how)  # type: ignore[arg-type]
        rows = reference.rows(instance.cost, instance.quality, **instance.keywords)
        relaxed = outside.highs_lp(rows)
        found = assign(instance.cost, instance.quality, **instance.keywords)
        assert certify(instance.cost, instance.quality, found, **instance.keywords)
        assert relaxed is not None
        unit = -1.0 / n if instance.budget is not None else 1.0
        size = max(abs(relaxed), 1e-3 * float(np.abs(rows.p).sum()))
        assert abs(found.dual_bound / unit - relaxed) <= 2e-7 * size


@pytest.mark.parametrize("kind", ["base", "knn16", "outlier", "binq"])
def test_highs_milp_agrees_with_exact_mode(kind: str) -> None:
    for seed, (n, m) in enumerate([(24, 4), (40, 6)]):
        instance = problems.make(n, m, kind, seed=seed)
        rows = reference.rows(instance.cost, instance.quality, **instance.keywords)
        best = outside.highs_milp(rows)
        found = assign(instance.cost, instance.quality, **instance.keywords, tolerance=0.0, time_limit=20.0)
        assert best is not None
        # With qualities of 0 and 1 alone, more vertices tie than the default number of nodes.
        assert found.status == Status.OPTIMAL or kind == "binq", (seed, found)
        assert found.bound <= best[0] * (1 + 1e-7)
        # HiGHS may overstep a row by 1e-6 of its mean coefficient.
        assert found.cost <= best[0] * (1 + 1e-7) + 1e-12 * rows.p.max() or found.status == Status.FEASIBLE
        if found.status == Status.OPTIMAL:
            assert found.cost >= best[0] * (1 - 1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_min_cost_flow_agrees_without_a_quality_row(seed: int) -> None:
    """One request each and no quality row: a flow, whose optimum is whole."""
    instance = problems.make(150, 10, seed=seed, load=(1.0, 1.3)[seed % 2])
    value = (0.0, 3e-4)[seed // 2]
    score = instance.cost.astype(float) - value * instance.quality.astype(float)
    served, total, _ = outside.min_cost_flow(score, instance.capacity, unit=1e-13)
    found = assign(
        instance.cost, instance.quality, quality_value=value, capacity=instance.capacity, tolerance=1e-9
    )
    assert served == 150
    assert found.status == Status.OPTIMAL
    assert found.objective == pytest.approx(total, rel=1e-8)


def test_min_cost_flow_agrees_when_overloaded() -> None:
    """As many are served as can be; the cost is the least for those who are."""
    instance = problems.make(120, 6, seed=3, forbid=0.5)
    capacity = np.floor(instance.capacity * 0.5)
    allowed = instance.allowed
    assert allowed is not None
    score = np.where(allowed, instance.cost.astype(float), np.inf)
    served, _, _ = outside.min_cost_flow(score, capacity, unit=1e-12)
    found = assign(instance.cost, instance.quality, quality_value=0.0, capacity=capacity, allowed=allowed)
    assert found.status == Status.OVERLOADED
    kept = np.flatnonzero(found.model >= 0)
    assert len(kept) == served < 120
    same, total, _ = outside.min_cost_flow(score[kept], capacity, unit=1e-13)
    assert same == served
    assert found.cost == pytest.approx(total, rel=1e-4)
    assert found.bound <= total * (1 + 1e-9)


@pytest.mark.parametrize(("n", "m"), [(40, 4), (120, 6)])
@pytest.mark.parametrize("mode", ["quality", "budget"])
def test_the_method_in_numpy_agrees(n: int, m: int, mode: str) -> None:
    for seed in range(3):
        instance = problems.make(n, m, seed=seed, mode=mode)
        rows = reference.rows(instance.cost, instance.quality, **instance.keywords)
        bound, y = reference.prices(rows)
        x = reference.exchange(rows, y)
        found = assign(instance.cost, instance.quality, **instance.keywords)
        unit = -1.0 / n if mode == "budget" else 1.0
        assert found.dual_bound / unit == pytest.approx(bound, rel=1e-6)
        assert x is not None
        ours = reference.value(rows, found.model)
        assert ours <= reference.value(rows, x) + 3e-3 * abs(bound)
        assert (reference.excess(rows, found.model) <= 0).all()
