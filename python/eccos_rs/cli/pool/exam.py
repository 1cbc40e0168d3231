"""`eccos pool exam`: what the models of a pool score, asked of themselves."""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from eccos_rs.cli.common import console
from eccos_rs.cli.pool.files import write_pool

if TYPE_CHECKING:
    from eccos_rs.records.exam import ExamPlan, ExamResult

__all__ = ["exam"]


def exam(
    pool: Annotated[Path, typer.Argument(metavar="POOL.toml", help="The pool file, with endpoints.")],
    *,
    data: Annotated[Path, typer.Option(help="The questions: MMLU-Pro, GSM8K, or a task file.")],
    questions: Annotated[int, typer.Option(help="How many to ask, of all categories by their share.")] = 500,
    max_cost: Annotated[float | None, typer.Option(help="US dollars for the whole exam.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The pool file with scores; by default POOL.toml itself."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be asked and about what it costs; ask nothing.")
    ] = False,
    max_output_tokens: Annotated[int, typer.Option(help="Longest answer, tokens.")] = 2048,
    concurrency: Annotated[int, typer.Option(help="Calls at once to a model without slots.")] = 8,
    attempts: Annotated[int, typer.Option(help="Calls at most for one answer.")] = 6,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Examine a pool: ask every model public questions with known answers, and write its scores by category.

    \b
    The questions do not ship. Download them once, for instance MMLU-Pro (MIT,
    12,032 questions), the file data/test-00000-of-00001.parquet of
      https://huggingface.co/datasets/TIGER-AI-Lab/MMLU-Pro
    eccos pool exam pool.toml --data test-00000-of-00001.parquet --max-cost 5

    Each question is recognised by a hash: of those that the shipped boards know, known models' answers carry
    the result to the whole board, so that 500 questions place a category within some 3 points. Answers are
    graded by rule. The cost is estimated first; every call is journaled beside the pool file, and the same
    line goes on where a run was stopped. The questions go to the pool's endpoints and nowhere else.

    Exit status 1 when the exam was not brought to its end: calls failed, a model answered too few to be
    scored, or the ceiling stopped it. What was answered is a fair sample, and scored.
    """  # noqa: D301 - \b keeps typer from joining the lines
    from eccos_rs.pools.pool import Pool
    from eccos_rs.records.collect import CollectOptions
    from eccos_rs.records.collect.endpoint import Retry
    from eccos_rs.records.exam import plan_exam, read_questions, run_exam

    held = Pool.load(pool)
    plan = plan_exam(read_questions(data), held, questions, max_cost)
    _announce(plan, questions, quiet=as_json and not dry_run, as_json=as_json)
    if dry_run:
        return
    options = CollectOptions(
        max_cost=max_cost,
        max_output_tokens=max_output_tokens,
        concurrency=concurrency,
        retry=Retry(attempts),
    )
    from eccos_rs.cli.collect import progress_with_money

    records = pool.with_name(f"{pool.name}.exam.jsonl")
    with progress_with_money("exam", max_cost) as progress:
        result = run_exam(plan, held, records, options=options, progress=progress)
    if result.scores:
        write_pool(result.pool, out or pool, replace=True, about=next(iter(result.scores)))
    _report(result, len(plan.tasks), as_json=as_json)
    if result.left_out or result.summary.stopped != "done":
        raise typer.Exit(1)


def _announce(plan: ExamPlan, wanted: int, *, quiet: bool, as_json: bool) -> None:
    if as_json:
        if not quiet:
            told = {"questions": len(plan.tasks), "recognised": plan.recognised, "cost_usd": plan.cost}
            typer.echo(json.dumps({**told, "total_usd": plan.total}, indent=2))
        return
    fewer = f" (of {wanted:,} wanted: more would pass the ceiling)" if len(plan.tasks) < 0.9 * wanted else ""
    typer.echo(
        f"{len(plan.tasks):,} questions{fewer} to {len(plan.cost)} models, about US$ {plan.total:.2f}: "
        + ", ".join(f"{name} {cost:.2f}" for name, cost in plan.cost.items())
    )
    share = plan.recognised / len(plan.tasks)
    typer.echo(
        f"{plan.recognised:,} of them are known to the shipped boards"
        + ("" if share > 0.5 else "; of the others the plain means count, which are less sure")
    )


def _report(result: ExamResult, asked: int, *, as_json: bool) -> None:
    if as_json:
        told = {
            name: {"answered": each.answered, "scores": each.scores, "sd_log_odds": each.sd}
            for name, each in result.scores.items()
        }
        typer.echo(
            json.dumps({"models": told, "left_out": result.left_out, **result.summary.to_dict()}, indent=2)
        )
        return
    _table(result)
    typer.echo(f"US$ {result.summary.spent_usd:.4f} spent on {result.summary.answered:,} answers")
    for name, each in result.scores.items():
        if each.answered < asked:
            typer.echo(
                f"{name}: scored by the {each.answered} of {asked} questions that it answered", err=True
            )
    for name, answered in result.left_out.items():
        typer.echo(f"{name}: {answered} answers are too few for a score", err=True)
    for error, pairs in result.summary.failures.items():
        typer.echo(f"failed {pairs:,}x: {error}", err=True)
    if result.summary.stopped != "done":
        typer.echo("run the same line again to go on", err=True)


def _table(result: ExamResult) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, caption="share of questions answered well, in percent")
    table.add_column("category", style="bold")
    for name in result.scores:
        table.add_column(name, justify="right")
    for category in sorted({key for each in result.scores.values() for key in each.scores}):
        cells = []
        for each in result.scores.values():
            value = each.scores.get(category)
            error = 0.0 if value is None else each.sd[category] * value * (1 - value)
            cells.append("" if value is None else f"{100 * value:.0f} ±{100 * error:.0f}")
        table.add_row(Text(category), *cells)
    console().print(table)
