"""The joint assignment as a method, in each of its three modes, and the oracle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from eccos_rs.errors import InputError
from eccos_rs.evaluate.methods.baselines import price_at

if TYPE_CHECKING:
    from eccos_rs.evaluate.methods.base import Batch, Predictions
    from eccos_rs.records import RecordTable
    from eccos_rs.solver.assignment import Assignment

__all__ = ["MODES", "Joint"]

MODES = ("price", "promise", "budget")


class Joint:
    """All queries of a batch assigned at once by `eccos_rs.assign`.

    Parameters
    ----------
    predictions : Predictions
        Predicted quality and cost. With the outcomes themselves as predictions it is the instance oracle.
    mode : {"price", "promise", "budget"}
        What the operating point sets, the same for every batch: what one more good answer may cost; the
        mean predicted quality that each batch must keep; the mean predicted cost that each batch may
        spend. With one price the money goes where it does most good over all batches, a promise or a budget
        holds for each alone.
    name : str, optional
        Its label.
    """

    def __init__(self, predictions: Predictions, mode: str = "price", name: str | None = None) -> None:
        if mode not in MODES:
            raise InputError(f"mode: got {mode!r}, wanted one of {', '.join(MODES)}")
        self.predictions = predictions
        self.mode = mode
        self.name = name or f"joint{'' if mode == 'price' else f' ({mode} per batch)'}, {predictions.name}"
        quality = predictions.quality.astype(np.float64)
        cheapest = np.lexsort((-quality, predictions.cost), axis=1)[:, 0]
        rows = np.arange(len(quality))
        self.range = {
            "promise": (float(quality[rows, cheapest].mean()), float(quality.max(axis=1).mean())),
            "budget": (
                float(predictions.cost.min(axis=1).mean()),
                float(predictions.cost[rows, quality.argmax(axis=1)].mean()),
            ),
        }

    def fit(self, table: RecordTable) -> None:
        """Learn nothing: the predictor is trained already."""

    def solve(self, batch: Batch, operating_point: float) -> Assignment:
        """Solve one batch at one position of the operating point."""
        from eccos_rs.solver.assignment import assign

        cost, quality = self.predictions.cost[batch.rows], self.predictions.quality[batch.rows]
        limits = np.isfinite(batch.capacity).any()
        capacity = batch.capacity if limits else None
        if self.mode == "price":
            return assign(
                cost, quality, quality_value=price_at(operating_point, self.predictions), capacity=capacity
            )
        low, high = self.range[self.mode]
        if self.mode == "promise":
            return assign(cost, quality, min_quality=low + (high - low) * operating_point, capacity=capacity)
        # Costs span decades, so a budget moves in even steps of its logarithm; free pools have nothing to
        # spend.
        budget = low * (high / low) ** operating_point if low > 0 else high * operating_point
        return assign(cost, quality, budget=budget * len(batch), capacity=capacity)

    def choose(self, batch: Batch, operating_point: float) -> npt.NDArray[np.int32]:
        """Assign the batch."""
        return self.solve(batch, operating_point).model
