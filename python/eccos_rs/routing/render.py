"""A plan as text: what `print`, a notebook and the command line show."""

from __future__ import annotations

import math
import unicodedata
from typing import TYPE_CHECKING, Any, Protocol

from eccos_rs.routing.uses import LimitUse, use_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eccos_rs.routing.policy import Policy
    from eccos_rs.routing.promise import Margin
    from eccos_rs.solver.assignment import Assignment, Status

__all__ = [
    "COLUMNS",
    "TOKENS_PER_SECOND",
    "cells",
    "gap_cells",
    "money",
    "one_line",
    "plan_text",
    "response_words",
    "shown_rows",
    "stage_lines",
    "summary",
]

COLUMNS = ("#", "query", "model", "success", "out tokens", "cost", "runner-up")
"""The column headers; see `cells`."""

TOKENS_PER_SECOND = 50.0
"""How fast an LLM is taken to answer where nothing is said: a usual speed of a hosted model."""


class ShownRow(Protocol):
    """What is shown of a `PlanRow`."""

    @property
    def index(self) -> int: ...
    @property
    def query(self) -> str: ...
    @property
    def model(self) -> str | None: ...
    @property
    def quality(self) -> float | None: ...
    @property
    def output_tokens(self) -> float | None: ...
    @property
    def cost(self) -> float | None: ...
    @property
    def runner_up(self) -> str | None: ...
    @property
    def runner_up_quality(self) -> float | None: ...


class BaselineRow(Protocol):
    """What is shown of a `Baseline`."""

    @property
    def name(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def cost(self) -> float: ...
    @property
    def quality(self) -> float: ...


class Shown(Protocol):
    """What is shown of a `Plan`; see there."""

    @property
    def status(self) -> Status: ...
    @property
    def assignment(self) -> Assignment: ...
    @property
    def policy(self) -> Policy: ...
    @property
    def explanation(self) -> str | None: ...
    @property
    def total_cost(self) -> float: ...
    @property
    def mean_quality(self) -> float: ...
    @property
    def promised(self) -> float | None: ...
    @property
    def basis(self) -> str | None: ...
    @property
    def margin(self) -> Margin | None: ...
    @property
    def baselines(self) -> Sequence[BaselineRow]: ...
    @property
    def limits(self) -> Sequence[LimitUse]: ...
    @property
    def familiar(self) -> float | None: ...
    @property
    def warnings(self) -> Sequence[str]: ...
    @property
    def deferred(self) -> Any: ...
    @property
    def seconds(self) -> Mapping[str, float]: ...
    @property
    def overhead(self) -> float: ...
    def response_seconds(self, tokens_per_second: float = ...) -> float: ...
    def row(self, index: int) -> ShownRow: ...
    def reason(self, index: int) -> str: ...
    def __len__(self) -> int: ...


_STATUS_WORDS = {
    "optimal": "every limit holds, and nothing is better by more than the tolerance",
    "feasible": "every limit holds; a better answer could gain no more than the gap below",
    "quality_unreachable": "the highest mean success there is, short of what was promised",
    "budget_unreachable": "the cheapest assignment there is, above the budget",
    "row_unreachable": "a side row cannot be kept",
    "undecided": "the nearest that was found in the time; whether every limit can hold is not proven",
    "overloaded": "more queries than the capacities hold; what fits is assigned, the rest deferred",
}

_ROWS = 30
"""How many rows are printed before the middle is left out."""

_TIMES = 2.0
"""From this ratio on a cost is shown as a ratio, below it in per cent."""

_READ = 400
"""Characters of a query that are looked at for its line: a query may hold millions."""


def money(dollars: float) -> str:
    """Write US dollars so that four figures are seen, whatever the size."""
    if dollars == 0 or abs(dollars) >= 100:
        return f"${dollars:,.2f}"
    decimals = min(12, max(4, 3 - math.floor(math.log10(abs(dollars)))))
    return f"${dollars:.{decimals}f}"


def one_line(text: str) -> str:
    """Return the beginning of a text on one line, without what would disturb a terminal."""
    # Control characters, surrogates and direction marks (Cc, Cs, Cf) would move the cursor or turn the line.
    kept = (" " if char.isspace() or unicodedata.category(char)[0] == "C" else char for char in text[:_READ])
    return " ".join("".join(kept).split()) or "(empty)"


def cells(row: ShownRow) -> tuple[str, ...]:
    """Return the row of the table under `COLUMNS`."""
    if row.model is None:
        return str(row.index + 1), one_line(row.query), "- deferred -", "", "", "", ""
    runner_up = (
        "" if row.runner_up is None else f"{row.runner_up} ({100 * (row.runner_up_quality or 0):.0f} %)"
    )
    return (
        str(row.index + 1),
        one_line(row.query),
        row.model,
        f"{100 * (row.quality or 0):.1f} %",
        f"{row.output_tokens:,.0f}",
        f"${row.cost:.6f}",
        runner_up,
    )


def summary(plan: Shown) -> list[tuple[str, str]]:
    """Return what holds for the whole batch, as label and text."""
    if not len(plan):
        return [("status", f"{plan.status}: an empty batch")]
    answer = plan.assignment
    lines = [("status", f"{plan.status}: {_STATUS_WORDS[str(plan.status)]}")]
    if plan.explanation is not None:
        lines.append(("why", plan.explanation))
    charged = sum(use.charge for use in plan.limits)
    beside = f", {money(charged)} of it charges" if charged else ""
    lines.append(("total cost", f"{money(plan.total_cost)} for {_count(plan)}{beside}"))
    for baseline in plan.baselines:
        lines.append(
            (f"all to the {baseline.name}", _against(plan, baseline.model, baseline.cost, baseline.quality))
        )
    some = len(plan.deferred) < len(plan)
    predicted = f"predicted {100 * plan.mean_quality:.2f} %" if some else "no query is assigned"
    if plan.promised is not None:
        predicted += f", promised {100 * plan.promised:.2f} %{_of_strongest(plan)}"
    lines.append(("mean success", predicted))
    for use in plan.limits:
        if use.kind != "shared" or use.price:
            lines.append(("limit", f"{use.name}: {use_words(use, money)}"))
    if plan.margin is not None:
        lines.append(("this batch", _margin_words(plan.margin, plan.policy)))
    lines.append(("certified gap", f"{_percent(answer.gap)}: {_bound(plan)}"))
    if plan.basis is not None:
        lines.append(("resting on", plan.basis))
    if plan.familiar is not None:
        lines.append(("known ground", f"{100 * plan.familiar:.0f} % of the queries are like it"))
    lines += [("warning", words) for words in plan.warnings]
    return lines


def _margin_words(margin: Margin, policy: Policy) -> str:
    sure = f"with {100 * margin.confidence:g} % confidence"
    if policy.budget is not None:
        most = "" if margin.upper_cost is None else f"at most {money(margin.upper_cost)} {sure}: "
        return f"{most}{money(margin.cost)} of the budget are held back"
    costs = f"a margin of {100 * margin.points:.2f} points, which costs {money(margin.cost)}"
    return f"at least {100 * margin.lower_bound:.2f} % {sure}: {costs}"


def stage_lines(plan: Shown, tokens_per_second: float = TOKENS_PER_SECOND) -> list[tuple[str, str, str]]:
    """Return stage, time and share of the LLM response time for each stage, the total last."""
    response = plan.response_seconds(tokens_per_second)
    stages = [*plan.seconds.items(), ("all", plan.overhead)]
    return [
        (name, f"{1e3 * took:.2f} ms", f"{100 * took / response:.4f} %" if response > 0 else "-")
        for name, took in stages
    ]


def response_words(plan: Shown, tokens_per_second: float = TOKENS_PER_SECOND) -> str:
    """Say what the times of the stages are compared with."""
    seconds = plan.response_seconds(tokens_per_second)
    return f"the {seconds:,.0f} s that the models take to write the answers at {tokens_per_second:g} tokens/s"


def plan_text(plan: Shown) -> str:
    """Return a plain text table with what holds for the batch below it."""
    lines = []
    if len(plan):
        shown = shown_rows(plan)
        table = [COLUMNS, *(cells(plan.row(index)) if index >= 0 else gap_cells(plan) for index in shown)]
        lines = [*_aligned(table), ""]
    labels = summary(plan)
    if len(plan):
        share = stage_lines(plan)[-1]
        labels.append(("routing took", f"{share[1]}, {share[2]} of {response_words(plan)}"))
    width = max(len(label) for label, _ in labels)
    return "\n".join([*lines, *(f"{label:<{width}}  {text}" for label, text in labels)])


def _count(plan: Shown) -> str:
    left = len(plan.deferred)
    count = f"{len(plan) - left} quer{'y' if len(plan) - left == 1 else 'ies'}"
    return f"{count}, {left} deferred" if left else count


def _against(plan: Shown, model: str, cost: float, quality: float) -> str:
    """Compare the batch with a baseline, unless some are deferred: then the two hold different queries."""
    words = f"{model}: {money(cost)}, {100 * quality:.2f} %"
    if len(plan.deferred) or cost <= 0:
        return words
    points, ratio = 100 * (plan.mean_quality - quality), plan.total_cost / cost
    times = f"{100 * ratio:.1f} % of it" if ratio <= _TIMES else f"{ratio:.1f} times as much"
    return f"{words}; this plan costs {times} at {points:+.2f} points"


def _of_strongest(plan: Shown) -> str:
    share = plan.policy.relative_quality
    return "" if share is None else f" ({100 * share:g} % of the strongest)"


def _percent(gap: float) -> str:
    return f"{100 * gap:,.0f} %" if gap >= 1 else f"{100 * gap:.2g} %"


def _bound(plan: Shown) -> str:
    """Say what no other assignment can beat."""
    bound, goal, status = plan.assignment.bound, plan.assignment.goal, plan.status
    if status == "quality_unreachable":
        return f"none reaches more than {100 * bound:.2f} %"
    if status == "budget_unreachable":
        return f"none costs less than {money(bound)}"
    if goal == "budget":
        return f"none within the budget reaches more than {100 * bound:.2f} %"
    if goal == "quality_value":
        return f"none has less cost minus value than {money(bound)}"
    return f"none that keeps the promise costs less than {money(bound)}"


def shown_rows(plan: Shown) -> list[int]:
    """Return which rows are shown; -1 stands for those that are left out."""
    count = len(plan)
    if count <= _ROWS:
        return list(range(count))
    half = _ROWS // 2
    return [*range(half), -1, *range(count - half, count)]


def gap_cells(plan: Shown) -> tuple[str, ...]:
    """Return the row that stands for those that are left out."""
    return "", f"… {len(plan) - 2 * (_ROWS // 2):,} more …", "", "", "", "", ""


def _aligned(table: list[tuple[str, ...]], query_width: int = 48) -> list[str]:
    from rich.cells import cell_len, set_cell_size

    cut = [
        tuple(_cut(cell, query_width) if at == 1 else cell for at, cell in enumerate(row)) for row in table
    ]
    widths = [max(cell_len(row[at]) for row in cut) for at in range(len(COLUMNS))]
    lines = []
    for row in cut:
        padded = []
        for at, cell in enumerate(row):
            numeric = COLUMNS[at] in ("#", "success", "out tokens", "cost")
            space = " " * (widths[at] - cell_len(cell))
            padded.append(space + cell if numeric else set_cell_size(cell, widths[at]))
        lines.append("  ".join(padded).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return lines


def _cut(text: str, width: int) -> str:
    from rich.cells import cell_len, set_cell_size

    return text if cell_len(text) <= width else set_cell_size(text, width - 1).rstrip() + "…"
