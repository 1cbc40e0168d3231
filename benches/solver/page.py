"""Writes what was measured into the tables of docs/solver.md, between their markers.

    python -m benches.solver.page docs/data/solver_bench.json docs/data/against_highs.json docs/solver.md

The first file is what `make bench-solver` writes when ECCOS_BENCH_OUT names it, the second comes from
`against_highs.py`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benches import markers

LABELS = {
    "eccos": "**eccos**",
    "eccos, two threads": "eccos, two threads",
    "eccos, exact": "eccos, `tolerance=0`",
    "one numpy pass": "one pass over the data (numpy `argmin`)",
    "scipy milp": "scipy `milp` (HiGHS), gap 1e-4",
    "HiGHS simplex": "HiGHS simplex, relaxation only",
    "HiGHS IPM": "HiGHS interior point, relaxation only",
    "GLOP": "GLOP, relaxation only",
    "PDLP": "PDLP, relaxation only",
    "CP-SAT": "CP-SAT, one worker",
    "min-cost flow": "OR-tools min-cost flow, no promise of quality",
    "PuLP + CBC": "PuLP and CBC in the manner of AIOS",
    "numpy subgradient": "subgradient in numpy, 300 steps, greedy repair",
}
"""The rows, in their order."""

NEVER = "–"
Rows = dict[tuple[str, str], dict[str, Any]]


def milliseconds(value: float) -> str:
    """Write a time with about three digits."""
    for least, form in ((10.0, ",.0f"), (1.0, ".1f"), (0.1, ".2f")):
        if value >= least:
            return format(value, form)
    return f"{value:.3f}"


def times(rows: Rows, method: str, size: str) -> str:
    """Write one cell: the time, and for the others how many times ours."""
    row, ours = rows.get((method, size)), rows[("eccos", size)]
    if row is None:
        return NEVER
    if row["violation"] == "no answer":
        return f"no answer in {row['milliseconds'] / 1e3:.0f} s"
    cell = milliseconds(row["milliseconds"])
    if method.startswith("eccos") or method == "one numpy pass":
        return cell
    ratio = row["milliseconds"] / ours["milliseconds"]
    return f"{cell} ({ratio:,.{0 if ratio >= 10 else 1}f}x)"


def gaps(rows: Rows, method: str, size: str) -> str:
    """Write one cell: the gap."""
    row = rows.get((method, size))
    return NEVER if row is None or row["gap"] is None else f"{row['gap']:.1e}"


def table(corner: str, rows: Rows, cell: Any, methods: list[str]) -> str:
    """Draw one table: a method a line, a size a column."""
    sizes = list(dict.fromkeys(size for _, size in rows))
    heads = [f"{int(n):,} x {m}" for n, m in (size.split("x") for size in sizes)]
    lines = [[LABELS[method], *(cell(rows, method, size) for size in sizes)] for method in methods]
    drawn = [[corner, *heads], ["---"] * (len(sizes) + 1), *lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in drawn)


def against(counted: dict[str, Any]) -> str:
    """Draw what came of the random instances."""
    counts = {name: value for name, value in counted.items() if isinstance(value, int)}
    total = counts.pop("instances")
    counts.pop("first seed")
    missed = {name: counts.pop(name, 0) for name in ("missed in default mode", "missed in exact mode")}
    lines = [
        [f"of {total:,} instances", ""],
        ["---"] * 2,
        ["something wrong (bound, optimum, certificate, limits)", str(len(counted["wrong"]))],
        *([name, f"{value:,}"] for name, value in {**counts, **missed}.items()),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(bench: str, highs: str, page: str) -> None:
    """Fill the page."""
    stored = json.loads(Path(bench).read_text())
    rows: Rows = {(row["method"], row["size"]): row for row in stored["results"]}
    known = {method for method, _ in rows}
    answering = {method for (method, _), row in rows.items() if row["gap"] is not None}
    made = {
        "machine": f"{stored['machine']}; load {stored['load']:.1f} at the end.",
        "times": table("milliseconds", rows, times, [name for name in LABELS if name in known]),
        "gaps": table("gap", rows, gaps, [name for name in LABELS if name in answering]),
        "against": against(json.loads(Path(highs).read_text())),
    }
    text, filled = markers.fill(Path(page).read_text(encoding="utf-8"), made.get)
    if sorted(filled) != sorted(made):
        raise SystemExit(f"{page} has the tables {', '.join(filled)}, wanted each of {', '.join(made)} once")
    Path(page).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
