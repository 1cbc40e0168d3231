"""The money ceiling: what is spent, what may have been, and what calls under way may cost."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Reservation", "SpendLedger"]


@dataclass(slots=True)
class Reservation:
    """An amount held for one call, US dollars."""

    amount: float
    ledger: SpendLedger

    def spend(self, cost: float) -> None:
        """Turn the reservation into what the call really cost."""
        self.release()
        self.ledger.spent += cost
        self.ledger.changed.set()

    def spend_part(self, cost: float) -> None:
        """Turn a part of the reservation into what that part really cost."""
        part = min(cost, self.amount)
        self.ledger.reserved -= part
        self.amount -= part
        self.ledger.spent += cost

    def doubt(self, most: float) -> float:
        """Count an amount as possibly spent (the server may charge for an answer that never came)."""
        self.release()
        self.ledger.unsure += most
        return most

    def release(self) -> None:
        """Give the amount back."""
        self.ledger.reserved -= self.amount
        self.amount = 0.0
        self.ledger.changed.set()


@dataclass(slots=True)
class SpendLedger:
    """Sums in US dollars; spent, unsure and reserved together never pass the ceiling.

    Attributes
    ----------
    ceiling : float or None
        The most that may be spent, earlier runs included.
    spent : float
        Cost of the answers that came.
    unsure : float
        The most that calls without an answer may have cost.
    reserved : float
        The most that calls under way may cost.
    closed : bool
        A reservation was refused; from then on all are.
    """

    ceiling: float | None = None
    spent: float = 0.0
    unsure: float = 0.0
    reserved: float = 0.0
    closed: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def reserve(self, amount: float) -> Reservation | None:
        """Hold an amount, waiting for calls under way to settle when it does not fit beside them.

        Returns
        -------
        Reservation or None
            None when it cannot fit: the collection is over.
        """
        while not self.closed:
            if self.ceiling is None or self.spent + self.unsure + self.reserved + amount <= self.ceiling:
                self.reserved += amount
                return Reservation(amount, self)
            if self.spent + self.unsure + amount > self.ceiling:
                self.closed = True
                self.changed.set()
                break
            self.changed.clear()
            await self.changed.wait()
        return None

    @contextmanager
    def hold(self, reservation: Reservation) -> Iterator[Reservation]:
        """Release what is left of a reservation at the end of the block, however it ends."""
        try:
            yield reservation
        finally:
            if reservation.amount:
                reservation.release()
