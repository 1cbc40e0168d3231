"""The operator's page, in a real browser."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from eccos_rs.pools.pool import LLM, Endpoint, Pool
from eccos_rs.serve import app as serving
from eccos_rs.serve.board import StatusBoard
from tests.helpers.browser import browser
from tests.helpers.scripted import COMPLETION, Scripted, plain
from tests.helpers.serving import MODELS, chat, running
from tests.serve.test_gateway import gateway

CONTRAST = "getComputedStyle(document.body).backgroundColor"
HOSTILE = """fetch('v1/stats').then(answer => answer.json()).then(s => {
  s.models[0].name = %r; s.model_details[%r] = s.model_details.small; s.policy = %r;
  s.alarms = [{name: %r, message: %r}]; s.decisions = [{at: 1, reason: %r, conversation: %r}];
  s.savings = [{everything_to: %r, cost: 1, spent: 1, saved: 0}]; show(s); })"""
WIDER = "document.documentElement.scrollWidth > document.documentElement.clientWidth"


@pytest.fixture
def served(monkeypatch):
    monkeypatch.setattr(serving, "SAMPLE_SECONDS", 0.3)
    bad = {"large"}

    def answer(body, path):
        return plain({"error": {"message": "x"}}, 500) if body["model"] in bad else plain(COMPLETION)

    with running(Scripted(answer), lifespan="off", log_level="critical") as url:
        endpoint = Endpoint(f"{url}/v1")
        pool = Pool(
            [
                LLM(name, price, 4 * price, slots=8, requests_per_minute=900, endpoint=endpoint)
                for name, price in zip(MODELS, (1, 10), strict=True)
            ]
        )
        with gateway(pool, baseline="large") as front:
            yield front


def ask(front, text="hi", model="small"):
    return httpx.post(f"{front}/v1/chat/completions", json=chat(text, model), timeout=20)


async def test_figures_appear_move_and_survive_a_reload(served):
    for _ in range(3):
        await asyncio.to_thread(ask, served)
    await asyncio.to_thread(ask, served, "hi", "large")  # fails
    async with browser(f"{served}/") as page:
        await page.until("document.querySelectorAll('.model').length === 2")
        text = await page.ask("document.body.innerText")
        for wanted in (
            "saved against all to large",
            "is the only model",
            "0 / 1 / 0 / 0",
            "min_quality",
            "version",
            "requests per minute",
        ):
            assert wanted in text, text
        assert "94.6 %" in text  # 56 in place of 1,040: twice the tokens at ten times the price
        before = await page.ask("document.querySelector('#tiles').innerText")
        await asyncio.to_thread(ask, served)
        await page.until(f"document.querySelector('#tiles').innerText !== {before!r}")
        await page.until(
            "document.querySelectorAll('#rate polyline')[0].getAttribute('points').split(' ').length >= 3"
        )
        for chart in ("rate", "quality", "spend"):
            assert await page.ask(f"document.querySelectorAll('#{chart} .zero').length") == 1
            assert await page.ask(f"document.querySelectorAll('#{chart} text').length") == 5
        await page.call("Page.reload")
        await page.until("document.querySelectorAll('.decision').length >= 4")
        points = await page.ask(
            "document.querySelectorAll('#rate polyline')[0].getAttribute('points').split(' ').length"
        )
        assert points >= 3, "the history is gone with the page"
        light = await page.ask(CONTRAST)
        await page.scheme("dark")
        assert await page.ask(CONTRAST) != light
        for width in (320, 390, 1400):
            await page.size(width, 800)
            await asyncio.sleep(0.3)
            assert not await page.ask(WIDER), f"a screen of {width} pixels scrolls sideways"
        assert page.errors == []
        assert {url.split("/", 3)[2] for url in page.urls} == {served.split("//")[1]}


def test_a_model_of_a_hostile_name_does_nothing():
    asyncio.run(_hostile())


async def _hostile():
    evil = "<img src=x onerror=window.bad=1>"

    with running(Scripted(lambda *_: plain(COMPLETION)), lifespan="off") as url:
        endpoint = Endpoint(f"{url}/v1")
        pool = Pool([LLM(name, 1, 4, endpoint=endpoint) for name in MODELS])
        with gateway(pool) as front:
            async with browser(f"{front}/") as page:
                await page.until("document.querySelectorAll('.model').length === 2")
                await page.ask(HOSTILE % ((evil,) * 8))
                assert evil in await page.ask("document.body.innerText")
                assert await page.ask("document.querySelectorAll('img, script').length") == 1
                assert await page.ask("window.bad === undefined")


def test_the_board_counts_what_everything_would_have_cost():
    class Lease:
        model, cost, costs, forecasts = "small", 1.0, [1.0, 8.0], [0.6, 0.9]

    board = StatusBoard([LLM("small", 1, 1), LLM("large", 8, 8)], "p")
    assert board.savings() == []
    for _ in range(4):
        board.answered(Lease, 2.0, 0.1, 0.2)
    saved = board.savings()
    assert saved == [
        {"everything_to": "large", "cost": 64.0, "spent": 8.0, "saved": 0.875, "quality": pytest.approx(0.9)}
    ]
