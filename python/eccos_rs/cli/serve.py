"""`eccos serve`: the gateway."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eccos_rs.cli.common import needing_extra
from eccos_rs.cli.options import (
    BundleName,
    Device,
    MinQuality,
    PredictorKind,
    QualityValue,
    QueryFloor,
    RelativeQuality,
    make_policy,
)
from eccos_rs.errors import InputError

if TYPE_CHECKING:
    from eccos_rs.serve.shadow.settings import ShadowSettings

__all__ = ["serve"]


def serve(
    *,
    pool: Annotated[
        Path | None,
        typer.Option(help="The pool file; every model in it needs an endpoint with a base_url."),
    ] = None,
    bundle: BundleName = None,
    predictor: PredictorKind = "hybrid",
    device: Device = "auto",
    host: Annotated[
        str, typer.Option(help="The address to listen on; any but loopback needs client tokens.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port.")] = 8080,
    min_quality: MinQuality = None,
    budget: Annotated[
        float | None, typer.Option(help="US dollars for each --per; the spend keeps pace with the time.")
    ] = None,
    per: Annotated[str | None, typer.Option(help="hour, day or month: what --budget is for.")] = None,
    quality_value: QualityValue = None,
    relative_quality: RelativeQuality = None,
    query_floor: QueryFloor = None,
    store: Annotated[
        str | None,
        typer.Option(
            help="Where feedback, spend and prices are kept and limits are shared: a path (an SQLite file, "
            "made when it is not there), sqlite:///PATH, or redis://HOST:PORT/DB."
        ),
    ] = None,
    on_store_loss: Annotated[
        str,
        typer.Option(
            help="While shared limits cannot be reached: local-share (this replica keeps to its share of "
            "each) or refuse."
        ),
    ] = "local-share",
    workers: Annotated[
        int, typer.Option(min=1, help="Processes that serve; they share limits and budget.")
    ] = 1,
    wait: Annotated[
        float, typer.Option(min=0.0, help="Seconds a request may wait for a free model before 429.")
    ] = 30.0,
    attempts: Annotated[int, typer.Option(min=1, help="Models asked for one request at most.")] = 3,
    first_byte_timeout: Annotated[
        float, typer.Option(min=0.001, help="Seconds without a first byte until another model is asked.")
    ] = 60.0,
    max_body: Annotated[int, typer.Option(min=1, help="Bytes of a request's body at most.")] = 8
    * 1024
    * 1024,
    stickiness: Annotated[
        float,
        typer.Option(min=0.0, help="Seconds a conversation stays with the model of its last turn; 0: not."),
    ] = 300.0,
    keys: Annotated[
        Path | None,
        typer.Option(help="TOML file of client keys with budgets and limits; read again when it changes."),
    ] = None,
    traces: Annotated[
        bool,
        typer.Option("--traces", help="Send OpenTelemetry traces where OTEL_EXPORTER_OTLP_ENDPOINT says."),
    ] = False,
    baseline: Annotated[
        str | None, typer.Option(help="A model: the page shows what everything would have cost there.")
    ] = None,
    shadow: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL|as-is",
            help="Requests go to this model, or to the one that the client names; what routing would do is "
            "written down (see eccos shadow).",
        ),
    ] = None,
    share: Annotated[
        str | None,
        typer.Option(help="Share of users and conversations that is routed for real beside --shadow: 5%."),
    ] = None,
    shadow_log: Annotated[Path, typer.Option(help="Where it is written down; gone on with.")] = Path(
        "shadow.jsonl"
    ),
    judge: Annotated[
        str | None,
        typer.Option(
            help="Grades a sample beside --shadow: a model of the pool or the catalogue, or a .toml."
        ),
    ] = None,
    judge_share: Annotated[str, typer.Option(help="Share of the answers that is graded.")] = "2%",
    judge_budget: Annotated[
        float, typer.Option(min=0.0, help="US dollars that grading may take in all.")
    ] = 0.0,
    cors: Annotated[
        list[str] | None, typer.Option(help="An origin whose pages may ask; may be given several times.")
    ] = None,
    body_timeout: Annotated[
        float, typer.Option(min=0.001, help="Seconds within which a request's body must have come.")
    ] = 30.0,
    grace: Annotated[
        float, typer.Option(min=0.0, help="Seconds that answers under way get when the server is stopped.")
    ] = 60.0,
    quiet: Annotated[bool, typer.Option("--quiet", help="Log warnings and errors alone.")] = False,
) -> None:
    """Serve the pool as one OpenAI-compatible endpoint, and route every request.

    \b
    eccos serve --pool pool.toml --min-quality 0.8 --store eccos.db
    curl localhost:8080/v1/chat/completions \\
      -H 'content-type: application/json' \\
      -d '{"model": "eccos", "messages": [{"role": "user", "content": "Hello"}]}'

    The model "eccos" (or "auto") is chosen by the router; a pool model's own name goes straight there.
    ECCOS_TOKENS holds the clients' bearer tokens, separated by commas. A page with live figures is at /,
    metrics for Prometheus at /metrics.
    """  # noqa: D301 - \b keeps typer from joining the lines
    from eccos_rs.routing.router import Router

    policy = make_policy(
        min_quality=min_quality, budget=budget, per=per, quality_value=quality_value,
        relative_quality=relative_quality, query_floor=query_floor, overload="raise", wait=wait,
    )  # fmt: skip
    with needing_extra("serve", "the gateway"):
        from eccos_rs.serve.app import GatewaySettings, build_app, reload_pool
        from eccos_rs.serve.run import run
        from eccos_rs.serve.security import check_address, read_tokens
        from eccos_rs.serve.tracing import export_traces
        from eccos_rs.serve.workers import load_app, run_workers, shared_between
    tokens = read_tokens(os.environ.get("ECCOS_TOKENS"))
    try:
        check_address(host, tokens or (() if keys is None else (str(keys),)))
    except InputError as error:
        raise typer.BadParameter(str(error)) from None
    if on_store_loss not in ("local-share", "refuse"):
        raise typer.BadParameter(f"--on-store-loss must be local-share or refuse, got {on_store_loss}")
    trial = _shadow_settings(shadow, share, shadow_log, (judge, judge_share, judge_budget / workers))
    if traces:
        export_traces()
    load = partial(Router.load, bundle, predictor=predictor, device=device, pool=pool, policy=policy)
    router = load()
    with shared_between(workers, store) as place:
        settings = GatewaySettings(
            tokens=tokens, max_body=max_body, attempts=attempts, wait=wait,
            first_byte_timeout=first_byte_timeout, store=place, stickiness=stickiness,
            body_timeout=body_timeout, cors=tuple(cors or ()), baseline=baseline,
            keys=keys, traces=traces, shadow=trial,
            load=partial(reload_pool, router, pool) if pool is not None and workers == 1 else None,
            on_store_loss="refuse" if on_store_loss == "refuse" else "local-share",
        )  # fmt: skip
        app = build_app(router, settings)
        if workers == 1:
            run(app, host, port, grace=grace, quiet=quiet)
        else:
            make = partial(load_app, load, settings, pool)
            run_workers(make, host, port, workers=workers, grace=grace, quiet=quiet)


def _shadow_settings(
    model: str | None, share: str | None, log: Path, grading: tuple[str | None, str, float]
) -> ShadowSettings | None:
    """Return how to shadow; what is malformed is a matter of usage."""
    from eccos_rs.serve.shadow.settings import ShadowSettings

    judge, judge_share, budget = grading
    if model is None:
        if share is not None or judge is not None:
            raise typer.BadParameter("--share and --judge stand beside --shadow: MODEL or as-is")
        return None
    shares = _parse_share("share", share or "0"), _parse_share("judge-share", judge_share)
    try:
        return ShadowSettings(model, log, shares[0], judge=judge, judge_share=shares[1], judge_budget=budget)
    except InputError as error:
        raise typer.BadParameter(str(error)) from None


def _parse_share(name: str, text: str) -> float:
    number, percent = text.strip().removesuffix("%"), text.strip().endswith("%")
    try:
        return float(number) / (100.0 if percent else 1.0)
    except ValueError:
        raise typer.BadParameter(f"--{name} must be a share such as 5% or 0.05, got {text!r}") from None
