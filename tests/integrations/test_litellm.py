"""Both adapters to LiteLLM, with the real package and a real endpoint on loopback."""

from __future__ import annotations

import asyncio

import pytest

from eccos_rs.errors import InputError, PoolError
from eccos_rs.pools.pool import Pool
from eccos_rs.session import SyncSession
from tests.helpers.litellm import (
    PRICES,
    WARNINGS,
    Endpoint,
    adapters,
    chat,
    deployments,
    endpoint,
    litellm,
    open_adapter,
    until,
)
from tests.helpers.sessions import population

__all__ = ["adapters", "endpoint", "litellm"]
pytestmark = WARNINGS


def test_prices_come_from_the_map(litellm):
    from eccos_rs.integrations.litellm import pool_from_model_list

    pool = pool_from_model_list(
        [
            {"litellm_params": {"model": "openai/gpt-4o", "rpm": 10, "max_parallel_requests": 2}},
            {"litellm_params": {"model": "azure/gpt-4o", "rpm": 5, "max_parallel_requests": 3}},
            {"litellm_params": {"model": "gpt-4o-mini", "tpm": 1000}},
            {
                "litellm_params": {
                    "model": "openai/own",
                    "input_cost_per_token": 0,
                    "output_cost_per_token": 0,
                }
            },
        ]
    )
    entry = litellm.model_cost["gpt-4o"]
    assert isinstance(pool, Pool)
    assert pool.names == ("gpt-4o", "gpt-4o-mini", "own")
    assert pool["gpt-4o"].input_price == pytest.approx(1e6 * entry["input_cost_per_token"])
    assert pool["gpt-4o"].output_price == pytest.approx(1e6 * entry["output_cost_per_token"])
    assert pool["gpt-4o"].context_window == entry["max_input_tokens"]
    assert pool["gpt-4o"].vision
    assert pool["gpt-4o"].tools
    assert (pool["gpt-4o"].slots, pool["gpt-4o"].requests_per_minute) == (5, 15)
    assert (pool["gpt-4o-mini"].slots, pool["gpt-4o-mini"].tokens_per_minute) == (None, 1000)
    assert (pool["own"].input_price, pool["own"].price_source) == (0.0, "stated")


def test_a_model_without_a_price_is_refused(litellm):
    from eccos_rs.integrations.litellm import pool_from_model_list

    with pytest.raises(PoolError, match="no input price of model 'openai/nobody-knows-it'"):
        pool_from_model_list([{"litellm_params": {"model": "openai/nobody-knows-it"}}])
    with pytest.raises(PoolError, match=r"litellm_params\.model"):
        pool_from_model_list([{"model_name": "x"}])


async def test_the_plugin_narrows_the_candidates(litellm, endpoint, adapters):
    from eccos_rs.integrations.litellm import EccosPlugin

    plugin = open_adapter(EccosPlugin, adapters, deployments(endpoint))
    router = litellm.Router(model_list=deployments(endpoint), plugins=[plugin], num_retries=0)
    metadata = {}
    answer = await router.acompletion("eccos", chat(), metadata=metadata)
    assert answer.model.endswith("large")
    assert Endpoint.asked == ["large"]
    cheap = open_adapter(EccosPlugin, adapters, deployments(endpoint), quality_value=0.0)
    router = litellm.Router(model_list=deployments(endpoint), plugins=[cheap], num_retries=0)
    await router.acompletion("eccos", chat())
    assert Endpoint.asked == ["large", "small"]
    await until(lambda: plugin.session.stats().in_flight == 0 and cheap.session.stats().in_flight == 0)
    stats = plugin.session.stats()
    assert stats.decisions == 1
    assert stats.models[2].record.realised_tokens == 42
    assert stats.spend == pytest.approx((population(512).input_tokens[3] * 2.5e-6) + 42 * 1e-5, rel=1e-6)


async def test_the_plugin_says_why_and_respects_earlier_plugins(litellm, endpoint, adapters):
    from litellm.types.router import RoutingContext

    from eccos_rs.integrations.litellm import EccosPlugin

    plugin = open_adapter(EccosPlugin, adapters, deployments(endpoint))
    context = RoutingContext(
        raw_messages=chat(), structured_messages=chat(), candidate_models=["openai/small", "openai/mid"]
    )
    context = await plugin.run(context)
    assert context.candidate_models == ["openai/mid"]
    said = context.signals["eccos"]
    assert said["model"] == "mid"
    assert said["runner_up"] == "small"
    assert "mid" in said["reason"]
    for others in (["openai/other"], ["openai/text-embedding-3-small", "openai/other"]):
        given = RoutingContext(raw_messages=chat(), structured_messages=chat(), candidate_models=others)
        untouched = await plugin.run(given)
        assert untouched.candidate_models == others
        assert "eccos" not in untouched.signals


async def test_the_strategy_chooses_the_deployment(litellm, endpoint, adapters):
    from eccos_rs.integrations.litellm import EccosStrategy

    router = litellm.Router(model_list=deployments(endpoint), num_retries=0)
    strategy = open_adapter(EccosStrategy, adapters, deployments(endpoint))
    strategy.install(router)
    answer = await router.acompletion("eccos", chat())
    assert answer.choices[0].message.content == "hello"
    assert Endpoint.asked == ["large"]
    stream = await router.acompletion("eccos", chat(), stream=True)
    assert "".join([part.choices[0].delta.content or "" async for part in stream]) == "one two"
    await until(lambda: strategy.session.stats().in_flight == 0)
    assert strategy.session.stats().decisions == 2
    with pytest.raises(InputError, match="no deployment"):
        await strategy._router.async_get_available_deployment("nobody", messages=chat(), request_kwargs={})


def test_the_strategy_serves_synchronous_calls(litellm, endpoint, adapters):
    from eccos_rs.integrations.litellm import EccosStrategy

    router = litellm.Router(model_list=deployments(endpoint), num_retries=0)
    strategy = open_adapter(EccosStrategy, adapters, deployments(endpoint))
    strategy.install(router)
    assert router.completion("eccos", chat()).choices[0].message.content == "hello"
    asyncio.run(until(lambda: strategy.session.stats().in_flight == 0))
    assert strategy.session.stats().decisions == 1


async def test_slots_hold_while_requests_run(litellm, endpoint, adapters):
    from eccos_rs.integrations.litellm import EccosStrategy

    Endpoint.delay = 0.05
    limited = deployments(endpoint, **{name: {"max_parallel_requests": 2} for name in PRICES})
    router = litellm.Router(model_list=limited, num_retries=0)
    strategy = open_adapter(EccosStrategy, adapters, limited)
    strategy.install(router)
    most = 0

    async def watch():
        nonlocal most
        while True:
            most = max([most, *(model.in_flight for model in strategy.session.session.stats().models)])
            await asyncio.sleep(0.005)

    watching = asyncio.create_task(watch())
    await asyncio.gather(*(router.acompletion("eccos", chat(str(at))) for at in range(12)))
    watching.cancel()
    assert most == 2
    await until(lambda: strategy.session.stats().in_flight == 0)
    assert strategy.session.stats().decisions == 12


async def test_a_failed_attempt_gives_its_slot_back_and_the_retry_goes_elsewhere(litellm, endpoint, adapters):
    from eccos_rs.integrations.litellm import EccosStrategy

    Endpoint.broken = frozenset(["large"])
    # LiteLLM itself would let the only failing deployment cool down; the choice of another is ours.
    router = litellm.Router(
        model_list=deployments(endpoint, **{name: {"max_retries": 0} for name in PRICES}),
        num_retries=2, retry_after=0, disable_cooldowns=True,
    )  # fmt: skip
    strategy = open_adapter(EccosStrategy, adapters, deployments(endpoint))
    strategy.install(router)
    answer = await router.acompletion("eccos", chat())
    assert answer.choices[0].message.content == "hello"
    assert Endpoint.asked[0] == "large"
    assert Endpoint.asked[-1] == "mid"
    await until(lambda: strategy.session.stats().in_flight == 0)
    assert strategy.session.stats().failures >= 1


async def test_a_request_that_is_never_reported_gives_its_slot_back(litellm, endpoint, adapters):
    from litellm.types.router import RoutingContext

    from eccos_rs.integrations.litellm import EccosPlugin

    plugin = open_adapter(EccosPlugin, adapters, deployments(endpoint), hold=0.05)
    await plugin.run(
        RoutingContext(raw_messages=chat(), structured_messages=chat(), candidate_models=["openai/mid"])
    )
    assert plugin.session.stats().in_flight == 1
    await until(lambda: plugin.session.stats().in_flight == 0)


def test_closing_takes_the_callback_out(litellm, endpoint):
    from eccos_rs.integrations.litellm import EccosStrategy

    adapter = open_adapter(EccosStrategy, [], deployments(endpoint))
    assert adapter.logger in litellm.callbacks
    adapter.close()
    assert adapter.logger not in litellm.callbacks
    assert isinstance(adapter.session, SyncSession)
