"""End to end: read, cluster, forecast, estimate, ask, learn, judge, write."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eccos_rs.errors import PoolError
from eccos_rs.records.files import replacing
from eccos_rs.routing.pool import Pool
from eccos_rs.routing.router import Router
from eccos_rs.start.asking import (
    GradedAnswers,
    asking_costs,
    plan_spending,
    read_answers,
    sent_to,
    spend,
)
from eccos_rs.start.clusters import describe, find_clusters
from eccos_rs.start.judge import JudgeReport, find_judge, judge_column, self_preference
from eccos_rs.start.learning import answering, judge_by_folds, learn_answers
from eccos_rs.start.log import read_log
from eccos_rs.start.measured import update_lengths
from eccos_rs.start.options import StartOptions
from eccos_rs.start.outlook import build_traffic, look_ahead, pick_reference
from eccos_rs.start.report import as_html
from eccos_rs.start.result import StartPlan, StartResult
from eccos_rs.start.sampling import Design, asking_order, importance

if TYPE_CHECKING:
    from collections.abc import Callable

    from eccos_rs.records.collect import CollectSummary, Progress
    from eccos_rs.routing.pool import LLM

__all__ = ["Start", "start"]

RECORDS = "answers.jsonl"


def start(
    log: str | Path,
    pool: Pool | str | Path,
    out: str | Path,
    *,
    options: StartOptions | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> StartResult:
    """Go from a log of requests to a verdict; see `Start` for the steps one by one.

    Parameters
    ----------
    log : path
        See `eccos_rs.start.log.read_log`.
    pool : Pool or path
        The models to route among, with endpoints where money is spent.
    out : path
        Folder for the bundle, the pool, the answers with their journal, and the report.
    options : StartOptions, optional
    progress : callable, optional
        Called after every answer.

    Returns
    -------
    StartResult
    """
    steps = Start(log, pool, StartOptions() if options is None else options)
    return steps.run(out, progress)


class Start:
    """The steps of a start.

    Parameters
    ----------
    log, pool, options
        As of `start`.

    Attributes
    ----------
    plan : StartPlan
        What the log holds, what is expected and what would be asked; nothing has left the machine.

    Raises
    ------
    InputError
        The log holds no request.
    PoolError
        Money may be spent and a model has no endpoint, or the judge is not known.
    """

    def __init__(self, log: str | Path, pool: Pool | str | Path, options: StartOptions) -> None:
        self.options = options
        own = pool if isinstance(pool, Pool) else Pool.load(pool)
        if len(own) < 2:
            raise PoolError(
                f"the pool holds {own.names[0]!r} alone, so there is nothing to choose between; add a model "
                "(eccos pool add)"
            )
        read = read_log(log, sample=options.sample, column=options.column, seed=options.seed)
        self.router = (
            Router.day_one(own, device=options.device)
            if options.bundle is None
            else Router.load(options.bundle, pool=own, device=options.device)
        )
        update_lengths(self.router, read)
        traffic = build_traffic(read, self.router)
        if not traffic.entries:
            raise PoolError(
                "every request of the log is beyond some model of the pool (vision, tools, context window): "
                "nothing can be compared; leave those models out of the pool"
            )
        self.judge = self._judge(own, traffic) if options.spend > 0.0 else None
        reference = pick_reference(traffic, own)
        embedding = traffic.prediction.embedding
        if embedding is None:
            embedding = np.ones((len(traffic.entries), 1), dtype=np.float32)
        label = find_clusters(embedding, traffic.mass, options.seed)
        asking, judging = asking_costs(traffic, self.judge)
        tells = importance(traffic.mass, traffic.quality, asking.sum(axis=1) + judging)
        order = asking_order([entry.task.digest for entry in traffic.entries], tells, label)
        self._design = Design(order, tells, label)
        spending = None
        if options.spend > 0.0:
            spending = plan_spending(order, asking, judging, options.spend, own.names)
        known = traffic.prediction.familiar
        scale = read.rows / max(read.read, 1)
        self.plan = StartPlan(
            read,
            traffic,
            describe(
                label,
                traffic.mass,
                [entry.query.question for entry in traffic.entries],
                None if known is None else known >= 0.5,
            ),
            reference,
            look_ahead(
                traffic, reference, self.router, scale=scale, tolerance=options.tolerance, seed=options.seed
            ),
            spending,
            None if self.judge is None else self.judge.name,
        )

    def _judge(self, pool: Pool, traffic: object) -> LLM | None:
        from eccos_rs.start.outlook import Traffic

        assert isinstance(traffic, Traffic)
        for model in pool:
            if model.endpoint is None:
                raise PoolError(
                    f"model {model.name!r} has no endpoint, so it cannot be asked; add one, or --spend 0 for "
                    "what the forecasts say"
                )
        if all(entry.task.kind != "free" for entry in traffic.entries):
            return None
        return find_judge(self.options.judge, pool, traffic)

    def run(self, out: str | Path, progress: Callable[[Progress], None] | None = None) -> StartResult:
        """Ask, learn, judge and write; with nothing to spend, write what the forecasts say.

        Interrupted anywhere, the same call goes on: every answer is in the journal of the folder.
        """
        folder = Path(out)
        # What real requests say is nobody else's affair.
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        records = folder / RECORDS
        journal = records.with_name(f"{RECORDS}.journal.jsonl")
        summary: CollectSummary | None = None
        if self.options.spend > 0.0:
            summary = spend(
                self.plan.traffic, self._design.order, self.router.pool, self.judge,
                options=self.options, records=records, progress=progress,
            )  # fmt: skip
        answers = read_answers(journal, self.plan.traffic, self.router.pool.names)
        result = self._judged(answers, summary, journal, folder)
        self._write(answers, result)
        return result

    def _judged(
        self, answers: GradedAnswers, summary: CollectSummary | None, journal: Path, folder: Path
    ) -> StartResult:
        plan, pool = self.plan, self.router.pool
        kept, left_out = answering(answers, pool.names)
        complete = np.isfinite(answers.quality[:, kept]).all(axis=1) if kept else np.zeros(0, dtype=bool)
        verdict = None
        if kept:
            verdict = judge_by_folds(
                plan.traffic, answers, self.router, plan.reference,
                kept=kept, design=self._design, options=self.options,
            )  # fmt: skip
        if verdict is None:
            verdict = plan.outlook.verdict
        price = plan.price
        if summary is not None and complete.sum():
            price = (summary.spent_usd + summary.unsure_usd) / float(complete.sum())
        return StartResult(
            plan,
            replace(verdict, price=price),
            summary,
            int(complete.sum()),
            left_out if kept else {},
            self._judge_report(answers, summary),
            sent_to(journal, pool, self.judge),
            folder,
            list(self._remarks(answers, summary, kept, left_out)),
        )

    def _judge_report(self, answers: GradedAnswers, summary: CollectSummary | None) -> JudgeReport | None:
        if self.judge is None or summary is None:
            return None
        names, made = self.router.pool.names, self.plan.traffic.prediction
        column, own = judge_column(self.judge, names, self.router.pool), None
        rows = np.flatnonzero(answers.judged & np.isfinite(answers.quality).all(axis=1))
        if column is not None and len(rows):
            level = np.full(len(names), 0.1) if made.level_std is None else made.level_std
            forecast = {"quality": made.quality[rows], "level_std": level}
            own = self_preference(column, names, answers.quality[rows], forecast)
        return JudgeReport(self.judge.name, summary.judged_twice, summary.judge_std, own)

    def _remarks(
        self,
        answers: GradedAnswers,
        summary: CollectSummary | None,
        kept: list[int],
        left_out: dict[str, int],
    ) -> list[str]:
        said = []
        if summary is not None:
            for name, count in left_out.items() if kept else ():
                said.append(f"{name} gave {count:,} graded answers and is left out of the comparison")
            said += [f"failed {count:,}x: {error}" for error, count in summary.failures.items()]
            if summary.stopped == "max_cost" and not summary.answered:
                said.append("the money does not reach for one request at the longest answer that is allowed")
            if summary.cut:
                said.append(f"{summary.cut:,} answers were cut off by the limit of tokens and are not graded")
            graded = answers.quality[np.isfinite(answers.quality)]
            if len(graded) and np.ptp(graded) == 0.0:
                said.append(
                    f"every answer has the same grade ({graded[0]:g}): nothing tells the models apart here "
                    "but their price"
                )
        distinct = len(self.plan.log.entries)
        if distinct < 30:
            said.append(f"the log holds {distinct} different requests: too few to tell anything by")
        return said

    def _write(self, answers: GradedAnswers, result: StartResult) -> None:
        folder, pool = result.out, self.router.pool
        answered = np.flatnonzero(np.isfinite(answers.quality).any(axis=1))
        if len(answered):
            self.router.predictor = learn_answers(
                self.router.predictor, self.plan.traffic, answers, answered.tolist()
            )
        if result.left_out:
            # Who did not answer when asked is not routed to.
            pool = pool.select([name for name in pool.names if name not in result.left_out])
        Router(pool, self.router.predictor, self.router.policy).save(folder / "bundle")
        _write_text(folder / "pool.toml", pool.to_toml())
        _write_text(folder / "report.html", as_html(result))
        _write_text(folder / "result.json", json.dumps(result.to_dict(), indent=1, allow_nan=False) + "\n")


def _write_text(path: Path, text: str) -> None:
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")
