"""The report as Markdown, as one printable HTML page, as JSON, and on the terminal."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.evaluate.report.page import page
from eccos_rs.evaluate.report.plots import figures
from eccos_rs.evaluate.report.sections import sections

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rich.console import Console

    from eccos_rs.evaluate.report.tables import Section, Table
    from eccos_rs.evaluate.study import Study

__all__ = ["CAPTIONS", "LEAD", "as_html", "as_json", "as_markdown", "print_report", "print_sections"]

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
    worth = None if study.worth is None else study.worth.to_dict()
    whole = {
        "schema_version": SCHEMA_VERSION,
        **{f.name: getattr(study, f.name) for f in dataclasses.fields(study)},
    }
    return json.dumps(
        _plain({**whole, "comparisons": comparisons, "worth": worth}), indent=1, allow_nan=False
    )


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
    if study.worth is not None:
        lines += [f"**Verdict: {study.worth.sentence}**", ""]
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
    pictures = {name: (CAPTIONS[name], picture) for name, picture in drawn.items()}
    return page(title, sections(study), pictures, verdict=study.worth)


def print_report(study: Study, console: Console) -> None:
    """Print the report's tables."""
    print_sections(sections(study), console)
    if study.worth is not None:
        from rich.markup import escape

        console.print(escape(f"verdict: {study.worth.sentence}"))


def print_sections(shown: Iterable[Section], console: Console) -> None:
    """Print sections with their texts and tables."""
    from rich.markup import escape

    from eccos_rs.domain.tables import light_table

    for section in shown:
        console.rule(f"[bold]{escape(section.title)}", align="left")
        for text in section.text:
            console.print(escape(re.sub(r"\*\*(.+?)\*\*|`(.+?)`", r"\1\2", text)))
        for table in section.tables:
            made = light_table(caption=escape(table.note) or None)
            for number, column in enumerate(table.columns):
                made.add_column(
                    escape(column), justify="right" if number and len(table.columns) > 2 else "left"
                )
            for line in table.rows:
                made.add_row(*map(escape, line), style="bold" if line[0] in table.strong else None)
            console.print(made)
        console.print()
