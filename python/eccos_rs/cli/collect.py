"""`eccos collect`: labelled data from task files and a pool of endpoints."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from eccos_rs.records.collect import CollectSummary, Progress
    from eccos_rs.records.collect.estimate import CollectEstimate

__all__ = ["collect", "progress_with_money"]


def collect(
    tasks: Annotated[
        Path, typer.Argument(metavar="TASKS", help="Task file: .jsonl, .json, .csv or .parquet.")
    ],
    *,
    pool: Annotated[
        Path, typer.Option("--pool", help="Pool file: models with prices and [model.endpoint] tables.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Where the records go: .jsonl, .jsonl.gz or .parquet.")
    ],
    model: Annotated[
        list[str] | None, typer.Option("--model", help="Ask this model; may be repeated. By default all.")
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(help="The pool's model that grades tasks of kind free; it is not asked itself."),
    ] = None,
    max_cost: Annotated[
        float | None,
        typer.Option(help="US dollars for the whole collection, earlier runs of its journal included."),
    ] = None,
    concurrency: Annotated[
        int, typer.Option(help="Calls at once to a model without slots in the pool file.")
    ] = 8,
    max_output_tokens: Annotated[int, typer.Option(help="Longest answer, where a task does not say.")] = 4096,
    temperature: Annotated[
        float | None, typer.Option(help="Sampling temperature; a negative one leaves it to the servers.")
    ] = 0.0,
    timeout: Annotated[
        float | None, typer.Option(help="Seconds for one call; by default each endpoint's own.")
    ] = None,
    attempts: Annotated[int, typer.Option(help="Calls at most for one answer.")] = 6,
    journal: Annotated[
        Path | None, typer.Option(help="The journal of every call; by default OUT.journal.jsonl.")
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="A tokenizer.json that counts where a server's usage cannot be true.")
    ] = None,
    ignore_column: Annotated[
        list[str] | None,
        typer.Option(help="Leave out an unknown column of the tasks; may be repeated; '*' leaves out all."),
    ] = None,
    grade_cut: Annotated[
        bool,
        typer.Option(
            "--grade-cut", help="Grade answers that the limit of tokens cut off, instead of leaving them out."
        ),
    ] = False,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Say what the run would cost, and ask nothing.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Ask every task of every model, grade and price the answers, and write records to train on.

    A task is a row such as {"query": "7 x 8 = ?", "kind": "numeric", "answer": 56}, or {"query": "...",
    "choices": ["...", "..."], "answer": "B"}; kinds are multiple_choice, numeric, exact, and free (graded by
    --judge). In place of query a row may have messages (a chat), beside it system (a system prompt). A row
    that asks what an earlier one asks is merged into it.

    Every call is journaled before it counts. Stop the run in any way, start it again with the same line, and
    it goes on: nothing that was answered is asked again. A call holds the most it can cost before it leaves,
    so --max-cost is not passed. Answers that did not come are tried again with growing waits, and at the next
    run.

    An answer that the limit of tokens cut off is paid for and reported, but not graded: with a higher
    --max-output-tokens the same line asks those again.

    Exit status 0 when every answer is there; 1 when something is missing at the end: the ceiling was reached,
    calls failed for good, or answers were cut off; 2 for bad usage.
    """
    from eccos_rs.pools.pool import Pool
    from eccos_rs.records.collect import CollectOptions, read_tasks
    from eccos_rs.records.collect import collect as run
    from eccos_rs.records.collect import estimate as estimate_run
    from eccos_rs.records.collect.endpoint import Retry
    from eccos_rs.records.tokens import token_counter

    options = CollectOptions(
        max_cost=max_cost,
        concurrency=concurrency,
        max_output_tokens=max_output_tokens,
        temperature=None if temperature is None or temperature < 0 else temperature,
        judge=judge,
        timeout=timeout,
        retry=Retry(attempts),
        count=token_counter(tokenizer),
        grade_cut=grade_cut,
    )
    merged: list[str] = []
    listed = read_tasks(tasks, ignore=tuple(ignore_column or ()), on_duplicate=merged.append)
    if merged:
        typer.echo(f"{len(merged):,} tasks merged into earlier ones; the first: {merged[0]}", err=True)
    known = Pool.load(pool)
    if estimate:
        _print_estimate(
            estimate_run(listed, known, out, models=model, journal=journal, options=options), as_json=json_
        )
        return
    with progress_with_money("collect", max_cost) as progress:
        summary = run(listed, known, out, models=model, journal=journal, options=options, progress=progress)
    _print(summary, out, as_json=json_)
    if summary.stopped != "done":
        raise typer.Exit(1)


class progress_with_money:  # noqa: N801 - used as a function is
    """A progress bar with the money spent, on a terminal."""

    def __init__(self, label: str, max_cost: float | None) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        from eccos_rs.cli.common import console

        screen = console(stderr=True)
        self._ceiling = "" if max_cost is None else f" of {max_cost:g}"
        money = TextColumn("US$ {task.fields[spent]:.4f}{task.fields[ceiling]}{task.fields[failed]}")
        columns = TextColumn(label), BarColumn(), MofNCompleteColumn(), money, TimeRemainingColumn()
        self._bar = Bar(*columns, console=screen, transient=True, disable=not screen.is_terminal)
        self._task = self._bar.add_task("", total=None, spent=0.0, ceiling=self._ceiling, failed="")

    def __enter__(self) -> Callable[[Progress], None]:
        self._bar.start()
        return self._show

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def _show(self, now: Progress) -> None:
        failed = f", {now.failed} failed" if now.failed else ""
        self._bar.update(self._task, total=now.wanted, completed=now.done, spent=now.spent_usd, failed=failed)


def _print(summary: CollectSummary, out: Path, *, as_json: bool) -> None:
    from eccos_rs.cli.common import json_text

    if as_json:
        typer.echo(json_text({**summary.to_dict(), "out": str(out)}, indent=2))
        return
    for line in _lines(summary, out):
        typer.echo(line)


def _print_estimate(found: CollectEstimate, *, as_json: bool) -> None:
    from eccos_rs.cli.common import json_text

    if as_json:
        typer.echo(json_text(found.to_dict(), indent=2))
        return
    for row in found.models:
        typer.echo(
            f"{row.model}: {row.calls:,} calls, about {row.input_tokens:,} tokens in and "
            f"{row.output_tokens:,} out, US$ {row.cost_usd:.4f} (at most {row.most_usd:.4f})"
        )
    lengths = "the journal's answers" if found.learned else "usual answers"
    spent = f", beside {found.spent_usd:.4f} that earlier runs spent" if found.spent_usd else ""
    typer.echo(f"US$ {found.cost_usd:.4f} by the lengths of {lengths}, at most {found.most_usd:.4f}{spent}")


def _lines(summary: CollectSummary, out: Path) -> Iterator[str]:
    new = summary.answered - summary.found
    yield f"{summary.answered:,} of {summary.wanted:,} answers, {new:,} of them new"
    yield f"{summary.records:,} records in {out}"
    unsure = (
        f", and up to {summary.unsure_usd:.4f} for calls that brought no answer" if summary.unsure_usd else ""
    )
    yield f"US$ {summary.spent_usd:.4f} spent{unsure}"
    if summary.flagged:
        yield f"{summary.flagged:,} answers with a usage that cannot be true; their tokens were counted here"
    for error, pairs in summary.failures.items():
        yield f"failed {pairs:,}x: {error}"
    if summary.cut:
        yield (
            f"{summary.cut:,} answers cut off by the limit of tokens and left out; a higher "
            "--max-output-tokens and the same line ask them again"
        )
    if summary.stopped == "max_cost":
        yield "stopped at the ceiling: raise --max-cost and run the same line again to go on"
    elif summary.stopped == "failed":
        yield "run the same line again to try the missing ones once more"
