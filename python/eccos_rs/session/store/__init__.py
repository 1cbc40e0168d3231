"""Stores of leases, feedback and spend, chosen by URL."""

from eccos_rs.session.store.base import Judged, LeaseRow, Served, Store
from eccos_rs.session.store.memory import MemoryStore
from eccos_rs.session.store.opening import check_store, open_store
from eccos_rs.session.store.sqlite import SqliteStore

__all__ = [
    "Judged",
    "LeaseRow",
    "MemoryStore",
    "Served",
    "SqliteStore",
    "Store",
    "check_store",
    "open_store",
]
