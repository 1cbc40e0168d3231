"""Ten thousand random instances against HiGHS: bound, feasibility and optimum of each.

Half of them have every feature in every mixture (`tests/helpers/small.py`), half come from the
families of `tests/helpers/problems.py`. For each the dual bound must be the optimum of the relaxation, what
exact mode proves must be the integer optimum, and the certificate must hold; how often an assignment is
missed is counted.

    python -m benches.solver.against_highs --count 10000 --out docs/data/against_highs.json
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from tests.helpers import outside, reference, small

from benches.solver import table
from eccos_rs import Assignment, Status, assign, certify

MET = (Status.OPTIMAL, Status.FEASIBLE)


def draw(seed: int) -> dict[str, Any]:
    """Draw one instance."""
    return small.draw(seed, most=12) if seed % 2 else small.draw_family(seed)


class WrongError(Exception):
    """Something that must hold does not."""


def compare(problem: dict[str, Any], count: Counter[str], seconds: Counter[str]) -> None:
    """Solve it both ways, count what came out, and raise when something is wrong."""
    rows = reference.rows(**problem)
    start = perf_counter()
    quick = assign(**problem)
    middle = perf_counter()
    exact = assign(**problem, tolerance=0.0, node_limit=20_000, time_limit=20.0)
    seconds["default"] += middle - start
    seconds["exact"] += perf_counter() - middle
    for found, tolerance in ((quick, 1e-4), (exact, 0.0)):
        proof = certify(assignment=found, **problem, tolerance=tolerance)
        if not proof:
            raise WrongError(repr(proof))
        if found.status in MET and (reference.excess(rows, found.model) > 0).any():
            raise WrongError("an assignment that breaks a limit is called feasible")
    start = perf_counter()
    relaxed = outside.highs_lp(rows)
    middle = perf_counter()
    best = None if relaxed is None else outside.highs_milp(rows, time_limit=30.0)
    seconds["HiGHS relaxation"] += middle - start
    seconds["HiGHS integer"] += perf_counter() - middle
    for found in (quick, exact):
        judge_bound(problem, rows, found, relaxed)
    if best is not None and (reference.excess(rows, best[1]) > 0).any():
        # HiGHS counts 1e-6 of a row as met; that is no assignment of the stated problem.
        count["HiGHS oversteps a limit"] += 1
    elif best is None:
        found = exact.status in MET
        count["HiGHS calls a tight problem infeasible" if found else "no assignment exists"] += 1
    else:
        count["missed in default mode"] += quick.status not in MET
        count[judge_optimum(rows, exact, best[0])] += 1


def judge_optimum(rows: reference.Rows, exact: Assignment, best: float) -> str:
    """Compare the objective of exact mode with HiGHS' optimum."""
    if exact.status not in MET:
        return "missed in exact mode"
    ours, size = reference.value(rows, exact.model), float(np.abs(rows.p[rows.may]).max())
    worse = ours > best + 1e-6 * abs(best) + 1e-7 * size
    if exact.status != Status.OPTIMAL:
        return "optimum not found within the nodes" if worse else "optimum found, not proven within the nodes"
    if worse:
        raise WrongError(f"called optimal at {ours}, HiGHS has {best}")
    return "optimum found and proven"


def judge_bound(
    problem: dict[str, Any], rows: reference.Rows, found: Assignment, relaxed: float | None
) -> None:
    """Compare the dual bound with the optimum of the relaxation."""
    if relaxed is None or found.status not in MET:
        return
    bound = found.dual_bound * (-len(found.model) if "budget" in problem else 1.0)
    size = max(abs(relaxed), 0.05 * float(np.abs(rows.p).max(axis=1).sum()))
    # HiGHS may use the slack of the requirement, and that has a price.
    slack = found.duals.requirement * float(max(rows.slack, default=0.0))
    if abs(bound - relaxed) > 1e-6 * size + slack:
        raise WrongError(f"dual bound {bound}, HiGHS has {relaxed}")


Tally = tuple[Counter[str], Counter[str], list[str]]


def stretch(first: int, count: int) -> Tally:
    """Compare a stretch of seeds."""
    warnings.filterwarnings("ignore")
    counted: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    wrong: list[str] = []
    for seed in range(first, first + count):
        try:
            compare(draw(seed), counted, seconds)
        except AssertionError as error:  # HiGHS gave up
            counted[f"HiGHS stopped: {str(error)[:60]}"] += 1
        except WrongError as error:
            wrong.append(f"seed {seed}: {error}")
    return counted, seconds, wrong


def main() -> int:
    """Run, report, and record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument(
        "--jobs", type=int, default=4, help="processes; HiGHS mostly waits for its own threads"
    )
    parser.add_argument("--out", type=Path, help="JSON file for the result")
    asked = parser.parse_args()
    starts = range(asked.first, asked.first + asked.count, 100)
    sizes = [min(100, asked.first + asked.count - start) for start in starts]
    counted: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    wrong: list[str] = []
    with ProcessPoolExecutor(asked.jobs) as pool:
        for more, longer, faults in pool.map(stretch, starts, sizes):
            counted.update(more)
            seconds.update(longer)
            wrong += faults
            print(sum(counted.values()), "compared", *faults, sep="\n  ", flush=True)
    result = {
        "instances": asked.count,
        "first seed": asked.first,
        "wrong": wrong,
        **{name: times for name, times in counted.most_common() if times},
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "machine": table.machine(),
    }
    print(json.dumps(result, indent=2))
    if asked.out:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        asked.out.write_text(json.dumps(result, indent=2) + "\n")
    return int(bool(wrong))


if __name__ == "__main__":
    raise SystemExit(main())
