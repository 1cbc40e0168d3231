"""The figures of one run, side by side."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Result:
    """One method on one size: medians over seeds."""

    size: str
    method: str
    milliseconds: float
    gap: float | None
    """Relative distance of what is returned from the best bound; None for a bound alone."""
    violation: str
    """Limits that are broken, or an empty string."""


RESULTS: list[Result] = []


def store() -> None:
    """Write what is known as JSON where ECCOS_BENCH_OUT says: a run cut short leaves its part."""
    place = os.environ.get("ECCOS_BENCH_OUT")
    if place:
        kept = {"machine": machine(), "load": os.getloadavg()[0], "results": [asdict(r) for r in RESULTS]}
        Path(place).write_text(json.dumps(kept, indent=1) + "\n")


def text() -> str:
    """Make the table."""
    lines = []
    for size in dict.fromkeys(r.size for r in RESULTS):
        rows = [r for r in RESULTS if r.size == size]
        ours = next((r.milliseconds for r in rows if r.method == "eccos"), None)
        lines.append(f"\n{size:<24}{'ms':>12}{'x eccos':>12}{'gap':>10}  violations")
        for row in rows:
            ratio = f"{row.milliseconds / ours:12,.1f}" if ours else f"{'':12}"
            gap = "" if row.gap is None else f"{row.gap:.1e}"
            lines.append(f"  {row.method:<22}{row.milliseconds:12,.3f}{ratio}{gap:>10}  {row.violation}")
    return machine() + "\n" + "\n".join(lines)


def machine() -> str:
    """Name the processor, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} logical processors; Python {platform.python_version()}"
