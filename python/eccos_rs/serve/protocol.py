"""The server's side of HTTP: uvicorn's fast parser, with a bound on what it gathers of a head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    import asyncio

__all__ = ["HEAD_SECONDS", "MAX_HEADERS", "BoundedHttp"]

MAX_HEADERS = 32 * 1024
"""Bytes of a request's headers."""

HEAD_SECONDS = 20.0
"""Seconds that a client may take for the headers of a request."""

_REFUSAL = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class BoundedHttp(HttpToolsProtocol):
    """Refuses a client that sends headers, or trailers, without an end.

    The parser hands a head on when it is complete and keeps what comes until then. So the bytes that came
    since it handed on anything (a head, a piece of a body, the end of a message) are counted.
    """

    _unseen = 0
    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, with a limit on the time until the first head is complete."""
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._head_came()
        super().connection_lost(exc)

    def _wait_for_head(self) -> None:
        if self._patience is None:
            self._patience = self.loop.call_later(HEAD_SECONDS, self._too_slow)

    def _head_came(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _too_slow(self) -> None:
        self._patience = None
        if not self.transport.is_closing() and (self.cycle is None or self.cycle.response_complete):
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        self._unseen += len(data)
        if self.cycle is None or self.cycle.response_complete:
            self._wait_for_head()
        super().data_received(data)
        if self._unseen > MAX_HEADERS and not self.transport.is_closing():
            # What is already being answered (trailers come after the body) is cut off with it.
            if self.cycle is None or self.cycle.response_complete:
                self.transport.write(_REFUSAL)
            self.transport.close()

    def on_headers_complete(self) -> None:
        """Hand the head on."""
        self._unseen = 0
        self._head_came()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Hand a piece of the body on."""
        self._unseen = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Hand the end of the message on."""
        self._unseen = 0
        super().on_message_complete()
