"""A plan as a picture: what it costs and reaches beside single models, and who gets how much."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from eccos_rs.errors import MissingExtraError
from eccos_rs.routing.render import money

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from eccos_rs.pools.pool import Pool
    from eccos_rs.routing.problem import Problem
    from eccos_rs.solver.assignment import Assignment

__all__ = ["draw_plan"]

# Okabe and Ito's colours: told apart by most colour-blind readers.
_BLUE, _ORANGE, _GREY = "#0072B2", "#E69F00", "#777777"
_STYLE = {
    "font.size": 9.0, "axes.titlesize": 10.0, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6, "axes.axisbelow": True, "legend.frameon": False, "legend.fontsize": 8.0,
}  # fmt: skip

_NAME = 28
"""Characters of a model's name that are shown."""


class Drawn(Protocol):
    """What is drawn of a `Plan`; see there."""

    @property
    def pool(self) -> Pool: ...
    @property
    def problem(self) -> Problem: ...
    @property
    def assignment(self) -> Assignment: ...
    @property
    def promised(self) -> float | None: ...
    @property
    def total_cost(self) -> float: ...
    @property
    def mean_quality(self) -> float: ...
    @property
    def cost(self) -> NDArray[np.float64]: ...
    @property
    def deferred(self) -> NDArray[np.intp]: ...
    def __len__(self) -> int: ...


def draw_plan(plan: Drawn) -> Figure:
    """Draw a plan.

    Raises
    ------
    MissingExtraError
        Without matplotlib.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("plots need matplotlib: pip install 'eccos-rs[plot]'") from None

    class PlanFigure(Figure):
        """Shows itself in a notebook, where a figure made without pyplot would not."""

        def _repr_png_(self) -> bytes:
            picture = io.BytesIO()
            self.savefig(picture, format="png", dpi=110)
            return picture.getvalue()

    with matplotlib.rc_context(_STYLE):
        figure = PlanFigure(figsize=(10.0, max(3.4, 1.3 + 0.42 * len(plan.pool))), layout="constrained")
        left, right = figure.subplots(1, 2)
        _draw_tradeoff(plan, left)
        _draw_shares(plan, right)
    return figure


def _draw_tradeoff(plan: Drawn, axes: Axes) -> None:
    """Cost against mean predicted success: the plan, each model alone, and blind mixes of them."""
    rows = np.flatnonzero(plan.assignment.model >= 0)
    names, points = _singles(plan, rows)
    if len(points):
        hull = _upper_hull(points)
        axes.plot(hull[:, 0], 100 * hull[:, 1], ":", color=_GREY, label="blind mix")
        axes.plot(points[:, 0], 100 * points[:, 1], "o", color=_GREY, markersize=4, label="one model for all")
        middle = points[:, 0].mean() if len(points) > 1 else np.inf
        for name, (cost, quality) in zip(names, points, strict=True):
            side, shift = ("right", -6) if cost > middle else ("left", 6)
            axes.annotate(
                _short(name), (cost, 100 * quality), (shift, 5), textcoords="offset points", ha=side,
                fontsize=8, color="#444444",
            )  # fmt: skip
    if len(rows):
        axes.plot(
            [plan.total_cost], [100 * plan.mean_quality], "*", color=_BLUE, markersize=14, label="this plan"
        )
    if plan.promised is not None:
        axes.axhline(100 * plan.promised, color=_ORANGE, linewidth=1.2, linestyle="--", label="promised")
    axes.set_xlim(left=0)
    axes.margins(x=0.08, y=0.15)
    axes.set_title(f"Cost and success of {len(rows):,} queries")
    axes.set_xlabel("US dollars, predicted")
    axes.set_ylabel("mean success, predicted (%)")
    if axes.get_legend_handles_labels()[0]:
        _legend_below(axes)


def _draw_shares(plan: Drawn, axes: Axes) -> None:
    """For each model its share of the queries and of the cost."""
    chosen = plan.assignment.model
    count = len(plan.pool)
    queries = np.bincount(chosen[chosen >= 0], minlength=count).astype(float)
    spent = np.bincount(chosen[chosen >= 0], weights=np.nan_to_num(plan.cost[chosen >= 0]), minlength=count)
    places = np.arange(count)
    for shift, values, colour, label in (
        (-0.19, queries, _BLUE, "of the queries"),
        (0.19, spent, _ORANGE, "of the cost"),
    ):
        share = 100 * values / max(values.sum(), 1e-300)
        bars = axes.barh(places + shift, share, 0.36, color=colour, label=label)
        axes.bar_label(bars, [_percent(value) for value in share], padding=2, fontsize=8, color="#444444")
    axes.set_yticks(places, [_short(name) for name in plan.pool.names])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xlim(0, 112)
    axes.set_xticks([0, 25, 50, 75, 100])
    left = len(plan.deferred)
    deferred = f", {left:,} of {len(plan):,} queries deferred" if left else ""
    axes.set_title(f"Shares of {money(plan.total_cost)}{deferred}")
    axes.set_xlabel("%")
    _legend_below(axes)


def _legend_below(axes: Axes) -> None:
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=4, columnspacing=1.0, handletextpad=0.5
    )


def _singles(plan: Drawn, rows: NDArray[np.intp]) -> tuple[list[str], NDArray[np.float64]]:
    """Return models that may take every assigned query, with the cost and success of all at each, (K, 2)."""
    problem = plan.problem
    able = problem.allowed[rows].all(axis=0) if len(rows) else np.zeros(len(plan.pool), dtype=bool)
    columns = np.flatnonzero(able)
    points = [
        (
            float(problem.cost[rows, column].sum(dtype=np.float64)),
            float(problem.quality[rows, column].mean(dtype=np.float64)),
        )
        for column in columns
    ]
    return [plan.pool.names[column] for column in columns], np.array(points).reshape(-1, 2)


def _upper_hull(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the corners that no mix of two others beats, by cost."""
    corners: list[Any] = []
    for point in sorted(map(tuple, points.tolist()), key=lambda each: (each[0], -each[1])):
        if corners and point[1] <= corners[-1][1]:
            continue
        while len(corners) > 1 and _slope(corners[-2], point) >= _slope(corners[-2], corners[-1]):
            corners.pop()
        corners.append(point)
    return np.array(corners)


def _slope(first: tuple[float, float], second: tuple[float, float]) -> float:
    return (second[1] - first[1]) / max(second[0] - first[0], 1e-300)


def _percent(share: float) -> str:
    return f"{share:.0f}" if share >= 1 or share == 0 else "<1"


def _short(name: str) -> str:
    return name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"
