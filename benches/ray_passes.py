"""Passes on Ray beside one process that holds the columns, over given predictions; both in one run.

    python -m benches.ray_passes --rows 10000000 --shards 8

Says passes and certified gap of the cluster's answer, its seconds (without starting Ray and loading) and
those of one `assign` over the same arrays, and checks that the two agree within the gap.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from eccos_rs import assign
from eccos_rs.bulk.joint import solve_shards
from eccos_rs.bulk.passes import Goal, Rows
from eccos_rs.integrations.ray import RayPasses, import_ray
from eccos_rs.integrations.ray_actors import PREFIX, read_rows


def shard(rows: int, models: int, seed: int) -> Rows:
    """Return rows of one domain: shards differ in what is hard, as real files do."""
    rng = np.random.default_rng(seed)
    skill, price = np.linspace(-1, 2, models), np.geomspace(1, 60, models) * 1e-6
    hard = rng.normal(0.1 * seed, 1.0, size=(rows, 1))
    noise = rng.normal(size=(rows, models))
    quality = (1 / (1 + np.exp(hard - skill - 0.5 * noise))).astype(np.float32)
    cost = price * rng.lognormal(5, 1, size=(rows, 1)) * rng.lognormal(0, 0.3, size=(rows, models))
    return Rows(cost, quality, np.ones((rows, models), dtype=np.bool_))


def write(path: Path, rows: Rows) -> None:
    columns, allowed = {}, rows.allowed.view(np.uint8)
    for name, array in (
        ("cost", rows.cost),
        ("quality", rows.quality),
        ("allowed", allowed),
    ):
        flat = pa.array(array.reshape(-1))
        columns[f"{PREFIX}{name}"] = pa.FixedSizeListArray.from_arrays(flat, array.shape[1])
    pq.write_table(pa.table(columns), path, compression="zstd")


def on_ray(files, goal, capacity, options):
    """Return the answer, the seconds to load and the seconds of the passes."""
    ray = import_ray()
    ray.init(
        "local", num_cpus=options.workers, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
    )
    try:
        with RayPasses(files, options.models, workers=options.workers) as passes:
            start = time.perf_counter()
            passes.size()
            loaded = time.perf_counter()
            found = solve_shards(passes, goal, capacity=capacity)
            return found, loaded - start, time.perf_counter() - loaded
    finally:
        ray.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--models", type=int, default=10)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--tight", type=float, default=0.0, help="capacities hold this many times the rows")
    options = parser.parse_args()
    models, each = options.models, options.rows // options.shards
    capacity = (
        np.full(models, np.ceil(options.tight * each * options.shards / models)) if options.tight else None
    )
    goal = Goal("min_quality", 0.55)
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{at:05d}.parquet" for at in range(options.shards)]
        for at, file in enumerate(files):
            write(file, shard(each, models, at))
        found, loaded, cluster = on_ray(files, goal, capacity, options)
        whole = Rows.joined([read_rows(file) for file in files])
    start = time.perf_counter()
    one = assign(
        whole.cost, whole.quality, min_quality=goal.value, capacity=capacity, tolerance=1e-7, threads=1
    )
    alone = time.perf_counter() - start
    assert found.quality >= goal.value - 1e-9
    assert abs(found.cost - one.cost) <= (found.gap + one.gap + 1e-9) * one.cost
    told = {
        "rows": len(whole), "models": models, "shards": options.shards, "workers": options.workers,
        "passes": found.passes, "gap": found.gap, "gap of one process": one.gap,
        "seconds to load": loaded, "seconds on Ray": cluster, "seconds in one process": alone,
        "times one process": cluster / alone,
    }  # fmt: skip
    print(json.dumps({name: float(f"{value:.3g}") for name, value in told.items()}, indent=1))


if __name__ == "__main__":
    main()
