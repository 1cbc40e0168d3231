"""Random problems small enough for brute force, with every feature of `assign` in every mixture."""

from __future__ import annotations

from typing import Any

import numpy as np

from eccos_rs import PooledCapacity, SideRow, assign
from tests.helpers import problems


def _values(g: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers in [0, 1]: smooth, few levels, whole, all equal, duplicated rows or columns."""
    kind = g.integers(7)
    x = g.random(shape)
    if kind == 1:
        x = np.rint(x * 16) / 16
    elif kind == 2:
        x = np.rint(x)
    elif kind == 3:
        x[:] = x.flat[0] if x.size else 0.0
    elif kind == 4 and x.size:
        x[:] = x[..., :1]
    elif kind == 5 and x.size:
        x[:] = x[..., :1, :]
    return x


def draw(seed: int, most: int = 6) -> dict[str, Any]:
    """Arguments of `assign`; some problems can be met, others cannot."""
    g = np.random.default_rng([seed, 20502576])
    n, m = int(g.integers(1, most + 1)), int(g.integers(1, 5))
    dtype = (np.float32, np.float64)[g.integers(2)]
    scale = 10.0 ** g.choice([-12, -4, 0, 0, 3, 12])
    cost = (_values(g, (n, m)) * scale).astype(dtype)
    quality = _values(g, (n, m)).astype(dtype)
    problem: dict[str, Any] = {"cost": cost, "quality": quality}
    _goal(g, problem)
    if g.random() < 0.4:
        allowed = g.random((n, m)) < 0.7
        allowed[np.arange(n), g.integers(0, m, n)] = True
        problem["allowed"] = allowed
    if g.random() < 0.25:
        best = np.where(problem.get("allowed", True), quality, 0).max(axis=1)
        problem["query_floor"] = np.where(g.random(n) < 0.5, np.nan, best * g.random(n))
    _limits(g, problem, n, m)
    if g.random() < 0.25:
        _groups(g, problem, n)
    if g.random() < 0.3:
        problem["priority"] = g.integers(-2, 3, n)
    return problem


def _goal(g: np.random.Generator, problem: dict[str, Any]) -> None:
    cost, quality = problem["cost"].astype(float), problem["quality"].astype(float)
    mode, tight = g.integers(5), g.choice([0.0, 0.3, 0.6, 0.9, 1.0, 1.05])
    if mode < 3:
        low, high = (float(f(quality, 1).mean()) for f in (np.min, np.max))
        problem["min_quality"] = min(1.0, low + tight * (high - low))
    elif mode == 3:
        low, high = (float(f(cost, 1).sum()) for f in (np.min, np.max))
        problem["budget"] = low * (0.9 if tight > 1 else 1.0) + min(tight, 1.0) * (high - low)
    else:
        problem["quality_value"] = float(g.random() * max(float(cost.mean()), 1e-300) * 4)


def _limits(g: np.random.Generator, problem: dict[str, Any], n: int, m: int) -> None:
    kind = g.integers(5)
    if kind == 0:
        return
    if kind <= 2:  # requests
        capacity = g.multinomial(n + int(g.choice([-1, 0, 0, 1, 2])), np.ones(m) / m).astype(float)
    elif kind == 3:  # tokens
        problem["load"] = np.rint(g.random((n, m)) * 900 + 20).astype((np.float32, np.float64)[g.integers(2)])
        total = problem["load"].mean(axis=1).sum() * g.choice([0.9, 1.2, 2.0])
        capacity = np.rint(g.dirichlet(np.ones(m)) * total)
    else:  # requests and tokens
        load = np.stack([np.ones((n, m)), np.rint(g.random((n, m)) * 900 + 20)])
        problem["load"] = load
        capacity = np.stack([g.integers(0, n + 1, m), np.rint(g.random(m) * 900 * n)]).astype(float)
    capacity[..., g.random(m) < 0.25] = np.inf
    problem["capacity"] = capacity


def draw_pooled(seed: int, most: int = 6) -> dict[str, Any]:
    """Arguments of `assign` as `draw` makes them, with capacities that models share beside their own."""
    problem = draw(seed, most)
    g = np.random.default_rng([seed, 11])
    n, m = problem["cost"].shape
    load = np.asarray(problem.get("load", np.ones((1, n, m)))).reshape(-1, n, m)
    pools = []
    for at in range(int(g.integers(1, 4))):
        models = np.flatnonzero(g.random(m) < 0.6)
        models = models if len(models) else np.array([g.integers(m)])
        r = int(g.integers(len(load)))
        most_used = float(load[r][:, models].max(axis=1).sum())
        capacity = float(np.rint(most_used * g.choice([0.3, 0.6, 0.8, 1.0]))) if g.random() < 0.9 else np.inf
        pools.append(PooledCapacity(models.tolist(), capacity, resource=r, name=("", f"pool-{at}")[at % 2]))
    return problem | {"pools": pools}


def draw_sided(seed: int, most: int = 6) -> dict[str, Any]:
    """Arguments of `assign` as `draw` makes them, with side rows of either sign, over all queries or some."""
    problem = draw(seed, most)
    g = np.random.default_rng([seed, 13])
    n, m = problem["cost"].shape
    rows = []
    for at in range(int(g.integers(1, 3))):
        dtype = (np.float32, np.float64)[g.integers(2)]
        values = (_values(g, (n, m)) - g.choice([0.0, 0.3])) * 10.0 ** g.choice([-6, 0, 4])
        values = values.astype(dtype)
        members = g.random(n) < 0.7 if g.random() < 0.4 else None
        mean = bool(g.random() < 0.5)
        chosen = values[np.ones(n, bool) if members is None else members]
        ends = (f(chosen.astype(float), 1).sum() if len(chosen) else 0.0 for f in (np.min, np.max))
        low, high = map(float, ends)
        share = g.choice([-0.1, 0.2, 0.5, 0.8, 1.0])
        limit = (low + share * (high - low)) / (max(len(chosen), 1) if mean else 1)
        side = {("at_most", "at_least")[g.integers(2)]: limit}
        rows.append(SideRow(values, **side, mean=mean, members=members, name=("", f"side-{at}")[at % 2]))
    return problem | {"rows": rows}


def _groups(g: np.random.Generator, problem: dict[str, Any], n: int) -> None:
    groups = int(g.integers(1, 4))
    problem["group"] = g.integers(0, groups, n)
    if g.random() < 0.7:
        problem["group_min_quality"] = np.where(g.random(groups) < 0.5, np.nan, g.random(groups) * 0.7)
    if "group_min_quality" not in problem or g.random() < 0.5:
        worst = float(problem["cost"].astype(float).max(initial=0.0)) * n
        problem["group_budget"] = np.where(g.random(groups) < 0.5, np.nan, g.random(groups) * worst)


def draw_family(seed: int) -> dict[str, Any]:
    """Arguments of `assign` for an instance of one of the families of `problems`."""
    g = np.random.default_rng([seed, 7])
    instance = problems.make(
        int(g.integers(4, 60)),
        int(g.integers(2, 9)),
        str(g.choice(problems.KINDS)),
        tight=float(g.choice([0.1, 0.6, 0.9, 0.98])),
        load=float(g.choice([1.0, 1.1, 1.5, 3.0])),
        shape=str(g.choice(["tier", "uniform", "random", "zero"])),
        mode=str(g.choice(["quality", "quality", "budget"])),
        weights=str(g.choice(["unit", "unit", "unit", "tokens"])),
        forbid=float(g.choice([0.0, 0.0, 0.4])),
        seed=seed,
    )
    return {"cost": instance.cost, "quality": instance.quality, **instance.keywords}


def pooled_family(n: int, m: int, seed: int, weights: str, mode: str) -> dict[str, Any]:
    """An instance whose own capacities are partly pooled: thirds that overlap."""
    made = problems.make(n, m, seed=seed, weights=weights, mode=mode)
    third = m // 3
    own = made.capacity.copy()
    own[::2] = np.inf
    pools = [
        PooledCapacity(range(third), np.floor(made.capacity[:third].sum() * 0.8), name="cheap"),
        PooledCapacity(range(third, m), made.capacity[third:].sum(), name="dear"),
        PooledCapacity([0, m - 1], made.capacity[[0, m - 1]].sum(), name="across"),
    ]
    return {"cost": made.cost, "quality": made.quality} | made.keywords | {"capacity": own, "pools": pools}


def sided_family(n: int, m: int, seed: int, weights: str, mode: str) -> dict[str, Any]:
    """An instance with a tight share of slow answers, and a second quality of some of the queries."""
    made = problems.make(n, m, seed=seed, weights=weights, mode=mode)
    g = np.random.default_rng(seed)
    slow = g.beta(0.5, 5.0, (n, m)) * np.linspace(0.5, 1.5, m)
    second = np.clip(made.quality * 0.7 + 0.3 * g.random((n, m)), 0, 1).astype(np.float32)
    some = g.random(n) < 0.4
    free = assign(made.cost, made.quality, **made.keywords).model
    at = np.arange(n)
    rows = [
        SideRow(slow, at_most=0.8 * float(slow[at, free].mean()), mean=True, name="slow"),
        SideRow(second, at_least=1.02 * float(second[at, free][some].sum()), members=some),
    ]
    return {"cost": made.cost, "quality": made.quality} | made.keywords | {"rows": rows}
