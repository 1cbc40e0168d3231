"""The gateway in front of a real engine: `transformers serve`, with the real client on the other side."""

from __future__ import annotations

import openai
import pytest

from eccos_rs.pools.pool import LLM, Endpoint, Pool
from eccos_rs.routing.policy import Policy
from eccos_rs.routing.router import Router
from eccos_rs.serve.app import GatewaySettings, build_app
from tests.helpers.serving import FixedPredictor, chat, running

# The engine starts within 10 s on an idle machine; the limit covers a busy one.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def client(served, tmp_path):
    endpoint = Endpoint(served.url, model=served.model, timeout=120.0)
    pool = Pool(
        [LLM("small", 0.1, 0.1, endpoint=endpoint, slots=4), LLM("large", 5.0, 15.0, endpoint=endpoint)]
    )
    router = Router(pool, FixedPredictor(), Policy(min_quality=0.6))
    settings = GatewaySettings(store=tmp_path / "eccos.db")
    with (
        running(build_app(router, settings)) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=120) as made,
    ):
        yield made


def test_an_answer_of_the_engine(client):
    raw = client.chat.completions.with_raw_response.create(**chat("Count to three.", max_tokens=8))
    answer = raw.parse()
    assert raw.headers["x-eccos-model"] == "small"
    assert answer.choices[0].message.role == "assistant"
    assert 1 <= answer.usage.completion_tokens <= 8


def test_a_stream_of_the_engine(client):
    with client.chat.completions.create(**chat("Count to three.", max_tokens=8), stream=True) as stream:
        chunks = list(stream)
    assert any(chunk.choices and chunk.choices[0].delta.content for chunk in chunks)
    assert any(chunk.choices and chunk.choices[0].finish_reason for chunk in chunks)
    stats = client.get("/stats", cast_to=dict[str, object])
    assert stats["in_flight"] == 0
    assert stats["requests"] == 1
