"""What the benches share: the shipped bundle, their texts, and the table of ratios at the end."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING, Any

import pytest

from benches.settings import MEAN_OUTPUT_TOKENS, ONCE, TOKENS_PER_SECOND
from eccos_rs.predict.open import open_predictor

if TYPE_CHECKING:
    from collections.abc import Callable

    from eccos_rs.predict.bundle import Bundle

_LINES: list[str] = []


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    from eccos_rs.predict.bundle import Bundle

    return Bundle.load()


@pytest.fixture(scope="session")
def predictor(bundle: Bundle) -> Any:
    """Open the hybrid predictor on the CPU without its cache: every query goes through every stage."""
    return open_predictor(bundle, "hybrid", device="cpu", cache_size=0)


@pytest.fixture(scope="session")
def of_length(predictor: Any) -> Callable[[int, int], list[str]]:
    """Make queries of a wanted number of word pieces."""
    from benches.texts import texts_of_length

    def lengths(given: list[str]) -> list[int]:
        return [len(ids) for ids in predictor._tokenizer(given).ids]

    return lambda pieces, count: texts_of_length(pieces, count, lengths)


@pytest.fixture(scope="session")
def router(bundle: Bundle, predictor: Any) -> Any:
    from eccos_rs import Pool, Router

    return Router(Pool.load(bundle.pool_path), predictor)


@pytest.fixture(scope="session")
def known(bundle: Bundle) -> Any:
    """Read the vectors of the bundle's labelled queries."""
    from eccos_rs.predict.index import read_vectors
    from eccos_rs.predict.retrieval import vector_file

    rows = int(bundle.table("retrieval")["rows"])
    return read_vectors(vector_file(bundle), int(bundle.table("encoder")["dimension"]), rows)


@pytest.fixture
def timed(benchmark: Any) -> Callable[..., float]:
    """Run a function for a few rounds; returns its best time in seconds (0 when benches run untimed)."""

    def measure(
        work: Callable[[], object],
        *,
        queries: int,
        rounds: int = 5,
        before: Callable[[], None] | None = None,
        **info: object,
    ) -> float:
        # What `tables.py` reads: the table, and the names of the row.
        benchmark.extra_info.update(info, queries=queries)
        if benchmark.disabled or ONCE:
            if before is not None:
                before()
            benchmark(work)
            return 0.0
        warmup = 1 if rounds > 2 else 0
        benchmark.pedantic(work, setup=before, rounds=rounds, iterations=1, warmup_rounds=warmup)
        return float(benchmark.stats.stats.min)

    return measure


@pytest.fixture(scope="session")
def say() -> Callable[[str], None]:
    """Keep a line for the summary."""
    return _LINES.append


def pytest_benchmark_update_machine_info(config: Any, machine_info: dict[str, Any]) -> None:
    """Say in the JSON what the figures depend on."""
    import onnxruntime

    from eccos_rs.predict.bundle import Bundle
    from eccos_rs.predict.device import allowed_cores, cpu_name, has_int8_dot_products

    machine_info["eccos"] = {
        "processor": cpu_name(),
        "cores": allowed_cores(),
        "int8": has_int8_dot_products(),
        "onnxruntime": onnxruntime.__version__,
        "bundle": f"{Bundle.load().name} {Bundle.load().digest[:12]}",
        "tokens": MEAN_OUTPUT_TOKENS,
        "tokens_per_second": TOKENS_PER_SECOND,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if _LINES:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        terminalreporter.section(f"figures on {platform.processor() or platform.machine()}, {cores} cores")
        for line in _LINES:
            terminalreporter.write_line(line)
