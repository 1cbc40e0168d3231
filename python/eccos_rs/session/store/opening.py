"""From the URL of a store to the store."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from eccos_rs.errors import InputError
from eccos_rs.session.redis_client import RedisAddress, is_redis_url
from eccos_rs.session.store.memory import MemoryStore
from eccos_rs.session.store.redis import RedisStore
from eccos_rs.session.store.schema import open_database
from eccos_rs.session.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike

    from eccos_rs.session.store.base import Store

__all__ = ["check_store", "open_store", "sqlite_path"]


def open_store(url: str | PathLike[str] | Store | None, clock: Callable[[], float] = time.time) -> Store:
    """Open the store that a URL names.

    Parameters
    ----------
    url : str, path or Store, optional
        ``memory://`` (the default: feedback is known for the last 10,000 leases), ``sqlite:///path`` or a
        plain path (an SQLite file, made when it is not there), ``redis://host:port/db`` (Redis 7 or Valkey).
        A store is returned as it is.
    clock : callable
        Seconds since 1970.

    Raises
    ------
    InputError
        The URL is of no kind that is known.
    StoreError
        The store is damaged or of another program.
    """
    if url is None or (isinstance(url, str) and url == MemoryStore.url):
        return MemoryStore()
    if not isinstance(url, str | os.PathLike):
        return url
    if is_redis_url(url):
        return RedisStore(RedisAddress.parse(str(url)))
    return SqliteStore(sqlite_path(url), clock=clock)


def check_store(url: str | PathLike[str] | None) -> None:
    """Raise what `open_store` would, without keeping the store open; one that cannot be written passes."""
    if url is None or str(url) == MemoryStore.url:
        return
    if is_redis_url(url):
        RedisStore(RedisAddress.parse(str(url))).close()
        return
    looked_at = open_database(sqlite_path(url), lambda _: None)
    if looked_at is not None:
        looked_at.close()


def sqlite_path(url: str | PathLike[str]) -> Path:
    """Return the path of an SQLite store; InputError: the URL is of another kind.

    Examples
    --------
    >>> sqlite_path("sqlite:///online.sqlite").name
    'online.sqlite'
    """
    text = str(url)
    if "://" not in text:
        return Path(text)
    parts = urlsplit(text)
    # As in SQLAlchemy: three slashes before a relative path, four before an absolute one.
    if parts.scheme != "sqlite" or parts.netloc or len(parts.path) < 2:
        raise InputError(
            f"store: got {text!r}, wanted memory://, sqlite:///path (four slashes before an absolute path), "
            "redis://host:port/db or a plain path"
        )
    return Path(unquote(parts.path[1:]))
