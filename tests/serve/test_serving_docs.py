"""What docs/litellm.md and docs/gateway.md show runs as it stands, against servers of this machine."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import os
import re
import shlex
import tomllib

import httpx
import pytest

from eccos_rs.pools.pool import Pool
from eccos_rs.records.record import Output, Record
from eccos_rs.records.table import RecordTable
from eccos_rs.serve.replay import ReplaySettings, build_replay_app
from tests.helpers.commands import free_port, serving
from tests.helpers.paths import ROOT
from tests.helpers.serving import running

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # its map is fetched from the network otherwise

QUESTION = "What is 2 + 2?"


def blocks(name, language):
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def recorded(*models):
    outputs = tuple(Output(model, 1.0, 12, 1e-5) for model in models)
    return [Record(QUESTION, "sums", 8, outputs, "1")]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_python_of_litellm(monkeypatch):
    pytest.importorskip("litellm", reason="pip install 'eccos-rs[litellm]'")
    app = build_replay_app(
        RecordTable.from_records(recorded("gpt-4o", "llama-3.1-8b")), ReplaySettings(float("inf"), 0.0)
    )
    code = blocks("litellm.md", "python")
    assert len(code) == 2
    with running(app) as url:
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        monkeypatch.setenv("OPENAI_BASE_URL", f"{url}/v1")
        names = {}

        async def page():
            for number, block in enumerate(code, 1):
                names.pop("answer", None)
                text = block.replace("http://localhost:8000", url)
                made = compile(
                    text, f"docs/litellm.md, block {number}", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
                )
                await eval(made, names)
                assert names["answer"].choices[0].message.content.startswith("right")

        asyncio.run(page())
        assert app.state.replay.served == 2
    assert names["strategy"].session.session.closed
    assert names["plugin"].session.session.closed


def test_the_page_of_litellm_names_the_least_and_the_tested_one():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    least = re.fullmatch(r"litellm>=([\d.]+)", extras["litellm"][0])[1]
    page = (ROOT / "docs" / "litellm.md").read_text(encoding="utf-8")
    pinned = re.search(r"^litellm==([\d.]+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]
    assert f"LiteLLM {least} or later; tested with {pinned}" in page


def test_every_setting_of_the_gateway_that_is_named_is_there():
    from eccos_rs.serve.app import GatewaySettings

    page = (ROOT / "docs" / "gateway.md").read_text(encoding="utf-8")
    table = page[page.index("| time-out |") :].split("\n\n")[0]
    defaults = {name: field.default for name, field in inspect.signature(GatewaySettings).parameters.items()}
    assert f"| connect | {defaults['connect_timeout']:g} s |" in table
    assert f"| first byte | {defaults['first_byte_timeout']:g} s," in table


def test_the_commands_of_the_gateway(tmp_path, monkeypatch):
    """`eccos replay` as the page has it, and each `eccos serve` in front of it, asked as its curl asks."""
    pytest.importorskip("pyarrow")
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    shell = "\n".join(blocks("gateway.md", "bash"))
    lines = [line for line in shell.replace("\\\n", " ").splitlines() if line and not line.startswith("pip ")]
    replay = next(line for line in lines if line.startswith("eccos replay"))
    serve = [line for line in lines if line.startswith("eccos serve")]
    asked = shlex.split(next(line for line in lines if line.startswith("curl")))
    assert len(lines) == 4
    assert len(serve) == 2

    toml = blocks("gateway.md", "toml")[0]
    pool = Pool.from_toml(toml)
    assert pool[0].endpoint.api_key_env == "OPENAI_API_KEY"
    assert pool[0].slots == 32
    # The bundle knows this model under another name than the page's snapshot.
    toml = toml.replace("gpt-4o-2024-05-13", "gpt-4o")
    write_parquet(tmp_path / "records.parquet", recorded("gpt-4o"))
    ports = free_port(), free_port()
    toml = toml.replace("https://api.openai.com", f"http://127.0.0.1:{ports[0]}")
    for name in ("pool.toml", "replayed.toml"):
        (tmp_path / name).write_text(toml)
    body = json.loads(asked[asked.index("-d") + 1])
    assert asked[asked.index("-s") + 1] == "localhost:8080/v1/chat/completions"
    replay = replay.replace("--fault-rate 0.02", "--fault-rate 0")  # chance may not fail a test
    with serving(replay, ports[0], tmp_path):
        for line in serve:
            with serving(line, ports[1], tmp_path) as url:
                got = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=30)
                assert got.status_code == 200
                assert got.headers["x-eccos-model"] == "gpt-4o"
                assert got.json()["choices"][0]["message"]["content"].startswith("right")
    assert (tmp_path / "eccos.db").is_file()


def write_parquet(path, records):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {
            "query": record.query, "dataset": record.dataset, "input_tokens": record.input_tokens,
            "outputs": [
                {
                    "model": output.model, "quality": output.quality,
                    "output_tokens": output.output_tokens, "cost_usd": output.cost_usd,
                }
                for output in record.outputs
            ],
        }
        for record in records
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), path)
