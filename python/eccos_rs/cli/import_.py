"""`eccos import`: other projects' labelled data into the record form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from eccos_rs.records.importers import FORMATS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eccos_rs.errors import RecordError
    from eccos_rs.records.prices import PriceFit
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
            help=f"auto, {', '.join(FORMATS)}.",
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
    map_: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="COLUMN=FIELD",
            help="A column under another name, the file's name first: prompt=query; may be repeated. "
            "score=outputs.quality stands within the outputs of a record.",
        ),
    ] = None,
    ignore_column: Annotated[
        list[str] | None,
        typer.Option(help="Leave out an unknown column; may be repeated; '*' leaves out all."),
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out bad rows and list them, instead of writing nothing.")
    ] = False,
    tidy: Annotated[bool, typer.Option("--tidy", help="Write one row per (query, model).")] = False,
    write_prices: Annotated[
        Path | None,
        typer.Option(help="Recover the price list from the file's costs and write it there (.csv)."),
    ] = None,
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
    eccos import qa.parquet --report                 look at a file
    eccos import results/bench -o bench.jsonl        a folder of results
    eccos import gsm8k_responses.csv --pool pool.toml -o gsm8k.jsonl
    eccos import mine.csv --map prompt=query,score=quality -o mine.jsonl
    """  # noqa: D301 - \b keeps typer from joining the lines
    from eccos_rs.errors import InputError
    from eccos_rs.records.columns import ColumnMap
    from eccos_rs.records.importers import ImportOptions, import_records
    from eccos_rs.records.prices import CallCosts, load_prices
    from eccos_rs.records.read import write_records
    from eccos_rs.records.report import Summary
    from eccos_rs.records.tokens import token_counter

    if output_tokens is not None and output_tokens < 0:
        raise InputError(f"output_tokens: got {output_tokens}, wanted 0 or more")
    found = _Problems(skip_bad, recoverable=pool is None)
    options = ImportOptions(
        quality_scale=quality_scale,
        ignore=tuple(ignore_column or ()),
        prices=None if pool is None else load_prices(pool),
        on_error=found.note,
        dataset=dataset,
        output_tokens=output_tokens,
        count=token_counter(tokenizer),
        columns=ColumnMap.parse(map_ or ()),
    )
    summary = Summary(quality_scale=quality_scale)
    costs = CallCosts()

    def checked(last: bool) -> Iterator[Record]:
        records = import_records(sources, form=form, reprice=reprice, options=options)
        yield from _shown(costs.watch(summary.watch(records)))
        if found.unpriced and not last:
            raise _PricesMissing
        summary.check_scales()
        found.check()

    def run(last: bool) -> None:
        if out is None:
            for _ in checked(last):
                pass
        else:
            write_records(out, checked(last), form="tidy" if tidy else "record")

    try:
        run(last=False)
    except _PricesMissing:
        # What the file's own costs say prices the rows that have none.
        options = replace(options, prices={fit.model: fit.prices for fit in costs.fits()})
        summary, costs = Summary(quality_scale=quality_scale), CallCosts()
        found = _Problems(skip_bad, recoverable=False)
        options = replace(options, on_error=found.note)
        run(last=True)
    if write_prices is not None:
        _write_prices(write_prices, costs.fits(), list(costs.calls))
    _print(summary.report(), found.problems, out, shown=report or out is None, as_json=json_)


class _Problems:
    """The bad rows of one pass; without `--skip-bad` it ends after some."""

    def __init__(self, skip_bad: bool, *, recoverable: bool) -> None:
        self.problems: list[RecordError] = []
        self.unpriced: list[RecordError] = []
        self._columns: set[tuple[str, ...]] = set()
        self._skip_bad, self._recoverable = skip_bad, recoverable

    def note(self, problem: RecordError) -> None:
        """Take a bad row; a cost that another pass may recover is kept apart."""
        from eccos_rs.errors import RecordError
        from eccos_rs.records.check import ColumnError
        from eccos_rs.records.record import PriceError

        if isinstance(problem, ColumnError):
            # All rows of a file are alike in that: said once, and at once where nothing would be written.
            if not self._skip_bad:
                raise problem
            if problem.columns in self._columns:
                return
            self._columns.add(problem.columns)
        if isinstance(problem, PriceError) and self._recoverable:
            self.unpriced.append(problem)
            return
        self.problems.append(problem)
        if len(self.problems) >= MOST_PROBLEMS and not self._skip_bad:
            raise RecordError(_told(self.problems, "at least "))

    def check(self) -> None:
        """Raise what was noted, unless bad rows are skipped."""
        from eccos_rs.errors import RecordError

        if self.problems and not self._skip_bad:
            raise RecordError(_told(self.problems, ""))


class _PricesMissing(Exception):  # noqa: N818 - no error: a second pass follows
    """Some rows have no cost, and what the others cost may say theirs."""


def _write_prices(path: Path, fits: list[PriceFit], models: list[str]) -> None:
    from eccos_rs.cli.common import console, write_whole
    from eccos_rs.records.prices import price_table

    with write_whole(path) as stream:
        stream.write(price_table(fits).encode())
    found = {fit.model for fit in fits}
    for fit in fits:
        if fit.share < 1:
            words = f"{fit.model}: {1 - fit.share:.1%} of {fit.calls:,} calls cost something else"
            console(stderr=True).print(words, markup=False, soft_wrap=True)
    for model in models:
        if model not in found:
            words = f"{model}: no price list explains its costs; it is not in {path}"
            console(stderr=True).print(words, markup=False, soft_wrap=True)


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
    from eccos_rs.cli.common import console, json_text

    if as_json:
        told = {
            "written": None if out is None else str(out),
            "skipped": [str(problem) for problem in problems],
        }
        typer.echo(json_text({**report.to_dict(), **told}, indent=2))
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
