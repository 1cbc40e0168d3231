"""The pictures of a forecast, drawn without a display."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

from eccos_rs.errors import MissingExtraError
from eccos_rs.evaluate.report.plots import BLACK, BLUE, GREEN, ORANGE, PURPLE, RED, SKY, STYLE, YELLOW

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from eccos_rs.evaluate.curves import Estimate
    from eccos_rs.whatif.forecast import Forecast

__all__ = ["draw", "embedded"]

_COLOURS = (ORANGE, GREEN, RED, PURPLE, SKY, YELLOW, BLUE)
_MARKS = "sD^vPXo"


def draw(found: Forecast) -> Figure:
    """Draw the frontier with every world's point, and below it costs and shares.

    Raises
    ------
    MissingExtraError
        Without matplotlib.
    """
    height = 5.0 + _rows_height(found)
    figure = _figure(10.0, height)
    with _style():
        above, below = figure.subfigures(2, 1, squeeze=True, height_ratios=[4.6, height - 4.6])  # type: ignore[misc]  # two
        _frontier(found, above)
        _worlds(found, below)
    return figure


def embedded(found: Forecast) -> dict[str, str]:
    """Return each picture of the page as SVG in base64; none without matplotlib."""
    pictures = {}
    try:
        with _style():
            for name, maker, height in (
                ("frontier", _frontier, 4.6),
                ("worlds", _worlds, 0.4 + _rows_height(found)),
            ):
                figure = _figure(10.0, height)
                maker(found, figure)
                stream = io.BytesIO()
                figure.savefig(stream, format="svg", metadata={"Date": None})
                pictures[name] = base64.b64encode(stream.getvalue()).decode()
    except MissingExtraError:
        return {}
    return pictures


def _style() -> Any:
    try:
        import matplotlib
    except ImportError:
        raise MissingExtraError("pictures need matplotlib: pip install 'eccos-rs[plot]'") from None
    return matplotlib.rc_context(STYLE)


def _figure(width: float, height: float) -> Figure:
    with _style():
        from matplotlib.figure import Figure

        return Figure(figsize=(width, height), layout="constrained")


def _rows_height(found: Forecast) -> float:
    return 1.2 + 0.32 * len(found.outcomes)


def _frontier(found: Forecast, figure: Any) -> None:
    axis: Axes = figure.subplots()
    if found.frontier:
        quality, cost = zip(*found.frontier, strict=True)
        axis.plot([100 * each for each in quality], cost, color=BLUE, label="least cost under today's limits")
    _near(found, axis)
    if found.as_is is not None:
        look = {"color": BLACK, "marker": "*", "markersize": 10, "label": "today, as the log has it"}
        _point(axis, found.as_is.quality, found.as_is.cost, **look)
    today, *others = found.outcomes
    for at, each in enumerate(others):
        look = {"color": _COLOURS[at % len(_COLOURS)], "marker": _MARKS[at % len(_MARKS)], "markersize": 6}
        _point(axis, each.quality, each.cost, label=each.scenario.name, **look)
    # A ring, so that a world in which nothing changes is seen inside it.
    look = {"color": BLUE, "marker": "o", "markersize": 11, "fillstyle": "none", "label": "today, routed"}
    _point(axis, today.quality, today.cost, **look)
    axis.set_xlabel("mean success, %")
    axis.set_ylabel("US dollars per day")
    axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0))


def _near(found: Forecast, axis: Axes) -> None:
    """Show where the points are; intervals may run out of the picture."""
    points = [(each.quality.value, each.cost.value) for each in found.outcomes]
    points += [(quality, cost) for quality, cost in found.frontier]
    if found.as_is is not None:
        points.append((found.as_is.quality.value, found.as_is.cost.value))
    quality, cost = zip(*points, strict=True)
    wide = max(max(quality) - min(quality), 0.02)
    axis.set_xlim(100 * (min(quality) - 0.25 * wide), min(100 * (max(quality) + 0.25 * wide), 100.5))
    axis.set_ylim(0.0, 1.35 * max(*cost, 1e-9))


def _point(axis: Axes, quality: Estimate, cost: Estimate, **look: Any) -> None:
    """Draw a point, and its intervals as far as they stay in the picture: a line through it tells nothing."""
    at, line = 100 * quality.value, {"color": look["color"], "linewidth": 0.9, "alpha": 0.6}
    axis.plot(at, cost.value, linestyle="none", **look)
    if axis.get_xlim()[0] <= 100 * quality.low and 100 * quality.high <= axis.get_xlim()[1]:
        axis.plot([100 * quality.low, 100 * quality.high], [cost.value] * 2, **line)
    if cost.high <= axis.get_ylim()[1]:
        axis.plot([at, at], [cost.low, cost.high], **line)


def _worlds(found: Forecast, figure: Any) -> None:
    costs, shares = figure.subplots(1, 2, sharey=True)
    names = [each.scenario.name for each in found.outcomes]
    places = list(range(len(names)))[::-1]
    values = [each.cost for each in found.outcomes]
    costs.barh(places, [each.value for each in values], color=SKY, height=0.6)
    for place, each in zip(places, values, strict=True):
        costs.plot([each.low, each.high], [place, place], color=BLACK, linewidth=1.0)
    costs.set_yticks(places, names)
    costs.set_xlim(0.0, 1.6 * max(*(each.value for each in values), 1e-9))
    costs.set_xlabel("US dollars per day")
    models = list(dict.fromkeys(name for each in found.outcomes for name in each.shares))
    left = [0.0] * len(names)
    for at, model in enumerate(models):
        width = [100 * each.shares.get(model, 0.0) for each in found.outcomes]
        shares.barh(
            places,
            width,
            left=left,
            height=0.6,
            label=model,
            color=(BLUE, *_COLOURS[:-1])[at % len(_COLOURS)],
        )
        left = [before + more for before, more in zip(left, width, strict=True)]
    shares.set_xlim(0.0, 100.0)
    shares.set_xlabel("share of the requests, %")
    shares.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0))
