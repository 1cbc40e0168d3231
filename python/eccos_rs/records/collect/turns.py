"""Who may call now: slots, and requests per minute, of one model or of several that share a limit."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from eccos_rs.pools.pool import Pool

__all__ = ["Turns", "shared_turns"]


class Turns:
    """Calls at once, and how far apart they start.

    Parameters
    ----------
    slots : int or None
        Calls at once; None for any number.
    per_minute : float or None
        Calls that start within a minute, evenly apart; None for any number.
    """

    def __init__(self, slots: int | None, per_minute: float | None) -> None:
        self._gate = nullcontext() if slots is None else asyncio.Semaphore(slots)
        self._apart = 60.0 / per_minute if per_minute else 0.0
        self._next_start = 0.0

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Hold a slot, from when the pace allows it."""
        async with self._gate:
            start = max(self._next_start, time.monotonic())
            self._next_start = start + self._apart
            if (wait := start - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            yield


def shared_turns(pool: Pool) -> dict[str, list[Turns]]:
    """Return, by model, the turns of the limits that it shares with others.

    Tokens per minute are not among them: what a server says of its quiet is kept to.
    """
    found: dict[str, list[Turns]] = {name: [] for name in pool.names}
    for limit in pool.limits:
        turns = Turns(limit.slots, limit.requests_per_minute)
        for column in sorted({column for name in limit.models for column in pool.columns(name)}):
            found[pool.names[column]].append(turns)
    return found
