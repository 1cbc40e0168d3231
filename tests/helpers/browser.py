"""A real browser for tests: headless Chromium, driven by its own protocol."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["Page", "browser"]

_NAMES = ("chromium", "chromium-browser", "google-chrome")


class Page:
    """One page: what it logged, what it asked for, and what its scripts say."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self.errors: list[str] = []
        self.urls: list[str] = []
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for message in self._socket:
            content = json.loads(message.data)
            params = content.get("params", {})
            if content.get("id") in self._answers:
                self._answers.pop(content["id"]).set_result(content)
            elif content.get("method") == "Runtime.exceptionThrown":
                self.errors.append(str(params["exceptionDetails"]))
            elif content.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
                self.errors.append(params["entry"]["text"])
            elif content.get("method") == "Runtime.consoleAPICalled" and params["type"] == "error":
                self.errors.append(str(params["args"]))
            elif content.get("method") == "Network.requestWillBeSent":
                self.urls.append(params["request"]["url"])

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        answer = self._answers[self._number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": self._number, "method": method, "params": params})
        content = await asyncio.wait_for(answer, 30)
        assert "error" not in content, content
        result: dict[str, Any] = content["result"]
        return result

    async def ask(self, expression: str) -> Any:
        """Return what a JavaScript expression says."""
        got = await self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in got, got
        return got["result"].get("value")

    async def until(self, expression: str, seconds: float = 20.0) -> Any:
        """Wait until an expression is true."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while not (value := await self.ask(expression)):
            assert loop.time() < end, f"{expression} did not come about; {self.errors}"
            await asyncio.sleep(0.1)
        return value

    async def size(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        await self.call("Emulation.setDeviceMetricsOverride", **metrics)

    async def scheme(self, name: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": name}]
        await self.call("Emulation.setEmulatedMedia", features=features)


@asynccontextmanager
async def browser(url: str) -> AsyncIterator[Page]:
    """Open a page in a browser of its own; skips the test where there is none."""
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        pytest.skip("no Chromium is installed")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        options = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
        ]
        process = subprocess.Popen(
            [program, *options, "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            listing = Path(folder) / "DevToolsActivePort"
            for _ in range(600):
                if listing.exists() and listing.read_text().strip():
                    break
                await asyncio.sleep(0.1)
            port = listing.read_text().splitlines()[0]
            async with aiohttp.ClientSession() as client:
                async with client.get(f"http://127.0.0.1:{port}/json/list") as got:
                    target = next(page for page in await got.json() if page["type"] == "page")
                async with client.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=2**26) as socket:
                    page = Page(socket)
                    for domain in ("Runtime", "Log", "Network", "Page"):
                        await page.call(f"{domain}.enable")
                    await page.call("Page.navigate", url=url)
                    yield page
        finally:
            process.terminate()
            process.wait(20)
