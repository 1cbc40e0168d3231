"""Reads the field's measures off a setting's runs, with paired bootstrap intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from eccos_rs.evaluate.curves import Curve, Estimate, Resamples, cost_at, quality_at, summarise
from eccos_rs.evaluate.metrics import aiq, apgr, cpt, pareto_distance

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eccos_rs.evaluate.harness import HeldOutSet, Run, RunStatistics

__all__ = ["BUDGETS", "LEVELS", "LOSSES", "Comparison", "Gain", "RouterScore", "compare", "gain"]

Floats = npt.NDArray[np.float64]

#: Mean cost a query at which quality is read, as a part of the strongest model's mean cost.
BUDGETS = (0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.5)
#: The part of `BUDGETS` that a gain is averaged over: 3 to 30 %.
AVERAGED = 8
#: The part that is cost pressure: up to 10 %.
CHEAP = 4
#: Quality lost against the strongest model at which cost is read.
LOSSES = (0.0, 0.01, 0.03)
#: Parts of the gap between the cheapest and the strongest model for CPT.
LEVELS = (0.5, 0.8, 0.95)


@dataclass(frozen=True)
class Gain:
    """Quality of one router minus that of another at equal realised cost.

    Attributes
    ----------
    at : list of Estimate
        One for each of `BUDGETS`; NaN where one of them cannot be had so cheaply.
    mean : Estimate
        Mean over those budgets from 3 to 30 % that both reach.
    cheap : Estimate
        The same over the budgets up to 10 %: under cost pressure.
    budgets : list of float
        The budgets that `mean` was taken over.
    """

    at: list[Estimate]
    mean: Estimate
    cheap: Estimate
    budgets: list[float]


@dataclass(frozen=True)
class RouterScore:
    """What one router did in one setting.

    Attributes
    ----------
    name : str
        The router.
    swept : bool
        Whether it has an operating point; without one, only `points` and `ahead` are filled.
    points : list of (cost, quality)
        Mean US dollars and mean quality at each operating point.
    share : list of list of float
        Share of the queries that each model got, at each position.
    quality : list of Estimate
        At each of `BUDGETS`.
    cost : list of Estimate
        At each of `LOSSES`, as a part of the strongest model's cost; infinity where it is never reached.
    aiq, apgr, regret, distance : Estimate
        See `eccos_rs.evaluate.metrics`; regret is the oracle's quality minus its own, distance that to the
        best
        of all routers, both as means over the budgets from 3 to 30 %.
    cpt : list of float
        At each of `LEVELS`.
    ahead : Estimate
        For a router without an operating point: how much better the champion is for the same money.
    statistics : RunStatistics
        Limits kept, and time.
    """

    name: str
    swept: bool
    points: list[tuple[float, float]]
    share: list[list[float]]
    quality: list[Estimate]
    cost: list[Estimate]
    aiq: Estimate
    apgr: Estimate
    regret: Estimate
    distance: float
    cpt: list[float]
    ahead: Estimate
    statistics: RunStatistics


@dataclass(frozen=True)
class Comparison:
    """All routers in one setting.

    Attributes
    ----------
    scores : list of RouterScore
        In the order of the methods.
    gains : dict of str to Gain
        Keys ``A - B``: the champion against each router with an operating point, and the joint assignment
        against the per-query rule with the same scores.
    cost_range : (low, high)
        Mean US dollars between which AIQ is taken.
    """

    scores: list[RouterScore]
    gains: dict[str, Gain]
    cost_range: tuple[float, float]


def gain(one: Curve, two: Curve, reference: Floats, resamples: Resamples) -> Gain:
    """Compare two curves at equal realised cost.

    Parameters
    ----------
    one, two : Curve
        On the same queries.
    reference : ndarray, shape (B,)
        Mean cost of the strongest model in each draw; budgets are parts of it.
    resamples : Resamples
        The draws.
    """
    difference = _qualities(one, reference, resamples) - _qualities(two, reference, resamples)
    at = [summarise(difference[:, k]) for k in range(len(BUDGETS))]
    budgets = [BUDGETS[k] for k in range(AVERAGED) if np.isfinite(difference[0, k])]
    return Gain(
        at, summarise(_mean_reached(difference)), summarise(_mean_reached(difference, CHEAP)), budgets
    )


def _qualities(curve: Curve, reference: Floats, resamples: Resamples) -> Floats:
    """Quality at each budget in each draw, (B, K)."""
    quality, cost = curve.means(resamples)
    return np.stack(
        [
            quality_at(q, c, each * np.asarray(BUDGETS))
            for q, c, each in zip(quality, cost, reference, strict=True)
        ]
    )


def compare(
    runs: Mapping[str, Run], test_set: HeldOutSet, resamples: Resamples, *, champion: str,
    pairs: Sequence[tuple[str, str]] = (), oracle: str | None = None,
) -> Comparison:  # fmt: skip
    """Read everything off the runs of one setting.

    Parameters
    ----------
    runs : mapping of name to Run
        All methods, on the same batches.
    test_set : HeldOutSet
        The judged queries.
    resamples : Resamples
        Paired draws.
    champion : str
        The router that every other one is set against.
    pairs : sequence of (str, str)
        Further pairs to compare; those not in `runs` are left out.
    oracle : str, optional
        The method that knew the outcomes; it is no rival, so it does not make the frontier.
    """
    curves = {name: run.curve for name, run in runs.items()}
    served = next(iter(curves.values())).count
    strong, weak = test_set.strongest, test_set.weakest
    table = test_set.table
    singles = [
        (
            resamples.mean(served * table.quality[:, [j]].T, served)[:, 0],
            resamples.mean(served * table.cost[:, [j]].T, served)[:, 0],
        )
        for j in (weak, strong)
    ]
    reference = singles[1][1]
    swept = [curve for curve in curves.values() if curve.swept]
    # In each draw anew: a range fixed once would leave some curves without their beginning in half of the
    # draws.
    low = np.max(
        [curve.means(resamples)[1].min(axis=1) for curve in swept] or [np.zeros(len(reference))], axis=0
    )
    scale = _Scale(test_set, resamples, singles, np.stack([low, np.maximum(reference, low * 1.001)], axis=1))
    frontier = _frontier([curve for curve in swept if curve.name != oracle], reference, resamples)
    best = _qualities(curves[oracle], reference, resamples) if oracle in curves else None
    scores = [_score(run, scale, curves.get(champion), frontier, best) for run in runs.values()]
    wanted = [(champion, curve.name) for curve in swept if curve.name != champion]
    gains = {
        f"{a} - {b}": gain(curves[a], curves[b], reference, resamples)
        for a, b in dict.fromkeys([*wanted, *pairs])
        if a in curves and b in curves
    }
    return Comparison(scores, gains, (float(scale.span[0, 0]), float(scale.span[0, 1])))


@dataclass(frozen=True, eq=False)
class _Scale:
    """What a setting's measures are measured against."""

    test_set: HeldOutSet
    resamples: Resamples
    singles: list[tuple[Floats, Floats]]
    span: Floats


def _first(resamples: Resamples) -> Resamples:
    return Resamples(resamples.weights[:1])


def _frontier(curves: Sequence[Curve], reference: Floats, resamples: Resamples) -> Floats:
    """Best quality of any router at each budget, (K,); NaN where none reaches it."""
    rows = [_qualities(curve, reference[:1], _first(resamples))[0] for curve in curves]
    rows.append(np.full(len(BUDGETS), np.nan))
    best: Floats = np.fmax.reduce(np.stack(rows))
    return best


def _score(
    run: Run, scale: _Scale, champion: Curve | None, frontier: Floats, oracle: Floats | None
) -> RouterScore:
    curve, (weak, strong) = run.curve, scale.singles
    quality, cost = curve.means(scale.resamples)
    nothing = Estimate(float("nan"), float("nan"), float("nan"))
    points = [(float(c), float(q)) for q, c in zip(quality[0], cost[0], strict=True)]
    if not curve.swept:
        ahead = nothing
        if champion is not None:
            theirs = [
                float(quality_at(q, c, own[0]))
                for q, c, own in zip(*champion.means(scale.resamples), cost, strict=True)
            ]
            ahead = summarise(np.asarray(theirs) - quality[:, 0])
        return RouterScore(
            curve.name, False, points, curve.share.tolist(), [nothing] * len(BUDGETS), [nothing] *
            len(LOSSES),
            nothing, nothing, nothing, float("nan"), [float("nan")] * len(LEVELS), ahead, run.statistics,
        )  # fmt: skip
    at = _qualities(curve, strong[1], scale.resamples)
    draws = list(zip(quality, cost, *weak, *strong, strict=True))
    costs = np.array([cost_at(q, c, qs - np.asarray(LOSSES)) / cs for q, c, _, _, qs, cs in draws])
    areas = np.array([aiq(q, c, *ends) for q, c, ends in zip(quality, cost, scale.span, strict=True)])
    gaps = np.array([apgr(q, c, (qw, cw), (qs, cs)) for q, c, qw, cw, qs, cs in draws])
    regret = nothing if oracle is None else summarise(_mean_reached(oracle - at))
    return RouterScore(
        curve.name, True, points, curve.share.tolist(),
        [summarise(at[:, k]) for k in range(len(BUDGETS))],
        [summarise(costs[:, k]) for k in range(len(LOSSES))], summarise(areas), summarise(gaps), regret,
        pareto_distance(quality[0], cost[0], frontier[:AVERAGED], strong[1][0] *
        np.asarray(BUDGETS[:AVERAGED])),
        cpt(quality[0], curve.share[:, scale.test_set.strongest], float(weak[0][0]), float(strong[0][0]),
        LEVELS),
        nothing, run.statistics,
    )  # fmt: skip


def _mean_reached(difference: Floats, first: int = AVERAGED) -> Floats:
    """Mean over the first budgets, of those that are defined in the data as they are, (B,)."""
    reached = [k for k in range(first) if np.isfinite(difference[0, k])]
    return difference[:, reached].mean(axis=1) if reached else np.full(len(difference), np.nan)
