"""`eccos pool add`: a model more in a pool file, or what is known of one that is there."""

from __future__ import annotations

import csv
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated, Any

import typer

from eccos_rs.cli.pool.files import write_pool
from eccos_rs.errors import InputError, PoolError

__all__ = ["add", "read_scores"]


def add(
    name: Annotated[str, typer.Argument(help="A model of the file, or one more for it.")],
    *,
    pool: Annotated[Path, typer.Option("--pool", help="The pool file that is changed.")],
    scores: Annotated[
        str | None,
        typer.Option(
            help="What it scores: BENCHMARK=SHARE,... (mmlu_pro=0.81,mmlu_pro/law=0.61), or a CSV file with "
            "columns benchmark, score and, of several models, model."
        ),
    ] = None,
    mean_tokens: Annotated[
        float | None, typer.Option(help="Output tokens of its answers on average.")
    ] = None,
    source: Annotated[str | None, typer.Option(help="Who measured: vendor, own harness, ...")] = None,
    input_price: Annotated[
        float | None, typer.Option(help="US dollars per million input tokens, of a model of your own.")
    ] = None,
    output_price: Annotated[float | None, typer.Option(help="The same for output tokens.")] = None,
    base_url: Annotated[str | None, typer.Option(help="Where it is served.")] = None,
    api_key_env: Annotated[str | None, typer.Option(help="The variable that holds the key.")] = None,
) -> None:
    """Add a model to a pool file, or say what is known of one that is there.

    \b
    eccos pool add claude-haiku-4.5 --pool pool.toml
    eccos pool add my-qwen --pool pool.toml \\
      --input-price 0 --output-price 0 --base-url http://gpu:8000/v1
    eccos pool add my-qwen --pool pool.toml \\
      --scores mmlu_pro=0.71,gsm8k=0.93 --mean-tokens 420 --source "own harness"

    Scores are shares from 0 to 1. They say before any label what a model can do; one overall score orders
    models, scores by category tell them apart.
    """  # noqa: D301 - \b keeps typer from joining the lines
    from eccos_rs.pools.catalogued import same_column
    from eccos_rs.pools.pool import LLM, Endpoint, Pool

    held = Pool.load(pool)
    known = {word for model in held for word in (model.name, model.identity)}
    if name not in known:
        if (input_price is None) != (output_price is None):
            raise typer.BadParameter("a model of your own needs both --input-price and --output-price")
        added: Any = name
        if input_price is not None and output_price is not None:
            endpoint = None if base_url is None else Endpoint(base_url, api_key_env=api_key_env)
            added = LLM(name, input_price, output_price, endpoint=endpoint, price_source="stated")
        (model,) = Pool.of(added)
        for other in held:
            if same_column(model, other):
                raise PoolError(f"{name!r} and {other.name!r} of {pool} are the same model")
        held = Pool([*held, model], held.limits)
    elif scores is None and mean_tokens is None and input_price is None and output_price is None:
        raise PoolError(f"{name!r} is in {pool} already; give --scores, --mean-tokens or prices")
    else:
        prices = {"input_price": input_price, "output_price": output_price}
        stated = {key: value for key, value in prices.items() if value is not None}
        for column in held.columns(name) if stated else ():
            held = held.replace(held.names[column], **stated, price_source="stated", price_date=None)
    if scores is not None or mean_tokens is not None:
        shares = {} if scores is None else read_scores(scores, name)
        held = held.with_scores(name, shares, mean_tokens=mean_tokens, source=source)
    write_pool(held, pool, replace=True, about=name)


def read_scores(text: str, model: str) -> dict[str, float]:
    """Return shares by benchmark, from ``BENCHMARK=SHARE,…`` or a CSV file.

    Raises
    ------
    InputError
        A share is no number, the file cannot be read or lacks a column, or holds no score of the model.
    """
    if "=" not in text:
        return _from_csv(text, model)
    found: dict[str, float] = {}
    for part in text.split(","):
        benchmark, _, value = (word.strip() for word in part.partition("="))
        _add(found, benchmark, _share(value, f"--scores: {part.strip()!r}"), "--scores", model)
    return found


def _from_csv(path: str, model: str) -> dict[str, float]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"--scores: {path!r} is neither BENCHMARK=SHARE nor a file that can be read"
        ) from error
    if not rows or not {"benchmark", "score"} <= set(rows[0]):
        raise InputError(f"{path}: wanted a CSV with columns benchmark and score (and model)")
    own = [row for row in rows if not row.get("model") or row["model"].strip() == model]
    if not own:
        raise InputError(f"{path}: holds no score of {model!r}")
    found: dict[str, float] = {}
    for at, row in enumerate(own, 2):
        value = _share(row["score"] or "", f"{path}, row {at}")
        _add(found, (row["benchmark"] or "").strip(), value, path, model)
    return found


def _add(found: dict[str, float], name: str, value: float, where: str, model: str) -> None:
    if found.get(name, value) != value:
        raise InputError(f"{where}: two scores of {model!r} on {name!r}: {found[name]:g} and {value:g}")
    found[name] = value


def _share(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{where}: a score must be a number from 0 to 1, got {text!r}") from None
