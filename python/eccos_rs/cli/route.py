"""`eccos route`: a file of queries in, a model for each out."""

from __future__ import annotations

import json
import os
from math import isfinite
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eccos_rs.cli.common import InputForm, console, progress_bar, read_queries, write_lines, write_whole
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
    policy_of,
)
from eccos_rs.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from eccos_rs.routing.plan import Plan
    from eccos_rs.routing.router import Router

__all__ = ["route"]

_FORMATS = ("table", "json", "jsonl", "parquet")


def route(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="Queries, one a line, or JSON lines: a text, a list of chat messages, or an object with "
            '"query" or "messages" and what the query needs ("models", "tools", "vision", "priority", '
            '"min_quality", "max_output_tokens" …). "-" reads standard input.',
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
        str, typer.Option("--input", help="auto, text (one query a line) or jsonl.")
    ] = "auto",
    output_format: Annotated[str, typer.Option("--format", "-f", help=", ".join(_FORMATS))] = "table",
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write there instead of to standard output.")
    ] = None,
    why: Annotated[bool, typer.Option("--why", help="Show the reason of every choice in the table.")] = False,
    tokens_per_second: TokensPerSecond = 50.0,
) -> None:
    """Choose a model for every query of a batch at least cost.

    \b
    eccos route questions.txt                         97 % of the strongest model's quality, at least cost
    eccos route questions.jsonl --min-quality 0.8     a promised mean success
    eccos route questions.jsonl --budget 0.50         the best that half a dollar buys
    cat log.jsonl | eccos route - --format jsonl -o plan.jsonl
    """  # noqa: D301 - \b keeps typer from joining the lines
    form = "json" if as_json else output_format
    _check(form, input_form, out, tokens_per_second)
    policy = policy_of(
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
    )
    queries = read_queries(source, _input_form(input_form))
    router = _router(bundle, predictor, device, pool, threads)
    if models is not None:
        router = _narrowed(router, models)
    with progress_bar("predicting", len(queries)) as advance:
        plan = router.route(queries, policy=policy, progress=advance)
    _write(plan, form, out, why=why, tokens_per_second=tokens_per_second)


def _check(form: str, input_form: str, out: Path | None, tokens_per_second: float) -> None:
    if form not in _FORMATS:
        raise typer.BadParameter(f"--format: got {form!r}, wanted one of {', '.join(_FORMATS)}")
    if input_form not in ("auto", "text", "jsonl"):
        raise typer.BadParameter(f"--input: got {input_form!r}, wanted auto, text or jsonl")
    if form == "parquet" and out is None:
        raise typer.BadParameter("--format parquet needs --out FILE")
    if not tokens_per_second > 0:
        raise typer.BadParameter(f"--tokens-per-second: got {tokens_per_second}, wanted more than 0")
    if out is not None:
        _check_out(out)


def _check_out(out: Path) -> None:
    """Say what is wrong with the place of the result before the work, not after it."""
    if out.is_dir():
        raise InputError(f"--out {out}: that is a folder; wanted the name of a file")
    if not out.parent.is_dir():
        raise InputError(f"--out {out}: there is no folder {out.parent}")
    if not os.access(out.parent, os.W_OK):
        raise InputError(f"--out {out}: Permission denied: the folder {out.parent} may not be written")


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


def _input_form(form: str) -> InputForm:
    return "text" if form == "text" else "jsonl" if form == "jsonl" else "auto"


def _router(
    bundle: str | None, predictor: str, device: str, pool: Path | None, threads: int | None
) -> Router:
    from eccos_rs.routing.router import Router

    return Router.load(bundle, predictor=predictor, device=device, pool=pool, threads=threads)


def _narrowed(router: Router, models: str) -> Router:
    from eccos_rs.routing.router import Router

    names = [name.strip() for name in models.split(",") if name.strip()]
    return Router(router.pool.select(names), router.predictor)


def _write(plan: Plan, form: str, out: Path | None, *, why: bool, tokens_per_second: float) -> None:
    if form == "jsonl":
        write_lines(out, (json.dumps(row, ensure_ascii=False) for row in plan.to_dicts()))
    elif form == "json":
        write_lines(out, [json.dumps(_whole(plan, tokens_per_second), ensure_ascii=False, indent=2)])
    elif form == "parquet" and out is not None:
        _write_parquet(plan, out)
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


def _write_parquet(plan: Plan, out: Path) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtraError("Parquet needs pyarrow: pip install 'eccos-rs[parquet]'") from None
    text, number = pa.string(), pa.float64()
    schema = pa.schema(
        [
            ("index", pa.int64()),
            ("id", text),
            ("query", text),
            ("model", text),
            ("quality", number),
            ("input_tokens", pa.int64()),
            ("output_tokens", number),
            ("cost", number),
            ("runner_up", text),
            ("runner_up_quality", number),
            ("runner_up_cost", number),
            ("price_change", number),
            ("reason", text),
        ]
    )
    table = pa.Table.from_pylist(plan.to_dicts(), schema=schema)
    with write_whole(out) as stream:
        pq.write_table(table, stream)


def _whole(plan: Plan, tokens_per_second: float) -> dict[str, Any]:
    """Return the whole plan as one JSON value, NaN as null."""
    from dataclasses import asdict

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
        "baselines": [asdict(baseline) for baseline in plan.baselines],
        "device": plan.device,
        "seconds": dict(plan.seconds),
        "tokens_per_second": tokens_per_second,
        "share_of_response_time": plan.overhead / response if response > 0 else None,
        "rows": plan.to_dicts(),
    }


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None
