"""What a query cannot do without: which models may take it, and why none may."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from eccos_rs.domain.validation import did_you_mean
from eccos_rs.errors import QueryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from eccos_rs.domain.query import Query
    from eccos_rs.pools.pool import LLM, Pool
    from eccos_rs.predict.protocol import Prediction
    from eccos_rs.routing.policy import Policy

__all__ = ["PoolColumns", "allowed_models", "own_floor", "pool_columns", "why_none"]


@dataclass(frozen=True, eq=False)
class PoolColumns:
    """A pool as arrays, one number a model; infinity for no limit."""

    prices: NDArray[np.float64]
    """Input and output price, (M, 2)."""
    window: NDArray[np.float64]
    vision: NDArray[np.bool_]
    tools: NDArray[np.bool_]
    seconds: NDArray[np.float64]
    """Within which the lane answers; 0 for at once."""


@lru_cache(maxsize=64)
def pool_columns(pool: Pool) -> PoolColumns:
    """Return a pool as arrays (cached)."""

    def numbers(values: Iterable[float | None]) -> NDArray[np.float64]:
        return np.array([np.inf if value is None else value for value in values], dtype=np.float64)

    return PoolColumns(
        prices=np.array([(model.input_price, model.output_price) for model in pool], dtype=np.float64),
        window=numbers(model.context_window for model in pool),
        vision=np.array([model.vision for model in pool], dtype=np.bool_),
        tools=np.array([model.tools for model in pool], dtype=np.bool_),
        seconds=np.array([model.lane_seconds for model in pool], dtype=np.float64),
    )


def allowed_models(
    pool: Pool,
    prediction: Prediction,
    queries: Sequence[Query],
    *,
    prompt: NDArray[np.int64],
    output: NDArray[np.float64],
    policy: Policy,
) -> NDArray[np.bool_]:
    """Return who may take which query; no `queries` stand for ones without needs."""
    columns = pool_columns(pool)
    needed = prompt[:, None] + output
    if not queries:
        allowed: NDArray[np.bool_] = needed <= columns.window
        if policy.query_floor:
            allowed &= prediction.quality >= policy.query_floor
        return allowed
    extra = np.array([[query.context_tokens or 0] for query in queries], dtype=np.int64)
    allowed = needed + extra <= columns.window
    for ability in ("vision", "tools"):
        asked = np.array([[getattr(query, ability)] for query in queries], dtype=np.bool_)
        if asked.any():
            allowed &= ~asked | getattr(columns, ability)
    wanted = np.array([[np.inf if q.deadline is None else q.deadline] for q in queries], dtype=np.float64)
    if np.isfinite(wanted).any():
        allowed &= columns.seconds <= wanted
    for row, query in enumerate(queries):
        if query.models is not None:
            allowed[row] &= np.isin(np.arange(len(pool)), _columns(pool, query, row))
    floors = np.array([[own_floor(query, policy)] for query in queries], dtype=np.float64)
    if floors.any():
        allowed &= prediction.quality >= floors
    return allowed


def own_floor(query: Query, policy: Policy) -> float:
    """Return the least predicted success that a query may be given."""
    floor = policy.query_floor if query.min_quality is None else query.min_quality
    return 0.0 if floor is None else floor


def _columns(pool: Pool, query: Query, row: int) -> list[int]:
    names = query.models or ()
    known = {*pool.names, *(model.identity for model in pool)}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise QueryError(
            f"query {row} allows {unknown[0]!r}, which is not in the pool{_near(unknown[0], pool)}"
        )
    return [column for name in names for column in pool.columns(name)]


def why_none(
    pool: Pool,
    quality: NDArray[np.float32],
    query: Query,
    *,
    prompt: int,
    floor: float,
    output: NDArray[np.float64],
) -> str:
    """Say for each model what rules it out, the first reason found."""
    most = 6
    reasons = []
    for column, model in enumerate(pool):
        needed = prompt + (query.context_tokens or 0) + float(output[column])
        reason = _why_not(model, query, needed, prompt)
        if reason is None:
            reason = f"predicted success {quality[column]:.3f} is below the floor {floor:g}"
        reasons.append(f"{model.name}: {reason}")
    if len(reasons) > most:
        reasons[most:] = [f"and {len(reasons) - most} more alike"]
    return "; ".join(reasons)


def _why_not(model: LLM, query: Query, needed: float, prompt: int) -> str | None:
    if query.models is not None and not {model.name, model.identity} & set(query.models):
        return "not among the models the query allows"
    if query.deadline is not None and model.lane_seconds > query.deadline:
        return f"its lane answers within {model.lane_seconds:,.0f} s, wanted are {query.deadline:,g}"
    if query.vision and not model.vision:
        return "no vision"
    if query.tools and not model.tools:
        return "no tools"
    if model.context_window is not None and needed > model.context_window:
        return (
            f"context window of {model.context_window:,} tokens, needed are {needed:,.0f} "
            f"({prompt:,} of prompt, the rest for the answer and what the query asks beyond)"
        )
    return None


def _near(name: str, pool: Pool) -> str:
    return did_you_mean(name, pool.names, otherwise="it holds")
