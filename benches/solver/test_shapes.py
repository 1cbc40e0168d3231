"""What is or once was slow by its shape: equal columns, a frontier with capacities, many models."""

from __future__ import annotations

import os
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.helpers import problems

from benches.solver import table
from eccos_rs import Status, assign, certify, frontier

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

ONCE = bool(os.environ.get("ECCOS_BENCH_ONCE"))


def best(call: Any, rounds: int = 5) -> tuple[float, Any]:
    """Median milliseconds of some rounds, and what the last one returned."""
    found = []
    for _ in range(1 if ONCE else rounds):
        start = perf_counter()
        kept = call()
        found.append(perf_counter() - start)
    return float(np.median(found)) * 1e3, kept


def record(size: str, method: str, milliseconds: float, gap: float | None) -> None:
    table.RESULTS.append(table.Result(size, method, milliseconds, gap, ""))
    table.store()


@pytest.mark.parametrize("n", [2000] if ONCE else [10_000, 100_000, 1_000_000])
def test_equal_columns(benchmark: BenchmarkFixture, n: int) -> None:
    """Nine models, and the same with model 3 at two endpoints of half its capacity."""
    made = problems.make(n, 9, seed=1)
    again = [*range(9), 3]
    capacity = made.keywords["capacity"][again]
    capacity[[3, 9]] = np.floor(0.5 * capacity[3])
    two = {**made.keywords, "capacity": capacity}
    cost, quality = made.cost[:, again], made.quality[:, again]
    alone, _ = best(lambda: assign(made.cost, made.quality, **made.keywords, threads=1))
    apart, found = best(lambda: assign(cost, quality, **two, threads=1))
    assert found.status is Status.OPTIMAL
    assert certify(cost, quality, found, **two)
    benchmark.pedantic(lambda: None, rounds=1)
    record(f"{n}x9", "eccos", alone, None)
    record(f"{n}x9", "eccos, one model at two endpoints", apart, found.gap)


@pytest.mark.parametrize("n", [500] if ONCE else [1000, 4000, 16_000, 64_000])
def test_frontier(benchmark: BenchmarkFixture, n: int) -> None:
    """Every breakpoint of the curve within capacities; some of them beside the bound of a solve there."""
    made = problems.make(n, 10, seed=1)
    limits = {"capacity": made.keywords["capacity"]}
    milliseconds, curve = best(lambda: frontier(made.cost, made.quality, **limits), rounds=1)
    assert curve.complete
    for t in np.linspace(0, len(curve) - 1, 9).astype(int):
        floor = float(curve.quality[t]) * (1 - 1e-9)
        found = assign(made.cost, made.quality, min_quality=floor, **limits)
        relaxed = 2e-9 * floor * found.quality_price
        assert abs(found.dual_bound - curve.cost[t]) <= 1e-7 * curve.cost[t] + relaxed
    benchmark.pedantic(lambda: None, rounds=1)
    record(f"{n}x10, {len(curve)} breakpoints", "eccos, frontier", milliseconds, None)


@pytest.mark.parametrize("n", [64] if ONCE else [1024, 10_000, 100_000])
def test_many_models(benchmark: BenchmarkFixture, n: int) -> None:
    m = 32 if ONCE else 256
    made = problems.make(n, m, seed=1)
    rounds = 3 if n < 100_000 else 1
    milliseconds, found = best(lambda: assign(made.cost, made.quality, **made.keywords, threads=1), rounds)
    assert found.status in (Status.FEASIBLE, Status.OPTIMAL)
    benchmark.pedantic(lambda: None, rounds=1)
    record(f"{n}x{m}", "eccos", milliseconds, found.gap)
