"""What a run is told, what its journal says, and what it came to."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from eccos_rs.bulk.batches import BatchState
from eccos_rs.errors import InputError
from eccos_rs.records.collect.endpoint import Retry

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ExecuteOptions", "RunReport", "RunState"]


@dataclass(frozen=True, slots=True)
class ExecuteOptions:
    """How to carry out a plan.

    Attributes
    ----------
    max_cost : float or None
        US dollars for the whole job, earlier runs included. A call holds the most that it can cost.
    deadline : float or None
        Seconds from now after which nothing new is asked.
    concurrency : int
        Calls at once to a model without slots in the pool file.
    max_output_tokens : int
        Longest answer, for rows that do not say.
    longer : int
        How often an answer that the limit cut off is asked again, with twice the limit each time.
    in_doubt : {"retry", "skip"}
        What becomes of rows whose answer a kill cut off: the provider may have charged for them.
    retry : Retry
    timeout : float or None
        Seconds for a call; by default each endpoint's own.
    batch_poll : float
        Seconds between two looks at the batches of the lane.
    """

    max_cost: float | None = None
    deadline: float | None = None
    concurrency: int = 8
    max_output_tokens: int = 4096
    longer: int = 1
    in_doubt: Literal["retry", "skip"] = "retry"
    retry: Retry = field(default_factory=Retry)
    timeout: float | None = None
    batch_poll: float = 30.0

    def __post_init__(self) -> None:
        if self.in_doubt not in ("retry", "skip"):
            raise InputError(f"in_doubt: got {self.in_doubt!r}, wanted retry or skip")
        for name in ("concurrency", "max_output_tokens"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: got {getattr(self, name)}, wanted 1 or more")
        if not 0.0 < self.batch_poll < float("inf"):
            raise InputError(f"batch_poll: got {self.batch_poll}, wanted more than 0 seconds")
        for name in ("max_cost", "deadline"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise InputError(f"{name}: got {value}, wanted 0 or more")


@dataclass(slots=True)
class RunReport:
    """What a job came to.

    Attributes
    ----------
    stopped : {"done", "max_cost", "deadline", "failed"}
        Every row has an answer; the ceiling, the deadline or a row's own was reached; or some rows failed for
        good.
    rows, answered, found : int
        Rows to be asked, answers there now, and those that an earlier run had left.
    planned_usd, spent_usd, unsure_usd : float
        What the plan foresaw; what the answers cost; what calls without an answer may have cost at most.
    late : int
        Rows that were not asked before their own deadline.
    in_doubt, in_doubt_usd : int, float
        Rows left alone because a kill cut their call off (``skip``), and what those may have cost at most.
    cut, refused, moved, batched : int
        Answers still cut off by the limit, refused by the model, given by another model than planned, and
        brought by the batch lane.
    models : dict
        Answers of each model.
    failures : dict
        Error to the number of rows, the first kinds.
    """

    stopped: str = "done"
    rows: int = 0
    answered: int = 0
    found: int = 0
    planned_usd: float = 0.0
    spent_usd: float = 0.0
    unsure_usd: float = 0.0
    late: int = 0
    in_doubt: int = 0
    in_doubt_usd: float = 0.0
    cut: int = 0
    refused: int = 0
    moved: int = 0
    batched: int = 0
    models: dict[str, int] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, ready for JSON."""
        return asdict(self)


@dataclass(slots=True)
class RunState:
    """What the journal says: answers by row, calls that are open, money."""

    answered: dict[str, str] = field(default_factory=dict)
    open: dict[str, float] = field(default_factory=dict)
    tallies: Counter[str] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    spent: float = 0.0
    unsure: float = 0.0
    batches: BatchState = field(default_factory=BatchState)
    began: float | None = None
    """Seconds since 1970, when the job's first run began."""

    def apply(self, event: Mapping[str, Any]) -> None:
        """Take in one event, in the order of the journal."""
        if self.batches.apply(event):
            return
        kind, row = event.get("event"), str(event.get("row"))
        if kind == "began":
            self.began = float(event["at"]) if self.began is None else self.began
            return
        if kind == "asked":
            self.open[row] = float(event["hold_usd"])
            return
        self.open.pop(row, None)
        self.spent += float(event.get("cost_usd", 0.0))
        self.unsure += float(event.get("unsure_usd", 0.0))
        if kind == "answered" and row not in self.answered:
            self.answered[row] = event["model"]
            self.models[event["model"]] += 1
            for tally in ("cut", "refused", "moved", "batch"):
                self.tallies[tally] += bool(event.get(tally))
