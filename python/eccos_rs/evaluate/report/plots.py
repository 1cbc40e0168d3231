"""The pictures of a study, drawn without a display."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.errors import MissingExtraError
from eccos_rs.evaluate.compare import AVERAGED, BUDGETS
from eccos_rs.evaluate.settings import Setting
from eccos_rs.evaluate.study import BLIND, ORACLE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from eccos_rs.evaluate.compare import Comparison, RouterScore
    from eccos_rs.evaluate.study import Study

__all__ = ["draw", "figures"]

# Okabe and Ito's colours: told apart by most colour-blind readers, and in grey by their line styles.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW, BLACK = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#222222",
)  # fmt: skip
STYLE = {
    "font.size": 9.0, "axes.titlesize": 10.0, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6, "axes.axisbelow": True, "legend.frameon": False, "legend.fontsize": 8.0,
    "lines.linewidth": 1.7, "savefig.bbox": "tight", "svg.hashsalt": "eccos", "figure.dpi": 100.0,
}  # fmt: skip


def draw(study: Study, folder: Path, prefix: str = "") -> dict[str, Path]:
    """Draw every figure as a PNG.

    Parameters
    ----------
    study : Study
        What was found.
    folder : Path
        Where to; it exists.
    prefix : str
        Begins each file's name.

    Returns
    -------
    dict of str to Path
        Figure name to file.

    Raises
    ------
    MissingExtraError
        Without matplotlib.
    """
    written = {}
    for name, figure in figures(study):
        path = folder / f"{prefix}{name}.png"
        figure.savefig(path, dpi=160, metadata={"Software": None})
        written[name] = path
    return written


def figures(study: Study) -> Iterator[tuple[str, Any]]:
    """Yield (name, matplotlib Figure); a figure with nothing to show is left out."""
    try:
        import matplotlib
    except ImportError:
        raise MissingExtraError("plots need matplotlib: pip install 'eccos-rs[plot]'") from None
    makers = {
        "curves": _curves, "limits": _limits, "prior-work": _prior_work, "reliability": _reliability,
        "promises": _promises, "shares": _shares,
    }  # fmt: skip
    with matplotlib.rc_context(STYLE):
        for name, maker in makers.items():
            figure = maker(study)
            if figure is not None:
                yield name, figure


def _panels(count: int, height: float = 3.3, **options: Any) -> tuple[Any, list[Any]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.0, height), layout="constrained")
    axes = figure.subplots(1, count, squeeze=False, **options)
    return figure, list(axes[0])


def _strong(study: Study) -> tuple[float, float]:
    """Quality and cost of the strongest single model."""
    _, quality, cost = max(study.singles, key=lambda single: (single[1], -single[2]))
    return quality, cost


def _line(score: RouterScore, cost: float) -> tuple[Any, Any]:
    """Points in order of cost (% of the strongest) with a quality that never falls (%)."""
    points = np.array(sorted(score.points))
    return 100 * points[:, 0] / cost, 100 * np.maximum.accumulate(points[:, 1])


def _short(setting: Setting) -> str:
    """Return the limit in words, without the batches."""
    words = setting.title.split(",")[0]
    return words[0].upper() + words[1:]


def _colours(study: Study) -> dict[str, str]:
    """One colour for each kind of score in every picture; the champion's is blue."""
    best = study.rival.removeprefix("per query, ")
    others = [each.predictor for each in study.forecasts if each.predictor != best]
    return {best: BLUE, **dict(zip(others, (RED, GREEN, PURPLE, ORANGE, SKY, BLACK), strict=False))}


def _lines(study: Study) -> list[tuple[str, str, str, str]]:
    strong = next(
        (n for c in study.comparisons.values() for s in c.scores if (n := s.name).startswith("strong/")), ""
    )
    rule = [] if study.rule is None else [(study.rule, RED, "-", study.rule)]
    return [
        (study.champion, BLUE, "-", study.champion), (study.rival, ORANGE, "--", study.rival),
        *rule, (strong, PURPLE, "-.", strong), (BLIND, BLACK, ":", BLIND),
    ]  # fmt: skip


def _curve_panel(study: Study, comparison: Comparison, axis: Any, title: str) -> None:
    best, cost = _strong(study)
    by_name = {score.name: score for score in comparison.scores}
    for name, colour, dash, label in _lines(study):
        if name in by_name:
            axis.plot(*_line(by_name[name], cost), color=colour, linestyle=dash, label=label)
    if study.champion in by_name:
        _band(by_name[study.champion], cost, axis)
    for score in comparison.scores:
        if not score.swept:
            x, y = 100 * score.points[0][0] / cost, 100 * score.points[0][1]
            mark = "x" if score.name in {"random", "round robin"} else "o"
            axis.plot(x, y, mark, color="#666666", markersize=4)
            # The dearest stand at the right edge: their names go to the left.
            side, shift = ("right", -5) if x > 60 or score.name == "random" else ("left", 5)
            axis.annotate(
                score.name,
                (x, y),
                (shift, -9),
                textcoords="offset points",
                ha=side,
                fontsize=7,
                color="#555555",
            )
    axis.axhline(100 * best, color="#999999", linewidth=0.8)
    axis.set_xscale("log")
    axis.set_title(title)
    axis.set_xlabel("cost, % of the strongest model's")
    ticks = (0.5, 1, 2, 5, 10, 20, 50, 100)
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()


def _band(score: RouterScore, cost: float, axis: Any) -> None:
    """Shade the interval, as far as the curve goes."""
    end = max(point[0] for point in score.points) / cost
    known = [
        (100 * budget, 100 * each.low, 100 * each.high)
        for budget, each in zip(BUDGETS, score.quality, strict=True)
        if each.low == each.low and budget <= end
    ]
    if known:
        x, low, high = zip(*known, strict=True)
        axis.fill_between(x, low, high, color=BLUE, alpha=0.13, linewidth=0)


def _curves(study: Study) -> Any:
    wanted = [s for s in (Setting(), Setting("equal/4"), Setting("equal/5")) if s in study.comparisons]
    wanted = wanted or list(study.comparisons)[:1]
    figure, axes = _panels(len(wanted), 3.9, sharey=True)
    for setting, axis in zip(wanted, axes, strict=True):
        _curve_panel(study, study.comparisons[setting], axis, _short(setting))
    heights = [
        point[1]
        for setting in wanted
        for score in study.comparisons[setting].scores
        if score.swept and score.name != ORACLE
        for point in score.points
    ]
    low, high = np.quantile(heights, 0.02), max(heights)
    axes[0].set_ylim(100 * low - 2, 100 * high + 2)
    axes[0].set_ylabel("right answers, %")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _limits(study: Study) -> Any:
    """Gain over each rival, a row for each setting."""
    settings = list(study.comparisons)
    rivals = [
        (study.rival, ORANGE, "o"),
        (BLIND, BLACK, "s"),
        *([(study.rule, RED, "D")] if study.rule else []),
    ]
    figure, (axis,) = _panels(1, 0.9 + 0.27 * len(settings))
    for shift, (rival, colour, marker) in zip((0.22, 0.0, -0.22), rivals, strict=False):
        drawn = False
        for row, setting in enumerate(reversed(settings)):
            found = study.comparisons[setting].gains.get(f"{study.champion} - {rival}")
            if found is None or np.isnan(found.mean.value):
                continue
            value, low, high = (100 * each for each in found.mean)
            axis.plot([low, high], [row + shift] * 2, color=colour, linewidth=1.2)
            label = None if drawn else f"ahead of: {rival}"
            axis.plot(value, row + shift, marker, color=colour, markersize=4, label=label, linestyle="none")
            drawn = True
    axis.axvline(0, color="#999999", linewidth=0.9)
    axis.set_yticks(range(len(settings)), [setting.title for setting in reversed(settings)])
    axis.set_xlabel(
        f"points by which {study.champion} is ahead at equal cost, mean of 3–30 %, with 95 % intervals"
    )
    axis.set_ylim(-0.6, len(settings) - 0.4)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3)
    return figure


def _prior_work(study: Study) -> Any:
    wanted = [s for s in (Setting(), Setting("equal/4"), Setting("equal/5")) if s in study.comparisons]
    if not wanted:
        return None
    figure, axes = _panels(len(wanted), 3.0, sharey=True)
    colours = _colours(study)
    x = 100 * np.asarray(BUDGETS[:AVERAGED])
    for setting, axis in zip(wanted, axes, strict=True):
        for predictor, colour in colours.items():
            found = study.comparisons[setting].gains.get(f"joint, {predictor} - per query, {predictor}")
            if found is None:
                continue
            values = 100 * np.array(found.at[:AVERAGED])
            axis.plot(x, values[:, 0], color=colour, label=predictor, marker=".")
            if predictor == study.rival.removeprefix("per query, "):
                axis.fill_between(x, values[:, 1], values[:, 2], color=colour, alpha=0.15, linewidth=0)
        axis.axhline(0, color="#999999", linewidth=0.9)
        axis.set_title(_short(setting))
        axis.set_xlabel("cost, % of the strongest model's")
    axes[0].set_ylabel("joint minus per query, points")
    figure.legend(
        *axes[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=5,
        title="same scores for both",
    )
    return figure


def _reliability(study: Study) -> Any:
    figure, axes = _panels(2, 4.2, sharey=True)
    colours = _colours(study)
    for axis, part, title in zip(axes, ("all_pairs", "chosen"), ("All pairs", "Chosen pairs"), strict=True):
        axis.plot([0, 100], [0, 100], color="#999999", linewidth=0.9)
        for each in study.forecasts:
            diagram = getattr(each, part)
            error = each.ece if part == "all_pairs" else each.ece_chosen
            axis.plot(
                100 * diagram.forecast,
                100 * diagram.outcome,
                marker=".",
                color=colours[each.predictor],
                label=f"{each.predictor} (ECE {error:.3f})",
            )
        axis.set_title(title)
        axis.set_xlabel("forecast, % right")
        axis.set_aspect("equal")
        axis.set_xlim(0, 100)
        axis.set_ylim(0, 100)
        axis.legend(loc="upper left")
    axes[0].set_ylabel("came true, %")
    return figure


def _promises(study: Study) -> Any:
    usual = [each for each in study.promises if each.setting == Setting().name and each.batches]
    by_predictor = list(dict.fromkeys(each.predictor for each in usual))
    if not usual:
        return None
    figure, (axis,) = _panels(1, 3.4)
    levels = sorted({each.promised for each in usual})
    axis.axhline(0, color="#999999", linewidth=0.9)
    for number, predictor in enumerate(by_predictor):
        found = [each for each in usual if each.predictor == predictor]
        x = [100 * each.promised + 0.12 * (number - len(by_predictor) / 2) for each in found]
        values = 100 * np.array([each.difference for each in found])
        spread = np.abs(values[:, 1:] - values[:, :1]).T
        axis.errorbar(
            x,
            values[:, 0],
            yerr=spread,
            color=_colours(study)[predictor],
            fmt="o",
            markersize=4,
            capsize=2,
            label=predictor,
            linewidth=1.2,
        )
    axis.set_xticks([100 * level for level in levels])
    axis.set_xlabel("promised mean quality of a batch of 256, %")
    axis.set_ylabel("realised minus predicted, points")
    axis.legend(ncols=len(by_predictor), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def _shares(study: Study) -> Any:
    wanted = [s for s in (Setting(), Setting("equal/4"), Setting("strong/10")) if s in study.comparisons]
    wanted = wanted or list(study.comparisons)[:1]
    _, cost = _strong(study)
    names = [name for name, _, _ in study.singles]
    order = _columns(study)
    figure, axes = _panels(len(wanted), 3.5, sharey=True)
    colours = ("#deebf7", SKY, BLUE, GREEN, ORANGE, RED, PURPLE, YELLOW, BLACK)
    for setting, axis in zip(wanted, axes, strict=True):
        score = next(each for each in study.comparisons[setting].scores if each.name == study.champion)
        rank = np.argsort([point[0] for point in score.points], kind="stable")
        x = 100 * np.array([score.points[k][0] for k in rank]) / cost
        share = 100 * np.array(score.share)[rank][:, order]
        stacked = axis.stackplot(
            x, share.T, labels=names, colors=[colours[k % len(colours)] for k in range(len(names))]
        )
        for each in stacked:
            each.set_edgecolor("white")
            each.set_linewidth(0.4)
        axis.set_xscale("log")
        ticks = [tick for tick in (0.5, 1, 2, 5, 10, 20, 50, 100) if x.min() <= tick <= x.max() * 1.001]
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.minorticks_off()
        axis.set_xlim(max(x.min(), 1e-6), max(x.max(), x.min() * 1.01, 2e-6))
        axis.set_ylim(0, 100)
        axis.grid(visible=False)
        axis.set_title(_short(setting))
        axis.set_xlabel("cost, % of the strongest model's")
    axes[0].set_ylabel("share of the queries, %")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return figure


def _columns(study: Study) -> list[int]:
    """Columns of the models in the order of `study.singles` (cheapest first)."""
    place = {name: column for column, name in enumerate(study.about["models"])}
    return [place[name] for name, _, _ in study.singles]
