"""The server's side of HTTP: uvicorn's fast parser, with a bound on what it gathers of a head."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["MAX_HEADERS", "BoundedHttp"]

MAX_HEADERS = 32 * 1024
"""Bytes of a request's headers."""

_REFUSAL = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class BoundedHttp(HttpToolsProtocol):
    """Refuses a client that sends headers, or trailers, without an end.

    The parser hands a head on when it is complete and keeps what comes until then. So the bytes that came
    since it handed on anything (a head, a piece of a body, the end of a message) are counted.
    """

    _unseen = 0

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        self._unseen += len(data)
        super().data_received(data)
        if self._unseen > MAX_HEADERS and not self.transport.is_closing():
            # What is already being answered (trailers come after the body) is cut off with it.
            if self.cycle is None or self.cycle.response_complete:
                self.transport.write(_REFUSAL)
            self.transport.close()

    def on_headers_complete(self) -> None:
        """Hand the head on."""
        self._unseen = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Hand a piece of the body on."""
        self._unseen = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Hand the end of the message on."""
        self._unseen = 0
        super().on_message_complete()
