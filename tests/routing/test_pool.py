"""Who may answer: the pool and its file."""

from __future__ import annotations

import json
import pickle
import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eccos_rs import LLM, Endpoint, Pool, PoolError
from eccos_rs.domain.endpoint import read_headers, read_key
from tests.helpers.paths import DATA

if TYPE_CHECKING:
    from pathlib import Path

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


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://127.0.0.1:99999/v1", "Port out of range"),
        ("http://127.0.0.1:0/v1", r"port in \[1, 65535\], got 0"),
        ("http://127.0.0.1:x/v1", "cannot be read"),
        ("http:///v1", "must name a host"),
        ("http://a b/v1", "must name a host and hold no spaces"),
        ("http://a/v1\nx", "must name a host and hold no spaces"),
        ("http://[::1/v1", "cannot be read"),
    ],
)
def test_an_address_that_cannot_be_one_is_refused_by_the_models_name(url, sentence):
    text = Pool([LLM("m", 1, 2, endpoint=Endpoint("http://there"))]).to_toml()
    text = text.replace(json.dumps("http://there"), json.dumps(url))
    with pytest.raises(PoolError, match="model 'm'") as refused:
        Pool.from_toml(text)
    assert re.search(sentence, str(refused.value))


@pytest.mark.parametrize("key", ["sk-proj-not-a-real-key-0000", "sk ant", "a.b", ""])
def test_a_key_in_place_of_its_variable_is_not_repeated(key):
    with pytest.raises(PoolError, match="name of an environment variable") as refused:
        Endpoint("http://x", api_key_env=key)
    assert not key or key not in str(refused.value)


@pytest.mark.parametrize(
    "name",
    [
        "gsk_abcDEF1234567890abcDEF1234567890",
        "AIzaSyD0000000000000000000000000000000",
        "AKIA0000000000000000",
    ],
)
def test_a_key_that_could_be_a_variables_name_is_not_repeated_either(name):
    with pytest.raises(PoolError, match="'m': the variable with its key is not set") as refused:
        read_key(Endpoint("http://x", api_key_env=name), "m")
    assert name not in str(refused.value)


def test_a_key_is_stripped_and_checked(monkeypatch):
    endpoint = Endpoint("http://x", api_key_env="SOME_KEY")
    with pytest.raises(PoolError, match="'m': the environment variable SOME_KEY with its key is not set"):
        read_key(endpoint, "m")
    monkeypatch.setenv("SOME_KEY", " sk-test\r\n")
    assert read_key(endpoint, "m") == "sk-test"
    for bad in ("sk\ntest", "sk-\x00", "sk-ключ"):
        monkeypatch.setattr("os.environ", {"SOME_KEY": bad})
        with pytest.raises(PoolError, match="SOME_KEY") as refused:
            read_key(endpoint, "m")
        assert bad not in str(refused.value)


def test_headers_take_values_from_the_environment(monkeypatch):
    endpoint = Endpoint("http://x", headers={"API-Key": "${SOME_KEY}", "x-a": "k ${SOME_KEY}!"})
    with pytest.raises(PoolError, match="header 'API-Key': the environment variable SOME_KEY is not set"):
        read_headers(endpoint, "m")
    monkeypatch.setenv("SOME_KEY", "secret\n")
    assert read_headers(endpoint, "m") == {"api-key": "secret", "x-a": "k secret!"}
    assert "SOME_KEY" not in repr(Endpoint("http://x", headers={"a": "SOME_KEY"}))


@pytest.mark.parametrize(
    "headers", [{"a b": "x"}, {"": "x"}, {"a\n": "x"}, {"a": "x\ny"}, {"a": "é"}, {"a": 5}, "x"]
)
def test_a_malformed_header_is_refused(headers):
    with pytest.raises(PoolError, match="header"):
        Endpoint("http://x", headers=headers)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_file_of_a_windows_editor_is_read(tmp_path: Path, encoding: str) -> None:
    text = (
        'schema_version = 1\r\n\r\n[[model]]\r\nname = "näme"\r\ninput_price = 1.0\r\noutput_price = 2.0\r\n'
    )
    (tmp_path / "pool.toml").write_bytes(text.encode(encoding))
    assert Pool.load(tmp_path / "pool.toml").names == ("näme",)
    assert Pool.from_toml(text.encode(encoding).decode()).names == ("näme",)
