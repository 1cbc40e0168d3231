"""`eccos info`: what a bundle, a pool or this machine holds."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eccos_rs.cli.common import console
from eccos_rs.domain.tables import light_table

if TYPE_CHECKING:
    from rich.table import Table

    from eccos_rs.pools.pool import LLM, Pool
    from eccos_rs.predict.bundle import Bundle
    from eccos_rs.routing.knowing import Knowledge

__all__ = ["info"]


def info(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[BUNDLE|POOL.toml]",
            help="A bundle's folder or name, or a pool file; the shipped bundle by default.",
        ),
    ] = None,
    *,
    device: Annotated[
        bool,
        typer.Option("--device", help="Say which processors can run the encoder here, and what is missing."),
    ] = False,
    toml: Annotated[
        bool, typer.Option("--toml", help="Print the pool file, to start one of your own from.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show a bundle with its models and prices, a pool file, or what this machine can run.

    Every file of the bundle is checked against its checksum on the way.

    \b
    eccos info                       the shipped bundle
    eccos info pool.toml             a pool file, checked
    eccos info --toml > pool.toml    a pool file of your own to start from
    eccos info --device              CPU, GPU, and how to install what is missing
    """  # noqa: D301 - \b keeps typer from joining the lines
    if device:
        _show_device(as_json=as_json)
        return
    bundle, pool = _open(target)
    if toml:
        typer.echo(pool.to_toml(), nl=False)
    elif as_json:
        typer.echo(json.dumps(_content(bundle, pool), indent=2, ensure_ascii=False, default=str))
    else:
        _show(bundle, pool)


def _open(target: str | None) -> tuple[Bundle | None, Pool]:
    from eccos_rs.pools.pool import Pool
    from eccos_rs.predict.bundle import Bundle

    if target is not None and (target.endswith(".toml") or Path(target).is_file()):
        return None, Pool.load(target)
    bundle = Bundle.load(target)
    return bundle, Pool.load(bundle.pool_path) if bundle.has_pool else Pool.usual()


def _knowledge(bundle: Bundle, pool: Pool) -> Knowledge | None:
    """Return what a bundle that names no model knows of a pool."""
    from eccos_rs.predict.open import model_priors
    from eccos_rs.predict.prior.saving import load_learned
    from eccos_rs.routing.knowing import pool_knowledge

    if not bundle.is_prior:
        return None
    priors = model_priors(bundle, pool)
    return pool_knowledge(pool.names, priors, load_learned(bundle, priors))


def _show_device(*, as_json: bool) -> None:
    from eccos_rs.predict.device import device_report

    report = device_report()
    if as_json:
        typer.echo(json.dumps(report.to_dict(), indent=2))
    else:
        console().print(_facts(report.lines()))


def _show(bundle: Bundle | None, pool: Pool) -> None:
    out = console()
    if bundle is not None:
        rows = [
            ("bundle", bundle.name),
            ("folder", str(bundle.path)),
            ("size", f"{bundle.size / 1e6:.1f} MB"),
        ]
        for key, value in bundle.manifest.items():
            if key not in ("name", "models", "files", "schema_version"):
                rows.append((key.replace("_", " "), _brief(value)))
        out.print(_facts(rows))
        if (known := _knowledge(bundle, pool)) is not None:
            out.print(_known(known))
        validation = bundle.manifest.get("provenance", {}).get("validation")
        if isinstance(validation, dict):
            out.print(_figures(validation))
    out.print(_models(pool))
    if any(model.price_source for model in pool):
        out.print(_sources(pool))


_FEW = 4
"""Up to so many tables within a table are named."""


def _brief(value: Any) -> str:
    """Return a value for one line: of a table its plain entries, and the names of the tables within."""
    if isinstance(value, dict):
        words = []
        for key, inner in value.items():
            name = key.replace("_", " ")
            if isinstance(inner, dict) and len(inner) <= _FEW:
                words.append(f"{name} ({', '.join(inner)})")
            elif not isinstance(inner, list | dict):
                words.append(f"{name} {_brief(inner)}")
        return "; ".join(words)
    if isinstance(value, list):
        return ", ".join(map(_brief, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _figures(validation: dict[str, Any]) -> Table:
    """Return the validation figures, a column a kind of predictor."""
    from rich.text import Text

    kinds = {kind: figures for kind, figures in validation.items() if isinstance(figures, dict)}
    table = light_table()
    table.add_column("on held-back queries", no_wrap=True, style="bold")
    for kind in kinds:
        table.add_column(kind, justify="right", no_wrap=True)
    for name in dict.fromkeys(name for figures in kinds.values() for name in figures):
        figures = (_figure(each.get(name, "")) for each in kinds.values())
        table.add_row(Text(name.replace("_", " ")), *map(Text, figures))
    return table


def _figure(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else _brief(value)


def _facts(rows: list[tuple[str, str]]) -> Table:
    from rich.text import Text

    table = light_table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for label, text in rows:
        table.add_row(Text(label), Text(text))
    return table


def _known(knowledge: Knowledge) -> Table:
    """Return what the forecasts of each model rest on; what is the same for all stands below, once."""
    from rich.text import Text

    head, *rows = knowledge.cells()
    columns = dict(zip(head, zip(*rows, strict=True), strict=True))
    same = {name: cells[0] for name, cells in columns.items() if len(rows) > 1 and len(set(cells)) == 1}
    below = "; ".join(f"{name}: {cell}" for name, cell in same.items())
    table = light_table(caption=f"for all of them, {below}" if same else None)
    shown = {name: cells for name, cells in columns.items() if name not in same}
    for name in shown:
        table.add_column(name, no_wrap=name == "model", style="bold" if name == "model" else "")
    for row in zip(*shown.values(), strict=True):
        table.add_row(*map(Text, row))
    return table


def _models(pool: Pool) -> Table:
    """Return what each model costs and can do; a column that would be empty is left out."""
    from rich.text import Text

    columns: dict[str, list[str]] = {
        "input": [f"{model.input_price:g}" for model in pool],
        "cached": [_number(model.cached_input_price) for model in pool],
        "output": [f"{model.output_price:g}" for model in pool],
        "context": [_number(model.context_window, ",") for model in pool],
        "abilities": [
            ", ".join(name for name in ("vision", "tools") if getattr(each, name)) for each in pool
        ],
        "limits": [_limits(model) for model in pool],
    }
    table = light_table(caption="prices in US dollars per million tokens")
    table.add_column("model", no_wrap=True, style="bold")
    shown = {head: cells for head, cells in columns.items() if any(cells)}
    for head in shown:
        words = head in ("abilities", "limits")
        table.add_column(head, justify="left" if words else "right", no_wrap=not words)
    for name, *cells in zip(pool.names, *shown.values(), strict=True):
        table.add_row(*(Text(cell) for cell in (name, *cells)))
    return table


def _number(value: float | None, form: str = "g") -> str:
    return "" if value is None else f"{value:{form}}"


def _limits(model: LLM) -> str:
    limits = (
        (model.slots, "slots"),
        (model.requests_per_minute, "requests/min"),
        (model.tokens_per_minute, "tokens/min"),
    )
    return ", ".join(f"{limit:,g} {unit}" for limit, unit in limits if limit is not None)


def _sources(pool: Pool) -> Table:
    """Return where the prices come from: too long for a column beside others."""
    from rich.text import Text

    table = light_table()
    table.add_column("model", no_wrap=True, style="bold")
    table.add_column("price from")
    for model in pool:
        source = " ".join(word for word in (model.price_source, model.price_date) if word)
        table.add_row(Text(model.name), Text(source))
    return table


def _content(bundle: Bundle | None, pool: Pool) -> dict[str, Any]:
    # By way of the pool file, so that the keys are those that a person writes there.
    content = {"pool": tomllib.loads(pool.to_toml())["model"]}
    if bundle is None:
        return content
    if (known := _knowledge(bundle, pool)) is not None:
        content["knowledge"] = [row.to_dict() for row in known]
    return {"path": str(bundle.path), "bytes": bundle.size, "bundle": dict(bundle.manifest), **content}
