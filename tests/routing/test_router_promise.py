"""The promise for one batch: its margin, its price, and that chance keeps it as often as was said."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest

from eccos_rs import Status
from eccos_rs.routing.promise import lower_bound
from tests.helpers.given import texts, trio


def test_the_margin_is_the_normal_bound_and_no_larger_than_needed():
    plan = trio().route(texts(256), min_quality=0.7, confidence=0.95)
    quality = plan.quality
    spread = NormalDist().inv_cdf(0.95) * np.sqrt(np.mean(quality * (1 - quality)) / 256)
    assert plan.margin.points == pytest.approx(spread)
    assert plan.margin.lower_bound == pytest.approx(quality.mean() - spread)
    assert plan.margin.kept
    # The promise holds, and what is bought beyond it is no more than one query's step.
    assert 0.7 - 1e-9 <= plan.margin.lower_bound <= 0.7 + 2e-3


def test_the_margin_has_a_price_and_a_larger_batch_a_smaller_one():
    plain = trio().route(texts(256), min_quality=0.7)
    sure = trio().route(texts(256), min_quality=0.7, confidence=0.95)
    assert sure.margin.cost == pytest.approx(sure.total_cost - plain.total_cost)
    assert sure.margin.cost > 0
    surer = trio().route(texts(256), min_quality=0.7, confidence=0.99)
    assert surer.margin.points > sure.margin.points
    large = trio().route(texts(1024), min_quality=0.7, confidence=0.95)
    assert large.margin.points == pytest.approx(sure.margin.points / 2, rel=0.1)


def test_chance_keeps_the_promise_as_often_as_was_said():
    plan = trio().route(texts(300), min_quality=0.75, confidence=0.9)
    flips = np.random.default_rng(7).random((20_000, 300)) < plan.quality
    kept = np.mean(flips.mean(axis=1) >= 0.75)
    assert 0.89 <= kept <= 0.93


def test_what_cannot_be_promised_is_unreachable_and_says_what_can():
    plan = trio().route(texts(16), min_quality=0.8, confidence=0.95)
    best = plan.problem.quality.max(axis=1).astype(float)
    assert plan.status is Status.QUALITY_UNREACHABLE
    assert not plan.margin.kept
    assert plan.mean_quality == pytest.approx(best.mean())
    assert plan.margin.lower_bound == pytest.approx(lower_bound(best, 0.95))
    assert "cannot be promised for this batch of 16 with 95% confidence" in plan.explanation
    assert plan.assignment.violation == pytest.approx(0.8 - plan.margin.lower_bound)


def test_one_query_is_one_coin():
    plan = trio().route(["Only one"], min_quality=0.5, confidence=0.99)
    p = float(plan.quality[0])
    assert plan.margin.lower_bound == pytest.approx(p - NormalDist().inv_cdf(0.99) * np.sqrt(p * (1 - p)))


def test_a_relative_promise_may_be_given_for_the_batch_too():
    plan = trio().route(texts(400), relative_quality=0.9, confidence=0.9)
    assert plan.margin.kept
    assert plan.margin.lower_bound >= plan.promised - 1e-9
    assert "90 % confidence" in str(plan)


def test_deferred_queries_have_no_part_in_the_promise():
    plan = trio().route(
        texts(100), min_quality=0.5, confidence=0.9, capacity={"small": 20, "middle": 20, "large": 20}
    )
    assert plan.status is Status.OVERLOADED
    assert plan.margin.points == pytest.approx(
        NormalDist().inv_cdf(0.9) * np.sqrt(np.nanmean(plan.quality * (1 - plan.quality)) / 60)
    )


@pytest.mark.parametrize("seed", range(20))
def test_the_margin_settles_whatever_the_batch(seed):
    random = np.random.default_rng(seed)
    batch = [f"{seed} {text}" for text in texts(int(random.integers(30, 500)))]
    promised = float(random.uniform(0.3, 0.8))
    plan = trio().route(batch, min_quality=promised, confidence=float(random.uniform(0.55, 0.99)))
    if plan.margin.kept:
        assert plan.margin.lower_bound >= promised - 1e-9
        assert plan.margin.cost >= -1e-12
    else:
        assert plan.status is Status.QUALITY_UNREACHABLE
