"""`eccos route`: a file of queries in, a model for each out."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import asdict, replace
from math import isfinite
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eccos_rs.bulk.columns import arrow_columns, merged, plain_json
from eccos_rs.bulk.queries import RowReader
from eccos_rs.bulk.source import Source, find_files
from eccos_rs.cli.common import (
    INPUT_FORMS,
    console,
    csv_lines,
    json_text,
    progress_bar,
    read_rows,
    write_lines,
    write_whole,
)
from eccos_rs.cli.folder import DEFERRED, Folder, parse_shard, run_job, run_on_ray
from eccos_rs.cli.options import (
    BundleName,
    Device,
    MinQuality,
    PoolFile,
    PredictorKind,
    QualityValue,
    QueryFloor,
    RelativeQuality,
    Threads,
    TokensPerSecond,
    make_policy,
)
from eccos_rs.errors import EccosError
from eccos_rs.predict.bundle import Bundle
from eccos_rs.routing.side_limits import read_side_limits

if TYPE_CHECKING:
    from eccos_rs.routing.plan import Plan
    from eccos_rs.routing.policy import Policy
    from eccos_rs.routing.router import Router

__all__ = ["route"]

_FORMATS = ("table", "json", "jsonl", "csv", "parquet")


def route(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="Queries: lines of text, JSON lines, JSON, CSV, TSV or Parquet, told by suffix and content, "
            "packed by gzip or Zstandard or not. A row has a text, chat messages, or columns: query or "
            "messages and what the query needs (models, tools, vision, priority, min_quality, "
            "max_output_tokens …). "
            "OpenAI request bodies and batch files and LiteLLM's spend logs are read as they are. "
            '"-" reads standard input. With --out-dir also several files, and folders of files.',
        ),
    ],
    *,
    min_quality: MinQuality = None,
    budget: Annotated[
        float | None, typer.Option(help="Highest mean success for at most this many US dollars.")
    ] = None,
    quality_value: QualityValue = None,
    relative_quality: RelativeQuality = None,
    query_floor: QueryFloor = None,
    confidence: Annotated[
        float | None,
        typer.Option(help="Promise the quality for this very batch with this probability, such as 0.95."),
    ] = None,
    capacity: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL=COUNT", help="Requests that a model may take of this batch; repeatable."),
    ] = None,
    rows_file: Annotated[
        Path | None,
        typer.Option(
            "--side-limits",
            metavar="FILE",
            help="Limits on other figures (carbon, slow answers …): a TOML file of [[side_limit]] tables.",
        ),
    ] = None,
    overload: Annotated[
        str, typer.Option(help='Queries beyond the capacity: "defer" leaves them out, "raise" fails.')
    ] = "defer",
    unroutable: Annotated[
        str, typer.Option(help='A query that no model may take: "raise" fails, "defer" leaves it out.')
    ] = "raise",
    time_limit: Annotated[float | None, typer.Option(help="Seconds for the solver.")] = None,
    tolerance: Annotated[
        float, typer.Option(help="Gap to the bound at which an assignment counts as optimal; 0 proves it.")
    ] = 1e-4,
    pool: PoolFile = None,
    models: Annotated[
        str | None, typer.Option(metavar="NAME,NAME", help="Route among these models of the pool alone.")
    ] = None,
    bundle: BundleName = None,
    predictor: PredictorKind = "hybrid",
    device: Device = "auto",
    threads: Threads = None,
    input_form: Annotated[
        str, typer.Option("--input", help=f"{', '.join(INPUT_FORMS)}; text is one query per line.")
    ] = "auto",
    column: Annotated[
        str | None,
        typer.Option(help="The column with the text or the messages, where its name does not say so."),
    ] = None,
    own: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="A column of your own whose name is, or looks like, that of a need; repeatable.",
        ),
    ] = None,
    live_limits: Annotated[
        bool,
        typer.Option(
            "--live-limits",
            help="Apply slots, requests and tokens per minute of the pool file to this file, as if all of it "
            "were sent at once; by default they are limits of live traffic alone.",
        ),
    ] = False,
    output_format: Annotated[
        str | None,
        typer.Option(
            "--format", "-f", help=f"{', '.join(_FORMATS)}; by default as the name of --out ends, else table."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write there instead of to standard output.")
    ] = None,
    out_dir: Annotated[
        Path | None,
        typer.Option(
            help="Route files of any size within little memory, and write parts and a manifest into this new "
            "folder (--format parquet or jsonl; parquet by default)."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run into --out-dir that was stopped, by whatever.")
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Predict and write the I-th of N shares alone (from 1), into one --out-dir that all "
            "share; run the same line again once all have predicted.",
        ),
    ] = None,
    part_rows: Annotated[int, typer.Option(min=1, help="Rows per part of --out-dir.")] = 20_000,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Route on a cluster of Ray (HOST:PORT, auto, or local): files and --out-dir lie where every "
            "node reaches them. Up to some 10^8 rows one machine is faster.",
        ),
    ] = None,
    why: Annotated[bool, typer.Option("--why", help="Show the reason of every choice in the table.")] = False,
    tokens_per_second: TokensPerSecond = 50.0,
) -> None:
    """Choose a model for every query of a batch at least cost.

    \b
    eccos route questions.txt                       97 % of the best quality
    eccos route questions.jsonl --min-quality 0.8   a promised mean success
    eccos route questions.jsonl --budget 0.50       the best for half a dollar
    cat log.jsonl | eccos route - -o plan.jsonl
    eccos route log.csv --column question -o plan.parquet
    eccos route logs/ --budget 400 --out-dir routed files of any size; --resume

    The columns of the input pass through to JSON, CSV and Parquet. Exit status 3 when queries were deferred:
    no capacity was left, or no model may take them.
    """  # noqa: D301 - \b keeps typer from joining the lines
    form = "json" if as_json else output_format or _named_format(out)
    folder = None if out_dir is None else Folder(out_dir, resume, parse_shard(shard))
    if folder is None and (resume or shard is not None or len(sources) > 1):
        raise typer.BadParameter("several files, --resume and --shard need --out-dir FOLDER")
    if ray is not None and (folder is None or resume or shard is not None or form == "jsonl"):
        raise typer.BadParameter("--ray needs --out-dir FOLDER, and takes no --resume, --shard or jsonl")
    if folder is not None and (out is not None or live_limits):
        raise typer.BadParameter("--out-dir takes neither --out nor --live-limits")
    _check("table" if folder is not None else form, input_form, out, tokens_per_second)
    policy = make_policy(
        min_quality=min_quality,
        budget=budget,
        quality_value=quality_value,
        relative_quality=relative_quality,
        query_floor=query_floor,
        confidence=confidence,
        overload=overload,
        unroutable=unroutable,
        time_limit=time_limit,
        tolerance=tolerance,
        capacity=_capacity(capacity or []),
        rows=None if rows_file is None else read_side_limits(rows_file),
    )
    reader = RowReader(column, tuple(own or ()))
    rows = [] if folder is not None else read_rows(sources[0], input_form, reader)  # type: ignore[arg-type]
    files = [] if folder is None else find_files(sources)
    router = _router(bundle, predictor, device, pool, threads)
    if models is not None:
        router = _narrowed(router, models)
    if not live_limits:
        router = without_live_limits(router, policy)
    if ray is not None and folder is not None:
        source = Source(files, reader, input_form, part_rows)
        run_on_ray(source, router, policy, folder.path, ray, as_json=as_json)
        return
    if folder is not None:
        settings = {"bundle": Bundle.load(bundle).digest, "predictor": predictor}
        source = Source(files, reader, input_form, part_rows)
        written = "jsonl" if form == "jsonl" else "parquet"
        run_job(folder.job(source, router, policy, written, settings), folder, as_json=as_json)
        return
    with progress_bar("predicting", len(rows)) as advance:
        plan = router.route([row.query for row in rows], policy=policy, progress=advance)
    _write(plan, [row.own for row in rows], form, out, why=why, tokens_per_second=tokens_per_second)
    if len(plan.deferred):
        _tell_deferred(plan)
        raise typer.Exit(DEFERRED)


def _named_format(out: Path | None) -> str:
    """Return the format that the name of a file promises; a table for people where it promises none."""
    promised = "" if out is None else out.suffix.lower().removeprefix(".")
    promised = {"ndjson": "jsonl", "pq": "parquet"}.get(promised, promised)
    return promised if promised in _FORMATS else "table"


def _check(form: str, input_form: str, out: Path | None, tokens_per_second: float) -> None:
    if form not in _FORMATS:
        raise typer.BadParameter(f"--format: got {form!r}, wanted one of {', '.join(_FORMATS)}")
    if input_form not in INPUT_FORMS:
        raise typer.BadParameter(f"--input: got {input_form!r}, wanted one of {', '.join(INPUT_FORMS)}")
    if form == "parquet" and out is None:
        raise typer.BadParameter("--format parquet needs --out FILE")
    if not tokens_per_second > 0:
        raise typer.BadParameter(f"--tokens-per-second: got {tokens_per_second}, wanted more than 0")
    if out is not None:
        _check_out(out)


def _check_out(out: Path) -> None:
    """Say what is wrong with the place of the result before the work, not after it."""
    if out.is_dir():
        raise EccosError(f"--out {out}: that is a folder; wanted the name of a file")
    if not out.parent.is_dir():
        raise EccosError(f"--out {out}: there is no folder {out.parent}")
    if not os.access(out.parent, os.W_OK):
        raise EccosError(f"--out {out}: Permission denied: the folder {out.parent} may not be written")


def _capacity(pairs: list[str]) -> dict[str, float] | None:
    found = {}
    for pair in pairs:
        name, _, count = pair.rpartition("=")
        try:
            found[name] = float(count)
        except ValueError:
            name = ""
        if not name:
            raise typer.BadParameter(f"--capacity: got {pair!r}, wanted MODEL=COUNT")
    return found or None


def _router(
    bundle: str | None, predictor: str, device: str, pool: Path | None, threads: int | None
) -> Router:
    from eccos_rs.routing.router import Router

    return Router.load(bundle, predictor=predictor, device=device, pool=pool, threads=threads)


def _narrowed(router: Router, models: str) -> Router:
    from eccos_rs.routing.router import Router

    names = [name.strip() for name in models.split(",") if name.strip()]
    return Router(router.pool.select(names), router.predictor)


def without_live_limits(router: Router, policy: Policy) -> Router:
    """Return the router with the limits of live traffic taken off: a file is not sent all at once.

    What use beyond an amount costs, and what is paid unused, stays.
    """
    from eccos_rs.pools.pool import Pool
    from eccos_rs.routing.router import Router

    limits: dict[str, Any] = {"slots": None, "requests_per_minute": None, "tokens_per_minute": None}
    models = [replace(model, **limits) for model in router.pool]
    # What a policy's capacity says of the models that share a limit is of this file.
    given = policy.capacity or {}
    shared = [
        replace(limit, **(limits | {"requests_per_minute": given.get(limit.name)}))
        for limit in router.pool.limits
        if limit.name in given or limit.is_priced
    ]
    return Router(Pool(models, shared), router.predictor, router.policy)


def _tell_deferred(plan: Plan) -> None:
    """Say how many queries have no model, and which models are full."""
    limits, taken = plan.problem.capacity, Counter(name for name in plan.models if name is not None)
    requests = None if limits is None else limits if limits.ndim == 1 else limits[0]
    full = [
        f"{name} ({taken[name]:,} of {requests[at]:,.0f})"
        for at, name in enumerate(plan.pool.names)
        if requests is not None and taken[name] >= requests[at]
    ]
    why = f"; full: {', '.join(full)}" if full else ""
    unroutable = len(plan.problem.unroutable)
    none = f"; {unroutable:,} that no model may take" if unroutable else ""
    console(stderr=True).print(
        f"{len(plan.deferred):,} of {len(plan):,} queries deferred{none}{why}", markup=False, soft_wrap=True
    )


def _write(
    plan: Plan, own: list[dict[str, Any]], form: str, out: Path | None, *, why: bool, tokens_per_second: float
) -> None:
    if form in ("jsonl", "csv"):
        rows = [plain_json(merged(mine, row)) for mine, row in zip(own, plan.to_dicts(), strict=True)]
        lines = csv_lines(rows) if form == "csv" else (json_text(row, out=out) for row in rows)
        write_lines(out, lines)
    elif form == "json":
        write_lines(out, [json_text(whole_plan(plan, own, tokens_per_second), indent=2, out=out)])
    elif form == "parquet" and out is not None:
        _write_parquet(plan, own, out)
    else:
        from eccos_rs.cli.tables import show_plan

        if out is None:
            show_plan(console(), plan, why=why, tokens_per_second=tokens_per_second)
            return
        with write_whole(out) as stream:
            stream.write(_as_text(plan, why=why, tokens_per_second=tokens_per_second).encode())
    if out is not None:
        console(stderr=True).print(f"{len(plan):,} rows written to {out}", markup=False)


def _as_text(plan: Plan, *, why: bool, tokens_per_second: float) -> str:
    from eccos_rs.cli.tables import show_plan

    plain = console()
    with plain.capture() as captured:
        show_plan(plain, plan, why=why, tokens_per_second=tokens_per_second)
    return captured.get()


def _write_parquet(plan: Plan, own: list[dict[str, Any]], out: Path) -> None:
    table = plan.to_arrow()
    import pyarrow.parquet as pq

    routed = plan.to_dicts()
    rows = [merged(mine, row) for mine, row in zip(own, routed, strict=True)]
    beside = dict.fromkeys(name for row in rows for name in row if name not in table.column_names)
    for name, column in arrow_columns(rows, list(beside)).items():
        table = table.append_column(name, column)
    with write_whole(out) as stream:
        pq.write_table(table, stream)


def whole_plan(plan: Plan, own: list[dict[str, Any]], tokens_per_second: float) -> dict[str, Any]:
    """Return the whole plan as one JSON value, NaN as null."""
    answer = plan.assignment
    response = plan.response_seconds(tokens_per_second)
    return {
        "status": str(plan.status),
        "explanation": plan.explanation,
        "queries": len(plan),
        "deferred": len(plan.deferred),
        "cost": plan.total_cost,
        "quality": _finite(plan.mean_quality),
        "promised": plan.promised,
        "margin": None if plan.margin is None else asdict(plan.margin),
        "bound": _finite(answer.bound),
        "gap": _finite(answer.gap),
        "violation": _finite(answer.violation),
        "quality_price": _finite(answer.quality_price),
        "familiar": plan.familiar,
        "warnings": list(plan.warnings),
        "limits": [asdict(use) for use in plan.limits],
        "baselines": [asdict(baseline) for baseline in plan.baselines],
        "device": plan.device,
        "seconds": dict(plan.seconds),
        "tokens_per_second": tokens_per_second,
        "share_of_response_time": plan.overhead / response if response > 0 else None,
        "rows": [plain_json(merged(mine, row)) for mine, row in zip(own, plan.to_dicts(), strict=True)],
    }


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None
