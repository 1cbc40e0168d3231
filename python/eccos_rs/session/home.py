"""Where a session lives: one process, one event loop, one thread."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from eccos_rs.errors import EccosError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Home"]


class Home:
    """Knows the loop that a session belongs to, from its first use on, and brings calls there."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._thread = threading.get_ident()
        self.loop: asyncio.AbstractEventLoop | None = None
        with suppress(RuntimeError):
            self.loop = asyncio.get_running_loop()
        self.clock: Callable[[], float] = time.monotonic if self.loop is None else self.loop.time
        """Seconds that never run backwards."""

    @property
    def is_this_process(self) -> bool:
        """False in a child after a fork."""
        return os.getpid() == self._pid

    def check_process(self) -> None:
        """Raise `EccosError` in a child after a fork."""
        if not self.is_this_process:
            raise EccosError(
                f"this session belongs to process {self._pid}, and this is process {os.getpid()}: each "
                "process needs a session of its own (make it after the fork)"
            )

    def enter(self) -> bool:
        """Belong to the running loop; say whether this is the first time.

        Raises
        ------
        EccosError
            The session belongs to another loop or process.
        """
        self.check_process()
        loop = asyncio.get_running_loop()
        if self.loop is loop:
            return False
        if self.loop is not None:
            raise EccosError("the session belongs to another event loop; use SyncSession from threads")
        self.loop = loop
        self._thread = threading.get_ident()
        return True

    def call(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call a function on the loop, from any thread; at once when this is its thread, or it has ended."""
        if self.loop is None or self.loop.is_closed() or threading.get_ident() == self._thread:
            function(*arguments)
        else:
            with suppress(RuntimeError):  # the loop was closed meanwhile: nobody counts any more
                self.loop.call_soon_threadsafe(function, *arguments)
