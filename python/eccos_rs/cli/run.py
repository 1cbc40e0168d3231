"""`eccos run`: route files of queries and ask the chosen models, once each."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from eccos_rs.cli.options import (
    BundleName,
    Device,
    MinQuality,
    PredictorKind,
    QualityValue,
    QueryFloor,
    RelativeQuality,
    Threads,
    make_policy,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eccos_rs.bulk.execute import RunReport

__all__ = ["run"]


def run(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="Queries, as `eccos route` reads them; also folders."),
    ],
    *,
    pool: Annotated[
        Path, typer.Option("--pool", help="Pool file: models with prices and [model.endpoint] tables.")
    ],
    out_dir: Annotated[Path, typer.Option(help="Folder for plan, journal, answers and report.")],
    min_quality: MinQuality = None,
    budget: Annotated[
        float | None,
        typer.Option(help="Highest mean success for a planned cost of at most this, US dollars."),
    ] = None,
    quality_value: QualityValue = None,
    relative_quality: RelativeQuality = None,
    query_floor: QueryFloor = None,
    max_cost: Annotated[
        float | None,
        typer.Option(
            help="US dollars that may really be spent, earlier runs included; by default the budget."
        ),
    ] = None,
    deadline: Annotated[
        float | None,
        typer.Option(
            help="Seconds from now. The plan gives no model more rows than its requests per minute let "
            "through until then, and a batch lane none where it may answer later; after it nothing new is "
            "asked."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and its price, ask nothing.")
    ] = False,
    in_doubt: Annotated[
        str,
        typer.Option(
            help="Rows whose call a kill cut off, which the provider may have charged for: retry, or skip."
        ),
    ] = "retry",
    concurrency: Annotated[
        int, typer.Option(help="Calls at once to a model without slots in the pool file.")
    ] = 8,
    max_output_tokens: Annotated[int, typer.Option(help="Longest answer, where a row does not say.")] = 4096,
    longer: Annotated[
        int, typer.Option(help="How often a cut-off answer is asked again, with twice the limit each time.")
    ] = 1,
    attempts: Annotated[int, typer.Option(help="Calls at most for one answer of one model.")] = 6,
    timeout: Annotated[float | None, typer.Option(help="Seconds for one call.")] = None,
    batch_poll: Annotated[
        float, typer.Option(min=0.01, help="Seconds between two looks at the batches of a batch lane.")
    ] = 30.0,
    column: Annotated[str | None, typer.Option(help="The column with the text or the messages.")] = None,
    own: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="A column of your own with the name of a need; repeatable."),
    ] = None,
    bundle: BundleName = None,
    predictor: PredictorKind = "hybrid",
    device: Device = "auto",
    threads: Threads = None,
    part_rows: Annotated[int, typer.Option(min=1, help="Rows per part.")] = 20_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Plan and carry out: every row of some files is routed, asked once, and written.

    \b
    eccos run log.jsonl --pool pool.toml --out-dir done --budget 20 --dry-run
    eccos run log.jsonl --pool pool.toml --out-dir done --budget 20

    The first line shows the plan and its price, the second carries it out.

    Every call is journaled before it leaves and its answer before it counts: stop the run in any way,
    start it again with the same line, and it goes on; what was answered is not asked again. A model that
    fails is left for the next best. Entries of the pool with lane = "batch" are sent batches (files, then
    batches of OpenAI's form); what they do not bring in time is asked at once. Exit status 0 when every
    row has an answer, 3 when some have none, 1 for failures, 2 for usage.
    """  # noqa: D301 - \b keeps typer from joining the lines
    from eccos_rs.bulk.execute import ExecuteOptions, Execution, capacity_until
    from eccos_rs.bulk.job import FileJob
    from eccos_rs.bulk.limits import check_policy
    from eccos_rs.bulk.queries import RowReader
    from eccos_rs.bulk.source import Source, find_files
    from eccos_rs.cli.common import json_text
    from eccos_rs.cli.folder import DEFERRED
    from eccos_rs.cli.stages import stage_bars
    from eccos_rs.pools.pool import Pool
    from eccos_rs.predict.bundle import Bundle
    from eccos_rs.records.collect.endpoint import Retry
    from eccos_rs.routing.router import Router

    models = Pool.load(pool)
    seconds = float("inf") if deadline is None else deadline
    held = {each.name: capacity_until(each, seconds) for each in (*models.limits, *models)}
    policy = make_policy(
        min_quality=min_quality, budget=budget, quality_value=quality_value,
        relative_quality=relative_quality, query_floor=query_floor,
        capacity={name: most for name, most in held.items() if most < 1e18} or None,
    )  # fmt: skip
    if in_doubt not in ("retry", "skip"):
        raise typer.BadParameter(f"--in-doubt: got {in_doubt!r}, wanted retry or skip")
    options = ExecuteOptions(
        max_cost=budget if max_cost is None else max_cost, deadline=deadline, concurrency=concurrency,
        max_output_tokens=max_output_tokens, longer=longer, in_doubt=in_doubt,  # type: ignore[arg-type]
        retry=Retry(attempts), timeout=timeout, batch_poll=batch_poll,
    )  # fmt: skip
    router = Router.load(bundle, predictor=predictor, device=device, pool=models, threads=threads)
    source = Source(find_files(sources), RowReader(column, tuple(own or ())), rows=part_rows)
    settings = {"bundle": Bundle.load(bundle).digest, "predictor": predictor, "command": "run"}
    job = FileJob(source, router, check_policy(policy, router.pool), out_dir, settings=settings)
    job.open(resume=True)
    with stage_bars(source.files) as advance:
        summary, answer, parts = job.plan(advance)
        if not dry_run:
            report = Execution(job, parts, answer, options).run(advance)
    if dry_run:
        typer.echo(json_text(summary.to_dict(), indent=2) if as_json else "\n".join(_plan_lines(summary)))
        return
    typer.echo(json_text(report.to_dict(), indent=2) if as_json else "\n".join(_lines(report, out_dir)))
    if report.stopped != "done":
        raise typer.Exit(DEFERRED)


def _plan_lines(summary: object) -> Iterator[str]:
    from eccos_rs.bulk.job import JobSummary

    assert isinstance(summary, JobSummary)  # what a plan returns
    quality = f"mean predicted success {summary.quality:.4f}"
    yield f"{summary.rows:,} rows: US$ {summary.cost:.6f} planned, {quality}"
    yield f"{summary.status}, certified gap {summary.gap:.1e}; nothing was asked"
    for name, count in summary.models.items():
        if count:
            yield f"  {name}: {count:,}"


def _lines(report: RunReport, out: Path) -> Iterator[str]:
    found = f", {report.found:,} of them before this run" if report.found else ""
    yield f"{report.answered:,} of {report.rows:,} rows answered in {out}{found}"
    unsure = (
        f", and up to {report.unsure_usd:.4f} for calls that brought no answer" if report.unsure_usd else ""
    )
    yield f"US$ {report.spent_usd:.4f} spent of {report.planned_usd:.4f} planned{unsure}"
    for name, count in report.models.items():
        yield f"  {name}: {count:,}"
    for count, words in (
        (report.batched, "brought by the batch lane"),
        (report.moved, "given by another model than planned"),
        (report.cut, "cut off by the limit of tokens"),
        (report.refused, "refused"),
        (report.late, "not asked before their own deadline"),
        (report.in_doubt, f"in doubt and not asked again, up to US$ {report.in_doubt_usd:.4f}"),
    ):
        if count:
            yield f"{count:,} {words}"
    for error, rows in report.failures.items():
        yield f"failed {rows:,}x: {error}"
    if report.stopped != "done":
        yield f"stopped: {report.stopped}; the same line goes on"
