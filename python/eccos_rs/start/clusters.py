"""Kinds of requests in a log: k-means on the encoder's embeddings, named by words that several share."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Cluster", "describe", "find_clusters"]

MOST = 24
_ROUNDS = 25
_WORDS, _SHARED_BY, _SHARE = 4, 3, 0.15
"""Words that name a cluster: at most so many, each in at least so many different requests and in so large a
share, so that nothing that one request alone says (a name, a key) stands in a report."""
_WORD = re.compile(r"(?<!\S)[(\"'¿¡«„“]*([^\W\d_]{3,20})[)\"'.,;:!?…»“”؟。？]*(?!\S)")
"""A word that stands by itself: pieces of keys, addresses and ``name=value`` are none."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """One kind of request.

    Attributes
    ----------
    number : int
    requests, distinct : int
        Rows of the log, and different ones among them.
    familiar : float or None
        Share that is like known ground.
    words : tuple of str
        What they share and others do not; empty where nothing is shared.
    """

    number: int
    requests: int
    distinct: int
    familiar: float | None
    words: tuple[str, ...]


def find_clusters(
    embedding: NDArray[np.float32], mass: NDArray[np.float64], seed: int = 0
) -> NDArray[np.intp]:
    """Return the cluster of each request, (N,): k-means on unit vectors, the square root of N / 2 clusters.

    Parameters
    ----------
    embedding : ndarray of float32, shape (N, D)
        Unit vectors.
    mass : ndarray, shape (N,)
        Requests that each stands for.
    seed : int
    """
    n = len(embedding)
    count = int(np.clip(round((n / 2) ** 0.5), 1, min(MOST, n)))
    rng = np.random.default_rng(seed)
    vectors = embedding.astype(np.float64)
    centres = _seeds(vectors, mass, count, rng)
    label = np.zeros(n, dtype=np.intp)
    for round_ in range(_ROUNDS):
        before, label = label, np.argmax(vectors @ centres.T, axis=1)
        if round_ and np.array_equal(before, label):
            break
        sums = np.zeros_like(centres)
        np.add.at(sums, label, vectors * mass[:, None])
        length = np.linalg.norm(sums, axis=1, keepdims=True)
        # A cluster that nobody chose keeps its centre.
        centres = np.where(length > 0.0, sums / np.maximum(length, 1e-12), centres)
    used = np.unique(label)
    return np.asarray(np.searchsorted(used, label), dtype=np.intp)


def _seeds(
    vectors: NDArray[np.float64], mass: NDArray[np.float64], count: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Choose centres far from each other (k-means++)."""
    chosen = [int(rng.choice(len(vectors), p=mass / mass.sum()))]
    away = 1.0 - vectors @ vectors[chosen[0]]
    while len(chosen) < count:
        odds = mass * np.maximum(away, 0.0)
        if odds.sum() <= 1e-12:
            break
        chosen.append(int(rng.choice(len(vectors), p=odds / odds.sum())))
        away = np.minimum(away, 1.0 - vectors @ vectors[chosen[-1]])
    return vectors[chosen].copy()


def describe(
    label: NDArray[np.intp],
    mass: NDArray[np.float64],
    texts: Sequence[str],
    familiar: NDArray[np.bool_] | None,
) -> list[Cluster]:
    """Say what each cluster holds; the largest first."""
    words = [set(map(str.lower, _WORD.findall(text[:2000]))) for text in texts]
    everywhere = Counter(word for some in words for word in some)
    found = []
    for number in range(int(label.max()) + 1):
        rows = np.flatnonzero(label == number)
        weight = mass[rows]
        known = None if familiar is None else float(np.average(familiar[rows], weights=weight))
        here = Counter(word for row in rows.tolist() for word in words[row])
        shared = [
            (seen / len(rows) - everywhere[word] / len(texts), word)
            for word, seen in here.items()
            if seen >= max(_SHARED_BY, _SHARE * len(rows))
        ]
        telling = tuple(word for gain, word in sorted(shared, reverse=True)[:_WORDS] if gain > 0.05)
        found.append(Cluster(number, round(float(weight.sum())), len(rows), known, telling))
    return sorted(found, key=lambda each: -each.requests)
