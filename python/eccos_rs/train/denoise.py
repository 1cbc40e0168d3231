"""Less noisy labels from the same data: what the other models' answers to a query say of a model's odds.

A label is one outcome of a coin whose bias is wanted. How the other models fared on the same query says much
about that bias. A router never sees those outcomes; in training they are privileged information. The
expectation of a label given the query and the other outcomes has the same expectation given the query alone,
and less noise, so that it can be learned from fewer rows.

That holds as far as the expectation is right. It is a linear model: where labels follow from the query
without a coin (a parser succeeds on a format or it does not), the linear model blurs them, and moving labels
towards it destroys signal. So how far labels are moved is chosen for each dataset, by how well the observed
labels are then forecast; see `choose_shares`.

The text takes no part in the expectation. A forecast from the text of one query is made of the labels of its
neighbours; labels moved by it would carry a little of each query's own label back to it through them, and
forecasts that are called out-of-fold would look better than they are, by half a point of a promise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eccos_rs.predict.calibration import expit
from eccos_rs.predict.logistic import fit_logistic

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from eccos_rs.train.data import TrainingData

    Floats = NDArray[np.float32]

__all__ = ["SHARES", "choose_shares", "denoise_labels", "expected_labels"]

#: Shares that `choose_shares` tries.
SHARES = (0.0, 0.4, 0.8)
#: A dataset with a share of its own has at least so many rows, and that share is better than the common one
#: by so many standard errors.
LEAST_CHOSEN, SURE = 100, 1.0
FOLDS = 7
#: Rows with one pattern of observed models are denoised together; fewer than this keep their labels.
LEAST_ROWS = 150
#: Two columns that agree this often are one model measured twice, and would only copy the label.
SAME_MODEL = 0.985
RIDGE = 10.0
MOST_DATASETS = 50


def denoise_labels(
    data: TrainingData, share: float | NDArray[np.floating], expected: Floats | None = None
) -> Floats:
    """Move each label towards its expectation given how other models answered the same query.

    Parameters
    ----------
    data : TrainingData
        N queries; the outcomes of its auxiliary models inform, the labels of its M models are moved.
    share : float, or ndarray of shape (N,)
        How far to move, from 0 (the labels as observed) to 1; one number, or one per query.
    expected : ndarray of float32, shape (N, M), optional
        From `expected_labels`, where the caller has it already.

    Returns
    -------
    ndarray of float32, shape (N, M)
        In [0, 1]; NaN where the label is.
    """
    shares = np.broadcast_to(np.asarray(share, dtype=np.float32), (len(data),))
    if not shares.any():
        return data.quality.copy()
    expected = expected_labels(data) if expected is None else expected
    return _moved(data.quality, expected, shares[:, None])


def _moved(labels: Floats, expected: Floats, share: float | Floats) -> Floats:
    return np.asarray(labels + share * (expected - labels), dtype=np.float32)


def expected_labels(data: TrainingData) -> Floats:
    """Return the cross-fitted expectation of each label given the other models' outcomes, (N, M).

    A label that too few rows share the pattern of is its own expectation.
    """
    expected = data.quality.copy()
    known = np.concatenate([data.quality, data.aux_quality], axis=1)
    context = _datasets(data.table.dataset)
    patterns, member = np.unique(np.isfinite(known), axis=0, return_inverse=True)
    for number, observed in enumerate(patterns):
        rows = np.flatnonzero(member.reshape(-1) == number)
        columns = np.flatnonzero(observed)
        if len(rows) < LEAST_ROWS or len(columns) < 3:
            continue
        folds = data.groups[rows] % FOLDS
        for model in columns[columns < len(data.models)]:
            expected[rows, model] = _expectation(
                known[rows][:, columns], context[rows], known[rows, model], folds
            )
    return expected


def choose_shares(
    data: TrainingData, expected: Floats, forecast: Callable[[Sequence[Floats]], Sequence[Floats]]
) -> dict[str, float]:
    """Choose how far the labels of each dataset are moved, by cross-fitted loss on the labels as observed.

    Parameters
    ----------
    data : TrainingData
        N queries.
    expected : ndarray of float32, shape (N, M)
        From `expected_labels`.
    forecast : callable
        Given one label matrix (N, M) per share, returns for each the log odds (N, M) that a predictor which
        learned those labels gives to every row, without that row's text group. See `eccos_rs.train.context`.

    Returns
    -------
    dict of str to float
        One of `SHARES` per dataset. All have the share of the least loss over all rows, but a dataset of at
        least `LEAST_CHOSEN` rows on which another one is better by more than `SURE` standard errors has that
        one.
    """
    datasets = np.array(data.table.dataset, dtype=object).astype(str)
    names = list(dict.fromkeys(datasets.tolist()))
    if np.array_equal(expected, data.quality, equal_nan=True):
        return dict.fromkeys(names, 0.0)
    labels = [_moved(data.quality, expected, share) for share in SHARES]
    losses = np.stack([_row_losses(logits, data.quality) for logits in forecast(labels)])
    common = int(np.nanmean(losses, axis=1).argmin())
    chosen = dict.fromkeys(names, SHARES[common])
    for name in names:
        mine = losses[:, datasets == name]
        mine = mine[:, np.isfinite(mine).all(axis=0)]
        if mine.shape[1] < LEAST_CHOSEN:
            continue
        best = int(mine.mean(axis=1).argmin())
        saved = mine[common] - mine[best]
        if saved.mean() > SURE * saved.std() / np.sqrt(len(saved)):
            chosen[name] = SHARES[best]
    return chosen


def _row_losses(log_odds: Floats, labels: Floats) -> NDArray[np.float64]:
    """Mean cross-entropy of each row over its observed models, (N,); NaN for a row without any."""
    z = np.asarray(log_odds, dtype=np.float64)
    loss = np.logaddexp(0.0, z) - labels * z
    seen = np.isfinite(loss)
    total = np.where(seen, loss, 0.0).sum(axis=1)
    return np.where(seen.any(axis=1), total / np.maximum(seen.sum(axis=1), 1), np.nan)


def _expectation(known: Floats, context: Floats, label: Floats, folds: NDArray[np.int64]) -> Floats:
    """Cross-fit the label on what is known of the others."""
    others = known[:, np.abs(known - label[:, None]).mean(axis=0) > 1.0 - SAME_MODEL]
    x = np.concatenate([np.ones((len(known), 1)), others - others.mean(axis=0), context], axis=1)
    ridge = np.full(x.shape[1], RIDGE)
    ridge[0] = 1e-3
    out = np.empty(len(x), dtype=np.float32)
    for fold in range(FOLDS):
        left_out = folds == fold
        if left_out.any():
            beta = fit_logistic(x[~left_out], label[~left_out], ridge=ridge)
            out[left_out] = expit(x[left_out] @ beta)
    return out


def _datasets(names: list[str]) -> Floats:
    """One column per dataset; none where there are so many that a dataset is hardly a kind of question."""
    kinds, member = np.unique(np.array(names, dtype=object).astype(str), return_inverse=True)
    if not 1 < len(kinds) <= MOST_DATASETS:
        return np.zeros((len(names), 0), dtype=np.float32)
    return np.eye(len(kinds), dtype=np.float32)[member]
