"""What a joint assignment claims, in a form that can be checked again one shard at a time."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.bulk.passes import (
    DecisionPrices,
    Goal,
    Rows,
    limits_value,
    objective,
    reduced_cost,
    relative_gap,
)
from eccos_rs.bulk.room import Room
from eccos_rs.errors import InputError
from eccos_rs.solver.certificate import CheckedClaim

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["JointCertificate", "ShardFigures", "shard_figures"]

ROUNDING = 1e-9
"""Relative difference that sums in another order may have."""


@dataclass(frozen=True, slots=True)
class ShardFigures:
    """What one shard adds to the whole.

    Attributes
    ----------
    rows, deferred : int
        With a model, and those that no model may take.
    cost, quality : float
        US dollars; expected good answers.
    counts : list of int
        Rows at each model.
    dual : float
        Sum of the least reduced costs at the certificate's prices.
    predictions_sha256 : str
        Of the file of predictions that all of this was computed from.
    """

    rows: int
    deferred: int
    cost: float
    quality: float
    counts: list[int]
    dual: float
    predictions_sha256: str = ""


def shard_figures(
    rows: Rows, model: NDArray[np.int64], goal: Goal, prices: DecisionPrices, sha256: str = ""
) -> ShardFigures:
    """Add up a shard under its choices.

    Parameters
    ----------
    rows : Rows
    model : ndarray of int64, shape (n,)
        -1 where a row has none.
    goal : Goal
    prices : DecisionPrices
        At which the dual value is computed.
    sha256 : str
        Of the predictions' file.

    Raises
    ------
    InputError
        A choice is not allowed, or is no model.
    """
    n, models = rows.cost.shape
    if model.shape != (n,) or (model < -1).any() or (model >= models).any():
        raise InputError(f"model: got {model.shape} choices, wanted {n} of -1..{models - 1}")
    at = np.flatnonzero(model >= 0)
    chosen = model[at]
    wrong = at[~rows.allowed[at, chosen]]
    if len(wrong):
        raise InputError(f"row {wrong[0]} has a model that it may not take")
    value = reduced_cost(rows, goal, prices)[rows.allowed.any(axis=1)]
    return ShardFigures(
        rows=len(at),
        deferred=n - len(at),
        cost=float(rows.cost[at, chosen].sum()),
        quality=float(rows.quality[at, chosen].astype(np.float64).sum()),
        counts=np.bincount(chosen, minlength=models).tolist(),
        dual=float(value.min(axis=1).sum()) if len(value) else 0.0,
        predictions_sha256=sha256,
    )


@dataclass(frozen=True, slots=True)
class JointCertificate:
    """Prices, and what each shard adds up to: enough to check the promise, the limits and the bound.

    Attributes
    ----------
    goal : Goal
        As it was applied.
    prices : DecisionPrices
        Whatever found them: any prices of at least 0 prove a bound.
    capacity : ndarray of float64, shape (M,), or Room, or None
        Rows that each model may take, and several together.
    shards : sequence of ShardFigures

    Examples
    --------
    >>> goal, prices = Goal("min_quality", 0.5), DecisionPrices(2.0, np.zeros(2))
    >>> rows = Rows(np.array([[1.0, 2.0]]), np.array([[0.5, 0.9]]), np.ones((1, 2), bool))
    >>> found = JointCertificate(goal, prices, None, [shard_figures(rows, np.array([0]), goal, prices)])
    >>> all(found.claims()), bool(found.check(0, rows, np.array([1])))
    (True, False)
    """

    goal: Goal
    prices: DecisionPrices
    capacity: NDArray[np.float64] | Room | None
    shards: Sequence[ShardFigures]

    @property
    def room(self) -> Room | None:
        """The same as `capacity`, in one form."""
        return Room.of(self.capacity)

    @property
    def rows(self) -> int:
        """Rows with a model."""
        return sum(each.rows for each in self.shards)

    @property
    def deferred(self) -> int:
        """Rows that no model may take."""
        return sum(each.deferred for each in self.shards)

    @property
    def counts(self) -> NDArray[np.int64]:
        """Rows at each model, (M,)."""
        return sum((np.array(each.counts) for each in self.shards), np.zeros(len(self.prices.places), int))

    @property
    def cost(self) -> float:
        """US dollars of all rows."""
        return sum(each.cost for each in self.shards)

    @property
    def quality(self) -> float:
        """Mean predicted success of the rows with a model."""
        return sum(each.quality for each in self.shards) / max(self.rows, 1)

    @property
    def objective(self) -> float:
        """What is minimised: cost, minus expected good answers, or cost minus what they are worth."""
        return objective(self.goal, self.cost, self.quality * self.rows)

    @property
    def bound(self) -> float:
        """What no assignment can go below, in the unit of `objective`."""
        dual = sum(each.dual for each in self.shards)
        return dual - limits_value(self.goal, self.prices, self.room, self.rows)

    @property
    def gap(self) -> float:
        """Relative distance of `objective` to `bound`."""
        return relative_gap(self.objective, self.bound)

    def claims(self, tolerance: float = 1e-4) -> tuple[CheckedClaim, ...]:
        """Check the sums: the promise, the capacities, the signs of the prices, and the gap.

        Parameters
        ----------
        tolerance : float
            The gap up to which the assignment counts as optimal.
        """
        found = [CheckedClaim("prices prove a bound", self._priced(), "all are at least 0")]
        if self.goal.kind == "min_quality":
            kept = self.quality >= self.goal.value - ROUNDING
            found.append(CheckedClaim("quality", kept, f"{self.quality:.6f}, promised {self.goal.value:.6f}"))
        elif self.goal.kind == "budget":
            kept = self.cost <= self.goal.value * (1 + ROUNDING)
            found.append(CheckedClaim("budget", kept, f"US$ {self.cost:.6f} of {self.goal.value:.6f}"))
        if (room := self.room) is not None:
            told = [f"{self.counts.tolist()} of {room.own.tolist()}"]
            for name, mask, limit in zip(room.names, room.masks, room.shared.tolist(), strict=True):
                told.append(f"{name}: {int(self.counts[mask].sum())} of {limit:g}")
            found.append(CheckedClaim("capacity", room.holds(self.counts), "; ".join(told)))
        found.append(CheckedClaim("gap", self.gap <= tolerance, f"{self.gap:.1e}, wanted {tolerance:.0e}"))
        return tuple(found)

    def check(self, number: int, rows: Rows, model: NDArray[np.int64]) -> CheckedClaim:
        """Compute one shard again from its predictions and choices, and compare.

        Parameters
        ----------
        number : int
        rows : Rows
        model : ndarray of int64, shape (n,)
            -1 where a row has none.
        """
        said = self.shards[number]
        name = f"shard {number}"
        try:
            found = shard_figures(rows, model, self.goal, self.prices)
        except InputError as error:
            return CheckedClaim(name, False, str(error))
        for key in ("rows", "deferred", "counts"):
            if getattr(found, key) != getattr(said, key):
                return CheckedClaim(name, False, f"{key}: {getattr(found, key)}, said {getattr(said, key)}")
        for key in ("cost", "quality", "dual"):
            ours, theirs = getattr(found, key), getattr(said, key)
            if abs(ours - theirs) > ROUNDING * max(abs(ours), abs(theirs), 1e-12):
                return CheckedClaim(name, False, f"{key}: {ours!r}, said {theirs!r}")
        return CheckedClaim(name, True, f"{said.rows:,} rows add up")

    def _priced(self) -> bool:
        prices = self.prices
        pools = prices.pools
        plain = prices.goal >= 0 and (prices.places >= 0).all() and (pools >= 0).all()
        # Of a place's price only what its own limit costs may be left beside the shared ones.
        own = prices.places if self.room is None else prices.places - self.room.spread(pools)
        most = ROUNDING * float(prices.places.max(initial=0.0))
        limited = np.zeros(len(own), bool) if self.room is None else np.isfinite(self.room.own)
        return bool(plain and (own >= -most).all() and (own[~limited] <= most).all())

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, ready for JSON."""
        limits = {"capacity": None} if self.room is None else self.room.to_dict()
        return {
            "goal": [self.goal.kind, self.goal.value],
            "goal_price": self.prices.goal,
            "place_prices": self.prices.places.tolist(),
            "pool_prices": self.prices.pools.tolist(),
            **limits,
            "shards": [asdict(each) for each in self.shards],
        }

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> JointCertificate:
        """Read what `to_dict` returned.

        Raises
        ------
        InputError
            Something is missing.
        """
        try:
            capacity = told["capacity"]
            if capacity is not None:
                capacity = Room.from_dict(capacity, told.get("shared", ()))
            pools = np.array(told.get("pool_prices", ()), dtype=np.float64)
            return cls(
                Goal(*told["goal"]),
                DecisionPrices(
                    float(told["goal_price"]), np.array(told["place_prices"], dtype=np.float64), pools
                ),
                capacity,
                [ShardFigures(**each) for each in told["shards"]],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"this is no certificate of a joint assignment: {error!r}") from error
