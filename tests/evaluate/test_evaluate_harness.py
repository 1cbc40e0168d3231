"""Baselines, settings and the comparison at equal cost, in a world whose odds are known."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from eccos_rs.errors import InputError
from eccos_rs.evaluate import (
    Batch,
    HeldOutSet,
    Predictions,
    RoutingMethod,
    Setting,
    find_settings,
    study,
    sweep,
)
from eccos_rs.evaluate.compare import compare
from eccos_rs.evaluate.curves import Resamples, quality_at
from eccos_rs.evaluate.methods.base import place
from eccos_rs.evaluate.methods.baselines import (
    PerQuery,
    PricedPerQuery,
    Random,
    RoundRobin,
    Single,
    StrongWeak,
    Threshold,
    mean_predictions,
)
from eccos_rs.evaluate.methods.joint import Joint
from eccos_rs.evaluate.promises import chosen_pairs, keep_promises, keep_with_margin
from eccos_rs.evaluate.study import identity
from tests.helpers.evaluation import MODELS, PRICES, ByLength, evidence, small_study, world

if TYPE_CHECKING:
    from eccos_rs.records import RecordTable

EVIDENCE = evidence()
HELD = EVIDENCE.test_set
GOOD = EVIDENCE.predictions["hybrid"]


def batch(n: int, capacity: list[float], models: int | None = None) -> Batch:
    names = MODELS[: models or len(capacity)]
    return Batch([""] * n, np.arange(n), names, np.full((len(names), 2), np.nan), np.array(capacity))


# ---- what a method returns


def serve_one_by_one(scores: np.ndarray, capacity: np.ndarray) -> list[int]:
    """The plain loop that first come, first served means."""
    room, chosen = np.minimum(capacity, len(scores)).astype(int), []
    for row in scores:
        order = sorted(range(len(row)), key=lambda j: -row[j])
        chosen.append(next(j for j in order if room[j] > 0))
        room[chosen[-1]] -= 1
    return chosen


@pytest.mark.parametrize("seed", range(30))
def test_scores_are_served_first_come_first_served(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(1, 40)), int(rng.integers(2, 5))
    capacity = rng.multinomial(n + rng.integers(0, 5), np.full(m, 1 / m)).astype(float)
    capacity[rng.integers(m)] = np.inf if seed % 3 else max(capacity[0], n)
    scores = rng.integers(0, 4, (n, m)).astype(float)
    found = place(scores, batch(n, capacity.tolist()))
    assert found.tolist() == serve_one_by_one(scores, capacity)


def test_columns_are_taken_as_they_are() -> None:
    assert place(np.array([0, 0, 0]), batch(3, [1, np.inf])).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("choice", "sentence"),
    [
        (np.array([0, 2, 0]), "got columns 0 to 2, wanted 0 to 1"),
        (np.array([0, -1, 0]), "got columns -1 to 0"),
        (np.array([0.5, 0, 0]), "wanted 0 to 1"),
        (np.zeros((2, 2)), r"got shape \(2, 2\)"),
        (np.full((3, 2), np.nan), "NaN"),
    ],
)
def test_a_wrong_choice_is_refused(choice: np.ndarray, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        place(choice, batch(3, [np.inf, np.inf]))


# ---- settings


def test_limits_mean_what_they_say() -> None:
    strength = np.array([0.5, 0.7, 0.9, 0.6])
    assert Setting("equal/4").capacity(256, strength).tolist() == [64] * 4
    assert Setting("equal/4").capacity(10, strength).tolist() == [3] * 4
    assert Setting("strong/10").capacity(256, strength).tolist() == [np.inf, np.inf, 25, np.inf]
    assert Setting("two/10").capacity(256, strength).tolist() == [np.inf, 25, 25, np.inf]
    with pytest.raises(InputError, match="leaves no room"):
        Setting("equal/5").capacity(100, strength)
    with pytest.raises(InputError, match="needs more than 2 models"):
        Setting("two/10").capacity(100, strength[:2])


@pytest.mark.parametrize("limit", ["equal", "equal/0", "strong/100", "none/3", "half", "two/x", "strong/nan"])
def test_an_unknown_limit_is_refused(limit: str) -> None:
    with pytest.raises(InputError, match="limit: got"):
        Setting(limit)


def test_settings_by_name() -> None:
    assert find_settings(["none", "equal/4::64", "none"]) == (Setting(), Setting("equal/4", size=64))
    assert find_settings(["strong/10:adversarial:all"]) == (Setting("strong/10", "adversarial", None),)
    assert len(find_settings(["all"])) == 56
    with pytest.raises(InputError, match="got size 'x'"):
        find_settings(["none:random:x"])
    with pytest.raises(InputError, match="form: got 'odd'"):
        find_settings(["none:odd"])


def test_batches_are_full_and_hard_ones_hard() -> None:
    hardness = np.random.default_rng(0).random(1000)
    found = list(Setting(size=256).batches(hardness, 0))
    assert [len(rows) for rows in found] == [256] * 3
    assert len(set(np.concatenate(found).tolist())) == 768
    hard = np.concatenate(list(Setting(form="adversarial", size=100).batches(hardness, 0)))
    assert hardness[hard].min() >= np.quantile(hardness, 2 / 3) - 0.01
    assert [len(rows) for rows in Setting(size=5000).batches(hardness, 0)] == [1000]


def test_parts_are_dealt_apart_and_each_is_served_by_a_router_that_never_saw_it() -> None:
    """A router that may only have learned from the other part tells by its fit which part it serves."""

    class Learner:
        name = "learner"
        operating_points = (0.0,)

        def fit(self, table: RecordTable) -> None:
            self.learned = set(table.query)

        def choose(self, batch: Batch, operating_point: float) -> np.ndarray:
            assert not self.learned & set(batch.texts)
            served.append(batch.rows)
            return np.zeros(len(batch), np.int64)

    served: list[np.ndarray] = []
    rows = np.arange(len(HELD.table))
    parts = (rows[::3], np.setdiff1d(rows, rows[::3]))
    test_set = HeldOutSet(HELD.table, HELD.hardness, HELD.prices, parts)
    fits = tuple(HELD.table.select(part) for part in reversed(parts))
    whole = replace(evidence(len(rows)), test_set=test_set, fits=fits)
    found = study(whole, settings=[Setting(size=50)], resamples=20, batches=4, extra=[Learner()])
    for batch in served:
        assert len(batch) == 50
        assert any(np.isin(batch, part).all() for part in parts)
    score = next(s for s in found.comparisons[Setting(size=50)].scores if s.name == "learner")
    assert score.share == [[1.0, 0.0, 0.0, 0.0]]
    assert score.statistics.batches == len(served)
    with pytest.raises(InputError, match="one for each of 2 parts"):
        replace(whole, fits=())


# ---- baselines


def test_a_single_model_costs_and_earns_its_means() -> None:
    run = sweep(Single("large", 2), Setting(size=None), HELD)
    assert run.curve.quality.sum() / len(HELD.table) == pytest.approx(HELD.strength[2])
    assert run.curve.cost.sum() / len(HELD.table) == pytest.approx(HELD.mean_cost[2])
    assert run.curve.share.tolist() == [[0, 0, 1, 0]]


def test_the_blind_mix_is_the_hull_of_the_single_models() -> None:
    """Without limits, mixing two single models is all that means can do."""
    blind = PerQuery(mean_predictions(HELD.table.quality, HELD.table.cost))
    means = sweep(blind, Setting(size=None), HELD).curve.means(Resamples.draw(len(HELD.table), 0, 0))
    budget = np.linspace(HELD.mean_cost.min(), HELD.mean_cost.max(), 50)
    pairs = [
        np.interp(budget, HELD.mean_cost[[j, k]], HELD.strength[[j, k]], left=0.0)
        for j in range(4)
        for k in range(4)
        if HELD.mean_cost[j] < HELD.mean_cost[k]
    ]
    assert quality_at(means[0][0], means[1][0], budget) == pytest.approx(np.max(pairs, axis=0), abs=1e-6)


def test_random_and_round_robin_keep_limits() -> None:
    setting = Setting("equal/4", size=100)
    for method in (Random(0), RoundRobin()):
        run = sweep(method, setting, HELD)
        assert run.statistics.over_capacity == 0
        assert run.curve.share == pytest.approx(np.full((1, 4), 0.25), abs=0.01)


def test_threshold_is_the_rule_of_aios() -> None:
    quality = np.array([[0.6, 0.8, 0.9], [0.2, 0.3, 0.3], [0.7, 0.7, 0.1]], np.float32)
    predictions = Predictions("v", quality, np.array([[1.0, 2.0, 3.0], [1.0, 5.0, 3.0], [2.0, 1.0, 3.0]]))
    rule = Threshold(predictions)
    chosen = place(rule.choose(batch(3, [np.inf] * 3), 0.7), batch(3, [np.inf] * 3))
    # Cheapest of the good enough; the best where none is, of equals the cheaper; the cheaper of two.
    assert chosen.tolist() == [1, 2, 1]
    # With the middle model full, the first query takes the next one that is good enough.
    assert place(rule.choose(batch(3, [np.inf, 0, np.inf]), 0.7), batch(3, [np.inf, 0, np.inf]))[0] == 2


def test_strong_weak_calls_the_strong_where_its_lead_is_large() -> None:
    rule = StrongWeak(GOOD)
    rule.fit(EVIDENCE.fits[0])
    assert MODELS[rule.strong] == "large"
    everything = HELD.batch(np.arange(len(HELD.table)), np.full(4, np.inf))
    for operating_point in (0.0, 0.3, 1.0):
        chosen = place(rule.choose(everything, operating_point), everything)
        assert set(chosen.tolist()) <= {rule.strong, rule.weak}
        assert (chosen == rule.strong).mean() == pytest.approx(operating_point, abs=0.01)
    lead = GOOD.quality[:, rule.strong] - GOOD.quality[:, rule.weak]
    chosen = place(rule.choose(everything, 0.3), everything)
    assert lead[chosen == rule.strong].min() >= lead[chosen != rule.strong].max()


def test_good_forecasts_win_at_equal_cost() -> None:
    blind = PerQuery(mean_predictions(HELD.table.quality, HELD.table.cost), "blind mix")
    methods = [PerQuery(GOOD), Threshold(EVIDENCE.predictions[EVIDENCE.plain]), blind, Random(0)]
    runs = {each.name: sweep(each, Setting(), HELD) for each in methods}
    draws = Resamples.draw(len(HELD.table), 100, 0)
    found = compare(runs, HELD, draws, champion="per query, hybrid")
    for other in ("blind mix", "threshold, raw kNN16"):
        assert found.gains[f"per query, hybrid - {other}"].mean.low > 0
    scores = {score.name: score for score in found.scores}
    assert scores["per query, hybrid"].distance == pytest.approx(0, abs=0.003)
    assert scores["random"].ahead.value > 0.05
    assert scores["per query, hybrid"].aiq.value > scores["blind mix"].aiq.value


# ---- the joint assignment


def test_without_limits_joint_and_per_query_are_one_rule() -> None:
    """The identity: one quality row is one price. Exactly 0, at every position of the operating point."""
    same = identity(GOOD, EVIDENCE)
    assert same.positions == 61
    assert (same.differing, same.quality, same.cost) == (0, 0.0, 0.0)
    assert same.promised_cost == pytest.approx(0.0, abs=1e-9)


def test_under_limits_joint_is_never_below_per_query_as_predicted() -> None:
    """At the same price, no choice within the limits is worth more by the scores that both use."""
    rows = np.arange(200)
    tight = HELD.batch(rows, np.full(4, 50.0))
    joint, rule, lowest = Joint(GOOD), PerQuery(GOOD), []
    for operating_point in (0.2, 0.4, 0.6, 0.8):
        scores = rule.choose(tight, operating_point)
        values = [
            scores[rows, place(each, tight)].sum() for each in (joint.choose(tight, operating_point), scores)
        ]
        lowest.append(values[0] - values[1])
    assert min(lowest) >= -1e-9
    assert max(lowest) > 0


@pytest.mark.parametrize("mode", ["promise", "budget"])
def test_a_dial_of_the_joint_modes_runs_from_cheap_to_good(mode: str) -> None:
    joint = Joint(GOOD, mode)
    everything = HELD.batch(np.arange(len(HELD.table)), np.full(4, np.inf))
    costs = [joint.solve(everything, operating_point).cost for operating_point in (0.0, 0.5, 1.0)]
    assert costs[0] < costs[1] < costs[2]
    with pytest.raises(InputError, match="mode: got 'x'"):
        Joint(GOOD, "x")


def test_priced_learns_from_the_batch_before() -> None:
    """Nothing on the first batch; then it pays for crowded models, as the joint assignment found."""
    priced, plain = PricedPerQuery(GOOD), PerQuery(GOOD)
    one = HELD.batch(np.arange(200), np.full(4, 50.0))
    two = HELD.batch(np.arange(200, 400), np.full(4, 50.0))
    assert np.array_equal(priced.choose(one, 0.5), plain.choose(one, 0.5))
    rents = plain.choose(two, 0.5) - priced.choose(two, 0.5)
    assert (rents.std(axis=0) < 1e-12).all()
    assert rents[0].max() > 0
    assert rents.min() >= -1e-12


# ---- promises


def test_promises_of_true_odds_come_true() -> None:
    draws = Resamples.draw(len(HELD.table), 100, 0)
    kept = keep_promises(GOOD, Setting(size=100), HELD, draws, promises=(0.66, 0.70), batches=24)
    for each in kept:
        assert each.difference.low <= 0 <= each.difference.high
        assert each.predicted >= each.promised - 1e-6
        assert each.over_capacity == 0
        assert 0.1 < each.broken < 0.9
    impossible = keep_promises(GOOD, Setting(size=100), HELD, draws, promises=(0.999,), batches=6)
    assert impossible[0].unreachable == 1
    assert np.isnan(impossible[0].difference.value)


def test_coin_flips_promise_too_much() -> None:
    """The winner's curse: the pairs that look best are those that luck made look best."""
    plain = EVIDENCE.predictions[EVIDENCE.plain]
    curse = [chosen_pairs(predictions, Setting(size=100), HELD, batches=12) for predictions in (plain, GOOD)]
    biases = [float(each.forecast.mean() - each.outcome.mean()) for each in curse]
    assert biases[0] > biases[1] + 0.01


def test_the_margin_keeps_single_batches() -> None:
    kept = keep_with_margin(GOOD, Setting(size=100), HELD, promised=0.66, batches=60)
    assert kept.kept >= 0.85
    assert kept.kept > kept.kept_without
    assert 0.05 < kept.points < 0.10
    assert kept.cost_ratio > 1
    refused = keep_with_margin(GOOD, Setting(size=100), HELD, promised=0.99, batches=6)
    assert refused.refused == 1


# ---- the study, and a router of one's own


def test_any_router_can_be_put_in_and_its_breaches_are_counted() -> None:
    assert isinstance(ByLength(), RoutingMethod)
    free, capped = small_study().comparisons.values()
    breaches = {score.name: score.statistics for score in capped.scores}
    assert breaches["by length"].over_capacity > 0.5
    assert 0 < breaches["by length"].excess <= 0.9
    assert {name for name, each in breaches.items() if each.over_capacity} == {"by length"}
    assert all(score.statistics.over_capacity == 0 for score in free.scores)


def test_two_contenders_of_one_name_are_refused() -> None:
    with pytest.raises(InputError, match="two are called 'by length'"):
        study(EVIDENCE, settings=[Setting()], resamples=20, extra=[ByLength(), ByLength()])
    with pytest.raises(InputError, match="settings: got none"):
        study(EVIDENCE, settings=[])


def test_what_cannot_be_judged_is_refused() -> None:
    table = world(20, 3)[0]
    with pytest.raises(InputError, match="1 models to judge"):
        HeldOutSet(table.select_models(["small"]), np.zeros(20), PRICES[:1])
    table.quality[3, 1] = np.nan
    with pytest.raises(InputError, match="not observed"):
        HeldOutSet(table, np.zeros(20), PRICES)
