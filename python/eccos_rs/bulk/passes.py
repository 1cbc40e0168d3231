"""Passes over the shards of a problem: at given prices decide what is far from a tie, list what is near."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from eccos_rs.bulk.room import Room

__all__ = [
    "DecisionPrices",
    "Goal",
    "LocalPasses",
    "Passes",
    "Rows",
    "Shard",
    "Sums",
    "choose",
    "limits_value",
    "objective",
    "reduced_cost",
    "relative_gap",
    "sample_shards",
    "strongest_quality",
    "sum_shard",
]

SAFE = 4.0
"""Standard deviations within which a price may still move."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows of the problem: cost (n, M) in US dollars, quality (n, M) in [0, 1], allowed pairs (n, M)."""

    cost: NDArray[np.float64]
    quality: NDArray[np.float32]
    allowed: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.cost)

    def take(self, index: NDArray[np.int64]) -> Rows:
        """Return these rows alone."""
        return Rows(self.cost[index], self.quality[index], self.allowed[index])

    @staticmethod
    def joined(parts: Sequence[Rows]) -> Rows:
        """Put rows below each other."""
        return Rows(
            np.concatenate([part.cost for part in parts]),
            np.concatenate([part.quality for part in parts]),
            np.concatenate([part.allowed for part in parts]),
        )


class Shard(Protocol):
    """A part of the problem that can be read again and again."""

    def load(self) -> Rows:
        """Return its rows, always the same ones in the same order."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What is wanted of all rows together.

    Attributes
    ----------
    kind : {"min_quality", "budget", "quality_value"}
    value : float
        A mean quality; US dollars for all; US dollars for one good answer.
    """

    kind: Literal["min_quality", "budget", "quality_value"]
    value: float

    def sides(self, rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return what is minimised, and what the one limit over all rows counts."""
        quality = rows.quality.astype(np.float64)
        if self.kind == "budget":
            return -quality, rows.cost
        return rows.cost, -quality


@dataclass(frozen=True, slots=True)
class DecisionPrices:
    """Prices at which rows are decided.

    Attributes
    ----------
    goal : float
        Of the goal's limit.
    places : ndarray, shape (M,)
        Of a place at each model, those of its shared capacities included.
    pools : ndarray, shape (P,)
        Of a place of each shared capacity.
    """

    goal: float
    places: NDArray[np.float64]
    pools: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True, slots=True)
class Sums:
    """What a pass finds in a shard, added up in float64.

    Attributes
    ----------
    rows : int
        Rows that some model may take.
    dual : float
        Sum of the least reduced costs.
    cost, quality, variance : float
        Over the decided rows: US dollars, expected good answers, sum of q (1 - q).
    counts : ndarray of float64, shape (M,)
        Decided rows at each model.
    near : int
        Rows near a tie.
    listed : ndarray of int64
        Those of them that are handed over.
    content : Rows or None
        The listed rows.
    """

    rows: int
    dual: float
    cost: float
    quality: float
    variance: float
    counts: NDArray[np.float64]
    near: int
    listed: NDArray[np.int64]
    content: Rows | None = None


def reduced_cost(rows: Rows, goal: Goal, prices: DecisionPrices) -> NDArray[np.float64]:
    """Return what each pair costs at these prices, (n, M); infinite where it is not allowed."""
    base, limited = goal.sides(rows)
    value = base + prices.goal * limited
    value += prices.places
    value[~rows.allowed] = np.inf
    return value


def limits_value(goal: Goal, prices: DecisionPrices, room: Room | None, rows: int) -> float:
    """Return what the limits over all rows are worth at these prices: what the dual value takes off."""
    limit = {"min_quality": -goal.value * rows, "budget": goal.value, "quality_value": 0.0}[goal.kind]
    return prices.goal * limit + (0.0 if room is None else room.value(prices.places, prices.pools))


def objective(goal: Goal, cost: float, good: float) -> float:
    """Return what is minimised, of US dollars and expected good answers: minus the latter with a budget."""
    if goal.kind == "budget":
        return -good
    return cost - (goal.value * good if goal.kind == "quality_value" else 0.0)


def relative_gap(reached: float, bound: float) -> float:
    """Return how far an objective is above a bound, as a share of the larger."""
    return max(reached - bound, 0.0) / max(abs(reached), abs(bound), 1e-12)


def choose(
    rows: Rows, goal: Goal, prices: DecisionPrices, settled: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> NDArray[np.int64]:
    """Return the model of each row of a shard under an answer, -1 where none may take it."""
    model: NDArray[np.int64] = reduced_cost(rows, goal, prices).argmin(axis=1).astype(np.int64)
    model[~rows.allowed.any(axis=1)] = -1
    model[settled[0]] = settled[1]
    return model


def sum_shard(
    rows: Rows,
    goal: Goal,
    prices: DecisionPrices,
    covariance: NDArray[np.float64],
    *,
    share: float = 1.0,
    seed: int = 0,
    list_rows: bool = True,
) -> Sums:
    """Make one pass over a shard: decide what is far from a tie, list what is near one.

    Parameters
    ----------
    rows : Rows
    goal : Goal
    prices : DecisionPrices
    covariance : ndarray, shape (1 + M, 1 + M)
        Of the goal's price and the places' prices.
    share : float
        Share of the rows near a tie to hand over, drawn at random.
    seed : int
        Of that draw.
    list_rows : bool
        False counts rows near a tie as decided.
    """
    index = np.flatnonzero(rows.allowed.any(axis=1))
    if len(index) < len(rows):
        rows = rows.take(index)
    value = reduced_cost(rows, goal, prices)
    at = np.arange(len(rows))
    best = value.argmin(axis=1)
    least = value[at, best]
    near = np.zeros(len(rows), dtype=np.bool_)
    if list_rows:
        near = _near_tie(value, least, best, goal.sides(rows)[1], covariance)
    decided = ~near
    chosen = best[decided]
    quality = rows.quality[at[decided], chosen].astype(np.float64)
    listed = np.flatnonzero(near)
    if share < 1.0:
        listed = listed[np.random.default_rng(seed).random(len(listed)) < share]
    return Sums(
        rows=len(rows),
        dual=float(least.sum()),
        cost=float(rows.cost[at[decided], chosen].sum()),
        quality=float(quality.sum()),
        variance=float((quality * (1.0 - quality)).sum()),
        counts=np.bincount(chosen, minlength=value.shape[1]).astype(np.float64),
        near=int(near.sum()),
        listed=index[listed],
        content=rows.take(listed),
    )


def _near_tie(
    value: NDArray[np.float64],
    least: NDArray[np.float64],
    best: NDArray[np.intp],
    limited: NDArray[np.float64],
    covariance: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Say which rows another model may win within `SAFE` standard deviations of the prices."""
    at = np.arange(len(value))
    ahead = value - least[:, None]
    step = limited - limited[at, best][:, None]
    variance = covariance[0, 0] * step**2
    places = covariance[1:, 1:]
    if places.any():
        cross = covariance[0, 1:]
        own = np.diag(places)
        variance += 2.0 * step * (cross[None, :] - cross[best][:, None])
        variance += own[None, :] + own[best][:, None] - 2.0 * places[best]
    reach = SAFE * np.sqrt(np.maximum(variance, 0.0))
    rival = ahead <= reach
    rival[at, best] = False
    return np.asarray(rival.any(axis=1), dtype=np.bool_)


class Passes(Protocol):
    """Makes passes over the shards, wherever they lie."""

    def size(self) -> tuple[int, int]:
        """Return the number of models, and of rows that some model may take."""

    def sample(self, share: float, seed: int) -> list[Rows]:
        """Return this share of the rows of every shard, drawn at random."""

    def sums(
        self,
        goal: Goal,
        prices: DecisionPrices,
        covariance: NDArray[np.float64],
        share: float,
        list_rows: bool,
    ) -> list[Sums]:
        """Make one pass, see `sum_shard`; in the order of the shards."""

    def quality_sums(self) -> list[NDArray[np.float64]]:
        """Return the sum of each model's predicted success over every shard, (M,) each."""

    def quality_at(self, score: NDArray[np.float64]) -> list[float]:
        """Return each shard's sum of success when every row goes to its allowed model of highest score."""


class LocalPasses:
    """Makes passes in this process, one shard in memory at a time.

    Parameters
    ----------
    shards : sequence of Shard
    """

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shards = shards
        self._size: tuple[int, int] | None = None

    def size(self) -> tuple[int, int]:
        """See `Passes`."""
        if self._size is None:
            models, total = 0, 0
            for shard in self._shards:
                allowed = shard.load().allowed
                models, total = allowed.shape[1], total + int(allowed.any(axis=1).sum())
            self._size = models, total
        return self._size

    def sample(self, share: float, seed: int) -> list[Rows]:
        """See `Passes`."""
        return sample_shards((shard.load() for shard in self._shards), share, seed)

    def sums(
        self,
        goal: Goal,
        prices: DecisionPrices,
        covariance: NDArray[np.float64],
        share: float,
        list_rows: bool,
    ) -> list[Sums]:
        """See `Passes`."""
        return [
            sum_shard(shard.load(), goal, prices, covariance, share=share, seed=number, list_rows=list_rows)
            for number, shard in enumerate(self._shards)
        ]

    def quality_sums(self) -> list[NDArray[np.float64]]:
        """See `Passes`."""
        return [quality_sum(shard.load()) for shard in self._shards]

    def quality_at(self, score: NDArray[np.float64]) -> list[float]:
        """See `Passes`."""
        return [quality_at(shard.load(), score) for shard in self._shards]


def quality_sum(rows: Rows) -> NDArray[np.float64]:
    """Return the sum of each model's predicted success, (M,)."""
    total: NDArray[np.float64] = rows.quality.sum(axis=0, dtype=np.float64)
    return total


def quality_at(rows: Rows, score: NDArray[np.float64]) -> float:
    """Return the sum of success when every row goes to its allowed model of highest score."""
    best = np.where(rows.allowed, score, -np.inf).argmax(axis=1)
    some = np.flatnonzero(rows.allowed.any(axis=1))
    return float(rows.quality[some, best[some]].astype(np.float64).sum())


def strongest_quality(passes: Passes) -> float:
    """Return the mean quality of sending every row to the strongest model that it may take."""
    score = sum(passes.quality_sums(), np.zeros(passes.size()[0]))
    return sum(passes.quality_at(score)) / max(passes.size()[1], 1)


def sample_shards(loaded: Iterable[Rows], share: float, seed: int) -> list[Rows]:
    """Return the same share of the rows of every shard, drawn at random; a share above 1 returns all."""
    return [sample_shard(rows, share, seed, number) for number, rows in enumerate(loaded)]


def sample_shard(rows: Rows, share: float, seed: int, number: int) -> Rows:
    """Return a share of the rows of the shard of this number; the same ones wherever it lies."""
    routable = rows.allowed.any(axis=1)
    drawn = np.random.default_rng((seed, number)).random(len(rows)) < share
    return rows.take(np.flatnonzero(routable & drawn))
