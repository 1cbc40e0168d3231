"""The multipliers that prove a bound."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from eccos_rs.solver._frozen import Frozen

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["Duals"]


@dataclass(frozen=True, eq=False)
class Duals(Frozen):
    """Multipliers of the rows, all >= 0, in units of the objective for one more unit of the row.

    They prove the dual bound (see `docs/solver.md`) and start a later solve of a similar problem.

    Attributes
    ----------
    requirement : float
        For `min_quality`: US dollars for one more well answered query (the *sum* of quality). For `budget`:
        well answered queries for one more dollar. For `quality_value`: that value.
    capacity : (M,) or (R, M) float64
        For one more unit of each capacity.
    group_quality, group_budget : (G,) float64
        For one more well answered query of the group, and for one more dollar of its budget.
    pool : (P,) float64
        For one more unit of each pooled capacity.
    row : (K,) float64
        For one more unit of the sum of each side row.
    priced : (T,) float64
        For one more unit of load at each tier of the overages, then of each commitment; at most its price.
    """

    requirement: float
    capacity: Floats
    group_quality: Floats
    group_budget: Floats
    pool: Floats = field(default_factory=lambda: np.zeros(0))
    row: Floats = field(default_factory=lambda: np.zeros(0))
    priced: Floats = field(default_factory=lambda: np.zeros(0))
