"""Comparison with prior work: what assigning a batch at once gains for the same money, with our figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eccos_rs.evaluate.report.tables import Section, Table, difference, percent, points
from eccos_rs.evaluate.settings import Setting
from eccos_rs.evaluate.study import BLIND

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eccos_rs.evaluate.compare import Gain
    from eccos_rs.evaluate.curves import Estimate
    from eccos_rs.evaluate.study import Study

__all__ = ["prior_work_section", "verdict"]

# What was published, in points, as the decision record of the vLLM Semantic Router gave it for RouterBench.
CASES: tuple[tuple[str, str, str, str], ...] = (
    ("no limit, one price", "none", "price", "0"),
    ("no limit, a promise for each batch", "none", "promise", "−0.2 to −0.1"),
    ("no limit, a budget for each batch", "none", "budget", "−0.2 to −0.1"),
    ("no limit, hard batches, a budget for each", "none adversarial", "budget", "+0.1 to +0.5"),
    ("capacity binds: N/4 a model", "equal/4", "price", "+0.3"),
    ("capacity binds tightly: N/5 a model", "equal/5", "price", "+1.2"),
    ("capacity and cost: N/4, budgets up to 10 %", "equal/4 cheap", "price", "−3.4 to −1.2"),
    ("capacity and cost: N/5, budgets up to 10 %", "equal/5 cheap", "price", "−3.4 to −1.2"),
    ("the same at N/5, a budget for each batch", "equal/5 cheap", "budget", "−3.4 to −1.2"),
)


def _gain(study: Study, setting: Setting, mode: str, predictor: str) -> Gain | None:
    if setting not in study.comparisons:
        return None
    suffix = "" if mode == "price" else f" ({mode} per batch)"
    return study.comparisons[setting].gains.get(f"joint{suffix}, {predictor} - per query, {predictor}")


def prior_work_section(study: Study) -> Section:
    """Set our figures beside the published ones, for every kind of score."""
    by_predictor = [each.predictor for each in study.forecasts]
    rows = []
    for title, key, mode, published in CASES:
        limit, _, part = key.partition(" ")
        setting = Setting(limit, "adversarial" if part == "adversarial" else "random")
        found = [_gain(study, setting, mode, predictor) for predictor in by_predictor]
        if not any(found):
            continue
        cells = [
            "–" if each is None else difference(each.cheap if part == "cheap" else each.mean)
            for each in found
        ]
        rows.append([title, published, *cells])
    same = study.identity
    text = [
        "Published for RouterBench (decision record of the vLLM Semantic Router, its issue 2513): at "
        "matched total cost a batch solve gains nothing over a per-query rule on uncapped traffic, a "
        "little where capacity binds, and **loses** 1.2 to 3.4 points where capacity and cost press "
        "together. Below: joint minus per-query **with the same scores** at equal realised cost.",
        "Without limits it is an identity, not a measurement: one quality row is one price. At "
        f"{same.positions} operating points the two chose differently for {same.differing} queries; "
        f"quality differs by at most {points(same.quality, 3)} points and cost by at most "
        f"{percent(same.cost, 4)} %. Promised just the mean that the per-query rule predicts for itself, "
        f"the joint assignment costs the same to within {percent(same.promised_cost, 4)} %.",
        "An assignment that is best in predicted terms can lose in realised ones only where forecasts are "
        "wrong on the very pairs that it picks: the winner's curse. The row of each score in the table of "
        "forecasts shows how much too high it is there.",
    ]
    table = Table(
        ["case", "published", *by_predictor], rows,
        "Points of realised quality, batches of 256; mean over budgets of 3 to 30 % that both reach (up to "
        "10 % where it says so).",
    )  # fmt: skip
    return Section("Comparison with prior work", text, [table] if rows else [], ["prior-work"])


def verdict(study: Study) -> Section:
    """Say what is won and what is lost against each rival, from the figures themselves."""
    best = study.rival.removeprefix("per query, ")
    one, batch = "joint, one price", "joint, {} for each batch"
    rivals = [
        (study.champion, study.rival, one, "per query, same scores"),
        (study.champion, f"per query with capacity prices, {best}", one, "the same, with capacity prices"),
        *([(study.champion, study.rule, one, "AIOS's rule")] if study.rule else []),
        (study.champion, BLIND, one, "blind mix"),
        (
            f"joint (promise per batch), {best}",
            study.rival,
            batch.format("a promise"),
            "per query, same scores",
        ),
        (
            f"joint (budget per batch), {best}",
            study.rival,
            batch.format("a budget"),
            "per query, same scores",
        ),
    ]
    rows = []
    for router, rival, subject, words in rivals:
        key = f"{router} - {rival}"
        found = {s: c.gains[key].mean for s, c in study.comparisons.items() if key in c.gains}
        free = (router, rival) == (study.champion, study.rival)
        sure = {setting: each for setting, each in found.items() if each.low == each.low}
        won = [each for each in sure.values() if each.low > 0]
        lost = [each for each in sure.values() if each.high < 0]
        # Without limits the two are one rule, which is no finding.
        same = [setting for setting in sure if free and setting.limit == "none"]
        even = len(sure) - len(won) - len(lost) - len(same)
        rows.append([
            subject, words, _tally(won), str(even), _tally(lost), f"{len(same)} (no limits)" if same else "–",
        ])  # fmt: skip
    text = [
        f"In how many settings the joint assignment with the forecasts of **{best}** gives more right "
        "answers for the same money, mean over budgets of 3 to 30 % of the strongest model's cost. Won and "
        "lost: the 95 % interval lies on one side of zero; in brackets by how many points.",
    ]
    table = Table(["router", "against", "won", "not told apart", "lost", "identical by construction"], rows)
    return Section("What is won and what is lost", text, [table])


def _tally(found: Sequence[Estimate]) -> str:
    if not found:
        return "0"
    values = sorted(each.value for each in found)
    span = points(values[0]) if len(values) == 1 else f"{points(values[0])} to {points(values[-1])}"
    return f"{len(values)} ({span})"
