"""Spend and price are written down every quarter of a second in which anything was spent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from concurrent.futures import Future

    from eccos_rs.session.accounts import Accounts
    from eccos_rs.session.limits import Limits

__all__ = ["Saver"]

_EVERY = 0.25
"""Seconds."""


class Saver:
    """Writes a session's books to its store, and reads what others have spent of the same budget.

    Parameters
    ----------
    accounts : Accounts
    limits : Limits
        For the watch on what binds, which is kept in the same rhythm, store or not.
    on_loop : callable
        Calls a function on the session's loop, from any thread.
    """

    def __init__(self, accounts: Accounts, limits: Limits, on_loop: Callable[..., None]) -> None:
        self._accounts = accounts
        self._limits = limits
        self._on_loop = on_loop
        self._timer: asyncio.TimerHandle | None = None

    def soon(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Save before long; at once when the loop has ended."""
        if self._timer is not None or loop is None:
            return
        if loop.is_closed():
            self._accounts.save()
        else:
            self._timer = loop.call_later(_EVERY, self._save)

    def _save(self) -> None:
        self._timer = None
        elsewhere = self._accounts.save()
        if elsewhere is not None and self._accounts.pacer is not None:
            started = self._accounts.pacer.started
            elsewhere.add_done_callback(lambda answer: self._on_loop(self._take, started, answer))
        self._accounts.check(self._limits)

    def _take(self, started: float, answer: Future[Any]) -> None:
        if self._accounts.pacer is not None and answer.exception() is None:
            self._accounts.pacer.resume(started, answer.result())

    def stop(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()
