"""Loads that have a price: overage in tiers, and commitments, against every assignment there is."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from eccos_rs import Commitment, Overage, PooledCapacity, ProblemError, SideRow, assign, certify, frontier


def instance(seed: int) -> tuple[tuple, dict]:
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(2, 8)), int(rng.integers(2, 4))
    cost = rng.uniform(0.1, 1, (n, m)) * np.linspace(1, 3, m)
    quality = np.clip(rng.normal(np.linspace(0.4, 0.9, m), 0.15, (n, m)), 0, 1)
    given: dict = {}
    if rng.random() < 0.7:
        given["min_quality"] = float(rng.uniform(0.2, 0.8))
    else:
        given["quality_value"] = float(rng.uniform(0, 5))
    size = 1.0
    if rng.random() < 0.6:
        given["load"] = rng.uniform(1, 5, (n, m))
        size = 3.0
    if rng.random() < 0.4:
        given["capacity"] = rng.integers(1, n + 1, m) * size
    if rng.random() < 0.3:
        given["pools"] = [PooledCapacity([0, m - 1], float(rng.integers(1, n + 1) * size))]
    if rng.random() < 0.2:
        given["rows"] = [SideRow(rng.uniform(0, 1, (n, m)), at_most=float(rng.uniform(0.4, 0.8) * n))]
    given["overage"], given["minimum"] = [], []
    for _ in range(int(rng.integers(0, 3))):
        models = np.flatnonzero(rng.random(m) < 0.6).tolist() or [0]
        levels = np.sort(rng.uniform(0, n * size, int(rng.integers(1, 4))))
        prices = np.sort(rng.uniform(0, 1.5 / size, len(levels)))
        given["overage"].append(Overage(models, list(zip(levels.tolist(), prices.tolist(), strict=True))))
    if not given["overage"] or rng.random() < 0.5:
        models = np.flatnonzero(rng.random(m) < 0.6).tolist() or [m - 1]
        given["minimum"].append(
            Commitment(models, float(rng.uniform(0, n * size)), float(rng.uniform(0, 1 / size)))
        )
    return (cost, quality), given


def charges(model, load, given) -> np.ndarray:
    """Return what each overage and each commitment costs, by the sum of its tiers."""
    found = []
    at = np.arange(len(model))
    for each in [*given["overage"], *given["minimum"]]:
        used = float(load[at, model][np.isin(model, each.models)].sum())
        if isinstance(each, Commitment):
            found.append(each.price * max(each.load - used, 0.0))
            continue
        ends = [level for level, _ in each.tiers[1:]] + [np.inf]
        found.append(
            sum(
                price * max(min(used, end) - level, 0.0)
                for (level, price), end in zip(each.tiers, ends, strict=True)
            )
        )
    return np.array(found)


def best(cost, quality, given) -> float | None:
    """Return the least objective of what keeps every limit."""
    n, m = cost.shape
    load = given.get("load", np.ones((n, m)))
    at = np.arange(n)
    least = None
    for model in map(np.array, itertools.product(range(m), repeat=n)):
        if quality[at, model].mean() < given.get("min_quality", 0.0) - 1e-9:
            continue
        limits = [([j], most) for j, most in enumerate(given.get("capacity", ()))]
        limits += [(pool.models, pool.capacity) for pool in given.get("pools", ())]
        if any(load[at, model][np.isin(model, models)].sum() > most * (1 + 1e-12) for models, most in limits):
            continue
        if any(row.values[at, model].sum() > row.at_most * (1 + 1e-9) for row in given.get("rows", ())):
            continue
        value = cost[at, model].sum() + charges(model, load, given).sum()
        value -= given.get("quality_value", 0.0) * quality[at, model].sum()
        least = value if least is None else min(least, value)
    return least


@pytest.mark.parametrize("first", range(0, 240, 40))
def test_against_every_assignment_there_is(first) -> None:
    above = []
    for seed in range(first, first + 40):
        (cost, quality), given = instance(seed)
        least = best(cost, quality, given)
        for tolerance in (0.0, 1e-4):
            found = assign(cost, quality, tolerance=tolerance, **given)
            certificate = certify(cost, quality, found, tolerance=tolerance, **given)
            assert certificate, (seed, certificate)
            if found.status in ("optimal", "feasible"):
                assert least is not None, seed
                size = max(abs(least), 1.0)
                assert found.bound <= least + 1e-9 * size, seed
                assert found.objective >= least - 1e-9 * size, seed
                if found.status == "optimal":
                    assert found.objective <= least + (tolerance + 1e-9) * max(abs(least), 1e-9) + 1e-9, seed
                above.append((found.objective - least) / size)
                load = given.get("load", np.ones(cost.shape))
                assert found.charges == pytest.approx(charges(found.model, load, given), abs=1e-9)
                assert found.cost == pytest.approx(
                    cost[np.arange(len(cost)), found.model].sum() + found.charges.sum(), rel=1e-12
                )
            elif found.status != "undecided":
                assert least is None, (seed, found)
    assert np.mean(above) < 0.01
    assert np.mean(np.array(above) > 1e-9) < 0.15


def batch(n: int, m: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    cost = rng.lognormal(0, 0.5, (n, m)) * np.geomspace(1, 20, m) * 1e-3
    return cost, np.clip(np.linspace(0.4, 0.9, m) + rng.normal(0, 0.15, (n, m)), 0, 1)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n", [300, 5000])
def test_large_batches_come_near_the_bound(n, weighted) -> None:
    cost, quality = batch(n, 5)
    load = np.random.default_rng(1).lognormal(6, 0.5, cost.shape) if weighted else None
    size = 450.0 if weighted else 1.0
    given = {
        "min_quality": 0.7,
        "load": load,
        "overage": [Overage([3, 4], [(0.2 * n * size, 2e-3 / size), (0.3 * n * size, 9e-3 / size)])],
        "minimum": [Commitment([1], 0.3 * n * size, 3e-3 / size)],
    }
    found = assign(cost, quality, **given)
    assert found.status in ("optimal", "feasible")
    assert found.gap < (5e-3 if n == 300 else 5e-4)
    assert found.charges.shape == (2,)
    assert certify(cost, quality, found, **given)
    free = assign(cost, quality, min_quality=0.7)
    assert free.cost < found.cost
    again = assign(cost, quality, warm_start=found, **given)
    assert again.cost == pytest.approx(found.cost, rel=1e-3)


def test_a_commitment_draws_traffic_and_is_paid_all_the_same() -> None:
    cost, quality = np.array([[1.0, 1.2]] * 10), np.full((10, 2), 0.9)
    given = {"min_quality": 0.5, "minimum": [Commitment([1], 6, 0.3)]}
    found = assign(cost, quality, **given)
    assert (found.model == 1).sum() == 6
    assert found.cost == pytest.approx(4 * 1.0 + 6 * 1.2)
    assert found.charges.tolist() == [0.0]
    cheap = {"min_quality": 0.5, "minimum": [Commitment([1], 6, 0.1)]}
    found = assign(cost, quality, **cheap)
    assert (found.model == 0).all()
    assert found.cost == pytest.approx(10 + 0.6)
    assert found.status == "optimal"


def test_nobody_is_served_and_the_commitment_is_due() -> None:
    given = {"minimum": [Commitment([0], 4, 0.5)], "capacity": [0.0]}
    found = assign([[1.0], [1.0]], [[0.9], [0.9]], min_quality=0.5, **given)
    assert found.status == "overloaded"
    assert found.cost == 2.0
    assert certify([[1.0], [1.0]], [[0.9], [0.9]], found, min_quality=0.5, **given)


def test_out_of_reach_is_told_and_counted() -> None:
    cost, quality = batch(20, 3)
    given = {"min_quality": 0.99, "overage": [Overage([2], [(5, 0.01)])]}
    found = assign(cost, quality, **given)
    assert found.status == "quality_unreachable"
    assert found.charges[0] == pytest.approx(0.01 * max((found.model == 2).sum() - 5, 0))
    assert certify(cost, quality, found, **given)


def test_certify_finds_each_lie() -> None:
    cost, quality = batch(60, 3)
    given = {"min_quality": 0.75, "overage": [Overage([2], [(10, 0.01)])]}
    found = assign(cost, quality, **given)
    assert certify(cost, quality, found, **given)
    assert found.charges[0] > 0
    lies = {
        "charges": replace(found, charges=found.charges * 0.5),
        "cost": replace(found, cost=found.cost - found.charges[0]),
        "multipliers": replace(found, duals=replace(found.duals, priced=found.duals.priced + 0.02)),
    }
    for name, lie in lies.items():
        assert name in [claim.name for claim in certify(cost, quality, lie, **given).failed], name


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"overage": Overage([0], [(1, 1)])}, "overage is a Overage, wanted a list of Overage"),
        ({"overage": [3]}, r"overage\[0\] is a int, wanted a Overage"),
        ({"minimum": [Overage([0], [(1, 1)])]}, r"minimum\[0\] is a Overage, wanted a Commitment"),
        ({"overage": [Overage([0], [])]}, r"overage\[0\].tiers is \[\]"),
        ({"overage": [Overage([0], [(1,)])]}, r"overage\[0\].tiers\[0\] is \(1,\), wanted \(load, price\)"),
        (
            {"overage": [Overage([0], [(1, 2), (2, 1)])]},
            r"tiers\[1\] is \(2, 1\), wanted loads and prices that rise",
        ),
        ({"overage": [Overage([0], [(1, np.inf)])]}, "finite number >= 0"),
        ({"overage": [Overage([0], [(1, 1)], resource=1)]}, r"overage\[0\].resource is 1"),
        ({"overage": [Overage([5], [(1, 1)])]}, r"overage\[0\].models holds 5"),
        ({"minimum": [Commitment([0], -1, 1)]}, r"minimum\[0\].load is -1"),
        (
            {"minimum": [Commitment([0], 1, 1)], "min_quality": None, "budget": 1.0},
            "minimum was given with budget",
        ),
        (
            {"overage": [Overage([0], [(1, 1)])], "quality_std": [[0.1, 0.1]], "confidence": 0.9},
            "confidence was given with overage or minimum",
        ),
    ],
)
def test_what_is_malformed_is_named(given, sentence) -> None:
    with pytest.raises(ProblemError, match=sentence):
        assign([[1.0, 2.0]], [[0.5, 0.9]], **({"min_quality": 0.5} | given))


def test_the_frontier_refuses_them_by_name() -> None:
    with pytest.raises(ProblemError, match="overage is no argument of frontier"):
        frontier([[1.0, 2.0]], [[0.5, 0.9]], overage=[Overage([0], [(1, 1)])])
