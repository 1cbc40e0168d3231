"""OpenTelemetry traces with GenAI attributes, and a structured log of requests; both off unless asked for."""

from __future__ import annotations

import json
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from eccos_rs.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from eccos_rs.dialects.usage import Usage
    from eccos_rs.pools.pool import LLM
    from eccos_rs.serve.request import RoutingRequest
    from eccos_rs.session import Lease

__all__ = ["Span", "Tracer", "export_traces", "log_request", "request_log"]

_OPERATIONS = {"completions": "text_completion", "embeddings": "embeddings"}
_PROVIDERS = {
    "openai": "openai",
    "azure": "azure.ai.openai",
    "anthropic": "anthropic",
    "gemini": "gcp.gemini",
}

request_log = logging.getLogger("eccos_rs.requests")
"""One JSON line per answered request at INFO; no texts."""


class Tracer:
    """Makes a span for every request, within the client's trace.

    Where OpenTelemetry is not set up, nothing is made. The attributes are those of the GenAI conventions,
    which are still in development; effort, cost and what was forecast stand under ``eccos.``.

    Parameters
    ----------
    enabled : bool

    Raises
    ------
    MissingExtraError
        It is asked for, and the extra ``otel`` is not installed.
    """

    def __init__(self, enabled: bool = False) -> None:
        self._tracer: Any = None
        if enabled:
            try:
                from opentelemetry import propagate, trace
            except ImportError as error:
                raise MissingExtraError("traces need OpenTelemetry: pip install 'eccos-rs[otel]'") from error
            self._tracer = trace.get_tracer("eccos_rs")
            self._trace, self._propagate = trace, propagate

    @contextmanager
    def request(self, wanted: RoutingRequest, headers: Mapping[str, str]) -> Iterator[Span]:
        """Open the span of a request; it is the current one within the block."""
        if self._tracer is None:
            yield Span(None, {})
            return
        operation = _OPERATIONS.get(wanted.dialect, "chat")
        asked = str(wanted.body.values.get("model"))
        context = self._propagate.extract(headers)
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": operation,
            "gen_ai.request.model": asked,
            "gen_ai.request.choice.count": wanted.query.n,
            "gen_ai.request.stream": wanted.streaming,
        }
        if wanted.query.max_output_tokens is not None:
            attributes["gen_ai.request.max_tokens"] = wanted.query.max_output_tokens
        if wanted.conversation:
            attributes["gen_ai.conversation.id"] = wanted.conversation
        span = self._tracer.start_span(
            f"{operation} {asked}", context, kind=self._trace.SpanKind.SERVER, attributes=attributes
        )
        carrier: dict[str, str] = {}
        self._propagate.inject(carrier, self._trace.set_span_in_context(span))
        made = Span(span, carrier)
        try:
            yield made
        except BaseException as error:
            made.fail(type(error).__name__)
            raise


class Span:
    """A request's span; it ends with its answer, which may come long after the block that opened it.

    Attributes
    ----------
    headers : mapping of str to str
        What passes the trace on to the endpoint.
    """

    def __init__(self, span: Any, headers: Mapping[str, str]) -> None:
        self._span = span
        self.headers = headers

    def answered(self, lease: Lease, usage: Usage, cost: float | None, first: float, *, failed: bool) -> None:
        """End it with what the answer was and cost."""
        if self._span is None:
            return
        llm: LLM | None = lease.llm
        assert llm is not None  # only a lease that holds a model can have an answer
        kind = "openai" if llm.endpoint is None else llm.endpoint.kind
        attributes = {
            "gen_ai.provider.name": _PROVIDERS[kind],
            "gen_ai.response.model": llm.name,
            "gen_ai.response.time_to_first_chunk": first,
            "gen_ai.usage.input_tokens": usage.input_tokens,
            "gen_ai.usage.output_tokens": usage.output_tokens,
            "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
            "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_tokens,
            "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
            "openai.response.service_tier": usage.tier,
            "eccos.effort": llm.effort,
            "eccos.cost": cost,
            "eccos.predicted_cost": lease.cost,
            "eccos.predicted_quality": lease.predicted_quality,
            "eccos.similarity": lease.similarity,
            "eccos.runner_up": lease.runner_up,
            "eccos.lease": lease.id,
        }
        self._span.set_attributes({name: value for name, value in attributes.items() if value is not None})
        if failed:
            self.fail("broken")
        else:
            self._span.end()

    def fail(self, kind: str) -> None:
        """End it as failed."""
        if self._span is None:
            return
        from opentelemetry.trace import Status, StatusCode

        self._span.set_attribute("error.type", kind)
        self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()


def log_request(
    lease: Lease, usage: Usage, cost: float | None, *, seconds: float, how: str, status: int
) -> None:
    """Write a line about an answered request."""
    if request_log.isEnabledFor(logging.INFO):
        line = {
            "lease": lease.id, "model": lease.model, "status": status, "conversation": how,
            "input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens,
            "cached_tokens": usage.cached_tokens, "cost_usd": cost, "predicted_cost_usd": lease.cost,
            "predicted_quality": lease.predicted_quality, "similarity": lease.similarity,
            "seconds": round(seconds, 4),
        }  # fmt: skip
        request_log.info(json.dumps(line))


def export_traces() -> None:
    """Send spans to where the variables of OpenTelemetry say (``OTEL_EXPORTER_OTLP_ENDPOINT`` and its like).

    Raises
    ------
    MissingExtraError
        The extra ``otel`` is not installed.
    """
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise MissingExtraError("traces need OpenTelemetry: pip install 'eccos-rs[otel]'") from error
    provider = TracerProvider(resource=Resource.create({"service.name": "eccos"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
