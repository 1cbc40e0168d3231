"""`eccos pool new` and `eccos pool from`: a pool file by names, by keys, or from LiteLLM's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eccos_rs.cli.pool.files import write_pool
from eccos_rs.errors import PoolError

__all__ = ["from_config", "new"]

Out = Annotated[Path | None, typer.Option("--out", "-o", help="The pool file; by default it is printed.")]
Force = Annotated[bool, typer.Option("--force", help="Replace a file that is there.")]


def new(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAMES]...", help="Any spelling; @low or @batch behind it means that option."
        ),
    ] = None,
    *,
    out: Out = None,
    from_env: Annotated[
        bool, typer.Option("--from-env", help="Take models of the providers whose key variables are set.")
    ] = False,
    per_provider: Annotated[int, typer.Option(help="Models a provider at most, with --from-env.")] = 3,
    force: Force = False,
) -> None:
    """Make a pool file of the models you name, with prices, windows, abilities and addresses.

    \b
    eccos pool new gpt-5-mini claude-sonnet-4.5 gemini-2.5-flash -o pool.toml
    eccos pool new o3@low o3@high gpt-5-mini@batch   efforts and lanes
    eccos pool new --from-env -o pool.toml           by the keys that are set

    Prices come from a snapshot that ships, with its date; a name that is not in it is told with near ones.
    A model of your own is a [[model]] table with prices, added to the file by hand or by eccos pool add.
    """  # noqa: D301 - \b keeps typer from joining the lines
    from eccos_rs.pools.catalogued import llm_of_name, names_of_keys, same_column
    from eccos_rs.pools.pool import Pool

    chosen = list(names or ())
    if from_env:
        named = Pool.of(*chosen) if chosen else ()
        proposed = [(name, llm_of_name(name)) for name in names_of_keys(per_provider)]
        chosen += [name for name, llm in proposed if not any(same_column(llm, each) for each in named)]
        if not chosen:
            raise PoolError("no key of a known provider is set (OPENAI_API_KEY, ANTHROPIC_API_KEY, ...)")
    if not chosen:
        raise typer.BadParameter("name at least one model, or say --from-env")
    write_pool(Pool.of(*chosen), out, replace=force)


def from_config(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG.yaml", help="A configuration of the LiteLLM proxy.")
    ],
    *,
    out: Out = None,
    force: Force = False,
) -> None:
    """Make a pool file of a LiteLLM configuration: its models, addresses, limits and stated prices.

    Keys are never copied: os.environ/NAME becomes api_key_env = "NAME", a key written out is left behind and
    said. Deployments of one group that differ in model, address, key or effort become columns of their own;
    equal ones become one, with their limits added up. What answers no chats is left out and said.
    """
    from eccos_rs.integrations.litellm_config import pool_of_config

    pool, left_out = pool_of_config(config)
    write_pool(pool, out, replace=force)
    for sentence in left_out:
        typer.echo(sentence, err=True)
