"""The method in a few lines of numpy, and brute force: oracles for the tests, written to be read.

Everything is one list of rows. With `p` what is minimised and row k asking `sum_i G[k, i, x_i] <= h[k]`, any
prices `y >= 0` bound the optimum from below:

    g(y) = sum_i min_j (p[i, j] + sum_k y[k] G[k, i, j])  -  y . h

The best prices give the bound of the linear relaxation; the model that each query then picks is nearly right,
and moving a few queries puts right what is not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import linprog

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from eccos_rs import PooledCapacity, SideRow

    Floats = NDArray[np.float64]
    Indices = NDArray[np.intp]

TIGHT = 1e-9
"""How far, relative to N or to the limit, quality and budget may be missed by rounding."""


@dataclass(frozen=True)
class Rows:
    """A problem as rows; `kind` names each row, `slack` is what rounding may take."""

    p: Floats
    may: NDArray[np.bool_]
    G: Floats
    h: Floats
    slack: Floats
    kind: tuple[str, ...]


def rows(
    cost: ArrayLike,
    quality: ArrayLike,
    *,
    min_quality: float | None = None,
    budget: float | None = None,
    quality_value: float | None = None,
    load: ArrayLike | None = None,
    capacity: ArrayLike | None = None,
    pools: Sequence[PooledCapacity] = (),
    rows: Sequence[SideRow] = (),
    allowed: ArrayLike | None = None,
    query_floor: ArrayLike | None = None,
    group: ArrayLike | None = None,
    group_min_quality: ArrayLike | None = None,
    group_budget: ArrayLike | None = None,
    **_: Any,
) -> Rows:
    """Write the arguments of `assign` as rows."""
    c, a = np.asarray(cost, float), np.asarray(quality, float)
    n, m = c.shape
    may = np.ones((n, m), bool) if allowed is None else np.asarray(allowed, bool).copy()
    c, a = np.where(may, c, 0.0), np.where(may, a, 0.0)
    if query_floor is not None:
        floor = np.broadcast_to(np.asarray(query_floor, float), n)[:, None]
        may &= ~(a < floor)
    p = c if min_quality is not None else -a if budget is not None else c - float(quality_value or 0.0) * a
    found: list[tuple[str, Floats, float, float]] = []
    if min_quality is not None:
        found.append(("quality", -a, -min_quality * n, TIGHT * n))
    if budget is not None:
        found.append(("budget", c, budget, TIGHT * budget))
    w = np.ones((1, n, m)) if load is None else np.where(may, np.asarray(load, float), 0.0).reshape(-1, n, m)
    for pool in pools:
        inside = np.isin(np.arange(m), pool.models)
        found.append(("pool", w[pool.resource] * inside, pool.capacity, 1e-12 * pool.capacity))
    for row in rows:
        counts = np.ones(n, bool) if row.members is None else np.asarray(row.members)
        sign, limit = (1.0, row.at_most) if row.at_least is None else (-1.0, row.at_least)
        use = np.where(may & counts[:, None], np.asarray(row.values, float), 0.0)
        total = float(limit) * (int(counts.sum()) if row.mean else 1) if counts.any() else 0.0
        size = max(abs(total), float(np.abs(use).max(axis=1, initial=0.0).sum()))
        found.append(("row", sign * use, sign * total, TIGHT * size))
    if capacity is not None:
        for r, limits in enumerate(np.atleast_2d(np.asarray(capacity, float))):
            for j in np.flatnonzero(np.isfinite(limits)):
                found.append(("capacity", w[r] * (np.arange(m) == j), limits[j], 1e-12 * limits[j]))
    members = None if group is None else np.asarray(group)
    for kind, sign, values, limits in (
        ("quality", -1.0, a, group_min_quality),
        ("budget", 1.0, c, group_budget),
    ):
        for g, limit in enumerate([] if limits is None else np.asarray(limits, float)):
            if not np.isnan(limit) and members is not None:
                inside = (members == g)[:, None]
                bound = -limit * inside.sum() if kind == "quality" else limit
                found.append(
                    (f"group_{kind}", sign * values * inside, bound, TIGHT * max(abs(bound), 1e-300))
                )
    return Rows(
        p,
        may,
        np.array([row[1] for row in found]).reshape(-1, n, m),
        np.array([row[2] for row in found]),
        np.array([row[3] for row in found]),
        tuple(row[0] for row in found),
    )


def excess(problem: Rows, model: ArrayLike) -> Floats:
    """By how much an assignment oversteps each row, rounding forgiven; all <= 0 when it is feasible."""
    x = np.asarray(model)
    return np.asarray(problem.G[:, np.arange(len(x)), x].sum(axis=1) - problem.h - problem.slack)


def value(problem: Rows, model: ArrayLike) -> float:
    """What is minimised, of an assignment."""
    x = np.asarray(model)
    return float(problem.p[np.arange(len(x)), x].sum())


def brute_force(problem: Rows) -> tuple[float, Indices] | None:
    """The best of all assignments, or None when none is feasible."""
    choices = [np.flatnonzero(row) for row in problem.may]
    if not choices:
        return 0.0, np.zeros(0, np.intp)
    every = np.array(list(product(*choices)), np.intp)
    i = np.arange(every.shape[1])
    fits = np.ones(len(every), bool)
    for G, h, slack in zip(problem.G, problem.h, problem.slack, strict=True):
        fits &= G[i, every].sum(axis=1) <= h + slack
    if not fits.any():
        return None
    values = np.where(fits, problem.p[i, every].sum(axis=1), np.inf)
    best = int(np.argmin(values))
    return float(values[best]), every[best]


def dual(problem: Rows, y: Floats) -> tuple[float, Floats, Indices]:
    """`g(y)`, its slope, and the model that each query picks at these prices."""
    score = np.where(problem.may, problem.p + np.tensordot(y, problem.G, 1), np.inf)
    pick = score.argmin(axis=1)
    i = np.arange(len(pick))
    slope = problem.G[:, i, pick].sum(axis=1) - problem.h
    return float(score[i, pick].sum() - y @ problem.h), slope, pick


def prices(problem: Rows, highest: float = 1e4) -> tuple[float, Floats]:
    """Find the best prices by cutting planes: `g` lies under its tangents, so go where those are highest."""
    k = len(problem.h)
    scale = float(np.abs(problem.p[problem.may]).mean()) or 1.0
    sizes = np.array([float(np.abs(G[problem.may]).mean()) or 1.0 for G in problem.G])
    scaled = replace(
        problem,
        p=problem.p / scale,
        G=problem.G / sizes.reshape(-1, 1, 1),
        h=(problem.h + problem.slack) / sizes,
    )
    best, at, y = -np.inf, np.zeros(k), np.zeros(k)
    cuts: list[Floats] = []
    ends: list[float] = []
    for _ in range(600):
        g, slope, _ = dual(scaled, y)
        if g > best:
            best, at = g, y
        cuts.append(np.append(-slope, 1.0))  # t <= g + slope . (y' - y)
        ends.append(g - float(slope @ y))
        goal = np.append(np.zeros(k), -1.0)
        top = linprog(
            goal, np.array(cuts), ends, bounds=[(0, highest)] * k + [(None, None)], method="highs-ds"
        )
        if top.status != 0 or -top.fun <= best + 1e-9 * max(1.0, abs(best)):
            break
        y = top.x[:k]
    return best * scale, at * scale / sizes


def exchange(problem: Rows, y: Floats, rounds: int = 2000) -> Indices | None:
    """Move one query after the other, at least cost until nothing is overstepped, then wherever it saves."""
    _, _, x = dual(problem, y)
    n, m = problem.p.shape
    i = np.arange(n)
    size = np.abs(problem.h).clip(1e-300)

    def over(total: Floats) -> Floats:
        gap = (total - problem.h - problem.slack).clip(0) / size
        return np.asarray(gap.sum(axis=-1))

    for _ in range(rounds):
        now = problem.G[:, i, x].sum(axis=1)
        step_p = np.where(problem.may, problem.p - problem.p[i, x][:, None], np.inf).ravel()
        step_G = (problem.G - problem.G[:, i, x][:, :, None]).reshape(len(now), -1).T
        after, before = over(now + step_G), float(over(now))
        if before > 0:
            gain = before - after
            good = (gain > 1e-15) & np.isfinite(step_p)
            if not good.any():
                return None
            rate = np.where(good, (step_p + y @ step_G.T).clip(0) / np.where(good, gain, 1.0), np.inf)
            best = int(np.argmin(rate))
        else:
            fits = np.where(after <= 0, step_p, np.inf)
            best = int(np.argmin(fits))
            if not fits[best] < -1e-15:
                return x
        x = x.copy()
        x[best // m] = best % m
    return x if over(problem.G[:, i, x].sum(axis=1)) <= 0 else None
