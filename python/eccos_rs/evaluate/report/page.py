"""One HTML page of sections and tables that needs nothing else, made for the screen and for A4."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from eccos_rs.evaluate.report.tables import Section, Table

__all__ = ["page"]


def page(
    title: str, sections: Iterable[Section], pictures: Mapping[str, tuple[str, str]] | None = None
) -> str:
    """Write a page.

    Parameters
    ----------
    title : str
    sections : iterable of Section
    pictures : mapping of str to (str, str)
        Caption and SVG in base64 of each figure that a section names; others are left out.
    """
    body = "".join(_section(section, pictures or {}) for section in sections)
    return _PAGE.format(title=html.escape(title), style=_STYLE, body=body)


def _section(section: Section, pictures: Mapping[str, tuple[str, str]]) -> str:
    parts = [f"<section><h2>{html.escape(section.title)}</h2>"]
    parts += [f"<p>{_inline(text)}</p>" for text in section.text]
    parts += [_table(table) for table in section.tables]
    for caption, picture in (pictures[name] for name in section.figures if name in pictures):
        parts.append(
            f'<figure><img alt="{html.escape(caption)}" src="data:image/svg+xml;base64,{picture}">'
            f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        )
    return "".join([*parts, "</section>"])


def _table(table: Table) -> str:
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
