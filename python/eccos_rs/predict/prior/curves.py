"""What a text says about any model: how hard it is, which category it is of, how long answers are.

No model is named here. A model is laid over these by `eccos_rs.predict.prior.ability`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

__all__ = [
    "GRID",
    "Curves",
    "Reading",
    "Reference",
    "benchmark_name",
    "log_odds",
    "memberships",
    "near",
    "open_curves",
    "parse_reading",
    "unit",
]

GRID = np.array([-1.2, 0.0, 1.2])
"""Strengths that curves are kept for: log odds of a model's mean on the query's own benchmark."""
REACH = 0.3
"""A known query counts exp((cosine - 1) / REACH); the cosine is the mean of those of two views."""
MARGIN = 0.02
"""A curve stays this far from 0 and 1."""
SUBJECTS = ("mmlu_pro",)
"""Benchmarks whose categories share a level: a model is as strong as its mean over all of them."""
_LEAST_MEMBERSHIP = 1e-3
_LEVELS, _FINE_BITS = 1023, 3
"""Steps of a centre's largest number in a file, and bits of each that stand in the plane of fine steps."""


@dataclass(frozen=True, eq=False)
class Reading:
    """What N texts say, float64.

    Attributes
    ----------
    curves : ndarray, shape (N, G)
        Log odds that a model of each strength of `GRID` answers well.
    membership : ndarray, shape (N, K)
        Shares of the categories; each row adds up to 1.
    length : ndarray, shape (N,)
        ln(1 + output tokens) of the usual model.
    similarity : ndarray, shape (N,)
        Cosine similarity of the nearest known query.
    """

    curves: NDArray[np.float64]
    membership: NDArray[np.float64]
    length: NDArray[np.float64]
    similarity: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.length)

    def rows(self, index: NDArray[np.intp] | NDArray[np.bool_] | slice) -> Reading:
        """Take some texts, in the given order."""
        return Reading(*(getattr(self, each.name)[index] for each in fields(self)))


@dataclass(frozen=True, eq=False)
class Reference:
    """Known queries as they read when they are left out, some dozens of each category.

    Attributes
    ----------
    reading : Reading
        Of R queries.
    category : ndarray of int, shape (R,)
        The one each is of.
    weight : ndarray, shape (R,)
        Queries of its category that each stands for: a published mean is one over all of them.
    """

    reading: Reading
    category: NDArray[np.int64]
    weight: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Curves:
    """Kernel regression on known queries, from the encoder's states.

    A small network beside it, as the trained bundles have one, was tried and gained nothing here
    (`benches/day_one.py`: AUC .700 with, .701 without): the labels are means over models, with little noise.

    Attributes
    ----------
    categories : tuple of str
        The K names, ``benchmark/category`` or ``benchmark``.
    projections : tuple of two ndarrays of float32, shape (I, E)
        From standardised states to two views: what a text is about, and how it is written.
    centres : tuple of two ndarrays of float32, shape (n, E)
        Unit vectors of the known queries in each view.
    dual : ndarray of float32, shape (n, G + K + 1)
        Weights for the success of each strength, the categories and ln(1 + tokens).
    bias : ndarray of float32, shape (G + K + 1,)
        What is said far from everything.
    reference : Reference
        Laying a model over the curves needs it.
    """

    categories: tuple[str, ...]
    projections: tuple[Floats, Floats]
    centres: tuple[Floats, Floats]
    dual: Floats
    bias: Floats
    reference: Reference

    def read(self, states: Floats) -> Reading:
        """Read texts off the encoder's standardised states, (N, I)."""
        first, second = (unit(states @ projection) for projection in self.projections)
        cosines = first @ self.centres[0].T
        similarity = cosines.max(axis=1)
        cosines += second @ self.centres[1].T
        kernel = near(cosines)
        return parse_reading(kernel @ self.dual + self.bias, similarity)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return what `open_curves` reads back, small: half precision, and centres in eleven bits.

        Eleven bits move forecasts by at most 0.001, by 0.0001 on average. The planes of coarse and fine steps
        are kept apart, which packs better.
        """
        views = {f"projections_{view}": each.astype(np.float16) for view, each in enumerate(self.projections)}
        for view, each in enumerate(self.centres):
            scale = np.abs(each).max(axis=1, keepdims=True) / np.float32(_LEVELS)
            steps = np.rint(each / np.maximum(scale, np.float32(1e-30))).astype(np.int16)
            views[f"coarse_{view}"] = (steps >> _FINE_BITS).astype(np.int8)
            views[f"fine_{view}"] = (steps & ((1 << _FINE_BITS) - 1)).astype(np.uint8)
        reading = self.reference.reading
        known = {f"reference_{each.name}": getattr(reading, each.name) for each in fields(reading)}
        known |= {"bias": self.bias, "reference_weight": self.reference.weight}
        return {
            **views,
            **{name: array.astype(np.float32) for name, array in known.items()},
            "dual": self.dual.astype(np.float16),
            "reference_category": self.reference.category.astype(np.int16),
        }


def open_curves(path: Path, categories: tuple[str, ...]) -> Curves:
    """Read curves from a file of `Curves.arrays`.

    Raises
    ------
    BundleError
        If it is not one, or not for these categories.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            kept = {name: file[name] for name in file.files}
        single = {name: np.ascontiguousarray(each, dtype=np.float32) for name, each in kept.items()}
        reading = Reading(*(kept[f"reference_{each.name}"].astype(np.float64) for each in fields(Reading)))
        made = Curves(
            categories,
            (single["projections_0"], single["projections_1"]),
            (_centres(kept, 0), _centres(kept, 1)),
            single["dual"],
            single["bias"],
            Reference(
                reading,
                kept["reference_category"].astype(np.int64),
                kept["reference_weight"].astype(np.float64),
            ),
        )
    except (KeyError, OSError, ValueError) as error:
        raise BundleError(f"{path}: the curves cannot be read: {error}") from None
    if made.dual.shape[1] != len(GRID) + len(categories) + 1:
        raise BundleError(
            f"{path}: got {made.dual.shape[1]} outputs, wanted {len(GRID) + len(categories) + 1} for "
            f"{len(categories)} categories"
        )
    return made


def _centres(kept: Mapping[str, NDArray[Any]], view: int) -> Floats:
    """Return the unit vectors of a view, which an older file holds in half precision."""
    if f"centres_{view}" in kept:
        return np.ascontiguousarray(kept[f"centres_{view}"], dtype=np.float32)
    # A row's scale is what brings it to unit norm.
    coarse, fine = kept[f"coarse_{view}"].astype(np.float32), kept[f"fine_{view}"]
    return unit(coarse * np.float32(1 << _FINE_BITS) + fine)


def benchmark_name(category: str) -> str:
    """Return the benchmark whose level a category goes by: often the category itself."""
    name = category.partition("/")[0]
    return name if name in SUBJECTS else category


def unit(vectors: Floats) -> Floats:
    """Bring rows to unit norm."""
    size = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return np.asarray(vectors / size, dtype=np.float32)


def parse_reading(said: NDArray[np.floating[Any]], similarity: NDArray[np.floating[Any]]) -> Reading:
    """Turn what the regression says, (N, G + K + 1), into a reading."""
    strengths, full = len(GRID), said.astype(np.float64)
    return Reading(
        log_odds(full[:, :strengths]),
        memberships(full[:, strengths:-1]),
        full[:, -1],
        similarity.astype(np.float64),
    )


def near(cosines: Floats) -> Floats:
    """Return how much known queries count, given the sums of the cosines of the two views."""
    return np.asarray(np.exp((cosines * np.float32(0.5) - np.float32(1.0)) / np.float32(REACH)))


def log_odds(success: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the log odds of what a regression says, kept within `MARGIN` of 0 and 1."""
    inside = np.clip(success, MARGIN, 1.0 - MARGIN)
    return np.asarray(np.log(inside / (1.0 - inside)))


def memberships(said: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn a regression of one-hot categories into shares: squared, so that the surest stands out."""
    square = np.square(np.maximum(said, _LEAST_MEMBERSHIP))
    return np.asarray(square / square.sum(axis=1, keepdims=True))
