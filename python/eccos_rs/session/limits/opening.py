"""From the URL of a store to the limits that go with it."""

from __future__ import annotations

import logging
import os
import uuid
from typing import TYPE_CHECKING

from eccos_rs.errors import InputError, StoreError
from eccos_rs.session.limits.elsewhere import Announcement, limited_endpoints
from eccos_rs.session.limits.local import LocalLimiter
from eccos_rs.session.limits.shared import SharedLimiter, model_limits
from eccos_rs.session.limits.sqlite_backend import SqliteBackend
from eccos_rs.session.redis_client import RedisAddress, is_redis_url
from eccos_rs.session.store.memory import MemoryStore
from eccos_rs.session.store.opening import sqlite_path

if TYPE_CHECKING:
    from pathlib import Path

    from eccos_rs.pools.pool import Pool
    from eccos_rs.routing.policy import Policy
    from eccos_rs.session.limits.base import RateLimiter
    from eccos_rs.session.limits.exchange import ModelLimit
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
    limits = model_limits(pool, policy.capacity)
    limiter, where, shown = _open(store, pool, policy, limits, on_loss)
    limiter.announcement = Announcement(limited_endpoints(list(pool), limits), where, shown)
    return limiter


def _open(
    store: object, pool: Pool, policy: Policy, limits: list[ModelLimit], on_loss: OnStoreLoss
) -> tuple[LocalLimiter | SharedLimiter, str, str]:
    """Return the limiter, and the place where it counts: its name, and how that is shown."""
    alone = f"session {uuid.uuid4().hex}", "memory, for itself"
    if is_redis_url(store):
        from eccos_rs.session.limits.redis_backend import RedisBackend

        address = RedisAddress.parse(str(store))
        backend = RedisBackend(address, limits)
        limiter = SharedLimiter(pool, backend, policy.capacity, on_loss=on_loss)
        return limiter, address.shown, address.shown
    needed = policy.budget is not None or any(limit[1:] != (None, None, None) for limit in limits)
    if not needed or not isinstance(store, str | os.PathLike) or str(store) == MemoryStore.url:
        return LocalLimiter(pool, policy.capacity), *alone
    path = limits_path(sqlite_path(store))
    try:
        backend_here = SqliteBackend(path, limits)
        limiter = SharedLimiter(pool, backend_here, policy.capacity, on_loss=on_loss)
    except StoreError as error:
        logger.error("this session counts its limits for itself: %s", error)
        return LocalLimiter(pool, policy.capacity), *alone
    return limiter, str(path.absolute()), str(path)


def limits_path(store: Path) -> Path:
    """Return where the limits of sessions on an SQLite store are counted."""
    return store.with_name(f"{store.name}-limits")
