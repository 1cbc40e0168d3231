"""What a session asks of a store: leases, feedback, spend, and the state that a restart goes on with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from concurrent.futures import Future
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Judged", "LeaseRow", "Store", "pack_embedding", "unknown_lease", "unpack_embedding"]


class LeaseRow(NamedTuple):
    """A decision, as it is stored.

    Attributes
    ----------
    id, model : str
    at : float
        Seconds since 1970.
    predicted, expected : float
        Success as the predictor gave it, and corrected by feedback.
    output_tokens, cost : float
        Predicted tokens and US dollars.
    embedding : ndarray of float32, shape (D,), or None
        Of the query.
    """

    id: str
    model: str
    at: float
    predicted: float
    expected: float
    output_tokens: float
    cost: float
    embedding: NDArray[np.float32] | None


class Served(NamedTuple):
    """A request that was decided and what became of it.

    Attributes
    ----------
    model : str
    at : float
        Seconds since 1970, when it was decided.
    expected : float
        Success as it was forecast, in [0, 1].
    cost : float
        US dollars as they were forecast.
    real_cost : float or None
        As it was settled; None where it was not.
    quality : float or None
        As it was judged; None where nobody did.
    """

    model: str
    at: float
    expected: float
    cost: float
    real_cost: float | None
    quality: float | None


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


class Store(Protocol):
    """Where a session's leases and their feedback lie.

    Methods may be called from any thread and do not wait for a disk or a network unless they say so.
    `tests/session/test_store_contract.py` is the contract that every implementation passes.
    """

    @property
    def url(self) -> str:
        """How the store is named in messages."""
        ...

    @property
    def durable(self) -> bool:
        """Whether what is written outlives the process."""
        ...

    @property
    def fault(self) -> str | None:
        """Why the store takes nothing at present; None when it does."""
        ...

    @property
    def errors(self) -> int:
        """Failed commits."""
        ...

    @property
    def dropped(self) -> int:
        """Decisions given up because the store took none for long."""
        ...

    def lease(self, row: LeaseRow) -> None:
        """Write a decision, soon."""
        ...

    def settle(self, lease: str, tokens: float | None, cost: float, failed: bool) -> None:
        """Write what a lease really took, soon."""
        ...

    def feedback(self, lease: str, quality: float) -> Future[Judged]:
        """Write a judgement; the future is done when it is durable.

        Its exception is an `InputError` for a lease that nobody knows, and a `StoreError` when it was not
        written.
        """
        ...

    def judged(self) -> list[Judged]:
        """Read all feedback, the oldest first; waits for the store."""
        ...

    def served(self) -> list[Served]:
        """Read all decisions with what became of them, the oldest first; waits for the store."""
        ...

    def spend(self, period: float, usd: float, state: dict[str, str]) -> None:
        """Write this session's total spend of a period and its state, soon."""
        ...

    def spent_elsewhere(self, period: float) -> Future[float]:
        """Ask what all other sessions have spent in a period, in US dollars."""
        ...

    def state(self) -> dict[str, str]:
        """Read the state that a restart goes on with; waits for the store."""
        ...

    def flush(self) -> None:
        """Wait until everything said so far is durable; raises `StoreError` when it cannot be."""
        ...

    def close(self) -> None:
        """Write what is pending and end; waits for the store."""
        ...


def unknown_lease(lease: str, where: str) -> str:
    """Return the sentence for feedback on a lease that a store does not know."""
    return f"lease_id: no lease {lease!r} {where}; wanted the id of a lease that it has granted"


def pack_embedding(vector: NDArray[Any] | None) -> bytes | None:
    """Return a unit vector as float16 bytes: half a percent of an angle, half the space."""
    return None if vector is None else vector.astype("float16").tobytes()


def unpack_embedding(packed: bytes | None) -> NDArray[np.float32] | None:
    """Return the vector that `pack_embedding` packed."""
    import numpy as np

    return None if packed is None else np.frombuffer(packed, dtype=np.float16).astype(np.float32)
