"""`eccos bench`: what each stage of routing takes on this machine."""

from __future__ import annotations

import json
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eccos_rs.cli.common import console, progress_bar, read_queries
from eccos_rs.cli.options import (
    BundleName,
    Device,
    MinQuality,
    PredictorKind,
    Threads,
    TokensPerSecond,
    make_policy,
)

if TYPE_CHECKING:
    from eccos_rs.domain.query import Query
    from eccos_rs.routing.plan import Plan
    from eccos_rs.routing.policy import Policy
    from eccos_rs.routing.router import Router

__all__ = ["bench"]

_LEAST, _MOST = 3, 200
"""Bounds of the number of runs of one batch size."""


def bench(
    *,
    batch: Annotated[str, typer.Option(metavar="N,N,…", help="Batch sizes.")] = "1,16,64,256,1024",
    queries: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Queries of your own, as for eccos route; without it a mix of ours."
        ),
    ] = None,
    tokens_per_second: TokensPerSecond = 50.0,
    seconds: Annotated[
        float, typer.Option(help="Measure each batch size for about this long, three runs at least.")
    ] = 2.0,
    min_quality: MinQuality = None,
    bundle: BundleName = None,
    predictor: PredictorKind = "hybrid",
    device: Device = "auto",
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Time each stage of routing, and its share of the time the LLMs take to answer.

    The stages are: tokenize, encode, retrieve, predict, assign, and other (reading queries, hard needs,
    prices). Every figure is the median of several runs, in milliseconds a query. Nothing is taken from the
    cache of answers: every text is new, or the cache is off.

    \b
    eccos bench                                    short and long queries
    eccos bench --queries log.jsonl --batch 1,32   your own traffic
    """  # noqa: D301 - \b keeps typer from joining the lines
    if not tokens_per_second > 0:
        raise typer.BadParameter(f"--tokens-per-second: got {tokens_per_second}, wanted more than 0")
    sizes = _sizes(batch)
    own = None if queries is None else read_queries(queries)
    if own is not None and not own:
        raise typer.BadParameter(f"--queries: {queries} holds no query")
    begin = perf_counter()
    router = _router(bundle, predictor, device, threads)
    policy = make_policy(min_quality=min_quality)
    first = router.route(_batch(own, 1, 0), policy=policy)
    start = perf_counter() - begin
    rows = []
    with progress_bar("measuring", len(sizes)) as advance:
        for size in sizes:
            rows.append(_measure(router, own, size, seconds, policy))
            advance(1)
    for row in rows:
        row["share"] = row["all"] / (row["output_tokens"] / tokens_per_second)
    report = {
        "device": router.device,
        "predictor": predictor,
        "models": len(router.pool),
        "tokens_per_second": tokens_per_second,
        "load_and_first_answer": start,
        "first_answer_model": first.models[0],
        "batches": rows,
    }
    if as_json:
        typer.echo(json.dumps(report, indent=2))
    else:
        _show(report)


def _sizes(text: str) -> list[int]:
    try:
        sizes = [int(word) for word in text.split(",")]
    except ValueError:
        sizes = []
    if not sizes or min(sizes) < 1:
        raise typer.BadParameter(f"--batch: got {text!r}, wanted whole numbers of at least 1, with commas")
    return sizes


def _router(bundle: str | None, predictor: str, device: str, threads: int | None) -> Router:
    from eccos_rs.pools.pool import Pool
    from eccos_rs.predict.bundle import Bundle
    from eccos_rs.predict.open import open_predictor
    from eccos_rs.routing.router import Router

    loaded = Bundle.load(bundle)
    made = open_predictor(loaded, predictor, device=device, threads=threads, cache_size=0)
    return Router(Pool.load(loaded.pool_path), made)


def _batch(own: list[Query] | None, size: int, first: int) -> list[Any]:
    if own is None:
        from eccos_rs.cli.samples import sample_queries

        return sample_queries(size, first=first)
    return [own[(first + at) % len(own)] for at in range(size)]


def _measure(
    router: Router, own: list[Query] | None, size: int, seconds: float, policy: Policy
) -> dict[str, Any]:
    """Route batches of one size, each of other queries, for about so many seconds."""
    router.route(_batch(own, size, 1), policy=policy)
    plans: list[Plan] = []
    end = perf_counter() + seconds
    while len(plans) < _LEAST or (perf_counter() < end and len(plans) < _MOST):
        plans.append(router.route(_batch(own, size, 2 + size * len(plans)), policy=policy))
    stages = {stage: median(plan.seconds[stage] for plan in plans) / size for stage in plans[0].seconds}
    tokens = [float(plan.output_tokens.mean()) for plan in plans]
    return {
        "batch": size,
        "runs": len(plans),
        "seconds_a_query": stages,
        "all": median(plan.overhead for plan in plans) / size,
        "output_tokens": sum(tokens) / len(tokens),
    }


def _show(report: dict[str, Any]) -> None:
    from eccos_rs.domain.tables import light_table

    rows = report["batches"]
    stages = list(rows[0]["seconds_a_query"])
    speed = report["tokens_per_second"]
    table = light_table("milliseconds per query, median")
    table.add_column("queries at once", no_wrap=True)
    for row in rows:
        table.add_column(f"{row['batch']:,}", justify="right", no_wrap=True)
    for stage in stages:
        table.add_row(stage, *(f"{1e3 * row['seconds_a_query'][stage]:.3f}" for row in rows))
    table.add_row("all", *(f"{1e3 * row['all']:.3f}" for row in rows), style="bold")
    table.add_row("output tokens", *(f"{row['output_tokens']:.0f}" for row in rows))
    table.add_row("share", *(f"{row['share']:.3%}" for row in rows))
    out = console()
    out.print(table)
    out.print(
        f"{report['predictor']} predictor on {report['device']}, {report['models']} models. "
        f"Loading and the first answer took {report['load_and_first_answer']:.2f} s.\n"
        f"The share is of the time an LLM takes to write the predicted tokens at {speed:g} tokens per second "
        "(--tokens-per-second)."
    )
