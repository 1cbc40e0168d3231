"""`eccos plan`: what would change if prices, models, limits, goals or traffic did."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from eccos_rs.cli.options import MinQuality, RelativeQuality  # noqa: TC001 - typer reads the annotations

if TYPE_CHECKING:
    from eccos_rs.pools.pool import Pool
    from eccos_rs.whatif.forecast import Forecast
    from eccos_rs.whatif.scenario import Change
    from eccos_rs.whatif.wording import Added

__all__ = ["plan"]

_FORMS = (".html", ".svg", ".png", ".pdf", ".json")


def plan(
    log: Annotated[
        str,
        typer.Argument(
            metavar="LOG",
            help="Real requests as they are: chat bodies, batch files, LiteLLM's spend logs, chats, texts; "
            'JSON lines, JSON, CSV or Parquet, packed or not. "-" reads standard input.',
        ),
    ],
    *,
    pool: Annotated[Path, typer.Option("--pool", help="Pool file: today's models, prices and limits.")],
    what_if: Annotated[
        list[str] | None,
        typer.Option(
            "--if",
            metavar="CHANGE",
            help="A world: one change, or several with semicolons between them. Give it again for another.",
        ),
    ] = None,
    scenarios: Annotated[
        Path | None, typer.Option("--scenarios", help="More worlds, from a TOML file of [[scenario]] tables.")
    ] = None,
    min_quality: MinQuality = None,
    relative_quality: RelativeQuality = None,
    budget: Annotated[
        float | None, typer.Option(help="Highest mean success for at most this many US dollars per day.")
    ] = None,
    out: Annotated[
        list[Path] | None,
        typer.Option(
            "--out", "-o", "--plot", help="Write a report (.html), a picture (.svg, .png, .pdf) or .json."
        ),
    ] = None,
    bundle: Annotated[
        str | None,
        typer.Option(
            help="Who forecasts: a bundle's folder or name; by default the shipped one that suits the pool."
        ),
    ] = None,
    sample: Annotated[
        int, typer.Option(min=1, help="Rows of the log that are looked at: a fair sample of a longer one.")
    ] = 5_000,
    column: Annotated[str | None, typer.Option(help="The column with the text or the messages.")] = None,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="The store of sessions or a gateway (sqlite:///path, redis://host:port/db): how many "
            "requests came and when, who answered, what they cost. It holds no texts; those of LOG stand for "
            "them.",
        ),
    ] = None,
    days: Annotated[
        float | None, typer.Option(help="Days that the log spans, where its rows do not say when they came.")
    ] = None,
    tokens_per_second: Annotated[
        float, typer.Option(help="Output tokens per second of an answer: how long it holds a slot.")
    ] = 50.0,
    utilisation: Annotated[
        float, typer.Option(help="Share of the slots' time that is planned with; the rest is for peaks.")
    ] = 0.8,
    resamples: Annotated[int, typer.Option(min=2, help="Draws behind the intervals.")] = 100,
    seed: Annotated[int, typer.Option(help="Of samples and draws.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print everything that was found as JSON.")] = False,
) -> None:
    """Look ahead: what own traffic would cost in other worlds, what binds, and what more of it is worth.

    Nobody is asked: every request of the log is forecast at every model, and each world is planned as a whole
    under its prices and limits. Without a goal, the quality of the models that the log names is kept.

    \b
    eccos plan log.jsonl --pool pool.toml --if "price gpt-5=x0.5"
    eccos plan log.jsonl --pool pool.toml --if "outage large" -o plan.html
    eccos plan log.jsonl --pool pool.toml --if "batch 50%; traffic 2"
    eccos plan log.jsonl --pool pool.toml --store sqlite:///gateway.sqlite

    \b
    price MODEL=IN/OUT          US dollars per million tokens
    price MODEL=xFACTOR         a factor on today's prices
    slots NAME=N                of a model or a shared limit; +N adds; likewise
                                requests_per_minute and tokens_per_minute
    add NAME, add new.toml      a model of the catalogue, or of a pool file
    add NAME=labels             the same with labelled answers, some 50
    outage MODEL                it is gone
    commit MODEL=N              at least N requests per day go there
    batch SHARE                 this share of requests may wait for batch lanes
    budget USD, min_quality Q   another goal (US dollars per day)
    traffic FACTOR              so many requests for each one of today
    """  # noqa: D301 - \b keeps typer from joining the lines
    from eccos_rs.cli.common import console, json_text, progress_bar, standard_input
    from eccos_rs.evaluate.report.html import print_sections
    from eccos_rs.routing.policy import DEFAULT_RELATIVE_QUALITY
    from eccos_rs.routing.pool import Pool
    from eccos_rs.whatif.forecast import forecast
    from eccos_rs.whatif.report import as_dict, sections
    from eccos_rs.whatif.scenario import TODAY, Scenario
    from eccos_rs.whatif.served import read_served, served_traffic
    from eccos_rs.whatif.traffic import live_pool, read_traffic
    from eccos_rs.whatif.wording import build_worlds

    _check_usage(
        {"min-quality": min_quality, "relative-quality": relative_quality, "budget": budget}, out or []
    )
    if store is not None and days is not None:
        raise typer.BadParameter("--days is for a log without times; --store says when requests came")
    own = Pool.load(pool)
    live = live_pool(own)
    served = None if store is None else read_served(store)
    named, added = _asked(what_if or [], scenarios, live)
    with standard_input() if log == "-" else nullcontext(log) as source:
        traffic = read_traffic(
            source, live, added=added, bundle=bundle, device=device, sample=sample, column=column, days=days,
            tokens_per_second=tokens_per_second, utilisation=utilisation, seed=seed,
        )  # fmt: skip
    if served is not None:
        traffic = served_traffic(traffic, served, live, sample=sample, seed=seed)
    if budget is not None:
        goal = ("budget", budget)
    elif min_quality is not None:
        goal = ("min_quality", min_quality)
    else:
        share = DEFAULT_RELATIVE_QUALITY if relative_quality is None else relative_quality
        goal = traffic.goal(live, share, strongest=relative_quality is not None)
    worlds = build_worlds(Scenario(TODAY, live, goal), named)
    with progress_bar("planning", len(worlds) * resamples) as progress:
        found = forecast(traffic, worlds, lanes=own, resamples=resamples, seed=seed, progress=progress)
    for path in out or ():
        _write(found, path)
    if as_json:
        typer.echo(json_text(as_dict(found), indent=2))
    else:
        print_sections(sections(found), console())


def _check_usage(goals: dict[str, float | None], out: list[Path]) -> None:
    given = [name for name, value in goals.items() if value is not None]
    if len(given) > 1:
        raise typer.BadParameter(f"one goal is wanted; got --{' and --'.join(given)}")
    for path in out:
        if path.suffix.lower() not in _FORMS:
            raise typer.BadParameter(f"--out must end in one of {', '.join(_FORMS)}; got {str(path)!r}")


def _asked(
    texts: list[str], scenarios: Path | None, pool: Pool
) -> tuple[list[tuple[str, list[Change]]], Added]:
    """Return the worlds that are asked about; what is wrong with one is told before the log is read."""
    from eccos_rs.whatif.scenario import TODAY, Scenario
    from eccos_rs.whatif.wording import Wording, build_worlds, read_scenarios

    wording = Wording()
    named = [("", wording.parse(text)) for text in texts]
    added = dict(wording.models)
    if scenarios is not None:
        more, models = read_scenarios(scenarios)
        named, added = [*named, *more], {**added, **models}
    build_worlds(Scenario(TODAY, pool, ("min_quality", 0.0)), named)
    return named, added


def _write(found: Forecast, path: Path) -> None:
    from eccos_rs.cli.common import json_text, write_whole
    from eccos_rs.whatif.picture import draw, embedded
    from eccos_rs.whatif.report import as_dict, as_html

    form = path.suffix.lower()
    with write_whole(path) as stream:
        if form == ".html":
            stream.write(as_html(found, embedded(found)).encode())
        elif form == ".json":
            stream.write(json_text(as_dict(found), indent=1, out=path).encode())
        else:
            draw(found).savefig(stream, format=form[1:], dpi=160)
