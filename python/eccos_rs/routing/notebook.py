"""A plan as a notebook shows it."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from eccos_rs.routing.render import COLUMNS, cells, gap_cells, shown_rows, summary

if TYPE_CHECKING:
    from eccos_rs.routing.render import Shown, ShownRow

__all__ = ["plan_html"]

# Colours come from the notebook's own theme, light or dark: lines and bars are its ink, thinned.
_STYLE = """<style>
.eccos-plan { font-variant-numeric: tabular-nums; }
.eccos-plan table { border-collapse: collapse; margin: 0 0 .8em; }
.eccos-plan th, .eccos-plan td { border: 0; padding: .25em .7em; text-align: left; vertical-align: top; }
.eccos-plan thead th { border-bottom: 1px solid; white-space: nowrap; }
.eccos-plan tbody tr { border-bottom: 1px solid color-mix(in srgb, currentColor 15%, transparent); }
.eccos-plan .number { text-align: right; white-space: nowrap; }
.eccos-plan .query { max-width: 32em; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.eccos-plan .model { font-weight: 600; white-space: nowrap; }
.eccos-plan .runner-up { white-space: nowrap; }
.eccos-plan .deferred, .eccos-plan .left-out { opacity: .6; font-style: italic; }
.eccos-plan .success { background-size: var(--share) 100%; background-repeat: no-repeat;
  background-image: linear-gradient(color-mix(in srgb, #0072b2 25%, transparent) 0 0); }
.eccos-plan .totals th { font-weight: 600; white-space: nowrap; }
.eccos-plan .warning { border-left: 3px solid #d55e00; }
</style>"""

_NUMBERS = ("#", "success", "out tokens", "cost")


def plan_html(plan: Shown) -> str:
    """Return the table of a plan, with what holds for the batch below it; every row's title is its reason."""
    body = []
    for index in shown_rows(plan):
        if index < 0:
            middle = escape(gap_cells(plan)[1])
            body.append(f'<tr class="left-out"><td></td><td colspan="{len(COLUMNS) - 1}">{middle}</td></tr>')
        else:
            body.append(_row(plan.row(index), plan.reason(index)))
    heads = (f'<th class="number">{n}</th>' if n in _NUMBERS else f"<th>{escape(n)}</th>" for n in COLUMNS)
    totals = "".join(_total(label, text) for label, text in summary(plan))
    table = f"<table><thead><tr>{''.join(heads)}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    return (
        f'{_STYLE}<div class="eccos-plan">{table if body else ""}<table class="totals">{totals}</table></div>'
    )


def _row(row: ShownRow, reason: str) -> str:
    made = []
    for name, cell in zip(COLUMNS, cells(row), strict=True):
        text = escape(cell)
        if name == "success" and row.quality is not None:
            share = f"{100 * row.quality:.1f}%"
            made.append(f'<td class="number success" style="--share: {share}">{text}</td>')
        elif name in _NUMBERS:
            made.append(f'<td class="number">{text}</td>')
        elif name == "model":
            made.append(f'<td class="{"deferred" if row.model is None else "model"}">{text}</td>')
        elif name == "query":
            made.append(f'<td class="query">{text}</td>')
        else:
            made.append(f'<td class="runner-up">{text}</td>')
    return f'<tr title="{escape(reason, quote=True)}">{"".join(made)}</tr>'


def _total(label: str, text: str) -> str:
    mark = ' class="warning"' if label == "warning" else ""
    return f"<tr{mark}><th>{escape(label)}</th><td>{escape(text)}</td></tr>"
