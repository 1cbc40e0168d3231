"""Plans as tables for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from rich.columns import Columns
from rich.padding import Padding
from rich.segment import Segment, Segments
from rich.text import Text

from eccos_rs.domain.tables import light_table
from eccos_rs.routing.render import cells, response_words, stage_lines, summary

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from eccos_rs.routing.plan import Plan

__all__ = ["show_plan"]

_MODEL_STYLES = ("green", "cyan", "blue", "yellow", "magenta", "red")
"""From the cheapest model to the dearest."""

_RUNNER_UP_WIDTH = 110
"""Columns from which the second choice fits beside the query."""

_GAP = 3
"""Columns between two cells."""

_GOOD, _FAIR = 0.75, 0.5

_STATUS_STYLES = {"optimal": "bold green", "feasible": "green"}


def show_plan(console: Console, plan: Plan, *, why: bool, tokens_per_second: float) -> None:
    """Print every row, who gets how much, what holds for the batch, and what routing took."""
    if len(plan):
        styles = _styles(plan)
        _print_rows(console, plan, styles, why=why)
        # Side by side where that fits, else below each other.
        console.print(Columns([_shares(plan, styles), _stages(plan, tokens_per_second)], padding=(0, 3)))
    # The tables above stand one column in.
    console.print(Padding(_summary(plan, tokens_per_second), (0, 0, 0, 1)))


def _styles(plan: Plan) -> dict[str, str]:
    """Give each model a colour by its rank in price."""
    total = plan.problem.cost.sum(axis=0)
    names = [plan.pool.names[column] for column in total.argsort(kind="stable").tolist()]
    last = len(_MODEL_STYLES) - 1
    span = max(1, len(names) - 1)
    return {name: _MODEL_STYLES[round(rank * last / span)] for rank, name in enumerate(names)}


def _print_rows(console: Console, plan: Plan, styles: dict[str, str], *, why: bool) -> None:
    """Print a line for each query; with `why` its reason below, which needs the whole width."""
    table = _rows(plan, styles, wide=console.width >= _RUNNER_UP_WIDTH)
    if not why:
        console.print(table)
        return
    lines = console.render_lines(table, console.options, pad=False)
    head = len(lines) - table.row_count - 1  # a blank line ends the table
    indent = len(str(len(plan))) + _GAP + 1
    for at, line in enumerate(lines):
        console.print(Segments([*line, Segment.line()]), end="")
        if 0 <= at - head < len(plan):
            reason = Text(plan.reason(at - head), style="dim")
            console.print(Padding(reason, (0, 0, 0, indent)))


def _rows(plan: Plan, styles: dict[str, str], *, wide: bool) -> Table:
    table = light_table(expand=True)
    table.add_column("#", justify="right", style="dim", no_wrap=True)
    table.add_column("query", ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column("model", no_wrap=True)
    for head in ("success", "tokens", "cost"):
        table.add_column(head, justify="right", no_wrap=True)
    if wide:
        table.add_column("runner-up", style="dim", no_wrap=True)
    for row in plan:
        number, query, model, success, tokens, cost, runner_up = cells(row)
        line = [
            Text(number),
            Text(query, style="dim" if query == "(empty)" else ""),
            Text(model, style=styles.get(model, "bold red")),
            Text(success, style=_success_style(row.quality)),
            Text(tokens),
            Text(cost),
        ]
        if wide:
            line.append(Text(runner_up))
        table.add_row(*line)
    return table


def _success_style(quality: float | None) -> str:
    if quality is None:
        return ""
    return "green" if quality >= _GOOD else "yellow" if quality >= _FAIR else "red"


def _shares(plan: Plan, styles: dict[str, str]) -> Table:
    """Say which model gets how many queries and how much of the money."""
    table = light_table()
    table.add_column("model", no_wrap=True)
    table.add_column("queries", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("cost", justify="right", no_wrap=True)
    most = max(1, int(np.bincount(plan.assignment.model + 1)[1:].max(initial=0)))
    for name, style in styles.items():
        rows = plan.assignment.model == plan.pool.index(name)
        count = int(rows.sum())
        cost = float(plan.cost[rows].sum())
        bar = "█" * round(16 * count / most) or ("▏" if count else "")
        table.add_row(Text(name, style=style), str(count), Text(f"{bar:<16}", style=style), f"${cost:.6f}")
    return table


def _stages(plan: Plan, tokens_per_second: float) -> Table:
    """Say what each stage took and its share of the time the models will take to answer."""
    table = light_table()
    where = "" if plan.device is None else f" ({plan.device})"
    table.add_column(f"stage{where}", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("share", justify="right", no_wrap=True)
    for name, took, share in stage_lines(plan, tokens_per_second):
        table.add_row(name, took, share, style="bold" if name == "all" else "")
    return table


def _summary(plan: Plan, tokens_per_second: float) -> Table:
    table = light_table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    lines = summary(plan)
    if len(plan):
        lines.append(("share", f"of {response_words(plan, tokens_per_second)}"))
    for label, text in lines:
        style = _STATUS_STYLES.get(str(plan.status), "bold yellow") if label == "status" else ""
        table.add_row(label, Text(text, style=style))
    return table
