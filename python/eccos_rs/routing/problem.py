"""From predictions to the solver's problem: costs, hard needs, capacities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.domain.pricing import cost_matrix
from eccos_rs.domain.query import all_plain
from eccos_rs.errors import NoModelError
from eccos_rs.routing import workload
from eccos_rs.routing.needs import allowed_models, own_floor, pool_columns, why_none
from eccos_rs.routing.side_limits import side_rows
from eccos_rs.routing.uncertainty import Uncertainty

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from eccos_rs.domain.query import Query
    from eccos_rs.pools.pool import Pool
    from eccos_rs.predict.protocol import Prediction
    from eccos_rs.routing.policy import Policy
    from eccos_rs.solver.limits import Commitment, Overage, PooledCapacity, SideRow

__all__ = [
    "RESOURCES",
    "Problem",
    "build_problem",
    "call_costs",
    "expected_input_tokens",
    "expected_output_tokens",
    "query_costs",
]

RESOURCES = ("requests", "tokens")
"""What the rows of `Problem.load` count."""

_SMALL, _NODES = 1024, 2000
"""Up to so many queries branch and bound closes the gap that rounding leaves, within so many nodes: a
millisecond or two. Larger batches round to within the tolerance by themselves."""


@dataclass(frozen=True, eq=False)
class Problem:
    """What the solver is given for one batch of N queries and M models.

    Attributes
    ----------
    cost : ndarray of float64, shape (N, M)
        US dollars.
    quality : ndarray of float32, shape (N, M)
        Predicted success in [0, 1].
    output_tokens : ndarray of float64, shape (N, M)
        Expected output tokens of all `Query.n` answers, each cut at the query's `max_output_tokens`.
    input_tokens : ndarray of int64, shape (N,)
        Of the prompt with what is attached to it (tool definitions, images).
    allowed : ndarray of bool, shape (N, M)
        Pairs that the hard needs and the queries' own floors leave.
    load : ndarray of float64, shape (2, N, M), or None
        Requests and tokens, when something limits tokens; None means requests alone.
    capacity : ndarray of float64, shape (M,) or (2, M), or None
        Limits of requests, or of requests and tokens; infinity for none.
    priority, group : ndarray of int64, shape (N,), or None
        None when all queries are alike.
    groups : tuple of str
        The names behind the numbers in `group`.
    unroutable : mapping of int to str
        Queries that no model may take, each with the reason.
    uncertainty : Uncertainty or None
        What the prediction leaves open; read where the policy has a confidence.
    pools : tuple of PooledCapacity
        Limits that several models share.
    overage, minimum : tuple of Overage, tuple of Commitment
        Prices on use beyond what is included, and on what is committed to and not used.
    rows : tuple of SideRow
        Limits on other figures.
    """

    cost: NDArray[np.float64]
    quality: NDArray[np.float32]
    output_tokens: NDArray[np.float64]
    input_tokens: NDArray[np.int64]
    allowed: NDArray[np.bool_]
    load: NDArray[np.float64] | None
    capacity: NDArray[np.float64] | None
    priority: NDArray[np.int64] | None
    group: NDArray[np.int64] | None
    groups: tuple[str, ...]
    unroutable: dict[int, str]
    uncertainty: Uncertainty | None = None
    pools: tuple[PooledCapacity, ...] = ()
    overage: tuple[Overage, ...] = ()
    minimum: tuple[Commitment, ...] = ()
    rows: tuple[SideRow, ...] = ()

    def options(self, policy: Policy) -> dict[str, Any]:
        """Return the keywords of `assign` that this problem and a policy give, the goal aside.

        Raises
        ------
        PolicyError
            A budget meets an overage or a minimum.
        """
        workload.check_priced((*self.overage, *self.minimum), policy)
        options: dict[str, Any] = {
            "allowed": None if self.allowed.all() else self.allowed,
            "load": self.load,
            "capacity": self.capacity,
            "pools": self.pools,
            "overage": self.overage,
            "minimum": self.minimum,
            "rows": self.rows,
            "priority": self.priority,
            # Queries without a model were refused by name before, unless the policy defers them.
            "unroutable": "defer",
            "tolerance": policy.tolerance,
            "time_limit": policy.time_limit,
            "alternatives": True,
        }
        if policy.tolerance > 0 and len(self.cost) <= _SMALL:
            options["node_limit"] = _NODES
        if self.group is not None:
            options["group"] = self.group
            for name in ("group_min_quality", "group_budget"):
                limits = getattr(policy, name)
                if limits is not None:
                    options[name] = np.array([limits.get(group, np.nan) for group in self.groups])
        return options

    def strongest(self) -> NDArray[np.int64]:
        """Return for each query the model with the highest mean quality of those it may take; -1 for none."""
        return self._allowed_argmax(self.quality.sum(axis=0, dtype=np.float64))

    def cheapest(self) -> NDArray[np.int64]:
        """Return for each query the model with the lowest total cost of those it may take; -1 for none."""
        return self._allowed_argmax(-self.cost.sum(axis=0))

    def _allowed_argmax(self, score: NDArray[np.float64]) -> NDArray[np.int64]:
        best = np.where(self.allowed, score, -np.inf).argmax(axis=1)
        return np.where(self.allowed.any(axis=1), best, -1)


def expected_output_tokens(
    prediction: Prediction, queries: Sequence[Query] | None = None
) -> NDArray[np.float64]:
    """Return the expected output tokens of one answer (N, M), cut at each query's `max_output_tokens`."""
    tokens = prediction.output_tokens.astype(np.float64)
    if queries is not None and any(query.max_output_tokens is not None for query in queries):
        caps = [query.max_output_tokens or np.inf for query in queries]
        np.minimum(tokens, np.array(caps, dtype=np.float64)[:, None], out=tokens)
    return tokens


def expected_input_tokens(
    prediction: Prediction, queries: Sequence[Query] | None = None
) -> NDArray[np.int64]:
    """Return the input tokens (N,): those of the text and of what is attached to it."""
    attached = [] if queries is None else [query.attached_tokens for query in queries]
    return (
        prediction.input_tokens + np.array(attached, dtype=np.int64)
        if any(attached)
        else prediction.input_tokens
    )


def times_answers(output: NDArray[np.float64], queries: Sequence[Query]) -> NDArray[np.float64]:
    """Return the output tokens (N, M) of all answers that each query asks for."""
    answers = [query.n for query in queries]
    return output if max(answers, default=1) == 1 else output * np.array(answers, dtype=np.float64)[:, None]


def call_costs(
    pool: Pool, input_tokens: NDArray[Any], output_tokens: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return what each query costs at each model of the pool, US dollars, (N, M)."""
    return cost_matrix(input_tokens, output_tokens, pool_columns(pool).prices)


def build_problem(pool: Pool, prediction: Prediction, queries: Sequence[Query], policy: Policy) -> Problem:
    """Put a batch into arrays.

    Parameters
    ----------
    pool : Pool
        M models.
    prediction : Prediction
        N rows, M columns in the order of the pool.
    queries : sequence of Query
        N of them.
    policy : Policy

    Returns
    -------
    Problem

    Raises
    ------
    NoModelError
        No model may take a query, and the policy does not defer such queries.
    QueryError, PolicyError
        A model or a group is named that is not there.
    """
    plain = all_plain(queries)
    output = expected_output_tokens(prediction, None if plain else queries)
    prompt = expected_input_tokens(prediction, None if plain else queries)
    allowed = allowed_models(
        pool, prediction, () if plain else queries, prompt=prompt, output=output, policy=policy
    )
    unroutable: dict[int, str] = {}
    for row in () if allowed.all() else np.flatnonzero(~allowed.any(axis=1)).tolist():
        reason = why_none(
            pool, prediction.quality[row], queries[row], prompt=int(prompt[row]),
            floor=own_floor(queries[row], policy), output=output[row],
        )  # fmt: skip
        if policy.unroutable == "raise":
            name = "" if queries[row].id is None else f" (id {queries[row].id!r})"
            raise NoModelError(f"query {row}{name}: no model may take it: {reason}")
        unroutable[row] = reason
    if not plain:
        output = times_answers(output, queries)
    used = workload.measure(pool, prompt, output, policy.capacity)
    priority = None if plain else np.array([query.priority for query in queries], dtype=np.int64)
    group, groups = _groups(queries, policy)
    return Problem(
        cost=call_costs(pool, _as_counted(prediction, prompt), output),
        quality=prediction.quality,
        output_tokens=output,
        input_tokens=prompt,
        allowed=allowed,
        load=used.load,
        capacity=used.capacity,
        pools=used.pools,
        overage=used.overage,
        minimum=used.minimum,
        rows=side_rows(policy.rows, pool, queries, prompt, output),
        priority=priority if priority is not None and priority.any() else None,
        group=group,
        groups=groups,
        unroutable=unroutable,
        uncertainty=None if policy.confidence is None else _uncertainty(pool, prediction, output),
    )


def _uncertainty(pool: Pool, prediction: Prediction, output: NDArray[np.float64]) -> Uncertainty:
    """Say what a prediction leaves open of a batch."""
    return Uncertainty(
        prediction.familiar,
        prediction.level_std,
        prediction.log_tokens_std,
        call_costs(pool, np.zeros(len(output), dtype=np.int64), output),
        prediction.shared,
    )


def query_costs(
    pool: Pool, prediction: Prediction, queries: Sequence[Query] | None = None
) -> NDArray[np.float64]:
    """Return what each query would cost at each model, (N, M), in US dollars; see `Router.costs`."""
    output = expected_output_tokens(prediction, queries)
    if queries is not None:
        output = times_answers(output, queries)
    return call_costs(pool, _as_counted(prediction, expected_input_tokens(prediction, queries)), output)


def _as_counted(prediction: Prediction, prompt: NDArray[np.int64]) -> NDArray[Any]:
    """Return the input tokens as each model counts them, (N, M), or for all alike, (N,)."""
    return prompt if prediction.input_factor is None else prompt[:, None] * prediction.input_factor


def _groups(queries: Sequence[Query], policy: Policy) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    if not policy.group_min_quality and not policy.group_budget:
        return None, ()
    # Queries without a group stand in one of their own, which has no limits.
    names = tuple(sorted({query.group or "" for query in queries}))
    at = {name: number for number, name in enumerate(names)}
    return np.array([at[query.group or ""] for query in queries], dtype=np.int64), names
