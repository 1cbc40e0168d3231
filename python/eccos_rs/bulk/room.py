"""The rows that models may take: each alone, and several together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.solver.limits import PooledCapacity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["Room"]


@dataclass(frozen=True, slots=True, eq=False)
class Room:
    """Capacities over all rows of a job.

    Attributes
    ----------
    own : ndarray of float64, shape (M,)
        Rows that each model may take; infinity for any number.
    masks : ndarray of bool, shape (P, M)
        The models of each shared capacity.
    shared : ndarray of float64, shape (P,)
        Rows that these may take together.
    names : tuple of P str

    Examples
    --------
    >>> room = Room(np.array([np.inf, 5.0]), np.array([[True, True]]), np.array([8.0]), ("gpu",))
    >>> room.holds(np.array([4, 5])), room.most
    (False, 8.0)
    """

    own: NDArray[np.float64]
    masks: NDArray[np.bool_] = field(default_factory=lambda: np.zeros((0, 0), dtype=np.bool_))
    shared: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, capacity: NDArray[np.float64] | Room | None) -> Room | None:
        """Return capacities of models alone as room; None stays None."""
        return capacity if capacity is None or isinstance(capacity, Room) else cls(capacity)

    @property
    def most(self) -> float:
        """Rows that all models may take at most; where shared capacities overlap it may be fewer."""
        own, total = self.own.copy(), 0.0
        for mask, limit in zip(self.masks, self.shared.tolist(), strict=True):
            total += min(limit, float(own[mask].sum()))
            own[mask] = 0.0
        return total + float(own.sum())

    def share(self, part: float) -> Room:
        """Return room for a part of the rows, rounded up."""
        return Room(np.ceil(self.own * part), self.masks, np.ceil(self.shared * part), self.names)

    def left(self, counts: NDArray[Any]) -> Room | None:
        """Return what rows that have a model leave; None where they take more than there is."""
        own, shared = self.own - counts, self.shared - self._together(counts)
        return None if (own < 0).any() or (shared < 0).any() else Room(own, self.masks, shared, self.names)

    def holds(self, counts: NDArray[Any]) -> bool:
        """Say whether so many rows at each model, (M,), fit."""
        return bool((counts <= self.own).all() and (self._together(counts) <= self.shared).all())

    def value(self, places: NDArray[np.float64], pools: NDArray[np.float64]) -> float:
        """Return what all capacities are worth.

        Parameters
        ----------
        places : ndarray, shape (M,)
            The price of a place at each model, those of its shared capacities included.
        pools : ndarray, shape (P,)
            The price of a place of each shared capacity.
        """
        limited = np.isfinite(self.own)
        alone = np.maximum(places - self.spread(pools), 0.0)[limited]
        priced = pools > 0
        return float((alone * self.own[limited]).sum() + (pools[priced] * self.shared[priced]).sum())

    def spread(self, pools: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what the prices of shared capacities add to a place at each model, (M,)."""
        return pools @ self.masks if len(pools) else np.zeros(len(self.own))

    def options(self) -> dict[str, Any]:
        """Return the keywords of `assign`."""
        pools = [
            PooledCapacity(np.flatnonzero(mask).tolist(), limit, name=name)
            for mask, limit, name in zip(self.masks, self.shared.tolist(), self.names, strict=True)
        ]
        return {"capacity": self.own, "pools": pools}

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, ready for JSON; null for no limit."""
        return {
            "capacity": [float(each) if np.isfinite(each) else None for each in self.own],
            "shared": [
                {"name": name, "models": np.flatnonzero(mask).tolist(), "capacity": limit}
                for name, mask, limit in zip(self.names, self.masks, self.shared.tolist(), strict=True)
            ],
        }

    @classmethod
    def from_dict(cls, capacity: Sequence[float | None], shared: Sequence[Mapping[str, Any]]) -> Room:
        """Read what `to_dict` returned."""
        own = np.array([np.inf if each is None else each for each in capacity], dtype=np.float64)
        masks = np.zeros((len(shared), len(own)), dtype=np.bool_)
        for mask, each in zip(masks, shared, strict=True):
            mask[list(each["models"])] = True
        limits = np.array([each["capacity"] for each in shared], dtype=np.float64)
        return cls(own, masks, limits, tuple(str(each["name"]) for each in shared))

    def _together(self, counts: NDArray[Any]) -> NDArray[Any]:
        return self.masks @ counts if len(self.shared) else np.zeros(0)
