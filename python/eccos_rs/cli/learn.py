"""`eccos learn`: labelled queries sharpen a router; nothing is trained anew."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer

__all__ = ["learn"]


def learn(
    records: Annotated[
        Path,
        typer.Argument(metavar="RECORDS", help="Labelled queries: JSONL or Parquet, record or tidy form."),
    ],
    *,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The bundle's folder; an older one is replaced as a whole.")
    ],
    bundle: Annotated[
        str | None,
        typer.Option(
            "--bundle",
            help="Folder or name of what is sharpened. Without it: what names no model, where the pool holds "
            "one that the shipped bundle was not trained on, else the shipped bundle.",
        ),
    ] = None,
    pool: Annotated[Path | None, typer.Option("--pool", help="Pool file with the models' prices.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print what is known now as JSON.")] = False,
) -> None:
    """Sharpen a router by labelled queries and write it as a bundle.

    From published scores or training to data: levels, slopes and categories of each model move as far as the
    labels justify, lengths follow the tokens that were counted. Twenty labels of each model are worth having;
    label the same queries with all models. With thousands, `eccos train` does better.

    \b
    eccos learn graded.jsonl --pool pool.toml --out my-router
    eccos learn more.jsonl --bundle my-router --out my-router
    """  # noqa: D301 - \b keeps typer from joining the lines
    import json

    from eccos_rs.records import RecordTable
    from eccos_rs.routing.router import Router

    table = RecordTable.read(records)
    router = Router.load(bundle, pool=pool, device=device).learn(table)
    made = router.save(out)
    known = router.knowledge()
    if as_json:
        typer.echo(
            json.dumps({"bundle": str(made.path), "knowledge": [row.to_dict() for row in known]}, indent=2)
        )
        return
    typer.echo(f"{made.path}: {len(table):,} queries learned\n\n{known!r}")
