"""What a plan says of queries unlike anything known, and what that takes from its promises and budgets."""

from __future__ import annotations

from dataclasses import replace
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
import pytest

from eccos_rs import Policy, Router, Status
from eccos_rs.errors import PolicyError
from eccos_rs.predict.familiarity import AWAY_LENGTH_STD, AWAY_LEVEL_STD, away_share, familiarity
from eccos_rs.routing.uncertainty import labels_needed
from tests.helpers.given import TRIO, DrawnPredictor, texts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eccos_rs import Prediction, Query

FOREIGN, HOME = 0.3, 0.8


class Somewhere:
    """Forecasts as `DrawnPredictor` does, at a stated distance from known ground."""

    def __init__(self, similarity: float | Sequence[float] | None, level_std: float | None = None) -> None:
        self.inner = DrawnPredictor(TRIO.names, (0.3, 0.9, 1.6))
        self.models = self.inner.models
        self.similarity, self.level_std = similarity, level_std

    def predict(self, queries: Sequence[Query]) -> Prediction:
        made = self.inner.predict(queries)
        if self.similarity is not None:
            near = np.broadcast_to(np.asarray(self.similarity, np.float32), (len(queries),)).copy()
            made = replace(made, similarity=near)
        if self.level_std is None:
            return made
        return replace(made, level_std=np.full(len(self.models), self.level_std, np.float32))


def router(similarity: float | Sequence[float] | None, level_std: float | None = None) -> Router:
    return Router(TRIO, Somewhere(similarity, level_std))


def test_familiarity_is_a_ramp() -> None:
    near = np.array([-1.0, 0.46, 0.48, 0.5, 0.55, 0.6, 1.0, np.nan], dtype=np.float32)
    assert familiarity(near) == pytest.approx([0, 0, 0.25, 0.5, 0.75, 1, 1, 1], abs=1e-5)
    assert away_share(familiarity(np.full(9, FOREIGN))) == 1.0
    assert away_share(familiarity(np.full(9, HOME))) == 0.0
    assert away_share(np.zeros(0)) == 0.0


def test_a_plan_says_how_much_of_it_is_known() -> None:
    near = [FOREIGN] * 5 + [HOME]
    plan = router(near).route(texts(6), min_quality=0.7)
    assert plan.familiar == pytest.approx(1 / 6)
    assert [row.similarity for row in plan] == pytest.approx(near)
    assert plan.to_pandas()["similarity"].tolist() == pytest.approx(near)
    assert "83% of these queries are unlike anything learned" in plan.warnings[0]
    assert "83% of these queries" in str(plan)
    assert "83% of these queries" in plan._repr_html_()


def test_known_traffic_and_a_predictor_that_does_not_say_are_not_warned_of() -> None:
    for somewhere, familiar in ((HOME, 1.0), (None, None)):
        plan = router(somewhere).route(texts(64), min_quality=0.7)
        assert plan.warnings == ()
        assert plan.familiar == familiar
    assert [row.similarity for row in router(None).route(texts(2))] == [None, None]
    # A few queries of known traffic may lie apart by chance.
    assert router([HOME, HOME, FOREIGN]).route(texts(3), min_quality=0.7).warnings == ()


def test_a_promise_nobody_can_back_is_not_validated() -> None:
    plan = router(FOREIGN).route(texts(256), min_quality=0.7)
    assert len(plan.warnings) == 2
    assert "not validated" in plan.warnings[1]
    assert "30 labelled queries" in plan.warnings[1]
    known = router(HOME, 0.05).route(texts(256), min_quality=0.7)
    assert known.warnings == ()
    # A level known from a page of scores alone, on traffic like known ground.
    assert "not validated" in router(HOME, 0.5).route(texts(256), min_quality=0.7).warnings[0]


def test_the_margin_carries_the_uncertainty_of_levels() -> None:
    plan = router(HOME, 0.2).route(texts(256), min_quality=0.6, confidence=0.95)
    coin = plan.quality * (1 - plan.quality)
    columns = plan.assignment.model
    weight = np.bincount(columns, weights=coin, minlength=3) / 256
    error = np.sqrt(np.sum((weight * 0.2) ** 2))
    assert plan.margin.level_error == pytest.approx(error)
    spread = NormalDist().inv_cdf(0.95) * np.sqrt(coin.mean() / 256 + error**2)
    assert plan.margin.points == pytest.approx(spread, abs=1e-6)
    assert plan.margin.kept
    assert plan.margin.labels == 0


def test_labels_that_are_asked_for_would_back_the_promise() -> None:
    plan = router(FOREIGN).route(texts(256), min_quality=0.66, confidence=0.95)
    assert plan.status is Status.QUALITY_UNREACHABLE
    margin = plan.margin
    assert not margin.kept
    assert margin.labels
    assert f"Not validated: {margin.labels:,} labelled queries" in plan.explanation
    coin = float(np.mean(plan.quality * (1 - plan.quality)))
    assert margin.level_error == pytest.approx(coin * AWAY_LEVEL_STD)
    left = coin / np.sqrt((1 / AWAY_LEVEL_STD) ** 2 + margin.labels * coin)
    bound = plan.mean_quality - NormalDist().inv_cdf(0.95) * np.sqrt(coin / 256 + left**2)
    assert bound >= 0.66 - 1e-6
    fewer = coin / np.sqrt((1 / AWAY_LEVEL_STD) ** 2 + (margin.labels - 2) * coin)
    assert plan.mean_quality - NormalDist().inv_cdf(0.95) * np.sqrt(coin / 256 + fewer**2) < 0.66


def test_no_number_of_labels_backs_what_is_beyond_every_model() -> None:
    plan = router(FOREIGN).route(texts(256), min_quality=0.99, confidence=0.95)
    assert plan.margin.labels is None
    assert "labelled" not in plan.explanation
    assert labels_needed(0.1, 0.2, 0.1) == 0
    assert labels_needed(0.1, 0.2, 0.0) is None


@pytest.mark.parametrize("similarity", [FOREIGN, 0.5, HOME])
def test_a_promise_is_kept_as_often_as_was_said_when_levels_are_off(similarity: float) -> None:
    plan = router(similarity).route(texts(256), min_quality=0.45, confidence=0.9)
    assert plan.margin.kept
    rng = np.random.default_rng(1)
    away = away_share(familiarity(np.full(256, similarity)))
    shift = rng.normal(0, AWAY_LEVEL_STD * away, size=(4000, 1))
    odds = np.log(plan.quality / (1 - plan.quality)) + shift
    realised = (rng.random((4000, 256)) < 1 / (1 + np.exp(-odds))).mean(axis=1)
    assert np.mean(realised >= 0.45) >= 0.88


@pytest.mark.parametrize("similarity", [FOREIGN, 0.5, HOME])
def test_a_budget_is_kept_as_often_as_was_said(similarity: float) -> None:
    somewhere = router(similarity)
    plain = somewhere.route(texts(256), quality_value=1.0)
    budget = 2.0 * float(plain.cost.sum()) if similarity < HOME else 0.5 * float(plain.cost.sum())
    plan = somewhere.route(texts(256), budget=budget, confidence=0.95)
    assert plan.margin.kept
    assert plan.margin.upper_cost <= budget * (1 + 1e-9)
    rng = np.random.default_rng(2)
    away = away_share(familiarity(np.full(256, similarity)))
    output = plan.output_tokens * [TRIO[name].output_price for name in plan.models] / 1e6
    prompt = float(plan.cost.sum() - output.sum())
    factor = np.exp(rng.normal(0, AWAY_LENGTH_STD * away, size=(4000, 1)))
    single = np.exp(rng.normal(-0.125, 0.5, size=(4000, 256)))
    spent = (output * factor * single).sum(axis=1) + prompt
    assert np.mean(spent > budget) <= 0.05


def test_a_margin_for_a_budget_buys_no_less_than_it_must() -> None:
    somewhere = router(HOME)
    budget = 0.4 * float(somewhere.route(texts(256), quality_value=1.0).cost.sum())
    sure = somewhere.route(texts(256), budget=budget, confidence=0.95)
    plain = somewhere.route(texts(256), budget=budget)
    assert sure.margin.upper_cost == pytest.approx(budget, rel=0.02)
    assert sure.margin.cost == pytest.approx(budget - sure.total_cost)
    assert sure.mean_quality < plain.mean_quality
    assert "of the budget are held back" in str(sure)
    # Where all money is enough, nothing has to be held back.
    rich = somewhere.route(texts(256), budget=100.0, confidence=0.95)
    assert rich.mean_quality == pytest.approx(somewhere.route(texts(256), budget=100.0).mean_quality)


def test_a_budget_that_cannot_be_promised_says_what_may_be_spent() -> None:
    somewhere = router(FOREIGN)
    least = float(somewhere.route(texts(64), min_quality=0.0).cost.sum())
    plan = somewhere.route(texts(64), budget=1.2 * least, confidence=0.95)
    assert plan.status is Status.BUDGET_UNREACHABLE
    assert not plan.margin.kept
    assert plan.total_cost == pytest.approx(least)
    assert "cannot be promised for this batch of 64 with 95% confidence" in plan.explanation
    assert plan.assignment.violation == pytest.approx(plan.margin.upper_cost - 1.2 * least)


def test_a_price_has_nothing_to_be_confident_of() -> None:
    with pytest.raises(PolicyError, match="or for a budget; got it with quality_value"):
        Policy(quality_value=1.0, confidence=0.9)
    assert Policy(budget=1.0, confidence=0.9).confidence == 0.9
