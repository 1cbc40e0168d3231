"""Kinds of limits that come to a side row: the solver, the certificate and explanations know them as such."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eccos_rs.errors import ProblemError
from eccos_rs.solver.limits import ProblemFigures, SideRow, model_mask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

__all__ = ["ModelShare"]


@dataclass(frozen=True, slots=True, eq=False)
class ModelShare:
    """A limit on the share of the queries that go to some models: a vendor, a region, a model on trial.

    Parameters
    ----------
    models : (K,) sequence of int, or (M,) array_like of bool
        Indices of the models whose queries count together, or a mask.
    at_most, at_least : float, optional
        Share of the queries that have a model, from 0 to 1; exactly one of the two is given.
    members : (N,) array_like of bool, optional
        The queries that it is a share of. Default: all.
    name : str
        What explanations call it; "rows[0]" and so on without one.

    Examples
    --------
    At most half of the queries may go to model 0, which is the cheaper one:

    >>> from eccos_rs import assign
    >>> cost, quality = [[1.0, 2.0]] * 4, [[0.8, 0.9]] * 4
    >>> half = ModelShare([0], at_most=0.5, name="vendor A")
    >>> assign(cost, quality, min_quality=0.5, rows=[half]).cost
    6.0
    """

    models: Sequence[int] | ArrayLike
    at_most: float | None = None
    at_least: float | None = None
    members: ArrayLike | None = None
    name: str = ""

    def side_row(self, at: str, figures: ProblemFigures) -> SideRow:
        """Return the same as the mean of ones and zeros; `at` is what messages call it."""
        for name in ("at_most", "at_least"):
            share = getattr(self, name)
            if share is not None and not (isinstance(share, float | int) and 0 <= share <= 1):
                raise ProblemError(f"{at}.{name} is {share!r}, wanted a share: a number from 0 to 1")
        n, m = figures.cost.shape
        share = model_mask(f"{at}.models", self.models, m).astype(np.float32)
        counted = np.broadcast_to(share, (n, m))
        return SideRow(counted, self.at_most, self.at_least, mean=True, members=self.members, name=self.name)
