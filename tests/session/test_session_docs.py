"""The examples in docs/sessions.md and docs/aios.md run as they stand."""

from __future__ import annotations

import re

import pytest

from tests.helpers.paths import ROOT


def blocks(name):
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / name).read_text(encoding="utf-8"), flags=re.S)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_examples_of_sessions(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks("sessions.md"):
        exec(compile(block, "docs/sessions.md", "exec"), names)
    said = capsys.readouterr().out
    assert "expected success" in said or "predicted success" in said
    assert (tmp_path / "sessions.sqlite").is_file()
    assert names["policy"].per == "day"


def test_the_example_of_aios():
    names = {}
    example, strategy, branch = blocks("aios.md")
    exec(compile(example, "docs/aios.md", "exec"), names)
    assert names["routing"].available_models == ["gpt-4o", "llama-3.1-8b"]
    exec(compile(strategy, "docs/aios.md", "exec"), names)
    assert names["RouterStrategy"].Eccos == "eccos"
    # The branch of AIOS's adapter, in the place where it stands there.
    head = "def choose(self, routing_strategy, config, RouterStrategy):\n    if False:\n        pass\n"
    body = "\n".join(line[4:] if line.strip() else line for line in branch.splitlines())
    exec(compile(head + body, "docs/aios.md", "exec"), names)

    class Config:
        config = {"llms": {"router": {"max_concurrency": 3}}}  # noqa: RUF012 - as AIOS has it

        @staticmethod
        def get_router_config():
            return {"strategy": "eccos", "performance_requirement": 0.6}

    parts = {
        "llm_configs": [{"name": "gpt-4o"}, {"name": "llama-3.1-8b"}],
        "_process_batch_for_model": lambda self, index, tasks: None,
    }
    adapter = type("Adapter", (), parts)()
    names["choose"](adapter, "eccos", Config, names["RouterStrategy"])
    assert [llm.slots for llm in adapter.router.router.pool] == [3, 3]
    assert adapter.router.get_model_idxs([None], ["What is 2 + 2?"])[0] in (0, 1)
