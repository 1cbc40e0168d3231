"""Who may call now: slots, requests and tokens per minute, of one model or of several that share them."""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eccos_rs.domain import window
from eccos_rs.domain.window import Window

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from eccos_rs.pools.pool import Limit, Pool

__all__ = ["CallTurn", "Turns", "shared_turns"]


@dataclass(slots=True)
class CallTurn:
    """The turn of one call.

    Attributes
    ----------
    tokens : int
        The most that it may take, which is held of every limit while the call is under way.
    used : int or None
        What it took: 0 before the call leaves; None while nobody knows, which counts as the most.
    """

    tokens: int
    used: int | None = 0

    @property
    def counted(self) -> int:
        """The tokens that count: what it took, or the most that it may have taken."""
        return self.tokens if self.used is None else self.used


class Turns:
    """Calls at once, how far apart they start, and the tokens that they take within a minute.

    A call holds the most tokens that it may take from before it leaves until its answer is there, and what it
    really took counts for a minute from then on: whether a server counts a call when it comes or when it has
    answered, no minute of its holds more than the limit.

    Parameters
    ----------
    slots : int or None
        Calls at once; None for any number.
    requests_per_minute : float or None
        Calls that start within a minute, evenly apart; None for any number.
    tokens_per_minute : float or None
        Tokens of prompts and answers within any minute; None for any number.
    """

    def __init__(
        self,
        slots: int | None = None,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
    ) -> None:
        self.closed = 0 in (slots, requests_per_minute, tokens_per_minute)
        """Whether no call may ever be made."""
        self._gate = nullcontext() if slots is None else asyncio.Semaphore(slots)
        self._apart = window.MINUTE / requests_per_minute if requests_per_minute else 0.0
        self._next_start = 0.0
        self._window = None
        if tokens_per_minute is not None:
            self._window = Window(math.floor(tokens_per_minute), window.MINUTE)
        self._held = 0
        self._line, self._settled = asyncio.Lock(), asyncio.Event()

    @classmethod
    def of(cls, limit: Limit) -> Turns:
        """Return the turns of a limit that several models share."""
        return cls(limit.slots, limit.requests_per_minute, limit.tokens_per_minute)

    @property
    def most_tokens(self) -> float:
        """The tokens of the largest call that can ever be made; inf without a limit."""
        return math.inf if self._window is None else self._window.limit

    def quiet(self, seconds: float) -> None:
        """Start nothing for so many seconds."""
        self._next_start = max(self._next_start, time.monotonic() + seconds)

    def count(self, tokens: int, ago: float) -> None:
        """Count a call of an earlier run that ended so many seconds ago."""
        then = time.monotonic() - ago
        self._next_start = max(self._next_start, then + self._apart)
        if self._window is not None:
            self._window.add(tokens, then)

    @asynccontextmanager
    async def one(self, turn: CallTurn, until: float | None = None) -> AsyncIterator[None]:
        """Hold a slot and a call's tokens, from when the limits allow it.

        Parameters
        ----------
        turn : CallTurn
            Its `used` is read when the block ends.
        until : float, optional
            On the monotonic clock: it is not waited longer, and nothing may be asked then.
        """
        async with self._gate:
            held = await self._hold(turn.tokens, until)
            try:
                await self._start(until)
                yield
            finally:
                self._settle(held, turn.counted)

    async def _start(self, until: float | None) -> None:
        while (wait := self._next_start - time.monotonic()) > 0:
            if until is not None and (wait := min(wait, until - time.monotonic())) <= 0:
                return
            await asyncio.sleep(wait)
        self._next_start = time.monotonic() + self._apart

    async def _hold(self, tokens: int, until: float | None) -> int:
        """Wait until so many tokens fit, in the order of arrival; return how many are held."""
        if self._window is None:
            return 0
        # A call that may be larger than the whole minute goes alone.
        tokens = min(tokens, self._window.limit)
        async with self._line:
            while True:
                self._settled.clear()
                now = time.monotonic()
                wait = self._window.seconds_until(self._held + tokens, now)
                if wait <= 0:
                    self._held += tokens
                    return tokens
                if until is not None and (wait := min(wait, until - now)) <= 0:
                    return 0
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._settled.wait(), wait if math.isfinite(wait) else None)

    def _settle(self, held: int, used: int) -> None:
        if self._window is None:
            return
        self._held -= held
        if used:
            self._window.add(used, time.monotonic())
        self._settled.set()


def shared_turns(pool: Pool) -> dict[str, list[Turns]]:
    """Return, by model, the turns of the limits that it shares with others."""
    found: dict[str, list[Turns]] = {name: [] for name in pool.names}
    for limit in pool.limits:
        turns = Turns.of(limit)
        for column in sorted({column for name in limit.models for column in pool.columns(name)}):
            found[pool.names[column]].append(turns)
    return found
