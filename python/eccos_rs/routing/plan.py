"""The answer, row by row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.errors import InputError
from eccos_rs.routing.export import rows_to_arrow, rows_to_pandas, rows_to_polars
from eccos_rs.routing.notebook import plan_html
from eccos_rs.routing.picture import draw_plan
from eccos_rs.routing.problem import RESOURCES
from eccos_rs.routing.reasons import find_reason, reason_text
from eccos_rs.routing.render import TOKENS_PER_SECOND, plan_text
from eccos_rs.routing.uses import LimitUse, charges, limit_uses
from eccos_rs.routing.warnings import familiar_share, known_similarity, plan_warnings

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from eccos_rs.domain.query import Query
    from eccos_rs.pools.pool import Pool
    from eccos_rs.predict.protocol import Prediction
    from eccos_rs.routing.policy import Policy
    from eccos_rs.routing.problem import Problem
    from eccos_rs.routing.promise import Margin
    from eccos_rs.solver.assignment import Assignment, Status

__all__ = ["TOKENS_PER_SECOND", "Baseline", "Plan", "PlanRow"]


@dataclass(frozen=True, slots=True)
class PlanRow:
    """What one query gets.

    Attributes
    ----------
    index : int
        Its place in the batch.
    id : str or None
    query : str
        The text the predictor saw.
    model : str or None
        Who answers; None when it is deferred.
    quality, cost : float or None
        Predicted success in [0, 1] and US dollars; None when it is deferred.
    input_tokens : int
    output_tokens : float or None
        Expected.
    runner_up : str or None
        The second choice at the prices of the solution.
    runner_up_quality, runner_up_cost : float or None
    price_change : float or None
        US dollars by which the runner-up would have to be cheaper for this query, or the chosen model dearer,
        before it switches. Negative where a limit keeps it away from its own best choice.
    reason : str
        Why it is so.
    reason_code : str
        The same for programs; one of `ReasonCode`.
    similarity : float or None
        Cosine similarity of the nearest query with known outcomes; None where the predictor does not say.
    """

    index: int
    id: str | None
    query: str
    model: str | None
    quality: float | None
    input_tokens: int
    output_tokens: float | None
    cost: float | None
    runner_up: str | None
    runner_up_quality: float | None
    runner_up_cost: float | None
    price_change: float | None
    reason: str
    reason_code: str
    similarity: float | None = None


@dataclass(frozen=True, slots=True)
class Baseline:
    """What one simple rule would cost and reach for the same batch, capacities left aside.

    Attributes
    ----------
    name : str
        ``strongest`` or ``cheapest``.
    model : str
        The model most queries would get; a query that may not take it goes to the next in rank.
    cost : float
        US dollars.
    quality : float
        Mean predicted success.
    """

    name: str
    model: str
    cost: float
    quality: float


@dataclass(frozen=True, eq=False, repr=False)
class Plan(Sequence[PlanRow]):
    """A model for every query of a batch, and how good that is.

    Iterating gives `PlanRow`; ``print(plan)`` a table; a notebook shows it by itself.

    Attributes
    ----------
    queries : tuple of Query
    pool : Pool
    policy : Policy
        As it was applied.
    prediction : Prediction
        Columns in the order of the pool, without embeddings.
    problem : Problem
        What the solver was given.
    assignment : Assignment
        What it answered: status, bound, gap, prices.
    promised : float or None
        The mean predicted success that was asked for; None for a budget or a price.
    margin : Margin or None
        Where the policy has a confidence.
    device : str or None
        Where the predictor ran.
    seconds : mapping of str to float
        Time of each stage: ``tokenize``, ``encode``, ``retrieve``, ``predict``, ``assign``, ``other``.
    basis : str or None
        What the forecasts rest on, where that is no training on labels of these models; see `Router.basis`.
    """

    queries: tuple[Query, ...]
    pool: Pool
    policy: Policy
    prediction: Prediction
    problem: Problem
    assignment: Assignment
    promised: float | None
    margin: Margin | None
    device: str | None
    seconds: Mapping[str, float]
    basis: str | None = None

    @property
    def status(self) -> Status:
        """What the caller holds; see `Status`."""
        return self.assignment.status

    @property
    def total_cost(self) -> float:
        """US dollars of the whole batch, as predicted."""
        return self.assignment.cost

    @property
    def mean_quality(self) -> float:
        """Mean predicted success of the assigned queries; NaN when there is none."""
        return self.assignment.quality

    @cached_property
    def models(self) -> list[str | None]:
        """For each query the name of its model; None when it is deferred."""
        return self._names(self.assignment.model)

    @cached_property
    def runner_up(self) -> list[str | None]:
        """For each query the name of its second choice; None when there is none."""
        return self._names(self._second)

    @cached_property
    def quality(self) -> NDArray[np.float64]:
        """Predicted success of each query at its model, (N,); NaN when it is deferred."""
        return self._at(self.problem.quality, self.assignment.model)

    @cached_property
    def output_tokens(self) -> NDArray[np.float64]:
        """Expected output tokens of each query at its model, (N,); NaN when it is deferred."""
        return self._at(self.problem.output_tokens, self.assignment.model)

    @property
    def input_tokens(self) -> NDArray[np.int64]:
        """Tokens of each prompt with what is attached to it, (N,)."""
        return self.problem.input_tokens

    @cached_property
    def cost(self) -> NDArray[np.float64]:
        """US dollars of each query at its model, (N,); NaN when it is deferred."""
        return self._at(self.problem.cost, self.assignment.model)

    @property
    def familiar(self) -> float | None:
        """Share of the queries that are like known ground, 0 to 1; None where the predictor does not say."""
        return familiar_share(self.prediction.familiar)

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """What the figures do not rest on, in sentences; empty where there is nothing to say.

        Queries unlike anything learned, and a promise whose level no label backs; see
        `eccos_rs.routing.warnings`.
        """
        return plan_warnings(
            self.prediction, self.quality, self.assignment.model, promised=self.promised is not None
        )

    @property
    def deferred(self) -> NDArray[np.intp]:
        """Indices of the queries without a model."""
        return self.assignment.deferred

    @cached_property
    def explanation(self) -> str | None:
        """Why the batch cannot have what was asked, with the cheapest repair; None when it has it."""
        diagnosis = self.assignment.diagnosis
        if diagnosis is None:
            return None
        return diagnosis.text(self.pool.names, self.problem.groups, RESOURCES)

    @cached_property
    def limits(self) -> tuple[LimitUse, ...]:
        """What the plan uses of shared and side limits, of overages and commitments, and what they cost.

        Charges are part of `total_cost`, and of no single row's cost.
        """
        return limit_uses(self.problem, self.assignment)

    @cached_property
    def baselines(self) -> tuple[Baseline, ...]:
        """All to the strongest model and all to the cheapest, for comparison; empty for an empty batch."""
        found = []
        for name, chosen in (("strongest", self.problem.strongest()), ("cheapest", self.problem.cheapest())):
            rows = np.flatnonzero(chosen >= 0)
            if len(rows):
                model = self.pool.names[int(np.bincount(chosen[rows]).argmax())]
                cost = float(self.problem.cost[rows, chosen[rows]].sum()) + charges(self.problem, chosen)
                quality = float(self.problem.quality[rows, chosen[rows]].mean(dtype=np.float64))
                found.append(Baseline(name, model, cost, quality))
        return tuple(found)

    @property
    def overhead(self) -> float:
        """Seconds that routing took, all stages together."""
        return sum(self.seconds.values())

    def response_seconds(self, tokens_per_second: float = TOKENS_PER_SECOND) -> float:
        """Return the seconds that the models will take to write all answers, one after another."""
        if not tokens_per_second > 0:
            raise InputError(f"tokens_per_second must be greater than 0, got {tokens_per_second!r}")
        return float(np.nansum(self.output_tokens)) / tokens_per_second

    def reason(self, index: int) -> str:
        """Say why a query has the model it has."""
        return reason_text(find_reason(self.problem, self.assignment, index), self.pool.names)

    def row(self, index: int) -> PlanRow:
        """Return what one query gets."""
        column, second = int(self.assignment.model[index]), int(self._second[index])
        problem, query = self.problem, self.queries[index]
        reason = find_reason(problem, self.assignment, index)
        return PlanRow(
            index=index,
            id=query.id,
            query=query.prompt,
            model=self.pool.names[column] if column >= 0 else None,
            quality=float(problem.quality[index, column]) if column >= 0 else None,
            input_tokens=int(self.input_tokens[index]),
            output_tokens=float(problem.output_tokens[index, column]) if column >= 0 else None,
            cost=float(problem.cost[index, column]) if column >= 0 else None,
            runner_up=self.pool.names[second] if second >= 0 else None,
            runner_up_quality=float(problem.quality[index, second]) if second >= 0 else None,
            runner_up_cost=float(problem.cost[index, second]) if second >= 0 else None,
            price_change=self._price_change(index),
            reason=reason_text(reason, self.pool.names),
            reason_code=str(reason.code),
            similarity=known_similarity(self.prediction.similarity, index),
        )

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return the rows as dictionaries that JSON can hold; see `PlanRow` for the keys."""
        return [asdict(row) for row in self]

    def to_pandas(self) -> pd.DataFrame:
        """Return the rows as a data frame.

        Raises
        ------
        MissingExtraError
            pandas is not installed.
        """
        return rows_to_pandas(self, PlanRow)

    def to_arrow(self) -> pa.Table:
        """Return the rows as an Arrow table; what is None there is null.

        Raises
        ------
        MissingExtraError
            pyarrow is not installed.
        """
        return rows_to_arrow(self, PlanRow)

    def to_polars(self) -> pl.DataFrame:
        """Return the rows as a data frame of Polars; what is None there is null.

        Raises
        ------
        MissingExtraError
            Polars is not installed.
        """
        return rows_to_polars(self, PlanRow)

    def plot(self) -> Figure:
        """Draw cost and success beside those of each model alone, and each model's share.

        Returns
        -------
        matplotlib.figure.Figure
            A notebook shows it; ``plan.plot().savefig("plan.png")`` writes it. It is drawn without a display.

        Raises
        ------
        MissingExtraError
            matplotlib is not installed.
        """
        return draw_plan(self)

    def __len__(self) -> int:
        return len(self.queries)

    def __iter__(self) -> Iterator[PlanRow]:
        return (self.row(index) for index in range(len(self)))

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self.row(at) for at in range(*index.indices(len(self)))]
        return self.row(range(len(self))[index])

    def __repr__(self) -> str:
        left = f", {len(self.deferred)} deferred" if len(self.deferred) else ""
        return (
            f"Plan({self.status}: {len(self)} quer{'y' if len(self) == 1 else 'ies'}{left}, "
            f"cost ${self.total_cost:.6g}, quality {self.mean_quality:.4f}, "
            f"gap {self.assignment.gap:.1e}, {1e3 * self.overhead:.3g} ms)"
        )

    def __str__(self) -> str:
        return plan_text(self)

    def _repr_html_(self) -> str:
        return plan_html(self)

    @cached_property
    def _second(self) -> NDArray[np.int32]:
        others = self.assignment.alternatives
        return np.full(len(self), -1, dtype=np.int32) if others is None else others.model

    def _price_change(self, index: int) -> float | None:
        others = self.assignment.alternatives
        change = np.nan if others is None else float(others.price_change[index])
        return change if np.isfinite(change) else None

    def _names(self, columns: NDArray[np.int32]) -> list[str | None]:
        names = self.pool.names
        return [names[column] if column >= 0 else None for column in columns.tolist()]

    def _at(self, array: NDArray[Any], columns: NDArray[np.int32]) -> NDArray[np.float64]:
        """Pick one column of each row, NaN where there is none."""
        picked = array[np.arange(len(columns)), columns].astype(np.float64)
        picked[columns < 0] = np.nan
        picked.setflags(write=False)
        return picked
