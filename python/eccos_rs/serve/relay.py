"""An answer on its way from the endpoint to the client, and the end of its lease."""

from __future__ import annotations

import logging
import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from starlette.responses import StreamingResponse

from eccos_rs.dialects.translate import error_event
from eccos_rs.dialects.usage import Usage, answer_cost, read_usage, written_tokens
from eccos_rs.serve.columns import billed_as
from eccos_rs.serve.sse import parse_event
from eccos_rs.serve.upstream import UpstreamDisconnected
from eccos_rs.serve.upstream.errors import embedded_error
from eccos_rs.serve.upstream.reply import DONE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from starlette.types import Receive, Scope, Send

    from eccos_rs.dialects.translate import Translation
    from eccos_rs.dialects.usage import Allowance
    from eccos_rs.pools.pool import Pool
    from eccos_rs.serve.metrics import Metrics
    from eccos_rs.serve.upstream import Reply
    from eccos_rs.session import Lease

__all__ = ["Relay", "RelayedStream"]

_log = logging.getLogger("eccos_rs.serve")

_NOTABLE = (b'"usage"', b'"error"', b"usageMetadata", b"response.failed")


_LAST = frozenset({"message_stop", "response.completed", "response.incomplete"})

_FINISH = re.compile(rb'"(?:finish_reason|finishReason|stop_reason)"\s*:\s*"')
"""In an event that says how the answer ends: what stops before it was cut off."""


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
    allowance : Allowance
        What the answer may use.
    pool : Pool
        Whose prices it is billed at.
    on_answer : callable
        Called when an answer has come to its end.
    on_spent : callable
        Told US dollars and tokens, once.
    on_end : callable
        Told usage, US dollars and whether it failed, once.
    copy : callable, optional
        Told the bytes of the answer as they are passed on; must not raise.
    """

    def __init__(
        self,
        lease: Lease,
        reply: Reply,
        metrics: Metrics,
        *,
        arrived: float,
        allowance: Allowance,
        pool: Pool,
        on_answer: Callable[[], None],
        on_spent: Callable[[float, int], None],
        on_end: Callable[[Usage, float | None, bool], None],
        copy: Callable[[bytes], None] | None = None,
    ) -> None:
        assert lease.model is not None  # only a lease that holds a model can have an answer
        self.lease = lease
        self.model: str = lease.model
        self.reply = reply
        self._metrics = metrics
        self._arrived = arrived
        self._allowance = allowance
        self._pool = pool
        self._on_answer = on_answer
        self._on_spent = on_spent
        self._on_end = on_end
        self._copy = copy
        self._usage = Usage()
        self.answer_id: str | None = None
        self._passed = 0
        self._ended = False

    def note(self, content: Any) -> None:
        """Remember the usage that an answer or an event states."""
        usage = read_usage(content)
        if usage is not None:
            self._usage = usage.over(self._usage)

        if isinstance(content, dict):
            inner = content.get("response", content)
            if isinstance(inner, dict) and isinstance(inner.get("id"), str):
                self.answer_id = inner["id"]

    def pass_on(self, raw: bytes) -> None:
        """Count what the client is sent."""
        self._passed += written_tokens(raw)
        if self._copy is not None:
            self._copy(raw)

    def end(self, *, failed: bool = False, side: str | None = None) -> None:
        """Release the lease and count; `side` (client or endpoint) says who left early."""
        if self._ended:
            return
        self._ended = True
        usage = self._allowance.clamp(self._counted(cut=failed or side is not None), self.model)
        assert self.lease.llm is not None
        paid = answer_cost(billed_as(self._pool, self.lease.llm, usage.tier), usage)
        self.lease.release(
            output_tokens=usage.output_tokens, cost=paid, input_tokens=usage.input_tokens,
            cached_tokens=usage.cached_tokens if usage.stated else None,
            failed=failed, abandoned=side == "client",
        )  # fmt: skip
        used = (usage.input_tokens or 0) + (usage.output_tokens or 0)
        self._on_spent(self.lease.cost if paid is None else paid, used)
        self._on_end(usage, paid, failed or side is not None)
        self._metrics.requests.labels(self.model, str(self.reply.status)).inc()
        self._metrics.duration.labels(self.model).observe(time.monotonic() - self._arrived)
        if side is not None:
            self._metrics.broken_streams.labels(self.model, side).inc()
        for direction, count in (("input", usage.input_tokens), ("output", usage.output_tokens)):
            if count is not None:
                self._metrics.tokens.labels(self.model, direction).inc(count)
        if not failed:
            self._metrics.board.answered(self.lease, paid, self.reply.ttft, time.monotonic() - self._arrived)
            self._on_answer()
        elif side != "client":
            self._metrics.board.failed(self.model, "broken")

    def refused(self) -> None:
        """End it as an answer that says that the request is wrong: nothing was spent."""
        self._ended = True
        self.lease.release(output_tokens=0, cost=0.0, abandoned=True)
        self._on_spent(0.0, 0)
        self._on_end(Usage(), 0.0, True)
        self._metrics.requests.labels(self.model, str(self.reply.status)).inc()

    def _counted(self, *, cut: bool) -> Usage:
        """Return the usage that was stated, with what was not stated estimated from what was passed on."""
        written = self._usage.output_tokens
        if written is None:
            return self._usage.over(Usage(self.lease.input_tokens, self._passed))
        # What an answer states at its beginning is not what had come when it was cut.
        whole = replace(self._usage, output_tokens=max(written, self._passed) if cut else written)
        return whole.over(Usage(self.lease.input_tokens))


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
    dialect : str
        The client's.
    translation : Translation, optional
        To it, where the endpoint speaks another.
    """

    def __init__(
        self,
        relay: Relay,
        headers: Mapping[str, str],
        *,
        keep_usage: bool,
        dialect: str = "chat",
        translation: Translation | None = None,
    ) -> None:
        self._relay = relay
        self._dialect = dialect
        self._translation = translation
        self._keep_usage = keep_usage
        self._broken = self._done = self._finished = False
        content = {**headers, "cache-control": "no-cache", "x-accel-buffering": "no"}
        content.setdefault("content-type", "text/event-stream; charset=utf-8")
        super().__init__(self._events(), relay.reply.status, content)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; whichever way it ends, the lease is released and the connection let go."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._relay.end(side=None if self._done else "client")
            self._relay.reply.close()

    async def _events(self) -> AsyncIterator[bytes]:
        relay = self._relay
        try:
            async for raw in relay.reply.events():
                done = self._is_last(raw)
                if done or self._passes(raw):
                    relay.pass_on(raw)
                    if self._translation is None:
                        yield raw
                if self._translation is not None and (translated := self._translate(raw)):
                    yield translated
                if done:
                    self._done = True
                    for late in await relay.reply.after_done():
                        self._passes(late)
                    break
            if not (self._done or self._finished or self._broken):
                raise UpstreamDisconnected("it stopped before its end")
        except UpstreamDisconnected as error:
            _log.warning("model %s ended a stream early (%s)", relay.model, error)
            relay.end(failed=True, side="endpoint")
            message = f"{relay.model} ended its answer early ({error})"
            yield error_event(self._dialect, 502, "upstream_broke", message)
            return
        if self._translation is not None and not self._broken:
            yield self._translation.end()
        relay.end(failed=self._broken, side="endpoint" if self._broken else None)

    def _is_last(self, raw: bytes) -> bool:
        if b"[DONE]" in raw:
            return parse_event(raw).data == DONE
        if b"message_stop" in raw or b"response.completed" in raw or b"response.incomplete" in raw:
            last = parse_event(raw).name in _LAST
            if last:
                self._passes(raw)
            return last
        return False

    def _translate(self, raw: bytes) -> bytes:
        assert self._translation is not None  # the caller has looked
        parsed = parse_event(raw)
        return self._translation.feed(parsed.name, parsed.json())

    def _passes(self, raw: bytes) -> bool:
        """Note the usage, the end or the error that an event states; say whether it goes on to the client."""
        self._finished = self._finished or _FINISH.search(raw) is not None
        if not any(mark in raw for mark in _NOTABLE):
            return True
        parsed = parse_event(raw)
        content = parsed.json()
        if embedded_error(content, parsed.name) or (isinstance(content, dict) and content.get("error")):
            self._broken = True
        self._relay.note(content)
        return self._keep_usage or not _is_usage_alone(content)


def _is_usage_alone(content: Any) -> bool:
    """Whether an event of a chat states the usage and nothing else."""
    return (
        isinstance(content, dict)
        and isinstance(content.get("usage"), dict)
        and not content.get("choices")
        and (
            content.get("object", "chat.completion.chunk") == "chat.completion.chunk"
            and "type" not in content
        )
    )
