"""The LiteLLM proxy itself, started with a config.yaml that turns routing on, and nothing else."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from contextlib import contextmanager
from importlib.util import find_spec

import httpx
import openai
import pytest

from eccos_rs.errors import BundleError, PolicyError, PoolError
from eccos_rs.integrations.litellm_proxy import plugin_of_config
from tests.helpers.commands import free_port
from tests.helpers.litellm import Endpoint, endpoint  # noqa: F401 - a fixture

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecationWarning"),
    pytest.mark.timeout(240),
]

KEY = f"sk-{secrets.token_hex(24)}"

CONFIG = """
model_list:
  - model_name: auto
    litellm_params: {{model: openai/gpt-4o, api_base: "{base}", api_key: none}}
  - model_name: auto
    litellm_params: {{model: openai/gpt-4o-mini, api_base: "{base}", api_key: none, max_parallel_requests: 7}}
  - model_name: embed
    litellm_params: {{model: openai/text-embedding-3-small, api_base: "{base}", api_key: none}}
  - model_name: own
    litellm_params: {{model: openai/of-our-own, api_base: "{base}", api_key: none}}
router_settings:
  plugins: ["eccos_rs.integrations.litellm_proxy.plugin"]
{section}
"""

START = """
import os, sys
os.environ["CONFIG_FILE_PATH"] = sys.argv[1]
import uvicorn
from litellm.proxy.proxy_server import app
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error")
"""


def config_of(folder, base="http://127.0.0.1:1/v1", section="eccos: {min_quality: 0.2}"):
    path = folder / "config.yaml"
    path.write_text(CONFIG.format(base=base, section=section), encoding="utf-8")
    return path


@contextmanager
def proxy(path):
    """Start the proxy on a configuration; yields its address and the process."""
    port = free_port()
    environment = {
        **os.environ,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "NO_PROXY": "*",
        "LITELLM_MASTER_KEY": KEY,
    }
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", START, str(path), str(port)],
        env=environment, cwd=path.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.kill()
        process.communicate()


def wait_for(address, process):
    end = time.monotonic() + 200
    while time.monotonic() < end:
        assert process.poll() is None, process.stdout.read()
        try:
            if httpx.get(f"{address}/health/liveliness", timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.3)
    raise AssertionError("the proxy did not start")


NEEDED = ("litellm", "apscheduler", "fastapi_sso", "mcp", "websockets")
needs_proxy = pytest.mark.skipif(
    any(find_spec(name) is None for name in NEEDED), reason="what the LiteLLM proxy imports is not installed"
)


@needs_proxy
def test_a_config_alone_turns_routing_on(tmp_path, endpoint):  # noqa: F811
    path = config_of(tmp_path, endpoint)
    with proxy(path) as (address, process):
        wait_for(address, process)
        client = openai.OpenAI(base_url=f"{address}/v1", api_key=KEY, max_retries=0)
        for number in range(6):
            answer = client.chat.completions.create(
                model="auto", messages=[{"role": "user", "content": f"What is {number} + 2?"}]
            )
            assert answer.choices[0].message.content == "hello"
        # By chance alone both would have been asked: 2 in 64 that it was one.
        assert set(Endpoint.asked) == {"gpt-4o-mini"}
        client.chat.completions.create(model="own", messages=[{"role": "user", "content": "x"}])
        assert Endpoint.asked[-1] == "of-our-own"
        client.close()


@needs_proxy
def test_a_fault_in_the_section_stops_the_proxy(tmp_path):
    with proxy(config_of(tmp_path, section="eccos: {min_qualty: 0.2}")) as (_, process):
        said, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "eccos.min_qualty is no setting; did you mean 'min_quality'?" in said


@pytest.mark.parametrize(
    ("section", "error", "said"),
    [
        ("eccos: 5", PoolError, "eccos must be a table, got 5"),
        ("eccos: {min_quality: 2}", PolicyError, "min_quality"),
        ("eccos: {hold: 0}", PoolError, "hold must be a number of seconds above 0, got 0"),
        ("eccos: {names: [a]}", PoolError, "names must map texts to texts"),
        ("eccos: {pool: none.toml}", PoolError, "none.toml"),
        ("eccos: {bundle: nothing-of-this-name}", BundleError, "nothing-of-this-name"),
        ("eccos: {min_quality: os.environ/NOT_SET_ANYWHERE}", PoolError, "NOT_SET_ANYWHERE is not set"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, section, error, said):
    with pytest.raises(error, match=said):
        plugin_of_config(config_of(tmp_path, section=section))


def test_included_files_and_the_environment_are_read(tmp_path, monkeypatch):
    monkeypatch.setenv("QUALITY", "0.4")
    whole = config_of(tmp_path, section="eccos: {min_quality: os.environ/QUALITY}")
    main = tmp_path / "main.yaml"
    main.write_text("include: [config.yaml]\n", encoding="utf-8")
    assert whole.is_file()
    plugin = plugin_of_config(main)
    try:
        pool, policy = plugin.session.session.pool, plugin.session.session.policy
        assert pool.names == ("gpt-4o", "gpt-4o-mini")  # neither the embedder nor what has no price
        assert [model.slots for model in pool] == [None, 7]
        assert policy.min_quality == 0.4
    finally:
        plugin.close()


def test_outside_of_the_proxy_the_plugin_says_so():
    import eccos_rs.integrations.litellm_proxy as module

    with pytest.raises(AttributeError, match="inside the LiteLLM proxy only"):
        _ = module.plugin
