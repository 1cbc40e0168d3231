"""Traces with GenAI attributes, and the log of requests."""

from __future__ import annotations

import json
import logging

import httpx
import pytest

from eccos_rs.serve.tracing import request_log
from tests.helpers.scripted import DONE, FINAL, WORDS, data, plain, stream
from tests.helpers.serving import chat
from tests.serve.test_endpoint_faults import COMPLETION, ask, served
from tests.serve.test_gateway import eventually

pytest.importorskip("opentelemetry.sdk", reason="the extra otel is not installed")

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture(scope="module")
def spans():
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


def answer(body, _path):
    if body["messages"][0]["content"] == "bad":
        return plain({"error": {"message": "no"}}, 500)
    return stream(*WORDS, data(FINAL), DONE) if body.get("stream") else plain(COMPLETION)


def test_a_request_is_a_span_in_its_clients_trace(spans, caplog):
    caplog.set_level(logging.INFO, request_log.name)
    with served(answer, traces=True) as (front, there):
        for streaming in (False, True):
            spans.clear()
            body = chat("secret words", max_tokens=2000, stream=streaming)
            parent = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
            httpx.post(f"{front}/v1/chat/completions", json=body, headers=parent).raise_for_status()
            eventually(lambda: len(spans.get_finished_spans()) == 1)
            span = spans.get_finished_spans()[0]
            assert span.name == "chat eccos"
            assert f"{span.context.trace_id:032x}" == TRACE
            assert f"{span.parent.span_id:016x}" == PARENT
            told = dict(span.attributes)
            assert told["gen_ai.operation.name"] == "chat"
            assert told["gen_ai.provider.name"] == "openai"
            assert told["gen_ai.response.model"] == "small"
            assert told["gen_ai.request.max_tokens"] == 2000
            assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.output_tokens"]) == (10, 1000)
            assert told["eccos.cost"] == pytest.approx((10 + 4000) / 1e6)
            assert "secret" not in str(told)
            # The endpoint goes on with the trace, below this span.
            sent = there.headers[-1]["traceparent"].split("-")
            assert (sent[1], sent[2]) == (TRACE, f"{span.context.span_id:016x}")
    lines = [json.loads(r.getMessage()) for r in caplog.records if r.name == request_log.name]
    assert [(line["model"], line["output_tokens"], line["status"]) for line in lines] == [
        ("small", 1000, 200)
    ] * 2
    assert "secret" not in caplog.text


def test_a_failed_request_is_a_failed_span(spans):
    with served(answer, traces=True) as (front, _):
        spans.clear()
        assert ask(front, "bad").status_code == 502
        eventually(lambda: len(spans.get_finished_spans()) == 1)
        span = spans.get_finished_spans()[0]
        assert span.attributes["error.type"] == "RequestError"
        assert not span.status.is_ok


def test_without_being_asked_nothing_is_traced(spans):
    with served(answer) as (front, there):
        spans.clear()
        assert ask(front).status_code == 200
        assert not spans.get_finished_spans()
        assert "traceparent" not in there.headers[-1]
