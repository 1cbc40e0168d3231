"""A policy as what a joint assignment over shards is given: its goal, and capacities."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from eccos_rs.bulk.passes import Goal, strongest_quality
from eccos_rs.errors import PolicyError
from eccos_rs.routing.workload import unknown_capacity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from eccos_rs.bulk.passes import Passes
    from eccos_rs.routing.policy import Policy

__all__ = ["check_policy", "joint_capacity", "joint_goal"]


def check_policy(policy: Policy) -> Policy:
    """Return the policy of a run over shards; what only one batch can have is refused.

    Raises
    ------
    PolicyError
        It limits groups, or paces a stream.
    """
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


def joint_capacity(policy: Policy, names: Sequence[str]) -> NDArray[np.float64] | None:
    """Return the rows that each model may take, (M,); limits of live traffic are none of a file's.

    Raises
    ------
    PolicyError
        A model is not in the pool.
    """
    given = dict(policy.capacity or {})
    for name in given:
        if name not in names:
            raise unknown_capacity(name, names)
    limits = np.array([given.get(name, np.inf) for name in names], dtype=np.float64)
    return limits if np.isfinite(limits).any() else None
