"""From answers and the encoder's states to curves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eccos_rs.predict.prior.curves import GRID, Curves, Reference, near, parse_reading, unit
from eccos_rs.train.metric import Metric
from eccos_rs.train.prior.answers import targets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from eccos_rs.train.prior.answers import Answers

    Floats = NDArray[np.float32]
    Array = NDArray[np.float64]

__all__ = ["Smoother", "TrainingSet", "fit_curves", "make_training_set"]

RIDGE = 2.0
REFERENCE_ROWS = 60
"""Known queries of each category that a model is laid over."""


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """What is learned: n texts with their labels; NaN where a text has no such label.

    Attributes
    ----------
    categories : tuple of str
    row : ndarray of int, shape (n,)
        Of each text in the states.
    category : ndarray of int, shape (n,)
    labels : ndarray, shape (n, G + K + 1)
        Success at each strength, the category one-hot, ln(1 + tokens).
    """

    categories: tuple[str, ...]
    row: NDArray[np.int64]
    category: NDArray[np.int64]
    labels: Array


def make_training_set(answers: Sequence[Answers], row_of: Mapping[str, int]) -> TrainingSet:
    """Make the labels of several benchmarks; `row_of` says where a text lies in the states."""
    names = [name for part in answers for name in dict.fromkeys(part.category.tolist())]
    categories = tuple(dict.fromkeys(sorted(names)))
    number = {name: at for at, name in enumerate(categories)}
    rows, kinds, parts = [], [], []
    for part in answers:
        success, length = targets(part)
        kind = np.array([number[name] for name in part.category])
        rows.append(np.array([row_of[text] for text in part.query]))
        kinds.append(kind)
        parts.append(np.column_stack([success, np.eye(len(categories))[kind], length]))
    return TrainingSet(categories, np.concatenate(rows), np.concatenate(kinds), np.concatenate(parts))


class Smoother:
    """Kernel regression on fixed queries: factorised once, solved for any labels.

    Parameters
    ----------
    states : ndarray of float32, shape (n, I)
        Standardised, of the known queries.
    metric : Metric
        Fitted to standardised states; gives the two views.
    """

    def __init__(self, states: Floats, metric: Metric) -> None:
        self.projections = (metric.projection, metric.kernel_projection)
        # What is kept on disk is what is fitted on: half precision of unit vectors.
        one, two = (_halved(unit(states @ each)) for each in self.projections)
        self.centres = one, two
        self._factors: dict[bytes, tuple[NDArray[np.intp], object]] = {}
        self._diagonals: dict[bytes, tuple[NDArray[np.intp], Floats]] = {}

    def kernel(self, states: Floats) -> Floats:
        """Return the kernel between texts and the known queries, (N, n)."""
        one, two = (unit(states @ p) @ c.T for p, c in zip(self.projections, self.centres, strict=True))
        return near(one + two)

    def solve(self, labels: Array) -> tuple[Floats, Floats]:
        """Return dual weights (n, outputs) and biases (outputs,); a NaN label takes no part."""
        from scipy.linalg import cho_solve

        dual = np.zeros(labels.shape, dtype=np.float32)
        bias = np.nanmean(labels, axis=0).astype(np.float32)
        patterns, member = np.unique(np.isfinite(labels), axis=1, return_inverse=True)
        for number, seen in enumerate(patterns.T):
            columns = np.flatnonzero(member.reshape(-1) == number)
            rows, factor = self._factor(seen)
            left = (labels[np.ix_(rows, columns)] - bias[columns]).astype(np.float32)
            dual[np.ix_(rows, columns)] = cho_solve(factor, left, check_finite=False)
        return dual, bias

    def left_out(self, labels: Array, dual: Floats, chosen: NDArray[np.intp]) -> Array:
        """Return what is said of some known queries by all others, (len(chosen), outputs)."""
        said = np.full((len(chosen), labels.shape[1]), np.nan)
        patterns, member = np.unique(np.isfinite(labels), axis=1, return_inverse=True)
        for number, seen in enumerate(patterns.T):
            columns = np.flatnonzero(member.reshape(-1) == number)
            known, diagonal = self._diagonal(seen, chosen)
            at = chosen[known]
            errors = dual[np.ix_(at, columns)] / diagonal[:, None]
            said[np.ix_(known, columns)] = labels[np.ix_(at, columns)] - errors
        return said

    def _diagonal(self, seen: NDArray[np.bool_], chosen: NDArray[np.intp]) -> tuple[NDArray[np.intp], Floats]:
        """Return which chosen rows are learned from, and their part of the inverse's diagonal."""
        from scipy.linalg import cho_solve

        key = seen.tobytes() + chosen.tobytes()
        if key not in self._diagonals:
            rows, factor = self._factor(seen)
            place = np.full(len(seen), -1)
            place[rows] = np.arange(len(rows))
            known = np.flatnonzero(place[chosen] >= 0)
            ones = np.zeros((len(rows), len(known)), dtype=np.float32)
            ones[place[chosen[known]], np.arange(len(known))] = 1.0
            solved = cho_solve(factor, ones, overwrite_b=True, check_finite=False)
            self._diagonals[key] = known, solved[place[chosen[known]], np.arange(len(known))]
        return self._diagonals[key]

    def _factor(self, seen: NDArray[np.bool_]) -> tuple[NDArray[np.intp], object]:
        from scipy.linalg import cho_factor

        key = seen.tobytes()
        if key not in self._factors:
            rows = np.flatnonzero(seen)
            one, two = (centre[rows] @ centre[rows].T for centre in self.centres)
            ridged = near(one + two)
            del one, two
            ridged[np.diag_indices_from(ridged)] += np.float32(RIDGE)
            self._factors[key] = rows, cho_factor(ridged, lower=True, overwrite_a=True, check_finite=False)
        return self._factors[key]


def fit_curves(data: TrainingSet, smoother: Smoother, states: Floats, seed: int = 0) -> Curves:
    """Fit the regression, with a reference that it has not learned from.

    Parameters
    ----------
    data : TrainingSet
    smoother : Smoother
        On the same n queries.
    states : ndarray of float32, shape (n, I)
    seed : int
        Of the choice of the reference.
    """
    dual, bias = smoother.solve(data.labels)
    chosen = reference_rows(data, seed)
    said = smoother.left_out(data.labels, dual, chosen)
    # A row without a length is told by the regression on those that have one.
    told = smoother.kernel(states[chosen]) @ dual + bias
    reading = parse_reading(np.where(np.isfinite(said), said, told), np.ones(len(chosen)))
    category = data.category[chosen]
    queries, kept = (np.bincount(each, minlength=len(data.categories)) for each in (data.category, category))
    reference = Reference(reading, category, queries[category] / kept[category])
    return Curves(data.categories, smoother.projections, smoother.centres, dual, bias, reference)


def reference_rows(data: TrainingSet, seed: int) -> NDArray[np.intp]:
    """Choose known queries of each category that have a success at every strength."""
    order = np.random.default_rng(seed).permutation(len(data.row))
    order = order[np.isfinite(data.labels[order, : len(GRID)]).all(axis=1)]
    parts = [order[data.category[order] == at][:REFERENCE_ROWS] for at in range(len(data.categories))]
    return np.sort(np.concatenate(parts))


def fit_metric(states: Floats) -> Metric:
    """Fit the two views to standardised states."""
    return Metric.of(states)


def _halved(vectors: Floats) -> Floats:
    return vectors.astype(np.float16).astype(np.float32)
