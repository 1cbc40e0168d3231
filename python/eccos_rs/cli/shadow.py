"""`eccos shadow`: what routing would have done beside what is done today."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer

__all__ = ["shadow"]


def shadow(
    log: Annotated[Path, typer.Argument(metavar="LOG", help="What eccos serve --shadow has written down.")],
    *,
    tolerance: Annotated[
        float,
        typer.Option(min=0.0, max=0.99, help="Grade that may be lost at the lower end of the interval."),
    ] = 0.05,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the report as an HTML page.")] = None,
    seed: Annotated[int, typer.Option(help="Of the resamples.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything that was found as JSON.")] = False,
) -> None:
    """Say what routing would have done, with intervals, and whether to go further.

    \b
    eccos serve --pool pool.toml --shadow as-is --judge gpt-5 --judge-budget 5
    eccos shadow shadow.jsonl
    eccos serve --pool pool.toml --shadow as-is --share 5%

    Exit status 0 whatever it says; 1 where the log holds no decision.
    """  # noqa: D301 - \b keeps typer from joining the lines
    from eccos_rs.cli.common import console, json_text, needing_extra, write_whole
    from eccos_rs.evaluate.report.html import print_sections
    from eccos_rs.evaluate.report.page import page

    with needing_extra("serve", "the report"):
        from eccos_rs.serve.shadow.report import as_dict, read_report, sections
    found = read_report(log, tolerance=tolerance, seed=seed)
    if out is not None:
        with write_whole(out) as stream:
            stream.write(page(f"Shadow of {log.name}", sections(found)).encode())
    if as_json:
        typer.echo(json_text(as_dict(found), indent=2))
        return
    print_sections(sections(found), console())
    typer.echo(found.sentence)
