"""Fit the calibration from forecasts of queries that their own labels did not make."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.predict.calibration import BackOff, Calibration, Scores, blend, logit
from eccos_rs.predict.logistic import fit_logistic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

__all__ = ["Labels", "Sources", "fit_back_off", "fit_calibration", "log_loss", "two_part_logits"]

# Pulls the two slopes to 1 with the force of some tens of queries: small data keep near what was forecast.
SLOPE_RIDGE = 5.0
WEIGHTS = np.linspace(0.0, 1.0, 11)
#: From so many models on it is asked how much of what sets them apart is more than noise: how much fewer vary
#: cannot be told, and a model that is always right would be pulled to the rest.
LEAST_MODELS = 8
#: No coefficient is pulled harder than this: the inverse of the least variance between models.
MOST_PULL = 1e4


@dataclass(frozen=True, eq=False)
class Labels:
    """What happened: success (N, M) in [0, 1] and ln(1 + output tokens) (N, M); NaN where unobserved."""

    success: Floats
    log_tokens: Floats


@dataclass(frozen=True, eq=False)
class Sources:
    """Forecasts of N queries by the heads and by the neighbours, with the nearest neighbour's similarity."""

    heads: Scores
    neighbours: Scores
    similarity: Floats

    def blended(self, success_weight: float, length_weight: float) -> Scores:
        """Mix the two; see `eccos_rs.predict.calibration.blend`."""
        return blend(self.heads, self.neighbours, success_weight=success_weight, length_weight=length_weight)


def log_loss(log_odds: Floats, success: Floats) -> float:
    """Mean cross-entropy over the observed pairs."""
    z = np.asarray(log_odds, dtype=np.float64)
    return float(np.nanmean(np.logaddexp(0.0, z) - success * z))


def fit_calibration(
    sources: Sources, labels: Labels, kind: str, back_off: BackOff | None = None
) -> Calibration:
    """Fit everything but the back-off, which is given.

    Parameters
    ----------
    sources : Sources
        Out-of-fold forecasts: no row's own label took part in its forecast.
    labels : Labels
        Of the same rows.
    kind : {"trained", "retrieval", "hybrid"}
        The heads alone, the neighbours alone, or their best blend.
    back_off : BackOff, optional
        How forecasts back off; the slopes then make up at home for what it takes there. The default keeps
        all.

    Returns
    -------
    Calibration
    """
    back_off = back_off or BackOff()
    near = None if kind == "trained" else sources.similarity
    kept = back_off.shares(near, len(sources.similarity))[0][:, 0]
    prior = logit(_shrunk_mean(labels.success))
    fixed = {"trained": (1.0, 1.0), "retrieval": (0.0, 0.0)}
    success_weight, length_weight = fixed.get(kind) or _best_weights(sources, labels)
    scores = sources.blended(success_weight, length_weight)
    slopes = _two_part(scores.success_logit, labels.success, kept, prior)
    models = labels.success.shape[1]
    calibration = Calibration(
        success_weight=success_weight,
        length_weight=length_weight,
        intercept=slopes[:, 0],
        common_slope=slopes[:, 1],
        deviation_slope=slopes[:, 2],
        prior_logit=prior,
        prior_length=np.nanmean(labels.log_tokens, axis=0),
        back_off=back_off,
        length_factor=np.ones(models, dtype=np.float32),
        length_std_scale=_spread_scale(scores, labels.log_tokens),
        residual_share=np.zeros(models, dtype=np.float32),
    )
    return _with_lengths_and_residuals(calibration, scores, near, labels)


def _with_lengths_and_residuals(
    calibration: Calibration, scores: Scores, similarity: Floats | None, labels: Labels
) -> Calibration:
    """Fit what stands on top: the length factors and the share of variance that is no coin flip."""
    ones = np.ones(labels.success.shape[1], dtype=np.float32)
    made = replace(calibration, length_factor=ones).apply(scores, similarity)
    tokens = np.expm1(labels.log_tokens)
    expected = np.where(np.isfinite(tokens), made.output_tokens, np.nan)
    factor = np.nansum(tokens, axis=0) / np.maximum(np.nansum(expected, axis=0), 1.0)
    share = _residual_share(made.quality, labels.success)
    return replace(
        calibration, length_factor=factor.astype(np.float32), residual_share=share.astype(np.float32)
    )


def _best_weights(sources: Sources, labels: Labels) -> tuple[float, float]:
    """Choose the blend by cross-entropy after calibration (success) and mean absolute error (length)."""
    losses = []
    for weight in WEIGHTS:
        z = sources.blended(weight, 0.5).success_logit
        losses.append(log_loss(_calibrated(z, _two_part(z, labels.success)), labels.success))
    errors = [
        float(np.nanmean(np.abs(sources.blended(0.5, weight).length_mean - labels.log_tokens)))
        for weight in WEIGHTS
    ]
    return float(WEIGHTS[int(np.argmin(losses))]), float(WEIGHTS[int(np.argmin(errors))])


def _two_part(z: Floats, success: Floats, kept: Floats | None = None, prior: Floats | None = None) -> Floats:
    """Return intercept, slope of the common part and slope of the deviation, shape (M, 3).

    With a share `kept` (N,) the log odds are prior + kept (intercept + slopes - prior), as after backing off.

    What sets a model apart is believed as far as the models' own fits agree that it is more than noise: each
    coefficient is pulled to the one that all models share, by a normal prior whose variance is what their
    fits vary beyond their standard errors. With many models and few labels that is much: the best-looking of
    52 models is best-looking in part by chance.
    """
    common = z.mean(axis=1, keepdims=True)
    share = np.ones(len(z), dtype=np.float32) if kept is None else kept
    middle = np.zeros(z.shape[1], dtype=np.float32) if prior is None else prior
    parts: list[tuple[NDArray[np.floating[Any]], Floats, Floats]] = []
    for model in range(z.shape[1]):
        seen = np.isfinite(success[:, model])
        x = np.column_stack([np.ones(len(z)), common[:, 0], z[:, model] - common[:, 0]]) * share[:, None]
        parts.append((x[seen], success[seen, model], (middle[model] * (1.0 - share))[seen]))
    pull = np.array([1e-2, SLOPE_RIDGE, SLOPE_RIDGE])
    centre = np.array([0.0, 1.0, 1.0])
    if len(parts) >= LEAST_MODELS:
        centre, pull = _shared(parts, centre, pull)
    slopes = [fit_logistic(x, y, ridge=pull, centre=centre, offset=offset) for x, y, offset in parts]
    return np.asarray(slopes, dtype=np.float32)


def _shared(
    parts: Sequence[tuple[NDArray[np.floating[Any]], Floats, Floats]],
    centre: NDArray[np.float64],
    pull: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the coefficients that all models share and how strongly each is pulled there, (3,) each."""
    x, y, offset = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    pooled = fit_logistic(x, y, ridge=pull, centre=centre, offset=offset)
    free = np.array([fit_logistic(*each[:2], ridge=1e-2, centre=pooled, offset=each[2]) for each in parts])
    noise = np.array([_variances(*each, beta) for each, beta in zip(parts, free, strict=True)])
    # DerSimonian and Laird: what the fits vary beyond their standard errors, weighted by precision.
    weight = 1.0 / np.maximum(noise, 1e-12)
    total = weight.sum(axis=0)
    mean = (weight * free).sum(axis=0) / total
    excess = (weight * np.square(free - mean)).sum(axis=0) - (len(parts) - 1)
    between = np.maximum(excess / (total - np.square(weight).sum(axis=0) / total), 0.0)
    return mean, np.maximum(1.0 / np.maximum(between, 1.0 / MOST_PULL), 1e-2)


def _variances(
    x: NDArray[np.floating[Any]], y: Floats, offset: Floats, beta: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the squared standard errors of a logistic fit, (3,)."""
    p = 0.5 * (1.0 + np.tanh(0.5 * (offset + x @ beta)))
    curvature = (x * (p * (1.0 - p))[:, None]).T @ x + 1e-2 * np.eye(x.shape[1])
    return np.asarray(np.diag(np.linalg.inv(curvature)), dtype=np.float64)


def two_part_logits(z: Floats, success: Floats) -> Floats:
    """Calibrate log odds (N, M) in two parts on what happened; see `Calibration`."""
    return _calibrated(z, _two_part(z, success))


def _calibrated(z: Floats, slopes: Floats) -> Floats:
    common = z.mean(axis=1, keepdims=True)
    made = slopes[:, 0] + slopes[:, 1] * common + slopes[:, 2] * (z - common)
    return np.asarray(made, dtype=np.float32)


def _shrunk_mean(success: Floats) -> Floats:
    """Mean success with half a success and half a failure added: a model that never failed may yet."""
    seen = np.isfinite(success).sum(axis=0)
    return np.asarray((np.nansum(success, axis=0) + 0.5) / (seen + 1.0), dtype=np.float32)


def _spread_scale(scores: Scores, log_tokens: Floats) -> Floats:
    """Return the factor that brings the standardised errors of the log length to a spread of 1."""
    off = np.square((log_tokens - scores.length_mean) / np.maximum(scores.length_std, 1e-3))
    return np.asarray(np.clip(np.sqrt(np.nanmean(off, axis=0)), 0.2, 5.0), dtype=np.float32)


def _residual_share(quality: Floats, success: Floats) -> Floats:
    """Covariance of a model's error with the other models' errors on one query, in units of p (1 - p).

    Given a query's own success rates the tosses of two models are independent, so what their errors have in
    common is the error of the forecast. With one model there is nothing to compare and the share is 0.05.
    """
    models = quality.shape[1]
    if models < 2:
        return np.full(models, 0.05, dtype=np.float32)
    scale = np.sqrt(np.maximum(quality * (1.0 - quality), 1e-4))
    off = (success - quality) / scale
    seen = np.isfinite(off)
    off = np.where(seen, off, 0.0)
    pairs = seen.T.astype(np.float64) @ seen
    together = (off.T @ off) / np.maximum(pairs, 1.0)
    np.fill_diagonal(together, 0.0)
    np.fill_diagonal(pairs, 0.0)
    share = (together * pairs).sum(axis=1) / np.maximum(pairs.sum(axis=1), 1.0)
    return np.asarray(np.clip(share, 0.01, 0.9), dtype=np.float32)


def fit_back_off(
    calibration: Calibration,
    home: tuple[Scores, Floats, Labels],
    away: tuple[Scores, Floats, Labels],
) -> BackOff:
    """Choose how forecasts back off on unknown ground.

    Parameters
    ----------
    calibration : Calibration
        Fitted at home.
    home : tuple of Scores, similarities and Labels
        Queries whose kind was seen in training.
    away : tuple of Scores, similarities and Labels
        The same, each forecast without any query of its own dataset; scores, priors and all.

    Returns
    -------
    BackOff
        The one with the least sum of mean squared errors of success at home and away; both parts of the
        calibration back off alike.
    """
    best, best_loss = BackOff(), np.inf
    lows = np.concatenate([[0.0], np.quantile(away[1], [0.1, 0.3, 0.5, 0.7])])
    highs = np.quantile(np.concatenate([home[1], away[1]]), [0.3, 0.5, 0.7, 0.85, 1.0])
    for low, high, floor in itertools.product(lows.tolist(), highs.tolist(), (0.0, 0.25, 0.5, 0.75, 1.0)):
        if high <= low + 0.02:
            continue
        back_off = BackOff(low, high, floor, floor, 1.0)
        loss = sum(_brier(replace(calibration, back_off=back_off), *part) for part in (home, away))
        if loss < best_loss - 1e-6:
            best, best_loss = back_off, loss
    errors = {
        floor: sum(
            _length_error(replace(calibration, back_off=replace(best, length_floor=floor)), *part)
            for part in (home, away)
        )
        for floor in (1.0, 0.75, 0.5, 0.25, 0.0)
    }
    return replace(best, length_floor=min(errors, key=lambda floor: errors[floor]))


def _brier(calibration: Calibration, scores: Scores, similarity: Floats, labels: Labels) -> float:
    quality = calibration.apply(scores, similarity).quality
    return float(np.nanmean(np.square(quality - labels.success)))


def _length_error(calibration: Calibration, scores: Scores, similarity: Floats, labels: Labels) -> float:
    _, _, share = calibration.back_off.shares(similarity, len(similarity))
    mean = calibration.prior_length + share * (scores.length_mean - calibration.prior_length)
    return float(np.nanmean(np.abs(mean - labels.log_tokens)))
