"""The session for threads: a `Session` on an event loop of its own."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any, Self, TypeVar

from eccos_rs.errors import EccosError
from eccos_rs.session.facade import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from concurrent.futures import Future
    from types import TracebackType

    from eccos_rs.domain.query import Query
    from eccos_rs.routing.router import Router
    from eccos_rs.session.lease import Lease
    from eccos_rs.session.stats import SessionStats

__all__ = ["SyncSession"]

T = TypeVar("T")


class SyncSession:
    """A `Session` that any thread may use; queries of all threads share its micro-batches and limits.

    Parameters
    ----------
    router : Router
    **options
        As for `Session`.

    Examples
    --------
    >>> def answer(session, query):
    ...     with session.acquire(query) as lease:
    ...         return call(lease.llm.endpoint, query)
    """

    def __init__(self, router: Router, **options: Any) -> None:
        self._pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="eccos-session", daemon=True)
        self._thread.start()
        self._open = True
        try:
            self._session = self._run(_make(router, options))
        except BaseException:
            self._stop()
            raise

    @property
    def session(self) -> Session:
        """The session within, for what belongs on its loop."""
        return self._session

    def acquire(
        self, query: str | Query | Mapping[str, Any] | list[Mapping[str, Any]], **options: Any
    ) -> Lease:
        """Choose a model and take a slot; blocks until there is one. See `Session.acquire`.

        The lease is a context manager, and its `release` may be called from any thread.
        """
        handover = _Handover()
        try:
            return self._run(handover.grant(self._session, query, options))
        except BaseException:
            handover.abandon()
            raise

    async def acquire_async(
        self, query: str | Query | Mapping[str, Any] | list[Mapping[str, Any]], **options: Any
    ) -> Lease:
        """Choose a model and take a slot, for a coroutine on another event loop. See `Session.acquire`."""
        handover = _Handover()
        future = self._submit(handover.grant(self._session, query, options))
        try:
            return await asyncio.wrap_future(future)
        except BaseException:
            handover.abandon()
            raise

    def call_later(self, delay: float, callback: Callable[..., object], *arguments: Any) -> None:
        """Call a function on the session's thread after `delay` seconds."""
        self._loop.call_soon_threadsafe(lambda: self._loop.call_later(delay, callback, *arguments))

    def feedback(self, lease_id: str, quality: float) -> None:
        """Report how good an answer was; returns when it is on the disk. See `Session.feedback`."""
        self._run(self._session.feedback(lease_id, quality))

    def stats(self) -> SessionStats:
        """Return a snapshot. See `Session.stats`."""
        return self._run(_stats(self._session))

    def down(self, model: str) -> None:
        """Give a model nothing more until `up`."""
        self._run(_call(self._session.down, model))

    def up(self, model: str) -> None:
        """Let a model take queries again."""
        self._run(_call(self._session.up, model))

    def close(self, timeout: float | None = 30.0) -> None:
        """Drain the session and end its thread. See `Session.close`.

        After a fork it does nothing in the child: the session is the parent's.
        """
        if self._open and os.getpid() == self._pid:
            self._run(self._session.close(timeout))
            self._stop()

    def _submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        refused = None
        if os.getpid() != self._pid:
            refused = (
                f"this SyncSession belongs to process {self._pid}, and this is process {os.getpid()}: "
                "threads do not survive a fork, so each process needs a session of its own (make it after "
                "the fork)"
            )
        elif not self._open:
            refused = "the session is closed; it takes no more queries"
        if refused is not None:
            work.close()
            raise EccosError(refused)
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if threading.current_thread() is self._thread:
            work.close()
            raise EccosError("called from the session's own thread, which it would block; use its session")
        future = self._submit(work)
        try:
            return future.result()
        except BaseException:
            # Ctrl-C while waiting: whoever no longer waits must not be given a slot.
            future.cancel()
            raise

    def _stop(self) -> None:
        self._open = False
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(30.0 if kind is None else 0.0)

    def __repr__(self) -> str:
        return f"Sync{self._session!r}"


async def _make(router: Router, options: dict[str, Any]) -> Session:
    return Session(router, **options)


class _Handover:
    """Passes a lease from the session's thread to its taker, or releases it when the taker has gone.

    A future alone cannot: cancelled after the session granted and before it heard of the grant, it drops
    its result, and nobody is left to release it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lease: Lease | None = None
        self._gone = False

    async def grant(
        self,
        session: Session,
        query: str | Query | Mapping[str, Any] | list[Mapping[str, Any]],
        options: Mapping[str, Any],
    ) -> Lease:
        lease = await session.acquire(query, **options)
        with self._lock:
            self._lease = lease
            gone = self._gone
        if gone:
            lease.cancel()
        return lease

    def abandon(self) -> None:
        with self._lock:
            self._gone = True
            lease, self._lease = self._lease, None
        if lease is not None:
            lease.cancel()


async def _stats(session: Session) -> SessionStats:
    return session.stats()


async def _call(function: Any, *arguments: Any) -> Any:
    return function(*arguments)
