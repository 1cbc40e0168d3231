"""Who may be deferred where not everything fits: nobody for whom there is room, nor before a lower rank."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eccos_rs.solver._data import Data

__all__ = ["wrongly_deferred"]


def wrongly_deferred(
    data: Data,
    used: NDArray[np.float64],
    served: NDArray[np.intp],
    model: NDArray[Any],
    deferred: NDArray[np.intp],
) -> str:
    """Follow chains of moves from each deferred query to room, or to a query that ranks lower.

    Parameters
    ----------
    data : Data
        One request per query, no pools.
    used : (M,) ndarray
        Requests at each model.
    served, model : (S,) ndarray of int
        The queries that have a model, and which.
    deferred : (D,) ndarray of int
        The queries that have none although some model may take them.

    Returns
    -------
    str
        What is wrong; empty when nothing is.
    """
    m = data.cost.shape[1]
    room = used + 1 <= data.capacity[0]
    at = [served[model == j] for j in range(m)]
    step = np.array([data.may[rows].any(axis=0) if len(rows) else np.zeros(m, bool) for rows in at])
    reach = np.eye(m, dtype=bool) | step
    for _ in range(max(1, m.bit_length())):
        reach = reach @ reach
    # Rank: higher priority first, then lower index; the lowest of each model.
    lowest = [min(((data.priority[i], -i) for i in rows), default=None) for rows in at]
    for i in deferred:
        models = np.flatnonzero(reach[data.may[i]].any(axis=0))
        if room[models].any():
            return f"query {i} is deferred although there is room for it"
        mine = (data.priority[i], -i)
        for j in models:
            last = lowest[j]
            if last is not None and last < mine:
                return f"query {i} is deferred although query {-last[1]}, which ranks lower, is served"
    return ""
