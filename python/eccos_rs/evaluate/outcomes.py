"""What a router, a blind mix and today's models did on the same queries: what a verdict rests on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from eccos_rs.evaluate.curves import Estimate, Resamples, hull, summarise

__all__ = ["FEWEST", "Expected", "Figures", "Outcomes", "blind_mix", "route_like"]

Floats = npt.NDArray[np.float64]

FEWEST = 30
"""Queries below which nothing is decided."""
_CHANGED = 5
"""Queries with another outcome below which a bootstrap does not see what is rare."""
_STEPS = 60
_PARTS, _USUAL_SHORTFALL = 5, 0.02
"""Parts of the queries, and the standard deviation of success by which choices usually miss their level."""


@dataclass(frozen=True, eq=False)
class Expected:
    """What a router expects of N queries, and what is used today."""

    quality: Floats
    cost: Floats
    reference: npt.NDArray[np.intp]
    mass: Floats

    def price(self, criterion: str, surplus: float = 0.0) -> float:
        """Return the US dollars for one more good answer at which the reference is met; see `route_like`."""
        rows, mass = np.arange(len(self.quality)), self.mass
        goal = float(mass @ self.quality[rows, self.reference]) + surplus * float(mass.sum())
        budget = float(mass @ self.cost[rows, self.reference])
        usual = max(float(self.cost.mean()), 1e-12)
        low, high = usual * 1e-6, usual * 1e8
        for _ in range(_STEPS):
            middle = math.sqrt(low * high)
            pick = self.at(middle)
            if criterion == "quality":
                dearer = float(mass @ self.cost[rows, pick]) <= budget * (1 + 1e-9)
            else:
                dearer = float(mass @ self.quality[rows, pick]) < goal - 1e-9
            low, high = (middle, high) if dearer else (low, middle)
        return low if criterion == "quality" else high

    def at(self, price: float) -> npt.NDArray[np.intp]:
        """Choose at a price."""
        return np.asarray(np.argmin(self.cost - price * self.quality, axis=1), dtype=np.intp)

    def part(self, rows: npt.NDArray[np.intp]) -> Expected:
        """Return the same of some queries."""
        return Expected(self.quality[rows], self.cost[rows], self.reference[rows], self.mass[rows])


def route_like(
    predicted: tuple[npt.NDArray[np.floating], Floats], reference: npt.NDArray[np.intp], mass: Floats
) -> npt.NDArray[np.intp]:
    """Choose by one price of quality: the reference's predicted quality at least cost.

    Parameters
    ----------
    predicted : (quality, cost), each (N, M)
    reference : ndarray of int, shape (N,)
        Column of each query today.
    mass : ndarray, shape (N,)

    Returns
    -------
    ndarray of int, shape (N,)
    """
    quality, cost = (np.asarray(each, dtype=np.float64) for each in predicted)
    expected = Expected(quality, cost, reference, mass)
    return expected.at(expected.price("cost"))


class Figures(NamedTuple):
    """What a verdict rests on: quality over the reference, cost by it, quality over a blind mix of models."""

    quality: Estimate
    cost: Estimate
    over_mix: Estimate
    mix: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What every model did on N queries: success and US dollars, (N, M), and what each stands for, (N,)."""

    quality: Floats
    cost: Floats
    mass: Floats
    models: tuple[str, ...]

    def routed(
        self, expected: Expected, criterion: str, seed: int
    ) -> tuple[npt.NDArray[np.intp], Floats, float]:
        """Route each part of the queries, and mix blindly for the same money, by what the other parts tell.

        Chosen models are those that forecasts favour, so they fall short of them on average. By how much is
        read off the other parts, and that much more is asked for. The models of the mix are chosen there too:
        the best mix in hindsight is one that nobody could have taken.

        Returns
        -------
        pick : ndarray of int, shape (N,)
        mixed : ndarray, shape (N,)
            Success of the blind mix.
        price : float
            US dollars for one more good answer, by all queries.
        """
        n = len(self.quality)
        every = np.arange(n)
        apart = n >= _PARTS * FEWEST
        part = np.random.default_rng(seed).permutation(n) % _PARTS if apart else np.zeros(n, dtype=np.intp)
        pick, mixed = np.empty(n, dtype=np.intp), np.empty(n)
        for number in np.unique(part):
            held = np.flatnonzero(part == number)
            rest = np.flatnonzero(part != number) if apart else every
            some = expected.part(held)
            corrected = apart and criterion == "cost"
            surplus = self._shortfall(expected.part(rest), rest) if corrected else 0.0
            pick[held] = some.at(some.price(criterion, surplus))
            mixed[held] = self._mixed(held, pick[held], rest)
        surplus = self._shortfall(expected, every) if apart and criterion == "cost" else 0.0
        return pick, mixed, expected.price(criterion, surplus)

    def _mixed(
        self, rows: npt.NDArray[np.intp], pick: npt.NDArray[np.intp], rest: npt.NDArray[np.intp]
    ) -> Floats:
        """Return the success of a blind mix of two models, which `rest` chose, at the cost of `pick`."""
        share, mass = self.mass[rest] / self.mass[rest].sum(), self.mass[rows]
        spent = float(mass @ self.cost[rows, pick])
        _, used = blind_mix(share @ self.quality[rest], share @ self.cost[rest], spent / float(mass.sum()))
        low, high = (float(mass @ self.cost[rows, at]) for at in (used[0], used[-1]))
        part = float(np.clip((spent - low) / (high - low), 0.0, 1.0)) if high > low else 0.0
        return np.asarray((1.0 - part) * self.quality[rows, used[0]] + part * self.quality[rows, used[-1]])

    def _shortfall(self, expected: Expected, rows: npt.NDArray[np.intp]) -> float:
        """Return the success by which a choice at the reference's level falls short of it, drawn to 0."""
        pick = expected.at(expected.price("cost"))
        real = self.quality[rows, pick] - self.quality[rows, expected.reference]
        share = expected.mass / expected.mass.sum()
        short = -float(share @ real)
        variance = float(np.square(share) @ np.square(real + short))
        return short * _USUAL_SHORTFALL**2 / (_USUAL_SHORTFALL**2 + variance)

    def figures(
        self,
        pick: npt.NDArray[np.intp],
        mixed: Floats,
        reference: npt.NDArray[np.intp],
        draws: Resamples,
    ) -> Figures:
        """Compare what was picked with what is used today and with the blind mix, in every draw."""
        good, mass, rows = self.quality, self.mass, np.arange(len(pick))
        chosen, today = self._means(pick, draws), self._means(reference, draws)
        paid = today[:, 1] > 0.0
        share = np.divide(chosen[:, 1], today[:, 1], out=np.full(len(paid), np.nan), where=paid)
        over = draws.mean((mass * (good[rows, pick] - mixed))[None, :], mass)[:, 0]
        changed = int(np.count_nonzero(good[rows, pick] != good[rows, reference]))
        rare = 3.0 * float(np.square(mass).sum() / np.square(mass.sum())) if changed < _CHANGED else 0.0
        means = [mass @ each / mass.sum() for each in (good, self.cost)]
        _, used = blind_mix(means[0], means[1], float(chosen[0, 1]))
        return Figures(
            _at_least(summarise(chosen[:, 0] - today[:, 0]), rare),
            summarise(share),
            _at_least(summarise(over), rare),
            tuple(self.models[at] for at in used),
        )

    def _means(self, pick: npt.NDArray[np.intp], draws: Resamples) -> Floats:
        rows = np.arange(len(pick))
        both = np.stack([self.quality[rows, pick], self.cost[rows, pick]])
        return draws.mean(self.mass * both, self.mass)


def blind_mix(quality: Floats, cost: Floats, spent: float) -> tuple[float, tuple[int, ...]]:
    """Return what a random mix of single models reaches for a mean cost, and the models that it takes.

    Parameters
    ----------
    quality, cost : ndarray, shape (M,)
        Means of the single models.
    spent : float
        US dollars per query; below the cheapest model the cheapest is taken.

    Examples
    --------
    >>> blind_mix(np.array([0.5, 0.6, 0.9]), np.array([1.0, 2.0, 3.0]), 2.0)
    (0.7, (0, 2))
    """
    best, points = hull(quality, cost)
    at = [int(np.flatnonzero((quality == q) & (cost == c))[0]) for q, c in zip(best, points, strict=True)]
    value = float(np.interp(spent, points, best))
    right = int(np.searchsorted(points, spent))
    if right == 0 or right == len(points):
        return value, (at[min(right, len(points) - 1)],)
    return value, (at[right - 1], at[right])


def _at_least(estimate: Estimate, half: float) -> Estimate:
    """Widen an interval: what nobody saw in n queries may still happen in 3 of n (the rule of three)."""
    low, high = min(estimate.low, estimate.value - half), max(estimate.high, estimate.value + half)
    return Estimate(estimate.value, low, high)
