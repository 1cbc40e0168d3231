"""What a batch uses of the pool's limits: requests and tokens, of each model and of those that share one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from eccos_rs.domain.validation import did_you_mean
from eccos_rs.errors import PolicyError, PoolError
from eccos_rs.solver.limits import Commitment, Overage, PooledCapacity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from eccos_rs.domain.llm import LLM, Limit
    from eccos_rs.pools.pool import Pool
    from eccos_rs.routing.policy import Policy

__all__ = ["Workload", "check_priced", "measure", "refuse_priced", "unknown_capacity"]

_REQUESTS, _TOKENS = 0, 1


class Workload(NamedTuple):
    """Load, capacities, shared capacities and priced loads in the form of `assign`."""

    load: NDArray[np.float64] | None
    capacity: NDArray[np.float64] | None
    pools: tuple[PooledCapacity, ...]
    overage: tuple[Overage, ...] = ()
    minimum: tuple[Commitment, ...] = ()


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
    overage = tuple(_overage(pool, limit) for limit in pool.limits if limit.overage)
    minimum = tuple(_commitment(pool, limit) for limit in pool.limits if limit.minimum is not None)
    over: list[_OverLoad] = [*pools, *overage, *minimum]
    if np.isfinite(tokens).any() or any(each.resource == _TOKENS for each in over):
        load = np.ones((2, *output.shape))
        load[_TOKENS] = output + prompt[:, None]
        return Workload(load, np.stack([requests, tokens]), tuple(pools), overage, minimum)
    own = requests if np.isfinite(requests).any() else None
    return Workload(None, own, tuple(pools), overage, minimum)


class _OverLoad(Protocol):
    @property
    def resource(self) -> int: ...


def _overage(pool: Pool, limit: Limit) -> Overage:
    """Return the price of use beyond what is included, for a request or for a token."""
    by_token = limit.overage[0].above_tokens is not None
    unit, resource = (1e6, _TOKENS) if by_token else (1.0, _REQUESTS)
    tiers = [
        (float(tier.above_requests if tier.above_tokens is None else tier.above_tokens), tier.price / unit)  # type: ignore[arg-type]  # one is given
        for tier in limit.overage
    ]
    return Overage(_columns(pool, limit), tiers, resource, _label(limit, "overage of", by_token))


def _commitment(pool: Pool, limit: Limit) -> Commitment:
    """Return what is paid of a commitment that is not used, for a request or for a token."""
    least = limit.minimum
    assert least is not None  # the caller has looked
    by_token = least.tokens is not None
    amount = least.requests if least.tokens is None else least.tokens
    unit, resource = (1e6, _TOKENS) if by_token else (1.0, _REQUESTS)
    name = _label(limit, "minimum of", by_token)
    return Commitment(_columns(pool, limit), float(amount), least.price / unit, resource, name)  # type: ignore[arg-type]  # one is given


def _label(limit: Limit, what: str, by_token: bool) -> str:
    return f"{what} limit {limit.name!r} ({'tokens' if by_token else 'requests'})"


def check_priced(priced: Sequence[Overage | Commitment], policy: Policy) -> None:
    """Raise `PolicyError` where a budget meets prices that are part of a cost to be kept low."""
    if priced and policy.budget is not None:
        raise PolicyError(
            f"the {priced[0].name} is weighed as a part of the cost; with a budget it is not: ask for "
            "min_quality, relative_quality or quality_value"
        )


def refuse_priced(pool: Pool, policy: Policy, who: str) -> None:
    """Raise for limits that only a batch that is routed at once can keep.

    Raises
    ------
    PoolError
        A limit of the pool has an overage or a minimum.
    PolicyError
        The policy has rows.
    """
    for limit in pool.limits:
        if limit.is_priced:
            what = "overage" if limit.overage else "minimum"
            raise PoolError(f"limit {limit.name!r} has {what!r}, a price on a batch as a whole; {who}")
    if policy.rows:
        raise PolicyError(f"rows holds {policy.rows[0].name!r}, a limit on a batch as a whole; {who}")


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
