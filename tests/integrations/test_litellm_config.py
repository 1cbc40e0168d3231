"""A configuration of the LiteLLM proxy as people write it, as a pool."""

from __future__ import annotations

import pytest

from eccos_rs.errors import PoolError

pytest.importorskip("yaml")


@pytest.fixture
def read(tmp_path):
    from eccos_rs.integrations.litellm_config import pool_of_config

    def read(text):
        path = tmp_path / "config.yaml"
        path.write_text("model_list:\n" + text, encoding="utf-8")
        return pool_of_config(path)

    return read


def test_numbers_may_be_texts_and_come_from_the_environment(read, monkeypatch):
    monkeypatch.setenv("MY_TPM", "200000")
    pool, _ = read(
        """
  - model_name: fast
    litellm_params: {model: openai/gpt-5-mini, rpm: "600", tpm: os.environ/MY_TPM, max_parallel_requests: "8"}
  - model_name: own
    litellm_params: {model: hosted_vllm/meta-llama/Llama-3.3-70B-Instruct, api_base: "http://gpu:8000/v1",
                     input_cost_per_token: "1e-7", output_cost_per_token: 2.0e-7}
    model_info: {max_input_tokens: "32000"}
"""
    )
    fast, own = pool
    assert (fast.requests_per_minute, fast.tokens_per_minute, fast.slots) == (600, 200_000, 8)
    assert (own.input_price, own.output_price, own.context_window) == (0.1, 0.2, 32_000)
    assert own.endpoint.model == "meta-llama/Llama-3.3-70B-Instruct"
    assert own.price_source == "stated"


@pytest.mark.parametrize("value", ["many", "true", "-1", ".nan", "os.environ/ECCOS_NO_SUCH"])
def test_a_number_that_is_none_is_told(read, value):
    with pytest.raises(PoolError, match="rpm of model 'fast'"):
        read(
            f"  - {{model_name: fast, litellm_params: {{model: openai/gpt-5-mini, rpm: {value}}}}}\n",
        )


def test_a_group_of_different_models_is_a_choice(read):
    pool, said = read(
        """
  - {model_name: smart, litellm_params: {model: anthropic/claude-sonnet-4-5-20250929, rpm: 10}}
  - {model_name: smart, litellm_params: {model: gemini/gemini-2.5-pro, rpm: 20}}
  - {model_name: smart, litellm_params: {model: gemini/gemini-2.5-pro, rpm: 30}}
"""
    )
    assert pool.names == ("smart", "smart/gemini-2.5-pro")
    assert [model.requests_per_minute for model in pool] == [10, 50]
    assert pool["smart"].input_price != pool["smart/gemini-2.5-pro"].input_price
    assert any("its deployments differ" in sentence for sentence in said)


def test_two_keys_or_addresses_of_one_model_are_two_columns(read):
    pool, _ = read(
        """
  - {model_name: fast, litellm_params: {model: openai/gpt-5-mini, api_key: os.environ/ONE, rpm: 10}}
  - {model_name: fast, litellm_params: {model: openai/gpt-5-mini, api_key: os.environ/TWO, rpm: 20}}
  - {model_name: fast, litellm_params: {model: openai/gpt-5-mini, api_key: os.environ/TWO, rpm: 5}}
  - model_name: fast
    litellm_params: {model: openai/gpt-5-mini, api_key: os.environ/ONE, reasoning_effort: low}
"""
    )
    assert pool.names == ("fast", "fast/2", "fast@low")
    assert [model.requests_per_minute for model in pool] == [10, 25, None]
    assert [model.endpoint.api_key_env for model in pool] == ["ONE", "TWO", "ONE"]


def test_what_answers_no_chats_or_has_no_price_is_left_out_and_said(read):
    pool, said = read(
        """
  - {model_name: fast, litellm_params: {model: openai/gpt-5-mini}}
  - {model_name: embed, litellm_params: {model: openai/text-embedding-3-small}}
  - {model_name: pictures, litellm_params: {model: openai/painter-9}, model_info: {mode: image_generation}}
  - {model_name: "openai/*", litellm_params: {model: "openai/*"}}
  - {model_name: unheard-of, litellm_params: {model: openai/unheard-of-9}}
"""
    )
    assert pool.names == ("fast",)
    for name in ("embed", "pictures", "openai/*", "unheard-of"):
        assert any(sentence.startswith(f"{name}: ") and "left out" in sentence for sentence in said)


def test_nothing_but_embeddings_is_an_error(read):
    with pytest.raises(PoolError, match="no entry of model_list answers chats"):
        read("  - {model_name: embed, litellm_params: {model: openai/text-embedding-3-small}}\n")


def test_azure_keeps_its_deployment_address_and_version(read, monkeypatch):
    monkeypatch.setenv("MY_BASE", "https://x.openai.azure.com")
    pool, said = read(
        """
  - model_name: az
    litellm_params: {model: azure/my-deployment, api_base: os.environ/MY_BASE, api_key: os.environ/MY_KEY,
                     api_version: 2025-04-01-preview}
    model_info: {base_model: azure/gpt-5-mini}
"""
    )
    endpoint = pool["az"].endpoint
    assert endpoint.base_url == "https://x.openai.azure.com?api-version=2025-04-01-preview"
    assert (endpoint.kind, endpoint.model, endpoint.api_key_env) == ("azure", "my-deployment", "MY_KEY")
    assert pool["az"].output_price == 2.0
    assert "az: its address is read from MY_BASE, now https://x.openai.azure.com" in said


def test_a_provider_keeps_its_dialect(read):
    pool, _ = read("  - {model_name: smart, litellm_params: {model: anthropic/claude-sonnet-4-5-20250929}}\n")
    assert pool["smart"].endpoint.kind == "anthropic"
