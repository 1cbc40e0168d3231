"""Limits that hold with a confidence: against every assignment there is, and against made-up outcomes."""

from __future__ import annotations

import itertools
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest

from eccos_rs import PooledCapacity, ProblemError, SideRow, assign, certify, frontier
from eccos_rs.solver.chance_proof import Piece, covers


def instance(seed: int) -> tuple[tuple, dict]:
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(2, 8)), int(rng.integers(2, 4))
    cost = rng.uniform(0.1, 1, (n, m)) * np.linspace(1, 4, m)
    quality = np.clip(rng.normal(np.linspace(0.4, 0.9, m), 0.15, (n, m)), 0, 1)
    given: dict = {"confidence": float(rng.uniform(0.55, 0.99)), "min_quality": float(rng.uniform(0.1, 0.8))}
    if rng.random() < 0.8:
        given["quality_std"] = rng.uniform(0, 0.5, (n, m))
    if "quality_std" not in given or rng.random() < 0.5:
        load = rng.uniform(1, 5, (n, m))
        given |= {"load": load, "capacity": rng.uniform(0.3, 1.3, m) * load.mean() * n}
        if "quality_std" not in given or rng.random() < 0.7:
            given["load_std"] = rng.uniform(0, 2, (n, m))
        if rng.random() < 0.4:
            given["pools"] = [PooledCapacity([0, 1], float(rng.uniform(0.5, 1.2) * load.mean() * n))]
    if rng.random() < 0.2:
        given["allowed"] = rng.random((n, m)) < 0.8
        given["allowed"][:, int(rng.integers(m))] = True
    if rng.random() < 0.2:
        given["rows"] = [SideRow(rng.uniform(0, 1, (n, m)), at_most=float(rng.uniform(0.4, 0.8) * n))]
    return (cost, quality), given


def everything(cost, quality, given) -> tuple[float | None, float | None]:
    """Return the least cost of what keeps all limits, and the highest guaranteed mean of the others."""
    n, m = cost.shape
    kappa = NormalDist().inv_cdf(given["confidence"])
    model = np.array(list(itertools.product(range(m), repeat=n)))
    rows = np.arange(n)
    sure = quality[rows, model].sum(1)
    if "quality_std" in given:
        sure = sure - kappa * np.sqrt(np.square(given["quality_std"][rows, model]).sum(1))
    fits = np.ones(len(model), bool)
    if "load" in given:
        limits = [([j], given["capacity"][j]) for j in range(m)]
        limits += [(pool.models, pool.capacity) for pool in given.get("pools", ())]
        variance = np.square(given.get("load_std", np.zeros((n, m))))
        for models, most in limits:
            inside = np.isin(model, models)
            used = (given["load"][rows, model] * inside).sum(1)
            fits &= used + kappa * np.sqrt((variance[rows, model] * inside).sum(1)) <= most * (1 + 1e-12)
    if "allowed" in given:
        fits &= given["allowed"][rows, model].all(1)
    for row in given.get("rows", ()):
        fits &= row.values[rows, model].sum(1) <= row.at_most * (1 + 1e-9)
    met = fits & (sure / n >= given["min_quality"] - 1e-9)
    spent = cost[rows, model].sum(1)
    return (spent[met].min() if met.any() else None, sure[fits].max() / n if fits.any() else None)


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_against_every_assignment_there_is(first) -> None:
    missed = 0
    for seed in range(first, first + 50):
        (cost, quality), given = instance(seed)
        for tolerance in (0.0, 1e-4):
            found = assign(cost, quality, tolerance=tolerance, **given)
            least, most = everything(cost, quality, given)
            certificate = certify(cost, quality, found, tolerance=tolerance, **given)
            assert certificate, (seed, certificate)
            if found.status in ("optimal", "feasible"):
                assert least is not None, seed
                assert found.bound <= least * (1 + 1e-9), seed
                assert found.cost >= least - 1e-9, seed
                if found.status == "optimal":
                    assert found.cost <= least * (1 + tolerance + 1e-9), seed
            elif found.status == "undecided":
                missed += least is not None
            else:
                assert least is None, (seed, found)
            if found.status == "quality_unreachable" and most is not None:
                assert found.bound >= most - 1e-9
                again = assign(
                    cost, quality, **(given | {"min_quality": max(found.diagnosis.repair.min_quality, 0)})
                )
                assert again.status in ("optimal", "feasible"), seed
    assert missed <= 1


def batch(n: int = 3000, m: int = 5, seed: int = 0):
    rng = np.random.default_rng(seed)
    cost = rng.lognormal(0, 0.5, (n, m)) * np.geomspace(1, 20, m) * 1e-3
    quality = np.clip(np.linspace(0.4, 0.9, m) + rng.normal(0, 0.15, (n, m)), 0, 1)
    return cost, quality, np.sqrt(quality * (1 - quality))


def test_the_promise_holds_as_often_as_it_says() -> None:
    cost, quality, std = batch()
    found = assign(cost, quality, min_quality=0.7, quality_std=std, confidence=0.9)
    assert found.status == "optimal"
    assert found.gap <= 1e-4
    assert found.chance.quality == pytest.approx(0.7, abs=1e-4)
    rng = np.random.default_rng(1)
    chosen = quality[np.arange(len(cost)), found.model]
    means = (rng.random((4000, len(cost))) < chosen).mean(axis=1)
    assert (means >= 0.7 - 1e-9).mean() == pytest.approx(0.9, abs=0.02)
    plain = assign(cost, quality, min_quality=0.7)
    assert found.cost > plain.cost
    assert plain.chance is None
    assert certify(cost, quality, found, min_quality=0.7, quality_std=std, confidence=0.9)


def test_it_costs_less_than_a_margin_for_all_alike() -> None:
    """Of two models that are as good in the mean the certain one is taken, which no margin tells apart."""
    rng = np.random.default_rng(2)
    n = 400
    cost = np.column_stack([rng.uniform(1, 1.1, n), rng.uniform(1.05, 1.15, n), np.full(n, 4.0)])
    quality = np.column_stack([np.full(n, 0.6), np.full(n, 0.6), rng.uniform(0.9, 1, n)])
    std = np.column_stack([np.full(n, 0.9), np.full(n, 0.05), np.full(n, 0.05)])
    found = assign(cost, quality, min_quality=0.65, quality_std=std, confidence=0.99)
    kappa = NormalDist().inv_cdf(0.99)
    margin = 0.65
    for _ in range(30):  # a margin from the spread of the answer itself, until they agree
        alike = assign(cost, quality, min_quality=margin)
        spread = np.sqrt(np.square(std[np.arange(n), alike.model]).sum())
        margin = 0.65 + kappa * spread / n
    assert found.gap < 2e-3
    assert found.cost < 0.97 * alike.cost


def test_tokens_stay_below_capacities_as_often_as_they_should() -> None:
    rng = np.random.default_rng(3)
    cost, quality, _ = batch(300, 3, seed=3)
    load = rng.lognormal(6, 0.4, cost.shape)
    std = 0.6 * load
    capacity = np.full(3, load.mean() * 300 / 3 * 1.15)
    given = {"min_quality": 0.55, "load": load, "load_std": std, "capacity": capacity, "confidence": 0.95}
    found = assign(cost, quality, **given)
    assert found.status in ("optimal", "feasible")
    assert certify(cost, quality, found, **given)
    at = np.arange(300), found.model
    real = load[at] + std[at] * rng.standard_normal((4000, 300))
    for j in range(3):
        over = (real * (found.model == j)).sum(axis=1) > capacity[j]
        assert over.mean() <= 0.05 + 0.015
    plain = assign(cost, quality, min_quality=0.55, load=load, capacity=capacity)
    used = np.bincount(plain.model, load[np.arange(300), plain.model], 3)
    assert (used > 0.99 * capacity).any()  # which would be exceeded half of the time


def test_a_confidence_of_a_half_is_the_mean() -> None:
    cost, quality, std = batch(200)
    found = assign(cost, quality, min_quality=0.7, quality_std=std, confidence=0.5)
    plain = assign(cost, quality, min_quality=0.7)
    assert found.cost == pytest.approx(plain.cost, rel=1e-4)
    assert found.chance.quality == pytest.approx(found.quality)


def test_what_is_out_of_reach_is_told_with_what_can_be_promised() -> None:
    cost, quality, std = batch(50)
    found = assign(cost, quality, min_quality=0.89, quality_std=std, confidence=0.99)
    assert found.status == "quality_unreachable"
    assert found.criterion == "quality"
    assert found.objective == found.chance.quality < 0.89
    assert "with a confidence of 0.99 is out of reach" in found.explanation
    assert f"lower min_quality to {found.chance.quality:.4f}"[:-1] in found.explanation


def test_queries_that_do_not_fit_are_deferred_and_the_promise_is_theirs_who_are_served() -> None:
    cost, quality, std = batch(40, 3)
    capacity = np.array([10, 10, 10.0])
    given = {"min_quality": 0.5, "quality_std": std, "capacity": capacity, "confidence": 0.9}
    found = assign(cost, quality, alternatives=True, priority=np.arange(40), **given)
    assert found.status == "overloaded"
    assert found.deferred.tolist() == list(range(10))
    assert found.chance.quality >= 0.5 - 1e-9
    assert found.alternatives.model.shape == (40,)
    assert certify(cost, quality, found, priority=np.arange(40), **given)


def test_a_budget_with_uncertain_loads() -> None:
    rng = np.random.default_rng(5)
    cost, quality, _ = batch(60, 3, seed=5)
    load = rng.uniform(1, 3, (60, 3))
    given = {"budget": 0.4, "load": load, "load_std": 0.5 * load, "capacity": [50, 50, 50], "confidence": 0.9}
    found = assign(cost, quality, **given)
    assert found.status in ("optimal", "feasible")
    assert certify(cost, quality, found, **given)
    short = given | {"budget": 0.01}
    found = assign(cost, quality, **short)
    assert found.status == "budget_unreachable"
    assert certify(cost, quality, found, **short)


def test_certify_finds_each_lie() -> None:
    cost, quality, std = batch(40)
    given = {"min_quality": 0.6, "quality_std": std, "confidence": 0.8}
    found = assign(cost, quality, **given)
    assert certify(cost, quality, found, **given)
    chance = found.chance
    piece = chance.pieces[0]
    lies = {
        "spreads": replace(chance, spread=chance.spread * 0.9),
        "guaranteed quality": replace(chance, quality=chance.quality + 0.01),
        "boxes": replace(chance, pieces=(replace(piece, high=piece.low), *chance.pieces[1:])),
        "dual bound": replace(
            chance, pieces=tuple(replace(p, duals=replace(p.duals, requirement=50.0)) for p in chance.pieces)
        ),
    }
    for name, lie in lies.items():
        wrong = certify(cost, quality, replace(found, chance=lie), **given)
        assert name in [claim.name for claim in wrong.failed], name
    bolder = given | {"confidence": 0.999}
    assert not certify(cost, quality, found, **bolder)
    with pytest.raises(ProblemError, match="made without quality_std"):
        certify(cost, quality, assign(cost, quality, min_quality=0.5), **given)


def test_boxes_cover_or_do_not() -> None:
    def piece(*sides):
        low, high = (np.array(ends, float) for ends in zip(*sides, strict=True))
        return Piece(low, high, "cost", None, 0.0)  # type: ignore[arg-type]

    low, high = np.zeros(2), np.ones(2)
    whole = [piece((0, 0.5), (0, 1)), piece((0.5, 1), (0, 0.3)), piece((0.5, 1), (0.3, 1))]
    assert covers(low, high, whole)
    for at in range(3):
        assert not covers(low, high, whole[:at] + whole[at + 1 :])


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"quality_std": [[0.1, 0.1]]}, "quality_std was given without confidence, wanted both"),
        ({"confidence": 0.9}, "confidence was given without quality_std or load_std"),
        (
            {"quality_std": [[0.1, 0.1]], "confidence": 1.0},
            r"confidence is 1.0, wanted a number in \[0.5, 1\)",
        ),
        ({"quality_std": [[0.1]], "confidence": 0.9}, r"quality_std has shape \(1, 1\), wanted \(1, 2\)"),
        ({"quality_std": [[0.1, -1]], "confidence": 0.9}, r"quality_std\[0, 1\] is -1.0, wanted a finite"),
        ({"quality_std": [[0.1, np.nan]], "confidence": 0.9}, r"quality_std\[0, 1\] is nan"),
        ({"load_std": [[0.1, 0.1]], "confidence": 0.9}, "load_std was given without load, wanted both"),
        (
            {"quality_std": [[0.1, 0.1]], "confidence": 0.9, "min_quality": None, "budget": 1.0},
            "quality_std was given without min_quality",
        ),
        (
            {"quality_std": [[0.1, 0.1]], "confidence": 0.9, "group": [0], "group_min_quality": [0.5]},
            "quality_std was given with group_min_quality",
        ),
    ],
)
def test_what_is_malformed_is_named(given, sentence) -> None:
    with pytest.raises(ProblemError, match=sentence):
        assign([[1.0, 2.0]], [[0.5, 0.9]], **({"min_quality": 0.5} | given))


def test_the_frontier_refuses_what_it_does_not_know() -> None:
    with pytest.raises(TypeError, match="quality_std"):
        frontier([[1.0, 2.0]], [[0.5, 0.9]], quality_std=[[0.1, 0.1]])


def test_a_bad_value_is_told_as_it_was_given() -> None:
    with pytest.raises(ProblemError, match=r"quality\[0, 1\] is 1.5"):
        assign([[1.0, 2.0]], [[0.5, 1.5]], min_quality=0.5, quality_std=[[0.1, 0.1]], confidence=0.9)


def test_a_time_limit_is_kept_and_the_same_input_gives_the_same_answer() -> None:
    cost, quality, std = batch(20_000)
    given = {"min_quality": 0.7, "quality_std": std, "confidence": 0.9}
    cut = assign(cost, quality, time_limit=0.001, **given)
    assert cut.interrupted
    assert cut.status in ("undecided", "feasible", "optimal")
    assert certify(cost, quality, cut, **given)
    first, second = assign(cost, quality, **given), assign(cost, quality, **given)
    assert (first.model == second.model).all()
    assert first.bound == second.bound


def test_nobody_to_serve() -> None:
    found = assign(
        np.zeros((0, 2)), np.zeros((0, 2)), min_quality=0.5, quality_std=np.zeros((0, 2)), confidence=0.9
    )
    assert found.status == "optimal"
    found = assign(
        [[1.0, 1.0]], [[0.5, 0.9]], min_quality=0.5, quality_std=[[0.1, 0.1]], confidence=0.9,
        allowed=[[False, False]], unroutable="defer",
    )  # fmt: skip
    assert found.model.tolist() == [-1]
