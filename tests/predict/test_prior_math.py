"""A model laid over curves meets what is published of it; labels and feedback move it as they should."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from eccos_rs.predict.prior.ability import Known, curve_weights, lay_over, matching_shift
from eccos_rs.predict.prior.curves import (
    GRID,
    Curves,
    Reading,
    Reference,
    log_odds,
    memberships,
    open_curves,
    unit,
)
from eccos_rs.predict.prior.posterior import (
    Observations,
    Posterior,
    PriorWidths,
    fit_posterior,
    token_factor,
)

if TYPE_CHECKING:
    from pathlib import Path

CATEGORIES = ("gsm8k", "mmlu_pro/law", "mmlu_pro/math")
NAN = np.nan


def parse_reading(rows: int, seed: int = 0) -> tuple[Reading, np.ndarray]:
    """Make texts whose difficulty is one number, and their categories."""
    rng = np.random.default_rng(seed)
    hard, kind = rng.normal(size=rows), rng.integers(len(CATEGORIES), size=rows)
    curves = GRID + 1.2 * hard[:, None]
    member = np.full((rows, len(CATEGORIES)), 0.1) + 0.7 * np.eye(len(CATEGORIES))[kind]
    member /= member.sum(axis=1, keepdims=True)
    return Reading(curves, member, 5.0 + 0.3 * hard, np.full(rows, 0.8)), kind


def curves_over(reading: Reading, kind: np.ndarray) -> Curves:
    small = np.zeros((1, 1), dtype=np.float32)
    reference = Reference(reading, kind, np.ones(len(kind)))
    outputs = len(GRID) + len(CATEGORIES) + 1
    wide = np.zeros((1, outputs), dtype=np.float32)
    views = small, small
    return Curves(CATEGORIES, views, views, wide, wide[0], reference)


@pytest.fixture(scope="module")
def laid() -> tuple[Curves, Reading, np.ndarray]:
    reading, kind = parse_reading(600)
    return curves_over(reading, kind), reading, kind


def p_of(z: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-z))


@pytest.mark.parametrize("level", [0.15, 0.5, 0.93])
def test_the_mean_is_what_is_published(laid: tuple[Curves, Reading, np.ndarray], level: float) -> None:
    curves, reading, kind = laid
    known = Known(np.array([0.7, level, level]), np.full(3, NAN), np.full(3, NAN))
    p = p_of(lay_over(curves, known).log_odds(reading))
    assert p[kind > 0].mean() == pytest.approx(level, abs=0.02)
    assert p[kind == 0].mean() == pytest.approx(0.7, abs=0.05)


def test_published_categories_tell_a_model_from_another_of_its_level(
    laid: tuple[Curves, Reading, np.ndarray],
) -> None:
    curves, reading, kind = laid
    level = np.full(3, 0.5)
    lawyer = lay_over(curves, Known(level, np.array([NAN, 0.7, 0.3]), np.full(3, NAN)))
    counter = lay_over(curves, Known(level, np.array([NAN, 0.3, 0.7]), np.full(3, NAN)))
    ahead = lawyer.log_odds(reading) - counter.log_odds(reading)
    assert ahead[kind == 1].mean() > 0.8
    assert ahead[kind == 2].mean() < -0.8
    assert p_of(lawyer.log_odds(reading))[kind > 0].mean() == pytest.approx(0.5, abs=0.02)


def test_tokens_add_up_to_the_published_mean(laid: tuple[Curves, Reading, np.ndarray]) -> None:
    curves, reading, kind = laid
    level = np.full(3, 0.5)
    told = lay_over(curves, Known(level, np.full(3, NAN), np.array([120.0, 800.0, 800.0])))
    assert told.output_tokens(reading)[kind > 0].mean() == pytest.approx(800.0, rel=0.15)
    # What is not told of a benchmark follows from the others; without any, from the one mean there is.
    part = lay_over(curves, Known(level, np.full(3, NAN), np.array([NAN, 800.0, 800.0])))
    assert part.output_tokens(reading)[kind == 0].mean() == pytest.approx(800.0, rel=0.25)
    single = lay_over(curves, Known(level, np.full(3, NAN), np.full(3, NAN), 300.0))
    assert single.output_tokens(reading).mean() == pytest.approx(300.0, rel=0.02)


def test_a_strength_between_curves_reads_between_them() -> None:
    assert curve_weights(0.0) @ GRID == pytest.approx(0.0, abs=0.05)
    assert curve_weights(0.6) @ GRID == pytest.approx(0.6, abs=0.1)
    assert curve_weights(3.0) @ GRID > 1.2


def test_shifts_memberships_and_log_odds_stay_finite_at_the_edges() -> None:
    assert matching_shift(np.zeros(4), 0.5) == pytest.approx(0.0, abs=1e-9)
    assert np.isfinite(matching_shift(np.array([-40.0, 40.0]), 0.999))
    member = memberships(np.array([[-0.3, 0.0, 1.1], [0.0, 0.0, 0.0]]))
    assert member.sum(axis=1) == pytest.approx([1.0, 1.0])
    assert member[0, 2] > 0.99
    assert np.abs(log_odds(np.array([-0.2, 1.2]))).max() < 4.0


def evidence(rows: int, *, shift: float, channel: int = -1, models: int = 2, seed: int = 1) -> Observations:
    """Make answers of models whose log odds are off by `shift` times 1, 0, -1…"""
    rng = np.random.default_rng(seed)
    reading, _ = parse_reading(rows, seed)
    model = rng.integers(models, size=rows)
    before = reading.curves[:, 1]
    away = shift * (1.0 - model)
    good = (rng.random(rows) < p_of(before + away)).astype(float)
    return Observations(
        model, np.full(rows, channel), good, before, reading.membership, np.zeros(rows),
        rng.normal(size=(rows, 4)).astype(np.float32),
    )  # fmt: skip


WIDTHS = PriorWidths(np.array([0.35, 0.35]), np.array([0.25, 0.25]))


def level_of(made: Posterior, given: Observations) -> np.ndarray:
    both = np.repeat(given.log_odds[:, None], len(made.labels), axis=1)
    after = made.log_odds(both, given.membership, np.zeros(len(given)), None)
    return (after - both).mean(axis=0)


def test_labels_move_a_level_and_make_it_surer() -> None:
    some, many = (evidence(rows, shift=0.8) for rows in (30, 900))
    few, sure = (fit_posterior(given, WIDTHS, 0) for given in (some, many))
    assert level_of(sure, many) == pytest.approx([0.8, 0.0], abs=0.25)
    assert (few.level_std > sure.level_std).all()
    assert (few.level_std < WIDTHS.level).all()
    assert sure.labels.sum() == 900


def test_without_evidence_nothing_moves() -> None:
    nothing = evidence(0, shift=0.0)
    made = fit_posterior(nothing, WIDTHS, 0)
    z = np.array([[0.4, -1.0]])
    assert made.log_odds(z, np.full((1, 3), 1 / 3), np.ones(1), None) == pytest.approx(z)
    assert made.level_std == pytest.approx(WIDTHS.level)


def test_labels_of_one_class_stay_finite() -> None:
    given = evidence(200, shift=0.0)
    all_good = Observations(**{**vars(given), "good": np.ones(200)})
    made = fit_posterior(all_good, WIDTHS, 0)
    assert np.isfinite(made.coefficients).all()
    assert 0.0 < level_of(made, all_good).min() < 5.0


def test_a_channel_takes_up_what_it_says_of_all_models_and_leaves_their_difference() -> None:
    """Good answers are praised one time in ten, bad ones reported one in four: as labels they mislead."""
    rng = np.random.default_rng(5)
    true = evidence(6000, shift=0.4, channel=0)
    told = rng.random(6000) < np.where(true.good > 0.5, 0.10, 0.25)
    heard = Observations(**{name: values[told] for name, values in vars(true).items() if values is not None})
    believed = Observations(**{**vars(heard), "channel": np.full(len(heard), -1)})
    by_channel, as_labels = fit_posterior(heard, WIDTHS, 1), fit_posterior(believed, WIDTHS, 0)
    assert by_channel.channels[0] < -0.5
    assert abs(level_of(by_channel, heard).mean() - 0.2) < abs(level_of(as_labels, heard).mean() - 0.2)
    ahead = level_of(by_channel, heard)
    assert ahead[0] - ahead[1] > 0.15


def test_a_residual_is_kept_only_where_left_out_labels_show_that_it_helps() -> None:
    rng = np.random.default_rng(2)
    rows = 400
    vectors = rng.normal(size=(rows, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    flat = np.zeros(rows)
    base = Observations(
        np.zeros(rows, dtype=np.int64), np.full(rows, -1), flat, flat, np.zeros((rows, 0)), flat, vectors
    )
    widths = PriorWidths(np.array([0.3]), np.array([0.25]))
    shaped = Observations(**{**vars(base), "good": (vectors[:, 0] > 0).astype(float)})
    noise = Observations(**{**vars(base), "good": rng.integers(2, size=rows).astype(float)})
    assert fit_posterior(shaped, widths, 0).residual[0] is not None
    assert fit_posterior(noise, widths, 0).residual[0] is None


def test_token_factors_come_from_sums_and_start_at_the_prior() -> None:
    expected = np.full(50, 100.0)
    assert token_factor(expected[:0], expected[:0], 2.0) == 1.0
    assert token_factor(3 * expected, expected, 2.0) == pytest.approx(3.0, rel=0.1)
    # What was told for the model is given up later than what was filled in from others.
    few = expected[:5]
    assert token_factor(3 * few, few, 30.0) < token_factor(3 * few, few, 2.0)
    # One answer that ran to its limit does not multiply everything by a hundred.
    assert token_factor(np.array([10_000.0]), np.array([100.0]), 30.0) < 5.0


def test_curves_are_read_back_as_they_were_from_a_small_file_and_from_an_older_one(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    rows, kinds = 400, len(CATEGORIES)
    centres = tuple(unit(rng.normal(size=(rows, 64)).astype(np.float32)) for _ in range(2))
    projections = tuple(rng.normal(size=(30, 64)).astype(np.float16).astype(np.float32) for _ in range(2))
    dual = rng.normal(0, 0.02, (rows, len(GRID) + kinds + 1)).astype(np.float16).astype(np.float32)
    reading, kind = parse_reading(rows)
    reference = Reference(reading, kind, np.ones(rows))
    made = Curves(CATEGORIES, projections, centres, dual, np.full(dual.shape[1], 0.5, np.float32), reference)
    arrays = made.arrays()
    half = {f"centres_{view}": each.astype(np.float16) for view, each in enumerate(centres)}
    older = {name: each for name, each in arrays.items() if not name.startswith(("coarse", "fine"))} | half
    states = unit(rng.normal(size=(200, 30)).astype(np.float32))
    for kept in (arrays, older):
        np.savez_compressed(tmp_path / "curves.npz", **kept)
        again = open_curves(tmp_path / "curves.npz", CATEGORIES).read(states)
        for name in ("curves", "membership", "length", "similarity"):
            np.testing.assert_allclose(getattr(again, name), getattr(made.read(states), name), atol=2e-3)
    views = sum(each.nbytes for name, each in arrays.items() if name.startswith(("coarse", "fine")))
    assert views == 2 * rows * 64 * 2
