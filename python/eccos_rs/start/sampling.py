"""Which requests to ask: those that tell most for their money, spread over all kinds."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["Design", "asking_order", "importance", "sample_weights"]


@dataclass(frozen=True, eq=False)
class Design:
    """How N requests are sampled.

    Attributes
    ----------
    order : ndarray of int, shape (N,)
        In which they are asked; see `asking_order`.
    tells : ndarray, shape (N,)
        See `importance`.
    label : ndarray of int, shape (N,)
        The cluster of each.
    """

    order: NDArray[np.intp]
    tells: Floats
    label: NDArray[np.intp]


def importance(mass: Floats, quality: NDArray[np.floating], cost: Floats) -> Floats:
    """Return how much asking a request tells for its money, (N,), in no unit.

    The allocation that makes a mean's variance least for a sum of money (Neyman): in proportion to what a
    request stands for times the standard deviation of its outcomes, by the square root of its cost.

    Parameters
    ----------
    mass : ndarray, shape (N,)
        Rows of the log that each request stands for.
    quality : ndarray, shape (N, M)
        Predicted success.
    cost : ndarray, shape (N,)
        US dollars for asking it of all models and grading the answers.
    """
    p = quality.astype(np.float64)
    spread = np.sqrt(np.mean(p * (1.0 - p), axis=1) + np.var(p, axis=1)) + 0.05
    usual = max(float(cost.mean()), 1e-12)
    return np.asarray(mass * spread / np.sqrt(np.maximum(cost, 0.05 * usual)))


def asking_order(keys: Sequence[str], tells: Floats, label: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the order in which requests are asked, (N,): its beginning is a sample, however long it is.

    Within a cluster it is order sampling (Rosén): a request's lot, a number that its text alone sets, by what
    it tells. Clusters take turns in proportion to what they tell. More money asks the same requests and more.

    Parameters
    ----------
    keys : sequence of str, length N
        What tells requests apart.
    tells : ndarray, shape (N,)
        See `importance`.
    label : ndarray of int, shape (N,)
        The cluster of each.
    """
    lots = np.array([_lot(key) for key in keys])
    turn = np.empty(len(keys))
    for number in np.unique(label):
        rows = np.flatnonzero(label == number)
        ranked = rows[np.argsort(lots[rows] / tells[rows], kind="stable")]
        # The r-th of a cluster comes when the whole has been asked in proportion.
        turn[ranked] = (np.arange(len(rows)) + lots[ranked[0]]) / tells[rows].sum()
    return np.asarray(np.argsort(turn, kind="stable"))


def sample_weights(rows: NDArray[np.intp], mass: Floats, design: Design) -> Floats:
    """Return the rows of the log that each sampled request stands for, (n,), summing to the log's.

    Parameters
    ----------
    rows : ndarray of int, shape (n,)
        The requests that were asked, among N.
    mass : ndarray, shape (N,)
        Rows of the log that each request stands for.
    design : Design
    """
    tells, label = design.tells, design.label
    weight = np.zeros(len(rows))
    for number in np.unique(label[rows]):
        here, whole = np.flatnonzero(label[rows] == number), np.flatnonzero(label == number)
        chance = _inclusion(tells[whole], len(here))[np.searchsorted(whole, rows[here])]
        weight[here] = mass[rows[here]] / chance
        weight[here] *= mass[whole].sum() / weight[here].sum()
    return np.asarray(weight * mass.sum() / weight.sum())


def _inclusion(tells: Floats, count: int) -> Floats:
    """Return the chance of each request to be among `count` drawn in proportion to `tells`, at most 1."""
    sure = np.zeros(len(tells), dtype=bool)
    while True:
        left = count - int(sure.sum())
        if left <= 0 or sure.all():
            return np.where(sure, 1.0, 1e-9)
        chance = np.where(sure, 1.0, left * tells / tells[~sure].sum())
        beyond = (chance >= 1.0) & ~sure
        if not beyond.any():
            return np.asarray(chance)
        sure |= beyond


def _lot(key: str) -> float:
    """Return a number in (0, 1] that a text alone sets."""
    digest = hashlib.blake2b(key.encode("utf-8", "replace"), digest_size=8).digest()
    return (int.from_bytes(digest, "big") + 1) / 2**64
