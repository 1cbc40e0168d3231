"""The measures on curves whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest

from eccos_rs.errors import InputError
from eccos_rs.evaluate.curves import Curve, Resamples, cost_at, hull, quality_at, summarise
from eccos_rs.evaluate.metrics import (
    aiq,
    apgr,
    auc,
    brier,
    cpt,
    ece,
    ece_floor,
    pareto_distance,
    reliability,
)

TWO = np.array([0.4, 0.8]), np.array([1.0, 3.0])
"""Quality and cost of a curve of two points."""


def test_aiq_of_two_points() -> None:
    """The mean of a straight line is its middle; beyond its end the hull goes on level."""
    assert aiq(*TWO, 1.0, 3.0) == pytest.approx(0.6)
    assert aiq(*TWO, 1.0, 5.0) == pytest.approx(0.7)
    assert aiq(*TWO, 2.0, 3.0) == pytest.approx(0.7)


def test_aiq_of_a_curve_that_begins_too_late_is_not_defined() -> None:
    assert np.isnan(aiq(*TWO, 0.5, 3.0))


def test_aiq_uses_the_hull() -> None:
    """A point below the line between its neighbours changes nothing."""
    quality, cost = np.array([0.4, 0.5, 0.8]), np.array([1.0, 2.0, 3.0])
    assert aiq(quality, cost, 1.0, 3.0) == pytest.approx(0.6)
    with pytest.raises(InputError, match="wanted more than low"):
        aiq(quality, cost, 3.0, 3.0)


def test_apgr_of_the_straight_line_from_weak_to_strong() -> None:
    """Mean of 1/100, 2/100 ... 100/100."""
    assert apgr(*TWO, (0.4, 1.0), (0.8, 3.0)) == pytest.approx(0.505)
    assert np.isnan(apgr(*TWO, (0.8, 1.0), (0.8, 3.0)))


def test_cpt() -> None:
    """Half of the gap is reached at 30 % strong calls, all of it never."""
    quality, share = np.array([0.5, 0.7, 0.75]), np.array([0.0, 0.3, 1.0])
    half, most, all_ = cpt(quality, share, 0.5, 0.9, (0.5, 0.6, 1.0))
    assert half == pytest.approx(0.3)
    assert most == pytest.approx(0.3 + 0.7 * 0.8)
    assert all_ == np.inf


def test_a_curve_never_falls_and_costs_nothing_below_its_beginning() -> None:
    quality, cost = np.array([0.9, 0.6, 0.7]), np.array([3.0, 1.0, 5.0])
    assert quality_at(quality, cost, [0.9, 1.0, 2.0, 4.0, 9.0]) == pytest.approx(
        [np.nan, 0.6, 0.75, 0.9, 0.9], nan_ok=True
    )
    assert cost_at(quality, cost, [0.1, 0.75, 0.95]) == pytest.approx([1.0, 2.0, np.inf])


def test_cost_at_takes_the_cheapest_of_equal_points() -> None:
    quality, cost = np.array([0.5, 0.7, 0.7, 0.9]), np.array([1.0, 2.0, 6.0, 8.0])
    assert cost_at(quality, cost, [0.7]) == pytest.approx([2.0])


def test_hull_drops_what_mixing_beats() -> None:
    quality, cost = np.array([0.2, 0.1, 0.3, 0.9, 0.9, 0.5]), np.array([1.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    height, spent = hull(quality, cost)
    assert height.tolist() == [0.2, 0.9]
    assert spent.tolist() == [1.0, 3.0]


def test_pareto_distance() -> None:
    budgets = np.array([0.5, 1.0, 2.0, 3.0])
    frontier = np.array([0.4, 0.5, 0.7, 0.8])
    # Below its beginning a curve reaches nothing, and that budget does not count.
    assert pareto_distance(*TWO, frontier, budgets) == pytest.approx((0.1 + 0.1 + 0.0) / 3)


@pytest.mark.parametrize("seed", range(3))
def test_auc_counts_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    forecast, outcome = rng.integers(0, 5, 60) / 5, rng.integers(0, 2, 60)
    good, bad = forecast[outcome == 1], forecast[outcome == 0]
    better = (good[:, None] > bad).sum() + 0.5 * (good[:, None] == bad).sum()
    assert auc(forecast, outcome) == pytest.approx(better / (len(good) * len(bad)))


def test_auc_of_one_class_is_not_defined() -> None:
    assert np.isnan(auc([0.2, 0.4], [1, 1]))


def test_brier_and_ece() -> None:
    assert brier([0.5, 1.0], [1, 1]) == pytest.approx(0.125)
    forecast = np.repeat([0.1, 0.6], 100)
    outcome = np.r_[np.repeat([1, 0], [30, 70]), np.repeat([1, 0], [60, 40])]
    assert ece(forecast, outcome, bins=2) == pytest.approx(0.1)
    assert reliability(forecast, outcome, bins=2).outcome.tolist() == [0.3, 0.6]
    assert reliability([0.5], [1.0]).size.tolist() == [1]
    with pytest.raises(InputError, match="3 against 2 outcomes"):
        reliability([0.1, 0.2, 0.3], [1, 0])


def test_the_floor_of_the_calibration_error_shrinks_with_the_data() -> None:
    rng = np.random.default_rng(0)
    few, many = rng.uniform(0.3, 0.9, 300), rng.uniform(0.3, 0.9, 30_000)
    assert 0.05 < ece_floor(few) < 0.12
    assert ece_floor(many) < 0.012


def test_intervals_hold_the_truth() -> None:
    """A known mean lies within the 95 % interval about as often as it says."""
    inside = 0
    for seed in range(60):
        outcome = (np.random.default_rng(seed).random(200) < 0.7).astype(float)
        means = Resamples.draw(200, 200, seed).mean(outcome[None], np.ones(200))
        found = summarise(means[:, 0])
        assert found.value == pytest.approx(outcome.mean())
        inside += found.low <= 0.7 <= found.high
    assert 50 <= inside <= 60


def test_an_interval_of_what_is_mostly_undefined_is_undefined() -> None:
    nan = float("nan")
    assert np.isnan(summarise(np.array([0.5, *[nan] * 5, *[0.4] * 5])).low)
    assert summarise(np.array([0.5, *[np.inf] * 5, *[0.4] * 5])).high == np.inf


def test_a_mean_counts_every_time_a_query_was_served() -> None:
    curve = Curve("c", np.array([[2.0, 0.0]]), np.array([[4.0, 1.0]]), np.array([2.0, 1.0]), np.ones((1, 1)))
    quality, cost = curve.means(Resamples.draw(2, 0, 0))
    assert quality.item() == pytest.approx(2 / 3)
    assert cost.item() == pytest.approx(5 / 3)
