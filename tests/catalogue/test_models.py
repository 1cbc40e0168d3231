"""Models by name: prices, lanes, steps, abilities; the price map's traps; near names for the unknown."""

from __future__ import annotations

import datetime

import pytest

from eccos_rs import LLM, Pool, PoolError
from eccos_rs.catalogue.models import catalogue, days_old


def test_a_model_of_today_comes_with_prices_window_and_abilities() -> None:
    model = Pool.of("gpt-5-mini")["gpt-5-mini"]
    assert 0 < model.cached_input_price < model.input_price < model.output_price
    assert model.context_window > 100_000
    assert model.vision
    assert model.tools
    assert model.cache_minimum == 1024
    assert model.endpoint.model == "gpt-5-mini"
    assert model.endpoint.api_key_env == "OPENAI_API_KEY"
    assert "litellm" in model.price_source
    assert days_old(model.price_date, datetime.date(2030, 1, 1)) > 90


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("openai/gpt-5-mini", "gpt-5-mini"),
        ("anthropic/claude-opus-5.5", "claude-opus-5-5"),
        ("Claude Opus 5.5", "claude-opus-5-5"),
        ("claude-4.5-sonnet", "claude-sonnet-4-5"),
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5-20250929"),
        ("vertex_ai/claude-opus-5.5", "vertex_ai/claude-opus-5-5"),
        ("gemini-2.5-flash", "gemini/gemini-2.5-flash"),
        ("azure/gpt-5-mini", "azure/gpt-5-mini"),
        ("glm-5.3", "zai/glm-5.3"),
        ("qwen3-235b", "deepinfra/Qwen/Qwen3-235B-A22B"),
        ("meta-llama/Llama-3.1-8B-Instruct", "deepinfra/meta-llama/Meta-Llama-3.1-8B-Instruct"),
        ("us.anthropic.claude-opus-4-5-20251101-v1:0", "us.anthropic.claude-opus-4-5-20251101-v1:0"),
    ],
)
def test_a_spelling_finds_the_entry_that_is_meant(name: str, key: str) -> None:
    assert catalogue().model(name).key == key


def test_an_alias_has_the_price_of_what_it_stands_for() -> None:
    table = catalogue()
    assert table.model("claude-opus-latest").prices == table.model("claude-opus-5-5").prices


def test_no_entry_has_a_price_of_nothing_but_on_ones_own_machine() -> None:
    table = catalogue()
    for key in table:
        model = table.get(key)
        if model is not None and model.prices is not None and not model.provider.startswith("ollama"):
            free = model.prices.input == 0 or model.prices.output == 0
            assert not free or model.provider == "lemonade", key


def test_a_model_without_a_price_is_refused() -> None:
    with pytest.raises(PoolError, match="no price of its own for azure_ai/model_router"):
        Pool.of("azure_ai/model_router")


def test_tiers_start_with_their_first_step() -> None:
    model = Pool.of("qwen3-max")[0]
    assert [step.above for step in model.price_steps] == [32_000, 128_000]
    assert model.input_price < model.price_steps[0].input_price < model.price_steps[1].input_price


def test_long_prompts_of_todays_models_cost_more() -> None:
    model = Pool.of("gpt-5.6-sol")[0]
    assert model.price_steps[0].above == 272_000
    assert model.price_steps[0].input_price == pytest.approx(2 * model.input_price)
    assert model.cache_write_price > model.input_price


@pytest.mark.parametrize(("lane", "share"), [("batch", 0.5), ("flex", 0.5), ("priority", 1.75)])
def test_a_lane_has_its_own_price(lane: str, share: float) -> None:
    pool = Pool.of("o3", f"o3@{lane}")
    assert pool.names == ("o3", f"o3@{lane}")
    assert pool[1].output_price == pytest.approx(share * pool[0].output_price)
    assert pool[1].key == ("o3", None, lane)
    assert pool[1].lane_hours == (24 if lane == "batch" else None)


def test_efforts_are_columns_of_one_model() -> None:
    pool = Pool.of("o3@low", "o3@high", "gpt-5-mini")
    assert pool.names == ("o3@low", "o3@high", "gpt-5-mini")
    assert pool.columns("o3") == (0, 1)
    assert pool["o3@low"].endpoint.model == "o3"
    with pytest.raises(PoolError, match="in the pool as o3@low, o3@high; name one of them"):
        pool["o3"]


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (("gpt-5-minni",), r"knows no model 'gpt-5-minni' \(near: gpt-5-mini,"),
        (("claude-opus-6",), "near: .*claude-opus-5-5"),
        (("gpt-6",), "near: .*gpt-6-"),
        (("zzz",), r"knows no model 'zzz'\. A model of your own"),
        (("gpt-4o-2025-01-01",), "knows no model 'gpt-4o-2025-01-01'"),
        (("o3@max",), "o3 takes low, medium, high, got 'max'"),
        (("gpt-4o@low",), "takes no reasoning effort, got 'low'"),
        (("gpt-4o-mini@flex",), "no flex lane"),
        (("gpt-5-mini", "openai/gpt-5-mini"), "are the same model"),
        (("claude-sonnet-4.5", "claude-4.5-sonnet"), "are the same model"),
        (("gpt-5-mini", "gpt-5-mini-2025-08-07"), "are the same model"),
        (("anthropic/claude-sonnet-4-5-20250929", "claude-sonnet-4.5"), "are the same model"),
        (
            ("claude-sonnet-4.5", "claude-sonnet-4-5-20250929@batch", "claude-sonnet-4.5@batch"),
            "are the same",
        ),
        (("mistral-large-latest", "mistral-large-2512"), "are the same model"),
        (("",), "a name or an LLM"),
        ((3,), "a name or an LLM, got 3"),
        ((), "at least one model"),
    ],
)
def test_what_cannot_be_had_is_told(names: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(PoolError, match=sentence):
        Pool.of(*names)


@pytest.mark.parametrize(
    "names",
    [
        ("gpt-4o", "gpt-4o-2024-08-06"),  # of three releases: which one the plain name is has moved
        ("gpt-4o-2024-05-13", "gpt-4o-2024-08-06"),
        ("gpt-5-mini", "azure/gpt-5-mini"),
        ("gpt-5-mini", "gpt-5-mini@low"),
        ("claude-sonnet-4.5", "claude-sonnet-4.5@batch"),
    ],
)
def test_what_may_differ_stands_side_by_side(names: tuple[str, ...]) -> None:
    assert len(Pool.of(*names)) == 2


def test_a_model_of_ones_own_stands_beside_those_of_the_catalogue() -> None:
    pool = Pool.of("gpt-5-mini", LLM("mine", 0, 0))
    assert pool.names == ("gpt-5-mini", "mine")


def test_the_default_effort_and_what_is_refused_are_told() -> None:
    assert catalogue().model("gpt-5.4").default_effort == "none"
    assert catalogue().model("claude-opus-5.5").refuses == ("sampling", "forced_tools")
    assert catalogue().model("claude-opus-5.5").efforts == ("low", "medium", "high", "xhigh", "max")
    assert catalogue().model("claude-haiku-4-5").efforts == ()


@pytest.mark.parametrize(("date", "days"), [("2026-11-27", 3), ("2026-11", 29), ("soon", None), (None, None)])
def test_the_age_of_a_price(date: str | None, days: int | None) -> None:
    assert days_old(date, datetime.date(2026, 11, 30)) == days


def test_prices_of_another_day() -> None:
    pytest.importorskip("genai_prices")
    then, now = Pool.of("o3", price_date="2025-05-01")[0], Pool.of("o3")[0]
    assert (then.input_price, then.output_price) == (10.0, 40.0)
    assert then.input_price > now.input_price
    assert then.price_date == "2025-05-01"
    assert then.price_source.startswith("genai-prices")
    with pytest.raises(PoolError, match="price_date must be a day"):
        Pool.of("o3", price_date="yesterday")
    with pytest.raises(PoolError, match="standard lane alone"):
        Pool.of("o3@batch", price_date="2025-05-01")
    with pytest.raises(PoolError, match="genai-prices knows no price of"):
        Pool.of("snowflake/llama3.1-8b", price_date="2025-05-01")
