"""A model at several efforts and in several lanes: what clients ask for, what endpoints are asked."""

from __future__ import annotations

from contextlib import contextmanager

import httpx
import numpy as np
import pytest

from eccos_rs.errors import PoolError
from eccos_rs.pools.pool import LLM, Endpoint, Pool
from eccos_rs.predict.protocol import Prediction
from eccos_rs.routing.policy import Policy
from eccos_rs.routing.router import Router
from eccos_rs.serve.app import GatewaySettings, build_app
from tests.helpers.dialects import ANSWERS
from tests.helpers.scripted import COMPLETION, Scripted, plain
from tests.helpers.serving import chat, running

COLUMNS = [
    {"effort": "low"},
    {"effort": "high", "input_price": 2.0},
    {"lane": "flex", "effort": "low", "input_price": 0.5},
    {"lane": "batch", "effort": "low", "input_price": 0.1},
]
NAMES = ("think@low", "think@high", "think@low@flex", "think@low@batch", "plain")
QUALITY = dict(zip(NAMES, [0.7, 0.9, 0.7, 0.7, 0.5], strict=True))


class EveryColumn:
    """The same forecast for every query."""

    def __init__(self, names, quality):
        self.models, self._quality = tuple(names), quality

    def predict(self, queries):
        n, m = len(queries), len(self.models)
        rows = np.ones((n, m), np.float32)
        return Prediction(
            self.models, quality=rows * np.array(self._quality, np.float32), output_tokens=rows * 100,
            quality_std=rows * 0.05, log_tokens_std=rows * 0.5, input_tokens=np.full(n, 8, np.int64),
            embedding=None, similarity=None, seconds={},
        )  # fmt: skip


@contextmanager
def served(answer=lambda body, path: plain(COMPLETION), kind="openai", columns=COLUMNS, **settings):
    there = Scripted(answer)
    with running(there, lifespan="off", log_level="critical") as url:
        base = {"openai": "/v1", "gemini": "/v1beta"}[kind]
        models = [
            LLM("think", **{"input_price": 1.0, "output_price": 4.0, **column,
                            "endpoint": Endpoint(f"{url}{base}", kind=kind, timeout=20.0)})
            for column in columns
        ]  # fmt: skip
        models.append(LLM("plain", 0.05, 0.2, endpoint=Endpoint(f"{url}{base}", kind=kind, timeout=20.0)))
        pool = Pool(models)
        predictor = EveryColumn(pool.names, [QUALITY.get(name, 0.7) for name in pool.names])
        router = Router(pool, predictor, Policy(min_quality=0.6, overload="raise"))
        with running(build_app(router, GatewaySettings(wait=0.3, **settings))) as front:
            yield front, there


def ask(front, model="think", headers=None, **fields):
    return httpx.post(
        f"{front}/v1/chat/completions", json=chat("hi", model, **fields), headers=headers or {}, timeout=20
    )


def column(got):
    assert got.status_code == 200, got.text
    return got.headers["x-eccos-model"]


def test_a_model_means_every_effort_of_it_and_the_clients_own_pins_one():
    with served() as (front, there):
        assert column(ask(front)) == "think@low@flex"
        assert there.requests[-1]["model"] == "think"
        assert (there.requests[-1]["reasoning_effort"], there.requests[-1]["service_tier"]) == ("low", "flex")
        assert column(ask(front, reasoning_effort="high")) == "think@high"
        assert "service_tier" not in there.requests[-1]
        assert column(ask(front, reasoning={"effort": "high"})) == "think@high"
        assert column(ask(front, service_tier="default")) == "think@low"
        assert column(ask(front, "eccos", reasoning_effort="high", headers={"x-eccos-models": "think"})) == (
            "think@high"
        )
        # No column of this effort: it goes as its client sent it.
        assert column(ask(front, reasoning_effort="medium")).startswith("think@")
        assert there.requests[-1]["reasoning_effort"] == "medium"
        responses = {"model": "think", "input": "hi", "reasoning": {"effort": "high"}}
        got = httpx.post(f"{front}/v1/responses", json=responses)
        assert column(got) == "think@high"
        listed = [row["id"] for row in httpx.get(f"{front}/v1/models").json()["data"]]
        assert listed == ["eccos", *NAMES[:3], "plain", "think"]
        assert httpx.get(f"{front}/v1/models/think").status_code == 200


def test_a_batch_lane_takes_no_live_request():
    with served() as (front, there):
        for _ in range(3):
            assert column(ask(front, "eccos")) != "think@low@batch"
        got = ask(front, "think@low@batch")
        assert (got.status_code, got.json()["error"]["code"]) == (404, "model_not_found")
        assert "that answers at once" in got.json()["error"]["message"]
        assert httpx.get(f"{front}/v1/models/think@low@batch").status_code == 404
        assert len(there.requests) == 3
    alone = Pool([LLM("a", 1, 4, lane="batch", endpoint=Endpoint("http://127.0.0.1:9/v1"))])
    with pytest.raises(PoolError, match="every model of the pool is a batch lane"):
        build_app(Router(alone, EveryColumn(alone.names, [0.7])))


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (400, {"error": {"message": "service_tier 'flex' is not available", "param": "service_tier"}}),
        (429, {"error": {"message": "Resource unavailable", "code": "resource_unavailable"}}),
        (498, {"error": {"message": "Flex tier capacity exceeded", "code": "capacity_exceeded"}}),
    ],
)
def test_a_lane_that_closes_is_left_for_another(status, said):
    def closing(body, path):
        return plain(said, status) if body.get("service_tier") else plain(COMPLETION)

    with served(closing) as (front, there):
        assert column(ask(front, reasoning_effort="low")) == "think@low"
        assert ["service_tier" in body for body in there.requests] == [True, False]
        stats = httpx.get(f"{front}/v1/stats").json()
        # Only the answer is booked, at the price of the lane that gave it.
        assert stats["spend"]["spent"] == pytest.approx((10 * 1.0 + 1000 * 4) / 1e6)


def test_an_answer_is_billed_at_the_tier_that_it_states():
    def downgraded(body, path):
        return plain({**COMPLETION, "service_tier": "default"})

    with served(downgraded) as (front, _):
        assert column(ask(front)) == "think@low@flex"
        spent = httpx.get(f"{front}/v1/stats").json()["spend"]["spent"]
        assert spent == pytest.approx((10 * 1.0 + 1000 * 4) / 1e6)


def test_gemini_is_asked_for_effort_and_lane_in_its_own_words():
    with served(lambda body, path: ANSWERS["gemini"]["hello"][0], "gemini") as (front, there):
        assert column(ask(front)) == "think@low@flex"
        sent = there.requests[-1]
        assert sent["generationConfig"]["thinkingConfig"] == {"thinkingLevel": "LOW"}
        assert sent["serviceTier"] == "flex"
        assert column(ask(front, reasoning_effort="high", temperature=0.5)) == "think@high"
        config = {"temperature": 0.5, "thinkingConfig": {"thinkingLevel": "HIGH"}}
        assert there.requests[-1]["generationConfig"] == config

    def refusing(body, path):
        if "thinkingConfig" in body.get("generationConfig", {}):
            return plain({"error": {"code": 400, "message": "thinking_level is not supported"}}, 400)
        return ANSWERS["gemini"]["hello"][0]

    with served(refusing, "gemini", columns=COLUMNS[:1]) as (front, there):
        assert [column(ask(front, "think", max_tokens=9)) for _ in range(2)] == ["think"] * 2
        assert [body["generationConfig"].get("thinkingConfig") for body in there.requests] == [
            {"thinkingLevel": "LOW"}, None, None,
        ]  # fmt: skip
        assert there.requests[-1]["generationConfig"] == {"maxOutputTokens": 9}


def test_anthropic_sells_no_lane_by_the_request():
    endpoint = Endpoint("http://127.0.0.1:9", kind="anthropic")
    pool = Pool([LLM("a", 1, 4, lane="flex", endpoint=endpoint)])
    with pytest.raises(PoolError, match="model 'a': an endpoint of kind anthropic sells no lane 'flex'"):
        build_app(Router(pool, EveryColumn(pool.names, [0.7])))


def test_columns_of_a_key_are_those_of_its_models(tmp_path):
    from eccos_rs.serve.keys import read_keys

    path = tmp_path / "keys.toml"
    path.write_text(
        'schema_version = 1\n[[key]]\nname = "a"\ntoken = "0123456789abcdef"\nmodels = ["think"]\n'
    )
    models = [LLM("think", 1.0, 4.0, **{k: v for k, v in c.items() if k != "input_price"}) for c in COLUMNS]
    assert read_keys(path, Pool(models))[0].models == NAMES[:3]
