"""From the URL of a store to the limits that go with it."""

from __future__ import annotations

import logging
import os
import uuid
from typing import TYPE_CHECKING

from eccos_rs.errors import InputError, StoreError
from eccos_rs.session.limits.elsewhere import Announcement, limited_endpoints
from eccos_rs.session.limits.joint import JointLimiter, counted_limits, counted_slots
from eccos_rs.session.limits.local import LocalLimiter, model_limits
from eccos_rs.session.limits.shared import SharedLimiter
from eccos_rs.session.limits.sqlite_backend import SqliteBackend
from eccos_rs.session.redis_client import RedisAddress, is_redis_url
from eccos_rs.session.store.memory import MemoryStore
from eccos_rs.session.store.opening import sqlite_path

if TYPE_CHECKING:
    from pathlib import Path

    from eccos_rs.pools.pool import Pool
    from eccos_rs.routing.policy import Policy
    from eccos_rs.session.limits.base import RateLimiter
    from eccos_rs.session.limits.exchange import ModelLimit, SharedBackend
    from eccos_rs.session.limits.shared import OnStoreLoss

__all__ = ["open_limits"]

logger = logging.getLogger("eccos_rs.session")

_ON_LOSS = ("local-share", "refuse")


def open_limits(
    store: object, pool: Pool, policy: Policy, *, on_loss: OnStoreLoss = "local-share"
) -> RateLimiter:
    """Open the limits that sessions on a store share; without a store that can be shared, local ones.

    Parameters
    ----------
    store : URL, path or Store, optional
        As for `open_store`. Sessions on one SQLite file or in one namespace of Redis share their limits.
    pool : Pool
    policy : Policy
        Its `capacity` and budget.
    on_loss : {"local-share", "refuse"}
        While the shared state cannot be reached: keep to this session's share of every limit, or grant
        nothing.

    Raises
    ------
    InputError
        `on_loss` or the URL is of no kind that is known.
    StoreError
        A server is named that cannot be reached.
    """
    if on_loss not in _ON_LOSS:
        raise InputError(f"on_store_loss must be one of {', '.join(_ON_LOSS)}, got {on_loss!r}")
    counted = [*pool, *counted_limits(pool)]
    slots = counted_slots(pool, policy.capacity)
    limits = model_limits(counted, slots)
    alone = f"session {uuid.uuid4().hex}", "memory, for itself"
    found = _backend(store, policy, limits)
    limiter: LocalLimiter | SharedLimiter
    if found is None:
        limiter, (where, shown) = LocalLimiter(counted, slots), alone
    else:
        backend, where, shown = found
        try:
            limiter = SharedLimiter(counted, backend, slots, on_loss=on_loss)
        except StoreError as error:
            if is_redis_url(store):
                raise
            logger.error("this session counts its limits for itself: %s", error)
            limiter, (where, shown) = LocalLimiter(counted, slots), alone
    limiter.announcement = Announcement(limited_endpoints(list(pool), limits[: len(pool)]), where, shown)
    return JointLimiter(limiter, pool) if pool.limits else limiter


def _backend(
    store: object, policy: Policy, limits: list[ModelLimit]
) -> tuple[SharedBackend, str, str] | None:
    """Return where sessions on a store meet, with the name of that place and how it is shown."""
    if is_redis_url(store):
        from eccos_rs.session.limits.redis_backend import RedisBackend

        address = RedisAddress.parse(str(store))
        return RedisBackend(address, limits), address.shown, address.shown
    needed = policy.budget is not None or any(limit[1:] != (None, None, None) for limit in limits)
    if not needed or not isinstance(store, str | os.PathLike) or str(store) == MemoryStore.url:
        return None
    path = limits_path(sqlite_path(store))
    return SqliteBackend(path, limits), str(path.absolute()), str(path)


def limits_path(store: Path) -> Path:
    """Return where the limits of sessions on an SQLite store are counted."""
    return store.with_name(f"{store.name}-limits")
