"""The solver across the Python boundary beside what people use today, and beside one pass over the data.

One core, medians over seeds; every answer is checked. `ECCOS_BENCH_ONCE=1` runs small sizes once, untimed.
"""

from __future__ import annotations

import os
import warnings
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.helpers import problems, reference, small

from benches.solver import anchors, table
from eccos_rs import Status, assign, certify

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

ONCE = bool(os.environ.get("ECCOS_BENCH_ONCE"))
SIZES = [(64, 6), (256, 10), (1024, 10), (1024, 50), (10_000, 10), (100_000, 10), (1_000_000, 10)]
if ONCE:
    SIZES = SIZES[:2]
# How far each anchor goes; beyond, it had not ended within about a minute when it was tried.
REACH = {
    "scipy milp": 1024 * 10,
    "HiGHS simplex": 10_000 * 10,
    "HiGHS IPM": 100_000 * 10,
    "GLOP": 1024 * 10,
    "PDLP": 1024 * 10,
    "CP-SAT": 256 * 10,
    "min-cost flow": 100_000 * 10,
    "PuLP + CBC": 1024 * 10,
    "numpy subgradient": 100_000 * 10,
}
GAPS = {"64x6": 5e-3, "256x10": 1e-3, "1024x10": 1e-4, "1024x50": 2e-4, "10000x10": 1e-4, "100000x10": 1e-5}
GAPS["1000000x10"] = 1e-6
"""Gap to the bound of the relaxation that the median over seeds must reach."""

Key = tuple[int, int, int]
INSTANCES: dict[Key, problems.Instance] = {}
BOUNDS: dict[Key, float] = {}


def instance(n: int, m: int, seed: int) -> problems.Instance:
    key = (n, m, seed)
    if key not in INSTANCES:
        if n * m >= 1_000_000:
            INSTANCES.clear()  # one large instance at a time
        INSTANCES[key] = problems.make(n, m, seed=seed)
    return INSTANCES[key]


def bound(n: int, m: int, seed: int) -> float:
    key = (n, m, seed)
    if key not in BOUNDS:
        made = instance(n, m, seed)
        BOUNDS[key] = assign(made.cost, made.quality, **made.keywords).dual_bound
    return BOUNDS[key]


def seeds(n: int, m: int, slow: bool) -> range:
    cells = n * m
    if ONCE:
        return range(1, 2)
    if slow:
        return range(1, 4) if cells <= 3000 else range(1, 2)
    return range(1, 13) if cells <= 100_000 else range(1, 4)


def timed(call: Any, cells: int) -> float:
    """Median seconds of a call: many rounds of what is quick, one of what is slow."""
    start = perf_counter()
    call()
    first = perf_counter() - start
    if ONCE or first > 1.0:
        return first
    found = []
    for _ in range(max(5, min(200, 20_000_000 // (cells + 50_000), int(3.0 / first)))):
        start = perf_counter()
        call()
        found.append(perf_counter() - start)
    return float(np.median(found))


def record(size: str, method: str, seconds: list[float], gaps: list[float], violations: set[str]) -> None:
    gap = float(np.median(gaps)) if gaps else None
    table.RESULTS.append(
        table.Result(size, method, float(np.median(seconds)) * 1e3, gap, ", ".join(sorted(violations)))
    )
    table.store()


def broken(made: problems.Instance, model: np.ndarray) -> set[str]:
    """Name the limits that an assignment breaks by more than 1e-6, which is what the anchors promise."""
    rows = reference.rows(made.cost, made.quality, **made.keywords)
    over = reference.excess(rows, model) > 1e-6 * np.maximum(1.0, np.abs(rows.h))
    return {kind for kind, bad in zip(rows.kind, over, strict=True) if bad}


@pytest.mark.parametrize(("n", "m"), SIZES, ids=[f"{n}x{m}" for n, m in SIZES])
def test_eccos(benchmark: BenchmarkFixture, n: int, m: int) -> None:
    seconds, gaps = [], []
    for seed in seeds(n, m, slow=False):
        made = instance(n, m, seed)
        found = assign(made.cost, made.quality, **made.keywords, threads=1)
        assert found.status in (Status.OPTIMAL, Status.FEASIBLE)
        if n * m <= 1_000_000:
            assert certify(made.cost, made.quality, found, **made.keywords)
        gaps.append((found.cost - found.dual_bound) / found.dual_bound)
        BOUNDS[n, m, seed] = found.dual_bound

        def call(made: problems.Instance = made) -> Any:
            return assign(made.cost, made.quality, **made.keywords, threads=1)

        seconds.append(timed(call, n * m))
    assert np.median(gaps) <= GAPS[f"{n}x{m}"]
    benchmark.extra_info.update(gap=float(np.median(gaps)), milliseconds=float(np.median(seconds)) * 1e3)
    benchmark.pedantic(call, rounds=1)
    record(f"{n}x{m}", "eccos", seconds, gaps, set())


LARGE = [(n, m) for n, m in SIZES if n * m > 1_000_000] or SIZES[-1:]


@pytest.mark.parametrize(("n", "m"), LARGE, ids=[f"{n}x{m}" for n, m in LARGE])
def test_eccos_threads(benchmark: BenchmarkFixture, n: int, m: int) -> None:
    """Two threads give the same assignment, sooner where there are two processors."""
    seconds, gaps = [], []
    for seed in seeds(n, m, slow=False):
        made = instance(n, m, seed)
        alone = assign(made.cost, made.quality, **made.keywords, threads=1)

        def call(made: problems.Instance = made) -> Any:
            return assign(made.cost, made.quality, **made.keywords, threads=2)

        found = call()
        assert (found.model == alone.model).all()
        assert found.bound == alone.bound
        gaps.append((found.cost - found.dual_bound) / found.dual_bound)
        seconds.append(timed(call, n * m))
    benchmark.pedantic(call, rounds=1)
    record(f"{n}x{m}", "eccos, two threads", seconds, gaps, set())


@pytest.mark.parametrize(("n", "m"), SIZES[:3], ids=[f"{n}x{m}" for n, m in SIZES[:3]])
def test_eccos_exact(benchmark: BenchmarkFixture, n: int, m: int) -> None:
    seconds, gaps = [], []
    for seed in seeds(n, m, slow=False):
        made = instance(n, m, seed)

        def call(made: problems.Instance = made) -> Any:
            return assign(made.cost, made.quality, **made.keywords, tolerance=0.0, threads=1)

        found = call()
        assert found.status == Status.OPTIMAL
        gaps.append((found.cost - found.dual_bound) / found.dual_bound)
        seconds.append(timed(call, n * m * 20))
    benchmark.pedantic(call, rounds=1)
    record(f"{n}x{m}", "eccos, exact", seconds, gaps, set())


FAMILIES = {"without": None, "pools": small.pooled_family, "side rows": small.sided_family}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n", [256] if ONCE else [256, 1024, 20_000])
@pytest.mark.parametrize("weights", ["unit", "tokens"])
def test_more_limits(benchmark: BenchmarkFixture, weights: str, n: int, family: str) -> None:
    """Three overlapping pools, or two side rows that bind, beside the same instances without them."""
    seconds, gaps = [], []
    for seed in range(1, 2 if ONCE else 6):
        made = FAMILIES[family]
        if made is None:
            plain = problems.make(n, 6, seed=seed, weights=weights)
            problem = {"cost": plain.cost, "quality": plain.quality, **plain.keywords}
        else:
            problem = made(n, 6, seed, weights, "quality")

        def call(problem: dict[str, Any] = problem) -> Any:
            return assign(**problem, threads=1)

        found = call()
        assert certify(assignment=found, **problem)
        gaps.append((found.cost - found.dual_bound) / found.dual_bound)
        seconds.append(timed(call, n * 6))
    benchmark.pedantic(call, rounds=1)
    record(f"{n}x6, {weights}", f"eccos, {family}", seconds, gaps, set())


@pytest.mark.parametrize(("n", "m"), SIZES, ids=[f"{n}x{m}" for n, m in SIZES])
def test_argmin_pass(benchmark: BenchmarkFixture, n: int, m: int) -> None:
    """The physical yardstick: read every cost and quality once and take the best model of each query."""
    made = instance(n, m, 1)
    score = np.empty_like(made.cost)

    def call() -> Any:
        np.multiply(made.quality, np.float32(-1e-3), out=score)
        np.add(score, made.cost, out=score)
        return score.argmin(axis=1)

    assert call().shape == (n,)
    seconds = timed(call, n * m)
    benchmark.pedantic(call, rounds=1)
    record(f"{n}x{m}", "one numpy pass", [seconds], [], {"capacity", "quality"})


@pytest.mark.parametrize("name", anchors.ANCHORS)
@pytest.mark.parametrize(("n", "m"), SIZES, ids=[f"{n}x{m}" for n, m in SIZES])
def test_anchor(benchmark: BenchmarkFixture, name: str, n: int, m: int) -> None:
    if n * m > REACH[name]:
        pytest.skip(f"{name} does not finish {n} x {m} in about a minute")
    warnings.simplefilter("ignore")
    seconds, gaps, violations = [], [], set()
    for seed in seeds(n, m, slow=True):
        made = instance(n, m, seed)
        solve = anchors.ANCHORS[name](made)
        kept: list[anchors.Result] = []

        def call(solve: anchors.Solve = solve, kept: list[anchors.Result] = kept) -> None:
            kept.append(solve())

        if name in anchors.ONE_SHOT:
            start = perf_counter()
            call()
            seconds.append(perf_counter() - start)
        else:
            seconds.append(timed(call, n * m))
        model, claimed = kept[-1]
        lowest = bound(n, m, seed)
        if np.isnan(claimed):
            violations.add("no answer")
        elif model is None:
            assert claimed == pytest.approx(lowest, rel=1e-2 if name == "PDLP" else 1e-6)
        else:
            cost = float(made.cost[np.arange(n), model].astype(np.float64).sum())
            assert cost == pytest.approx(claimed, rel=1e-4)
            gaps.append((cost - lowest) / lowest)
            violations |= broken(made, model)
    if name == "min-cost flow":
        gaps = []  # it solves another problem: no promise of quality
    elif name != "numpy subgradient":
        assert violations <= {"no answer"}
    benchmark.pedantic(lambda: None, rounds=1)
    record(f"{n}x{m}", name, seconds, gaps, violations)
