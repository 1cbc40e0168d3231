"""Circuit breakers: a dead endpoint leaves the pool until it answers again."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

__all__ = ["Breakers"]

_log = logging.getLogger("eccos_rs.serve")


@dataclass
class _State:
    failures: int = 0
    in_a_row: int = 0
    open_until: float = 0.0
    trips: int = 0
    probe: asyncio.Task[None] | None = field(default=None, repr=False)


class Breakers:
    """One breaker for each model.

    A model is taken out after `threshold` failures in a row, or at once for as long as its endpoint asks
    (``Retry-After``). While it is out, `probe` asks the endpoint itself, so that no caller's request has to
    try a dead one; the pauses between the asking double up to `longest`, and begin longer when the model was
    taken out again before it answered a request: an endpoint may well list its models to a dead key.

    Parameters
    ----------
    models : iterable of str
        Names.
    probe : async callable
        Given a name, says whether its endpoint answers.
    down, up : callable
        Told when a model leaves the pool and when it is back.
    threshold : int
        Failures in a row.
    pause, longest : float
        Seconds before the first probe, and at most between two.
    """

    def __init__(
        self,
        models: Iterable[str],
        probe: Callable[[str], Awaitable[bool]],
        *,
        down: Callable[[str], None],
        up: Callable[[str], None],
        threshold: int = 3,
        pause: float = 1.0,
        longest: float = 60.0,
    ) -> None:
        self._states = {name: _State() for name in models}
        self._probe = probe
        self._down = down
        self._up = up
        self._threshold = threshold
        self._pause = pause
        self._longest = longest

    def is_open(self, model: str) -> bool:
        """Whether the model is out of the pool."""
        return self._states[model].probe is not None

    def trips(self, model: str) -> int:
        """How often the model was taken out."""
        return self._states[model].trips

    def succeeded(self, model: str) -> None:
        """Note an answer."""
        state = self._states[model]
        state.failures = state.in_a_row = 0

    def failed(self, model: str, *, retry_after: float | None = None, at_once: bool = False) -> None:
        """Note a failure; with `retry_after` (seconds that the endpoint named) the model is out at once."""
        state = self._states[model]
        state.failures += 1
        if at_once or retry_after is not None or state.failures >= self._threshold:
            self._open(model, state, retry_after)

    def _open(self, model: str, state: _State, retry_after: float | None) -> None:
        pause = self._first_pause(state) if retry_after is None else min(retry_after, self._longest)
        state.open_until = max(state.open_until, time.monotonic() + pause)
        if state.probe is None:
            state.trips += 1
            state.in_a_row += 1
            _log.warning("model %s is taken out of the pool after %d failures", model, state.failures)
            self._down(model)
            state.probe = asyncio.create_task(self._until_back(model, state), name=f"eccos-probe-{model}")

    def _first_pause(self, state: _State) -> float:
        return float(min(self._pause * 2 ** min(state.in_a_row, 16), self._longest))

    async def _until_back(self, model: str, state: _State) -> None:
        pause = float(min(self._pause * 2 ** min(state.in_a_row - 1, 16), self._longest))
        while True:
            await asyncio.sleep(max(0.0, state.open_until - time.monotonic()))
            if await self._probe(model):
                break
            state.open_until = time.monotonic() + pause
            pause = min(2 * pause, self._longest)
        state.failures = 0
        state.probe = None
        _log.warning("model %s answers again and is back in the pool", model)
        self._up(model)

    async def close(self) -> None:
        """Stop asking."""
        probes = [state.probe for state in self._states.values() if state.probe is not None]
        for probe in probes:
            probe.cancel()
        await asyncio.gather(*probes, return_exceptions=True)
