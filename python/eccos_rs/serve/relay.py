"""An answer on its way from the endpoint to the client, and the end of its lease."""

from __future__ import annotations

import json
import logging
import time
from typing import TYPE_CHECKING, Any

from starlette.responses import StreamingResponse

from eccos_rs.domain.pricing import model_cost
from eccos_rs.serve.upstream import EndpointLeft
from eccos_rs.serve.wire import error_body, event, usage_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from starlette.types import Receive, Scope, Send

    from eccos_rs.serve.metrics import Metrics
    from eccos_rs.serve.upstream import Reply
    from eccos_rs.session import Lease

__all__ = ["Relay", "RelayedStream"]

_LONGEST_EVENT = 2**20
"""Bytes of an event that are waited for; of a longer one the pieces are passed on as they come."""

_log = logging.getLogger("eccos_rs.serve")


class Relay:
    """One answer: its lease, what was counted of it, and its end, which comes exactly once.

    Parameters
    ----------
    lease : Lease
        Of the model that answers.
    reply : Reply
        Its answer.
    metrics : Metrics
        What is counted.
    arrived : float
        When the request came, on the monotonic clock.
    """

    def __init__(self, lease: Lease, reply: Reply, metrics: Metrics, arrived: float) -> None:
        assert lease.model is not None  # only a lease that holds a model can have an answer
        self.lease = lease
        self.model: str = lease.model
        self.reply = reply
        self._metrics = metrics
        self._arrived = arrived
        self._usage: tuple[int | None, int | None, int] = (None, None, 0)
        self._ended = False

    def note(self, content: Any) -> None:
        """Remember the usage that an answer or an event states."""
        if isinstance(content, dict) and isinstance(content.get("usage"), dict):
            self._usage = usage_of(content)

    def end(self, *, failed: bool = False, side: str | None = None) -> None:
        """Give the slot back and count; `side` (client or endpoint) says who left early."""
        if self._ended:
            return
        self._ended = True
        read, written, cached = self._usage
        self.lease.release(output_tokens=written, cost=self._cost(read, written, cached), failed=failed)
        self._metrics.requests.labels(self.model, str(self.reply.status)).inc()
        self._metrics.duration.labels(self.model).observe(time.monotonic() - self._arrived)
        if side is not None:
            self._metrics.broken_streams.labels(self.model, side).inc()
        for direction, count in (("input", read), ("output", written)):
            if count is not None:
                self._metrics.tokens.labels(self.model, direction).inc(count)

    def _cost(self, read: int | None, written: int | None, cached: int) -> float | None:
        llm = self.lease.llm
        if read is None or written is None or llm is None:
            return None
        return model_cost(llm, read, written, cached_tokens=cached)


class RelayedStream(StreamingResponse):
    """Sends an answer's events on as they come.

    After the first byte nothing is retried: an endpoint that dies on the way becomes an error event and the
    end of the stream. A client that leaves ends the upstream call.

    Parameters
    ----------
    relay : Relay
        The answer.
    headers : mapping of str to str
        Of the response.
    keep_usage : bool
        Whether the client asked for the event that states the usage.
    """

    def __init__(self, relay: Relay, headers: Mapping[str, str], *, keep_usage: bool) -> None:
        self._relay = relay
        self._keep_usage = keep_usage
        content = {**headers, "cache-control": "no-cache", "x-accel-buffering": "no"}
        content.setdefault("content-type", "text/event-stream; charset=utf-8")
        super().__init__(self._events(), relay.reply.status, content)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; whichever way it ends, the slot is given back and the connection let go."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._relay.end(failed=True, side="client")
            self._relay.reply.close()

    async def _events(self) -> AsyncIterator[bytes]:
        pending = b""
        try:
            async for chunk in self._relay.reply.chunks():
                *whole, pending = (pending + chunk).replace(b"\r\n", b"\n").split(b"\n\n")
                passed = b"".join(part + b"\n\n" for part in whole if self._passes(part))
                if len(pending) > _LONGEST_EVENT:
                    passed, pending = passed + pending, b""
                if passed:
                    yield passed
            if pending.strip() and self._passes(pending):
                yield pending
        except EndpointLeft as error:
            _log.warning("model %s ended a stream early (%s)", self._relay.model, error)
            self._relay.end(failed=True, side="endpoint")
            message = f"{self._relay.model} ended its answer early ({error})"
            yield event(error_body(502, "upstream_broke", message))
            return
        self._relay.end()

    def _passes(self, part: bytes) -> bool:
        """Note the usage that an event states; say whether the event goes on to the client."""
        if b'"usage"' not in part or not part.startswith(b"data:"):
            return True
        try:
            content = json.loads(part[5:])
        except ValueError:
            return True
        self._relay.note(content)
        return self._keep_usage or not isinstance(content, dict) or content.get("choices") != []
