"""Commands that docs show, run as they stand, on ports of their own."""

from __future__ import annotations

import shlex
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def serving(line: str, port: int, folder: Path) -> Iterator[str]:
    """Run a command that serves, in `folder` and on `port`, until it answers; yields its address."""
    words = shlex.split(line)
    assert words[0] == "eccos"
    if "--port" in words:
        words[words.index("--port") + 1] = str(port)
    else:
        words += ["--port", str(port)]
    process = subprocess.Popen([sys.executable, "-m", "eccos_rs", *words[1:], "--quiet"], cwd=folder)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                httpx.get(f"{url}/healthz").raise_for_status()
                break
            except httpx.ConnectError:
                assert process.poll() is None, f"{line}: ended with status {process.returncode}"
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield url
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in (0, -signal.SIGTERM)
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
