"""`eccos pool check`: what is unknown, old, unpriced or out of reach in a pool file."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eccos_rs.cli.common import console
from eccos_rs.cli.pool.files import remarks

if TYPE_CHECKING:
    from eccos_rs.pools.pool import LLM, Pool

__all__ = ["check"]


def check(
    pool: Annotated[Path, typer.Argument(metavar="POOL.toml", help="The pool file.")],
    *,
    probe: Annotated[
        bool, typer.Option("--probe", help="Ask every model for one token, which costs next to nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what is unknown, old, unpriced or out of reach in a pool file, and what is known of each model.

    Exit status 1 when a model cannot be used as it stands: its key is not set, or with --probe it does not
    answer. Old prices, prices that differ from the catalogue and models that will be taken away are said.
    """
    from eccos_rs.pools.pool import Pool

    held = Pool.load(pool)
    rows = [_row(model) for model in held]
    for row, model in zip(rows, held, strict=True):
        row["remarks"] += _also(model, held)
    if probe:
        for row, problem in zip(rows, asyncio.run(_probe(held)), strict=True):
            row["answers"] = problem is None
            if problem is not None and not row["problems"]:
                row["problems"].append(problem)
    if as_json:
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        _show(rows)
    if any(row["problems"] for row in rows):
        raise typer.Exit(1)


def _row(model: LLM) -> dict[str, Any]:
    from eccos_rs.catalogue.models import catalogue
    from eccos_rs.catalogue.scores import knowledge

    entry = next(iter(catalogue().find(model.identity)), None)
    said, problems = list(remarks(model)), []
    if entry is None:
        said.append("in no catalogue: its prices are yours")
    elif entry.prices is not None and model.lane in (None, "standard"):
        listed = (entry.prices.input, entry.prices.output)
        if listed != (model.input_price, model.output_price):
            said.append(
                f"priced {model.input_price:g} / {model.output_price:g}, the catalogue says "
                f"{listed[0]:g} / {listed[1]:g}"
            )
    if model.endpoint is None:
        said.append("no endpoint: it can be routed to, not asked")
    elif model.endpoint.api_key_env and not os.environ.get(model.endpoint.api_key_env):
        problems.append(f"the environment variable {model.endpoint.api_key_env} is not set")
    known = knowledge(model)
    if known.basis == "nothing":
        said.append("nothing is known of what it can do: give scores (eccos pool add) or labels")
    if known.differs and not known.basis.startswith("predecessor"):
        said.append(f"published scores are of {known.differs}")
    return {
        "model": model.name,
        "input_price": model.input_price,
        "output_price": model.output_price,
        "price_date": model.price_date,
        "known_by": known.basis,
        "level_sd": round(known.level_sd, 3),
        "remarks": said,
        "problems": problems,
    }


def _also(model: LLM, pool: Pool) -> list[str]:
    """Name other entries of a pool that are the same model at the same place."""
    from eccos_rs.pools.catalogued import same_column

    def place(one: LLM) -> str | None:
        return None if one.endpoint is None else one.endpoint.base_url

    others = (other for other in pool if other.name != model.name and place(other) == place(model))
    return [f"the same model as {other.name}: take one out" for other in others if same_column(model, other)]


async def _probe(pool: Pool) -> list[str | None]:
    from eccos_rs.errors import EccosError
    from eccos_rs.records.collect.endpoint import Caller
    from eccos_rs.records.collect.turns import CallTurn

    async def one(model: LLM) -> str | None:
        try:
            caller = Caller(model, concurrency=1, timeout=30.0)
        except EccosError as error:
            return str(error)
        try:
            await caller.ask(
                [{"role": "user", "content": "Hi"}], CallTurn(0), longest=1, temperature=None, key="probe"
            )
        except EccosError as error:
            return str(error)
        finally:
            await caller.close()
        return None

    return list(await asyncio.gather(*(one(model) for model in pool)))


def _show(rows: list[dict[str, Any]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("model", style="bold")
    for head in ("input", "output"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("known by")
    table.add_column("to know", overflow="fold")
    for row in rows:
        words = [*row["problems"], *row["remarks"]]
        answers = ["answers"] if row.get("answers") else []
        table.add_row(
            Text(row["model"]),
            f"{row['input_price']:g}",
            f"{row['output_price']:g}",
            Text(f"{row['known_by']} (±{row['level_sd']:.2f})"),
            Text("; ".join([*words, *answers]) or "ready", style="red" if row["problems"] else ""),
        )
    console().print(table)
