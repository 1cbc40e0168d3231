"""The one call: a batch in, a plan out, with nothing configured."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from eccos_rs.errors import InputError
from eccos_rs.pools.pool import Pool
from eccos_rs.routing.router import Router

if TYPE_CHECKING:
    from collections.abc import Iterable
    from os import PathLike

    from eccos_rs.routing.batch import Item
    from eccos_rs.routing.plan import Plan
    from eccos_rs.routing.policy import Policy

__all__ = ["route"]

KEPT = 4
"""Pools whose routers are kept, the newest."""


def route(
    batch: Iterable[Item],
    *,
    pool: Pool | str | PathLike[str] | None = None,
    router: Router | None = None,
    policy: Policy | None = None,
    **policy_fields: Any,
) -> Plan:
    """Choose a model for every query of a batch: the one call.

    With nothing configured it routes among six widely used models, known by published scores, and the plan
    says so in one line. What is loaded is kept.

    Parameters
    ----------
    batch : iterable of str, chat, mapping or Query
    pool : Pool or path, optional
        The models to route among, in place of those six: any names; see `Router.load`.
    router : Router, optional
        In place of the shipped one; it has its own pool, so `pool` is not given beside it.
    policy : Policy, optional
        What is promised; without one 97 % of the quality of sending all to the strongest model.
    **policy_fields
        Fields of `Policy`, such as ``min_quality=0.8``, ``budget=0.05`` or ``quality_value=0.01``.

    Returns
    -------
    Plan

    Examples
    --------
    >>> plan = route(["What is 2 + 2?", "Prove that there are infinitely many primes."], budget=0.01)
    >>> len(plan.models), plan.total_cost <= 0.01
    (2, True)
    """
    if router is not None and pool is not None:
        raise InputError("pool was given beside router, which has its own; give one of them")
    if router is None:
        router = _router_for(pool)
    return router.route(batch, policy=policy, **policy_fields)


_loading = threading.Lock()
_kept: list[tuple[Pool, Router]] = []


def _router_for(pool: Pool | str | PathLike[str] | None) -> Router:
    """Return the router of a pool, of the usual one where none is given."""
    # The lock keeps two threads that ask first from loading the weights twice.
    with _loading:
        own = Pool.usual() if pool is None else pool if isinstance(pool, Pool) else Pool.load(pool)
        for known, router in _kept:
            if known == own:
                return router
        made = Router.day_one() if pool is None else Router.load(pool=own)
        _kept.insert(0, (own, made))
        del _kept[KEPT:]
        return made
