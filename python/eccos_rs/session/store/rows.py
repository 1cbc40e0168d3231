"""Leases and judgements as rows of SQLite tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eccos_rs.errors import InputError
from eccos_rs.session.store.base import (
    Judged,
    LeaseRow,
    Served,
    pack_embedding,
    unknown_lease,
    unpack_embedding,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

__all__ = ["all_judged", "all_served", "insert_lease", "judge_lease", "settle_lease"]

_LEASE = "id, model, at, predicted, expected, output_tokens, cost, embedding"


def insert_lease(db: sqlite3.Connection, row: LeaseRow) -> None:
    """Write a decision."""
    db.execute(
        f"INSERT OR IGNORE INTO lease ({_LEASE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (*row[:7], pack_embedding(row.embedding)),
    )


def settle_lease(db: sqlite3.Connection, lease: str, tokens: float | None, cost: float, failed: bool) -> None:
    """Write what a lease really took."""
    db.execute(
        "UPDATE lease SET real_tokens = ?, real_cost = ?, failed = ? WHERE id = ?",
        (tokens, cost, failed, lease),
    )


def judge_lease(db: sqlite3.Connection, lease: str, quality: float, now: float) -> Judged:
    """Write a judgement; InputError: the store knows no such lease."""
    row = db.execute(f"SELECT {_LEASE}, real_tokens FROM lease WHERE id = ?", (lease,)).fetchone()
    if row is None:
        raise InputError(unknown_lease(lease, "in this store"))
    earlier = db.execute("SELECT quality FROM feedback WHERE lease = ?", (lease,)).fetchone()
    db.execute(
        "INSERT INTO feedback VALUES (?, ?, ?) "
        "ON CONFLICT DO UPDATE SET quality = excluded.quality, at = excluded.at",
        (lease, quality, now),
    )
    previous = None if earlier is None else earlier[0]
    return Judged(_lease_row(row), quality, row[8], earlier is None, previous)


def all_judged(db: sqlite3.Connection) -> Iterator[Judged]:
    """Read all judged leases, the oldest judgement first."""
    columns = ", ".join(f"lease.{name}" for name in _LEASE.split(", "))
    rows = db.execute(
        f"SELECT {columns}, lease.real_tokens, feedback.quality FROM feedback "
        "JOIN lease ON lease.id = feedback.lease ORDER BY feedback.at, feedback.rowid"
    )
    for row in rows:
        yield Judged(_lease_row(row), row[9], row[8], True, None)


def all_served(db: sqlite3.Connection) -> list[Served]:
    """Read all decisions, the oldest first."""
    rows = db.execute(
        "SELECT lease.model, lease.at, lease.expected, lease.cost, lease.real_cost, feedback.quality "
        "FROM lease LEFT JOIN feedback ON feedback.lease = lease.id ORDER BY lease.at"
    )
    return [Served(*row) for row in rows]


def _lease_row(row: Sequence[Any]) -> LeaseRow:
    id_, model, at, predicted, expected, output_tokens, cost, packed = row[:8]
    vector = unpack_embedding(packed)
    return LeaseRow(id_, model, at, predicted, expected, output_tokens, cost, vector)
