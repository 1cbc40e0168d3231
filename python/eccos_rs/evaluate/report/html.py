"""The report as Markdown, as one printable HTML page, as JSON, and on the terminal."""

from __future__ import annotations

import base64
import dataclasses
import html
import io
import json
import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.evaluate.report.plots import figures
from eccos_rs.evaluate.report.sections import sections

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from eccos_rs.evaluate.report.tables import Section, Table
    from eccos_rs.evaluate.study import Study

__all__ = ["CAPTIONS", "LEAD", "as_html", "as_json", "as_markdown", "print_report"]

#: Version of the JSON report.
SCHEMA_VERSION = 1

#: What stands at the head of the documentation's page.
LEAD = (
    "Made by `make results DATA=…`: the public data are split by text into five parts, and each part is "
    "judged with a router that was trained on the other four. The same page for your own data: "
    "`eccos evaluate DATA --folds 5 --out results`."
)

CAPTIONS = {
    "curves": "Realised quality against realised cost. Points: routers without an operating point.",
    "limits": "How far the joint assignment is ahead in every setting.",
    "prior-work": "Joint minus per query with the same scores, budget by budget.",
    "reliability": "Forecast against outcome in 15 bins of equal mass: all pairs, and the chosen ones.",
    "promises": "Realised minus predicted quality of the chosen pairs, with 95 % intervals.",
    "shares": "Which models the joint assignment uses as more money is there.",
}


def as_json(study: Study) -> str:
    """Write everything that was found as JSON; what is not defined or not finite is null."""
    comparisons = {setting.name: each for setting, each in study.comparisons.items()}
    whole = {
        "schema_version": SCHEMA_VERSION,
        **{f.name: getattr(study, f.name) for f in dataclasses.fields(study)},
    }
    return json.dumps(_plain({**whole, "comparisons": comparisons}), indent=1, allow_nan=False)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: _plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset | np.ndarray):
        return [_plain(each) for each in value]
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float):
        # Seven digits are more than any of these figures has.
        return float(f"{value:.7g}") if math.isfinite(value) else None
    return value


def as_markdown(study: Study, images: Mapping[str, str], title: str = "Results", lead: str = "") -> str:
    """Write the report as Markdown.

    Parameters
    ----------
    study : Study
        What was found.
    images : mapping of str to str
        Figure name to the address its picture is linked by; figures that are not in it are left out.
    title, lead : str
        Heading, and a paragraph below it.
    """
    lines = [f"# {title}", ""]
    if lead:
        lines += [lead, ""]
    for section in sections(study):
        lines += [f"## {section.title}", ""]
        for text in section.text:
            lines += [text, ""]
        for table in section.tables:
            lines += [*_markdown_table(table), ""]
            if table.note:
                lines += [f"*{table.note}*", ""]
        for name in section.figures:
            if name in images:
                lines += [f"![{CAPTIONS[name]}]({images[name]})", "", f"*{CAPTIONS[name]}*", ""]
    return "\n".join(lines).rstrip() + "\n"


def _markdown_table(table: Table) -> list[str]:
    def row(cells: list[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    bold = [
        [f"**{cell}**" if line[0] in table.strong and cell else cell for cell in line] for line in table.rows
    ]
    return [row(table.columns), "|---" + "|---:" * (len(table.columns) - 1) + "|", *map(row, bold)]


def as_html(study: Study, title: str = "Evaluation of an LLM router") -> str:
    """Write one page that needs nothing else: styles and pictures inside, made for the screen and for A4."""
    drawn = {}
    for name, figure in figures(study):
        stream = io.BytesIO()
        figure.savefig(stream, format="svg", metadata={"Date": None})
        drawn[name] = base64.b64encode(stream.getvalue()).decode()
    body = "".join(_html_section(section, drawn) for section in sections(study))
    return _PAGE.format(title=html.escape(title), style=_STYLE, body=body)


def _html_section(section: Section, drawn: Mapping[str, str]) -> str:
    parts = [f"<section><h2>{html.escape(section.title)}</h2>"]
    parts += [f"<p>{_inline(text)}</p>" for text in section.text]
    parts += [_html_table(table) for table in section.tables]
    parts += [
        f'<figure><img alt="{html.escape(CAPTIONS[name])}" src="data:image/svg+xml;base64,{drawn[name]}">'
        f"<figcaption>{html.escape(CAPTIONS[name])}</figcaption></figure>"
        for name in section.figures
        if name in drawn
    ]
    return "".join([*parts, "</section>"])


def _html_table(table: Table) -> str:
    head = "".join(f"<th>{_inline(cell)}</th>" for cell in table.columns)
    rows = "".join(
        f"<tr{' class=strong' if line[0] in table.strong else ''}>"
        + "".join(f"<td>{_inline(cell)}</td>" for cell in line)
        + "</tr>"
        for line in table.rows
    )
    words = " class=words" if len(table.columns) == 2 else ""
    note = f"<p class=note>{_inline(table.note)}</p>" if table.note else ""
    inside = f"<table{words}><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f"<div class=table>{inside}{note}</div>"


def _inline(text: str) -> str:
    """Escape, then set what stands between double stars in bold and between backticks as code."""
    bold = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", html.escape(text))
    return re.sub(r"`(.+?)`", r"<code>\1</code>", bold)


def print_report(study: Study, console: Console) -> None:
    """Print the report's tables."""
    from rich.markup import escape

    from eccos_rs.domain.tables import light_table

    for section in sections(study):
        console.rule(f"[bold]{escape(section.title)}", align="left")
        for text in section.text:
            console.print(escape(re.sub(r"\*\*(.+?)\*\*|`(.+?)`", r"\1\2", text)))
        for table in section.tables:
            shown = light_table(caption=escape(table.note) or None)
            for number, column in enumerate(table.columns):
                shown.add_column(
                    escape(column), justify="right" if number and len(table.columns) > 2 else "left"
                )
            for line in table.rows:
                shown.add_row(*map(escape, line), style="bold" if line[0] in table.strong else None)
            console.print(shown)
        console.print()


_STYLE = """
:root { color-scheme: light }
* { box-sizing: border-box }
body { font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; color: #1c1c1c; background: #fff;
  max-width: 68rem; margin: 2rem auto; padding: 0 1.2rem }
h1 { font-size: 1.7rem; margin: 0 0 1rem; border-bottom: 3px solid #0072B2; padding-bottom: .4rem }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; color: #0072B2 }
p { max-width: 52rem }
.table { overflow-x: auto; margin: .8rem 0 1.2rem }
table { border-collapse: collapse; font-size: .84rem; font-variant-numeric: tabular-nums }
th { text-align: right; vertical-align: bottom; border-bottom: 1.5px solid #444; padding: .25rem .55rem;
max-width: 11rem }
td { text-align: right; padding: .22rem .55rem; border-bottom: 1px solid #e6e6e6; vertical-align: top }
th:first-child, td:first-child, .words th, .words td { text-align: left; max-width: none }
tr.strong td { font-weight: 650; background: #eef5fa }
.note { font-size: .8rem; color: #555; margin: .4rem 0 0 }
figure { margin: 1rem 0 1.4rem }
img { width: 100%; height: auto }
figcaption { font-size: .8rem; color: #555 }
@page { size: A4; margin: 14mm 12mm }
@media print {
  body { font-size: 9.5pt; max-width: none; margin: 0; padding: 0 }
  h2 { break-after: avoid; margin-top: 1.1rem }
  table { font-size: 7pt; width: 100% }
  .note, figcaption { font-size: 7.5pt }
  p { max-width: none }
  th, td { padding: .14rem .25rem }
  .table { overflow: visible }
  tr, figure { break-inside: avoid }
  thead { display: table-header-group }
}
"""

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{style}</style></head>
<body><h1>{title}</h1>{body}</body></html>
"""
