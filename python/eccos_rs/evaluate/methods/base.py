"""What a router must do to be judged: two methods, and what it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from eccos_rs.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eccos_rs.records import RecordTable

__all__ = ["Batch", "Predictions", "RoutingMethod", "operating_points", "place"]

#: Positions of the operating point at which a method's curve is drawn, unless it names its own.
OPERATING_POINTS = tuple(np.linspace(0.0, 1.0, 61).tolist())


@dataclass(frozen=True, eq=False)
class Predictions:
    """What one predictor expects of the N held-back queries and M models.

    Attributes
    ----------
    name : str
        The predictor's name, as it stands in the tables.
    quality : ndarray of float32, shape (N, M)
        Probability of a good answer, in [0, 1].
    cost : ndarray of float64, shape (N, M)
        Expected US dollars of the call.
    log_tokens : ndarray of float64, shape (N, M), or None
        Expected ln(1 + output tokens), where the predictor tells it.
    seconds : float
        Time of the prediction per query; 0 for one that looks nothing up.
    """

    name: str
    quality: npt.NDArray[np.float32]
    cost: npt.NDArray[np.float64]
    log_tokens: npt.NDArray[np.float64] | None = None
    seconds: float = 0.0

    @cached_property
    def dearest(self) -> float:
        """Mean expected US dollars of the dearest model."""
        return float(np.max(np.mean(self.cost, axis=0)))

    def __post_init__(self) -> None:
        if self.quality.ndim != 2 or self.quality.shape != self.cost.shape:
            raise InputError(
                f"predictions {self.name!r}: got quality {self.quality.shape} and cost {self.cost.shape}, "
                "wanted two matrices of one shape (queries, models)"
            )


@dataclass(frozen=True, eq=False)
class Batch:
    """n queries that arrive together, in their order of arrival.

    Attributes
    ----------
    texts : sequence of str, length n
        The queries.
    rows : ndarray of int64, shape (n,)
        Where they stand among the held-back queries; a `Predictions` is indexed with it.
    models : tuple of str, length M
        The pool.
    prices : ndarray of float64, shape (M, 2)
        US dollars per million input and output tokens; NaN where the data tell no price.
    capacity : ndarray of float64, shape (M,)
        Queries of this batch that a model may take; inf where there is no limit.
    """

    texts: Sequence[str]
    rows: npt.NDArray[np.int64]
    models: tuple[str, ...]
    prices: npt.NDArray[np.float64]
    capacity: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.rows)


@runtime_checkable
class RoutingMethod(Protocol):
    """A router under judgement.

    Two methods are all that is needed. `name` labels it in tables and plots. It may also carry
    ``operating_points``, a sequence of floats: where it is swept (a router without a choice names one).

    Examples
    --------
    A router that sends long questions to one model and the rest to another, by share:

    >>> class ByLength:
    ...     name = "by length"
    ...     def fit(self, table):
    ...         self.lengths = np.sort([len(text) for text in table.query])
    ...         self.strong = int(np.nanmean(table.quality, axis=0).argmax())
    ...         self.weak = int(np.nanmean(table.cost, axis=0).argmin())
    ...     def choose(self, batch, operating_point):
    ...         limit = np.quantile(self.lengths, 1 - operating_point)
    ...         return np.array([self.strong if len(t) > limit else self.weak for t in batch.texts])
    >>> isinstance(ByLength(), RoutingMethod)
    True
    """

    name: str

    def fit(self, table: RecordTable) -> None:
        """Learn from labelled queries; none of them is judged later."""
        ...

    def choose(self, batch: Batch, operating_point: float) -> npt.NDArray[np.generic]:
        """Choose a model for each query of a batch.

        Parameters
        ----------
        batch : Batch
            The queries and the limits. It holds no outcomes.
        operating_point : float
            In [0, 1]: 0 is the cheapest that the router does, 1 the best. Routing methods are
            compared at equal realised cost, so what lies between is its own affair.

        Returns
        -------
        ndarray, shape (n,) of int or shape (n, M) of float
            Column of the chosen model. Or a score for each model, the highest wins: then a query whose first
            choice is full takes its own next choice, in the order of arrival.
        """
        ...


def operating_points(method: RoutingMethod) -> tuple[float, ...]:
    """Return the operating point positions at which a method is swept."""
    # Before 0.2 the attribute was called `dials`.
    return tuple(getattr(method, "operating_points", getattr(method, "dials", OPERATING_POINTS)))


def place(choice: npt.NDArray[np.generic], batch: Batch) -> npt.NDArray[np.int64]:
    """Turn what a method returned into one model a query.

    Parameters
    ----------
    choice : ndarray, shape (n,) or (n, M)
        See `RoutingMethod.choose`. Columns are taken as they are, even where they break a capacity: that is
        counted against the method. Scores are served first come, first served, which for limits in
        queries leaves no model overfull.
    batch : Batch
        Whose capacities hold.

    Returns
    -------
    ndarray of int64, shape (n,)

    Raises
    ------
    InputError
        If the shape is neither, a column does not exist, or a score is NaN.
    """
    n, m = len(batch), len(batch.models)
    choice = np.asarray(choice)
    if choice.shape == (n,):
        columns = choice.astype(np.int64)
        if n and (columns.min() < 0 or columns.max() >= m or (columns != choice).any()):
            raise InputError(f"choose: got columns {columns.min()} to {columns.max()}, wanted 0 to {m - 1}")
        return columns
    if choice.shape != (n, m):
        raise InputError(f"choose: got shape {choice.shape}, wanted ({n},) columns or ({n}, {m}) scores")
    if np.isnan(choice).any():
        raise InputError("choose: got a score that is NaN, wanted numbers (-inf for never)")
    if not np.isfinite(batch.capacity).any():
        return np.asarray(np.argmax(choice, axis=1), dtype=np.int64)
    return _first_come(choice.astype(np.float64), batch.capacity)


def _first_come(scores: npt.NDArray[np.float64], capacity: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Serve in the order of arrival, each its best model that still has room.

    Deferred acceptance, where every model prefers whoever came first, ends in just that assignment and takes
    a few passes over arrays where the plain loop takes n steps.
    """
    n, m = scores.shape
    room = np.minimum(np.floor(capacity), n).astype(np.int64)
    if room.sum() < n:
        raise InputError(f"capacity: got room for {room.sum()} queries, wanted at least {n}")
    order = np.argsort(-scores, axis=1, kind="stable")
    turn = np.zeros(n, dtype=np.int64)
    columns = order[:, 0].copy()
    while True:
        full = False
        for model in range(m):
            asking = np.flatnonzero(columns == model)
            late = asking[room[model] :]
            if late.size:
                turn[late] += 1
                columns[late] = order[late, turn[late]]
                full = True
        if not full:
            return columns
