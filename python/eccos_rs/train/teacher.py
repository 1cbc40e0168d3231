"""Better labels out of the same data: what the other models' answers to a query say of a model's odds.

A label is one toss of a coin whose bias is wanted. How the other models fared on the same query tells much of
that bias, though a router never sees it: in training it is privileged information. The expectation of a label
given query and other outcomes has the same expectation given the query, and less noise, so learning it needs
fewer rows.

The text takes no part. A forecast from the text of one query is made of the labels of its neighbours, and
labels that were moved by it would bring a little of each query's own label back to it by way of them: enough
to make forecasts "of what was not learned" look better than they are, and promises half a point too high.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eccos_rs.predict.calibration import expit
from eccos_rs.predict.logistic import fit_logistic

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eccos_rs.train.data import TrainingData

    Floats = NDArray[np.float32]

__all__ = ["teach"]

FOLDS = 7
#: Rows with one pattern of observed models are taught together; fewer than this keep their labels.
LEAST_ROWS = 150
#: Two columns that agree this often are one model measured twice, and would only copy the label.
SAME_MODEL = 0.985
RIDGE = 10.0
MOST_DATASETS = 50


def teach(data: TrainingData, share: float) -> Floats:
    """Move each label towards its expectation given how other models answered the same query.

    Parameters
    ----------
    data : TrainingData
        N queries; its auxiliary models inform, its M models are taught.
    share : float
        How far to move, from 0 (the labels) to 1.

    Returns
    -------
    ndarray of float32, shape (N, M)
        In [0, 1]; NaN where the label is.
    """
    taught = data.quality.copy()
    if share == 0.0:
        return taught
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
            expected = _expectation(known[rows][:, columns], context[rows], known[rows, model], folds)
            taught[rows, model] += share * (expected - taught[rows, model])
    return taught


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
    """One column a dataset; none where there are so many that a dataset is hardly a kind of question."""
    kinds, member = np.unique(np.array(names, dtype=object).astype(str), return_inverse=True)
    if not 1 < len(kinds) <= MOST_DATASETS:
        return np.zeros((len(names), 0), dtype=np.float32)
    return np.eye(len(kinds), dtype=np.float32)[member]
