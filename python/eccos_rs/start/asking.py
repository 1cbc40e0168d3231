"""Spending the money: requests in order, in waves, each of all models, with a journal of every call."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

from eccos_rs.domain.pricing import model_cost
from eccos_rs.records.collect import CollectOptions, collect
from eccos_rs.records.collect.journal import read_journal
from eccos_rs.records.tokens import estimate_tokens
from eccos_rs.routing.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from eccos_rs.records.collect import CollectSummary, Progress
    from eccos_rs.routing.pool import LLM
    from eccos_rs.start.options import StartOptions
    from eccos_rs.start.outlook import Traffic

__all__ = ["GradedAnswers", "Spending", "asking_costs", "plan_spending", "read_answers", "sent_to", "spend"]

WAVES = (0.15, 0.5, 0.92)
"""Shares of the money up to which waves ask: the first ones tell what answers really cost."""
JUDGE_OUTPUT, JUDGE_PROMPT, ANSWER_SHOWN = 12, 140, 1500
"""Tokens of a grade, of what a judge is told beside request and answer, and of an answer as it reads it, at
most: hidden reasoning is not shown."""
JUDGED_TWICE = 0.08
"""Share of the grades that are asked for twice."""


@dataclass(frozen=True, slots=True)
class Spending:
    """What will be asked, about.

    Attributes
    ----------
    requests : int
        Requests that the money reaches for, each asked of every model.
    models : dict of str to float
        US dollars expected of each model.
    judging : float
        US dollars expected of the judge.
    """

    requests: int
    models: dict[str, float]
    judging: float

    @property
    def total(self) -> float:
        """US dollars expected in all."""
        return sum(self.models.values()) + self.judging


@dataclass(frozen=True, eq=False)
class GradedAnswers:
    """Graded answers to requests of the log.

    Attributes
    ----------
    quality, tokens, cost : ndarray, shape (N, M)
        Success, output tokens and US dollars; NaN where a model gave no graded answer.
    judged : ndarray of bool, shape (N,)
        Graded by the judge rather than by rule.
    """

    quality: NDArray[np.float64]
    tokens: NDArray[np.float64]
    cost: NDArray[np.float64]
    judged: NDArray[np.bool_]


def asking_costs(traffic: Traffic, judge: LLM | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return US dollars expected of asking each request of each model, (N, M), and of grading it, (N,)."""
    judging = np.zeros(len(traffic.entries))
    if judge is not None:
        shown = np.minimum(traffic.prediction.output_tokens.astype(np.float64), ANSWER_SHOWN)
        for row, entry in enumerate(traffic.entries):
            if entry.task.kind == "free":
                asked = estimate_tokens(entry.task.text) + JUDGE_PROMPT
                prices = [model_cost(judge, asked + tokens, JUDGE_OUTPUT) for tokens in shown[row].tolist()]
                judging[row] = sum(prices) * (1.0 + JUDGED_TWICE)
    return traffic.cost, judging


def plan_spending(
    order: NDArray[np.intp], asking: NDArray[np.float64], judging: NDArray[np.float64], money: float,
    names: tuple[str, ...],
) -> Spending:  # fmt: skip
    """Say how far the money reaches."""
    each = asking.sum(axis=1)[order] + judging[order]
    count = int(np.searchsorted(np.cumsum(each), WAVES[-1] * money, side="right"))
    rows = order[:count]
    return Spending(
        count,
        {name: float(asking[rows, at].sum()) for at, name in enumerate(names)},
        float(judging[rows].sum()),
    )


def spend(
    traffic: Traffic,
    order: NDArray[np.intp],
    pool: Pool,
    judge: LLM | None,
    *,
    options: StartOptions,
    records: Path,
    progress: Callable[[Progress], None] | None = None,
) -> CollectSummary:
    """Ask in waves until the money or the requests are at their end.

    Every answer is journaled beside `records`: a run that was stopped goes on there.
    """
    asking, judging = asking_costs(traffic, judge)
    each = (asking.sum(axis=1) + judging)[order]
    tasks = [traffic.entries[row].task for row in order.tolist()]
    own = judge is None or judge.name in pool.names
    everybody = pool if own else Pool([*pool, judge])  # type: ignore[list-item]  # there is one
    collecting = CollectOptions(
        max_cost=options.spend,
        concurrency=options.concurrency,
        max_output_tokens=options.max_output_tokens,
        judge=None if judge is None else judge.name,
        retry=options.retry,
        timeout=options.timeout,
        judge_twice=JUDGED_TWICE,
    )
    done, dearer = _asked_before(records, [task.digest for task in tasks]), 1.0
    summary: CollectSummary | None = None
    # What an earlier run has begun is brought to its end first: it costs least, and tells what answers cost.
    for share in (0.0, *WAVES) if done else WAVES:
        spent = 0.0 if summary is None else summary.spent_usd + summary.unsure_usd
        reach = int(np.searchsorted(np.cumsum(each[done:]) * dearer, share * options.spend - spent, "right"))
        if summary is None and not done:
            reach = max(reach, 1)
        elif summary is not None and reach == 0:
            continue
        done = min(done + reach, len(tasks))
        summary = collect(
            tasks[:done], everybody, records, models=pool.names, options=collecting, progress=progress
        )
        dearer = _dearer(summary, float(each[:done].sum()))
        if summary.stopped == "max_cost" or done == len(tasks):
            break
    assert summary is not None  # the first wave always asks
    return summary


def _dearer(summary: CollectSummary, expected: float) -> float:
    """Return by what the cost of answers differs from what was expected of as many."""
    share = summary.answered / max(summary.wanted, 1)
    real = summary.spent_usd / max(expected * share, 1e-12)
    return min(max(real, 0.05), 20.0) if share > 0.0 and real > 0.0 else 1.0


def _asked_before(records: Path, digests: list[str]) -> int:
    """Return how many of the first requests earlier runs into the same folder have reached."""
    place = {digest: at for at, digest in enumerate(digests)}
    reached = 0

    def add(event: dict[str, Any]) -> None:
        nonlocal reached
        reached = max(reached, place.get(str(event.get("task")), -1) + 1)

    read_journal(records.with_name(f"{records.name}.journal.jsonl"), add)
    return reached


def read_answers(journal: Path, traffic: Traffic, names: tuple[str, ...]) -> GradedAnswers:
    """Read the graded answers of a journal."""
    from eccos_rs.records.collect.state import State

    tasks = [entry.task for entry in traffic.entries]
    state = State.of(tasks)
    judge: str | None = None

    def apply(event: dict[str, Any]) -> None:
        nonlocal judge
        judge = state.judge = event.get("judge", judge)
        state.apply(event)

    read_journal(journal, apply)
    row_of = {task.digest: row for row, task in enumerate(tasks)}
    column_of = {name: column for column, name in enumerate(names)}
    quality, tokens, cost = (np.full((len(tasks), len(names)), np.nan) for _ in range(3))
    for (digest, model), answer in state.answers.items():
        if model not in column_of or answer.quality is None:
            continue
        at = row_of[digest], column_of[model]
        grades = [answer.quality] if answer.again is None else [answer.quality, answer.again]
        quality[at], tokens[at], cost[at] = np.mean(grades), answer.output_tokens, answer.cost_usd
    judged = np.array([task.kind == "free" for task in tasks])
    return GradedAnswers(quality, tokens, cost, judged)


def sent_to(journal: Path, pool: Pool, judge: LLM | None) -> list[dict[str, Any]]:
    """Say what left the machine: for each endpoint its host, its model, calls and tokens."""
    found: dict[str, dict[str, Any]] = defaultdict(lambda: {"calls": 0, "answers": 0, "input_tokens": 0})

    def add(event: dict[str, Any]) -> None:
        if event["event"] == "asked":
            found[event["model"]]["calls"] += 1
        elif event["event"] == "answered":
            found[event["model"]]["answers"] += 1
            found[event["model"]]["input_tokens"] += event["input_tokens"]

    read_journal(journal, add)
    models = {model.name: model for model in ([*pool] if judge is None else [*pool, judge])}
    told = []
    for name, row in found.items():
        endpoint = models[name].endpoint if name in models else None
        host = urlsplit(endpoint.base_url).netloc.rpartition("@")[2] if endpoint is not None else "unknown"
        told.append({"model": name, "host": host, **row})
    return told
