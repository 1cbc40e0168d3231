"""`eccos start`: from a log of requests to a verdict."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["start"]


def start(
    log: Annotated[
        str,
        typer.Argument(
            metavar="LOG",
            help="Real requests as they are: chat bodies, batch files, LiteLLM's spend logs, chats, texts; "
            'JSON lines, JSON, CSV or Parquet, packed or not, of any size. "-" reads standard input.',
        ),
    ],
    *,
    pool: Annotated[
        Path, typer.Option("--pool", help="Pool file: models with prices and [model.endpoint] tables.")
    ],
    spend: Annotated[
        float,
        typer.Option(
            min=0.0,
            help="US dollars to spend in all, earlier runs into --out included. 0 asks nobody: the forecasts "
            "alone.",
        ),
    ] = 0.0,
    judge: Annotated[
        str | None,
        typer.Option(
            help="Who grades answers that no rule can grade: a model of the pool, one of the catalogue, or a "
            "pool file that holds it alone (.toml). By default the pool's strongest model."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Folder for bundle, pool, answers and report; by default LOG.start."
        ),
    ] = None,
    bundle: Annotated[
        str | None,
        typer.Option(help="A router to sharpen; by default the one that names no model."),
    ] = None,
    sample: Annotated[
        int, typer.Option(min=1, help="Rows of the log that are looked at: a fair sample of a longer one.")
    ] = 5_000,
    column: Annotated[str | None, typer.Option(help="The column with the text or the messages.")] = None,
    tolerance: Annotated[
        float,
        typer.Option(min=0.0, max=0.99, help="Success that may be lost at the lower end of the interval."),
    ] = 0.05,
    max_output_tokens: Annotated[
        int, typer.Option(min=1, help="Longest answer, where a request does not say.")
    ] = 4096,
    concurrency: Annotated[
        int, typer.Option(min=1, help="Calls at once to a model without slots in the pool file.")
    ] = 8,
    attempts: Annotated[int, typer.Option(min=1, help="Calls at most for one answer.")] = 6,
    timeout: Annotated[float | None, typer.Option(help="Seconds for one call.")] = None,
    seed: Annotated[int, typer.Option(help="Of samples and draws.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what is expected and what would be asked; ask nobody.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Spend without a question on a terminal.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything that was found as JSON.")] = False,
) -> None:
    """Say whether routing is worth it for a log of real requests, and make the router.

    It reads and groups the requests, says from published scores alone what routing would do, spends the money
    on the requests that tell most (each asked of every model, graded by rule where the log has an expected
    answer, else by a judge), learns, judges itself on requests it has not learned from, and ends in a
    verdict: deploy, do not, or what more money would decide.

    \b
    eccos start log.jsonl --pool pool.toml          the forecasts; nobody is asked
    eccos start log.jsonl --pool pool.toml --spend 5 --dry-run
                                                    what would be asked
    eccos start log.jsonl --pool pool.toml --spend 5 --judge gpt-5
    eccos serve --bundle log.jsonl.start/bundle

    Rows may have an expected answer (answer, expected or reference; with choices it is multiple choice).
    Every answer is journaled: stop the run in any way, start it again with the same line, and it goes on.
    Nothing of the log leaves the machine but to the endpoints of the pool and of the judge.

    Exit status 0 with a verdict, also one against; 1 when money was to be spent and nothing was graded.
    """  # noqa: D301 - \b keeps typer from joining the lines
    from contextlib import nullcontext

    from eccos_rs.cli.collect import progress_with_money
    from eccos_rs.cli.common import json_text, standard_input
    from eccos_rs.records.collect.endpoint import Retry
    from eccos_rs.start.options import StartOptions
    from eccos_rs.start.report import plan_lines, result_lines
    from eccos_rs.start.run import Start

    options = StartOptions(
        spend=spend, judge=judge, bundle=bundle, sample=sample, column=column, tolerance=tolerance,
        max_output_tokens=max_output_tokens, concurrency=concurrency, retry=Retry(attempts), timeout=timeout,
        device=device, seed=seed,
    )  # fmt: skip
    with standard_input() if log == "-" else nullcontext(log) as source:
        steps = Start(source, pool, options)
    if not as_json:
        typer.echo("\n".join(plan_lines(steps.plan)))
    if dry_run:
        if as_json:
            typer.echo(json_text(steps.plan.to_dict(), indent=2))
        return
    if spend > 0.0 and not yes and not as_json and sys.stdin.isatty():
        typer.confirm(f"Spend up to US$ {spend:g}?", abort=True)
    folder = out if out is not None else Path(f"{'stdin' if log == '-' else Path(log).name}.start")
    with progress_with_money("asking", spend) as progress:
        result = steps.run(folder, progress)
    if as_json:
        typer.echo(json_text(result.to_dict(), indent=2))
    else:
        typer.echo("\n".join(result_lines(result)))
    if result.summary is not None and not result.summary.answered:
        raise typer.Exit(1)
