"""One request through the gateway: its limits read, a model chosen, another asked where that one fails."""

from __future__ import annotations

import json
import logging
import math
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response

from eccos_rs.dialects import messages_answer
from eccos_rs.dialects.translate import Translation, answer, encode
from eccos_rs.domain.pricing import model_cost
from eccos_rs.errors import NoModelError, Overloaded
from eccos_rs.serve.columns import live_columns
from eccos_rs.serve.keys import Keys
from eccos_rs.serve.relay import Relay, RelayedStream
from eccos_rs.serve.request import ROUTED_NAMES, RoutingRequest, read_request
from eccos_rs.serve.tracing import Span, Tracer, log_request
from eccos_rs.serve.upstream import Outbound, Reply, UpstreamError
from eccos_rs.serve.wire import CLIENT_LEFT, RequestError, cancel_on_disconnect, error_body, read_body

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from eccos_rs.dialects.usage import Usage
    from eccos_rs.serve.breaker import Breakers
    from eccos_rs.serve.conversations import ResponseHomes
    from eccos_rs.serve.metrics import Metrics
    from eccos_rs.serve.shadow.runner import Shadow
    from eccos_rs.serve.upstream import Upstream
    from eccos_rs.session import Lease, Session

__all__ = ["Gateway"]

_log = logging.getLogger("eccos_rs.serve")

_BY_CONVERSATION = {
    "kept": "; it answered the last turn of this conversation",
    "moved": "; worth it though another model's cache holds this conversation",
}


@dataclass
class Gateway:
    """What a request needs on its way.

    Attributes
    ----------
    session : Session
        Decides and keeps the limits.
    upstream : Upstream
        The endpoints.
    breakers : Breakers
        Which endpoints are out.
    metrics : Metrics
        What is counted.
    answers : ResponseHomes
        Which model holds each response.
    attempts : int
        Models that are asked for one request before it fails.
    wait : float
        Seconds that a request may wait for a free model.
    body_timeout : float
        Seconds within which a body must have come.
    keys : Keys
        Of the clients, with their limits.
    tracer : Tracer
        Of every request.
    shadow : Shadow, optional
        Requests go where they would have gone, and what routing would do is written down.
    """

    session: Session
    upstream: Upstream
    breakers: Breakers
    metrics: Metrics
    answers: ResponseHomes
    attempts: int = 3
    wait: float = 30.0
    body_timeout: float = 30.0
    keys: Keys = field(default_factory=lambda: Keys(()))
    tracer: Tracer = field(default_factory=Tracer)
    shadow: Shadow | None = None

    async def complete(self, request: Request, dialect: str = "chat") -> Response:
        """Serve a request of any dialect."""
        arrived = time.monotonic()
        self.metrics.arrivals.add()
        body = await read_body(request, self.body_timeout)
        key = request.scope.get("eccos.key")
        pool = self.session.pool
        wanted = self.keys.limit(key, read_request(request, body, pool, dialect), live_columns(pool))
        if self.shadow is not None:
            wanted = self.shadow.place(wanted, self.keys.allowed_models(key))
        wanted = replace(self._placed(wanted), key=key)
        with self.tracer.request(wanted, request.headers) as span:
            response = await cancel_on_disconnect(request, self._answer(wanted, arrived, span))
            if response is None:
                span.fail("client_left")
        if response is None:
            return Response(status_code=CLIENT_LEFT)
        return response

    async def _answer(self, wanted: RoutingRequest, arrived: float, span: Span) -> Response:
        lease, reply, overhead, how = await self._first_event(wanted, arrived, span.headers)
        assert lease.model is not None  # acquire raises for a deferred query
        assert lease.llm is not None
        headers = {**reply.headers, **_headers(lease, overhead, how)}

        copy = None if self.shadow is None else self.shadow.copy(wanted)

        def answered() -> None:
            if reply.dialect == "responses" and relay.answer_id is not None:
                self.answers.keep(relay.answer_id, relay.model)

        def ended(usage: Usage, cost: float | None, failed: bool) -> None:
            if self.shadow is not None:
                self.shadow.ended(wanted, lease, cost, failed=failed, copy=copy)
            span.answered(lease, usage, cost, reply.ttft, failed=failed)
            seconds = time.monotonic() - arrived
            log_request(lease, usage, cost, seconds=seconds, how=how, status=reply.status)

        relay = Relay(
            lease,
            reply,
            self.metrics,
            arrived=arrived,
            allowance=wanted.allowance(lease.llm),
            pool=self.session.pool,
            on_spent=lambda cost, tokens: self.keys.settle(wanted.key, lease.cost, cost, tokens),
            on_end=ended,
            on_answer=answered,
            copy=None if copy is None else copy.add,
        )
        if reply.whole is None:
            return _stream(relay, wanted, headers)
        if reply.status >= 300:
            relay.refused()
            return Response(_refusal_in(wanted.dialect, reply), reply.status, headers)
        content = None
        with suppress(ValueError, RecursionError):
            content = json.loads(reply.whole)
            relay.note(content)
        relay.pass_on(reply.whole)
        relay.end()
        if reply.dialect == wanted.dialect or not isinstance(content, dict):
            return Response(reply.whole, reply.status, headers)
        translated = answer(
            content, wanted.body.values, spoken=reply.dialect, wanted=wanted.dialect, model=relay.model
        )
        return Response(encode(translated), reply.status, headers)

    def _placed(self, wanted: RoutingRequest) -> RoutingRequest:
        """Keep a request to the endpoints that can be sent it.

        Raises
        ------
        RequestError
            400: there is none; the members are named that cannot be translated.
        """
        if wanted.previous is not None:
            holder = self.answers.holder(wanted.previous)
            if holder is None or holder not in self.session.pool.names:
                raise RequestError(
                    400, "previous_response_not_found", f"no response {wanted.previous!r} is known here",
                    param="previous_response_id",
                )  # fmt: skip
            return replace(wanted, query=replace(wanted.query, models=(holder,)))
        plain = wanted.dialect in ("completions", "embeddings")
        if not wanted.lost and not plain:
            return wanted
        speakers = self.upstream.speakers(wanted.dialect)
        names = wanted.query.models or live_columns(self.session.pool)
        allowed = tuple(name for name in names if name in speakers)
        if not allowed:
            what = ", ".join(wanted.lost) or wanted.dialect
            message = f"no endpoint that may be asked speaks {wanted.dialect}, and none other takes {what}"
            raise RequestError(400, "untranslatable", message)
        return replace(wanted, query=replace(wanted.query, models=allowed))

    async def _first_event(
        self, wanted: RoutingRequest, arrived: float, headers: Mapping[str, str]
    ) -> tuple[Lease, Reply, float, str]:
        """Ask model after model until one begins to answer; returns the seconds before it was asked."""
        failures: list[tuple[str, UpstreamError]] = []
        spent_upstream = 0.0
        outbound = Outbound(
            wanted.body,
            wanted.dialect,
            wanted.chat,
            wanted.headers,
            dict(headers),
            keep_cache=wanted.continues,
            routed=not wanted.named,
        )
        for _ in range(self.attempts):
            try:
                lease, how = await self._choose(wanted, exclude=[name for name, _ in failures])
            except (NoModelError, Overloaded):
                if not failures:
                    raise
                break
            model = lease.model
            assert model is not None  # acquire raises for a deferred query
            sent = time.monotonic()
            self.keys.reserve(wanted.key, lease.cost)
            try:
                reply = await self.upstream.send(model, outbound)
            except UpstreamError as error:
                self._release_failed(lease, wanted, charged=error.charged)
                spent_upstream += time.monotonic() - sent
                self._note_failure(model, error)
                failures.append((model, error))
                continue
            except BaseException:
                # The client left. What was sent may be charged for.
                self._release_failed(lease, wanted, charged=outbound.sent, abandoned=True)
                raise
            self.breakers.succeeded(model)
            overhead = sent - arrived - spent_upstream
            self.metrics.overhead.observe(overhead)
            self.metrics.ttft.labels(model).observe(reply.ttft)
            self.metrics.board.decided(lease, how)
            return lease, reply, overhead, how
        raise _nobody_left(failures)

    def _release_failed(
        self, lease: Lease, wanted: RoutingRequest, *, charged: bool, abandoned: bool = False
    ) -> None:
        """Release a lease without an answer; a call that may have been charged counts at its most."""
        tokens, cost = 0.0, 0.0
        if charged:
            assert lease.llm is not None
            query, llm = wanted.query, lease.llm
            cap = query.max_output_tokens
            tokens = (
                lease.output_tokens if cap is None else float(query.n * min(cap, llm.context_window or cap))
            )
            cost = model_cost(llm, lease.input_tokens, tokens)
        lease.release(failed=not abandoned, abandoned=abandoned, output_tokens=tokens, cost=cost)
        self.keys.settle(wanted.key, lease.cost, cost, math.ceil(tokens))

    def _note_failure(self, model: str, error: UpstreamError) -> None:
        _log.log(
            logging.ERROR if error.needs_somebody else logging.WARNING, "model %s failed: %s", model, error
        )
        if error.blames_model:
            self.breakers.failed(model, retry_after=error.retry_after, at_once=error.at_once)
        self.metrics.fallbacks.labels(model, error.reason).inc()
        self.metrics.board.failed(model, error.reason)

    async def _choose(self, wanted: RoutingRequest, *, exclude: list[str]) -> tuple[Lease, str]:
        """Get a model; a turn of a conversation as `Session.acquire` has it.

        Returns
        -------
        lease : Lease
        how : {"chosen", "kept", "moved"}
            For a first turn, or one whose caches are gone; by the last turn's model; by another.

        Raises
        ------
        NoModelError
            None may take it.
        Overloaded
            Nothing fits within the time.
        """
        session, turn = self.session, None
        if wanted.conversation:
            continues = wanted.continues and not wanted.named
            turn = session.conversations.turn(wanted.query, wanted.conversation, continues=continues)
        lease = await session.acquire(
            wanted.query, exclude=exclude, max_cost=wanted.max_cost, timeout=self.wait, turn=turn
        )
        if lease.deferred:
            raise Overloaded("nothing fits now", retry_after=lease.retry_after)
        return lease, lease.conversation

    async def decide(self, request: Request) -> Response:
        """Serve ``POST /v1/route``: the decision alone; nothing is taken and nothing is spent."""
        arrived = time.monotonic()
        body = await read_body(request, self.body_timeout)
        body.values.setdefault("model", ROUTED_NAMES[0])
        wanted = read_request(request, body, self.session.pool)
        lease, how = await self._choose(wanted, exclude=[])
        content = {
            "model": lease.model,
            "predicted_quality": lease.predicted_quality,
            "predicted_output_tokens": lease.output_tokens,
            "input_tokens": lease.input_tokens,
            "predicted_cost_usd": lease.cost,
            "runner_up": lease.runner_up,
            "similarity": lease.similarity,
            "familiar": lease.familiar,
            "warnings": list(lease.warnings),
            "reason": f"{lease.reason}{_BY_CONVERSATION.get(how, '')}",
            "conversation": how,
            "quality_price_usd": lease.quality_price,
            "overhead_seconds": time.monotonic() - arrived,
        }
        lease.cancel()
        return JSONResponse(content)


def _stream(relay: Relay, wanted: RoutingRequest, headers: dict[str, str]) -> RelayedStream:
    spoken, translation = relay.reply.dialect, None
    if spoken != wanted.dialect:
        translation = Translation(
            wanted.body.values, spoken=spoken, wanted=wanted.dialect, model=relay.model,
            keep_usage=wanted.wants_usage,
        )  # fmt: skip
    # What is translated is told its usage by the last events.
    keep_usage = wanted.wants_usage or spoken != "chat" or translation is not None
    return RelayedStream(
        relay, headers, keep_usage=keep_usage, dialect=wanted.dialect, translation=translation
    )


def _refusal_in(dialect: str, reply: Reply) -> bytes:
    """Return an endpoint's refusal of a request in the client's dialect."""
    assert reply.whole is not None  # refusals are read
    if (dialect == "messages") == (reply.dialect == "messages"):
        return reply.whole
    message = "the endpoint refuses the request"
    with suppress(ValueError, RecursionError, AttributeError):
        said = json.loads(reply.whole)
        message = str((said.get("error") or said).get("message") or message)
    if dialect == "messages":
        return encode(messages_answer.error_body(reply.status, "upstream_refused", message))
    return encode(error_body(reply.status, "upstream_refused", message))


def _nobody_left(failures: list[tuple[str, UpstreamError]]) -> RequestError:
    last = failures[-1][1]
    if all(error.reason == "overflow" for _, error in failures):
        return RequestError(
            400,
            "context_length_exceeded",
            f"the request is longer than any model takes: {last}",
            param="messages",
        )
    if all(error.reason == "untranslatable" for _, error in failures):
        return RequestError(400, "untranslatable", str(last))
    if all(error.reason == "effort" for _, error in failures):
        return RequestError(400, "invalid_request", str(last), param="reasoning_effort")
    message = f"{len(failures)} of the pool's models failed, the last: {last}"
    if all(error.reason == "status_429" for _, error in failures):
        waits = [error.retry_after for _, error in failures if error.retry_after is not None]
        headers = {"Retry-After": str(max(1, math.ceil(min(waits))))} if waits else {}
        return RequestError(429, "rate_limited", message, headers=headers)
    return RequestError(502, "upstream_failed", message)


def _headers(lease: Lease, overhead: float, how: str) -> dict[str, str]:
    known = {} if lease.similarity is None else {"x-eccos-similarity": f"{lease.similarity:.4f}"}
    return known | {
        "x-eccos-model": str(lease.model).encode("ascii", "replace").decode(),
        "x-eccos-predicted-quality": f"{lease.predicted_quality:.4f}",
        "x-eccos-cost": f"{lease.cost:.8f}",
        "x-eccos-overhead-ms": f"{1000 * overhead:.3f}",
        "x-eccos-lease": lease.id,
        "x-eccos-conversation": how,
    }
