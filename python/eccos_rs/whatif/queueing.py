"""Waiting for a slot: by the arrival times of a log, or by the formula for random arrivals."""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Queueing", "erlang_c", "formula_queueing", "simulated_queueing"]

_LONG = 0.05
"""Share of the requests that wait longer than what is told as the long wait."""


class Queueing(NamedTuple):
    """How requests wait for slots.

    Attributes
    ----------
    busy : float
        Mean share of the slots that answer; from 1 on the queue has no end.
    waits : float
        Share of the requests that wait at all.
    mean, p95 : float
        Seconds of all requests; infinite where the queue has no end.
    """

    busy: float
    waits: float
    mean: float
    p95: float


def erlang_c(slots: int, offered: float) -> float:
    """Return the share of random arrivals that wait (Erlang C).

    Parameters
    ----------
    slots : int
    offered : float
        Arrival rate times mean service time.

    Examples
    --------
    >>> round(erlang_c(1, 0.5), 6), round(erlang_c(2, 1.0), 6)
    (0.5, 0.333333)
    """
    if offered >= slots:
        return 1.0
    blocked = 1.0
    for count in range(1, slots + 1):
        blocked = offered * blocked / (count + offered * blocked)
    return blocked / (1.0 - (offered / slots) * (1.0 - blocked))


def formula_queueing(slots: int, requests: float, seconds: float, span: float) -> Queueing:
    """Return how requests wait that come at random, with answers of exponential length (M/M/c).

    Parameters
    ----------
    slots : int
    requests : float
        That come in all.
    seconds : float
        A mean answer.
    span : float
        Seconds over which they come.

    Examples
    --------
    >>> formula_queueing(1, 50, 1.0, 100.0)
    Queueing(busy=0.5, waits=0.5, mean=1.0, p95=4.605170185988092)
    """
    if requests <= 0 or seconds <= 0:
        return Queueing(0.0, 0.0, 0.0, 0.0)
    offered = requests * seconds / span
    busy = offered / slots
    if busy >= 1.0:
        return Queueing(busy, 1.0, math.inf, math.inf)
    waits = erlang_c(slots, offered)
    drain = slots * (1.0 - busy) / seconds
    # A request that waits does so for an exponential time with this rate.
    p95 = math.log(waits / _LONG) / drain if waits > _LONG else 0.0
    return Queueing(busy, waits, waits / drain, p95)


def simulated_queueing(
    slots: int, arrival: NDArray[np.float64], seconds: NDArray[np.float64], span: float
) -> Queueing:
    """Return how requests at these times wait, first come first served.

    Parameters
    ----------
    slots : int
    arrival, seconds : ndarray of float64, shape (n,)
        When each comes, and how long it is answered.
    span : float
        Seconds of the log.

    Examples
    --------
    >>> simulated_queueing(1, np.array([0.0, 1.0]), np.array([3.0, 3.0]), 10.0).mean
    1.0
    """
    if not len(arrival):
        return Queueing(0.0, 0.0, 0.0, 0.0)
    order = np.argsort(arrival, kind="stable")
    came, took = arrival[order].tolist(), seconds[order].tolist()
    free = [-math.inf] * slots
    waited = np.zeros(len(order))
    for at, (when, long) in enumerate(zip(came, took, strict=True)):
        start = max(when, free[0])
        waited[at] = start - when
        heapq.heapreplace(free, start + long)
    busy = float(seconds.sum()) / (span * slots)
    p95 = float(np.quantile(waited, 1.0 - _LONG))
    return Queueing(busy, float((waited > 0).mean()), float(waited.mean()), p95)
