"""`eccos pool`: make a pool file by names, say what is known of its models, check it, examine its models."""

from __future__ import annotations

import typer

from eccos_rs.cli.pool.add import add
from eccos_rs.cli.pool.check import check
from eccos_rs.cli.pool.exam import exam
from eccos_rs.cli.pool.new import from_config, new

__all__ = ["pool"]

pool = typer.Typer(
    name="pool",
    help="Make a pool file by the names of its models, say what is known of them, and check it.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
pool.command("new")(new)
pool.command("from")(from_config)
pool.command("add")(add)
pool.command("check")(check)
pool.command("exam")(exam)
