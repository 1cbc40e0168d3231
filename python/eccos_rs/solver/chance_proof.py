"""What an answer under uncertainty says of itself: how far its limits spread, and what proves its bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from eccos_rs.solver._frozen import Frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from eccos_rs.solver._duals import Duals

__all__ = ["Chance", "Piece", "covers"]


@dataclass(frozen=True, eq=False)
class Piece(Frozen):
    """A linear program whose bound holds for every assignment whose spreads lie in a box.

    Attributes
    ----------
    low, high : (K,) float64
        The box: least and largest spread of each uncertain limit.
    criterion : str
        What was optimised: the criterion of the answer; another one shows that the box holds no assignment.
    duals : Duals
        Multipliers of the program of the box, in the units of the problem.
    bound : float
        What nothing in the box can beat, in the unit of the criterion.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    criterion: str
    duals: Duals
    bound: float


@dataclass(frozen=True, eq=False)
class Chance(Frozen):
    """An assignment's standing under uncertainty.

    Attributes
    ----------
    confidence : float
        Probability with which each uncertain limit holds, were the sums normal.
    quality : float
        The mean quality that is exceeded with this confidence; the mean itself without `quality_std`.
    limits : tuple of str
        The uncertain limits: "min_quality", "capacity[j]" or "capacity[r, j]", names of pools.
    spread : (K,) float64
        Standard deviation of each one's sum.
    pieces : tuple of Piece
        Boxes of spreads that together hold every assignment, each with its bound.
    """

    confidence: float
    quality: float
    limits: tuple[str, ...]
    spread: NDArray[np.float64]
    pieces: tuple[Piece, ...]


def covers(low: NDArray[np.float64], high: NDArray[np.float64], pieces: Sequence[Piece]) -> bool:
    """Say whether boxes cover a box, splitting it along their sides."""
    if any((piece.low <= low).all() and (piece.high >= high).all() for piece in pieces):
        return True
    inside = [piece for piece in pieces if (piece.low < high).all() and (piece.high > low).all()]
    for piece in inside:
        for at in range(len(low)):
            for side in (piece.low[at], piece.high[at]):
                if low[at] < side < high[at]:
                    below, above = high.copy(), low.copy()
                    below[at] = above[at] = side
                    return covers(low, below, inside) and covers(above, high, inside)
    return False
