"""One request through the gateway: its limits read, a model chosen, another asked where that one fails."""

from __future__ import annotations

import json
import math
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response

from eccos_rs.errors import EccosError, InputError, NoModelError, Overloaded
from eccos_rs.serve.relay import Relay, RelayedStream
from eccos_rs.serve.upstream import EndpointLeft, Reply, UpstreamError
from eccos_rs.serve.wire import CLIENT_LEFT, RequestError, query_of, read_json, unless_gone

if TYPE_CHECKING:
    from starlette.requests import Request

    from eccos_rs.routing.query import Query
    from eccos_rs.serve.breaker import Breakers
    from eccos_rs.serve.metrics import Metrics
    from eccos_rs.serve.upstream import Upstream
    from eccos_rs.session import Lease, Session

__all__ = ["ROUTED_NAMES", "Gateway", "Wish", "status_of"]

ROUTED_NAMES = ("eccos", "auto")
"""Names of no model: the gateway chooses."""


@dataclass(frozen=True)
class Wish:
    """What a request asks of its model.

    Attributes
    ----------
    query : Query
        The chat with its hard needs.
    max_cost : float
        US dollars; None for no limit.
    """

    query: Query
    max_cost: float | None = None


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
    attempts : int
        Models that are asked for one request before it fails.
    wait : float
        Seconds that a request may wait for a free model.
    """

    session: Session
    upstream: Upstream
    breakers: Breakers
    metrics: Metrics
    attempts: int = 3
    wait: float = 30.0

    async def complete(self, request: Request) -> Response:
        """Serve ``POST /v1/chat/completions``."""
        arrived = time.monotonic()
        self.metrics.arrivals.add()
        body = await read_json(request)
        wish = self.wish(request, body)
        work = self._answer(wish, body, arrived)
        response = await unless_gone(request, work)
        if response is None:
            return Response(status_code=CLIENT_LEFT)
        return response

    async def _answer(self, wish: Wish, body: dict[str, Any], arrived: float) -> Response:
        streaming = bool(body.get("stream"))
        asked_usage = isinstance(options := body.get("stream_options"), dict) and bool(
            options.get("include_usage")
        )
        if streaming:
            # The last event then says how many tokens there were; it is taken out again if nobody asked.
            body = {**body, "stream_options": {**(body.get("stream_options") or {}), "include_usage": True}}
        lease, reply, overhead = await self._first_byte(wish, body, arrived)
        headers = {**reply.headers, **_headers_of(lease, overhead)}
        relay = Relay(lease, reply, self.metrics, arrived)
        if streaming and reply.status < 300:
            return RelayedStream(relay, headers, keep_usage=asked_usage)
        return await self._whole(relay, headers)

    async def _first_byte(
        self, wish: Wish, body: dict[str, Any], arrived: float
    ) -> tuple[Lease, Reply, float]:
        """Ask model after model until one begins to answer; returns the seconds before it was asked."""
        failed: list[str] = []
        last: UpstreamError | None = None
        spent_upstream = 0.0
        for _ in range(self.attempts):
            try:
                lease = await self.acquire(wish, exclude=failed)
            except NoModelError:
                if last is None:
                    raise
                break
            model = lease.model
            assert model is not None  # acquire raises for a deferred query
            sent = time.monotonic()
            try:
                reply = await self.upstream.send(model, body)
            except UpstreamError as error:
                lease.release(failed=True)
                spent_upstream += time.monotonic() - sent
                self.breakers.failed(model, retry_after=error.retry_after)
                self.metrics.fallbacks.labels(model, error.reason).inc()
                failed.append(model)
                last = error
                continue
            except BaseException:
                lease.release(failed=True)
                raise
            self.breakers.succeeded(model)
            overhead = sent - arrived - spent_upstream
            self.metrics.overhead.observe(overhead)
            self.metrics.ttft.labels(model).observe(reply.ttft)
            return lease, reply, overhead
        assert last is not None  # the loop ran at least once
        raise RequestError(
            502, "upstream_failed", f"{len(failed)} of the pool's models failed, the last: {last}"
        )

    async def acquire(self, wish: Wish, *, exclude: list[str]) -> Lease:
        """Get a model for a request.

        Raises
        ------
        NoModelError
            None may take it.
        Overloaded
            Nothing fits within the wait.
        """
        lease = await self.session.acquire(
            wish.query, exclude=exclude, max_cost=wish.max_cost, timeout=self.wait
        )
        if lease.deferred:
            raise Overloaded("nothing fits now", retry_after=lease.retry_after)
        return lease

    async def _whole(self, relay: Relay, headers: dict[str, str]) -> Response:
        try:
            raw = await relay.reply.body()
        except EndpointLeft as error:
            relay.end(failed=True, side="endpoint")
            raise RequestError(
                502, "upstream_broke", f"{relay.model} ended its answer early ({error})"
            ) from error
        except BaseException:
            relay.end(failed=True, side="client")
            raise
        finally:
            relay.reply.close()
        with suppress(ValueError, RecursionError):
            relay.note(json.loads(raw))
        relay.end(failed=relay.reply.status >= 400)
        return Response(raw, relay.reply.status, headers)

    def wish(self, request: Request, body: dict[str, Any]) -> Wish:
        """Read the model's name and the headers.

        Raises
        ------
        RequestError
            400: a header is out of its range; 404: an unknown model.
        """
        names = self._models(body, request.headers.get("x-eccos-models"))
        floor = _number(request, "x-eccos-min-quality", 1.0)
        ceiling = _number(request, "x-eccos-max-cost", math.inf)
        priority = request.headers.get("x-eccos-priority", "0")
        try:
            rank = int(priority)
        except ValueError:
            raise RequestError(
                400, "invalid_header", f"x-eccos-priority must be a whole number, got {priority!r}"
            ) from None
        query = query_of(body, models=names, min_quality=floor, priority=rank)
        return Wish(query, ceiling)

    def _models(self, body: dict[str, Any], header: str | None) -> tuple[str, ...] | None:
        model = body.get("model")
        pool = self.session.pool
        if not isinstance(model, str):
            raise RequestError(400, "invalid_model", f"model must be a text, got {model!r}")
        wanted = None if header is None else [name for part in header.split(",") if (name := part.strip())]
        if wanted is not None and not wanted:
            raise RequestError(400, "invalid_header", "x-eccos-models names no model")
        if model not in ROUTED_NAMES:
            wanted = [model]
        for name in wanted or ():
            if name not in pool.names:
                known = ", ".join((*ROUTED_NAMES, *pool.names))
                raise RequestError(404, "model_not_found", f"there is no model {name!r}; known are {known}")
        return None if wanted is None else tuple(wanted)

    async def decide(self, request: Request) -> Response:
        """Serve ``POST /v1/route``: the decision alone; no slot stays taken and nothing is spent."""
        arrived = time.monotonic()
        body = await read_json(request)
        body.setdefault("model", ROUTED_NAMES[0])
        lease = await self.acquire(self.wish(request, body), exclude=[])
        try:
            content = {
                "model": lease.model,
                "predicted_quality": lease.predicted_quality,
                "predicted_output_tokens": lease.output_tokens,
                "input_tokens": lease.input_tokens,
                "predicted_cost_usd": lease.cost,
                "runner_up": lease.runner_up,
                "reason": lease.reason,
                "quality_price_usd": lease.quality_price,
                "overhead_seconds": time.monotonic() - arrived,
            }
        finally:
            lease.release(failed=True)
        return JSONResponse(content)


def _headers_of(lease: Lease, overhead: float) -> dict[str, str]:
    return {
        "x-eccos-model": str(lease.model).encode("ascii", "replace").decode(),
        "x-eccos-predicted-quality": f"{lease.predicted_quality:.4f}",
        "x-eccos-cost": f"{lease.cost:.8f}",
        "x-eccos-overhead-ms": f"{1000 * overhead:.3f}",
        "x-eccos-lease": lease.id,
    }


def _number(request: Request, name: str, most: float) -> float | None:
    text = request.headers.get(name)
    if text is None:
        return None
    wanted = "of at least 0" if math.isinf(most) else f"in [0, {most:g}]"
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or not 0 <= value <= most:
        raise RequestError(400, "invalid_header", f"{name} must be a number {wanted}, got {text!r}")
    return value


def status_of(error: EccosError) -> tuple[int, str, dict[str, str]]:
    """Return HTTP status, code and headers for what may go wrong with a request."""
    if isinstance(error, RequestError):
        return error.status, error.code, error.headers
    if isinstance(error, Overloaded):
        seconds = 1 if error.retry_after is None else max(1, math.ceil(error.retry_after))
        return 429, "overloaded", {"Retry-After": str(seconds)}
    if isinstance(error, NoModelError):
        return 422, "no_model", {}
    if isinstance(error, InputError):
        return 400, "invalid_request", {}
    return 503, "unavailable", {}
