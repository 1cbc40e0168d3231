"""The whole comparison: every method in every setting, the forecasts, the promises, the identity."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.errors import InputError
from eccos_rs.evaluate.compare import Comparison, compare
from eccos_rs.evaluate.curves import Resamples
from eccos_rs.evaluate.forecasts import HeldOutForecast, judge_forecasts
from eccos_rs.evaluate.harness import Run, sweep
from eccos_rs.evaluate.methods.base import OPERATING_POINTS, Predictions, RoutingMethod
from eccos_rs.evaluate.methods.baselines import (
    PerQuery,
    PricedPerQuery,
    Random,
    RoundRobin,
    Single,
    StrongWeak,
    Threshold,
    mean_predictions,
)
from eccos_rs.evaluate.methods.joint import Joint
from eccos_rs.evaluate.promises import (
    BATCHES,
    Guarantee,
    Promise,
    chosen_pairs,
    keep_promises,
    keep_with_margin,
)
from eccos_rs.evaluate.settings import SETTINGS, Setting
from eccos_rs.evaluate.verdict import Verdict, judge_table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from eccos_rs.evaluate.evidence import Evidence

__all__ = ["BLIND", "ORACLE", "Identity", "Study", "identity", "methods_for", "study"]

ORACLE = "oracle"
BLIND = "blind mix"


@dataclass(frozen=True)
class Identity:
    """Joint against per-query assignment with the same scores, one quality row and no capacity.

    Attributes
    ----------
    positions : int
        Positions of the operating point that were compared.
    differing : int
        Queries, over all positions, for which the two chose different models at one price.
    quality, cost : float
        Largest difference of realised mean quality and of realised cost (a part of the per-query cost).
    promised_cost : float
        Largest difference in predicted cost, as a part, when the joint assignment is promised just the mean
        that
        the per-query rule predicts for itself.
    """

    positions: int
    differing: int
    quality: float
    cost: float
    promised_cost: float


@dataclass(frozen=True, eq=False)
class Study:
    """All that was found.

    Attributes
    ----------
    about : dict
        What was judged: data, predictor, counts, versions.
    singles : list of (name, quality, cost)
        The models by themselves: mean quality and mean US dollars.
    comparisons : dict of Setting to Comparison
        One for each setting.
    forecasts : list of HeldOutForecast
        One for each predictor.
    promises : list of Promise
        Expectation promised, in every setting.
    guarantees : list of Guarantee
        Promised for each batch.
    identity : Identity
        For the champion's scores.
    champion, rival, rule : str
        The joint assignment with the best scores; the per-query rule with the same; AIOS's rule, None
        where it had no observed labels.
    worth : Verdict
        Whether the best forecasts are worth routing by, against sending everything to the strongest model.
    """

    about: dict[str, Any]
    singles: list[tuple[str, float, float]]
    comparisons: dict[Setting, Comparison]
    forecasts: list[HeldOutForecast]
    promises: list[Promise]
    guarantees: list[Guarantee]
    identity: Identity
    champion: str
    rival: str
    rule: str | None
    pairs: list[tuple[str, str]] = field(default_factory=list)
    worth: Verdict | None = None


def methods_for(evidence: Evidence, setting: Setting, part: int = 0) -> list[RoutingMethod]:
    """Make every baseline for one setting, fitted anew on what one part of the queries leaves."""
    test_set, by_predictor = evidence.test_set, evidence.predictions
    best = by_predictor[evidence.best]
    table = test_set.table
    free = setting.limit == "none"
    found: list[RoutingMethod] = []
    if free:
        found += [Single(name, column) for column, name in enumerate(table.models)]
    found += [PerQuery(mean_predictions(table.quality, table.cost), BLIND), Random(), RoundRobin()]
    if evidence.plain is not None:
        found.append(Threshold(by_predictor[evidence.plain]))
    found.append(StrongWeak(best))
    for predictions in by_predictor.values():
        found += [PerQuery(predictions), Joint(predictions)]
    if not free:
        found.append(PricedPerQuery(best))
    for predictions in _judged_in_every_mode(evidence):
        found += [Joint(predictions, "promise"), Joint(predictions, "budget")]
    found.append(Joint(Predictions(ORACLE, table.quality, table.cost), name=ORACLE))
    for each in found:
        each.fit(evidence.fits[part])
    return found


def study(
    evidence: Evidence, *, settings: Sequence[Setting] = SETTINGS, resamples: int = 500, seed: int = 0,
    batches: int = BATCHES, extra: Sequence[RoutingMethod] = (),
    progress: Callable[[str, int, int], object] | None = None,
) -> Study:  # fmt: skip
    """Run everything.

    Parameters
    ----------
    evidence : Evidence
        Held-back queries and forecasts for them.
    settings : sequence of Setting
        What to run.
    resamples : int
        Bootstrap draws.
    seed : int
        Of the draws.
    batches : int
        For how many batches each promise is made, at least; three times as many where each is promised for
        itself.
    extra : sequence of RoutingMethod
        Routers to judge beside the baselines.
    progress : callable, optional
        Called with what comes next, its number and how many there are.
    """
    if not settings:
        raise InputError("settings: got none, wanted at least one")
    test_set = evidence.test_set
    tell = progress or (lambda what, done, total: None)
    draws = Resamples.draw(len(test_set.table), resamples, seed)
    steps = len(settings) + len(evidence.predictions) + 1
    best = evidence.predictions[evidence.best]
    champion, rival = Joint(best).name, PerQuery(best).name
    pairs = _pairs(evidence)
    comparisons, promises = {}, []
    for number, setting in enumerate(settings):
        tell(setting.title, number, steps)
        runs = _runs(evidence, setting, extra)
        comparisons[setting] = compare(runs, test_set, draws, champion=champion, pairs=pairs, oracle=ORACLE)
        promises += keep_promises(best, setting, test_set, draws, batches=batches)
    forecasts, guarantees = [], []
    for number, predictions in enumerate(evidence.predictions.values(), len(settings)):
        tell(f"forecasts and promises of {predictions.name}", number, steps)
        setting = Setting()
        chosen = chosen_pairs(predictions, setting, test_set, batches=max(1, batches // 3))
        forecasts.append(judge_forecasts(predictions, test_set, chosen))
        if predictions is not best or setting not in comparisons:
            promises += keep_promises(predictions, setting, test_set, draws, batches=batches)
        for size in (64, 256, 1024) if predictions is best else (256,):
            if size <= len(test_set.table):
                guarantees.append(
                    keep_with_margin(predictions, Setting(size=size), test_set, batches=3 * batches)
                )
    tell("the identity", steps - 1, steps)
    names = test_set.table.models
    return Study(
        about={**evidence.about, "resamples": resamples, "seed": seed},
        singles=[
            (names[j], float(test_set.strength[j]), float(test_set.mean_cost[j])) for j in
            np.argsort(test_set.mean_cost).tolist()
        ],
        comparisons=comparisons, forecasts=forecasts, promises=promises, guarantees=guarantees,
        identity=identity(best, evidence), champion=champion, rival=rival,
        rule=None if evidence.plain is None else Threshold(evidence.predictions[evidence.plain]).name,
        pairs=pairs, worth=_worth(evidence, resamples, seed),
    )  # fmt: skip


def _worth(evidence: Evidence, resamples: int, seed: int) -> Verdict | None:
    """Judge the best forecasts as `eccos start` does, the strongest model in the place of today's."""
    best = evidence.predictions[evidence.best]
    return judge_table(evidence.test_set.table, (best.quality, best.cost), resamples=resamples, seed=seed)


def _runs(evidence: Evidence, setting: Setting, extra: Sequence[RoutingMethod]) -> dict[str, Run]:
    """Let all methods serve a setting, each part by those that have not seen it."""
    found: dict[str, list[Run]] = {}
    for part, fit in enumerate(evidence.fits):
        methods = [*methods_for(evidence, setting, part), *extra]
        called = [each.name for each in methods]
        if len(set(called)) < len(called):
            twice = next(name for name in called if called.count(name) > 1)
            raise InputError(f"methods: two are called {twice!r}; give each its own name")
        for each in extra:
            each.fit(fit)
        for each in methods:
            found.setdefault(each.name, []).append(sweep(each, setting, evidence.test_set, part))
    return {name: Run.joined(runs) for name, runs in found.items()}


def _pairs(evidence: Evidence) -> list[tuple[str, str]]:
    """Pairs whose differences are compared with prior work: joint minus per query, the same scores."""
    found = [
        (Joint(predictions).name, PerQuery(predictions).name) for predictions in evidence.predictions.values()
    ]
    for predictions in _judged_in_every_mode(evidence):
        found += [
            (Joint(predictions, mode).name, PerQuery(predictions).name) for mode in ("promise", "budget")
        ]
    best = evidence.predictions[evidence.best]
    found.append((PricedPerQuery(best).name, PerQuery(best).name))
    found.append((PerQuery(best).name, BLIND))
    if evidence.plain is not None:
        found.append((PerQuery(best).name, Threshold(evidence.predictions[evidence.plain]).name))
    return found


def _judged_in_every_mode(evidence: Evidence) -> list[Predictions]:
    """Return the plain forecasts, where there are any, and the best ones."""
    return [evidence.predictions[key] for key in (evidence.plain, evidence.best) if key is not None]


def identity(predictions: Predictions, evidence: Evidence) -> Identity:
    """Check the theorem on these scores: one quality row is one price, so a batch gains nothing by itself."""
    from eccos_rs.solver.assignment import assign

    test_set = evidence.test_set
    table, rows = test_set.table, np.arange(len(test_set.table))
    batch = test_set.batch(rows, np.full(len(table.models), np.inf))
    one, two = Joint(predictions), PerQuery(predictions)
    differing, worst = 0, np.zeros(3)
    for operating_point in OPERATING_POINTS:
        joint, single = one.choose(batch, operating_point), two.choose(batch, operating_point).argmax(axis=1)
        differing += int((joint != single).sum())
        quality = [float(table.quality[rows, pick].mean(dtype=np.float64)) for pick in (joint, single)]
        cost = [float(table.cost[rows, pick].sum()) for pick in (joint, single)]
        spent = float(predictions.cost[rows, single].sum())
        predicted = float(predictions.quality[rows, single].astype(np.float64).mean())
        promised = assign(predictions.cost, predictions.quality, min_quality=predicted).cost
        new = [
            abs(quality[0] - quality[1]),
            _part(cost[0] - cost[1], cost[1]),
            _part(promised - spent, spent),
        ]
        worst = np.maximum(worst, new)
    return Identity(len(OPERATING_POINTS), differing, float(worst[0]), float(worst[1]), float(worst[2]))


def _part(difference: float, of: float) -> float:
    return abs(difference) / of if of else abs(difference)
