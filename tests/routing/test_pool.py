"""Who may answer: the pool and its file."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eccos_rs import LLM, Endpoint, Pool, PoolError
from tests.helpers.paths import DATA

HOSTILE = DATA / "hostile"

FULL = LLM(
    "gpt",
    2.5,
    10.0,
    cached_input_price=1.25,
    context_window=128_000,
    vision=True,
    tools=True,
    slots=8,
    requests_per_minute=500,
    tokens_per_minute=2e6,
    endpoint=Endpoint("https://api.example.org/v1", model="gpt-4o", api_key_env="KEY", headers={"X-A": "b"}),
    price_source="https://example.org/prices",
    price_date="2026-10-01",
    effort="low",
)


def test_a_pool_is_a_sequence_with_names():
    pool = Pool([LLM("a", 1, 2), FULL])
    assert pool.names == ("a", "gpt")
    assert len(pool) == 2
    assert pool["gpt"] is pool[1] is FULL
    assert [model.name for model in pool] == ["a", "gpt"]
    assert "gpt" in pool
    assert FULL in pool
    assert "b" not in pool
    assert pool.index("gpt") == pool.index(FULL) == 1
    assert pool.select(["gpt"]).names == ("gpt",)
    assert pool.replace("a", slots=3)["a"].slots == 3


def test_a_pool_comes_back_from_its_file(tmp_path):
    pool = Pool([FULL, LLM("own", 0, 0)])
    (tmp_path / "pool.toml").write_text(pool.to_toml(), encoding="utf-8")
    assert Pool.load(tmp_path / "pool.toml") == pool
    assert pickle.loads(pickle.dumps(pool)) == pool


@given(
    st.lists(
        st.tuples(st.text(min_size=1).filter(str.strip), st.floats(0, 1e6), st.floats(0, 1e6)),
        min_size=1,
        max_size=4,
        unique_by=lambda row: row[0],
    )
)
def test_any_name_and_price_comes_back(rows):
    pool = Pool([LLM(*row) for row in rows])
    assert Pool.from_toml(pool.to_toml()) == pool


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"name": ""}, "needs a name"),
        ({"name": 3}, "needs a name"),
        ({"input_price": None}, "input_price of model 'm' is missing"),
        ({"output_price": -1}, "output_price of model 'm' must be a finite number of at least 0, got -1"),
        ({"output_price": float("nan")}, "output_price of model 'm'"),
        ({"input_price": "1"}, "input_price of model 'm' must be a finite number"),
        ({"context_window": 0}, "context_window of model 'm' must be a finite number greater than 0"),
        ({"slots": 1.5}, "slots of model 'm' must be a whole number, got 1.5"),
        ({"vision": "yes"}, "vision of model 'm' must be true or false"),
        ({"endpoint": "http://x"}, "endpoint of model 'm' must be an Endpoint"),
        ({"effort": 3}, "effort of model 'm' must be a text"),
    ],
)
def test_a_malformed_model_is_refused_by_name(fields, sentence):
    with pytest.raises(PoolError, match=sentence):
        LLM(**({"name": "m", "input_price": 1.0, "output_price": 2.0} | fields))


def test_a_malformed_endpoint_is_refused():
    with pytest.raises(PoolError, match="base_url must begin with http"):
        Endpoint("api.example.org")
    with pytest.raises(PoolError, match="timeout must be a finite number greater than 0"):
        Endpoint("http://x", timeout=0)
    with pytest.raises(PoolError, match="headers must map names to texts"):
        Endpoint("http://x", headers={"a": 1})


def test_an_empty_pool_a_stranger_and_a_twin_are_refused():
    with pytest.raises(PoolError, match="at least one model"):
        Pool([])
    with pytest.raises(PoolError, match="must be an LLM, got str"):
        Pool(["gpt"])
    with pytest.raises(PoolError, match="'a' is in the pool twice"):
        Pool([LLM("a", 1, 1), LLM("a", 2, 2)])


def test_an_unknown_model_is_told_with_the_near_one():
    pool = Pool([LLM("gpt-4o", 1, 1), LLM("llama", 1, 1)])
    with pytest.raises(PoolError, match="no model 'gpt-4' in the pool; did you mean 'gpt-4o'"):
        pool["gpt-4"]
    with pytest.raises(PoolError, match="no model 'zzz' in the pool; known are gpt-4o, llama"):
        pool.select(["zzz"])
    with pytest.raises(PoolError, match="sequence of names"):
        pool.select("gpt-4o")


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        ("typo.toml", "unknown key 'input_pric' in model 'small'; did you mean 'input_price'"),
        ("typo_name.toml", "unknown key 'nmae' in model 0; did you mean 'name'"),
        ("typo_endpoint.toml", "unknown key 'base_ulr' in the endpoint of model 'small'.*'base_url'"),
        ("typo_table.toml", "unknown key 'models' in the file; did you mean 'model'"),
        ("no_price.toml", "output_price of model 'large' is missing"),
        ("no_version.toml", "schema_version must be 1, got none"),
        ("newer.toml", "schema_version must be 1, got 2"),
        ("no_models.toml", r"one \[\[model\]\] table for each model"),
        ("twice.toml", "'small' is in the pool twice"),
        ("broken.toml", "not valid TOML"),
        ("latin1.toml", "not UTF-8 text"),
        ("not_there.toml", "No such file or directory"),
        (".", "directory"),
    ],
)
def test_a_bad_file_is_refused_with_its_name_and_the_reason(file, sentence):
    with pytest.raises(PoolError, match=sentence) as caught:
        Pool.load(HOSTILE / file)
    assert str(HOSTILE / file) in str(caught.value)
