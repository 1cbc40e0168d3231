"""Instances for tests and benches: real prices, lognormal tokens, logistic qualities, degenerate variants.

Deterministic in its arguments: tokens are whole numbers, prices whole nano-dollars per token and qualities
multiples of 2**-20 (or k/16), so no value depends on the last bit of the platform's `exp` and `log`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

KINDS = (
    "base", "knn16", "bucket", "rowdup", "coldup", "equalcost", "constcost", "zerocost", "allzero", "constq",
    "dominated", "outlier", "intcost", "binq",
)  # fmt: skip
"""The families: `base` is the plain one, the others are degenerate, each in its own way."""


class Seller(NamedTuple):
    """A model on sale: prices in nano-dollars per token, skill in log odds, mean output tokens."""

    price_in: int
    price_out: int
    skill: float
    mean_out: float


OPEN6 = (
    Seller(267, 267, -0.35, 260), Seller(305, 305, -0.45, 230), Seller(534, 534, 0.25, 280),
    Seller(900, 900, 0.55, 300), Seller(1220, 1220, 0.85, 310), Seller(2745, 2745, 1.25, 320),
)  # fmt: skip
TEN = (
    Seller(267, 267, -0.35, 260), Seller(305, 305, -0.45, 230), Seller(267, 267, 0.15, 900),
    Seller(534, 534, 0.25, 280), Seller(534, 534, 0.80, 950), Seller(1220, 1220, 0.85, 310),
    Seller(75, 300, 0.30, 240), Seller(150, 600, 0.60, 250), Seller(1250, 5000, 1.45, 330),
    Seller(2500, 10000, 1.70, 300),
)  # fmt: skip


def sellers(m: int, seed: int) -> tuple[Seller, ...]:
    """M models: the six open ones, the ten mixed ones, or a synthetic price list."""
    if m == 6:
        return OPEN6
    if m == 10:
        return TEN
    g = np.random.Generator(np.random.PCG64([seed, 77]))
    log_price = np.sort(g.uniform(np.log(50.0), np.log(3000.0), m))
    rows = []
    for j in range(m):
        ratio = (1, 1, 4, 4, 5)[int(g.integers(5))]
        skill = -0.6 + 2.3 * (log_price[j] - np.log(50.0)) / np.log(60.0) + 0.45 * g.standard_normal()
        reasons = g.random() < 0.25
        price = round(np.exp(log_price[j]))
        out = round(np.exp(log_price[j]) * ratio)
        rows.append(Seller(price, out, float(skill) + 0.5 * reasons, 900 if reasons else 280))
    return tuple(rows)


@dataclass(frozen=True)
class Instance:
    """One problem in the units of `eccos_rs.assign`; `keywords` are its limits."""

    cost: NDArray[np.float32]
    quality: NDArray[np.float32]
    capacity: NDArray[np.float64]
    min_quality: float | None
    budget: float | None
    load: NDArray[np.float32] | None = None
    allowed: NDArray[np.bool_] | None = None

    @property
    def keywords(self) -> dict[str, Any]:
        """Keyword arguments of `assign` beside `cost` and `quality`."""
        named = {
            "capacity": self.capacity,
            "min_quality": self.min_quality,
            "budget": self.budget,
            "load": self.load,
            "allowed": self.allowed,
        }
        return {name: value for name, value in named.items() if value is not None}


def largest_remainder(share: NDArray[np.float64], total: float) -> NDArray[np.float64]:
    """Whole numbers in proportion to `share` that sum to `total`."""
    raw = share / share.sum() * total
    whole = np.floor(raw)
    left = round(total - whole.sum())
    whole[np.argsort(-(raw - whole), kind="stable")[:left]] += 1
    return np.asarray(whole)


def bids(
    score: NDArray[np.float32],
    load: NDArray[np.float32] | None,
    capacity: NDArray[np.float64],
    allowed: NDArray[np.bool_] | None,
) -> NDArray[np.int64]:
    """A feasible assignment of small score by rounds of bids, highest regret first; -1 where none fits."""
    n, m = score.shape
    s = score.astype(np.float64)
    if allowed is not None:
        s[~allowed] = np.inf
    room = capacity.astype(np.float64).copy()
    model = np.full(n, -1, np.int64)
    todo = np.arange(n)
    for _ in range(4 * m + 4):
        if len(todo) == 0:
            break
        t = s[todo]
        two = np.partition(t, 1, axis=1)[:, :2] if m > 1 else np.column_stack([t[:, 0], t[:, 0]])
        best = np.argmin(t, axis=1)
        with np.errstate(invalid="ignore"):
            regret = np.where(np.isfinite(two[:, 1]), two[:, 1] - two[:, 0], np.inf)
        finite = np.isfinite(two[:, 0])
        keep = []
        for j in range(m):
            k = np.nonzero((best == j) & finite)[0]
            if len(k) == 0:
                continue
            k = k[np.argsort(-regret[k], kind="stable")]
            w = np.ones(len(k)) if load is None else load[todo[k], j].astype(np.float64)
            good = np.cumsum(w) <= room[j] + 1e-9
            model[todo[k[good]]] = j
            if good.any():
                room[j] -= w[good].sum()
            if not good.all():
                keep.append(todo[k[~good]])
                if load is None or room[j] <= 0:
                    s[:, j] = np.inf
                else:
                    s[todo[k[~good]], j] = np.inf
        keep.append(todo[~finite])
        rest = np.sort(np.concatenate(keep))
        if len(rest) == len(todo) and not np.isfinite(s[rest]).any():
            break
        todo = rest
    return model


def _capacities(pool: tuple[Seller, ...], shape: str, g: np.random.Generator) -> NDArray[np.float64]:
    """The share of the capacity that each model has."""
    m = len(pool)
    if shape == "tier":  # cheap models have more replicas
        return np.asarray(1.0 / np.sqrt(np.array([float(s.price_out) for s in pool])))
    if shape == "random":
        return np.asarray(g.gamma(1.5, 1.0, m) + 1e-3)
    share = np.ones(m)
    if shape == "zero":  # a third of the models is down
        share[::3] = 0.0
    return np.asarray(share)


def _costs(
    kind: str, cost: NDArray[np.float64], quality: NDArray[np.float32], g: np.random.Generator
) -> None:
    """Changes costs and qualities in place to what the family is about."""
    n, m = cost.shape
    if kind == "equalcost":  # a query costs the same everywhere
        cost[:] = cost[:, :1].copy()
    elif kind == "constcost":
        cost[:] = 1e-4
    elif kind == "zerocost":  # a self-hosted third of the pool is free
        cost[:, : max(1, m // 3)] = 0.0
    elif kind == "allzero":
        cost[:] = 0.0
    elif kind == "constq":
        quality[:] = quality[:, :1].copy()
    elif kind == "coldup":  # pairs of identical models
        for j in range(0, m - 1, 2):
            cost[:, j + 1] = cost[:, j]
            quality[:, j + 1] = quality[:, j]
    elif kind == "dominated":  # model 0 is cheapest and best everywhere
        cost[:, 0] = cost.min(axis=1) * 0.5
        quality[:, 0] = quality.max(axis=1)
    elif kind == "outlier":  # a handful of queries cost 1e5 times more
        cost[g.permutation(n)[: max(1, n // 500)]] *= 1e5
    elif kind == "intcost":
        cost[:] = np.ceil(cost / np.median(cost) * 3.0).clip(0, 9)
    elif kind == "binq":
        quality[:] = quality > 0.5


def make(
    n: int,
    m: int,
    kind: str = "base",
    *,
    tight: float = 0.6,
    load: float = 1.5,
    shape: str = "tier",
    seed: int = 0,
    mode: str = "quality",
    weights: str = "unit",
    forbid: float = 0.0,
    min_quality: float | None = None,
) -> Instance:
    """Makes one instance.

    Parameters
    ----------
    n, m : int
        Queries and models.
    kind : str
        One of `KINDS`.
    tight : float
        The floor (or budget) lies this far from the cheapest to the best that a greedy reaches.
    load : float
        Sum of the capacities over the number of queries (or over the token demand); inf = no limit.
    shape : {"tier", "uniform", "random", "zero"}
        How the capacity is spread over the models.
    mode : {"quality", "budget"}
        Which of the two limits is set.
    weights : {"unit", "tokens"}
        A load of one request, or of input plus output tokens.
    forbid : float
        Share of forbidden pairs; every query keeps at least three models.
    """
    pool = sellers(m, seed)
    g = np.random.Generator(np.random.PCG64([seed, n, m]))
    distinct = max(1, min(n, max(4, n // 32))) if kind == "rowdup" else n
    domain = g.integers(0, 8, distinct)
    affinity = 0.5 * g.standard_normal((m, 8))
    difficulty = -0.2 + 1.3 * g.standard_normal(distinct)
    t_in = np.rint(np.exp(np.log(180.0) + 0.9 * g.standard_normal(distinct))).clip(4, 16000).astype(np.int64)
    verbosity = np.exp(0.55 * g.standard_normal(distinct))
    quality = np.empty((distinct, m), np.float32)
    t_out = np.empty((distinct, m), np.int64)
    skill = np.array([s.skill for s in pool])
    mean_out = np.array([s.mean_out for s in pool])
    for lo in range(0, distinct, 65536):  # blocks keep memory small; part of the definition
        rows = slice(lo, min(distinct, lo + 65536))
        k = rows.stop - lo
        z = skill + affinity[:, domain[rows]].T - difficulty[rows, None]
        if kind == "knn16":
            quality[rows] = g.binomial(16, 1.0 / (1.0 + np.exp(-1.2 * z))) / 16.0
        else:
            q = 1.0 / (1.0 + np.exp(-1.2 * (z + 0.55 * g.standard_normal((k, m)))))
            quality[rows] = np.rint(q * 2.0**20) / 2.0**20
        spread = np.exp(0.45 * g.standard_normal((k, m)))
        t = np.rint(mean_out * verbosity[rows, None] * spread).clip(1, 16000).astype(np.int64)
        t_out[rows] = (np.minimum(t, 999) // 100) * 100 + 50 if kind == "bucket" else t
    if kind == "bucket":  # ten lengths: many equal costs and qualities
        t_in = (np.minimum(t_in, 999) // 100) * 100 + 50
        quality = (np.rint(quality * 16) / 16).astype(np.float32)
    price_in = np.array([s.price_in for s in pool])
    price_out = np.array([s.price_out for s in pool])
    dollars = (t_in[:, None] * price_in + t_out * price_out).astype(np.float64) * 1e-9
    _costs(kind, dollars, quality, g)
    if kind == "rowdup":  # few distinct queries, repeated
        again = np.arange(n) % distinct
        quality, dollars, t_in, t_out = quality[again], dollars[again], t_in[again], t_out[again]
    cost = np.ascontiguousarray(dollars, np.float32)
    w = (t_in[:, None] + t_out).astype(np.float32) if weights == "tokens" else None
    allowed = None
    if forbid > 0:
        allowed = g.random((n, m)) >= forbid
        keep = np.argsort(g.random((n, m)), axis=1)[:, : min(m, 3)]
        allowed[np.arange(n)[:, None], keep] = True
    share = _capacities(pool, shape, g)
    if np.isinf(load):
        capacity = np.full(m, np.inf)
    elif w is None:
        capacity = np.minimum(largest_remainder(share, round(load * n)), n if load > 1.0 else np.inf)
    else:
        capacity = np.rint(share / share.sum() * load * w.mean(axis=1).astype(np.float64).sum())
    floor, budget = min_quality, None
    if min_quality is None:
        room = np.where(np.isinf(capacity), 1e18, capacity)
        cheap, best = bids(cost, w, room, allowed), bids(-quality, w, room, allowed)
        low, high = (float(quality[np.arange(n), x].astype(np.float64).sum()) / n for x in (cheap, best))
        low_cost, high_cost = (float(cost[np.arange(n), x].astype(np.float64).sum()) for x in (cheap, best))
        if mode == "quality":
            floor = float(np.floor((low + tight * (high - low)) * 1e6) / 1e6)
        else:
            budget = low_cost + tight * (high_cost - low_cost)
    return Instance(cost, np.ascontiguousarray(quality), capacity, floor, budget, w, allowed)
