"""The exact cost-quality frontier: what each further point of quality costs at least."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs import _core
from eccos_rs.errors import ProblemError
from eccos_rs.solver import _arrays
from eccos_rs.solver._frozen import Frozen

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False, repr=False)
class Frontier(Frozen):
    """Breakpoints of the least cost as a function of the promised mean quality; straight lines between them.

    Attributes
    ----------
    quality : (K,) float64
        Mean quality at each breakpoint, increasing: from the cheapest assignment to the best attainable one.
    cost : (K,) float64
        Least total cost in US dollars there.
    price : (K,) float64
        US dollars for one more unit of mean quality on the piece that ends here; 0 for the first.
    complete : bool
        False when a limit ended the walk before the best attainable quality.
    """

    quality: NDArray[np.float64]
    cost: NDArray[np.float64]
    price: NDArray[np.float64]
    complete: bool

    def __len__(self) -> int:
        return len(self.quality)

    def __repr__(self) -> str:
        if not len(self):
            return "Frontier(no queries)"
        return (
            f"Frontier({len(self)} breakpoints, quality {self.quality[0]:.4f} to {self.quality[-1]:.4f}, "
            f"cost ${self.cost[0]:.6g} to ${self.cost[-1]:.6g}{'' if self.complete else ', cut short'})"
        )

    def cost_at(self, min_quality: ArrayLike) -> NDArray[np.float64]:
        """Return the least total cost at a promised mean quality; infinite above the best attainable.

        Parameters
        ----------
        min_quality : array_like
            Mean quality.

        Returns
        -------
        ndarray
            US dollars, of the shape of `min_quality`.
        """
        return np.asarray(np.interp(np.asarray(min_quality, float), self.quality, self.cost, right=np.inf))

    def quality_at(self, budget: ArrayLike) -> NDArray[np.float64]:
        """Return the highest mean quality that a budget buys; NaN below the cheapest assignment.

        Parameters
        ----------
        budget : array_like
            US dollars.

        Returns
        -------
        ndarray
            Mean quality, of the shape of `budget`.
        """
        return np.asarray(np.interp(np.asarray(budget, float), self.cost, self.quality, left=np.nan))


def frontier(
    cost: ArrayLike,
    quality: ArrayLike,
    *,
    max_points: int = 100_000,
    time_limit: float | None = None,
    threads: int | None = None,
    **limits: Any,
) -> Frontier:
    """Follow the least cost from the cheapest assignment to the best attainable quality.

    The walk follows the dual solution from breakpoint to breakpoint; it is not a sweep of separate solves.
    The curve is that of the linear relaxation: no assignment lies below it, and `assign` comes within its gap
    of it.

    Parameters
    ----------
    cost, quality : (N, M) array_like
        As for `assign`: US dollars, and probability of a good answer.
    max_points : int
        More breakpoints than this are thinned evenly.
    time_limit : float, optional
        Seconds; then the part found so far is returned, with `complete` false.
    threads : int, optional
        As for `assign`.
    **limits
        load, capacity, pools, allowed, query_floor, group, group_min_quality, group_budget, unroutable: as
        for `assign`.

    Returns
    -------
    Frontier

    Raises
    ------
    ProblemError
        An argument is malformed.

    Notes
    -----
    When the capacities cannot take every query, the curve is that of the queries which `assign` would serve.

    Examples
    --------
    >>> from eccos_rs import frontier
    >>> curve = frontier([[1.0, 9.0], [1.0, 9.0]], [[0.9, 1.0], [0.4, 0.8]])
    >>> curve.quality.round(2), curve.cost.round(2)
    (array([0.65, 0.85, 0.9 ]), array([ 2., 10., 18.]))
    >>> float(curve.cost_at(0.75).round(6))
    6.0
    """
    points = _arrays.count("max_points", max_points, 2)
    for name in ("overage", "minimum"):
        if limits.get(name):
            raise ProblemError(f"{name} is no argument of frontier, whose costs are those of the pairs alone")
    problem = _arrays.problem(cost, quality, ("min_quality", 0.0), **limits)
    effort = _arrays.effort(1e-4, time_limit, None, threads)
    (quality_at, cost_at, price), complete = _core.frontier(problem, effort, points)
    return Frontier(quality_at, cost_at, price, complete)
