"""Another pool, policy and keys file while requests run: SIGHUP, or a keys file that has changed."""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from eccos_rs.errors import EccosError
from eccos_rs.serve.keys import read_keys

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from eccos_rs.pools.pool import Pool
    from eccos_rs.routing.router import Router
    from eccos_rs.serve.gateway import Gateway
    from eccos_rs.serve.keys import ClientKey, Keys

__all__ = ["Reloader"]

_log = logging.getLogger("eccos_rs.serve")

_LOOK = 1.0
"""Seconds between two looks at the keys file."""


class Reloader:
    """Puts a new gateway in the place of the one that serves; requests that run end at the old one.

    Parameters
    ----------
    keys : Keys
        Of the clients; they stay, with what they have used.
    path : path, optional
        Of the keys file.
    load : callable, optional
        Reads pool and policy anew; called beside the event loop.
    make : async callable
        Makes a gateway of a router, ready to serve.
    install : callable
        Puts it in place and returns the old one.
    retire : async callable
        Waits until nothing runs at a gateway any more, and closes it.
    """

    def __init__(
        self,
        keys: Keys,
        path: Path | None,
        load: Callable[[], Router] | None,
        *,
        make: Callable[[Router], Awaitable[Gateway]],
        install: Callable[[Gateway], Gateway],
        retire: Callable[[Gateway], Awaitable[None]],
    ) -> None:
        self._keys = keys
        self._path = path
        self._load = load
        self._make = make
        self._install = install
        self._retire = retire
        self._seen = self._stamp()
        self._tasks: set[asyncio.Task[None]] = set()
        self._lock = asyncio.Lock()

    def start(self, pool: Callable[[], Pool]) -> None:
        """Listen for SIGHUP, where the loop can, and look at the keys file now and then."""
        self._pool = pool
        with suppress(NotImplementedError, RuntimeError, ValueError, AttributeError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.soon)
        if self._path is not None:
            self._later(self._watch())

    def soon(self) -> None:
        """Reload before long."""
        self._later(self.reload())

    def _later(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def reload(self) -> None:
        """Read pool, policy and keys anew; what cannot be read is logged, and the old one stays."""
        async with self._lock:
            router = None if self._load is None else await self._read_pool()
            if router is None:
                self._read_keys(self._pool())
                return
            # The keys may name models that the new pool alone has, and be refused with it.
            keys = self._read_keys(router.pool, put=False)
            try:
                gateway = await self._make(router)
            except Exception as error:
                self._stays(error)
                return
            if keys is not None:
                self._keys.replace(keys)
            old = self._install(gateway)
            _log.warning("reloaded; the pool holds %s", ", ".join(router.pool.names))
            self._later(self._retire(old))

    async def _read_pool(self) -> Router | None:
        assert self._load is not None  # the caller has looked
        try:
            return await asyncio.to_thread(self._load)
        except Exception as error:
            self._stays(error)
            return None

    def _stays(self, error: Exception) -> None:
        # Whatever it is, the gateway that serves goes on; what is none of the file's faults has a traceback.
        _log.error("the pool stays as it is: %s", error, exc_info=not isinstance(error, EccosError))

    def _read_keys(self, pool: Pool, *, put: bool = True) -> tuple[ClientKey, ...] | None:
        if self._path is None:
            return None
        self._seen = self._stamp()
        try:
            keys = read_keys(self._path, pool)
        except EccosError as error:
            _log.error("the keys stay as they are: %s", error)
            return None
        if put:
            self._keys.replace(keys)
        return keys

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK)
            if self._stamp() != self._seen:
                self._read_keys(self._pool())

    def _stamp(self) -> tuple[int, int] | None:
        if self._path is None:
            return None
        try:
            found = Path(self._path).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size

    async def close(self) -> None:
        """Stop watching, and wait for the gateways that are being retired."""
        with suppress(NotImplementedError, RuntimeError, ValueError, AttributeError):
            asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
