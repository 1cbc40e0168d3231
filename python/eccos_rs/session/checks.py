"""Input validation of a session: what callers pass in is checked once, here."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from eccos_rs.domain.validation import check_number
from eccos_rs.errors import InputError, PolicyError
from eccos_rs.predict.protocol import Prediction
from eccos_rs.routing.workload import refuse_priced

if TYPE_CHECKING:
    from collections.abc import Iterable

    from eccos_rs.pools.pool import Pool
    from eccos_rs.routing.policy import Policy
    from eccos_rs.session.limits.base import RateLimiter

__all__ = [
    "checked_limits",
    "checked_number",
    "checked_policy",
    "checked_prediction",
    "checked_timeout",
    "model_mask",
]


def checked_number(name: str, value: Any, most: float = math.inf) -> float:
    """Return a finite number in [0, most], or raise `InputError`."""
    return check_number(name, value, error=InputError, most=most)


def checked_policy(policy: Policy, pool: Pool) -> None:
    """Raise `PoolError` or `PolicyError` for what a session cannot promise."""
    shared = {limit.name for limit in pool.limits}
    for name in policy.capacity or {}:
        if name not in shared:
            pool.index(name)
    for name in ("group_min_quality", "group_budget"):
        if getattr(policy, name) is not None:
            raise PolicyError(f"{name} is for a batch; a session keeps one promise over its whole stream")
    refuse_priced(pool, policy, "a session decides requests as they come")


def checked_limits(limits: RateLimiter, pool: Pool) -> RateLimiter:
    """Return a limiter that the caller made, or raise `InputError` when it would not keep a shared limit."""
    if len(limits.shared(0.0)) < len(pool.limits):
        raise InputError(
            f"limits: a {type(limits).__name__} that counts no limit over several models, and the pool has "
            f"{', '.join(repr(limit.name) for limit in pool.limits)}; wanted a JointLimiter around it, or no "
            "limits="
        )
    return limits


def checked_timeout(value: Any) -> float:
    """Return seconds (None: inf), or raise `InputError`."""
    if value is None or value == math.inf:
        return math.inf
    return checked_number("timeout", value)


def model_mask(names: str | Iterable[str], pool: Pool) -> int:
    """Return models as bits; PoolError: a name is not in the pool."""
    mask = 0
    for name in (names,) if isinstance(names, str) else names:
        mask |= 1 << pool.index(name)
    return mask


def checked_prediction(prediction: Any, pool: Pool) -> Prediction:
    """Return a prediction of one query with the pool's columns, or raise `InputError`."""
    if not isinstance(prediction, Prediction):
        raise InputError(f"prediction: got {type(prediction).__name__}, wanted a Prediction of one query")
    if len(prediction) != 1:
        raise InputError(
            f"prediction: got {len(prediction)} rows, wanted 1; use prediction.rows(slice(i, i + 1))"
        )
    return prediction.select(pool.names)
