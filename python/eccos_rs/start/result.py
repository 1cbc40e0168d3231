"""How a start ended."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from eccos_rs.evaluate.verdict import Verdict
    from eccos_rs.records.collect import CollectSummary
    from eccos_rs.start.asking import Spending
    from eccos_rs.start.clusters import Cluster
    from eccos_rs.start.judge import JudgeReport
    from eccos_rs.start.log import Log
    from eccos_rs.start.outlook import Outlook, ReferenceRouting, Traffic

__all__ = ["StartPlan", "StartResult"]


@dataclass(frozen=True, eq=False)
class StartPlan:
    """What the log holds, what is expected, and what would be asked.

    Attributes
    ----------
    log : Log
    traffic : Traffic
    clusters : list of Cluster
        Kinds of requests, the largest first.
    reference : ReferenceRouting
        What is done today.
    outlook : Outlook
        By forecasts alone.
    spending : Spending or None
        None where nothing may be spent.
    judge : str or None
        Who will grade; None where every answer is graded by rule, or none is.
    """

    log: Log
    traffic: Traffic
    clusters: list[Cluster]
    reference: ReferenceRouting
    outlook: Outlook
    spending: Spending | None
    judge: str | None

    @property
    def price(self) -> float | None:
        """US dollars for one more request asked of all models; None where nothing was planned."""
        spending = self.spending
        return None if spending is None or not spending.requests else spending.total / spending.requests

    @property
    def measured(self) -> float:
        """Share of the requests whose cost today the log itself counts."""
        traffic, rows = self.traffic, np.arange(len(self.traffic.entries))
        known = np.isfinite(traffic.measured[rows, self.reference.columns])
        return float(np.average(known, weights=traffic.mass))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, ready for JSON."""
        log, outlook, spending = self.log, self.outlook, self.spending
        told: dict[str, Any] = _plain({
            "log": {
                "name": log.name, "rows": log.rows, "looked_at": log.read, "unreadable": log.unreadable,
                "problem": log.problem, "distinct": len(log.entries), "models": dict(log.models),
                "stated_spend_usd": log.spent, "left_out": self.traffic.left_out,
            },
            "measured": {
                "share": self.measured,
                "models": {
                    name: {"answers": used.answers, "input_tokens": used.input_tokens,
                           "output_tokens": used.output_tokens, "cost_usd": cost}
                    for name, (used, cost) in self.traffic.counted.items()
                },
            },
            "clusters": [
                {name: getattr(each, name) for name in ("requests", "distinct", "familiar", "words")}
                for each in self.clusters
            ],
            "familiar": outlook.familiar,
            "reference": self.reference.name,
            "reference_from_log": self.reference.from_log,
            "forecast": outlook.verdict.to_dict(),
            "forecast_against_strongest": outlook.strongest.to_dict(),
            "forecast_spend_usd": outlook.spend._asdict(),
            "forecast_strongest_usd": outlook.strongest_spend._asdict(),
            "plan": None if spending is None else {
                "requests": spending.requests, "expected_usd": spending.total, "models": spending.models,
                "judging_usd": spending.judging, "judge": self.judge,
            },
        })  # fmt: skip
        return told


@dataclass(frozen=True, eq=False)
class StartResult:
    """Everything that was found.

    Attributes
    ----------
    plan : StartPlan
    verdict : Verdict
        Measured where answers were graded, else by forecasts.
    summary : CollectSummary or None
        Money and answers; None where nothing was asked.
    complete : int
        Requests that every compared model has a graded answer to.
    left_out : dict of str to int
        Models that answered too little, and how much.
    judge : JudgeReport or None
    sent : list of dict
        What left the machine, by endpoint.
    remarks : list of str
        What else is to be known.
    out : Path
        Folder with bundle, pool, records and report.
    """

    plan: StartPlan
    verdict: Verdict
    summary: CollectSummary | None
    complete: int
    left_out: dict[str, int]
    judge: JudgeReport | None
    sent: list[dict[str, Any]]
    out: Path
    remarks: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, ready for JSON."""
        told: dict[str, Any] = _plain({
            **self.plan.to_dict(),
            "verdict": self.verdict.to_dict(),
            "answers": None if self.summary is None else self.summary.to_dict(),
            "complete": self.complete,
            "left_out": self.left_out,
            "judge": None if self.judge is None else self.judge.to_dict(),
            "sent": self.sent,
            "remarks": self.remarks,
            "out": str(self.out),
        })  # fmt: skip
        return told


def _plain(value: Any) -> Any:
    """Return what JSON can hold: Python's own numbers, and None for what is not finite."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
