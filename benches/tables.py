"""Writes what `make bench` measured into the tables of a page, between their markers.

    python -m benches.tables results/bench.json [more.json …] docs/performance.md

The first file says on what machine; what a later one measured takes the place of the same in an earlier one.
A table of which nothing was measured is left as it is; see `markers`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benches import markers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Runs = list[dict[str, Any]]


def read(report: dict[str, Any]) -> dict[str, Runs]:
    """Return the runs of each table: what `conftest.timed` was told, and the best seconds a query."""
    tables: dict[str, Runs] = {}
    for each in report["benchmarks"]:
        info, stats = dict(each["extra_info"]), each["stats"]
        if "table" in info and stats and stats.get("min"):
            info["seconds"] = stats["min"] / info["queries"]
            tables.setdefault(info["table"], []).append(info)
    return tables


def ms(seconds: float) -> str:
    return f"{1e3 * seconds:.2f}" if seconds < 0.00995 else f"{1e3 * seconds:.1f}"


def us(seconds: float) -> str:
    return f"{1e6 * seconds:,.0f}"


def grid(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    names = list(head)
    return "\n".join([f"| {' | '.join(names)} |", "|---" * len(names) + "|", *lines])


def conditions(report: dict[str, Any]) -> str:
    said = report["machine_info"]["eccos"]
    kind = "int8" if said["int8"] else "float32"
    python = report["machine_info"]["python_version"]
    return (
        f"Machine: {said['processor']}, {said['cores']} cores usable, load {said['load']:.1f} at the end. "
        f"ONNX Runtime {said['onnxruntime']}, {kind} graph, Python {python}, bundle {said['bundle']}, "
        f"{report['datetime'][:10]}."
    )


def _by_length(run: dict[str, Any]) -> tuple[int, int, str, int]:
    known = {"short": 0, "mixed": 1, "long": 2}
    return known.get(run["kind"], 3), len(run["kind"]), run["kind"], run["queries"]


def whole(runs: Runs, said: dict[str, Any]) -> str:
    answer = said["tokens"] / said["tokens_per_second"]
    return grid(
        ("queries", "batch", "ms per query", "share of an answer", "all but the encoder, ms"),
        (
            (
                run["kind"],
                f"{run['queries']:,}",
                ms(run["seconds"]),
                f"{run['seconds'] / answer:.3%}",
                ms(run["beside"] / run["queries"]),
            )
            for run in sorted(runs, key=_by_length)
        ),
    )


def stages(runs: Runs, _: dict[str, Any]) -> str:
    """One row a batch size, one column a stage."""
    names = list(dict.fromkeys(run["stage"] for run in runs))
    took = {(run["stage"], run["queries"]): us(run["seconds"]) for run in runs}
    batches = sorted({run["queries"] for run in runs})
    rows = ([f"{batch:,}", *(took.get((name, batch), "") for name in names)] for batch in batches)
    return grid(("batch", *(f"{name}, µs" for name in names)), rows)


def rivals(runs: Runs, _: dict[str, Any]) -> str:
    """One row a rival, ours first."""
    names = list(dict.fromkeys(run["rival"] for run in runs))
    batches = sorted({run["queries"] for run in runs})
    took = {(run["rival"], run["queries"]): run["seconds"] for run in runs}

    def cells(name: str) -> Iterable[str]:
        yield name
        for batch in batches:
            seconds, ours = took.get((name, batch)), took.get((names[0], batch))
            if seconds is None or ours is None:
                yield ""
            else:
                yield ms(seconds) + ("" if name == names[0] else f" ({seconds / ours:.1f} times)")

    return grid(("way", *(f"batch {batch}, ms per query" for batch in batches)), map(cells, names))


def search(runs: Runs, _: dict[str, Any]) -> str:
    sizes, batches = sorted({run["size"] for run in runs}), sorted({run["queries"] for run in runs})
    of = {(run["way"], run["size"], run["queries"]): run for run in runs}

    def cells(size: int) -> Iterable[str]:
        yield f"{size:,}"
        graph = [of.get(("graph", size, batch)) for batch in batches]
        yield from ("not run" if run is None else us(run["seconds"]) for run in graph)
        first = next((run for run in graph if run is not None), None)
        yield "" if first is None else f"{first['recall']:.3f} (ef {first['ef']})"
        for batch in batches:
            run = of.get(("exact", size, batch))
            yield "not run" if run is None else us(run["seconds"])

    head = [f"graph, batch {batch}" for batch in batches]
    exact = [f"exact, batch {batch}" for batch in batches]
    return grid(("vectors", *head, "recall@16", *exact), map(cells, sizes))


def shipped(runs: Runs, _: dict[str, Any]) -> str:
    run = runs[0]
    return (
        f"The search of the shipped bundle ({run['size']:,} vectors, {run['way']}) finds {run['recall']:.3f} "
        f"of the 16 nearest in {us(run['seconds'])} µs."
    )


def precision(runs: Runs, _: dict[str, Any]) -> str:
    return grid(
        ("graph", "threads", "ms per query of ~128 tokens, batch 16"),
        ((run["variant"], str(run["threads"]), ms(run["seconds"])) for run in runs),
    )


def cache(runs: Runs, _: dict[str, Any]) -> str:
    ordered = sorted(runs, key=lambda run: run["share"])
    return grid(
        ("share of a batch of 64 that was seen before", "ms per query"),
        ((f"{run['share']:.0%}", ms(run["seconds"])) for run in ordered),
    )


TABLES: dict[str, Callable[[Runs, dict[str, Any]], str]] = {
    each.__name__: each for each in (whole, stages, rivals, search, shipped, precision, cache)
}


def fill(page: str, report: dict[str, Any]) -> tuple[str, list[str]]:
    """Return the page with its tables made anew, and the names of those that were."""
    runs, said = read(report), report["machine_info"]["eccos"]

    def made(name: str) -> str | None:
        if name == "conditions":
            return conditions(report)
        return TABLES[name](runs[name], said) if name in runs else None

    return markers.fill(page, made)


def merged(reports: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the first report with the runs of all."""
    runs = {each["fullname"]: each for report in reports for each in report["benchmarks"]}
    return {**reports[0], "benchmarks": list(runs.values())}


def main(*results: str, page: str) -> None:
    report = merged([json.loads(Path(each).read_text(encoding="utf-8")) for each in results])
    text, filled = fill(Path(page).read_text(encoding="utf-8"), report)
    Path(page).write_text(text, encoding="utf-8")
    print(f"{page}: {', '.join(filled) or 'no table'} made of {', '.join(results)}")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    main(*sys.argv[1:-1], page=sys.argv[-1])
