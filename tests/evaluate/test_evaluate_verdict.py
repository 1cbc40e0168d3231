"""A verdict by the interval: its cases, its figures against a plain computation, and its coverage."""

from __future__ import annotations

import json

import numpy as np
import pytest

from eccos_rs.errors import InputError
from eccos_rs.evaluate.curves import Estimate
from eccos_rs.evaluate.outcomes import Figures, blind_mix
from eccos_rs.evaluate.verdict import decide, judge_routing
from tests.helpers.evaluation import MODELS, PRICES, world

LARGE, SMALL = MODELS.index("large"), MODELS.index("small")


def judged(rows: int, seed: int = 3, *, skilled: bool = True, reference: int = LARGE, **more):
    table, odds, lengths = world(rows, seed)
    cost = (table.input_tokens[:, None] * PRICES[:, 0] + lengths * PRICES[:, 1]) / 1e6
    hoped = odds if skilled else np.broadcast_to(odds.mean(axis=0), odds.shape)
    return judge_routing(table.quality, table.cost, (hoped, cost), table.models, reference, **more)


def test_a_router_that_sees_is_deployed():
    verdict = judged(600)
    assert verdict.decision == "deploy"
    assert verdict.cost.high < 0.8
    assert verdict.over_mix.low > 0.0
    assert "of the spend of large, better than mixing" in verdict.sentence
    assert verdict.sentence.endswith("deploy")


def test_a_router_that_sees_nothing_is_not():
    verdict = judged(600, skilled=False)
    assert (verdict.decision, verdict.reason) == ("do not", "mix")
    assert verdict.sentence.startswith("not better than")
    assert verdict.sentence.endswith("do not")


def test_few_queries_decide_nothing():
    verdict = judged(20)
    assert (verdict.decision, verdict.reason, verdict.needed) == ("undecided", "few", 30)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_one_query_cannot_be_off_by_more_than_everything(rows):
    verdict = judged(rows)
    for each in (verdict.quality, verdict.over_mix):
        assert -1.0 <= each.low <= each.value <= each.high <= 1.0
    assert "±300" not in verdict.sentence


def test_where_today_is_cheap_the_gain_is_better_answers():
    """Nothing is cheaper than the smallest model; at its cost no better answers are to be had either."""
    verdict = judged(600, reference=SMALL)
    assert verdict.decision != "deploy" or verdict.quality.low > 0.0


def test_answers_that_never_differ_leave_what_is_rare_open():
    table, odds, lengths = world(200, 1)
    cost = (table.input_tokens[:, None] * PRICES[:, 0] + lengths * PRICES[:, 1]) / 1e6
    same = judge_routing(np.ones_like(table.quality), table.cost, (odds, cost), MODELS, LARGE)
    assert same.decision == "do not"
    assert same.quality.low == pytest.approx(-3 / 200)
    assert same.quality.high == pytest.approx(3 / 200)


def test_weights_are_copies():
    """A query of weight 3 counts as three."""
    table, odds, lengths = world(60, 5)
    cost = (table.input_tokens[:, None] * PRICES[:, 0] + lengths * PRICES[:, 1]) / 1e6
    weights = np.random.default_rng(0).integers(1, 4, 60)
    rows = np.repeat(np.arange(60), weights)
    one = judge_routing(table.quality, table.cost, (odds, cost), MODELS, LARGE, weights=weights)
    three = judge_routing(table.quality[rows], table.cost[rows], (odds[rows], cost[rows]), MODELS, LARGE)
    assert one.quality.value == pytest.approx(three.quality.value)
    assert one.cost.value == pytest.approx(three.cost.value)


def test_intervals_cover_what_happens():
    """Of 40 small worlds the interval holds the figures of a large one in nearly all."""
    truth = judged(6000, seed=99)
    held = [0, 0]
    for seed in range(40):
        verdict = judged(200, seed=seed)
        held[0] += verdict.quality.low <= truth.quality.value <= verdict.quality.high
        held[1] += verdict.over_mix.low <= truth.over_mix.value <= verdict.over_mix.high
    assert min(held) >= 33


def test_what_more_money_would_decide():
    figures = Figures(
        Estimate(-0.02, -0.08, 0.04), Estimate(0.6, 0.5, 0.7), Estimate(0.03, -0.06, 0.12), ("a", "b")
    )
    verdict = decide("a", 100, figures)
    # The lower end of the quality must rise from -8 to -5 points: 3 of the 6 it lies below the figure.
    assert (verdict.decision, verdict.needed) == ("undecided", 400)
    assert "400 labelled queries in all would decide it" in verdict.sentence


def test_a_tolerance_of_the_users_own():
    figures = Figures(
        Estimate(-0.02, -0.04, 0.0), Estimate(0.6, 0.5, 0.7), Estimate(0.03, 0.01, 0.05), ("a", "b")
    )
    assert decide("a", 100, figures).decision == "deploy"
    assert decide("a", 100, figures, tolerance=0.03).decision == "undecided"
    assert decide("a", 100, figures, measured=False).decision == "undecided"


@pytest.mark.parametrize(("spent", "value", "used"), [(0.5, 0.5, (0,)), (2.0, 0.7, (0, 2)), (9.0, 0.9, (2,))])
def test_the_blind_mix(spent, value, used):
    found = blind_mix(np.array([0.5, 0.6, 0.9]), np.array([1.0, 2.0, 3.0]), spent)
    assert found == (pytest.approx(value), used)


def test_plain_data_is_json():
    json.dumps(judged(40).to_dict(), allow_nan=False)
    json.dumps(judged(1).to_dict(), allow_nan=False)


def test_missing_pairs_and_shapes_are_refused():
    with pytest.raises(InputError, match="every pair observed"):
        judge_routing(np.full((3, 2), np.nan), np.ones((3, 2)), (np.ones((3, 2)), np.ones((3, 2))), "ab", 0)
    with pytest.raises(InputError, match=r"predicted cost: got shape \(3, 1\)"):
        judge_routing(np.ones((3, 2)), np.ones((3, 2)), (np.ones((3, 2)), np.ones((3, 1))), "ab", 0)
