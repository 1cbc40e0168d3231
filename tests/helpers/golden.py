"""Golden problems: small, with a proven optimum; Python and Rust read the same files.

`python -m tests.helpers.golden` writes `tests/data/*.json` anew. A file holds `why`, the arguments of
`assign` under `problem` (null stands for infinity in `capacity` and for NaN in the limits of groups),
and under `expect`:

- `status`: what `assign(..., tolerance=0)` says;
- `objective`: the proven optimum, in the unit of `Assignment.objective`;
- `relaxation`: the optimum of the linear relaxation with limits relaxed by 1e-9, in the same unit;
- `deferred`: the queries left without a model.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.helpers.paths import DATA

if TYPE_CHECKING:
    from pathlib import Path


def load(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the arguments of `assign` and what is expected."""
    stored = json.loads(path.read_text())
    problem = dict(stored["problem"])
    for name, empty in (("capacity", np.inf), ("group_min_quality", np.nan), ("group_budget", np.nan)):
        if name in problem:
            problem[name] = np.array(problem[name], object)
            problem[name] = np.where(problem[name] == None, empty, problem[name]).astype(float)  # noqa: E711
    return problem, stored["expect"]


def plain(value: Any) -> Any:
    """Make JSON of an argument."""
    if isinstance(value, np.ndarray | list):
        return [plain(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def proven(problem: dict[str, Any]) -> dict[str, Any]:
    """Find status, optimum and relaxation with brute force (small) or HiGHS."""
    from tests.helpers import outside, reference

    rows = reference.rows(**problem)
    n, m = rows.p.shape
    unit = -1.0 / n if "budget" in problem else 1.0
    best = reference.brute_force(rows) if m**n <= 1e5 else outside.highs_milp(rows)
    if best is not None:
        relaxed = outside.highs_lp(rows)
        assert relaxed is not None
        return {
            "status": "optimal",
            "objective": best[0] * unit,
            "relaxation": relaxed * unit,
            "deferred": [],
        }
    # The requirement is out of reach: the best that the capacities allow.
    other = {k: v for k, v in problem.items() if k not in ("min_quality", "budget")}
    aim = {"budget": 1e300} if "min_quality" in problem else {"min_quality": 0.0}
    status = "quality_unreachable" if "min_quality" in problem else "budget_unreachable"
    rows = reference.rows(**other, **aim)
    best = reference.brute_force(rows) if m**n <= 1e5 else outside.highs_milp(rows)
    assert best is not None, "overloaded: state what is expected by hand"
    relaxed = outside.highs_lp(rows)
    assert relaxed is not None
    unit = -1.0 / n if "min_quality" in problem else 1.0
    return {"status": status, "objective": best[0] * unit, "relaxation": relaxed * unit, "deferred": []}


def cases() -> dict[str, tuple[str, dict[str, Any]]]:
    """Name every problem, with why it is there."""
    from tests.helpers import problems

    def made(n: int, m: int, kind: str = "base", **how: Any) -> dict[str, Any]:
        instance = problems.make(n, m, kind, **how)
        return {"cost": instance.cost, "quality": instance.quality, **instance.keywords}

    two = {"cost": [[1.0, 9.0], [1.0, 9.0]], "quality": [[0.9, 0.95], [0.4, 0.9]]}
    ties = {"cost": [[1.0, 1.0]] * 6, "quality": [[0.5, 0.5]] * 6}
    g = np.random.default_rng(5)
    resources = made(8, 3, seed=11)
    resources["load"] = np.stack([np.ones((8, 3)), g.integers(50, 900, (8, 3)).astype(float)])
    resources["capacity"] = np.array([[4.0, 4.0, 3.0], [np.inf, 1900.0, 1200.0]])
    tenants = made(9, 3, seed=4, tight=0.4)
    tenants["group"] = [0, 1, 2] * 3
    tenants["group_min_quality"] = [0.55, np.nan, 0.3]
    tenants["group_budget"] = [np.nan, float(np.sort(tenants["cost"][1::3].ravel())[:6].sum()), np.nan]
    floors = made(8, 3, seed=6, tight=0.5)
    floors["query_floor"] = (np.sort(floors["quality"], axis=1)[:, 1] * (np.arange(8) % 2)).astype(float)
    at_most = made(8, 3, seed=7, load=float("inf"))
    at_most["min_quality"] = float(at_most["quality"].astype(float).max(axis=1).sum() / 8)
    exact = made(9, 3, seed=8, load=1.0)
    return {
        "two_queries": ("The smallest that is not trivial.", two | {"min_quality": 0.85}),
        "all_ties": ("Every assignment costs the same.", ties | {"min_quality": 0.5, "capacity": [3.0, 3.0]}),
        "base": ("The plain problem.", made(9, 3, seed=1)),
        "base_budget": ("The plain problem under a budget.", made(9, 3, seed=2, mode="budget")),
        "price": ("Quality has a price.", {**made(9, 3, seed=3), "min_quality": None, "quality_value": 2e-4}),
        "knn16": ("Qualities are sixteenths: slopes cancel to rounding.", made(40, 6, "knn16", seed=2)),
        "coldup": ("Pairs of identical models.", made(10, 3, "coldup", seed=5)),
        "rowdup": ("Few distinct queries, repeated.", made(10, 3, "rowdup", seed=5)),
        "constcost": ("No cost differs: the range is 0.", made(9, 3, "constcost", seed=1)),
        "allzero": ("Everything is free.", made(9, 3, "allzero", seed=1)),
        "outlier": ("One query costs 1e5 times more.", made(9, 3, "outlier", seed=1)),
        "no_spare": ("The capacities sum to the number of queries.", exact),
        "at_maximum": ("The floor is exactly the mean of the best models.", at_most),
        "tokens": (
            "Loads in tokens: a whole assignment is bin packing.",
            made(9, 3, seed=9, weights="tokens"),
        ),
        "resources": ("Two limits for each model: requests and tokens.", resources),
        "tenants": ("Groups with floors and a budget beside the global floor.", tenants),
        "floors": ("Some queries have a floor of their own.", floors),
        "one_query": ("A batch of one.", {"cost": [[3.0, 1.0]], "quality": [[0.9, 0.2]], "min_quality": 0.5}),
        "one_model": (
            "A pool of one.",
            {"cost": [[3.0], [1.0]], "quality": [[0.9], [0.2]], "min_quality": 0.5},
        ),
        "too_high": ("A floor above the best.", {**made(9, 3, seed=1), "min_quality": 0.99}),
        "too_poor": ("A budget below the cheapest.", {**made(9, 3, seed=2, mode="budget"), "budget": 1e-6}),
    }


OVERLOADED: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "overload_priority": (
        "Room for two of four: the lowest priority goes first, then the last come.",
        {
            "cost": [[1.0, 2.0]] * 4,
            "quality": [[0.5, 0.8]] * 4,
            "min_quality": 0.5,
            "capacity": [1.0, 1.0],
            "priority": [0, 5, 0, 5],
        },
        {"status": "overloaded", "objective": 3.0, "relaxation": 3.0, "deferred": [0, 2]},
    ),
    "overload_joint": (
        "Query 2 fits into the full model 0 because query 0 can move to model 1: only query 3 is deferred.",
        {
            "cost": [[1.0, 5.0], [1.0, 5.0], [1.0, 5.0], [1.0, 5.0]],
            "quality": [[0.5, 0.8]] * 4,
            "min_quality": 0.5,
            "capacity": [2.0, 1.0],
            "allowed": [[True, True], [True, False], [True, False], [True, False]],
        },
        {"status": "overloaded", "objective": 7.0, "relaxation": 7.0, "deferred": [3]},
    ),
}


def main() -> None:
    """Write every file."""
    known = {name: (why, problem, proven({k: v for k, v in problem.items() if v is not None}))
             for name, (why, problem) in cases().items()}  # fmt: skip
    for name, (why, problem, expect) in (known | OVERLOADED).items():
        stored = {k: plain(v) for k, v in problem.items() if v is not None}
        text = json.dumps({"why": why, "problem": stored, "expect": expect}, indent=None)
        DATA.joinpath(f"{name}.json").write_text(text.replace('], "', '],\n  "') + "\n")


if __name__ == "__main__":
    main()
