"""What the commands of `eccos pool` share: writing a pool file whole, and what is said of its models."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

import typer

from eccos_rs.catalogue.contradiction import unused_scores
from eccos_rs.catalogue.models import STALE_DAYS, catalogue, days_old
from eccos_rs.catalogue.scores import benchmarks, knowledge
from eccos_rs.cli.common import write_whole
from eccos_rs.domain.llm import benchmark_key
from eccos_rs.errors import PoolError

if TYPE_CHECKING:
    from pathlib import Path

    from eccos_rs.pools.pool import LLM, Pool

__all__ = ["remarks", "write_pool"]


def write_pool(pool: Pool, out: Path | None, *, replace: bool, about: str | None = None) -> None:
    """Write a pool file, or print it; what is worth knowing of its models goes to standard error.

    `about` names the one model that it is said of; by default it is said of all.

    Raises
    ------
    PoolError
        The file is there and may not be replaced.
    """
    if out is None:
        typer.echo(pool.to_toml(), nl=False)
    else:
        if out.exists() and not replace:
            raise PoolError(f"{out} is there already; name another file, or say --force to replace it")
        with write_whole(out) as stream:
            stream.write(pool.to_toml().encode())
        typer.echo(f"{out}: {len(pool)} models: {', '.join(pool.names)}", err=True)
    for model in pool if about is None else [pool[at] for at in pool.columns(about)]:
        for remark in remarks(model):
            typer.echo(f"{model.name}: {remark}", err=True)


def remarks(model: LLM, today: datetime.date | None = None) -> list[str]:
    """Return what is worth knowing of a model's price, of its end and of its scores, in words."""
    today = today or datetime.date.today()
    said = []
    age = days_old(model.price_date, today)
    if age is not None and age > STALE_DAYS:
        said.append(f"its price is {age} days old ({model.price_date})")
    entry = next(iter(catalogue().find(model.identity)), None)
    if entry is not None and entry.retires is not None:
        left = -(days_old(entry.retires, today) or 0)
        then = f"; its maker names {entry.successor}" if entry.successor else ""
        if left < 0:
            said.append(f"it was to be taken away on {entry.retires}{then}")
        elif left < STALE_DAYS:
            said.append(f"it will be taken away on {entry.retires}{then}")
    return said + doubts(model)


def doubts(model: LLM) -> list[str]:
    """Return what is wrong with the scores that are told of a model: contradictions, unknown benchmarks."""
    if not model.scores:
        return []
    strange = unused_scores(map(benchmark_key, model.scores), benchmarks())
    return [*knowledge(model).doubts, *([strange] if strange else [])]
