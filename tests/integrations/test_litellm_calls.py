"""LiteLLM as it is used: every ending of a call, other groups, several deployments, its configuration."""

from __future__ import annotations

import asyncio
import gc
import time

import pytest

from eccos_rs.errors import PoolError
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

__all__ = ["adapters", "endpoint", "litellm"]
pytestmark = WARNINGS


def opened(litellm, adapters, models, **options):
    from eccos_rs.integrations.litellm import EccosStrategy

    router = litellm.Router(model_list=models, num_retries=0, **options)
    strategy = open_adapter(EccosStrategy, adapters, models)
    strategy.install(router)
    return router, strategy


def idle(strategy):
    # The session's own thread books a release a moment after it was made.
    end = time.monotonic() + 5
    while strategy.session.stats().in_flight and time.monotonic() < end:
        time.sleep(0.01)
    assert strategy.session.stats().in_flight == 0
    assert not strategy._leases
    assert not +strategy._busy


async def test_200_calls_leave_no_lease(litellm, endpoint, adapters):
    limited = deployments(endpoint, **{name: {"max_parallel_requests": 2} for name in PRICES})
    router, strategy = opened(litellm, adapters, limited)
    for _ in range(10):
        await asyncio.gather(*(router.acompletion("eccos", chat(str(at))) for at in range(20)))
    idle(strategy)
    assert strategy.session.stats().decisions == 200


async def test_cancelled_callers_leave_no_lease(litellm, endpoint, adapters):
    Endpoint.delay = 1.0
    router, strategy = opened(litellm, adapters, deployments(endpoint))
    calls = [asyncio.create_task(router.acompletion("eccos", chat(str(at)))) for at in range(10)]
    await until(lambda: strategy.session.stats().in_flight == 10)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    idle(strategy)
    assert strategy.session.stats().failures == 0


@pytest.mark.parametrize("ending", ["closed", "dropped", "read", "failed"])
async def test_streams_leave_no_lease_however_they_end(litellm, endpoint, adapters, ending):
    router, strategy = opened(litellm, adapters, deployments(endpoint))
    for _ in range(5):
        stream = await router.acompletion("eccos", chat(), stream=True)
        assert isinstance(stream, litellm.CustomStreamWrapper)
        if ending == "read":
            assert "".join([part.choices[0].delta.content or "" async for part in stream]) == "one two"
        else:
            async for _part in stream:
                break
            assert strategy.session.stats().in_flight == 1
        if ending == "closed":
            await stream.aclose()
        elif ending == "failed":
            with pytest.raises(RuntimeError, match="the caller"):
                await fails(stream)
        del stream
        gc.collect()
        await until(lambda: strategy.session.stats().in_flight == 0)
    idle(strategy)


async def fails(stream):
    async for _part in stream:
        raise RuntimeError("the caller")


def test_a_synchronous_stream_leaves_no_lease(litellm, endpoint, adapters):
    router, strategy = opened(litellm, adapters, deployments(endpoint))
    stream = router.completion("eccos", chat(), stream=True)
    assert "".join(part.choices[0].delta.content or "" for part in stream) == "one two"
    idle(strategy)
    stream = router.completion("eccos", chat(), stream=True)
    next(iter(stream))
    del stream
    gc.collect()
    idle(strategy)


async def test_errors_leave_no_lease(litellm, endpoint, adapters):
    Endpoint.broken = frozenset(PRICES)
    once = {name: {"max_retries": 0} for name in PRICES}
    router, strategy = opened(litellm, adapters, deployments(endpoint, **once), disable_cooldowns=True)
    for _ in range(3):
        with pytest.raises(litellm.InternalServerError):
            await router.acompletion("eccos", chat())
    idle(strategy)
    assert strategy.session.stats().failures == 3


async def test_other_groups_pass_through(litellm, endpoint, adapters):
    from eccos_rs.integrations.litellm import EccosStrategy

    other = {"model": "openai/unheard-of", "api_base": endpoint, "api_key": "none"}
    embedder = {"model_name": "embed", "litellm_params": {**other, "model": "openai/my-embedder"}}
    models = [*deployments(endpoint), {"model_name": "other", "litellm_params": other}, embedder]
    router = litellm.Router(model_list=models, num_retries=0)
    strategy = open_adapter(EccosStrategy, adapters, models)
    strategy.install(router)
    assert strategy.session.session.pool.names == tuple(PRICES)
    await router.acompletion("other", chat())
    assert Endpoint.asked == ["unheard-of"]
    from litellm.types.router import Deployment, LiteLLM_Params

    added = LiteLLM_Params(model="openai/late", api_base=endpoint, api_key="none")
    router.add_deployment(Deployment(model_name="late", litellm_params=added))
    await router.acompletion("late", chat())
    assert Endpoint.asked[-1] == "late"
    assert strategy.session.stats().decisions == 0
    idle(strategy)


async def test_a_failed_deployment_is_left_for_the_least_busy_other(litellm, endpoint, adapters):
    from eccos_rs.integrations.litellm import EccosStrategy

    twins = [each for each in deployments(endpoint) if "large" in each["litellm_params"]["model"]] * 2
    dead = {**twins[0]["litellm_params"], "api_base": "http://127.0.0.1:9/v1", "max_retries": 0}
    models = [{**twins[0], "litellm_params": dead}, *twins[1:], *deployments(endpoint)[:2]]
    router = litellm.Router(model_list=models, num_retries=2, retry_after=0, disable_cooldowns=True)
    strategy = open_adapter(EccosStrategy, adapters, models)
    strategy.install(router)
    for _ in range(4):
        assert (await router.acompletion("eccos", chat())).model.endswith("large")
    assert set(Endpoint.asked) == {"large"}
    idle(strategy)


def test_numbers_and_aliases_are_read_as_the_proxy_writes_them(litellm, monkeypatch):
    from eccos_rs.integrations.litellm import pool_from_model_list

    monkeypatch.setenv("RPM", "30")
    models = [
        {
            "litellm_params": {
                "model": "openai/gpt-4o",
                "rpm": "os.environ/RPM",
                "max_parallel_requests": "20",
            }
        },
        {
            "litellm_params": {"model": "azure/my-deployment", "api_base": "os.environ/AZ", "rpm": 5},
            "model_info": {"base_model": "azure/gpt-4o-mini", "max_input_tokens": "1000"},
        },
        {"model_name": "embed", "litellm_params": {"model": "openai/my-embedder"}},
    ]
    pool = pool_from_model_list(models, known=["gpt-4o", "gpt-4o-mini"])
    assert pool.names == ("gpt-4o", "gpt-4o-mini")
    assert (pool["gpt-4o"].requests_per_minute, pool["gpt-4o"].slots) == (30, 20)
    entry = litellm.model_cost["azure/gpt-4o-mini"]
    assert pool["gpt-4o-mini"].input_price == pytest.approx(1e6 * entry["input_cost_per_token"])
    assert pool["gpt-4o-mini"].context_window == 1000
    with pytest.raises(PoolError, match=r"rpm of model 'openai/gpt-4o' must be a number.*'many'"):
        pool_from_model_list([{"litellm_params": {"model": "openai/gpt-4o", "rpm": "many"}}])
    monkeypatch.delenv("RPM")
    with pytest.raises(PoolError, match="the environment variable RPM is not set"):
        pool_from_model_list(models[:1])
    with pytest.raises(PoolError, match="none of the models 'openai/my-embedder' is known"):
        pool_from_model_list(models[2:], known=["gpt-4o"])
