"""Draws the pictures of docs/solver.md.

    python -m benches.solver.pictures docs/data/solver_bench.json docs/img

The first argument is what `make bench-solver` writes when ECCOS_BENCH_OUT names it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from scipy.optimize import linprog
from tests.helpers import problems, reference

from eccos_rs.solver.assignment import assign, frontier

if TYPE_CHECKING:
    from numpy.typing import NDArray

Floats = "NDArray[np.float64]"
OURS, GREY = "#c2410c", "#64748b"
OTHERS = ["#2563eb", "#0d9488", "#7c3aed", "#ca8a04", "#db2777", "#475569", "#65a30d", "#0891b2", "#94a3b8"]


def style() -> None:
    """One look for all."""
    plt.rcParams.update(
        {
            "figure.figsize": (7.2, 4.2),
            "figure.dpi": 130,
            "font.size": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.25,
            "legend.frameon": False,
        }
    )


def save(out: Path, name: str) -> None:
    """Write one picture."""
    plt.tight_layout()
    plt.savefig(out / f"solver-{name}.png")
    plt.close()


def dual_function(out: Path) -> None:
    """Draw g over one price: concave, made of straight pieces, and below every assignment."""
    instance = problems.make(24, 6, seed=5, load=float("inf"))
    rows = reference.rows(instance.cost, instance.quality, min_quality=instance.min_quality)
    found = assign(instance.cost, instance.quality, min_quality=instance.min_quality, tolerance=0.0)
    best = found.duals.requirement
    prices = np.linspace(0, 2.2 * best, 800)
    values = np.array([reference.dual(rows, np.array([y]))[0] for y in prices])
    plt.plot(prices * 1e3, values * 1e3, color=OURS, lw=2, label="$g(\\lambda)$: what the prices prove")
    for share in (0.25, 0.7, 1.7):
        g, slope, _ = reference.dual(rows, np.array([share * best]))
        span = np.array([share - 0.35, share + 0.35]) * best
        plt.plot(span * 1e3, (g + slope[0] * (span - share * best)) * 1e3, color=GREY, lw=1, ls="--")
    plt.axhline(found.cost * 1e3, color=OTHERS[0], lw=1.2, label="cost of the best assignment")
    plt.plot(best * 1e3, found.dual_bound * 1e3, "o", color=OURS, label="best price: the bound")
    plt.ylim(values.max() * 0.55e3, found.cost * 1.08e3)
    plt.xlabel("price of quality, dollars for 1,000 more good answers")
    plt.ylabel("total cost, dollars for 1,000 such batches")
    plt.legend(loc="lower center")
    save(out, "dual")


def cutting_planes(rows: reference.Rows, steps: int) -> list[float]:
    """Bound after each evaluation of g when the next prices are the top of all tangents."""
    k = len(rows.h)
    cuts, ends, best, y = [], [], [], np.zeros(k)
    for _ in range(steps):
        g, slope, _ = reference.dual(rows, y)
        best.append(max(g, best[-1]) if best else g)
        cuts.append(np.append(-slope, 1.0))
        ends.append(g - float(slope @ y))
        goal = np.append(np.zeros(k), -1.0)
        top = linprog(goal, np.array(cuts), ends, bounds=[(0, 1e4)] * k + [(None, None)], method="highs-ds")
        if top.status != 0:
            break
        y = top.x[:k]
    return best


def subgradient(rows: reference.Rows, steps: int, scale: NDArray[np.float64]) -> list[float]:
    """Bound after each evaluation of g along subgradient steps."""
    y, best = np.zeros(len(rows.h)), []
    for step in range(steps):
        g, slope, _ = reference.dual(rows, y)
        best.append(max(g, best[-1]) if best else g)
        y = np.maximum(0.0, y + 2.0 * 0.98**step * scale * slope)
    return best


def convergence(out: Path) -> None:
    """Draw how far the bound is from the best one after so many evaluations of g."""
    instance = problems.make(1024, 10, seed=1)
    n = len(instance.cost)
    mean = float(instance.cost.mean())
    rows = reference.rows(instance.cost / mean, instance.quality, **instance.keywords)
    found = assign(instance.cost, instance.quality, **instance.keywords)
    top = found.dual_bound / mean
    spread = float((rows.p.max(axis=1) - rows.p.min(axis=1)).mean())
    width = float((instance.quality.max(axis=1) - instance.quality.min(axis=1)).mean())
    scale = np.array([spread / width**2 if kind == "quality" else spread for kind in rows.kind]) / n
    for values, label, colour in (
        (subgradient(rows, 300, scale), "subgradient", OTHERS[0]),
        (cutting_planes(rows, 120), "cutting planes", OTHERS[1]),
    ):
        gaps = np.maximum((top - np.array(values)) / top, 1e-10)
        plt.semilogy(np.arange(1, len(gaps) + 1), gaps, color=colour, lw=1.6, label=label)
    plt.axvline(found.steps, color=OURS, lw=2, label=f"dual simplex: exact after {found.steps} steps")
    plt.axhline(found.gap, color=GREY, ls=":", lw=1.2, label=f"what whole queries cost: {found.gap:.0e}")
    plt.ylim(1e-10, 2)
    plt.xlabel("evaluations of $g$ (passes over 1,024 queries and 10 models)")
    plt.ylabel("distance from the best bound")
    plt.legend(loc="upper right")
    save(out, "convergence")


def curve(out: Path) -> None:
    """Draw the frontier, and what assign returns along it."""
    instance = problems.make(64, 6, seed=1)
    line = frontier(instance.cost, instance.quality, capacity=instance.capacity)
    plt.plot(
        line.quality, line.cost * 1e3, color=OURS, lw=1.8, label=f"frontier: {len(line)} breakpoints, exact"
    )
    floors = np.linspace(line.quality[0], line.quality[-1], 16)[1:-1]
    found = [
        assign(instance.cost, instance.quality, capacity=instance.capacity, min_quality=float(q))
        for q in floors
    ]
    plt.plot(
        [f.quality for f in found], [f.cost * 1e3 for f in found], "o", ms=4, color=OTHERS[0], label="assign"
    )
    for j in range(6):
        q, c = float(instance.quality[:, j].mean()), float(instance.cost[:, j].sum()) * 1e3
        if q <= line.quality[-1] * 1.05 and c <= line.cost[-1] * 1.5e3:
            plt.plot(q, c, "x", color=GREY)
            plt.annotate(
                f"all to model {j}",
                (q, c),
                textcoords="offset points",
                xytext=(5, -3),
                color=GREY,
                fontsize=8,
            )
    plt.xlabel("promised mean quality")
    plt.ylabel("total cost of 64 queries, thousandths of a dollar")
    plt.legend()
    save(out, "frontier")


def sweeps(results: list[dict[str, Any]], out: Path) -> None:
    """Draw time and gap against the number of queries, ten models."""
    names = [n for n in dict.fromkeys(r["method"] for r in results) if not n.startswith("eccos")]
    for field, label, name in (
        ("milliseconds", "milliseconds, one core", "time"),
        ("gap", "distance from the bound of the relaxation", "gap"),
    ):
        for method in ["eccos", "eccos, exact", *names]:
            rows = [r for r in results if r["method"] == method and r["size"].endswith("x10") and r[field]]
            if not rows:
                continue
            ours = method.startswith("eccos")
            colour = OURS if ours else GREY if method == "one numpy pass" else OTHERS[names.index(method) % 9]
            plt.loglog(
                [int(r["size"].split("x")[0]) for r in rows],
                [max(r[field], 1e-10) for r in rows],
                marker="o",
                ms=4 if not ours else 5,
                lw=2.2 if ours else 1.2,
                ls="--" if method in ("one numpy pass", "eccos, exact") else "-",
                color=colour,
                label=method,
            )
        plt.xlabel("queries (10 models)")
        plt.ylabel(label)
        plt.legend(fontsize=8, ncol=2)
        save(out, name)


def main() -> None:
    """Draw everything."""
    stored, out = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    style()
    dual_function(out)
    convergence(out)
    curve(out)
    sweeps(stored["results"], out)


if __name__ == "__main__":
    main()
