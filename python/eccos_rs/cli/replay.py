"""`eccos replay`: recorded answers behind an OpenAI-compatible address."""

from __future__ import annotations

import math
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer

from eccos_rs.cli.common import needing_extra
from eccos_rs.errors import InputError

__all__ = ["replay"]


def replay(
    data: Annotated[
        Path,
        typer.Argument(metavar="DATA", help="Records (JSON lines or Parquet), as `eccos import` writes."),
    ],
    *,
    models: Annotated[
        str | None, typer.Option(metavar="NAME,NAME", help="Serve these models of the data alone.")
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port.")] = 8090,
    speed: Annotated[
        float, typer.Option(help="Output tokens per second of one answer; 0 answers at once.")
    ] = 50.0,
    ttft: Annotated[float, typer.Option(min=0.0, help="Seconds until the first token.")] = 0.2,
    slots: Annotated[
        int | None, typer.Option(min=1, help="Requests one model serves at once; one more gets 429.")
    ] = None,
    requests_per_minute: Annotated[
        int | None, typer.Option(min=1, help="Of each model, over a sliding minute; one more gets 429.")
    ] = None,
    tokens_per_minute: Annotated[
        int | None, typer.Option(min=1, help="Of prompts and answers of each model, likewise.")
    ] = None,
    batch_seconds: Annotated[
        float, typer.Option(min=0.0, help="Seconds from the creation of a batch to its last row.")
    ] = 1.0,
    fault_rate: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of requests that meet a fault.")
    ] = 0.0,
    faults: Annotated[
        str, typer.Option(metavar="KIND,KIND", help="500, 429, drop (cut in mid-answer), stall (silence).")
    ] = "500,429,drop",
    unknown: Annotated[
        str,
        typer.Option(help='A query that is not recorded: "error" answers 404, "mean" the mean length.'),
    ] = "error",
    caches: Annotated[
        str | None,
        typer.Option(
            metavar="POOL|catalogue",
            help="Keep prompt caches, on the terms (minimum, lifetime) of this pool file or of the "
            "catalogue, and state what they held in the usage.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the faults.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", help="Log warnings and errors alone.")] = False,
) -> None:
    """Answer from a recorded data set, with its lengths and its right and wrong, at a settable speed.

    For what-if tests of a pool on one's own log and for load tests: point the endpoints of a pool file here.
    Batches of OpenAI's form (/v1/files, /v1/batches) are answered too, for the batch lane of `eccos run`.

    \b
    eccos replay records.parquet --speed 200 --slots 32 --fault-rate 0.01
    """  # noqa: D301 - \b keeps typer from joining the lines
    with needing_extra("serve", "the replay server"):
        from eccos_rs.serve.replay import ReplaySettings, build_replay_app
        from eccos_rs.serve.replay_caches import cache_models
        from eccos_rs.serve.run import run
    from eccos_rs.records.table import RecordTable

    names = None if models is None else [name for part in models.split(",") if (name := part.strip())]
    table = RecordTable.read(data, names)
    try:
        settings = ReplaySettings(
            tokens_per_second=math.inf if speed == 0 else speed,
            ttft=ttft,
            slots=slots,
            fault_rate=fault_rate,
            faults=tuple(part for word in faults.split(",") if (part := word.strip())),
            unknown=unknown,
            seed=seed,
            batch_seconds=batch_seconds,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            caches={} if caches is None else cache_models(caches, table.models),
        )
    except InputError as error:
        raise typer.BadParameter(str(error)) from None
    run(build_replay_app(table, settings), host, port, quiet=quiet)
