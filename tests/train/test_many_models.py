"""Of many models the best-looking one is best-looking in part by chance; the calibration knows how much."""

from __future__ import annotations

import numpy as np
import pytest

from eccos_rs.predict.calibration import Calibration, Scores, expit
from eccos_rs.train.calibrate import Labels, Sources, fit_calibration

FRESH = 4000


def world(
    rng: np.random.Generator, models: int, *, rows: int, apart: float, noise: float, told: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scores, labels and odds: what sets models apart is told by a share and drowned in noise."""
    level = rng.normal(0.5, apart, size=models)
    hard = rng.normal(size=(rows, 1))
    own = rng.normal(0, apart, size=(rows, models))
    odds = level - hard + own
    scores = level + rng.normal(0, noise, size=models) - hard + told * own
    scores = scores + rng.normal(0, noise, size=(rows, models))
    labels = (rng.random(odds.shape) < expit(odds)).astype(np.float32)
    return scores.astype(np.float32), labels, expit(odds)


def calibrated(scores: np.ndarray, labels: np.ndarray) -> Calibration:
    given = Scores(scores, np.full_like(scores, 4.0), np.ones_like(scores))
    lengths = np.full_like(labels, 4.0)
    sources = Sources(given, given, np.full(len(scores), 0.8, np.float32))
    return fit_calibration(sources, Labels(labels, lengths), "retrieval")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("models", "rows", "most"), [(52, 200, 0.025), (52, 800, 0.02), (20, 150, 0.07)])
def test_the_best_looking_pair_is_not_too_optimistic(models: int, rows: int, most: float, seed: int) -> None:
    """Each model fitted by itself is too optimistic by 11, 5 and 10 points here."""
    rng = np.random.default_rng(seed)
    scores, labels, odds = world(rng, models, rows=rows + FRESH, apart=0.15, noise=0.35, told=0.3)
    made = calibrated(scores[:rows], labels[:rows])
    forecast = expit(made.calibrated_logit(scores[rows:]))
    best, every = forecast.argmax(axis=1), np.arange(FRESH)
    assert forecast[every, best].mean() - odds[rows:][every, best].mean() < most
    # What is left of the differences is worth taking: it beats a model at random.
    assert odds[rows:][every, best].mean() > odds[rows:].mean()


def test_models_that_do_differ_keep_their_differences() -> None:
    rng = np.random.default_rng(4)
    scores, labels, odds = world(rng, 6, rows=3000 + FRESH, apart=0.8, noise=0.1, told=1.0)
    made = calibrated(scores[:3000], labels[:3000])
    forecast = expit(made.calibrated_logit(scores[3000:]))
    assert np.mean((forecast - odds[3000:]) ** 2) < 0.002
    best = forecast.argmax(axis=1)
    assert odds[3000:][np.arange(FRESH), best].mean() > odds[3000:].max(axis=1).mean() - 0.01


def test_one_and_two_models_are_fitted_by_themselves() -> None:
    rng = np.random.default_rng(5)
    for models in (1, 2):
        scores, labels, odds = world(rng, models, rows=900, apart=0.5, noise=0.2, told=1.0)
        made = calibrated(scores[:400], labels[:400])
        forecast = expit(made.calibrated_logit(scores[400:]))
        assert np.mean((forecast - odds[400:]) ** 2) < 0.01


def test_a_model_that_was_hardly_asked_follows_the_others() -> None:
    rng = np.random.default_rng(6)
    scores, labels, _ = world(rng, 12, rows=400, apart=0.1, noise=0.1, told=0.5)
    labels[10:, 3] = np.nan
    labels[:10, 3] = 1.0
    made = calibrated(scores, labels)
    others = np.delete(made.intercept, 3)
    assert np.isfinite(made.intercept).all()
    assert made.intercept[3] - others.mean() < 0.5
