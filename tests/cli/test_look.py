"""What commands print is readable at 80 columns, and has no blanks at the ends of lines when piped."""

from __future__ import annotations

import json
import re

import pytest
from rich.cells import cell_len

from eccos_rs.cli.main import COMMANDS, main
from tests.helpers.paths import SAMPLES


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_a_reason_has_a_line_of_its_own_below_its_query(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("route", str(SAMPLES), "--why") == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [at for at, line in enumerate(lines) if re.match(r" *\d+   \S", line)]
    assert len(rows) == 63
    assert all(lines[at + 1].startswith("      ") for at in rows)
    whole = re.compile(r" {6}\+\d+\.\d points over \S+ for \$\d\.\d+ more")
    assert sum(bool(whole.fullmatch(lines[at + 1])) for at in rows) > 30


def test_the_bundle_and_its_pool_are_shown(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("info") == 0
    shown = capsys.readouterr().out
    assert "prices in US dollars per million tokens" in shown
    assert len(shown.splitlines()) < 65
    assert run("info", "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert {model["name"] for model in content["pool"]} <= set(content["bundle"]["models"])
    assert run("info", "--toml") == 0
    (tmp_path / "pool.toml").write_text(capsys.readouterr().out)
    assert run("info", str(tmp_path / "pool.toml")) == 0
    assert content["pool"][0]["name"] in capsys.readouterr().out


BENCH = ("bench", "--batch", "1,8", "--seconds", "0.01")


@pytest.mark.parametrize(
    "asked",
    [("info",), ("info", "day-one"), ("route", str(SAMPLES)), ("--help",), BENCH, ("info", "--device")],
)
def test_nothing_is_wider_than_80_columns_or_ends_in_blanks(
    asked, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*asked) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if cell_len(line) > 80] == []
    assert [line for line in lines if line != line.rstrip()] == []


COMMAND_HELP = [
    *((name,) for name in COMMANDS),
    *(("pool", name) for name in ("new", "from", "add", "check", "exam")),
]


@pytest.mark.parametrize("command", COMMAND_HELP, ids=" ".join)
def test_help_fits_80_columns(command, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*command, "--help") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if cell_len(line) > 80 or line != line.rstrip()] == []


def test_commands_are_listed_in_the_order_of_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    shown = capsys.readouterr().out.partition("Commands:")[2]
    listed = re.findall(r"^  ([a-z]+)  +\S", shown, re.MULTILINE)
    assert tuple(listed) == COMMANDS
    assert "..." not in shown


def test_no_figure_of_the_bench_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*BENCH) == 0
    shown = capsys.readouterr().out
    assert "…" not in shown
    stages = ("tokenize", "encode", "retrieve", "predict", "assign", "other", "all")
    figures = [re.search(rf"^ {stage} +\d+\.\d{{3}} +\d+\.\d{{3}}$", shown, re.MULTILINE) for stage in stages]
    assert all(figures), shown
