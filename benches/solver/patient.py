"""One anchor on one instance with all the time it needs, between two timings of `assign` on the same data.

    python benches/solver/patient.py "HiGHS IPM" --size 100000x10 --seconds 1500

For what does not end within the minute that `make bench-solver` gives. Writes one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

import anchors
import table

import problems
from eccos_rs import assign


def milliseconds(made: problems.Instance, rounds: int = 21) -> tuple[float, Any]:
    """Median time of `assign` on one thread, and its answer."""
    seconds = []
    for _ in range(rounds):
        start = perf_counter()
        found = assign(made.cost, made.quality, **made.keywords, threads=1)
        seconds.append(perf_counter() - start)
    return float(np.median(seconds)) * 1e3, found


def main() -> None:
    """Run one anchor and print what was measured."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("anchor", choices=anchors.ANCHORS)
    asked.add_argument("--size", default="100000x10", help="queries x models")
    asked.add_argument("--seed", type=int, default=1)
    asked.add_argument("--seconds", type=float, default=1500.0, help="limit of the anchor")
    asked.add_argument("--out", type=Path, help="write the JSON here too")
    options = asked.parse_args()
    anchors.SECONDS = options.seconds
    n, m = map(int, options.size.split("x"))
    made = problems.make(n, m, seed=options.seed)
    before, found = milliseconds(made)
    solve = anchors.ANCHORS[options.anchor](made)
    start, used = perf_counter(), process_time()
    _, claimed = solve()
    taken, used = perf_counter() - start, process_time() - used
    after, _ = milliseconds(made)
    answered = bool(np.isfinite(claimed))
    measured = {
        "machine": table.machine(),
        "command": " ".join(["python benches/solver/patient.py", f'"{options.anchor}"', *sys.argv[2:]]),
        "anchor": options.anchor,
        "size": options.size,
        "seconds": taken,
        "processor_seconds": used,
        "answered": answered,
        "objective": claimed if answered else None,
        "eccos_milliseconds": [before, after],
        "eccos_dual_bound": found.dual_bound,
        "ratio": taken * 1e3 / max(before, after),
    }
    text = json.dumps(measured, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
