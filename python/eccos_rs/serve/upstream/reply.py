"""An endpoint's answer, from its first event on."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import aiohttp

from eccos_rs.serve.sse import EventReader, parse_event
from eccos_rs.serve.upstream.errors import UpstreamDisconnected, UpstreamError, broken_answer, embedded_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["DONE", "Reply"]

DONE = b"[DONE]"

_AFTER_DONE = 0.05
"""Seconds that an endpoint has to end its response behind [DONE], so that the connection can be kept."""

_ANSWER_HEADERS = (
    "content-type", "openai-processing-ms", "x-request-id", "request-id", "x-replay-quality",
)  # fmt: skip
"""What of an endpoint's headers goes on to the client; the rest concerns the one connection."""


class Reply:
    """An answer that has begun, or is there as a whole.

    Attributes
    ----------
    status : int
        HTTP status: below 300, or one that says that the request is wrong.
    headers : dict of str to str
        What goes on to the client.
    ttft : float
        Seconds from the request to the first event, or to the first byte of a whole answer.
    whole : bytes or None
        The body, where it is not a stream of events.
    dialect : str
        The one it was asked in.
    """

    def __init__(self, response: aiohttp.ClientResponse, dialect: str = "chat") -> None:
        self.response = response
        self._reader = EventReader()
        self._held: deque[bytes] = deque()
        self.status = response.status
        self.headers = {name: response.headers[name] for name in _ANSWER_HEADERS if name in response.headers}
        self.ttft = 0.0
        self.whole: bytes | None = None
        self.dialect = dialect

    @property
    def is_stream(self) -> bool:
        """Whether the endpoint answers with events; one without a content type is taken at its word."""
        kind = self.response.headers.get("content-type", "text/event-stream")
        return "json" not in kind and "html" not in kind

    async def read_whole(self, first: bytes) -> None:
        """Read the rest of a body whose beginning is there."""
        pieces = [first]
        while piece := await self.response.content.readany():
            pieces.append(piece)
        self.whole = b"".join(pieces)

    async def read_first_event(self, model: str, first: bytes) -> None:
        """Read until the first event that is part of an answer: no comment, no ping, no filter's verdict.

        Raises
        ------
        UpstreamError
            The first event is an error, or there is none.
        """
        chunk = first
        while chunk:
            events = self._reader.feed(chunk)
            for at, raw in enumerate(events):
                if self._begins(model, raw):
                    self._held.extend(events[at:])
                    return
                self._held.append(raw)
            chunk = await self.response.content.readany()
        if (rest := self._reader.rest()).strip():
            if self._begins(model, rest):
                self._held.append(rest)
                return
            if failure := broken_answer(model, rest, self.response.headers.get("content-type", "")):
                raise failure
        raise UpstreamError("empty", f"{model}: answered with nothing")

    def _begins(self, model: str, raw: bytes) -> bool:
        event = parse_event(raw)
        if event.data is None or event.name == "ping":
            return False
        if event.data == DONE:
            raise UpstreamError("empty", f"{model}: answered with nothing")
        content = event.json()
        if embedded_error(content, event.name):
            raise UpstreamError("error_in_200", f"{model}: answered 200 with an error in it")
        if isinstance(content, dict) and content.get("choices") == [] and not content.get("usage"):
            return False
        return not (isinstance(content, dict) and content.get("type") == "ping")

    async def events(self) -> AsyncIterator[bytes]:
        """Yield the events as they came, each in its own bytes, until the endpoint ends.

        Raises
        ------
        UpstreamDisconnected
            The endpoint died on the way; the text names the kind of failure.
        """
        while True:
            while self._held:
                yield self._held.popleft()
            try:
                chunk = await self.response.content.readany()
            except (aiohttp.ClientError, OSError) as error:
                raise UpstreamDisconnected(type(error).__name__) from error
            if not chunk:
                break
            self._held.extend(self._reader.feed(chunk))
        if (rest := self._reader.rest()).strip():
            yield rest

    async def after_done(self) -> list[bytes]:
        """Read what still comes behind [DONE], for a moment; the connection is kept if the response ends."""
        events = list(self._held)
        try:
            async with asyncio.timeout(_AFTER_DONE):
                while chunk := await self.response.content.readany():
                    events += self._reader.feed(chunk)
        except (TimeoutError, aiohttp.ClientError, OSError):
            pass
        return events

    def close(self) -> None:
        """Let go of the connection; an answer still on its way is cancelled."""
        if self.response.content.at_eof():
            self.response.release()
        else:
            self.response.close()
