"""`eccos import`: other projects' labelled data into the record form."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eccos_rs.errors import RecordError
    from eccos_rs.records.record import Record
    from eccos_rs.records.report import Report

__all__ = ["import_"]

MOST_PROBLEMS = 20


def import_(
    sources: Annotated[list[Path], typer.Argument(metavar="SRC...", help="Files, or folders of files.")],
    *,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Where to write (.jsonl, .jsonl.gz, .parquet); else only check."),
    ] = None,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            "-f",
            help="auto, records, tidy, routellm-gsm8k, routellm-mmlu, routerbench, llmrouterbench, "
            "llmrouter, graphrouter or aios.",
        ),
    ] = "auto",
    pool: Annotated[
        Path | None,
        typer.Option(
            "--pool",
            "--prices",
            help="Prices for forms without costs: a pool file (.toml), a .csv table with model, "
            "input_price, output_price, or a .json list of candidates.",
        ),
    ] = None,
    reprice: Annotated[
        bool,
        typer.Option("--reprice", help="Price every output by --pool, also where the file states a cost."),
    ] = False,
    quality_scale: Annotated[
        float, typer.Option(help="What stands for a perfect answer in the file, such as 10 or 100.")
    ] = 1.0,
    output_tokens: Annotated[
        int | None, typer.Option(help="Answer length to assume where a form has neither lengths nor answers.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Dataset name for forms that have none.")] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            help="A tokenizer.json that counts where a form has no counts; else they are estimated."
        ),
    ] = None,
    ignore_column: Annotated[
        list[str] | None,
        typer.Option(help="Leave out an unknown column; may be repeated; '*' leaves out all."),
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out bad rows and list them, instead of writing nothing.")
    ] = False,
    tidy: Annotated[bool, typer.Option("--tidy", help="Write one row a (query, model).")] = False,
    report: Annotated[
        bool,
        typer.Option(
            "--report", help="Print queries, models, coverage, quality, cost, oracle and best single."
        ),
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Read labelled data of any known form, check every row, and write the one record form.

    A record is a query with how each model answered it: {"query", "dataset", "input_tokens", "outputs":
    [{"model", "quality", "output_tokens", "cost_usd"}]}. Everything that trains or evaluates reads it. Bad
    rows are reported with their row and column, and nothing is written then.

    \b
    eccos import qa.parquet --report                             look at a file
    eccos import results/bench -f llmrouterbench -o bench.jsonl  a folder of results
    eccos import gsm8k_responses.csv --pool pool.toml -o gsm8k.jsonl
    """  # noqa: D301 - \b keeps typer from joining the lines
    from eccos_rs.errors import InputError, RecordError
    from eccos_rs.records.importers import ImportOptions, import_records
    from eccos_rs.records.prices import load_prices
    from eccos_rs.records.record import write_records
    from eccos_rs.records.report import Summary
    from eccos_rs.records.tokens import token_counter

    if output_tokens is not None and output_tokens < 0:
        raise InputError(f"output_tokens: got {output_tokens}, wanted 0 or more")
    problems: list[RecordError] = []

    def note(problem: RecordError) -> None:
        problems.append(problem)
        if len(problems) >= MOST_PROBLEMS and not skip_bad:
            raise RecordError(_told(problems, "at least "))

    options = ImportOptions(
        quality_scale=quality_scale,
        ignore=tuple(ignore_column or ()),
        prices=None if pool is None else load_prices(pool),
        on_error=note,
        dataset=dataset,
        output_tokens=output_tokens,
        count=token_counter(tokenizer),
    )
    summary = Summary(quality_scale=quality_scale)

    def checked() -> Iterator[Record]:
        records = import_records(sources, form=form, reprice=reprice, options=options)
        yield from _shown(summary.watch(records))
        summary.check_scales()
        if problems and not skip_bad:
            raise RecordError(_told(problems, ""))

    if out is None:
        for _ in checked():
            pass
    else:
        write_records(out, checked(), form="tidy" if tidy else "record")
    _print(summary.report(), problems, out, shown=report or out is None, as_json=json_)


def _shown(records: Iterator[Record]) -> Iterator[Record]:
    """Count along on a terminal."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from eccos_rs.cli.common import console

    screen = console(stderr=True)
    columns = SpinnerColumn(), TextColumn("{task.completed:,} records"), TimeElapsedColumn()
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as progress:
        task = progress.add_task("import", total=None)
        for record in records:
            progress.advance(task)
            yield record


def _print(
    report: Report, problems: list[RecordError], out: Path | None, *, shown: bool, as_json: bool
) -> None:
    import json

    from eccos_rs.cli.common import console

    if as_json:
        told = {
            "written": None if out is None else str(out),
            "skipped": [str(problem) for problem in problems],
        }
        typer.echo(json.dumps({**report.to_dict(), **told}, ensure_ascii=False, indent=2))
        return
    screen = console()
    if shown:
        screen.print(report.render())
    for problem in problems:
        screen.print(f"left out: {problem}", markup=False, soft_wrap=True)
    if out is not None:
        screen.print(f"{report.queries:,} records written to {out}", markup=False, soft_wrap=True)


def _told(problems: list[RecordError], least: str) -> str:
    if len(problems) == 1 and not least:
        return str(problems[0])
    listed = "\n".join(f"  {problem}" for problem in problems[:MOST_PROBLEMS])
    return f"{least}{len(problems)} bad rows, nothing was written:\n{listed}"
