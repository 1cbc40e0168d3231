"""Peak memory and time per row of `eccos route --out-dir` beside the encoder, and of repeated kills.

    python -m benches.route_folder --rows 5000000            a Parquet file of short rows, given predictions
    python -m benches.route_folder --rows 20000 --kills 50   killed and resumed: rows lost

Predictions are given (drawn from a hash of the row): the time is that of reading, solving and writing.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from eccos_rs.bulk.job import FileJob
from eccos_rs.bulk.limits import check_policy
from eccos_rs.bulk.source import Source
from eccos_rs.pools.pool import LLM, Pool
from eccos_rs.predict.protocol import Prediction
from eccos_rs.routing.policy import Policy
from eccos_rs.routing.router import Router

MODELS = 6
NAMES = tuple(f"model-{at}" for at in range(MODELS))


class Given:
    """Predictions drawn from the first query of a slice: the same in every process, at no cost per row."""

    models = NAMES

    def predict(self, queries):
        """Return predictions; see `Predictor`."""
        n = len(queries)
        seed = sum(queries[0].prompt.encode()) + n if n else 0
        rng = np.random.default_rng(seed)
        quality = np.clip(rng.normal(np.linspace(0.4, 0.85, MODELS), 0.15, (n, MODELS)), 0, 1).astype(
            np.float32
        )
        tokens = rng.lognormal(5, 0.5, (n, MODELS)).astype(np.float32)
        return Prediction(NAMES, quality, tokens, 0.1 * quality, 0.1 * tokens, np.full(n, 20))


CHILD = [sys.executable, "-m", "benches.route_folder", "--child"]
"""One run in a process of its own, for its memory and to be killed."""


def job(source: Path, out: Path, part_rows: int) -> FileJob:
    prices = np.geomspace(0.1, 15.0, MODELS)
    pool = Pool(
        [LLM(name, float(price), 4 * float(price)) for name, price in zip(NAMES, prices, strict=True)]
    )
    return FileJob(
        Source([source], rows=part_rows),
        Router(pool, Given()),
        check_policy(Policy(min_quality=0.7), pool),
        out,
    )


def make_file(path: Path, rows: int) -> None:
    schema = pa.schema([("id", pa.int64()), ("query", pa.string()), ("team", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, 100_000):
            numbers = range(start, min(start + 100_000, rows))
            columns = {
                "id": list(numbers),
                "query": [f"What is {number} plus {number % 97}?" for number in numbers],
                "team": [f"team {number % 50}" for number in numbers],
            }
            writer.write_table(pa.table(columns, schema=schema))


def run(source: Path, out: Path, part_rows: int) -> dict[str, float]:
    started = time.perf_counter()
    made = job(source, out, part_rows)
    made.open(resume=True)
    summary = made.run()
    seconds = time.perf_counter() - started
    spent = resource.getrusage(resource.RUSAGE_SELF)
    cpu = spent.ru_utime + spent.ru_stime
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "rows": summary.rows, "seconds": seconds, "ms_per_row": 1e3 * seconds / max(summary.rows, 1),
        "cpu_ms_per_row": 1e3 * cpu / max(summary.rows, 1),
        "peak_mb": peak, "gap": summary.gap,
    }  # fmt: skip


def kill_again(source: Path, out: Path, part_rows: int, kills: int, rows: int) -> dict[str, int]:
    rng, done = random.Random(0), 0
    line = [*CHILD, str(source), str(out), str(part_rows)]
    while done < kills and not (out / "manifest.json").exists():
        process = subprocess.Popen(line, stdout=subprocess.DEVNULL)
        try:
            process.wait(rng.uniform(0.5, 3.0))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            done += 1
            process.wait()
    run(source, out, part_rows)
    parts = sorted(out.glob("part-*.parquet"))
    ids = np.concatenate([pq.read_table(part, columns=["row"])["row"].to_numpy() for part in parts])
    return {
        "kills": done,
        "rows_lost": rows - len(np.unique(ids)),
        "rows_doubled": len(ids) - len(np.unique(ids)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--part-rows", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--child", nargs=3)
    asked = parser.parse_args()
    if asked.child:
        print(json.dumps(run(Path(asked.child[0]), Path(asked.child[1]), int(asked.child[2]))))
        return
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "in.parquet", Path(folder) / "out"
        make_file(source, asked.rows)
        if asked.kills:
            print(json.dumps(kill_again(source, out, asked.part_rows, asked.kills, asked.rows)))
            return
        line = [*CHILD, str(source), str(out), str(asked.part_rows)]
        print(subprocess.run(line, check=True, capture_output=True, text=True).stdout.strip())


if __name__ == "__main__":
    main()
