"""`eccos evaluate`: what a router is worth, at equal money."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eccos_rs.cli.common import console

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from eccos_rs.evaluate import RoutingMethod, Study

__all__ = ["evaluate"]


def evaluate(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="Labelled queries (.jsonl, .jsonl.gz, .parquet).")
    ],
    *,
    bundle: Annotated[
        str | None,
        typer.Option(
            "--bundle", "-b", help="A trained router: a folder or a shipped name. Default: the shipped one."
        ),
    ] = None,
    train_fraction: Annotated[
        float | None,
        typer.Option(
            help="Train a router on this share of DATA, split by text, and judge it on the rest, in place "
            "of --bundle."
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Split DATA into so many parts by text, train a router without each and judge it there: "
            "every query is judged. In place of --bundle.",
        ),
    ] = None,
    aux: Annotated[
        list[Path] | None,
        typer.Option(help="When training: further models' answers to the same queries; may be repeated."),
    ] = None,
    pool: Annotated[
        Path | None,
        typer.Option(
            help="When training: prices (.toml, .csv); else those that DATA's costs tell. Without training: "
            "a pool file of models that are known by published scores."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Folder for report.html, results.md, results.json and the plots (.png)."
        ),
    ] = None,
    docs: Annotated[
        Path | None,
        typer.Option(help="Folder for results.md with its plots under img/, as a documentation wants them."),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--setting",
            "-s",
            help="default, all, or LIMIT[:FORM[:SIZE]]; LIMIT: none, equal/4, strong/10, two/10; FORM: "
            "random, adversarial; SIZE: queries in a batch, or all. May be repeated.",
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            "--contender",
            help="A router of your own to judge beside the baselines: package.module:Class, made without "
            "arguments. May be repeated. (--contender is the old name.)",
        ),
    ] = None,
    resamples: Annotated[int, typer.Option(min=20, help="Bootstrap draws for the intervals.")] = 500,
    seed: Annotated[int, typer.Option(help="Of the split and of the draws.")] = 0,
    quality_scale: Annotated[
        float, typer.Option(help="What stands for a perfect answer in DATA, such as 10 or 100.")
    ] = 1.0,
    device: Annotated[str, typer.Option(help="Where the encoder runs: auto, cpu or cuda.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of the encoder.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Compare routers at equal realised cost, on queries that none of them was trained on.

    Every router's operating point is swept, and quality is read where the same money was spent: on every
    single model, random mixes, round robin, AIOS's threshold rule, a strong/weak threshold, the per-query
    rule and the joint assignment, each with every kind of forecast, and an oracle. Without limits and with
    capacities, in random and in hard batches, with 95 % intervals; promises are compared with what came
    of them.

    What the bundle was trained on is left out: it keeps a record of its texts.

    \b
    eccos evaluate qa.parquet --out results            the shipped router
    eccos evaluate qa.parquet --train-fraction 0.8     train on a part
    eccos evaluate qa.parquet --folds 5                judge every query
    eccos evaluate qa.parquet --method mine:ByLength   a router of your own too
    eccos evaluate qa.parquet --pool pool.toml         known by published scores
    eccos evaluate qa.parquet -s none -s equal/4:random:64 --json
    """  # noqa: D301 - \b keeps typer from joining the lines
    from eccos_rs.evaluate import (
        evidence_from_bundle,
        evidence_from_folds,
        evidence_from_router,
        find_settings,
        study,
    )
    from eccos_rs.evaluate.report.html import as_json, print_report
    from eccos_rs.evaluate.training import train_folds, train_part
    from eccos_rs.predict.bundle import Bundle
    from eccos_rs.records import RecordTable
    from eccos_rs.routing.router import Router

    if sum(each is not None for each in (bundle, train_fraction, folds)) > 1:
        raise typer.BadParameter("give one of --bundle, --train-fraction and --folds")
    if train_fraction is not None and not 0.0 < train_fraction < 1.0:
        raise typer.BadParameter(f"--train-fraction: got {train_fraction}, wanted a share between 0 and 1")
    settings = find_settings(setting or ["default"])
    extra = [_load(name) for name in method or ()]
    table = RecordTable.read(data, quality_scale=quality_scale)
    about: dict[str, Any] = {
        "data": data.name,
        "device": device,
        "threads": threads,
        "seed": seed,
        "progress": _bar,
    }
    if folds is not None:
        trained = train_folds(table, folds, progress=_bar, aux=aux or (), pool=pool, seed=seed)
        evidence = evidence_from_folds(table, trained, **about)
    elif train_fraction is not None:
        with train_part(
            table, train_fraction, progress=_bar, aux=aux or (), pool=pool, seed=seed, folder=out
        ) as (made, seen):
            evidence = evidence_from_bundle(table, made, seen=seen, **about)
    else:
        opened = Bundle.load(bundle)
        judged = set(opened.models) & set(table.models)
        if opened.models and (bundle is not None or pool is None or len(judged) > 1):
            evidence = evidence_from_bundle(table, opened, **about)
        else:  # it was trained on none of the models: they are known by scores, and by labels since
            router = Router.load(bundle, pool=pool, device=device, threads=threads)
            evidence = evidence_from_router(table, router, data=data.name, seed=seed, progress=_bar)
    with _steps() as told:
        found = study(evidence, settings=settings, resamples=resamples, seed=seed, extra=extra, progress=told)
    _write(found, out, docs)
    if json_:
        typer.echo(as_json(found))
    else:
        print_report(found, console())


def _write(found: Study, out: Path | None, docs: Path | None) -> None:
    """Write the report's files, each as a whole."""
    from eccos_rs.cli.common import write_lines
    from eccos_rs.evaluate.report.html import LEAD, as_html, as_json, as_markdown
    from eccos_rs.evaluate.report.plots import draw

    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        images = draw(found, out)
        write_lines(out / "results.json", [as_json(found)])
        write_lines(out / "report.html", [as_html(found)])
        names = {name: path.name for name, path in images.items()}
        write_lines(out / "results.md", [as_markdown(found, names).rstrip()])
    if docs is not None:
        (docs / "img").mkdir(parents=True, exist_ok=True)
        images = draw(found, docs / "img", "results-")
        names = {name: f"img/{path.name}" for name, path in images.items()}
        write_lines(docs / "results.md", [as_markdown(found, names, lead=LEAD).rstrip()])


@contextmanager
def _bar(label: str, total: int) -> Iterator[Callable[[int], object]]:
    """Show a bar on a terminal; yields a function to be called with the steps just done."""
    from eccos_rs.cli.common import progress_bar

    with progress_bar(label, total) as advance:
        yield advance


@contextmanager
def _steps() -> Iterator[Callable[[str, int, int], object]]:
    """Show what is being run, on a terminal; yields what `study` calls with each step."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    shown = console(stderr=True)
    columns = BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}")
    with Progress(*columns, console=shown, transient=True, disable=not shown.is_terminal) as progress:
        task = progress.add_task("", total=None)
        yield lambda what, done, total: progress.update(task, description=what, completed=done, total=total)


def _load(name: str) -> RoutingMethod:
    """Make a method out of ``package.module:Class``; the working directory is searched too."""
    from importlib import import_module

    from eccos_rs.errors import InputError
    from eccos_rs.evaluate import RoutingMethod

    module, _, attribute = name.partition(":")
    sys.path.insert(0, "")
    try:
        made = getattr(import_module(module), attribute)()
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise InputError(f"method {name!r}: {error}; wanted package.module:Class") from error
    finally:
        sys.path.remove("")
    if not isinstance(made, RoutingMethod):
        raise InputError(f"method {name!r}: wanted a name, fit(table) and choose(batch, operating_point)")
    return made
