"""How like known ground requests are: on answers, in figures, on the page; with the shipped predictor."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import contextmanager

import httpx
import pytest

from eccos_rs.pools.pool import Pool
from eccos_rs.routing.policy import Policy
from eccos_rs.routing.router import Router
from eccos_rs.serve.app import GatewaySettings, build_app
from eccos_rs.serve.tracing import request_log
from tests.helpers.browser import browser
from tests.helpers.scripted import COMPLETION, Scripted, plain
from tests.helpers.serving import chat, pool_at, running
from tests.serve.test_gateway import gateway

KNOWN = "A farmer has 12 apples and buys 5 more bags of 8 apples each. How many apples does he have in total?"
UNLIKE = "kva ska vi ha til middag i kveld, skatten? eg e so lei av fisk"
WARNING = "this query is unlike anything learned; its figures rest on each model's mean"


@contextmanager
def knowing_gateway(**settings):
    with running(Scripted(lambda *_: plain(COMPLETION)), lifespan="off") as url:
        pool = Pool(pool_at(url)).with_scores("small", {"mmlu_pro": 0.6})
        pool = pool.with_scores("large", {"mmlu_pro": 0.8})
        router = Router.day_one(pool, policy=Policy(min_quality=0.0, overload="raise"))
        with running(build_app(router, GatewaySettings(**settings))) as front:
            yield front


@pytest.fixture(scope="module")
def front():
    with knowing_gateway() as address:
        yield address


def ask(front, text):
    return httpx.post(f"{front}/v1/chat/completions", json=chat(text), timeout=20)


def test_a_decision_says_how_like_known_ground_its_query_is(front):
    known, unlike = (
        httpx.post(f"{front}/v1/route", json=chat(text), timeout=20).json() for text in (KNOWN, UNLIKE)
    )
    assert 0.6 < known["similarity"] <= 1
    assert known["familiar"] == 1
    assert known["warnings"] == []
    assert unlike["similarity"] < 0.46
    assert unlike["familiar"] == 0
    assert unlike["warnings"] == [WARNING]


def test_the_answer_carries_the_similarity_and_the_log_too(front, caplog):
    caplog.set_level(logging.INFO, request_log.name)
    decided = httpx.post(f"{front}/v1/route", json=chat(UNLIKE), timeout=20).json()
    told = float(ask(front, UNLIKE).headers["x-eccos-similarity"])
    assert told == pytest.approx(decided["similarity"], abs=1e-3)
    lines = [json.loads(each.getMessage()) for each in caplog.records if each.name == request_log.name]
    assert lines[-1]["similarity"] == pytest.approx(told, abs=1e-4)


async def test_traffic_unlike_anything_learned_is_said_by_metrics_figures_and_page():
    with knowing_gateway() as front:
        before = httpx.get(f"{front}/v1/stats").json()["ground"]
        assert before == {"familiar": None, "recent": 0, "warning": None}
        for number in range(5):
            await asyncio.to_thread(ask, front, f"{UNLIKE} {number}")
        await asyncio.to_thread(ask, front, KNOWN)
        ground = httpx.get(f"{front}/v1/stats").json()["ground"]
        assert ground["familiar"] == pytest.approx(1 / 6)
        assert ground["recent"] == 6
        assert ground["warning"].startswith("83% of these queries are unlike anything learned")
        metrics = httpx.get(f"{front}/metrics").text
        assert 'eccos_queries_by_ground_total{ground="known"} 1.0' in metrics
        assert 'eccos_queries_by_ground_total{ground="unlike"} 5.0' in metrics
        assert "eccos_familiar_share 0.1666" in metrics
        async with browser(f"{front}/") as page:
            await page.until("document.body?.innerText.includes('unlike anything learned')")
            text = await page.ask("document.querySelector('#tiles').innerText")
            assert "like known ground\n16.7 %" in text
            assert page.errors == []


def test_a_predictor_that_does_not_say_leaves_it_open():
    with (
        running(Scripted(lambda *_: plain(COMPLETION)), lifespan="off") as url,
        gateway(pool_at(url)) as front,
    ):
        decided = httpx.post(f"{front}/v1/route", json=chat(UNLIKE)).json()
        assert (decided["similarity"], decided["familiar"], decided["warnings"]) == (None, None, [])
        assert "x-eccos-similarity" not in ask(front, UNLIKE).headers
        assert httpx.get(f"{front}/v1/stats").json()["ground"]["familiar"] is None
        metrics = httpx.get(f"{front}/metrics").text
    assert "eccos_familiar_share" not in metrics
    assert 'eccos_queries_by_ground_total{ground="unlike"} 0.0' in metrics
