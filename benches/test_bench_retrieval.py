"""Search: the graph beside the exact search, from a thousand to a million vectors, and its recall.

A graph of a million takes most of an hour to build on two cores, so that one is timed only with
ECCOS_BENCH_MILLION=1, which builds it, or with the path of such a graph; the exact search of a million is
always timed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benches.settings import ONCE
from eccos_rs.predict.index import ExactIndex, HnswIndex, open_index
from eccos_rs.predict.retrieval import vector_file

SIZES = (1000,) if ONCE else (1000, 4000, 10_000, 100_000, 1_000_000)
BATCHES = (1, 256)
K = 64
MILLION = os.environ.get("ECCOS_BENCH_MILLION", "")


def grown(vectors: Any, count: int, seed: int) -> Any:
    """Return vectors that lie like the bundle's own: between two of them, with some noise."""
    rng = np.random.default_rng(seed)
    out = np.empty((count, vectors.shape[1]), dtype=np.float32)
    for start in range(0, count, 50_000):
        size = min(50_000, count - start)
        one, two = (vectors[rng.integers(0, len(vectors), size)] for _ in range(2))
        share = rng.uniform(0.5, 1, size=(size, 1)).astype(np.float32)
        mixed = share * one + (1 - share) * two
        mixed += rng.normal(scale=0.012, size=one.shape).astype(np.float32)
        out[start : start + size] = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
    return out


@pytest.fixture(scope="module")
def built(known: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Graphs by size, each built once, with their vectors and what is asked of them."""
    import hnswlib

    from eccos_rs.predict.device import allowed_cores

    folder, made = tmp_path_factory.mktemp("graphs"), {}

    def build(size: int) -> tuple[HnswIndex, Any, Any]:
        if size not in made:
            given = Path(MILLION) if size == 10**6 else Path()
            path = given if given.is_file() else folder / f"{size}.bin"
            if not path.is_file():
                vectors = grown(known, size, seed=size)
                index = hnswlib.Index(space="ip", dim=vectors.shape[1])
                index.init_index(size, M=16, ef_construction=200 if size < 10**6 else 100)
                index.add_items(vectors, np.arange(size), num_threads=allowed_cores())
                index.save_index(str(path))
            made.clear()
            made[size] = _opened(path, known.shape[1], size)
        return made[size]

    return build


def _opened(path: Path, dimension: int, size: int) -> tuple[HnswIndex, Any, Any]:
    """Open a graph with the least `ef` that finds 0.98 of the 16 nearest."""
    vectors = HnswIndex(path, dimension, size).vectors()
    asked = grown(vectors[: min(size, 8192)], 256, seed=5)
    wanted = ExactIndex(vectors).search(asked, 16)[1]
    for ef in (K, 80, 96, 128, 200, 300, 400, 600, 800, 1200):
        index = HnswIndex(path, dimension, size, ef=ef)
        if _recall(index.search(asked, K)[1][:, :16], wanted) >= 0.98:
            break
    return index, asked, wanted


def _recall(found: Any, wanted: Any) -> float:
    shared = [len(set(a) & set(b)) / len(b) for a, b in zip(found, wanted, strict=True)]
    return float(np.mean(shared))


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("size", SIZES)
def test_graph(timed: Any, built: Any, say: Any, size: int, batch: int) -> None:
    if size == 10**6 and not MILLION:
        pytest.skip("set ECCOS_BENCH_MILLION=1, or to the path of such a graph")
    index, asked, wanted = built(size)
    recall = _recall(index.search(asked, K)[1][:, :16], wanted)
    assert recall >= 0.98
    seconds = timed(
        lambda: index.search(asked[:batch], K),
        queries=batch,
        rounds=20,
        table="search",
        way="graph",
        size=size,
        recall=recall,
        ef=index.ef,
    )
    if seconds:
        say(
            f"graph of {size:>9,} vectors, batch {batch:>3}: {1e6 * seconds / batch:8.0f} µs a query, "
            f"recall@16 {recall:.4f} at ef {index.ef}"
        )


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("size", SIZES)
def test_exact_search(timed: Any, known: Any, say: Any, size: int, batch: int) -> None:
    index = ExactIndex(grown(known, size, seed=size))
    asked = grown(known, batch, seed=5)
    assert (np.diff(index.search(asked, K)[0], axis=1) <= 0).all()
    seconds = timed(
        lambda: index.search(asked, K),
        queries=batch,
        rounds={10**5: 3, 10**6: 1}.get(size, 20),
        table="search",
        way="exact",
        size=size,
    )
    if seconds:
        say(f"exact search of {size:>9,} vectors, batch {batch:>3}: {1e6 * seconds / batch:8.0f} µs a query")


def test_recall_of_the_shipped_bundle(bundle: Any, known: Any, say: Any, timed: Any) -> None:
    """Recall of the bundle's search as it is opened, at 16 and all neighbours, against float32."""
    table = bundle.table("retrieval")
    index = open_index(vector_file(bundle), known.shape[1], len(known), ef=int(table.get("ef", 0)))
    asked = grown(known, 512, seed=9)
    near = int(table["neighbours"])
    found, wanted = index.search(asked, near)[1], np.argsort(-(asked @ known.T), axis=1)[:, :near]
    recall = {k: _recall(found[:, :k], wanted[:, :k]) for k in (16, near)}
    assert recall[16] >= 0.98
    say(f"the shipped bundle: recall@16 {recall[16]:.4f}, recall@{near} {recall[near]:.4f}")
    timed(
        lambda: index.search(asked[:1], near),
        queries=1,
        rounds=20,
        table="shipped",
        size=len(known),
        recall=recall[16],
        way="exact" if isinstance(index, ExactIndex) else "graph",
    )
