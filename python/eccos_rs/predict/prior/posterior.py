"""From prior to data: what labels and feedback change in the forecasts of models, with normal priors.

The log odds of model m on a query are z + X beta_m, where z is what was forecast before and X holds a one, z
less its mean, the query's categories less their mean, and how unlike known ground the query is. Labels are
honest; what comes through a channel of feedback (thumbs, retries) may report successes and failures unevenly,
which one coefficient a channel takes up for all models: what a channel says of the level goes there, what it
says of differences between models stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eccos_rs.predict.logistic import fit_logistic
from eccos_rs.predict.onboarding import kernel_ridge, kernel_rows
from eccos_rs.predict.prior.lexical import lexical_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["Observations", "Posterior", "PriorWidths", "Residual", "fit_posterior", "token_factor"]

SLOPE_SD = 0.15
CHANNEL_SD = 1.0
FOREIGN_SD, COMMON_FOREIGN_SD = 0.45, 0.9
"""Unlike known ground a model's own level, and one that all models share, are open by so much more."""
RESIDUAL_LABELS, MOST_RESIDUAL_LABELS, RESIDUAL_WORTH = 100, 800, 0.02
"""Fewest labels of a model, the most (the newest; the time grows with their cube), and the share of the error
on left-out ones that it must save, for the kernel regression on what the prior leaves."""
WORDS_WORTH = 0.005
"""Share of the error on left-out labels that a text's words must save beside its embedding."""
TOLD_COUNTS, FILLED_COUNTS = 30.0, 2.0
"""Answers that a mean of tokens weighs: one that was told for the model, and one filled in from others."""


@dataclass(frozen=True, eq=False)
class PriorWidths:
    """How far each model's coefficients may move.

    Attributes
    ----------
    level : ndarray, shape (M,)
        Standard deviation of the level, log odds.
    category : ndarray, shape (M,)
        Of a category's level: 0.1 where category scores are published, else 0.25.
    """

    level: Array
    category: Array


@dataclass(frozen=True, eq=False)
class Observations:
    """n outcomes, each of one model on one query.

    Attributes
    ----------
    model : ndarray of int, shape (n,)
        Column.
    channel : ndarray of int, shape (n,)
        Number of the channel of feedback; -1 for an honest label.
    good : ndarray, shape (n,)
        In [0, 1].
    log_odds : ndarray, shape (n,)
        What was forecast of that model before.
    membership : ndarray, shape (n, K)
        Categories of the query; K may be 0.
    foreign : ndarray, shape (n,)
        0 for a query like known ground to 1 for one unlike it.
    embedding : ndarray of float32, shape (n, D)
    words : ndarray of float32, shape (n, W), or None
        By `sketch_words`.
    """

    model: NDArray[np.int64]
    channel: NDArray[np.int64]
    good: Array
    log_odds: Array
    membership: Array
    foreign: Array
    embedding: NDArray[np.float32]
    words: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.good)


@dataclass(frozen=True, eq=False)
class Residual:
    """Kernel regression on what labels of one model leave after everything else.

    Attributes
    ----------
    vectors : ndarray of float32, shape (n, D)
        Embeddings of the labelled queries.
    dual : ndarray, shape (n,)
    words : ndarray of float32, shape (n, W), or None
        Their words, where labels that were left out show that those help.
    """

    vectors: NDArray[np.float32]
    dual: Array
    words: NDArray[np.float32] | None = None

    def __call__(self, embedding: NDArray[np.float32], words: NDArray[np.float32] | None) -> Array:
        """Return what to add to the success of queries, (N,)."""
        rows = kernel_rows(embedding, self.vectors)
        if self.words is not None and words is not None:
            rows = 0.5 * (rows + lexical_rows(words, self.words))
        return np.asarray(rows @ self.dual)


@dataclass(frozen=True, eq=False)
class Posterior:
    """What was learned of M models.

    Attributes
    ----------
    coefficients : ndarray, shape (M, 3 + K)
        Level, slope, foreign level, categories.
    common_foreign : float
        What all models share on foreign queries.
    channels : ndarray, shape (H,)
        By which each channel shifts reported log odds.
    centre : ndarray, shape (M,)
        The z at which the slope does nothing.
    usual : ndarray, shape (K,)
        The membership at which categories do nothing.
    level_std : ndarray, shape (M,)
        Standard deviation of each level, log odds, after the evidence.
    spread : ndarray, shape (2 M + 1, 2 M + 1)
        Covariance of the levels, the foreign levels, and what all models share on foreign queries.
    labels : ndarray of int, shape (M,)
        Honest labels behind each model.
    residual : tuple of (Residual or None), length M
    """

    coefficients: Array
    common_foreign: float
    channels: Array
    centre: Array
    usual: Array
    level_std: Array
    spread: Array
    labels: NDArray[np.int64]
    residual: tuple[Residual | None, ...]

    @property
    def reads_words(self) -> bool:
        """Whether `log_odds` makes use of words."""
        return any(each is not None and each.words is not None for each in self.residual)

    def log_odds(
        self,
        before: Array,
        membership: Array,
        foreign: Array,
        embedding: NDArray[np.float32] | None,
        words: NDArray[np.float32] | None = None,
    ) -> Array:
        """Return log odds after the evidence, (N, M), given those before it.

        Parameters
        ----------
        before : ndarray, shape (N, M)
        membership : ndarray, shape (N, K)
        foreign : ndarray, shape (N,)
        embedding : ndarray of float32, shape (N, D), optional
            Without it nothing is taken from the residuals.
        words : ndarray of float32, shape (N, W), optional
            By `sketch_words`; wanted where `reads_words`.
        """
        level, slope, own, *_ = self.coefficients.T
        after = before + level + slope * (before - self.centre)
        after = after + foreign[:, None] * (own + self.common_foreign)
        after = after + (membership - self.usual) @ self.coefficients[:, 3:].T
        for column, residual in enumerate(self.residual):
            if residual is not None and embedding is not None:
                p = np.clip(0.5 * (1.0 + np.tanh(0.5 * after[:, column])), 0.02, 0.98)
                p = np.clip(p + residual(embedding, words), 0.02, 0.98)
                after[:, column] = np.log(p / (1.0 - p))
        return np.asarray(after)

    def level_covariance(self, foreign: float) -> Array:
        """Return the covariance of the errors of the levels, (M, M), on queries of this mean foreignness."""
        one = np.eye(len(self.level_std))
        x = np.column_stack([one, foreign * one, np.full(len(one), foreign)])
        return np.asarray(x @ self.spread @ x.T)


def fit_posterior(evidence: Observations, widths: PriorWidths, channels: int) -> Posterior:
    """Fit all models and channels at once: the coefficients of greatest posterior density.

    Parameters
    ----------
    evidence : Observations
    widths : PriorWidths
        Of M models.
    channels : int
        H, the number of channels.
    """
    models, kinds = len(widths.level), evidence.membership.shape[1]
    centre = np.array([_mean(evidence.log_odds[evidence.model == at]) for at in range(models)])
    usual = evidence.membership.mean(axis=0) if len(evidence) else np.zeros(kinds)
    x = _design(evidence, centre, usual, models, channels)
    width = np.concatenate([
        *(_widths_of_model(widths, at, kinds) for at in range(models)),
        [COMMON_FOREIGN_SD], np.full(channels, CHANNEL_SD),
    ])  # fmt: skip
    beta = fit_logistic(x, evidence.good, ridge=width**-2.0, centre=0.0, offset=evidence.log_odds)
    split = models * (3 + kinds)
    coefficients = beta[:split].reshape(models, 3 + kinds)
    after = evidence.log_odds + x @ beta
    honest = evidence.channel < 0
    spread = _spread(x, after, width, models, kinds)
    labels = np.array([int((honest & (evidence.model == at)).sum()) for at in range(models)])
    return Posterior(
        coefficients,
        float(beta[split]),
        beta[split + 1 :],
        centre,
        usual,
        np.sqrt(np.diag(spread)[:models]),
        spread,
        labels,
        tuple(_residual(evidence, after, honest & (evidence.model == at)) for at in range(models)),
    )


def token_factor(seen: Array, expected: Array, counts: float, factor: float = 1.0) -> float:
    """Return what to multiply expected tokens by.

    Parameters
    ----------
    seen, expected : ndarray, shape (n,)
        Output tokens of answers, and what was expected of them.
    counts : float
        Answers that the prior weighs: `TOLD_COUNTS` or `FILLED_COUNTS`.
    factor : float
        What the prior multiplies by.

    Notes
    -----
    A ratio of sums, not the mean of a log-normal: lengths are skewed to the left in the log, and from a few
    counts that mean errs by 100 %.
    """
    if not len(seen):
        return factor
    usual = float(np.mean(expected))
    return float((np.sum(seen) + counts * factor * usual) / max(np.sum(expected) + counts * usual, 1e-9))


def _widths_of_model(widths: PriorWidths, at: int, kinds: int) -> Array:
    return np.concatenate([[widths.level[at], SLOPE_SD, FOREIGN_SD], np.full(kinds, widths.category[at])])


def _design(evidence: Observations, centre: Array, usual: Array, models: int, channels: int) -> Array:
    """Return the coefficients' inputs: a block a model, what all share, a column a channel."""
    size = 3 + evidence.membership.shape[1]
    x = np.zeros((len(evidence), models * size + 1 + channels))
    own = np.column_stack([
        np.ones(len(evidence)), evidence.log_odds - centre[evidence.model], evidence.foreign,
        evidence.membership - usual,
    ])  # fmt: skip
    for at in range(models):
        rows = evidence.model == at
        x[rows, at * size : (at + 1) * size] = own[rows]
    x[:, models * size] = evidence.foreign
    for number in range(channels):
        x[:, models * size + 1 + number] = evidence.channel == number
    return x


def _spread(x: Array, after: Array, width: Array, models: int, kinds: int) -> Array:
    """Return the posterior covariance of `Posterior.spread`, by the curvature at the optimum."""
    p = 0.5 * (1.0 + np.tanh(0.5 * after))
    curvature = (x * (p * (1.0 - p))[:, None]).T @ x + np.diag(width**-2.0)
    size = 3 + kinds
    levels = np.arange(models) * size
    kept = np.concatenate([levels, levels + 2, [models * size]])
    return np.asarray(np.linalg.inv(curvature)[np.ix_(kept, kept)])


def _residual(evidence: Observations, after: Array, rows: NDArray[np.bool_]) -> Residual | None:
    """Fit what honest labels leave, if leaving labels out shows that it helps."""
    newest = np.flatnonzero(rows)[-MOST_RESIDUAL_LABELS:]
    if len(newest) < RESIDUAL_LABELS or not evidence.embedding.shape[1]:
        return None
    vectors = evidence.embedding[newest]
    left = evidence.good[newest] - 0.5 * (1.0 + np.tanh(0.5 * after[newest]))
    kernel = kernel_rows(vectors, vectors)
    dual, out = kernel_ridge(kernel, left)
    kept = None
    if evidence.words is not None:
        words = evidence.words[newest]
        also, out_also = kernel_ridge(0.5 * (kernel + lexical_rows(words, words)), left)
        if np.mean(out_also**2) < (1.0 - WORDS_WORTH) * np.mean(out**2):
            dual, out, kept = also, out_also, words
    if np.mean(out**2) > (1.0 - RESIDUAL_WORTH) * np.mean(left**2):
        return None
    return Residual(vectors, dual, kept)


def _mean(values: Sequence[float] | Array) -> float:
    return float(np.mean(values)) if len(values) else 0.0
