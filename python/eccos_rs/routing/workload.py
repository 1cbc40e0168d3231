"""What a batch uses of the pool's limits: requests and tokens, of each model and of those that share one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from eccos_rs.domain.validation import did_you_mean
from eccos_rs.errors import PolicyError
from eccos_rs.solver.limits import PooledCapacity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from eccos_rs.domain.llm import LLM, Limit
    from eccos_rs.pools.pool import Pool

__all__ = ["Workload", "measure", "unknown_capacity"]

_REQUESTS, _TOKENS = 0, 1


class Workload(NamedTuple):
    """Load, capacities and shared capacities in the form of `assign`."""

    load: NDArray[np.float64] | None
    capacity: NDArray[np.float64] | None
    pools: tuple[PooledCapacity, ...]


def measure(
    pool: Pool,
    prompt: NDArray[np.int64],
    output: NDArray[np.float64],
    given: Mapping[str, float] | None,
) -> Workload:
    """Return requests alone, or requests and tokens where something limits those.

    Parameters
    ----------
    pool : Pool
    prompt : ndarray, shape (N,)
        Input tokens.
    output : ndarray, shape (N, M)
        Output tokens.
    given : mapping of str to float, optional
        Requests of this batch for models, or for the models of a shared limit together, in place of the
        pool's own.

    Raises
    ------
    PolicyError
        A name of `given` is neither a model nor a shared limit.
    """
    requests = np.array([_requests(model) for model in pool])
    tokens = np.array([_or_none(model.tokens_per_minute) for model in pool])
    shared = {limit.name: _requests(limit) for limit in pool.limits}
    for name, limit in (given or {}).items():
        if name in pool.names:
            requests[pool.index(name)] = limit
        elif name in shared:
            shared[name] = limit
        else:
            raise unknown_capacity(name, [*pool.names, *shared])
    pools = [
        PooledCapacity(_columns(pool, limit), most, resource, f"limit {limit.name!r} ({unit})")
        for limit in pool.limits
        for most, resource, unit in (
            (shared[limit.name], _REQUESTS, "requests"),
            (_or_none(limit.tokens_per_minute), _TOKENS, "tokens"),
        )
        if np.isfinite(most)
    ]
    if np.isfinite(tokens).any() or any(each.resource == _TOKENS for each in pools):
        load = np.ones((2, *output.shape))
        load[_TOKENS] = output + prompt[:, None]
        return Workload(load, np.stack([requests, tokens]), tuple(pools))
    return Workload(None, requests if np.isfinite(requests).any() else None, tuple(pools))


def unknown_capacity(name: str, names: Sequence[str]) -> PolicyError:
    """Return the error for a name in a policy's `capacity` that is none of these."""
    near = did_you_mean(name, names, otherwise="it holds")
    return PolicyError(f"capacity names {name!r}, which is not in the pool{near}")


def _columns(pool: Pool, limit: Limit) -> list[int]:
    return sorted({column for name in limit.models for column in pool.columns(name)})


def _requests(limits: LLM | Limit) -> float:
    # A batch is handed over at once: what runs at a time and what starts within a minute both limit it.
    return min(_or_none(limits.slots), _or_none(limits.requests_per_minute))


def _or_none(limit: float | None) -> float:
    return float("inf") if limit is None else float(limit)
