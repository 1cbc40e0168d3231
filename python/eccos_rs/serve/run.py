"""Runs an application until it is told to stop, and then lets what it accepted come to its end."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import uvicorn

from eccos_rs.errors import EccosError
from eccos_rs.serve.protocol import BoundedHttp

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.applications import Starlette

__all__ = ["run", "server_config"]


def server_config(
    app: Starlette | Callable[[], Starlette],
    host: str,
    port: int,
    *,
    grace: float,
    quiet: bool,
    factory: bool = False,
) -> uvicorn.Config:
    """Return how the server listens; with `factory`, `app` makes the application in its own process."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        factory=factory,
        http=BoundedHttp,
        ws="none",
        access_log=False,
        log_level="warning" if quiet else "info",
        timeout_graceful_shutdown=max(1, round(grace)),
        timeout_keep_alive=30,
        server_header=False,
        backlog=4096,
    )


def run(app: Starlette, host: str, port: int, *, grace: float = 60.0, quiet: bool = False) -> None:
    """Serve until SIGTERM or Ctrl-C.

    The first signal refuses new requests and waits at most `grace` seconds for the answers that are under
    way; the second ends at once.

    Raises
    ------
    EccosError
        The server could not start (the address is taken, say).
    """
    config = server_config(app, host, port, grace=grace, quiet=quiet)
    server = uvicorn.Server(config)
    # What is loaded by now stays: the collector need not walk over it again and again while requests wait.
    gc.collect()
    gc.freeze()
    try:
        server.run()
    except SystemExit as error:
        raise EccosError(f"the server could not start on {host}:{port}") from error
    if not server.started:
        raise EccosError(f"the server could not start on {host}:{port}; the log above says why")
