"""A start in words: lines for the terminal, and one HTML page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eccos_rs.evaluate.report.page import page
from eccos_rs.evaluate.report.tables import Section, Table, difference, with_interval

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eccos_rs.evaluate.curves import Estimate
    from eccos_rs.evaluate.verdict import Verdict
    from eccos_rs.start.result import StartPlan, StartResult

__all__ = ["as_html", "plan_lines", "result_lines"]

_KNOWN = 0.95
_SHOWN = 8
"""Kinds of requests that the terminal shows; the report has all."""


def plan_lines(plan: StartPlan) -> Iterator[str]:
    """Yield what is known before anything is asked."""
    yield from _log_lines(plan)
    for cluster in plan.clusters[:_SHOWN]:
        words = ", ".join(cluster.words) or "no words in common"
        yield f"  {cluster.requests:>7,} requests, {cluster.distinct:,} different: {words}"
    yield from _forecast_lines(plan)
    yield from _spending_lines(plan)


def _log_lines(plan: StartPlan) -> Iterator[str]:
    log, traffic = plan.log, plan.traffic
    looked = "" if log.read >= log.rows else f", of which {log.read:,} were looked at (a fair sample)"
    yield f"{log.name}: {log.rows:,} rows{looked}; {log.requests:,} requests, {len(log.entries):,} different"
    if log.unreadable:
        yield f"{log.unreadable:,} rows hold no request and are left out; the first: {log.problem}"
    if traffic.left_out:
        yield (
            f"{traffic.left_out:,} requests are beyond some model of the pool (vision, tools, window) and "
            "left out"
        )
    if log.models:
        yield "today: " + ", ".join(f"{name} {count:,}" for name, count in log.models.most_common(5))
    if log.models and not plan.reference.from_log:
        yield f"none of these is in the pool; compared with its strongest, {plan.reference.name}"
    if log.spent is not None:
        yield f"the log states US$ {log.spent:.4f} for the rows looked at"
    yield from _counted_lines(plan)
    yield f"{len(plan.clusters)} kinds of requests:"


def _counted_lines(plan: StartPlan) -> Iterator[str]:
    """Yield what was measured: what the log counts is not forecast."""
    for name, (used, cost) in plan.traffic.counted.items():
        sent, answer = used.means
        yield (
            f"measured, {name}: {used.answers:,} answers of {answer:,.0f} tokens to prompts of {sent:,.0f} "
            f"on average, US$ {cost:.4f} at the pool's prices"
        )
    if plan.traffic.counted:
        yield f"today's spend is measured for {plan.measured:.0%} of the requests, other lengths by ratio"


def _forecast_lines(plan: StartPlan) -> Iterator[str]:
    outlook = plan.outlook
    if outlook.familiar is not None and outlook.familiar < _KNOWN:
        yield (
            f"{1 - outlook.familiar:.0%} of the requests are unlike anything learned; their forecasts rest "
            "on each model's mean"
        )
    yield (
        f"from forecasts alone, routed: US$ {_money(outlook.spend)}; all to the strongest model "
        f"({outlook.strongest.reference}): {_money(outlook.strongest_spend)}"
    )
    yield f"against {plan.reference.name}: {_expected(outlook.verdict)}"
    if outlook.strongest.reference != plan.reference.name:
        yield f"against {outlook.strongest.reference}: {_expected(outlook.strongest)}"


def _expected(verdict: Verdict) -> str:
    low, high = (100 * each for each in verdict.cost[1:])
    return (
        f"quality {difference(verdict.quality)} points at {100 * verdict.cost.value:.0f} % ({low:.0f} to "
        f"{high:.0f}) of its spend"
    )


def _money(estimate: Estimate) -> str:
    return f"{estimate.value:.4g} ({estimate.low:.4g} to {estimate.high:.4g})"


def _spending_lines(plan: StartPlan) -> Iterator[str]:
    spending = plan.spending
    if spending is None:
        yield "nothing is asked: --spend 0"
        return
    yield (
        f"to be asked: {spending.requests:,} requests of {len(spending.models)} models, about US$ "
        f"{spending.total:.4f}"
    )
    for name, cost in spending.models.items():
        yield f"  {name}: US$ {cost:.4f}"
    if plan.judge is not None:
        yield f"  judge {plan.judge}: US$ {spending.judging:.4f}"


def result_lines(result: StartResult) -> Iterator[str]:
    """Yield what was found; the verdict is the last line."""
    summary = result.summary
    if summary is not None:
        unsure = (
            f", and up to {summary.unsure_usd:.4f} for calls without an answer" if summary.unsure_usd else ""
        )
        yield (
            f"{summary.answered:,} graded answers, {result.complete:,} requests answered by all; US$ "
            f"{summary.spent_usd:.4f} spent{unsure}"
        )
    yield from result.remarks
    if result.judge is not None:
        yield from result.judge.lines
    for row in result.sent:
        yield f"sent to {row['host']} ({row['model']}): {row['calls']:,} calls"
    yield f"bundle, pool, answers and report in {result.out}"
    if result.verdict.decision == "deploy" and result.verdict.quality_value is not None:
        yield f"as judged: eccos serve --bundle {result.out / 'bundle'} --quality-value {_worth(result):.4g}"
    yield f"verdict: {result.verdict.sentence}"


def _worth(result: StartResult) -> float:
    value = result.verdict.quality_value
    assert value is not None  # asked by the caller
    return value


def as_html(result: StartResult) -> str:
    """Write the report as one page; it repeats no request."""
    return page(f"Routing {result.plan.log.name}", _sections(result), verdict=result.verdict)


def _sections(result: StartResult) -> Iterator[Section]:
    plan = result.plan
    yield Section("What it rests on", [], [_figures(result)])
    yield Section("The log", list(_log_lines(plan))[:-1], [_kinds(plan)])
    yield Section("Forecast, before anything was asked", list(_forecast_lines(plan)))
    if result.summary is not None:
        lines = [line for line in result_lines(result)][:1] + result.remarks  # noqa: C416 - a generator
        judge = [] if result.judge is None else result.judge.lines
        yield Section("Answers", [*lines, *judge], [_spent(plan)] if plan.spending is not None else [])
    yield Section("What was sent", _sent_words(result), [_sent(result)] if result.sent else [])


def _figures(result: StartResult) -> Table:
    verdict = result.verdict
    basis = f"{verdict.queries:,} requests answered by all" if verdict.measured else "forecasts alone"
    rows = [
        ["compared with", verdict.reference],
        ["its spend", f"measured for {100 * result.plan.measured:.0f} % of the requests, else forecast"],
        ["rests on", basis],
        ["success minus today's, points", difference(verdict.quality)],
        ["spend as a part of today's, %", with_interval(verdict.cost, 0)],
        [
            f"success minus {' / '.join(verdict.mix)} mixed blindly at the same cost",
            difference(verdict.over_mix),
        ],
        ["may be lost at the lower end, points", f"{100 * verdict.tolerance:g}"],
    ]
    if verdict.needed:
        rows.append(["labelled requests that would decide it", f"{verdict.needed:,}"])
    return Table(["figure", "value (95 % interval)"], rows)


def _kinds(plan: StartPlan) -> Table:
    rows = [
        [
            ", ".join(each.words) or "no words in common",
            f"{each.requests:,}",
            f"{each.distinct:,}",
            "–" if each.familiar is None else f"{100 * each.familiar:.0f}",
        ]
        for each in plan.clusters
    ]
    note = "Words that several requests of a kind share; what one request alone says is not shown."
    return Table(["kind", "requests", "different", "like known ground, %"], rows, note)


def _spent(plan: StartPlan) -> Table:
    assert plan.spending is not None  # asked by the caller
    rows = [[name, f"{cost:.4f}"] for name, cost in plan.spending.models.items()]
    if plan.judge is not None:
        rows.append([f"judge: {plan.judge}", f"{plan.spending.judging:.4f}"])
    return Table(["model", "estimated before, US$"], rows)


def _sent_words(result: StartResult) -> list[str]:
    if not result.sent:
        return ["Nothing: no request left this machine."]
    words = "Whole requests, with system texts and tools, went to these endpoints and nowhere else."
    if result.judge is not None:
        words += f" The judge {result.judge.name} was sent requests together with the models' answers."
    return [words, f"Requests and answers lie in `{result.out}` in the clear; this page repeats none."]


def _sent(result: StartResult) -> Table:
    rows = [
        [row["model"], row["host"], f"{row['calls']:,}", f"{row['answers']:,}", f"{row['input_tokens']:,}"]
        for row in result.sent
    ]
    return Table(["model", "host", "calls", "answers", "input tokens of the answers"], rows)
