"""What the README shows runs: its Python, its pool file, its commands, its links; and so do the examples."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys

import pytest

from eccos_rs import Pool, Status
from eccos_rs.cli.main import COMMANDS, main
from tests.helpers.paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
ROUTING = (ROOT / "docs" / "routing.md").read_text(encoding="utf-8")
REPOSITORY = "https://github.com/eccos-rs/eccos-rs/blob/main/"


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("page", "least"), [("README.md", 1), ("docs/routing.md", 3)])
def test_the_python_runs_from_top_to_bottom(page, least, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    space: dict[str, object] = {}
    code = blocks("python", (ROOT / page).read_text(encoding="utf-8"))
    assert len(code) >= least
    for at, block in enumerate(code, 1):
        exec(compile(block, f"{page}, Python block {at}", "exec"), space)
    assert capsys.readouterr().out


def test_every_field_is_explained():
    from dataclasses import fields

    from eccos_rs import LLM, Endpoint, Policy, Query

    page = (ROOT / "docs" / "routing.md").read_text(encoding="utf-8")
    # `per` and `wait` are a session's.
    names = {field.name for kind in (LLM, Endpoint, Policy, Query) for field in fields(kind)} - {
        "per",
        "wait",
    }
    assert sorted(name for name in names if f"`{name}`" not in page and f"`[model.{name}]`" not in page) == []


def test_the_pool_file_is_one():
    (pool,) = [Pool.from_toml(block) for block in blocks("toml", ROUTING) if "schema_version" in block][:1]
    assert pool.names


def test_it_is_short_and_renders_on_an_index():
    """At most 900 words; links that hold anywhere, and no formulas."""
    assert len(README.split()) <= 900
    assert "$$" not in README
    assert re.findall(r"\]\((?!https://)([^)]+)\)", README) == []


def test_the_printed_table_is_the_one_of_the_example(capsys):
    """Its rows and figures, whatever the time it took."""
    (code,), (shown, *_) = blocks("python"), blocks("text")
    exec(compile(code, "README.md", "exec"), {})
    printed = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    for line in shown.splitlines():
        if line.strip():
            assert " ".join(line.split()) in printed


def commands() -> list[str]:
    lines = [line.split("#")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line.startswith("eccos ")]


def test_commands_are_shown():
    assert len(commands()) >= 8


@pytest.mark.parametrize("line", commands())
def test_every_command_and_option_that_is_shown_is_there(line, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    name = line.split()[1]
    assert name in COMMANDS
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for option in re.findall(r"(?<= )--?[a-z][a-z-]*", line):
        assert re.search(rf"(?<![\w-]){option}\b", shown), f"{option} of: {line}"


def test_every_status_is_in_the_table():
    for status in Status:
        assert re.search(rf"^\| `{status}` \|", ROUTING, re.MULTILINE)


def test_every_link_into_the_repository_leads_somewhere():
    links = re.findall(rf"\]\({re.escape(REPOSITORY)}([^)#]+)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize("script", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name)
def test_every_example_runs(script, capsys, monkeypatch):
    if script.name == "gateway_clients.py":
        pytest.skip("runs against the gateway of a tutorial: test_docs.py")
    if script.name == "demo.py":
        done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
        for words in ("all to the strongest", "certified gap", "promised", "to write the answers"):
            assert words in done.stdout
        return
    monkeypatch.setattr(sys, "argv", [str(script)])
    runpy.run_path(str(script), run_name="__main__")
    assert capsys.readouterr().out
