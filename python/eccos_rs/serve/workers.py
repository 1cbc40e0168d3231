"""Several processes that serve one address and share limits and budget."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn

from eccos_rs.errors import EccosError
from eccos_rs.serve.app import build_app, reload_pool
from eccos_rs.serve.run import server_config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.context import SpawnProcess

    from starlette.applications import Starlette

    from eccos_rs.routing.router import Router
    from eccos_rs.serve.app import GatewaySettings

__all__ = ["load_app", "run_workers", "shared_between"]

_log = logging.getLogger("eccos_rs.serve")

_STOPS = (signal.SIGINT, signal.SIGTERM)

_HANGUP: signal.Signals | None = getattr(signal, "SIGHUP", None)

_LOOK = 0.25
"""Seconds between two looks at the workers."""

_SOON, _MOST_DEATHS = 10.0, 3
"""A worker that ends within so many seconds, so many times in a row, cannot be started."""


def load_app(load: Callable[[], Router], settings: GatewaySettings, pool: Path | None = None) -> Starlette:
    """Make the application of a worker, in its own process; `pool` is the file that SIGHUP reads again."""
    router = load()
    if pool is not None:
        settings = replace(settings, load=partial(reload_pool, router, pool))
    return build_app(router, settings)


@contextmanager
def shared_between(workers: int, store: str | None) -> Iterator[str | None]:
    """Yield the store of the workers: several that have none share a file which ends with them."""
    if workers == 1 or store is not None:
        yield store
        return
    with tempfile.TemporaryDirectory(prefix="eccos-") as folder:
        yield str(Path(folder) / "shared.sqlite")


def run_workers(
    make: Callable[[], Starlette],
    host: str,
    port: int,
    *,
    workers: int,
    grace: float = 60.0,
    quiet: bool = False,
) -> None:
    """Serve with several processes until SIGTERM or Ctrl-C; one that dies is started again.

    SIGHUP goes on to every process.

    Parameters
    ----------
    make : callable
        Makes the application in each process; it must pickle.
    host : str
    port : int
    workers : int
    grace : float
        Seconds that answers under way get when the server is stopped.
    quiet : bool

    Raises
    ------
    EccosError
        The address is taken, or no worker can start.
    """
    options: dict[str, Any] = {"host": host, "port": port, "grace": grace, "quiet": quiet}
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=4096)
    except OSError as error:
        raise EccosError(f"the server could not start on {host}:{port}: {error}") from error
    stop = threading.Event()
    before = [(number, signal.signal(number, lambda *_: stop.set())) for number in _STOPS]
    team = [_Worker(make, listening, options) for _ in range(workers)]
    if _HANGUP is not None:
        before.append((_HANGUP, signal.signal(_HANGUP, lambda *_: _reload(team))))
    try:
        for each in team:
            each.start()
        while not stop.wait(_LOOK):
            for each in team:
                each.revive()
    finally:
        for each in team:
            each.end()
        for each in team:
            each.join(grace + 10.0)
        listening.close()
        for number, handler in before:
            signal.signal(number, handler)


def _reload(team: list[_Worker]) -> None:
    for each in team:
        each.reload()


class _Worker:
    """A process that serves, and is started again when it dies."""

    def __init__(
        self, make: Callable[[], Starlette], listening: socket.socket, options: dict[str, Any]
    ) -> None:
        self._arguments = (make, listening, options)
        self._process: SpawnProcess | None = None
        self._began = 0.0
        self._deaths = 0

    def start(self) -> None:
        # Started anew rather than forked: threads and connections do not survive a fork.
        self._process = multiprocessing.get_context("spawn").Process(target=_serve, args=self._arguments)
        self._process.start()
        self._began = time.monotonic()

    def revive(self) -> None:
        process = self._process
        if process is None or process.is_alive():
            return
        self._deaths = self._deaths + 1 if time.monotonic() - self._began < _SOON else 1
        if self._deaths > _MOST_DEATHS:
            raise EccosError(f"a worker ended {self._deaths} times in a row as soon as it was started")
        _log.error("worker %s has ended (exit code %s) and is started again", process.pid, process.exitcode)
        self.start()

    def reload(self) -> None:
        process = self._process
        if _HANGUP is not None and process is not None and process.is_alive() and process.pid is not None:
            os.kill(process.pid, _HANGUP)

    def end(self) -> None:
        if self._process is not None and self._process.is_alive():
            self._process.terminate()

    def join(self, timeout: float) -> None:
        if self._process is not None:
            self._process.join(timeout)
            if self._process.is_alive():
                self._process.kill()


def _serve(make: Callable[[], Starlette], listening: socket.socket, options: dict[str, Any]) -> None:
    if _HANGUP is not None:
        signal.signal(_HANGUP, signal.SIG_IGN)  # until it listens: what it reads then is new anyway
    uvicorn.Server(server_config(make, factory=True, **options)).run(sockets=[listening])
