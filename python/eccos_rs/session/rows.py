"""Leases and judgements as the store keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from eccos_rs.errors import InputError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "Judged",
    "LeaseRow",
    "all_judged",
    "insert_lease",
    "judge_lease",
    "pack_embedding",
    "settle_lease",
    "unpack_embedding",
]


@dataclass(frozen=True, slots=True)
class LeaseRow:
    """A decision, as it is journalled.

    Attributes
    ----------
    id, model : str
    at : float
        Seconds since 1970.
    predicted, expected : float
        Success as the predictor gave it, and corrected.
    output_tokens, cost : float
        Predicted tokens and US dollars.
    embedding : bytes or None
        float16, of the query.
    """

    id: str
    model: str
    at: float
    predicted: float
    expected: float
    output_tokens: float
    cost: float
    embedding: bytes | None


@dataclass(frozen=True, slots=True)
class Judged:
    """A lease with its feedback.

    Attributes
    ----------
    lease : LeaseRow
    quality : float
    real_tokens : float or None
    first : bool
        False when this corrects an earlier feedback.
    previous : float or None
        The quality that it corrects.
    """

    lease: LeaseRow
    quality: float
    real_tokens: float | None
    first: bool
    previous: float | None


_LEASE = "id, model, at, predicted, expected, output_tokens, cost, embedding"


def insert_lease(db: sqlite3.Connection, row: LeaseRow) -> None:
    """Write a decision down."""
    db.execute(
        f"INSERT OR IGNORE INTO lease ({_LEASE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            row.id,
            row.model,
            row.at,
            row.predicted,
            row.expected,
            row.output_tokens,
            row.cost,
            row.embedding,
        ),
    )


def settle_lease(db: sqlite3.Connection, lease: str, tokens: float | None, cost: float, failed: bool) -> None:
    """Write down what a lease really took."""
    db.execute(
        "UPDATE lease SET real_tokens = ?, real_cost = ?, failed = ? WHERE id = ?",
        (tokens, cost, failed, lease),
    )


def judge_lease(db: sqlite3.Connection, lease: str, quality: float, now: float) -> Judged:
    """Write a judgement down; InputError: the store knows no such lease."""
    row = db.execute(f"SELECT {_LEASE}, real_tokens FROM lease WHERE id = ?", (lease,)).fetchone()
    if row is None:
        raise InputError(
            f"lease_id: no lease {lease!r} in this store; wanted the id of a lease it has granted"
        )
    earlier = db.execute("SELECT quality FROM feedback WHERE lease = ?", (lease,)).fetchone()
    db.execute(
        "INSERT INTO feedback VALUES (?, ?, ?) "
        "ON CONFLICT DO UPDATE SET quality = excluded.quality, at = excluded.at",
        (lease, quality, now),
    )
    previous = None if earlier is None else earlier[0]
    return Judged(LeaseRow(*row[:8]), quality, row[8], earlier is None, previous)


def all_judged(db: sqlite3.Connection) -> Iterator[Judged]:
    """Read all judged leases, oldest judgement first."""
    columns = ", ".join(f"lease.{name}" for name in _LEASE.split(", "))
    rows = db.execute(
        f"SELECT {columns}, lease.real_tokens, feedback.quality FROM feedback "
        "JOIN lease ON lease.id = feedback.lease ORDER BY feedback.at, feedback.rowid"
    )
    for row in rows:
        yield Judged(LeaseRow(*row[:8]), row[9], row[8], True, None)


def pack_embedding(vector: NDArray[np.float32] | None) -> bytes | None:
    """Return a unit vector as float16 bytes: half a percent of an angle, half the room."""
    return None if vector is None else vector.astype("float16").tobytes()


def unpack_embedding(packed: bytes | None) -> NDArray[np.float32] | None:
    """Return the vector that `pack_embedding` packed."""
    import numpy as np

    return None if packed is None else np.frombuffer(packed, dtype=np.float16).astype(np.float32)
