"""Shards that are never together in memory: the same answer as one solve, within the certified gap."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from eccos_rs import assign
from eccos_rs.bulk.certificate import JointCertificate, shard_figures
from eccos_rs.bulk.joint import solve_shards
from eccos_rs.bulk.passes import Goal, Rows, choose, reduced_cost
from eccos_rs.bulk.room import Room
from eccos_rs.errors import InputError

MODELS = 6


class InMemory:
    def __init__(self, rows):
        self.rows = rows

    def load(self):
        return self.rows


def problem(n=30_000, seed=0, forbidden=0.05):
    rng = np.random.default_rng(seed)
    skill, price = np.linspace(-1, 2, MODELS), np.geomspace(1, 60, MODELS) * 1e-6
    hard, noise = rng.normal(size=(n, 1)), rng.normal(size=(n, MODELS))
    quality = (1 / (1 + np.exp(hard - skill - 0.5 * noise))).astype(np.float32)
    cost = price * rng.lognormal(5, 1, size=(n, 1)) * rng.lognormal(0, 0.3, size=(n, MODELS))
    allowed = rng.random((n, MODELS)) >= forbidden
    allowed[:, 0] = True
    return Rows(cost, quality, allowed)


def shards(rows, count):
    return [InMemory(rows.take(part)) for part in np.array_split(np.arange(len(rows)), count)]


def spent(rows, model):
    at = np.arange(len(rows))
    assert rows.allowed[at, model].all()
    return float(rows.cost[at, model].sum()), float(rows.quality[at, model].astype(np.float64).mean())


def together(limit, own=np.inf):
    """The three models in the middle share a capacity, and two of them another one."""
    masks = np.zeros((2, MODELS), bool)
    masks[0, 1:4] = masks[1, 2:4] = True
    return Room(np.full(MODELS, own), masks, np.array([limit, 0.6 * limit]), ("gpu", "org"))


GOALS = {
    "quality": (Goal("min_quality", 0.6), None),
    "budget": (Goal("budget", 40.0), None),
    "price": (Goal("quality_value", 1e-3), None),
    "quality and places": (Goal("min_quality", 0.6), np.full(MODELS, 6_000.0)),
    "price and places": (Goal("quality_value", 1e-3), np.full(MODELS, 5_500.0)),
    "quality and shared places": (Goal("min_quality", 0.6), together(6_000.0)),
    "price, places and shared places": (Goal("quality_value", 1e-3), together(9_000.0, 9_000.0)),
    "budget and shared places": (Goal("budget", 40.0), together(6_000.0)),
}


@pytest.mark.parametrize("count", [1, 7])
@pytest.mark.parametrize("name", GOALS)
def test_the_answer_is_that_of_one_solve(name, count):
    goal, capacity = GOALS[name]
    rows = problem()
    parts = shards(rows, count)
    answer = solve_shards(parts, goal, capacity=capacity, sample=3_000, listed=15_000)
    chosen = [
        choose(part.load(), answer.goal, answer.prices, settled)
        for part, settled in zip(parts, answer.settled, strict=True)
    ]
    model = np.concatenate(chosen)
    cost, quality = spent(rows, model)
    assert (answer.cost, answer.quality) == pytest.approx((cost, quality), rel=1e-9)
    assert answer.gap <= 1e-5
    if goal.kind == "min_quality":
        assert quality >= goal.value - 1e-9
    elif goal.kind == "budget":
        assert cost <= goal.value * (1 + 1e-12)
    room = Room.of(capacity)
    if room is not None:
        counts = np.bincount(model, minlength=MODELS)
        assert (counts <= room.own).all()
        assert (room.masks @ counts <= room.shared).all() if len(room.shared) else True
        # A capacity that nothing came near would hold by itself.
        assert (answer.prices.places > 0).any()
        assert (answer.prices.pools > 0).any() == bool(len(room.shared))
    whole = assign(
        rows.cost, rows.quality, allowed=rows.allowed, tolerance=1e-9,
        **({} if room is None else room.options()), **{goal.kind: goal.value},
    )  # fmt: skip
    if goal.kind == "budget":
        assert quality == pytest.approx(whole.quality, rel=1e-5)
    else:
        value = goal.value if goal.kind == "quality_value" else 0.0
        n = len(rows)
        assert cost - value * quality * n == pytest.approx(whole.cost - value * whole.quality * n, rel=1e-5)


def test_anyone_can_compute_a_shard_s_part_of_the_bound_again():
    goal, capacity = GOALS["quality"]
    parts = shards(problem(), 5)
    answer = solve_shards(parts, goal, capacity=capacity, sample=3_000)
    values = (reduced_cost(part.load(), answer.goal, answer.bound_prices) for part in parts)
    again = [float(value.min(axis=1).sum()) for value in values]
    assert again == pytest.approx(answer.bounds, rel=1e-12)
    whole = sum(again) + answer.bound_prices.goal * goal.value * answer.rows
    assert whole == pytest.approx(answer.bound, rel=1e-9)


@pytest.mark.parametrize("name", GOALS)
def test_a_certificate_is_checked_shard_by_shard(name):
    goal, capacity = GOALS[name]
    parts = shards(problem(8_000), 3)
    goal = goal if goal.kind != "budget" else Goal("budget", 10.0)
    if capacity is not None:
        capacity = together(1_800.0) if isinstance(capacity, Room) else np.full(MODELS, 2_000.0)
    answer = solve_shards(parts, goal, capacity=capacity, sample=3_000, listed=15_000)
    chosen = [
        choose(part.load(), answer.goal, answer.prices, settled)
        for part, settled in zip(parts, answer.settled, strict=True)
    ]
    prices = answer.bound_prices
    figures = [
        shard_figures(part.load(), model, goal, prices) for part, model in zip(parts, chosen, strict=True)
    ]
    made = JointCertificate(goal, prices, capacity, figures)
    read = JointCertificate.from_dict(json.loads(json.dumps(made.to_dict())))
    assert all(read.claims()), [claim for claim in read.claims() if not claim]
    assert read.gap == pytest.approx(answer.gap, abs=1e-12)
    assert read.cost == pytest.approx(answer.cost)
    for number, (part, model) in enumerate(zip(parts, chosen, strict=True)):
        assert read.check(number, part.load(), model)
        moved = model.copy()
        free = np.flatnonzero(part.load().allowed[0])
        moved[0] = free[free != moved[0]][0]
        assert not read.check(number, part.load(), moved)
    dearer = replace(read, shards=[replace(each, cost=1.2 * each.cost) for each in read.shards])
    assert not all(dearer.claims()) or goal.kind == "budget"
    if isinstance(capacity, Room):
        freed = replace(read, prices=replace(prices, pools=0 * prices.pools))
        assert not all(freed.claims())
        tight = replace(read, capacity=together(100.0))
        assert "gpu: " in str([claim for claim in tight.claims() if not claim])
    with pytest.raises(InputError, match="no certificate"):
        JointCertificate.from_dict({"goal": ["min_quality", 0.5]})


def test_a_list_that_is_too_long_is_thinned_and_still_ends():
    rows = problem()
    answer = solve_shards(shards(rows, 4), Goal("min_quality", 0.6), sample=600, listed=700)
    assert answer.gap <= 1e-4


def test_what_cannot_be_had_is_the_nearest_there_is():
    rows = problem(5_000, forbidden=0.0)
    best = solve_shards(shards(rows, 3), Goal("min_quality", 0.999))
    assert best.status == "quality_unreachable"
    assert best.quality == pytest.approx(float(rows.quality.max(axis=1).astype(np.float64).mean()), abs=1e-6)
    least = solve_shards(shards(rows, 3), Goal("budget", 1e-9))
    assert least.status == "budget_unreachable"
    assert least.cost == pytest.approx(float(rows.cost.min(axis=1).sum()), rel=1e-9)
    with pytest.raises(InputError, match="hold 60 of 5,000 rows"):
        solve_shards(shards(rows, 3), Goal("min_quality", 0.5), capacity=np.full(MODELS, 10.0))


def test_a_confidence_adds_a_margin():
    rows = problem(20_000)
    plain = solve_shards(shards(rows, 3), Goal("min_quality", 0.6), sample=2_000)
    sure = solve_shards(shards(rows, 3), Goal("min_quality", 0.6), confidence=0.95, sample=2_000)
    assert 0 < sure.margin < 0.01
    assert sure.quality == pytest.approx(plain.quality + sure.margin, abs=1e-4)
    assert sure.cost > plain.cost


def test_rows_that_no_model_may_take_are_left_out():
    rows = problem(2_000)
    rows.allowed[::10] = False
    parts = shards(rows, 2)
    answer = solve_shards(parts, Goal("min_quality", 0.6))
    model = np.concatenate(
        [choose(p.load(), answer.goal, answer.prices, s) for p, s in zip(parts, answer.settled, strict=True)]
    )
    assert (model[::10] == -1).all()
    assert (np.delete(model, np.s_[::10]) >= 0).all()
    assert answer.rows == 1_800


@pytest.mark.parametrize("goal", [Goal("min_quality", 0.5), Goal("budget", 1e9), Goal("quality_value", 1e-3)])
def test_places_that_the_rows_may_not_take_are_said_to_be_none(goal):
    """In sum the models hold all rows; half of these may take the first model alone, which holds a tenth."""
    rows = problem(2_000, forbidden=0.0)
    rows.allowed[::2, 1:] = False
    room = np.full(MODELS, 2_000.0)
    room[0] = 200.0
    with pytest.raises(InputError, match="no way to place all of 2,000 rows"):
        solve_shards(shards(rows, 3), goal, capacity=room, sample=500, listed=3_000)
