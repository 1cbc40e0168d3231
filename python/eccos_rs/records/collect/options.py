"""What a collection is told, and what it tells."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from eccos_rs.errors import InputError
from eccos_rs.records.collect.endpoint import Retry
from eccos_rs.records.tokens import estimate_tokens

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CollectOptions", "CollectSummary", "Progress", "Stopped"]

Stopped = Literal["done", "max_cost", "failed", "cut"]


@dataclass(frozen=True, slots=True)
class CollectOptions:
    """How to collect.

    Attributes
    ----------
    max_cost : float or None
        US dollars that the whole collection may cost, earlier runs of the same journal included. Every call
        holds the most
        it can cost before it leaves, so the ceiling is not passed.
    concurrency : int
        Calls at once to a model whose pool entry has no `slots`.
    max_output_tokens : int
        Longest answer, for tasks that do not say.
    temperature : float or None
        0 by default; None leaves it to the servers.
    judge : str or None
        Name of the pool's model that grades `free` tasks; it need not be among the models that are asked.
    timeout : float or None
        Seconds for one call; by default each endpoint's own.
    retry : Retry
        How to try again.
    count : callable
        Counts tokens where a server's usage cannot be true.
    grade_cut : bool
        Grade an answer that the limit of tokens cut off as it stands, as a user under the same limit would
        get it; by default it is reported and left out.
    judge_twice : float
        Share of the answers, 0 to 1, that the judge grades a second time, which tells its own noise.
    """

    max_cost: float | None = None
    concurrency: int = 8
    max_output_tokens: int = 4096
    temperature: float | None = 0.0
    judge: str | None = None
    timeout: float | None = None
    retry: Retry = field(default_factory=Retry)
    count: Callable[[str], int] = field(default=estimate_tokens)
    grade_cut: bool = False
    judge_twice: float = 0.0

    def __post_init__(self) -> None:
        wanted: list[tuple[str, float | None, float]] = [
            ("max_cost", self.max_cost, 0.0),
            ("concurrency", self.concurrency, 1),
            ("max_output_tokens", self.max_output_tokens, 1),
            ("temperature", self.temperature, 0.0),
            ("timeout", self.timeout, 1e-3),
            ("attempts", self.retry.attempts, 1),
        ]
        if not 0.0 <= self.judge_twice <= 1.0:
            raise InputError(f"judge_twice: got {self.judge_twice}, wanted 0 to 1")
        for name, value, least in wanted:
            if value is not None and not least <= value < float("inf"):
                raise InputError(f"{name}: got {value}, wanted {least:g} or more")


@dataclass(frozen=True, slots=True)
class CollectSummary:
    """How a collection ended.

    Attributes
    ----------
    stopped : {"done", "max_cost", "failed", "cut"}
        All is there; the ceiling was reached; some calls failed for good (a later run tries them again); or
        nothing is missing but answers that the limit of tokens cut off.
    wanted, answered, found : int
        (task, model) pairs in all, those that are there now, and those that an earlier run had left.
    spent_usd, unsure_usd : float
        Over all runs: cost of the answers, and what calls that brought none may have cost at most.
    flagged : int
        Answers whose stated usage could not be true.
    failures : dict
        Error to how many pairs it cost, the first 20 kinds.
    records : int
        Records written.
    cut : int
        Answers that the limit of tokens cut off: paid for and left out, since they are neither right nor
        wrong. A later run with a higher limit asks them again.
    judged_twice : int
        Answers that the judge graded twice.
    judge_std : float or None
        Standard deviation of one grade of the judge, by those; None where there are none.
    """

    stopped: Stopped
    wanted: int
    answered: int
    found: int
    spent_usd: float
    unsure_usd: float
    flagged: int
    failures: dict[str, int]
    records: int
    cut: int = 0
    judged_twice: int = 0
    judge_std: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a collection stands: pairs done of those wanted, US dollars spent, and pairs that failed."""

    done: int
    wanted: int
    spent_usd: float
    failed: int
