"""What the report says, once: sections of sentences, tables and figure names, for every form of output."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from eccos_rs.evaluate.compare import AVERAGED, BUDGETS, LEVELS, LOSSES
from eccos_rs.evaluate.report.prior_work import prior_work_section, verdict
from eccos_rs.evaluate.report.tables import (
    NONE,
    Section,
    Table,
    difference,
    number,
    percent,
    points,
    with_interval,
)
from eccos_rs.evaluate.settings import Setting
from eccos_rs.evaluate.study import BLIND, ORACLE

if TYPE_CHECKING:
    from eccos_rs.evaluate.compare import Comparison, RouterScore
    from eccos_rs.evaluate.curves import Estimate
    from eccos_rs.evaluate.study import Study

__all__ = ["sections"]

#: Budgets shown in tables: 5, 10, 20 and 30 %.
SHOWN = tuple(BUDGETS.index(budget) for budget in (0.05, 0.1, 0.2, 0.3))


def sections(study: Study) -> list[Section]:
    """Write the report of a study."""
    free = next(
        (setting for setting in study.comparisons if setting.limit == "none" and setting.form == "random"),
        None,
    )
    found = [_about(study), verdict(study)]
    if free is not None:
        found.append(_free(study, free))
    found += [
        _capped(study),
        prior_work_section(study),
        _forecasts(study),
        _promises(study),
        _statistics(study),
        _method(study),
    ]
    return [section for section in found if section.tables or section.text]


def _about(study: Study) -> Section:
    about = study.about
    rows = [[name, f"{100 * quality:.1f}", f"{1e3 * cost:.3f}"] for name, quality, cost in study.singles]
    text = [
        f"{about['judged']:,} held-back queries of {about['data']} were judged, {len(study.singles)} "
        f"models, every pair observed. {about['split']}",
        "Cost is what was really paid, quality whether the answer was right. Every router "
        "is swept over its operating points, and routers are compared **at equal realised total cost**. "
        "Budgets are parts of the cost of sending everything to the strongest model. In brackets: 95 % "
        f"bootstrap intervals, paired ({about['resamples']} draws of the queries).",
    ]
    table = Table(["model", "right, %", "US$ per 1,000 queries"], rows)
    return Section("What was judged", text, [table])


def _free(study: Study, setting: Setting) -> Section:
    comparison = study.comparisons[setting]
    # Here joint and per query are one rule; one row says it.
    twins = {f"joint, {each.predictor}" for each in study.forecasts} - {study.champion}
    swept = [score for score in comparison.scores if score.swept and score.name not in twins]
    strong = frozenset({study.champion})
    quality = Table(
        ["router", *(f"at {100 * BUDGETS[k]:g} % cost" for k in SHOWN), "champion ahead by, mean of 3–30 %"],
        [
            [
                score.name, *(with_interval(score.quality[k]) for k in SHOWN),
                _ahead(study, comparison, score.name),
            ]
            for score in swept
        ],
        f"Right answers, %, and by how many points {study.champion} is ahead for the same money.",
        strong,
    )  # fmt: skip
    cost = Table(
        [
            "router", *(f"best model −{100 * loss:g}" if loss else "best model's quality" for loss in LOSSES),
            "AIQ", "APGR", *(f"CPT {100 * level:g} %" for level in LEVELS), "below frontier", "below oracle",
        ],
        [
            [
                score.name, *(percent(each.value) for each in score.cost), number(score.aiq.value),
                number(score.apgr.value, 2), *(percent(each) for each in score.cpt),
                NONE if score.name == ORACLE else NONE if score.name == ORACLE else percent(score.distance),
                percent(score.regret.value),
            ]
            for score in swept
        ],
        "Cost, % of the strongest model's, at its quality less 0, 1 and 3 points; area measures; share of "
        "strong calls, %, that recovers a part of the gap between the cheapest and the strongest model; "
        "points below the best router and below the oracle that knows every outcome, mean over budgets of "
        "3 to 30 %.",
        strong,
    )  # fmt: skip
    fixed = Table(
        [
            "router without an operating point",
            "cost, %",
            "right, %",
            "champion for the same money is ahead by",
        ],
        [
            [
                score.name,
                percent(score.points[0][0] / _reference(study)),
                percent(score.points[0][1]),
                difference(score.ahead),
            ]
            for score in comparison.scores
            if not score.swept
        ],
    )
    return Section(f"Without limits ({setting.title})", [], [quality, cost, fixed], ["curves", "shares"])


def _reference(study: Study) -> float:
    """Mean cost of the strongest single model."""
    return max(study.singles, key=lambda single: (single[1], -single[2]))[2]


def _ahead(study: Study, comparison: Comparison, name: str) -> str:
    found = comparison.gains.get(f"{study.champion} - {name}")
    return NONE if found is None else difference(found.mean)


def _mean_quality(score: RouterScore) -> float:
    reached = [each.value for each in score.quality[:AVERAGED] if not math.isnan(each.value)]
    return sum(reached) / len(reached) if reached else float("nan")


def _capped(study: Study) -> Section:
    others = [study.rival, f"per query with capacity prices, {_predictor(study)}"]
    others += [BLIND] if study.rule is None else [study.rule, BLIND]
    rows = []
    for setting, comparison in study.comparisons.items():
        by_name = {score.name: score for score in comparison.scores}
        rows.append(
            [
                setting.title,
                percent(by_name[study.champion].quality[SHOWN[1]].value),
                percent(by_name[ORACLE].quality[SHOWN[1]].value),
                *(_ahead(study, comparison, other) for other in others),
            ]
        )
    table = Table(
        ["setting", "right at 10 % cost", "oracle", *(f"ahead of: {other}" for other in others)], rows,
        "Mean over budgets of 3 to 30 % of the strongest model's cost that both routers reach. The "
        "per-query rules overflow to their own next choice.",
    )  # fmt: skip
    text = [f"Points by which **{study.champion}** is ahead at equal realised cost."]
    return Section("Setting by setting", text, [table] if rows else [], ["limits"])


def _predictor(study: Study) -> str:
    return study.rival.removeprefix("per query, ")


def _forecasts(study: Study) -> Section:
    models = [name for name, _, _ in study.singles]
    quality = Table(
        [
            "forecast", "AUC", "Brier", "ECE, all pairs", "ECE per model", "ECE, chosen pairs",
            "too high by, chosen pairs", "log-length MAE", "cost error, %", "ms per query",
        ],
        [
            [
                each.predictor, number(each.auc["mean"]), f"{each.brier['mean']:.4f}",
                f"{each.ece:.3f} [{each.ece_floor:.3f}]",
                f"{each.ece_models:.3f}", f"{each.ece_chosen:.3f} [{each.ece_chosen_floor:.3f}]",
                points(each.bias_chosen),
                number(each.log_length_mae),
                percent(each.cost_error),
                f"{1e3 * each.seconds:.1f}" if each.seconds else NONE,
            ]
            for each in study.forecasts
        ],
        "Means over the models. ECE over 15 bins of equal mass; in square brackets what perfect forecasts "
        "would show from the coin flips alone. Chosen pairs: those that the assignment takes for promises "
        "of 66 to 74 %, where optimism shows. Milliseconds as they were in this run.",
        frozenset({_predictor(study)}),
    )  # fmt: skip
    best = next((each for each in study.forecasts if each.predictor == _predictor(study)), None)
    per_model = [] if best is None else [
        Table(
            ["model", "AUC", "Brier"],
            [[name, number(best.auc[name]), f"{best.brier[name]:.4f}"] for name in models],
            f"{best.predictor}, model by model.",
        )
    ]  # fmt: skip
    return Section("Forecasts", [], [quality, *per_model], ["reliability"])


def _promises(study: Study) -> Section:
    usual = [each for each in study.promises if each.setting == Setting().name]
    by_predictor = list(dict.fromkeys(each.predictor for each in usual))
    levels = sorted({each.promised for each in usual})
    found = {(each.predictor, each.promised): each.difference for each in usual}
    by_predictor_table = Table(
        ["scores", *(f"{100 * level:g} % promised" for level in levels)],
        [
            [predictor, *(_kept(found.get((predictor, level))) for level in levels)]
            for predictor in by_predictor
        ],
        "Realised minus predicted quality of the chosen pairs, points; batches of 256 without limits.",
        frozenset({_predictor(study)}),
    )  # fmt: skip
    margin = Table(
        [
            "scores", "batches", "kept", "kept without margin", "margin, points", "cost, times",
            "not promised, %",
        ],
        [
            [
                each.predictor, each.setting.rsplit(" ", 1)[-1], f"{percent(each.kept)} %",
                f"{percent(each.kept_without)} %",
                percent(each.points), number(each.cost_ratio, 2),
                percent(each.refused),
            ]
            for each in study.guarantees
        ],
        "A mean of 70 % promised for every single batch with 95 % confidence: how many batches kept it, "
        "what margin on the predicted mean that took, and what it cost against promising the expectation. "
        "Shuffles of the same queries are not independent: an error of the forecasts common to all of them "
        "moves the whole column.",
        frozenset({_predictor(study)}),
    )  # fmt: skip
    return Section("Promised and realised", [], [by_predictor_table, margin], ["promises"])


def _kept(found: Estimate | None) -> str:
    return NONE if found is None else difference(found)


def _statistics(study: Study) -> Section:
    best = _predictor(study)
    rows = []
    for setting in study.comparisons:
        kept = [each for each in study.promises if each.setting == setting.name and each.predictor == best]
        able = [each for each in kept if each.batches]
        if not able:
            continue
        rows.append(
            [
                setting.title,
                points(sum(each.difference.value for each in able) / len(able)),
                percent(sum(each.broken for each in able) / len(able), 0),
                percent(sum(each.shortfall for each in able) / len(able)),
                percent(max(each.worst for each in able)),
                percent(max(each.over_capacity for each in kept), 0),
                percent(sum(each.unreachable for each in kept) / len(kept), 0),
            ]
        )
    promised = Table(
        [
            "setting", "realised − predicted", "batches below, %", "by, points", "at worst",
            "over capacity, %", "not reachable, %",
        ],
        rows,
        "An expectation is promised (66 to 74 %, mean over those), so half of the batches lie below it by "
        "nature; how far is the coin flips of one batch. Not reachable: the limits allow no such mean, the "
        "answer says so.",
    )  # fmt: skip
    pace: dict[str, list[float]] = {}
    over: dict[str, list[float]] = {}
    for comparison in study.comparisons.values():
        for score in comparison.scores:
            pace.setdefault(score.name, []).append(score.statistics.seconds)
            over.setdefault(score.name, []).append(score.statistics.over_capacity)
    times = Table(
        ["router", "choosing, µs a query", "batches over a capacity, %"],
        [
            [name, f"{1e6 * sum(each) / len(each):.2f}", percent(max(over[name]))]
            for name, each in pace.items()
        ],
        "Choosing alone, mean over the settings; the forecast comes on top, once for all models of a query.",
        frozenset({study.champion}),
    )
    return Section("Limits kept, and time", [], [promised, times])


def _rule(study: Study) -> str:
    if study.rule is None:
        return (
            "AIOS's rule is left out: the bundle keeps denoised labels alone, and an unweighted mean of "
            "those would be a better rule than AIOS's; bundles trained by this release keep the observed "
            "ones too."
        )
    return (
        f"{study.rule}: the cheapest model whose unweighted mean over 16 neighbours reaches the threshold, "
        "else the best; the neighbours are found as the router itself finds them, and count what was "
        "observed."
    )


def _method(study: Study) -> Section:
    about = study.about
    return Section("How it was done", [
        "**Routers.** Blind mix: the best random mix of single models, with the means of the judged "
        f"queries known in hindsight. {_rule(study)} Strong/weak: the strongest model where its predicted "
        "lead over a weak one is large. Per query: for each query the highest quality × price − cost. "
        "Joint: the batch assigned at once, with one price for quality, or with a promise or a budget for "
        "each batch. Oracle: the joint assignment of one who knows the outcomes.",
        "**Limits.** Per-query rules serve in the order of arrival and take their own next choice where a "
        "model is full. \"With capacity prices\" they pay for crowded models what the batch before found.",
        "**Curves.** Linear between operating points (part of the queries at one, part at the other), "
        "never falling (who may spend more may spend less). AIQ: mean height of the non-decreasing convex "
        "hull from the least cost that all routers reach to the strongest model's. APGR: mean part of the "
        "gap between cheapest and strongest model that is recovered, over 100 equal steps of cost. Hard "
        "batches are drawn from the third of the queries that looks hardest to the predictor.",
        "**A router of your own** goes beside these with `--method package.module:Class`: a `name`, "
        "`fit(table)` and `choose(batch, operating_point)`; see `eccos_rs.evaluate.RoutingMethod`.",
        f"**Made by** eccos-rs {about['version']}: {about['predictor']}.",
    ])  # fmt: skip
