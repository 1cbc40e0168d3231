"""One HTML page of sections and tables that needs nothing else, made for the screen and for A4."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from eccos_rs.evaluate.report.tables import Section, Table
    from eccos_rs.evaluate.verdict import Verdict

__all__ = ["page"]


def page(
    title: str,
    sections: Iterable[Section],
    pictures: Mapping[str, tuple[str, str]] | None = None,
    *,
    verdict: Verdict | None = None,
) -> str:
    """Write a page: the verdict on top, then contents, then the sections.

    Parameters
    ----------
    title : str
    sections : iterable of Section
    pictures : mapping of str to (str, str)
        Caption and SVG in base64 of each figure that a section names; others are left out.
    verdict : Verdict, optional
        Whether to deploy.
    """
    shown = list(sections)
    names = [f"part-{number}" for number in range(1, len(shown) + 1)]
    links = "".join(
        f'<li><a href="#{name}">{html.escape(section.title)}</a></li>'
        for name, section in zip(names, shown, strict=True)
    )
    parts = [] if verdict is None else [_verdict(verdict)]
    if len(shown) >= _CONTENTS:
        parts.append(f'<nav aria-label="Contents"><ol>{links}</ol></nav>')
    parts += [_section(name, section, pictures or {}) for name, section in zip(names, shown, strict=True)]
    return _PAGE.format(title=html.escape(title), style=_STYLE, body="".join(parts))


_CONTENTS = 3
"""From so many sections on, a page lists them on top."""


def _verdict(verdict: Verdict) -> str:
    kind = verdict.decision.replace(" ", "-")
    return f'<p class="verdict {kind}"><b>Verdict</b> {html.escape(verdict.sentence)}</p>'


def _section(name: str, section: Section, pictures: Mapping[str, tuple[str, str]]) -> str:
    parts = [f'<section id="{name}"><h2>{html.escape(section.title)}</h2>']
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
:root { color-scheme: light dark; --text: #1c1c1c; --soft: #555; --ground: #fff; --line: #e6e6e6;
  --rule: #444; --blue: #0072b2; --strong: #eef5fa; --deploy: #00715a; --do-not: #b34700;
  --undecided: #6b5a00 }
@media (prefers-color-scheme: dark) {
  :root { --text: #e4e6e8; --soft: #a6adb4; --ground: #16191c; --line: #30363c; --rule: #8b939b;
    --blue: #62b5e5; --strong: #1d2a34; --deploy: #3ecba5; --do-not: #f2935a; --undecided: #e0c84a }
}
* { box-sizing: border-box }
body { font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; color: var(--text);
  background: var(--ground); max-width: 68rem; margin: 2rem auto; padding: 0 1.2rem }
h1 { font-size: 1.7rem; margin: 0 0 1rem; border-bottom: 3px solid var(--blue); padding-bottom: .4rem;
  overflow-wrap: anywhere }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; color: var(--blue) }
a { color: var(--blue) }
p { max-width: 52rem; overflow-wrap: break-word }
.verdict { font-size: 1.1rem; max-width: none; padding: .7rem 1rem; border-left: 6px solid var(--mark);
  background: var(--strong); --mark: var(--undecided) }
.verdict b { color: var(--mark); text-transform: uppercase; font-size: .8rem; letter-spacing: .06em;
  margin-right: .5rem }
.verdict.deploy { --mark: var(--deploy) }
.verdict.do-not { --mark: var(--do-not) }
nav ol { margin: 1rem 0; padding-left: 1.6rem; columns: 18rem; column-gap: 2.5rem }
nav li { break-inside: avoid; padding: .1rem 0 }
.table { overflow-x: auto; margin: .8rem 0 1.2rem }
table { border-collapse: collapse; font-size: .84rem; font-variant-numeric: tabular-nums }
th { text-align: right; vertical-align: bottom; border-bottom: 1.5px solid var(--rule);
  padding: .25rem .55rem; max-width: 11rem }
td { text-align: right; padding: .22rem .55rem; border-bottom: 1px solid var(--line); vertical-align: top }
th:first-child, td:first-child, .words th, .words td { text-align: left; max-width: none }
tr.strong td { font-weight: 650; background: var(--strong) }
.note { font-size: .8rem; color: var(--soft); margin: .4rem 0 0 }
figure { margin: 1rem 0 1.4rem; overflow-x: auto }
img { width: 100%; min-width: 36rem; height: auto; background: #fff; border-radius: 4px }
figcaption { font-size: .8rem; color: var(--soft) }
@media (max-width: 40rem) {
  body { margin: 1rem auto; padding: 0 .8rem }
  h1 { font-size: 1.35rem }
}
@page { size: A4; margin: 14mm 12mm }
@media print {
  :root { color-scheme: light; --text: #1c1c1c; --soft: #555; --ground: #fff; --line: #e6e6e6; --rule: #444;
    --blue: #0072b2; --strong: #eef5fa; --deploy: #00715a; --do-not: #b34700; --undecided: #6b5a00 }
  body { font-size: 9.5pt; max-width: none; margin: 0; padding: 0 }
  nav { display: none }
  h2 { break-after: avoid; margin-top: 1.1rem }
  table { font-size: 7pt; width: 100% }
  .note, figcaption { font-size: 7.5pt }
  p { max-width: none }
  th, td { padding: .14rem .25rem }
  .table, figure { overflow: visible }
  img { min-width: 0 }
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
