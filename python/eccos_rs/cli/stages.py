"""Progress of a run over files: rows, rate and time left of each stage."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

__all__ = ["stage_bars"]

_WORDS = {"predict": "predicting", "write": "writing", "ask": "asking"}


@contextmanager
def stage_bars(files: Sequence[Path], *, share: float = 1.0) -> Iterator[Callable[[str, int], object]]:
    """Show a bar for each stage on standard error, on a terminal alone.

    Yields
    ------
    callable
        Takes the stage and the rows just done.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from eccos_rs.cli.common import console

    shown = console(stderr=True)
    if not shown.is_terminal:
        yield lambda stage, rows: None
        return
    total = max(1, round(share * sum(map(_count_rows, files))))
    rate = TextColumn("{task.fields[rate]}")
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn()
    tasks: dict[str, Any] = {}
    with Progress(*columns, console=shown, transient=True) as bar:

        def advance(stage: str, rows: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(_WORDS.get(stage, stage), total=total, rate="")
            bar.advance(tasks[stage], rows)
            speed = next((task.speed for task in bar.tasks if task.id == tasks[stage]), None)
            bar.update(tasks[stage], rate="" if not speed else f"{speed:,.0f} rows/s")

        yield advance


def _count_rows(file: Path) -> int:
    """Return how many rows a file has, about: lines of a text are counted, quoted ones among them."""
    from eccos_rs.records.files import parquet
    from eccos_rs.records.forms import detect_layout, open_bytes

    if detect_layout(file).form == "parquet":
        with parquet().ParquetFile(file) as opened:
            return int(opened.metadata.num_rows)
    with open_bytes(file) as stream:
        return sum(block.count(b"\n") for block in iter(lambda: stream.read(1 << 20), b""))
