"""A policy as what a joint assignment over shards is given: its goal, and capacities."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from eccos_rs.bulk.passes import Goal, strongest_quality
from eccos_rs.bulk.room import Room
from eccos_rs.errors import PolicyError
from eccos_rs.routing.workload import refuse_priced, unknown_capacity

if TYPE_CHECKING:
    from eccos_rs.bulk.passes import Passes
    from eccos_rs.pools.pool import Pool
    from eccos_rs.routing.policy import Policy

__all__ = ["check_policy", "joint_capacity", "joint_goal"]


def check_policy(policy: Policy, pool: Pool) -> Policy:
    """Return the policy of a run over shards; what only one batch can have is refused.

    Raises
    ------
    PolicyError
        It limits groups or other figures, or paces a stream.
    PoolError
        A limit of the pool has an overage or a minimum.
    """
    refuse_priced(pool, policy, "parts of files are assigned by price, without it; route one batch at once")
    if policy.group_min_quality or policy.group_budget:
        raise PolicyError("limits of groups are for a file that fits one call; leave out --out-dir")
    if policy.per is not None:
        raise PolicyError(f"per={policy.per!r} paces a session; a file's budget is for the file alone")
    return replace(policy, unroutable="defer")


def joint_goal(policy: Policy, passes: Passes) -> Goal:
    """Return the goal over all rows; a relative quality becomes a mean, which takes two passes."""
    name, value = policy.goal
    if name == "relative_quality":
        return Goal("min_quality", value * strongest_quality(passes))
    return Goal(name, value)  # type: ignore[arg-type]


def joint_capacity(policy: Policy, pool: Pool) -> Room | None:
    """Return the rows that models may take, alone and together; limits of live traffic are none of a file's.

    Raises
    ------
    PolicyError
        A name is neither that of a model of the pool nor of a limit that several share.
    """
    given, names = dict(policy.capacity or {}), pool.names
    limits = {limit.name: limit for limit in pool.limits if limit.name not in names}
    for name in given:
        if name not in names and name not in limits:
            raise unknown_capacity(name, [*names, *limits])
    shared = [limits[name] for name in given if name in limits and np.isfinite(given[name])]
    own = np.array([given.get(name, np.inf) for name in names], dtype=np.float64)
    if not shared and not np.isfinite(own).any():
        return None
    masks = np.zeros((len(shared), len(names)), dtype=np.bool_)
    for mask, limit in zip(masks, shared, strict=True):
        mask[[column for name in limit.models for column in pool.columns(name)]] = True
    most = np.array([given[limit.name] for limit in shared], dtype=np.float64)
    return Room(own, masks, most, tuple(limit.name for limit in shared))
