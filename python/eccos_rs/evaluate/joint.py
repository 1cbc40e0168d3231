"""The joint assignment as a contender, in each of its three modes, and the oracle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from eccos_rs.errors import InputError
from eccos_rs.evaluate.baselines import price_of

if TYPE_CHECKING:
    from eccos_rs.evaluate.contender import Batch, View
    from eccos_rs.records import RecordTable
    from eccos_rs.solver.assignment import Assignment

__all__ = ["MODES", "Joint"]

MODES = ("price", "promise", "budget")


class Joint:
    """All queries of a batch assigned at once by `eccos_rs.assign`.

    Parameters
    ----------
    view : View
        Predicted quality and cost. With the outcomes themselves for a view it is the instance oracle.
    mode : {"price", "promise", "budget"}
        What the dial sets, the same for every batch: what one more good answer may cost; the mean predicted
        quality that each batch must keep; the mean predicted cost that each batch may spend. With one price
        the money goes where it does most good over all batches, a promise or a budget holds for each alone.
    name : str, optional
        Its label.
    """

    def __init__(self, view: View, mode: str = "price", name: str | None = None) -> None:
        if mode not in MODES:
            raise InputError(f"mode: got {mode!r}, wanted one of {', '.join(MODES)}")
        self.view = view
        self.mode = mode
        self.name = name or f"joint{'' if mode == 'price' else f' ({mode} per batch)'}, {view.name}"
        quality = view.quality.astype(np.float64)
        cheapest = np.lexsort((-quality, view.cost), axis=1)[:, 0]
        rows = np.arange(len(quality))
        self.range = {
            "promise": (float(quality[rows, cheapest].mean()), float(quality.max(axis=1).mean())),
            "budget": (
                float(view.cost.min(axis=1).mean()),
                float(view.cost[rows, quality.argmax(axis=1)].mean()),
            ),
        }

    def fit(self, table: RecordTable) -> None:
        """Learn nothing: the view is trained already."""

    def solve(self, batch: Batch, dial: float) -> Assignment:
        """Solve one batch at one position of the dial."""
        from eccos_rs.solver.assignment import assign

        cost, quality = self.view.cost[batch.rows], self.view.quality[batch.rows]
        limits = np.isfinite(batch.capacity).any()
        capacity = batch.capacity if limits else None
        if self.mode == "price":
            return assign(cost, quality, quality_value=price_of(dial, self.view), capacity=capacity)
        low, high = self.range[self.mode]
        if self.mode == "promise":
            return assign(cost, quality, min_quality=low + (high - low) * dial, capacity=capacity)
        # Costs span decades, so a budget moves in even steps of its logarithm; free pools have nothing to
        # spend.
        budget = low * (high / low) ** dial if low > 0 else high * dial
        return assign(cost, quality, budget=budget * len(batch), capacity=capacity)

    def choose(self, batch: Batch, dial: float) -> npt.NDArray[np.int32]:
        """Assign the batch."""
        return self.solve(batch, dial).model
